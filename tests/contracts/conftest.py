"""A small valid contract and a connection that reads text as the pipeline does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

SMALL = """\
apiVersion: v3.1.0
kind: DataContract
id: people
name: People
version: 1.0.0
status: active
domain: tests
schema:
  - name: people
    properties:
      - {name: person_id, logicalType: string, required: true, unique: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: age, logicalType: integer, physicalType: INTEGER, logicalTypeOptions: {minimum: 15, maximum: 110}}
      - {name: sex, logicalType: string, enum: [{value: female}, {value: male}, {value: no}]}
      - name: phone
        logicalType: string
        classification: restricted
        logicalTypeOptions: {pattern: '^[0-9]+$'}
"""


@pytest.fixture
def small() -> str:
    """The text of a small contract."""
    return SMALL


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose sessions run in UTC, as all of the lakehouse's do."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


@pytest.fixture
def stage(con: duckdb.DuckDBPyConnection) -> Callable[[Path], str]:
    """Reads a CSV file as text columns and a row number, and gives the table's name."""

    def staged(path: Path) -> str:
        con.execute(
            "CREATE OR REPLACE TABLE staged AS SELECT *, row_number() OVER () AS _row FROM read_csv(?, all_varchar=true, nullstr='')",
            [str(path)],
        )
        return "staged"

    return staged
