"""The passes over every row: what can be counted in one, and what needs to know the range first.

Exact: rows, values, minimum, maximum, mean, deviation, lengths, histograms, outliers beyond the fences, and how often the
values found in the sample occur. Quantiles are t-digests. Different values are exact up to `_EXACT_DISTINCT`; beyond it a hash
decides which values are counted (about that many), so that memory is bounded; the error is below one percent. Columns whose
values come again are grouped, which counts their values and how often each occurs at once, and spills if the sample misled.
"""

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lakehouse.quality.profile.columns import Measured, inner, parts
from lakehouse.quality.profile.facts import Histogram, Numbers, Texts

if TYPE_CHECKING:
    import duckdb

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS = 24
_EXACT_DISTINCT = 100_000
# Squares and cubes of what is larger overflow.
_LARGEST = "1e100"
_NO_EDGE = 3.0
_COUNTED = 60


@dataclass(frozen=True, slots=True)
class First:
    """What the first pass found of one column; `distinct` only where it has been counted."""

    values: int = 0
    about_distinct: int = 0
    numbers: Numbers | None = None
    texts: Texts | None = None
    trues: int = 0
    counts: Mapping[int, int] = field(default_factory=dict[int, int])
    distinct: int | None = None


@dataclass(frozen=True, slots=True)
class Second:
    """What the second pass found of one column."""

    distinct: int = 0
    is_exact: bool = True
    histogram: Histogram | None = None
    outliers_iqr: int | None = None
    outliers_z: int | None = None
    low_fence: float | None = None
    high_fence: float | None = None


def row_of(con: "duckdb.DuckDBPyConnection", sql: str) -> tuple[Any, ...]:
    """The one row of an aggregate."""
    return con.execute(sql).fetchone() or ()


