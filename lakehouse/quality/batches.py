"""A batch in numbers: what is kept of it in monitoring.profiles, so that later batches are judged without reading its rows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from lakehouse.sql import quote_literal

PROFILES_TABLE = "monitoring.profiles"
_MEASURES = {
    "nulls": "BIGINT",
    "mean": "DOUBLE",
    "deviation": "DOUBLE",
    "low_quartile": "DOUBLE",
    "high_quartile": "DOUBLE",
    "distinct_values": "BIGINT",
    "categories": "VARCHAR",
    "outliers_z": "DOUBLE",
    "outliers_iqr": "DOUBLE",
}


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column of a batch; None where there is nothing to say, or nobody has looked.

    Attributes:
        nulls: rows without a value.
        mean: of its numbers.
        deviation: their standard deviation.
        low_quartile: a quarter of them is below.
        high_quartile: a quarter of them is above.
        distinct: different values, about.
        categories: rows of every value that was looked at, where they are few and come again.
        outliers_z: share of the numbers further than three standard deviations from the earlier batches' mean.
        outliers_iqr: share of them further than 1.5 interquartile ranges from the earlier batches' quartiles.
    """

    nulls: int
    mean: float | None = None
    deviation: float | None = None
    low_quartile: float | None = None
    high_quartile: float | None = None
    distinct: int | None = None
    categories: Mapping[str, int] | None = None
    outliers_z: float | None = None
    outliers_iqr: float | None = None

    @property
    def iqr(self) -> float | None:
        """The range that the middle half of the numbers takes."""
        return None if self.low_quartile is None or self.high_quartile is None else self.high_quartile - self.low_quartile


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """One batch in numbers; `rows` are the accepted ones."""

    batch: int
    files: int
    rows: int
    columns: Mapping[str, ColumnProfile] = field(default_factory=dict[str, ColumnProfile])

    def null_rate(self, column: str) -> float | None:
        """Share of rows without a value; None where there is nothing to say."""
        profile = self.columns.get(column)
        return None if profile is None or self.rows == 0 else profile.nulls / self.rows


def profile_sql(profile: BatchProfile, *, dataset: str, run: str, at: datetime) -> str:
    """The profile as rows of monitoring.profiles: one of the batch (no column), one per column."""
    rows = [(None, ", ".join(f"NULL::{kind}" for kind in _MEASURES.values()))]
    rows += [(name, _measures(column)) for name, column in profile.columns.items()]
    values = ", ".join(
        f"({quote_literal(dataset)}, {profile.batch}::BIGINT, {quote_literal(name)}::VARCHAR, {profile.files}::BIGINT, "
        f"{profile.rows}::BIGINT, {measures}, {quote_literal(run)}, {quote_literal(at)})"
        for name, measures in rows
    )
    return f"SELECT * FROM (VALUES {values}) AS p(dataset, batch, column_name, files, rows, {', '.join(_MEASURES)}, run, profiled_at)"


def _measures(column: ColumnProfile) -> str:
    categories = None if column.categories is None else json.dumps(dict(sorted(column.categories.items())), ensure_ascii=False)
    found = (
        column.nulls,
        column.mean,
        column.deviation,
        column.low_quartile,
        column.high_quartile,
        column.distinct,
        categories,
        column.outliers_z,
        column.outliers_iqr,
    )
    return ", ".join(f"{quote_literal(value)}::{kind}" for value, kind in zip(found, _MEASURES.values(), strict=True))


def read_profiles(
    con: duckdb.DuckDBPyConnection, scan_sql: str, *, dataset: str, limit: int = 30, batches: frozenset[int] | None = None
) -> list[BatchProfile]:
    """The newest batches' profiles, oldest first.

    Args:
        con: a connection that can read the root.
        scan_sql: a SELECT over monitoring.profiles.
        dataset: whose profiles.
        limit: how many batches.
        batches: only these: those whose rows are still there; None means all.
    """
    # Profiles that were kept before a measure was known lack its column.
    empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _MEASURES.items())
    counted = "" if batches is None else f" AND batch IN ({', '.join(map(str, sorted(batches))) or 'NULL'})"
    found = con.execute(
        f"SELECT batch, files, rows, column_name, {', '.join(_MEASURES)} "
        f"FROM (SELECT * FROM ({scan_sql}) UNION ALL BY NAME SELECT {empty} WHERE false) "
        f"WHERE dataset = {quote_literal(dataset)}{counted} "
        f"QUALIFY dense_rank() OVER (ORDER BY batch DESC) <= {int(limit)} ORDER BY batch"
    ).fetchall()
    sizes: dict[int, tuple[int, int]] = {}
    columns: dict[int, dict[str, ColumnProfile]] = {}
    for batch, files, rows, name, nulls, mean, deviation, low, high, distinct, categories, outliers_z, outliers_iqr in found:
        sizes[batch] = (files, rows)
        if name is not None:
            counts = None if categories is None else dict(json.loads(categories))
            measured = ColumnProfile(nulls, mean, deviation, low, high, distinct, counts, outliers_z, outliers_iqr)
            columns.setdefault(batch, {})[name] = measured
    return [BatchProfile(batch, files, rows, columns.get(batch, {})) for batch, (files, rows) in sizes.items()]
