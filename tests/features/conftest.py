"""What the tests of the online store share: a lake, a view over a table of its own, and every kind of store."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from lakehouse.features import FeatureView
from lakehouse.features.online import OnlineStore
from lakehouse.features.online.sqlite_store import SqliteStore
from lakehouse.tables import Lake, Stamp

NOW = datetime(2026, 3, 1, tzinfo=UTC)
STAMP = Stamp(asset="test", run="run-1")
TABLE = "features.customers"
VIEW = FeatureView("customers", TABLE, ("id",), "at", "known", ttl_s=30 * 86400.0, online=True, defaults={"plan": "none"})

# Redis joins where tests/servers knows it.
STORES = ["sqlite", pytest.param("redis", marks=pytest.mark.servers)]


def days(number: float) -> datetime:
    return NOW - timedelta(days=number)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables", memory_limit="500MB", threads=1, spill_dir=tmp_path / "spill")


@pytest.fixture
def con(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with lake.connect(()) as session:
        yield session.con


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    """Every store there is: what holds for one holds for all."""
    if request.param == "sqlite":
        made: OnlineStore = SqliteStore(tmp_path / "online" / "features.db")
    else:
        try:
            url = request.getfixturevalue("redis_url")
        except pytest.FixtureLookupError:
            pytest.skip("server redis: tests/servers has none")
        from lakehouse.features.online.redis_store import RedisStore

        made = RedisStore(url, home=str(tmp_path))
    yield made
    for lane in made.lanes():
        made.drop(lane)
    made.close()


def rows_sql(*rows: tuple[int, float, float, float | None, str | None]) -> str:
    """Rows of the table: id, days before now when true and when known, spent, plan."""
    if not rows:
        return f"SELECT * FROM ({rows_sql((0, 0, 0, 0, None))}) WHERE false"
    values = ", ".join(
        f"({number}, TIMESTAMPTZ '{days(at)}', TIMESTAMPTZ '{days(known)}', {'NULL' if spent is None else repr(float(spent))}::DOUBLE,"
        f" {'NULL' if plan is None else repr(plan)}::VARCHAR)"
        for number, at, known, spent, plan in rows
    )
    return f'SELECT id::BIGINT AS id, "at", known, spent, plan FROM (VALUES {values}) AS given(id, "at", known, spent, plan)'
