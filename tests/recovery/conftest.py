"""A home that costs little: a few tables that were made from each other, originals, a contract, a database, a key."""

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.privacy import key
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def write(lake: Lake, table: str, sql: str, *, inputs: dict[str, int] | None = None, source: dict[str, object] | None = None) -> int:
    """Append rows as some writer would have; gives the version."""
    con = lake.open_connection()
    try:
        return lake.append(con, table, sql, stamp=Stamp(table, "run", inputs or {}, "code", source)).version
    finally:
        con.close()


def original(settings: Settings, content: bytes) -> Path:
    """Put a file among the originals."""
    path = Path(settings.tables_uri) / "files" / "numbers" / "2026-01-31" / f"{hashlib.sha256(content).hexdigest()}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sum_of(lake: Lake, table: str, column: str = "n") -> int:
    """What a table holds, in one number."""
    with lake.connect([table]) as session:
        row = session.con.execute(f"SELECT sum({column})::BIGINT FROM {table}").fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def filled(settings: Settings) -> Settings:
    """A home with three tables, two originals, a contract, a database and a key."""
    lake = Lake.from_settings(settings)
    first = write(lake, "raw.numbers", "SELECT range AS n FROM range(100)")
    write(lake, "staging.numbers", "SELECT range AS n FROM range(50)", inputs={"raw.numbers": first})
    second = write(lake, "raw.numbers", "SELECT range AS n FROM range(100, 200)")
    staged = write(lake, "staging.numbers", "SELECT range AS n FROM range(50, 100)", inputs={"raw.numbers": second})
    write(lake, "analytics.totals", "SELECT 4950 AS n", inputs={"staging.numbers": staged})
    original(settings, b"n\n1\n")
    original(settings, b"n\n2\n")
    contract = settings.home_dir / "contracts" / "datasets" / "numbers.odcs.yaml"
    contract.parent.mkdir(parents=True)
    contract.write_text("name: numbers\n")
    database = settings.dagster_home / "history" / "runs.db"
    database.parent.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as con, con:
        con.execute("PRAGMA journal_mode=WAL")
        con.execute("CREATE TABLE runs (id TEXT)")
        con.execute("INSERT INTO runs VALUES ('one')")
    key(settings)
    return settings


@pytest.fixture
def lake(filled: Settings) -> Lake:
    """Its tables."""
    return Lake.from_settings(filled)


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where backups go."""
    return str(tmp_path / "backups")


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """A minute later each time."""
    ticks = iter(range(1_000_000))
    return lambda: START + timedelta(minutes=next(ticks))
