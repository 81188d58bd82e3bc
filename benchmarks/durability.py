"""What it costs that a commit survives a power cut: the same appends with and without waiting for the disk. Limit 3 x for one row, 1.15 x for many.

One process, the two ways in turn, on tables of their own. One row shows what a commit costs on its own: two waits for the disk's
journal. A million rows show what is left of that where there is something to write: the disk works while the rows are being written.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from figures import Figure, figure, tell

LIMIT_ONE = 3.0
LIMIT_MANY = 1.15
ROWS = 1_000_000
MANY = f"""
    SELECT range AS id, hash(range) % 1000000 AS customer, 'P' || lpad((hash(range * 3) % 5000)::VARCHAR, 5, '0') AS product,
        (hash(range * 7) % 100000 / 100)::DECIMAL(12, 2) AS amount, TIMESTAMP '2026-01-01' + INTERVAL (range) SECOND AS at, random() AS score
    FROM range({ROWS})
"""


@contextmanager
def without_waiting() -> Iterator[None]:
    """The write path as it would be if it left everything to the system's cache."""
    from lakehouse.tables import log, writing

    sync_all, flushing = log.sync_all, writing.flushing
    log.sync_all = lambda paths: None  # pyright: ignore[reportPrivateUsage]
    writing.flushing = lambda folder, prefix: nullcontext()  # type: ignore[assignment,return-value]
    try:
        yield
    finally:
        log.sync_all, writing.flushing = sync_all, flushing


def measure(pairs: int) -> list[Figure]:
    """Medians of the pairs."""
    from lakehouse.tables import Lake, Stamp

    taken: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        lake = Lake(Path(folder) / "tables", memory_limit="1GB", spill_dir=Path(folder) / "spill")
        con = lake.open_connection()
        for pair in range(pairs):
            for waits in (True, False) if pair % 2 else (False, True):
                with nullcontext() if waits else without_waiting():
                    for kind, sql, times in (("one", "SELECT 1 AS id", 10), ("many", MANY, 1)):
                        for _ in range(times):
                            began = time.perf_counter()
                            lake.append(
                                con, f"raw.{kind}_{'durable' if waits else 'cached'}", sql, stamp=Stamp(asset="benchmark", run="benchmark")
                            )
                            taken.setdefault((kind, waits), []).append(time.perf_counter() - began)
        con.close()
    figures = []
    for kind, name, limit in (("one", "one row", LIMIT_ONE), ("many", f"{ROWS:,} rows x 6", LIMIT_MANY)):
        with_s, without_s = (statistics.median(taken[kind, waits]) for waits in (True, False))
        ratio = with_s / without_s
        what = f"Durable commit of {name}, over the same without waiting for the disk ({without_s * 1000:.1f} ms)"
        figures.append(figure(what, ratio, "x", limit))
    return figures


def main() -> None:
    """Print the figures beside their limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()
    figures = measure(options.pairs)
    tell(figures, as_json=options.json)


if __name__ == "__main__":
    main()
