"""What compaction and clustering buy a query that filters, and what they cost beside delta-rs's own: limits 0.5 x and 2 x (its files are snappy, ours zstd).

2 million rows in 100 small files. The query reads the rows of one customer in a hundred; it is timed in a fresh session each time, on
the table as it was written, compacted, and clustered. Then both engines compact copies of the same table in turn.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figures import Figure, figure, tell

ROWS = 2_000_000
FILES = 100
PAIRS = 3
LIMIT_SCAN = 0.5
LIMIT_COMPACT = 2.0
TABLE = "raw.events"
QUERY = f"SELECT count(*), sum(amount), max(note) FROM {TABLE} WHERE customer BETWEEN 5000 AND 5099"


def make(root: Path) -> None:
    """The table as a hundred appends leave it."""
    from lakehouse.tables import Lake, Stamp

    lake = Lake(root)
    con = lake.open_connection()
    for number in range(FILES):
        sql = (
            f"SELECT range + {number * ROWS // FILES} AS id, hash(range * 31 + {number}) % 10000 AS customer, "
            f"(hash(range * 7 + {number}) % 100000 / 100)::DOUBLE AS amount, md5(range::VARCHAR) AS note FROM range({ROWS // FILES})"
        )
        lake.append(con, TABLE, sql, stamp=Stamp("benchmark", "benchmark"))
    con.close()


def scan(root: Path) -> float:
    """Seconds of the query, the table's opening left out."""
    from lakehouse.tables import Lake

    with Lake(root).connect([TABLE]) as session:
        began = time.perf_counter()
        session.con.execute(QUERY).fetchall()
        return time.perf_counter() - began


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(home: Path) -> list[Figure]:
    """All figures."""
    from deltalake import DeltaTable

    from lakehouse.tables import Lake, Stamp

    stamp = Stamp("benchmark", "benchmark")
    roots = {name: home / name for name in ("written", "compacted", "clustered")}
    make(roots["written"])
    for name in ("compacted", "clustered"):
        shutil.copytree(roots["written"], roots[name])
    Lake(roots["compacted"]).compact(TABLE, stamp=stamp)
    # Small files on purpose: at the usual size this much would be one file, in which row groups are skipped but no file is.
    Lake(roots["clustered"]).compact(TABLE, stamp=stamp, cluster_by=["customer"], target_bytes=8 * 1024 * 1024)
    seconds = {name: [scan(root) for _ in range(7)] for name, root in roots.items()}
    median = {name: statistics.median(found) for name, found in seconds.items()}
    ours, theirs = [], []
    for number in range(PAIRS):
        mine, foreign = home / f"mine_{number}", home / f"foreign_{number}"
        for copy in (mine, foreign):
            shutil.copytree(roots["written"], copy)
        ours.append(timed(lambda root=mine: Lake(root).compact(TABLE, stamp=stamp)))
        delta = DeltaTable(str(foreign / TABLE.replace(".", "/")))
        theirs.append(timed(lambda table=delta: table.optimize.compact()))
        for copy in (mine, foreign):
            shutil.rmtree(copy)
    cost = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    gain = median["clustered"] / median["written"]
    return [
        figure("Maintenance: filtered scan, clustered over as written", gain, "x", LIMIT_SCAN),
        figure("Maintenance: the same, compacted", median["compacted"] / median["written"], "x"),
        figure("Maintenance: compaction over delta-rs's", cost, "x", LIMIT_COMPACT),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakehouse-benchmark-") as folder:
        measurements = measure(Path(folder))
    tell(measurements, as_json=options.json)


if __name__ == "__main__":
    main()
