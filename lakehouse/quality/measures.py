"""What is measured of a batch for the fourth level: one pass over its rows, and one that counts the values of few-valued columns.

The cost is bounded: of a larger batch a hash of file and row chooses about `_MOST_ROWS` rows, the same ones in whatever order they lie.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import duckdb

from lakehouse.contracts import Column, DatasetContract
from lakehouse.quality.batches import BatchProfile, ColumnProfile
from lakehouse.sql import quote_identifier

MOST_CATEGORIES = 50
MIN_BATCHES = 3
_MOST_ROWS = 200_000
_TOGETHER = 60
# A text is a category if it comes again: names and codes do not.
_TIMES_AGAIN = 4
_LABEL = 60
_SIGMAS = 3.0
_TUKEY = 1.5
_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "DECIMAL", "DOUBLE", "FLOAT")
_OPEN = frozenset({"", "public"})


@dataclass(frozen=True, slots=True)
class Fences:
    """Where the numbers of the earlier batches lie; what is beyond is an outlier."""

    z: tuple[float, float] | None = None
    iqr: tuple[float, float] | None = None


def is_numeric(column: Column) -> bool:
    """Whether its values are stored as numbers that have a spread."""
    return column.sql_type.startswith(_NUMERIC) and not column.protected


def is_hidden(column: Column) -> bool:
    """Whether none of its values may be shown or kept."""
    return column.protected or (column.classification or "").strip().lower() not in _OPEN


def is_measured(contract: DatasetContract, column: Column) -> bool:
    """Whether its numbers say something about the batch; those of a key only tell its rows apart."""
    return is_numeric(column) and not column.unique and column.name not in contract.primary_key


def fences_of(column: str, earlier: Sequence[BatchProfile]) -> Fences:
    """The fences of a column, from the batches before; none where they are too few."""
    known = [one.columns[column] for one in earlier if column in one.columns]

    def middle(pick: Callable[[ColumnProfile], float | None]) -> float | None:
        found = [value for one in known if (value := pick(one)) is not None and math.isfinite(value)]
        return median(found) if len(found) >= MIN_BATCHES else None

    mean, deviation = middle(lambda one: one.mean), middle(lambda one: one.deviation)
    low, high = middle(lambda one: one.low_quartile), middle(lambda one: one.high_quartile)
    z = (mean - _SIGMAS * deviation, mean + _SIGMAS * deviation) if mean is not None and deviation else None
    iqr = (low - _TUKEY * (high - low), high + _TUKEY * (high - low)) if low is not None and high is not None and high > low else None
    return Fences(z, iqr)


def measured(
    con: duckdb.DuckDBPyConnection, contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile], *, rows_sql: str
) -> BatchProfile:
    """The profile with spread, outliers and categories.

    Args:
        con: a connection on which `rows_sql` runs.
        contract: the dataset's.
        profile: the batch as it was counted.
        earlier: profiles of the batches before, which say what is far out.
        rows_sql: a SELECT of the batch's accepted rows.
    """
    if profile.rows == 0:
        return profile
    source = _some(rows_sql, profile.rows)
    columns = dict(profile.columns)
    numbers = [column for column in contract.columns if is_measured(contract, column) and column.name in columns]
    texts = [column for column in contract.columns if _may_be_category(column) and column.name in columns]
    for start in range(0, max(len(numbers), len(texts)), _TOGETHER):
        part, words = numbers[start : start + _TOGETHER], texts[start : start + _TOGETHER]
        fences = {column.name: fences_of(column.name, earlier) for column in part}
        columns |= _pass(con, source, columns, numbers=part, texts=words, fences=fences)
    counted = [one for one in texts if (distinct := columns[one.name].distinct) is not None and distinct <= MOST_CATEGORIES * 1.2]
    for start in range(0, len(counted), _TOGETHER):
        columns |= _categories(con, source, columns, counted[start : start + _TOGETHER])
    return replace(profile, columns=columns)


def _some(rows_sql: str, rows: int) -> str:
    every = math.ceil(rows / _MOST_ROWS)
    return f"({rows_sql})" if every == 1 else f"(SELECT * FROM ({rows_sql}) WHERE hash(_sha256, _row) % {every} = 0)"


def _may_be_category(column: Column) -> bool:
    return not is_hidden(column) and not column.unique and not column.primary_key and column.stored_type in {"VARCHAR", "BOOLEAN"}


def _pass(
    con: duckdb.DuckDBPyConnection,
    source: str,
    columns: Mapping[str, ColumnProfile],
    *,
    numbers: Sequence[Column],
    texts: Sequence[Column],
    fences: Mapping[str, Fences],
) -> dict[str, ColumnProfile]:
    measures: list[str] = []
    for column in numbers:
        x = f"CAST({quote_identifier(column.name)} AS DOUBLE)"
        finite = f"CASE WHEN isfinite({x}) AND abs({x}) < 1e100 THEN {x} END"
        found = fences[column.name]
        # A sum in whatever order is the same to within rounding; quantiles are the same in any order.
        measures += [f"count({finite})", f"stddev_samp({finite})", f"quantile_cont({finite}, [0.25, 0.75])"]
        measures += [_outside(finite, found.z), _outside(finite, found.iqr)]
    measures += [f"approx_count_distinct({quote_identifier(column.name)})" for column in texts]
    row: Iterator[Any] = iter(con.execute(f"SELECT {', '.join(measures)} FROM {source}").fetchone() or ())
    result: dict[str, ColumnProfile] = {}
    for column in numbers:
        values, deviation, quartiles, outside_z, outside_iqr = (next(row) for _ in range(5))
        low, high = quartiles or (None, None)
        result[column.name] = replace(
            columns[column.name],
            # To nine digits: what depends on the order of a sum is behind them.
            deviation=None if deviation is None else float(f"{deviation:.9g}"),
            low_quartile=low,
            high_quartile=high,
            outliers_z=None if outside_z is None or not values else outside_z / values,
            outliers_iqr=None if outside_iqr is None or not values else outside_iqr / values,
        )
    for column in texts:
        result[column.name] = replace(columns[column.name], distinct=int(next(row)))
    return result


def _outside(x: str, fences: tuple[float, float] | None) -> str:
    return "NULL" if fences is None else f"count(CASE WHEN {x} < {fences[0]!r} OR {x} > {fences[1]!r} THEN 1 END)"


def _categories(
    con: duckdb.DuckDBPyConnection, source: str, columns: Mapping[str, ColumnProfile], texts: Sequence[Column]
) -> dict[str, ColumnProfile]:
    """Rows of every value; the columns are turned into one long one, so that the rows are read once."""
    listed = ", ".join(f"left(CAST({quote_identifier(column.name)} AS VARCHAR), {_LABEL})" for column in texts)
    places = ", ".join(str(number) for number in range(len(texts)))
    long = f"SELECT unnest([{places}]) AS c, unnest([{listed}]) AS v FROM {source}"
    counts: dict[int, dict[str, int]] = {}
    for place, value, rows in con.execute(f"SELECT c, v, count(*) FROM ({long}) WHERE v IS NOT NULL GROUP BY c, v").fetchall():
        counts.setdefault(place, {})[value.replace("\0", "")] = rows
    result: dict[str, ColumnProfile] = {}
    for place, column in enumerate(texts):
        found = counts.get(place, {})
        enough = column.allowed or column.stored_type == "BOOLEAN" or sum(found.values()) >= _TIMES_AGAIN * len(found)
        kept = found if found and len(found) <= MOST_CATEGORIES and enough else None
        result[column.name] = replace(columns[column.name], distinct=len(found), categories=kept)
    return result