def first_pass(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    columns: Sequence[Measured],
    candidates: Mapping[int, Sequence[int]],
    grouped: Collection[int],
) -> dict[int, First]:
    """Counts, ranges and moments of every column, by its number.

    Args:
        con: the connection that knows the relation.
        relation: what may stand after FROM.
        columns: what to measure.
        candidates: hashes of values whose rows are to be counted, by the column's number.
        grouped: columns whose values come again, so that all of them can be counted.
    """
    found: dict[int, First] = {}
    for part in parts(columns):
        counts = _grouped(con, relation, [one for one in part if one.number in grouped])
        asked = [
            _first_sql(one, () if one.number in counts else candidates.get(one.number, ()), is_counted=one.number in counts) for one in part
        ]
        row = row_of(con, f"SELECT {', '.join(sql for measures in asked for sql in measures)} FROM {inner(relation, part)}")
        place = 0
        for one, measures in zip(part, asked, strict=True):
            first = _first(one, row[place : place + len(measures)])
            known = counts.get(one.number)
            found[one.number] = first if known is None else replace(first, counts=known.counts, distinct=known.distinct)
            place += len(measures)
    return found


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Different values of a column, and the rows of the most frequent ones by hash."""

    distinct: int
    counts: Mapping[int, int]


def _grouped(con: "duckdb.DuckDBPyConnection", relation: str, columns: Sequence[Measured]) -> dict[int, _Grouped]:
    """Group the rows by each column on its own, in one scan."""
    if not columns:
        return {}
    names = [f"h{one.number}" for one in columns]
    values = f"SELECT {', '.join(one.aliased() for one in columns)} FROM {relation}"
    hashes = ", ".join(f"CASE WHEN {one.value} IS NOT NULL THEN hash({one.value}) END AS h{one.number}" for one in columns)
    sets = ", ".join(f"({name})" for name in names)
    groups = (
        f"SELECT grouping({', '.join(names)}) AS g, coalesce({', '.join(names)}, NULL) AS h, count(*) AS n "
        f"FROM (SELECT {hashes} FROM ({values})) GROUP BY GROUPING SETS ({sets})"
    )
    ranked = "count(*) OVER (PARTITION BY g) AS d, row_number() OVER (PARTITION BY g ORDER BY n DESC, h) AS place"
    rows = con.execute(
        f"SELECT g, d, h, n FROM (SELECT *, {ranked} FROM ({groups}) WHERE h IS NOT NULL) WHERE place <= {_COUNTED}"
    ).fetchall()
    distinct: dict[int, int] = {}
    counts: dict[int, dict[int, int]] = {}
    # Each group has the bits of the columns that it is not grouped by; the first column has the highest bit.
    every = (1 << len(columns)) - 1
    place = {every ^ (1 << (len(columns) - 1 - position)): one.number for position, one in enumerate(columns)}
    for g, d, h, n in rows:
        distinct[place[g]] = int(d)
        counts.setdefault(place[g], {})[int(h)] = int(n)
    return {one.number: _Grouped(distinct.get(one.number, 0), counts.get(one.number, {})) for one in columns}


def _first_sql(one: Measured, candidates: Sequence[int], *, is_counted: bool) -> list[str]:
    value, x = one.value, one.x
    key = f"hash({value})" if one.kind in {"nested", "bytes"} else value
    counted = f"hash({value}) IN ({', '.join(f'{number}::UBIGINT' for number in candidates)})"
    tops = f"histogram(CASE WHEN {counted} THEN hash({value}) END)" if candidates else "NULL"
    distinct = "0" if is_counted or one.kind == "boolean" else f"approx_count_distinct({key})"
    measures = [f"count({value})", distinct, tops]
    if one.is_ordered:
        calm = f"CASE WHEN abs({x}) < {_LARGEST} THEN {x} END"
        finite = f"CASE WHEN {x} IS NOT NULL THEN {value} END" if one.is_float or one.kind == "moment" else value
        spread = f"approx_quantile({x}, [{', '.join(str(at) for at in QUANTILES)}])"
        extra = [f"skewness({calm})", f"count(CASE WHEN {x} = 0 THEN 1 END)", f"count(CASE WHEN {x} < 0 THEN 1 END)"]
        plain = extra if one.kind == "number" else ["NULL", "0", "0"]
        measures += [f"min({finite})::VARCHAR", f"max({finite})::VARCHAR", f"min({x})", f"max({x})", f"avg({calm})"]
        measures += [f"stddev_pop({calm})", spread, f"count({x})", *plain]
    elif one.kind == "text":
        text = value if one.type == "VARCHAR" else f"CAST({value} AS VARCHAR)"
        length = f"length({text})"
        measures += [f"min({length})", f"max({length})", f"avg({length})"]
        measures += [
            f"count(CASE WHEN {text} = '' THEN 1 END)",
            f"count(CASE WHEN starts_with({text}, ' ') OR ends_with({text}, ' ') THEN 1 END)",
        ]
    elif one.kind == "boolean":
        measures.append(f"count(CASE WHEN {value} THEN 1 END)")
    else:
        length = _size_sql(one)
        measures += [f"min({length})", f"max({length})", f"avg({length})"]
    return measures


def _size_sql(one: Measured) -> str:
    if one.kind == "bytes":
        return f"octet_length({one.value})" if one.type == "BLOB" else f"length({one.value})"
    if one.type.endswith("[]"):
        return f"len({one.value})"
    return f"cardinality({one.value})" if one.type.startswith("MAP") else "NULL::BIGINT"


def _first(one: Measured, row: tuple[Any, ...]) -> First:
    values, about, counted, *rest = row
    first: dict[str, Any] = {"values": int(values), "about_distinct": min(int(about), int(values)), "counts": dict(counted or {})}
    if one.kind == "boolean":
        return First(**first, trues=int(rest[0]))
    if one.is_ordered:
        minimum, maximum, least, most, mean, deviation, quantiles, finite, skewness, zeros, negatives = rest
        if not finite:
            return First(**first, numbers=Numbers("", "", None, None, None, (), not_finite=int(values)))
        numbers = Numbers(
            minimum=minimum,
            maximum=maximum,
            mean=_finite(mean),
            deviation=_finite(deviation),
            skewness=_finite(skewness),
            quantiles=_between(quantiles, least, most, one.unit),
            zeros=int(zeros),
            negatives=int(negatives),
            not_finite=int(values) - int(finite),
            least=float(least),
            most=float(most),
        )
        return First(**first, numbers=numbers)
    shortest, longest, mean_length, *text = rest
    empty, blank_edges = (int(count) for count in text) if text else (0, 0)
    texts = Texts(shortest, longest, None if mean_length is None else float(mean_length), empty=empty, blank_edges=blank_edges)
    return First(**first, texts=texts)


def _between(quantiles: Sequence[float] | None, low: float, high: float, unit: float | None) -> tuple[float, ...]:
    """A digest interpolates: it may leave the range, fall back by a hair, or fall between whole numbers."""
    result: list[float] = []
    for one in quantiles or ():
        value = min(max(float(one), low), high) if math.isfinite(one) else low
        value = round(value / unit) * unit if unit else value
        result.append(max(value, result[-1]) if result else value)
    return tuple(result)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def second_pass(
    con: "duckdb.DuckDBPyConnection", relation: str, columns: Sequence[Measured], first: Mapping[int, First]
) -> dict[int, Second]:
    """Histograms, outliers and different values of every column, by its number."""
    found: dict[int, Second] = {}
    for part in parts(columns):
        plans = [_Plan.of(one, first[one.number]) for one in part]
        row = row_of(con, f"SELECT count(*), {', '.join(sql for plan in plans for sql in plan.measures())} FROM {inner(relation, part)}")
        place = 1
        for plan in plans:
            found[plan.column.number] = plan.read(row[place : place + 4])
            place += 4
    return found


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be asked of one column, now that its range is known."""

    column: Measured
    first: First
    every: int
    low: float = 0.0
    width: float = 0.0
    bins: int = 0
    fences: tuple[float, float] | None = None
    distant: tuple[float, float] | None = None

    @classmethod
    def of(cls, column: Measured, first: First) -> "_Plan":
        every = max(1, math.ceil(first.about_distinct / _EXACT_DISTINCT))
        numbers = first.numbers
        if numbers is None or not numbers.quantiles or numbers.least is None or numbers.most is None:
            return cls(column, first, every)
        q1, q3 = numbers.quantiles[2], numbers.quantiles[4]
        spread = q3 - q1
        fences = (q1 - 1.5 * spread, q3 + 1.5 * spread) if 0 < spread < math.inf else None
        distant = None
        if numbers.mean is not None and numbers.deviation:
            distant = (numbers.mean - 3 * numbers.deviation, numbers.mean + 3 * numbers.deviation)
        low, high = numbers.least, numbers.most
        if fences is not None:
            low, high = max(low, q1 - _NO_EDGE * spread), min(high, q3 + _NO_EDGE * spread)
        bins = BINS
        unit = column.unit
        if unit and high - low < 4 * BINS * unit:
            # What comes in whole steps falls into bins of whole steps, or every second bin would be higher.
            low, high = math.ceil(low / unit), math.floor(high / unit)
            step = max(1, math.ceil((high - low + 1) / BINS))
            bins = max(1, math.ceil((high - low + 1) / step))
            start = low * unit if column.kind == "moment" else low - 0.5
            return cls(column, first, every, float(start), float(step * unit), bins, fences, distant)
        width = high / bins - low / bins
        return cls(column, first, every, low, width, bins if width > 0 else 0, fences, distant)

    def measures(self) -> list[str]:
        """Four measures: different values, bins, beyond the fences, far from the mean."""
        value, x = self.column.value, self.column.x
        # Nothing has a hash too, but is no value.
        chosen = "" if self.every == 1 else f" AND hash({value}) % {self.every} = 0"
        is_known = self.column.kind == "boolean" or self.first.distinct is not None
        distinct = "NULL" if is_known else f"count(DISTINCT hash({value})) FILTER (WHERE {value} IS NOT NULL{chosen})"
        bins = "NULL"
        if self.bins:
            place = f"floor({x} / {self.width!r}::DOUBLE - {self.low / self.width!r}::DOUBLE)"
            # What lies on the last edge belongs to the last bin.
            top = self._edge(self.bins)
            bins = f"histogram(CASE WHEN {x} < {self.low!r}::DOUBLE THEN -1 WHEN {x} > {top!r}::DOUBLE THEN {self.bins} ELSE "
            bins += f"CAST(greatest(0, least({self.bins - 1}, {place})) AS INTEGER) END) FILTER (WHERE {x} IS NOT NULL)"
        return [distinct, bins, _outside(x, self.fences), _outside(x, self.distant)]

    def _edge(self, n: int) -> float:
        """The n-th edge; those of the largest numbers do not overflow."""
        edge = self.low + self.width * n
        return edge if math.isfinite(edge) else math.copysign(sys.float_info.max, edge)

    def read(self, row: tuple[Any, ...]) -> Second:
        """The answers."""
        distinct, bins, beyond, far = row
        if self.column.kind == "boolean":
            trues = self.first.trues
            return Second(distinct=int(0 < trues) + int(trues < self.first.values))
        counted = dict(bins or {})
        edges = tuple(self._edge(n) for n in range(self.bins + 1))
        below, above = counted.pop(-1, 0), counted.pop(self.bins, 0)
        counts = tuple(int(counted.get(n, 0)) for n in range(self.bins))
        counted_exactly = self.first.distinct
        return Second(
            distinct=counted_exactly if counted_exactly is not None else min(int(distinct) * self.every, self.first.values),
            is_exact=counted_exactly is not None or self.every == 1,
            histogram=Histogram(edges, counts, int(below), int(above)) if self.bins else None,
            outliers_iqr=None if beyond is None else int(beyond),
            outliers_z=None if far is None else int(far),
            low_fence=self.fences[0] if self.fences else None,
            high_fence=self.fences[1] if self.fences else None,
        )


def _outside(x: str, limits: tuple[float, float] | None) -> str:
    if limits is None or not all(map(math.isfinite, limits)):
        return "NULL"
    return f"count(CASE WHEN {x} < {limits[0]!r}::DOUBLE OR {x} > {limits[1]!r}::DOUBLE THEN 1 END)"
