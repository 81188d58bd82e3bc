from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from lakehouse.tables import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables", memory_limit="500MB", threads=2, spill_dir=tmp_path / "spill")


@pytest.fixture
def con(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with lake.connect(()) as session:
        yield session.con
