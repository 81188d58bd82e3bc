"""Fixtures shared by every test: a fresh home, its lake, and real data where it is present."""

import gc
import os
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest

from lakehouse.settings import Settings
from tests.crash.summary import pytest_terminal_summary
from tests.servers.fixtures import (
    kafka_server,
    kafka_topic,
    postgres_database,
    postgres_server,
    redis_server,
    redis_url,
    s3_lake,
    s3_root,
    s3_server,
    s3_settings,
)

__all__ = [
    "kafka_server",
    "kafka_topic",
    "postgres_database",
    "postgres_server",
    "pytest_terminal_summary",
    "redis_server",
    "redis_url",
    "s3_lake",
    "s3_root",
    "s3_server",
    "s3_settings",
]

# The machine may be busy: a law is about values, not about how long they took; and the same examples for everybody.
hypothesis.settings.register_profile("lakehouse", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("lakehouse")


def pytest_collection_finish() -> None:
    """Libraries and collected tests stay to the end: to look through them for garbage again and again is a seventh of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LAKEHOUSE_HOME that this process and its children use."""
    folder = tmp_path / "home"
    for name in [name for name in os.environ if name.startswith(("LAKEHOUSE_", "DAGSTER_HOME"))]:
        if name != "LAKEHOUSE_TEST_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(folder))
    monkeypatch.setenv("LAKEHOUSE_PROJECT", str(PROJECT))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "dagster"))
    return folder


@pytest.fixture
def settings(home: Path) -> Settings:
    """The settings of the fresh home."""
    return Settings.load()


@pytest.fixture
def now() -> datetime:
    """A fixed instant, for whatever takes the time as an argument."""
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("LAKEHOUSE_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data is absent: {folder} (set LAKEHOUSE_TEST_DATA)")
    return folder
