"""Versions: a diff of 10 million rows against one full scan of them, and the history of 10,000 commits.

The table has 40 data files of 250,000 rows, as batches leave them. 1,000 rows change in one commit: those of one batch (limit: 2 x
the time of one full scan, which reads every column of every row of one version), and, for comparison, as many anywhere in the
table, and the same rows written anew as one table. The log of 10,000 commits is written directly, with a checkpoint every 25.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from figures import Figure, figure, tell

ROWS = 10_000_000
FILES = 40
CHANGED = 1_000
COMMITS = 10_000
LIMIT_SCANS = 2.0
LIMIT_HISTORY_S = 1.0
TABLE = "raw.events"


def make_table(home: Path) -> dict[str, tuple[int, int]]:
    """The table, and for each kind of change the two versions to compare."""
    from benchmarks.write_path import SOURCE
    from lakehouse.tables import Lake, Stamp

    lake = Lake(home / "tables", memory_limit="2GB", spill_dir=home / "spill")
    stamp = Stamp(asset="benchmark", run="benchmark")
    size = ROWS // FILES
    con = lake.open_connection()
    source = SOURCE.replace(f"range({ROWS})", "range({}, {})")
    for number in range(FILES):
        lake.append(con, TABLE, source.format(number * size, (number + 1) * size), stamp=stamp)
    pairs: dict[str, tuple[int, int]] = {}
    for kind, which in (
        ("in one batch", f"event_id % {size // CHANGED} = 7 AND event_id >= {ROWS - size}"),
        ("anywhere", f"event_id % {ROWS // CHANGED} = 7"),
    ):
        before = lake.snapshot(TABLE).version
        with lake.connect([TABLE]) as session:
            sql = f"SELECT * REPLACE (quantity + 1 AS quantity) FROM {TABLE} WHERE {which}"
            pairs[kind] = (before, lake.merge(session.con, TABLE, sql, key=["event_id"], stamp=stamp).version)
    return pairs


def scan_s(home: Path) -> float:
    """One full scan: every column of every row of the newest version."""
    from lakehouse.tables import Lake

    lake = Lake(home / "tables", memory_limit="2GB", spill_dir=home / "spill")
    with lake.connect([TABLE]) as session:
        columns = ", ".join(lake.schema(TABLE))
        began = time.perf_counter()
        session.con.execute(f"SELECT count(*), sum(hash({columns})) FROM {TABLE}").fetchall()
        return time.perf_counter() - began


def diff_s(home: Path, before: int, after: int) -> float:
    """One diff, with its samples."""
    from lakehouse.tables import Lake
    from lakehouse.tables.diff import diff_snapshots

    lake = Lake(home / "tables", memory_limit="2GB", spill_dir=home / "spill")
    began = time.perf_counter()
    con = lake.open_connection()
    old, new = lake.snapshot(TABLE, before), lake.snapshot(TABLE, after)
    found = diff_snapshots(con, old, new, key=["event_id"], changes=lambda: lake.changes(TABLE, before, after))
    seconds = time.perf_counter() - began
    con.close()
    assert (found.added, found.removed, found.changed) == (0, 0, CHANGED), found
    return seconds


def make_log(home: Path) -> None:
    """10,000 commits of one row each, without writing 10,000 data files."""
    from lakehouse.tables import Lake, Stamp

    lake = Lake(home / "tables", spill_dir=home / "spill")
    con = lake.open_connection()
    stamp = Stamp("benchmark", "run", {"raw.source": 1}, "0" * 40, {"batch": 1, "files": [{"file": "a.csv", "sha256": "0" * 64}]})
    lake.append(con, "raw.commits", "SELECT 1 AS n", stamp=stamp)
    lake.append(con, "raw.commits", "SELECT 2 AS n", stamp=stamp)
    folder = home / "tables" / "raw" / "commits" / "_delta_log"
    pattern = (folder / f"{1:020d}.json").read_text()
    made = json.loads(next(line for line in pattern.splitlines() if line.startswith('{"commitInfo"')))["commitInfo"]["timestamp"]
    for version in range(2, COMMITS):
        text = pattern.replace(f'"timestamp":{made}', f'"timestamp":{made + version * 60_000}').replace("part-", f"part-{version}-", 1)
        (folder / f"{version:020d}.json").write_text(text)
        if version % 2_500 == 0:
            lake.snapshot("raw.commits", version).delta.create_checkpoint()


def history_s(home: Path, *arguments: str) -> float:
    """One `lakehouse history` in a fresh process, less the start of Python and of the command line."""
    environment = {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_URI": str(home / "tables"), "PATH": ""}
    command = [sys.executable, "-m", "lakehouse"]

    def run(*what: str) -> float:
        began = time.perf_counter()
        subprocess.run([*command, *what], env=environment, stdout=subprocess.DEVNULL, check=True, cwd=Path(__file__).resolve().parents[1])
        return time.perf_counter() - began

    run("--version")
    return statistics.median(run("history", "raw.commits", *arguments) - run("--version") for _ in range(3))


def library_history_s(home: Path) -> float:
    """Every commit by the library, in a log that this process has not read."""
    from lakehouse.tables import Lake

    lake = Lake(home / "tables")
    began = time.perf_counter()
    found = lake.history("raw.commits")
    seconds = time.perf_counter() - began
    assert len(found) == COMMITS
    assert found[0].timestamp > datetime(2000, 1, 1, tzinfo=UTC)
    return seconds


def median(measure: Callable[[], float], repeats: int) -> float:
    """The median of some measurements."""
    return statistics.median(measure() for _ in range(repeats))


def measure(repeats: int) -> list[Figure]:
    """Every figure."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        home = Path(folder)
        pairs = make_table(home)
        scan = median(lambda: scan_s(home), repeats)
        for kind, (before, after) in pairs.items():
            seconds = median(lambda before=before, after=after: diff_s(home, before, after), repeats)
            print(f"  diff, {CHANGED:,} rows changed {kind}: {seconds:.2f} s; one full scan {scan:.2f} s", file=sys.stderr, flush=True)
            title = f"Diff of 10 million rows, 1,000 changed {kind}: time relative to one full scan"
            figures.append(figure(title, seconds / scan, "x", LIMIT_SCANS))
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        home = Path(folder)
        make_log(home)
        for name, seconds in (
            ("History of 10,000 commits, as the command line opens it", history_s(home)),
            ("History of 10,000 commits, every one of them", median(lambda: library_history_s(home), 3)),
        ):
            figures.append(figure(name, seconds, "s", LIMIT_HISTORY_S))
    return figures


def main() -> None:
    """Print the figures beside their limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    figures = measure(options.repeats)
    tell(figures, as_json=options.json)


if __name__ == "__main__":
    main()
