"""What the values of a table's columns were like, small enough to be stored: everything later is compared with it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.learning.schema import Feature, FeatureSchema, Kind
from lakehouse.monitoring.drift.bins import Bins, count, value_sql
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

# Narrow bins find a shift of the distribution's middle (KS); PSI takes every tenth edge.
_FINE = 100
_COARSE = 10
# A number of no more values has a bin for each.
_FEW_VALUES = 10
_MOST_VALUES = 100
# A value of fewer rows is no category: it says more about those rows than about the column, and chi-square needs as many.
_LEAST_ROWS = 5
# A text with more values, or with none that is common, is prose or a key: what can drift is how long it is.
_MOST_CATEGORIES = 1000


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """A column's bins and how many rows of the reference are in each."""

    bins: Bins
    counts: tuple[int, ...]

    def as_json(self) -> str:
        """As stored."""
        return json.dumps({"bins": self.bins.as_dict(), "counts": self.counts})

    @classmethod
    def from_json(cls, text: str) -> "ColumnProfile":
        """As stored."""
        stored: dict[str, Any] = json.loads(text)
        return cls(Bins.from_dict(stored["bins"]), tuple(stored["counts"]))


@dataclass(frozen=True, slots=True)
class Reference:
    """A stored profile.

    Attributes:
        rows: that it was made of.
        left_out: columns that are not compared, and why.
    """

    rows: int
    columns: tuple[ColumnProfile, ...]
    left_out: Mapping[str, str]


def profile_reference(con: "duckdb.DuckDBPyConnection", relation: str, schema: FeatureSchema) -> Reference:
    """The profile of a relation's rows.

    Args:
        con: a session.
        relation: SQL that can stand after FROM.
        schema: the columns to profile.
    """
    compared = [one for one in schema.features if one.kind is not Kind.TIME]
    left_out = {one.name: "a time moves by itself" for one in schema.features if one.kind is Kind.TIME}
    typed = typed_sql(schema, relation)
    bins = [*_number_bins(con, typed, [one for one in compared if one.kind is not Kind.STRING])]
    bins += _text_bins(con, typed, [one for one in compared if one.kind is Kind.STRING])
    place = {one.name: number for number, one in enumerate(compared)}
    bins.sort(key=lambda one: place[one.column])
    found = count(con, typed, bins)
    rows = con.execute(f"SELECT count(*) FROM {typed}").fetchone()
    return Reference(int(rows[0]) if rows else 0, tuple(map(ColumnProfile, bins, found)), left_out)


def typed_sql(schema: FeatureSchema, relation: str) -> str:
    """The relation with the types that are counted."""
    return f"(SELECT {schema.select_sql()} FROM {relation})"


def _number_bins(con: "duckdb.DuckDBPyConnection", typed: str, features: Sequence[Feature]) -> Iterable[Bins]:
    if not features:
        return
    shares = ", ".join(f"{number}/{_FINE}::DOUBLE" for number in range(1, _FINE))
    items: list[str] = []
    for one in features:
        value = value_sql(one.name, "number")
        # Of no more than it is asked for, approx_top_k gives all values.
        items += [f"approx_top_k({value}, {_FEW_VALUES + 1})", f"quantile_cont({value}, [{shares}])"]
    found = con.execute(f"SELECT {', '.join(items)} FROM {typed}").fetchone() or ()
    for place, one in enumerate(features):
        few, quantiles = found[2 * place], found[2 * place + 1]
        values = sorted({float(value) for value in few or ()})
        if len(values) <= _FEW_VALUES:
            yield Bins(one.name, "number", values=tuple(values))
        else:
            yield interval_bins(one.name, [float(value) for value in quantiles])


def interval_bins(column: str, quantiles: Sequence[float], *, measure: Any = "number") -> Bins:
    """Bins between quantiles, of which each tenth is one of PSI's."""
    edges = sorted(set(quantiles))
    step = _FINE // _COARSE
    wanted = set(quantiles[step - 1 :: step])
    return Bins(column, measure, tuple(edges), tuple(place for place, edge in enumerate(edges) if edge in wanted))


def _text_bins(con: "duckdb.DuckDBPyConnection", typed: str, features: Sequence[Feature]) -> Iterable[Bins]:
    if not features:
        return
    shares = ", ".join(f"{number}/{_FINE}::DOUBLE" for number in range(1, _FINE))
    items: list[str] = []
    for one in features:
        items += [
            f"approx_count_distinct({value_sql(one.name, 'text')})",
            f"quantile_cont({value_sql(one.name, 'length')}, [{shares}])",
        ]
    found = con.execute(f"SELECT {', '.join(items)} FROM {typed}").fetchone() or ()
    for place, one in enumerate(features):
        categories = _categories(con, typed, one.name) if found[2 * place] <= _MOST_CATEGORIES else ()
        if categories or not found[2 * place]:
            yield Bins(one.name, "text", values=categories)
        else:
            yield interval_bins(one.name, found[2 * place + 1], measure="length")


def _categories(con: "duckdb.DuckDBPyConnection", typed: str, column: str) -> tuple[str, ...]:
    value = value_sql(column, "text")
    rows = con.execute(
        f"SELECT {value} AS value, count(*) AS rows FROM {typed} WHERE {quote_identifier(column)} <> '' "
        f"GROUP BY value HAVING count(*) >= {_LEAST_ROWS} ORDER BY rows DESC, value LIMIT {_MOST_VALUES}"
    ).fetchall()
    return tuple(str(row[0]) for row in rows)
