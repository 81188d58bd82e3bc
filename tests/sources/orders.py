"""A table of orders in PostgreSQL, the contract that names it, and what a look at it brought."""

from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from lakehouse.errors import SourceError
from lakehouse.ingest.sources import TableReport

CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: orders
name: orders
version: 1.0.0
status: active
domain: test
servers:
  - {{server: shop, type: postgres, host: {host}, port: {port}, database: {database}, schema: public,
     customProperties: [{properties}]}}
schema:
  - name: orders
    physicalType: table
    properties:
{columns}
"""
COLUMNS = (
    "{name: id, logicalType: integer, physicalType: BIGINT, required: true, primaryKey: true, primaryKeyPosition: 1}",
    '{name: amount, logicalType: number, physicalType: "DECIMAL(12,2)"}',
    "{name: note, logicalType: string, physicalType: VARCHAR}",
    "{name: updated_at, logicalType: timestamp, physicalType: TIMESTAMPTZ}",
)
TABLE = "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(12,2), note text, updated_at timestamptz, secret text)"
BY_TIME = "{property: lakehouse.watermark, value: updated_at}, {property: lakehouse.overlap, value: 3600}"
GONE = "{property: lakehouse.deletedAs, value: is_gone}"
GONE_COLUMN = "{name: is_gone, logicalType: boolean, physicalType: BOOLEAN}"


# By PostgreSQL's type: a value, the type that a page has of it, and the value there.
TYPES = {
    "smallint": ("-32768", "SMALLINT", "-32768"),
    "integer": ("2147483647", "INTEGER", "2147483647"),
    "bigint": ("9223372036854775807", "BIGINT", "9223372036854775807"),
    "numeric(38,10)": ("1234567890123456789012345678.0123456789", "DECIMAL(38,10)", "1234567890123456789012345678.0123456789"),
    "numeric": ("1e50", "VARCHAR", "1" + "0" * 50),
    "numeric(5,2)": ("'NaN'", "VARCHAR", "NaN"),
    "real": ("0.1", "FLOAT", "0.1"),
    "double precision": ("0.30000000000000004", "DOUBLE", "0.30000000000000004"),
    "boolean": ("true", "BOOLEAN", "true"),
    "char(5)": ("'ab'", "VARCHAR", "ab   "),
    "uuid": ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "VARCHAR", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "date": ("'2024-02-29'", "DATE", "2024-02-29"),
    "timestamp": ("'2024-02-29 12:34:56.123456'", "TIMESTAMP", "2024-02-29 12:34:56.123456"),
    "timestamptz": ("'2024-02-29 12:34:56+05:30'", "TIMESTAMP WITH TIME ZONE", "2024-02-29 07:04:56+00"),
    "time": ("'23:59:59.5'", "VARCHAR", "23:59:59.5"),
    "interval": ("'1 year 2 days 03:04:05'", "VARCHAR", "P1Y2DT3H4M5S"),
    "bytea": (r"'\xdead00'", "VARCHAR", r"\xdead00"),
    "jsonb": ("""'{"a": [1, null]}'""", "VARCHAR", '{"a": [1, null]}'),
    "integer[]": ("ARRAY[1, NULL, 3]", "VARCHAR", "[1,null,3]"),
    "text[]": ("""ARRAY['a,b', '"']""", "VARCHAR", '["a,b","\\""]'),
    "inet": ("'10.0.0.1/8'", "VARCHAR", "10.0.0.1/8"),
    "mood": ("'fine'", "VARCHAR", "fine"),
    "positive": ("7", "INTEGER", "7"),
    "date ": ("'infinity'", "VARCHAR", "infinity"),
    "timestamp ": ("'0044-03-15 BC'", "VARCHAR", "0044-03-15 00:00:00 BC"),
}


def rows(report: TableReport, columns: str = "id, note") -> list[tuple[Any, ...]]:
    assert report.page is not None
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        return con.execute(f"SELECT {columns} FROM read_parquet('{report.page}')").fetchall()


def insert(*ids: int, at: str = "now()", note: str = "n") -> str:
    return f"INSERT INTO orders SELECT i, 1.5, '{note}', {at} FROM unnest(ARRAY[{', '.join(map(str, ids))}]) i"


def told(run: Callable[[], object]) -> str:
    with pytest.raises(SourceError) as caught:
        run()
    return str(caught.value)
