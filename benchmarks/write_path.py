"""The write path against DuckDB's own COPY to Parquet, same query, same compression: limit 1.15 x, and 1.5 GB at the peak.

10 million rows of 10 columns, read from a Delta table. Pairs of fresh processes, run in turn; what is timed is the write
alone. The peak is that of the whole process.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figures import Figure, figure, tell

ROWS = 10_000_000
LIMIT_RATIO = 1.15
LIMIT_GB = 1.5
SOURCE = f"""
    SELECT
        range AS event_id,
        hash(range) % 1000000 AS customer_id,
        'C' || lpad((hash(range * 3) % 5000)::VARCHAR, 5, '0') AS product,
        (hash(range * 7) % 100000 / 100)::DECIMAL(12, 2) AS amount,
        (hash(range * 11) % 20)::INTEGER AS quantity,
        DATE '2026-01-01' + (range // 30000)::INTEGER AS event_date,
        TIMESTAMP '2026-01-01' + INTERVAL (range // 2) SECOND AS event_time,
        random() AS score,
        hash(range * 13) % 10 = 0 AS returned,
        CASE WHEN hash(range * 17) % 5 = 0 THEN NULL ELSE ['north', 'south', 'east', 'west'][(hash(range) % 4 + 1)::INTEGER] END AS region
    FROM range({ROWS})
"""
SELECT = """
    SELECT
        event_id, customer_id, upper(product) AS product, (amount * quantity)::DECIMAL(14, 2) AS total, quantity, event_date, event_time,
        score, returned, coalesce(region, 'unknown') AS region
    FROM raw.events
"""


def child(way: str, home: Path) -> dict[str, float]:
    """Write once in this process, the given way."""
    from lakehouse.tables import Lake, Stamp

    lake = Lake(home / "tables", memory_limit="1GB", spill_dir=home / "spill")
    stamp = Stamp(asset="benchmark", run="benchmark")
    with lake.connect(() if way == "source" else ["raw.events"]) as session:
        began = time.perf_counter()
        if way == "source":
            lake.overwrite(session.con, "raw.events", SOURCE, stamp=stamp)
        elif way == "copy":
            target = str(home / "copy.parquet").replace("'", "''")
            session.con.execute(f"COPY ({SELECT}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        elif way == "dbt":
            return dbt_child(home)
        else:
            lake.overwrite(session.con, "analytics.events", SELECT, stamp=stamp)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2}


def dbt_child(home: Path) -> dict[str, float]:
    """The same select as a dbt model: what is timed is the materialization, as dbt reports it; the peak has dbt in it."""
    from lakehouse.settings import Settings
    from lakehouse.transform import build

    root, project = Path(__file__).resolve().parents[1], home / "project"
    shutil.rmtree(project, ignore_errors=True)
    (project / "contracts").mkdir(parents=True)
    shutil.copy(root / "workspace.yaml", project)
    shutil.copytree(root / "dbt" / "macros", project / "dbt" / "macros")
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(root / "dbt" / name, project / "dbt" / name)
    models = project / "dbt" / "models" / "analytics"
    models.mkdir(parents=True)
    (models / "sources.yml").write_text("version: 2\nsources: [{name: raw, schema: raw, tables: [{name: events}]}]\n", "utf-8")
    (models / "events.sql").write_text(SELECT.replace("raw.events", "{{ source('raw', 'events') }}"), "utf-8")
    # dbt's plugin reads its limits where every process does: from the environment.
    os.environ["LAKEHOUSE_MEMORY_LIMIT"] = "1GB"
    report = build(Settings(project=project, home=home, memory_limit="1GB"), run="benchmark")
    return {"seconds": report.nodes[0].seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2}


def run_child(way: str, home: Path) -> dict[str, float]:
    """The measurement of a fresh process; what it wrote is removed."""
    done = subprocess.run([sys.executable, __file__, "--child", way, "--home", str(home)], stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(home / "tables" / "analytics", ignore_errors=True)
    (home / "copy.parquet").unlink(missing_ok=True)
    return json.loads(done.stdout)


def figures_of(name: str, pairs: list[tuple[dict[str, float], dict[str, float]]]) -> list[Figure]:
    """Ratio of the medians and the highest peak of pairs (COPY, ours)."""
    ratio = statistics.median(ours["seconds"] for _, ours in pairs) / statistics.median(copy["seconds"] for copy, _ in pairs)
    peak = max(ours["peak_gb"] for _, ours in pairs)
    return [
        figure(f"{name}: time relative to COPY", ratio, "x", LIMIT_RATIO),
        figure(f"{name}: peak memory", peak, "GB", LIMIT_GB),
    ]


def compare(name: str, home: Path, pairs: int, ours: Callable[[], dict[str, float]]) -> list[Figure]:
    """COPY and another way to write the same rows, in turn; the order changes from pair to pair."""
    measured: list[tuple[dict[str, float], dict[str, float]]] = []
    for i in range(pairs):
        if i % 2:
            second = ours()
            measured.append((run_child("copy", home), second))
        else:
            measured.append((run_child("copy", home), ours()))
        copy, other = measured[-1]
        print(f"  pair {i + 1}: COPY {copy['seconds']:.2f} s, {name} {other['seconds']:.2f} s", file=sys.stderr, flush=True)
    return figures_of(name, measured)


def measure(pairs: int) -> list[Figure]:
    """Every way to write, against COPY."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        home = Path(folder)
        run_child("source", home)
        run_child("copy", home)  # Warms the file cache, for both sides alike.
        return [
            *compare("Write path (library)", home, pairs, lambda: run_child("delta", home)),
            *compare("Write path (dbt model)", home, pairs, lambda: run_child("dbt", home)),
        ]


def main() -> None:
    """Print the figures beside their limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--child", choices=["source", "copy", "delta", "dbt"], help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.home)))
        return
    figures = measure(options.pairs)
    tell(figures, as_json=options.json)


if __name__ == "__main__":
    main()
