"""The key that a user named, against the rows: it must be there, and be different in every row of a file.

Two files may have a key in common (the later row is a correction), two rows of one file may not: the second goes to quarantine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import ContractError
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

    from lakehouse.contracts import Column, DatasetContract
    from lakehouse.ingest.readers import StagedFile

# As inference does with types: what one row in a thousand does is an accident of that row, and it goes to quarantine.
_TOLERATED = 0.001
_SHOWN_ROWS = 3


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Rows of one file that the key does not tell apart."""

    problem: str
    expected: str
    found: str
    rows: int


def check_given_key(con: "duckdb.DuckDBPyConnection", contract: "DatasetContract", files: Sequence[tuple[Path, "StagedFile"]]) -> list[str]:
    """Warnings about rows that the contract's key will quarantine.

    Args:
        con: holds the staged files.
        contract: whose key the user named.
        files: each with its rows as text.

    Raises:
        ContractError: more than one row in a thousand has no key, or one that an earlier row of its file has.
    """
    label = ", ".join(contract.primary_key)
    warnings: list[str] = []
    for path, staged in files:
        for trouble in _troubles(con, contract, path, staged):
            if trouble.rows > staged.rows_read * _TOLERATED:
                raise ContractError(
                    f"key {label}",
                    trouble.problem,
                    expected=trouble.expected,
                    found=trouble.found,
                    fix="Add columns to --key until they tell rows apart, or leave --key out: a key is then looked for, and rows without "
                    "one are told apart by file and row number",
                )
            warnings.append(f"key {label}: {trouble.problem}: {trouble.found}; quarantined")
    return warnings


def _troubles(con: "duckdb.DuckDBPyConnection", contract: "DatasetContract", path: Path, staged: "StagedFile") -> list[_Trouble]:
    from lakehouse.contracts import cast_sql
    from lakehouse.contracts.matching import match_columns

    found = match_columns(contract, staged.columns).found
    columns = [contract.column(name) for name in contract.primary_key]
    absent = [column.source for column in columns if column.name not in found]
    if absent:
        return [_Trouble(f"is not in {path.name}", ", ".join(absent), ", ".join(staged.columns[:20]), staged.rows_read)]
    parts = ", ".join(f"{cast_sql(one, quote_identifier(found[one.name]))} AS {quote_identifier(f'k{n}')}" for n, one in enumerate(columns))
    keys = f"(SELECT {parts}, _row FROM {quote_identifier(staged.relation)})"
    names = [quote_identifier(f"k{n}") for n in range(len(columns))]
    troubles = [_missing(con, keys, name, column, path) for name, column in zip(names, columns, strict=True)]
    troubles.append(_repeated(con, keys, names, columns, path))
    return [trouble for trouble in troubles if trouble is not None]


def _missing(con: "duckdb.DuckDBPyConnection", keys: str, name: str, column: "Column", path: Path) -> _Trouble | None:
    row = con.execute(f"SELECT count(*), list_sort(min(_row, {_SHOWN_ROWS})) FROM {keys} WHERE {name} IS NULL").fetchone()
    if row is None or not row[0]:
        return None
    some = f"{row[0]:,} {'row' if row[0] == 1 else 'rows'} without one, such as {_rows(row[1])}"
    return _Trouble(f"has no value of {column.source} in every row of {path.name}", "a value in every row", some, int(row[0]))


def _repeated(
    con: "duckdb.DuckDBPyConnection", keys: str, names: Sequence[str], columns: "Sequence[Column]", path: Path
) -> _Trouble | None:
    listed = ", ".join(names)
    filled = " AND ".join(f"{name} IS NOT NULL" for name in names)
    shown = " || ', ' || ".join(f"left(CAST({name} AS VARCHAR), 60)" for name in names)
    # Most keys are different: only those whose hash comes again are collected with their rows.
    doubtful = f"SELECT hash({listed}) FROM {keys} WHERE {filled} GROUP BY 1 HAVING count(*) > 1"
    groups = (
        f"SELECT {shown} AS value, count(*) AS times, list_sort(min(_row, {_SHOWN_ROWS})) AS lines FROM {keys} "
        f"WHERE {filled} AND hash({listed}) IN ({doubtful}) GROUP BY {listed} HAVING count(*) > 1"
    )
    row = con.execute(f"SELECT count(*), sum(times)::BIGINT - count(*), arg_min((value, lines), lines[1]) FROM ({groups})").fetchone()
    if row is None or not row[0]:
        return None
    values, more, (value, lines) = row
    # Whether the column is personal is known only when the contract is: what is protected there is not shown here.
    example = "one" if any(column.protected for column in columns) else repr(value)
    excess = f"{more:,} {'row' if more == 1 else 'rows'} too many"
    found = f"{values:,} {'value' if values == 1 else 'values'} in more than one row ({excess}), such as {example} in {_rows(lines)}"
    return _Trouble(f"is not different in every row of {path.name}", "every value in one row only", found, int(more))


def _rows(numbers: Sequence[int]) -> str:
    shown = [f"{number:,}" for number in numbers]
    return f"row {shown[0]}" if len(shown) == 1 else f"rows {', '.join(shown[:-1])} and {shown[-1]}"
