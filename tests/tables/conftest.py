from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from lakehouse.tables import Lake, Stamp


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables", memory_limit="500MB", threads=2, spill_dir=tmp_path / "spill")


@pytest.fixture
def con(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with lake.connect(()) as session:
        yield session.con


@pytest.fixture
def stamp() -> Stamp:
    return Stamp(asset="test", run="run-1", inputs={"raw.source": 4}, code="abc", source={"files": [{"path": "ä.csv", "rows": 3}]})
