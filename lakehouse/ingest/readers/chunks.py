"""Pieces of a file in DuckDB: what a reader hands over, and how its records are numbered."""

import csv
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import duckdb

from lakehouse.sql import quote_identifier, quote_literal

# What is done with keys of JSON records that nobody asked for: not looked for, named, or read as columns of their own.
Others = Literal["ignore", "name", "read"]
FILE_SHIFT = 40
"""Where several files are read together, a row's number has its file's number above this many bits."""
_numbers = itertools.count(1)


class Select(Protocol):
    """What is done to the records while they are read: a SELECT with exactly one row per row of the relation, in its order.

    Called with the names of the relation's text columns, the relation as SQL, and whether it has a `_row` to be kept.
    """

    def __call__(self, names: Sequence[str], relation: str, has_row: bool, /) -> str:
        """The SELECT."""
        ...


@dataclass(frozen=True, slots=True)
class Reject:
    """One record that is none: its 1-based number, its text and why."""

    row: int
    record: str
    reason: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file: `rows_sql` selects what Select made of its records, and `_row`; `rejects` are not among them.

    The tables behind it are dropped when the next piece is asked for.

    Attributes:
        others: of JSON records, the keys that nobody asked for, by the number of their file (0 where it is the only one).
    """

    names: tuple[str, ...]
    rows_sql: str
    rows: int
    rejects: tuple[Reject, ...]
    rejects_sql: str
    others: Mapping[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])


def new_name(kind: str) -> str:
    """A name of a temporary table that nothing else has."""
    return f"__{kind}_{next(_numbers)}"


def as_text(names: Sequence[str], relation: str, has_row: bool, /) -> str:
    """The Select that keeps every column as it is."""
    columns = [quote_identifier(name) for name in names] + (["_row"] if has_row else [])
    return f"SELECT {', '.join(columns)} FROM {relation}"


def create_in_order(con: duckdb.DuckDBPyConnection, table: str, sql: str) -> int:
    """Make a temporary table whose rowid follows the order of the rows; returns their number."""
    con.execute("SET preserve_insertion_order = true")
    try:
        made = con.execute(f"CREATE TEMP TABLE {quote_identifier(table)} AS {sql}").fetchone()
    finally:
        con.execute("SET preserve_insertion_order = false")
    return int(made[0]) if made else 0


def numbered_sql(con: duckdb.DuckDBPyConnection, table: str, *, offset: int, rejects: Sequence[Reject]) -> str:
    """SQL of the table's rows with their record number, which counts the rejected records between them as well."""
    name = quote_identifier(table)
    if not rejects:
        return f"(SELECT *, rowid + {offset + 1} AS _row FROM {name})"
    # Before the i-th reject (from 0) with number r lie r - offset - 1 - i accepted rows; later ones are shifted by i + 1.
    shifts = {reject.row - offset - 1 - index: index + 1 for index, reject in enumerate(sorted(rejects, key=lambda reject: reject.row))}
    helper = f"{table}_shift"
    values = ", ".join(f"({after}, {by})" for after, by in shifts.items())
    con.execute(f"CREATE TEMP TABLE {quote_identifier(helper)} AS SELECT * FROM (VALUES {values}) AS s(after_rows, shift)")
    return (
        f"(SELECT t.* EXCLUDE (__at), t.__at + coalesce(s.shift, 0) + {offset} AS _row FROM (SELECT *, rowid + 1 AS __at FROM {name}) t "
        f"ASOF LEFT JOIN {quote_identifier(helper)} s ON t.__at > s.after_rows)"
    )


def rejects_table(con: duckdb.DuckDBPyConnection, rejects: Iterable[Reject], scratch: Path) -> str:
    """The rejects as a temporary table (_row, record, reason); returns its name."""
    table = new_name("rejects")
    name = quote_identifier(table)
    con.execute(f"CREATE TEMP TABLE {name} (_row BIGINT, record VARCHAR, reason VARCHAR)")
    path = scratch / f"{table}.csv"
    count = 0
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for reject in rejects:
            writer.writerow((reject.row, reject.record, reject.reason))
            count += 1
    if count:
        con.execute(f"INSERT INTO {name} SELECT * FROM {plain_csv(path, {'_row': 'BIGINT', 'record': 'VARCHAR', 'reason': 'VARCHAR'})}")
    path.unlink()
    return table


def plain_csv(path: Path, columns: dict[str, str]) -> str:
    """read_csv of a file this library wrote: comma, every value quoted, no header."""
    listed = ", ".join(f"{quote_literal(name)}: {quote_literal(kind)}" for name, kind in columns.items())
    return (
        f"read_csv({quote_literal(str(path))}, auto_detect=false, header=false, delim=',', quote='\"', escape='\"', new_line='\\n', "
        f"columns={{{listed}}}, max_line_size=33554432, buffer_size=67108864, parallel=false)"
    )


def drop(con: duckdb.DuckDBPyConnection, *tables: str) -> None:
    """Drop temporary tables, and what numbered_sql made beside them."""
    for table in tables:
        con.execute(f"DROP TABLE IF EXISTS {quote_identifier(table)}")
        con.execute(f"DROP TABLE IF EXISTS {quote_identifier(table + '_shift')}")
