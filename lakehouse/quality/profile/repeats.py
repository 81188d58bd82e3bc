"""Rows that say the same twice, and columns that tell rows apart."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lakehouse.contracts.inference import naming
from lakehouse.quality.profile.columns import Measured, parts
from lakehouse.quality.profile.facts import Duplicates, Key
from lakehouse.quality.profile.measuring import First, row_of
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

# Beyond it a hash decides which rows are compared, about that many: equal rows have equal hashes, so the share stays true.
_COMPARED_ROWS = 20_000_000
_MOST_CANDIDATES = 3


def find_repeats(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    columns: Sequence[Measured],
    first: Mapping[int, First],
    *,
    rows: int,
    key: Sequence[str],
) -> Duplicates:
    """Repeated rows and the key.

    Args:
        con: the connection that knows the relation.
        relation: what may stand after FROM.
        columns: of it.
        first: what the first pass found.
        rows: of the relation.
        key: that the contract declares; without one a column is looked for that is different in every row.
    """
    names = {one.name for one in columns}
    declared = [name for name in key if name in names]
    if not columns or rows < 2:
        return Duplicates(0, True, len(columns), Key(tuple(declared), True, rows) if declared else None)
    found = _declared(con, relation, declared) if declared else _candidate(con, relation, columns, first, rows)
    if found is not None and found.distinct == rows:
        return Duplicates(0, True, len(columns), found)
    every = math.ceil(rows / _COMPARED_ROWS)
    hashed = _row_hash(columns)
    chosen = f" WHERE h % {every} = 0" if every > 1 else ""
    seen, different = row_of(con, f"SELECT count(*), count(DISTINCT h) FROM (SELECT {hashed} AS h FROM {relation}){chosen}")
    return Duplicates(min(rows, (int(seen) - int(different)) * every), every == 1, len(columns), found)


def _row_hash(columns: Sequence[Measured]) -> str:
    """One hash of all columns; of many, a hash of hashes, because a function of thousands of arguments plans for long."""
    hashes = [f"hash({', '.join(quote_identifier(one.name) for one in part)})" for part in parts(columns, 100)]
    return hashes[0] if len(hashes) == 1 else f"hash({', '.join(hashes)})"


def _declared(con: "duckdb.DuckDBPyConnection", relation: str, key: Sequence[str]) -> Key:
    """The contract's key: NULL in it is a value like any other, because such a row can't be told from another either."""
    listed = ", ".join(quote_identifier(name) for name in key)
    return Key(tuple(key), True, int(row_of(con, f"SELECT count(*) FROM (SELECT DISTINCT {listed} FROM {relation})")[0]))


def _candidate(
    con: "duckdb.DuckDBPyConnection", relation: str, columns: Sequence[Measured], first: Mapping[int, First], rows: int
) -> Key | None:
    """The likeliest column that is filled and different in every row: by name, then by place."""
    possible = [
        one
        for one in columns
        if (one.kind == "text" or one.is_whole) and first[one.number].values == rows and first[one.number].distinct >= rows * 0.5
    ]
    ranked = sorted(possible, key=lambda one: (not naming.is_identifier(one.name), one.number))[:_MOST_CANDIDATES]
    for one in ranked:
        if rows < 20 and not naming.is_identifier(one.name):
            continue
        distinct = int(row_of(con, f"SELECT count(DISTINCT {quote_identifier(one.name)}) FROM {relation}")[0])
        if distinct == rows:
            return Key((one.name,), False, distinct)
    return None
