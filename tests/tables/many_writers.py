"""A process that writes to a table that others write to as well: `python many_writers.py ROLE NUMBER COUNT`, the root in the environment.

It says `ready`, waits for a line, and at its end says how often it tried.
"""

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lakehouse.tables import Lake, Stamp, Transaction

TABLE = "raw.shared"
# Longer than a compaction takes to read its files, shorter than all of this takes.
RETENTION = timedelta(seconds=20)


def append(lake: Lake, number: int, count: int) -> int:
    """Rows of its own."""
    con, attempts = lake.open_connection(), 0
    for turn in range(count):
        sql = f"SELECT {number} AS writer, {turn} AS turn, 'appended' AS how"
        attempts += lake.append(
            con, TABLE, sql, stamp=Stamp("writer", str(number)), transaction=Transaction(f"writer.{number}", turn)
        ).attempts
    return attempts


def merge(lake: Lake, number: int, count: int) -> int:
    """Rows of its own, of which the table has other rows in the same files: whoever builds on an old version loses some."""
    con, attempts = lake.open_connection(), 0
    for turn in range(count):
        own = f"SELECT {number} AS writer, {turn} AS turn, 'merged' AS how"
        attempts += lake.merge(con, TABLE, own, key=["writer", "turn"], stamp=Stamp("writer", str(number))).attempts
    return attempts


def until_done(lake: Lake, number: int, done: Path, role: str) -> int:
    """Maintenance for as long as the others write."""
    rounds = 0
    while not done.exists():
        if role == "compact":
            lake.compact(TABLE, stamp=Stamp("compactor", str(number)))
        else:
            lake.vacuum(TABLE, keep=(), retention=RETENTION, now=datetime.now(UTC), stamp=Stamp("vacuum", str(number)), force=True)
        rounds += 1
        time.sleep(0.05)
    return rounds


def main() -> None:
    role, number, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    lake = Lake(os.environ["ROOT"], storage_options=json.loads(os.environ["OPTIONS"]), memory_limit="200MB", threads=1)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    if role in {"compact", "vacuum"}:
        told = until_done(lake, number, Path(os.environ["DONE"]), role)
    else:
        told = (append if role == "append" else merge)(lake, number, count)
    sys.stdout.write(f"{told}\n")


if __name__ == "__main__":
    main()
