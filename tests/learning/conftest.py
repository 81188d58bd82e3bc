"""A home that a whole module shares: making MLflow's database takes seconds."""

from pathlib import Path

import pytest

from lakehouse.contracts import Comparison, ModelContract
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a fresh home."""
    return Settings(project=PROJECT, home=tmp_path_factory.mktemp("home"), threads=2)


@pytest.fixture(scope="module")
def lake(shared: Settings) -> Lake:
    """Its tables."""
    return Lake.from_settings(shared)


def write(lake: Lake, table: str, sql: str) -> None:
    """Make a table as dbt would have."""
    con = lake.open_connection()
    try:
        lake.overwrite(con, table, sql, stamp=Stamp(asset=table, run="test"))
    finally:
        con.close()


def model(name: str, **changes: object) -> ModelContract:
    """A contract over staging.<name>."""
    given: dict[str, object] = {
        "name": name,
        "version": "1.0.0",
        "problem": "classification",
        "dataset": name,
        "label_table": f"staging.{name}",
        "target_column": "label",
        "entity": ("id",),
        # What has to be better to take over is the subject of test_challenge.py.
        "comparison": Comparison(required=False),
        "digest": repr(sorted((key, repr(value)) for key, value in changes.items())),
    }
    return ModelContract(**(given | changes))  # pyright: ignore[reportArgumentType]
