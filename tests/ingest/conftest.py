"""What ingestion tests share: a lake, contracts written as text, and rows read back."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import DatasetContract, load_dataset
from lakehouse.ingest import IngestReport, ingest
from lakehouse.settings import Settings
from lakehouse.tables import Lake

PEOPLE = """
apiVersion: v3.1.0
kind: DataContract
id: people
name: people
version: 1.0.0
status: active
domain: test
schema:
  - name: people
    physicalType: table
    properties:
      - {name: id, logicalType: string, physicalType: VARCHAR, required: true, unique: true, primaryKey: true, primaryKeyPosition: 1,
         logicalTypeOptions: {pattern: '^P\\d+$'}}
      - {name: age, logicalType: integer, physicalType: INTEGER, logicalTypeOptions: {minimum: 0, maximum: 120}}
      - {name: height, logicalType: number, physicalType: DOUBLE}
      - {name: born, logicalType: date, physicalType: DATE}
      - {name: sex, logicalType: string, physicalType: VARCHAR, enum: [{value: f}, {value: m}]}
      - {name: children, logicalType: integer, physicalType: INTEGER}
    quality:
      - {name: children_need_age, type: sql, severity: error, mustBe: 0,
         query: "SELECT count(*) FROM people WHERE children > 0 AND age < 12",
         customProperties: [{property: lakehouse.row, value: "NOT (children > 0 AND age < 12)"}]}
"""
HEADER = "id,age,height,born,sex,children\n"


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake.from_settings(settings)


@pytest.fixture
def write_contract(tmp_path: Path) -> Callable[..., DatasetContract]:
    """Loads a contract from its text, with parts replaced."""

    def write(text: str = PEOPLE, **changes: str) -> DatasetContract:
        for old, new in changes.items():
            text = text.replace(old, new)
        path = tmp_path / "contract.odcs.yaml"
        path.write_text(text, encoding="utf-8")
        return load_dataset(path)

    return write


@pytest.fixture
def people(write_contract: Callable[..., DatasetContract]) -> DatasetContract:
    return write_contract()


@pytest.fixture
def load(lake: Lake, settings: Settings, now: datetime) -> Callable[..., IngestReport]:
    """Ingests files into the test's lake."""

    def run(contract: DatasetContract, *paths: Path, at: datetime | None = None) -> IngestReport:
        return ingest(lake, contract, paths, settings=settings, run="test", now=at or now)

    return run


def rows_of(lake: Lake, table: str, columns: str = "*", order: str = "ALL") -> list[tuple[Any, ...]]:
    """The rows of a table's newest version, in a fixed order."""
    if not lake.exists(table):
        return []
    layer, name = table.split(".")
    with lake.connect([table]) as session:
        return session.con.execute(f"SELECT {columns} FROM {layer}.{name} ORDER BY {order}").fetchall()
