"""Drift of 1 million rows x 20 columns against a stored reference, beside Evidently's PSI of the same rows (limits 1/20 of its time, 1/4 of its memory).

Both in fresh processes on the same rows. Timed is what answers "has it drifted?": ours reads the stored profile and the table's rows, and gives
PSI, KS, chi-square and Jensen-Shannon; Evidently has both frames in memory already, and gives PSI alone. Then both on Evidently's own bins: the
same PSI to 1e-9.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Figure, figure, tell

if TYPE_CHECKING:
    from lakehouse.monitoring.drift.storing import ReferenceKey

ROWS = 1_000_000
LIMIT_TIME = 1 / 20
LIMIT_MEMORY = 1 / 4
LIMIT_DIFFERENCE = 1e-9
NUMBERS, TEXTS = 16, 4
REFERENCE, CURRENT = "analytics.reference", "analytics.current"


def source(seed: float, *, shift: float) -> str:
    """Half of the numbers even, half triangular, a twentieth of the columns shifted; texts of a dozen values."""
    numbers = [
        f"{'random()' if place % 2 else '(random() + random()) / 2'} * {place + 1} + {shift if place == 0 else 0} AS n{place}"
        for place in range(NUMBERS)
    ]
    texts = [f"'c' || floor(random() * {12 + place})::INTEGER AS s{place}" for place in range(TEXTS)]
    return f"SELECT {', '.join([*numbers, *texts])} FROM range({ROWS})"


def make(home: Path) -> dict[str, object]:
    """The rows as tables and as files, and the stored reference."""
    from lakehouse.learning.schema import FeatureSchema
    from lakehouse.monitoring.drift import profile_reference
    from lakehouse.monitoring.drift.storing import StoredReference, keep_reference
    from lakehouse.tables import Lake, Stamp

    lake = Lake(home / "tables", spill_dir=home / "spill")
    for table, seed, shift in ((REFERENCE, 0.1, 0.0), (CURRENT, 0.2, 0.2)):
        with lake.connect(()) as session:
            session.con.execute(f"SELECT setseed({seed})")
            lake.overwrite(session.con, table, source(seed, shift=shift), stamp=Stamp(asset="benchmark", run="benchmark"))
        with lake.connect([table]) as session:
            session.con.execute(f"COPY {table} TO '{home / table}.parquet' (FORMAT parquet)")
            if table == REFERENCE:
                profile = profile_reference(session.con, table, FeatureSchema.of(lake.schema(table)))
                keep_reference(lake, _key(), StoredReference(profile, None, {}), run="benchmark", now=datetime.now(UTC))
    return {}


def _key() -> "ReferenceKey":
    from lakehouse.monitoring.drift.storing import ReferenceKey

    return ReferenceKey("models.benchmark", "1", "features", "")


def ours(home: Path) -> dict[str, object]:
    """Compare the table with the stored reference."""
    import scipy.special  # noqa: F401 - the peer has its libraries as well before it begins.

    from lakehouse.learning.schema import FeatureSchema
    from lakehouse.monitoring.drift import DriftLimits, measure_drift
    from lakehouse.monitoring.drift.storing import stored_reference
    from lakehouse.tables import Lake

    lake = Lake(home / "tables", spill_dir=home / "spill")
    began = time.perf_counter()
    stored = stored_reference(lake, _key())
    with lake.connect([CURRENT]) as session:
        report = measure_drift(session.con, CURRENT, FeatureSchema.of(lake.schema(CURRENT)), stored.reference, DriftLimits())
    return {"seconds": time.perf_counter() - began, "verdict": str(report.verdict), "columns": len(report.columns)}


def evidently(home: Path) -> dict[str, object]:
    """Evidently's drift preset with PSI."""
    import warnings

    warnings.filterwarnings("ignore")
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    reference, current = (pd.read_parquet(home / f"{table}.parquet") for table in (REFERENCE, CURRENT))
    began = time.perf_counter()
    snapshot = Report([DataDriftPreset(method="psi")]).run(current, reference)
    found = {one["config"]["column"]: one["value"] for one in snapshot.dict()["metrics"] if "column" in one.get("config", {})}
    return {"seconds": time.perf_counter() - began, "psi": {column: float(value) for column, value in found.items()}}


def equal_bins(home: Path) -> dict[str, object]:
    """Our PSI over the bins that Evidently makes: of numbers Sturges' over both sides, of texts one per value."""
    import duckdb
    import numpy as np

    from lakehouse.monitoring.drift.bins import Bins, count
    from lakehouse.monitoring.drift.statistics import psi

    with duckdb.connect() as con:
        files = {table: f"read_parquet('{home / table}.parquet')" for table in (REFERENCE, CURRENT)}
        bins: list[Bins] = []
        for place in range(NUMBERS):
            both = " UNION ALL ".join(f"SELECT n{place} AS value FROM {file}" for file in files.values())
            edges = np.histogram_bin_edges(con.execute(both).fetchnumpy()["value"], bins="sturges")[1:-1]
            bins.append(Bins(f"n{place}", "number", tuple(map(float, edges)), tuple(range(len(edges)))))
        for place in range(TEXTS):
            values = con.execute(f"SELECT DISTINCT s{place} FROM {files[REFERENCE]} ORDER BY 1").fetchall()
            bins.append(Bins(f"s{place}", "text", values=tuple(row[0] for row in values)))
        before, now = (count(con, file, bins) for file in files.values())
        # Evidently counts neither what is missing nor other values, of which there are none.
        return {"psi": {one.column: psi(then[:-1], found[:-1]) for one, then, found in zip(bins, before, now, strict=True)}}


WAYS = {"make": make, "ours": ours, "evidently": evidently, "equal_bins": equal_bins}


def run_child(way: str, home: Path) -> dict[str, object]:
    """The measurement of a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--child", way, "--home", str(home)], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if "seconds" in found:
        print(f"  {way}: {found['seconds']:.2f} s, {found['peak_gb']:.2f} GB", file=sys.stderr, flush=True)
    return found


def measure(pairs: int) -> list[Figure]:
    """Ours beside Evidently."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        home = Path(folder)
        run_child("make", home)
        run_child("ours", home)  # Warms the file cache, for both sides alike.
        turns = [(run_child("ours", home), run_child("evidently", home)) for _ in range(pairs)]
        same = run_child("equal_bins", home)["psi"]
    theirs = turns[0][1]["psi"]
    if set(theirs) != set(same):
        raise SystemExit(f"Evidently compared {sorted(theirs)}, we {sorted(same)}")
    difference = max(abs(same[column] - theirs[column]) for column in same)
    time_ratio = statistics.median(one["seconds"] / other["seconds"] for one, other in turns)
    memory_ratio = statistics.median(one["peak_gb"] / other["peak_gb"] for one, other in turns)
    seconds = statistics.median(one["seconds"] for one, _ in turns)
    return [
        figure("Drift of 1 million x 20 against a stored reference", seconds, "s"),
        figure("Drift: time relative to Evidently's PSI", time_ratio, "x", LIMIT_TIME),
        figure("Drift: peak memory relative to Evidently's", memory_ratio, "x", LIMIT_MEMORY),
        figure("Drift: largest difference of PSI from Evidently's on its bins", difference, "", LIMIT_DIFFERENCE),
    ]


def main() -> None:
    """Print the figures beside their limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--child", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        found = WAYS[options.child](options.home)
        print(json.dumps({**found, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2}))
        return
    tell(measure(options.pairs), as_json=options.json)


if __name__ == "__main__":
    main()
