"""The passes over every row: what can be counted in one, and what needs to know the range first.

Exact: rows, values, minimum, maximum, mean, deviation, lengths, histograms, outliers beyond the fences, and how often the
values found in the sample occur. Quantiles are the sample's: their rank is off by a third of a percent of the rows, which a
digest of all rows would buy with a quarter of the time. Different values are exact up to `_EXACT_DISTINCT`; beyond it a hash decides
which values are counted (about `_CHOSEN_DISTINCT`), so that memory is bounded; the error is about one percent. Columns whose values
come again are grouped, which counts their values and how often each occurs at once, and spills if the sample misled.
"""

import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lakehouse.quality.profile.columns import Measured, inner, parts
from lakehouse.quality.profile.facts import Histogram, Numbers, Texts
from lakehouse.quality.profile.sampling import QUANTILES

if TYPE_CHECKING:
    import duckdb

BINS = 24
_EXACT_DISTINCT = 100_000
_CHOSEN_DISTINCT = 20_000
# Fewer chosen values than these estimate badly; they are chosen again, of more.
_LEAST_CHOSEN = 5_000
# Squares and cubes of what is larger overflow.
_LARGEST = "1e100"
_NO_EDGE = 3.0
_COUNTED = 60
_TOGETHER = 24
_BELOW = 0
_OUTSIDE, _DISTANT = 64, 128


@dataclass(frozen=True, slots=True)
class First:
    """What the first pass found of one column."""

    values: int = 0
    distinct: int = 0
    is_exact: bool = True
    numbers: Numbers | None = None
    texts: Texts | None = None
    trues: int = 0
    counts: Mapping[int, int] = field(default_factory=dict[int, int])


@dataclass(frozen=True, slots=True)
class Second:
    """What the second pass found of one column."""

    zeros: int = 0
    negatives: int = 0
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
    *,
    rows: int,
    candidates: Mapping[int, Sequence[int]],
    grouped: Collection[int],
    quantiles: Mapping[int, Sequence[float]],
) -> dict[int, First]:
    """Counts, ranges, moments and different values of every column, by its number.

    Args:
        con: the connection that knows the relation.
        relation: what may stand after FROM.
        columns: what to measure.
        rows: of the relation.
        candidates: hashes of values whose rows are to be counted, by the column's number.
        grouped: columns whose values come again, so that all of them can be counted.
        quantiles: of the sample, at QUANTILES, by the column's number.
    """
    found: dict[int, First] = {}
    every = _one_in(rows)
    for part in parts(columns):
        counts = _grouped(con, relation, [one for one in part if one.number in grouped])
        asked = [
            _first_sql(
                one,
                () if one.number in counts else candidates.get(one.number, ()),
                every=every,
                is_known=one.number in counts,
                middle=_middle(quantiles.get(one.number, ())),
            )
            for one in part
        ]
        row = row_of(con, f"SELECT {', '.join(sql for measures in asked for sql in measures)} FROM {inner(relation, part)}")
        place = 0
        for one, measures in zip(part, asked, strict=True):
            first = _first(one, row[place : place + len(measures)], every=every, quantiles=quantiles.get(one.number, ()))
            known = counts.get(one.number)
            found[one.number] = first if known is None else replace(first, counts=known.counts, distinct=known.distinct, is_exact=True)
            place += len(measures)
    return _counted_again(con, relation, columns, found, every=every)


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Different values of a column, and the rows of the most frequent ones by hash."""

    distinct: int
    counts: Mapping[int, int]


def _grouped(con: "duckdb.DuckDBPyConnection", relation: str, columns: Sequence[Measured]) -> dict[int, _Grouped]:
    """Group the rows by each column on its own, in one scan."""
    hashes = [f"CASE WHEN {one.value} IS NOT NULL THEN hash({one.value}) END" for one in columns]
    values = f"(SELECT {', '.join(one.aliased() for one in columns)} FROM {relation})"
    distinct: dict[int, int] = {}
    counts: dict[int, dict[int, int]] = {}
    for place, key, rows, different in _groups(con, values, hashes, at_most=_COUNTED):
        distinct[place] = different
        counts.setdefault(place, {})[key] = rows
    return {one.number: _Grouped(distinct.get(place, 0), counts.get(place, {})) for place, one in enumerate(columns)}


def _groups(con: "duckdb.DuckDBPyConnection", source: str, keys: Sequence[str], *, at_most: int) -> Iterable[tuple[int, int, int, int]]:
    """The rows grouped by each key on its own, in one scan: place of the key, its value, its rows, different values of the key.

    Args:
        con: runs it.
        source: what may stand after FROM.
        keys: SQL of whole numbers; rows in which one is NULL are left out of its groups.
        at_most: the values with the most rows.
    """
    if not keys:
        return
    names = [f"k{place}" for place in range(len(keys))]
    listed = ", ".join(f"{key} AS {name}" for key, name in zip(keys, names, strict=True))
    sets = ", ".join(f"({name})" for name in names)
    groups = (
        f"SELECT grouping({', '.join(names)}) AS g, coalesce({', '.join(names)}, NULL) AS h, count(*) AS n "
        f"FROM (SELECT {listed} FROM {source}) GROUP BY GROUPING SETS ({sets})"
    )
    ranked = "count(*) OVER (PARTITION BY g) AS d, row_number() OVER (PARTITION BY g ORDER BY n DESC, h) AS place"
    found = con.execute(
        f"SELECT g, h, n, d FROM (SELECT *, {ranked} FROM ({groups}) WHERE h IS NOT NULL) WHERE place <= {at_most}"
    ).fetchall()
    # Each group has the bits of the keys that it is not grouped by; the first key has the highest bit.
    every = (1 << len(keys)) - 1
    places = {every ^ (1 << (len(keys) - 1 - place)): place for place in range(len(keys))}
    yield from ((places[g], int(key), int(rows), int(different)) for g, key, rows, different in found)


def _distinct_sql(value: str, every: int) -> str:
    # Powers of two: a bit is asked in a fraction of the time of a division.
    chosen = "" if every == 1 else f" AND hash({value}) & {every - 1} = 0"
    return f"count(DISTINCT hash({value})) FILTER (WHERE {value} IS NOT NULL{chosen})"


def _counted_again(
    con: "duckdb.DuckDBPyConnection", relation: str, columns: Sequence[Measured], found: dict[int, First], *, every: int
) -> dict[int, First]:
    """Count the different values of those columns again of which too few were chosen."""
    few = [one for one in columns if not found[one.number].is_exact and found[one.number].distinct < _LEAST_CHOSEN * every]
    for part in parts(few):
        finer = [_one_in(found[one.number].distinct) for one in part]
        asked = ", ".join(_distinct_sql(one.value, step) for one, step in zip(part, finer, strict=True))
        row = row_of(con, f"SELECT {asked} FROM {inner(relation, part)}")
        for one, step, chosen in zip(part, finer, row, strict=True):
            first = found[one.number]
            found[one.number] = replace(first, distinct=min(int(chosen) * step, first.values), is_exact=step == 1)
    return found


def _one_in(about: int) -> int:
    """Of how many different values one is counted: a power of two."""
    return 1 if about <= _EXACT_DISTINCT else 1 << math.ceil(math.log2(about / _CHOSEN_DISTINCT))


def _first_sql(one: Measured, candidates: Sequence[int], *, every: int, is_known: bool, middle: float) -> list[str]:
    value = one.value
    counted = f"hash({value}) IN ({', '.join(f'{number}::UBIGINT' for number in candidates)})"
    tops = f"histogram(CASE WHEN {counted} THEN hash({value}) END)" if candidates else "NULL"
    measures = [f"count({value})", "0" if is_known or one.kind == "boolean" else _distinct_sql(value, every), tops]
    if one.is_ordered:
        measures += _ordered_sql(one, middle)
    elif one.kind == "text":
        text = value if one.type == "VARCHAR" else f"CAST({value} AS VARCHAR)"
        length = f"length({text})"
        measures += [f"min({length})", f"max({length})", f"avg({length})"]
        edges = f"starts_with({text}, ' ') OR ends_with({text}, ' ')"
        measures += [f"count(CASE WHEN {text} = '' THEN 1 END)", f"count(CASE WHEN {edges} THEN 1 END)"]
    elif one.kind == "boolean":
        measures.append(f"count(CASE WHEN {value} THEN 1 END)")
    else:
        length = _size_sql(one)
        measures += [f"min({length})", f"max({length})", f"avg({length})"]
    return measures


def _ordered_sql(one: Measured, middle: float) -> list[str]:
    """Least and most as text and as number, mean and mean square of the distance from the middle, finite values."""
    value, x = one.value, one.x
    calm = f"CASE WHEN abs({x}) < {_LARGEST} THEN {x} END" if one.is_float else x
    # Squares of distances from about the mean lose no digits, and take a third of the time of stddev().
    off = f"({calm} - {middle!r}::DOUBLE)"
    finite = f"CASE WHEN {x} IS NOT NULL THEN {value} END" if one.kind == "moment" or one.type == "BIGNUM" else x if one.is_float else value
    # The same aggregate written twice is computed once.
    number = "epoch({})" if one.kind == "moment" else "CAST({} AS DOUBLE)"
    ends = [f"min({finite})::VARCHAR", f"max({finite})::VARCHAR", number.format(f"min({finite})"), number.format(f"max({finite})")]
    return [*ends, f"avg({off})", f"avg({off} * {off})", f"count({x if one.is_float or one.kind == 'moment' else value})"]


def _size_sql(one: Measured) -> str:
    if one.kind == "bytes":
        return f"octet_length({one.value})" if one.type == "BLOB" else f"length({one.value})"
    if one.type.endswith("[]"):
        return f"len({one.value})"
    return f"cardinality({one.value})" if one.type.startswith("MAP") else "NULL::BIGINT"


def _first(one: Measured, row: tuple[Any, ...], *, every: int, quantiles: Sequence[float]) -> First:
    values, chosen, counted, *rest = row
    first = First(int(values), min(int(chosen) * every, int(values)), every == 1, counts=dict(counted or {}))
    if one.kind == "boolean":
        trues = int(rest[0])
        return replace(first, trues=trues, distinct=int(trues > 0) + int(trues < first.values), is_exact=True)
    if one.is_ordered:
        return replace(first, numbers=_numbers(one, first.values, rest, quantiles))
    shortest, longest, mean_length, *text = rest
    empty, blank_edges = (int(count) for count in text) if text else (0, 0)
    texts = Texts(shortest, longest, None if mean_length is None else float(mean_length), empty=empty, blank_edges=blank_edges)
    return replace(first, texts=texts)


def _numbers(one: Measured, values: int, found: Sequence[Any], quantiles: Sequence[float]) -> Numbers:
    minimum, maximum, least, most, distance, square, finite = found
    if not finite:
        return Numbers("", "", None, None, (), not_finite=values)
    mean = deviation = None
    if distance is not None and square is not None:
        mean = _finite(_middle(quantiles) + distance)
        deviation = _finite(math.sqrt(max(square - distance * distance, 0.0)))
    return Numbers(
        minimum=minimum,
        maximum=maximum,
        mean=mean,
        deviation=deviation,
        quantiles=_between(quantiles, float(least), float(most), one.unit),
        not_finite=values - int(finite),
        least=float(least),
        most=float(most),
    )


def _middle(quantiles: Sequence[float]) -> float:
    """The sample's median, from which distances are taken; what is too large for squares is left out of them."""
    return quantiles[3] if quantiles and abs(quantiles[3]) < float(_LARGEST) else 0.0


def _between(quantiles: Sequence[float], low: float, high: float, unit: float | None) -> tuple[float, ...]:
    """What was interpolated may fall between whole numbers."""
    result: list[float] = []
    # Of a column with few values none may be in the sample.
    for one in quantiles or [low] * len(QUANTILES):
        value = min(max(float(one), low), high) if math.isfinite(one) else low
        value = round(value / unit) * unit if unit else value
        result.append(max(value, result[-1]) if result else value)
    return tuple(result)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def second_pass(
    con: "duckdb.DuckDBPyConnection", relation: str, columns: Sequence[Measured], first: Mapping[int, First]
) -> dict[int, Second]:
    """Histograms and outliers of the columns that have an order, by their number."""
    plans = [plan for one in columns if (plan := _plan(one, first[one.number].numbers)) is not None]
    found: dict[int, Second] = {}
    for start in range(0, len(plans), _TOGETHER):
        part = plans[start : start + _TOGETHER]
        source = inner(relation, [plan.column for plan in part])
        row = row_of(con, f"SELECT {', '.join(sql for plan in part for sql in plan.measures())} FROM {source}")
        found |= {plan.column.number: plan.read(row[3 * place : 3 * place + 3]) for place, plan in enumerate(part)}
    return found


def _plan(column: Measured, numbers: Numbers | None) -> "_Plan | None":
    """What is to be asked of a column, now that its range is known."""
    if numbers is None or not numbers.quantiles or numbers.least is None or numbers.most is None:
        return None
    q1, q3 = numbers.quantiles[2], numbers.quantiles[4]
    spread = q3 - q1
    fences = (q1 - 1.5 * spread, q3 + 1.5 * spread) if 0 < spread < math.inf else None
    distant = None
    if numbers.mean is not None and numbers.deviation:
        distant = (numbers.mean - 3 * numbers.deviation, numbers.mean + 3 * numbers.deviation)
    least, most = numbers.least, numbers.most
    low, high = least, most
    if fences is not None:
        low, high = max(low, q1 - _NO_EDGE * spread), min(high, q3 + _NO_EDGE * spread)
    is_cut = low > least or high < most
    unit = column.unit
    if unit and high - low < 4 * BINS * unit:
        # What comes in whole steps falls into bins of whole steps, or every second bin would be higher.
        low, high = math.ceil(low / unit), math.floor(high / unit)
        step = max(1, math.ceil((high - low + 1) / BINS))
        bins = max(1, math.ceil((high - low + 1) / step))
        start = low * unit if column.kind == "moment" else low - 0.5
        return _Plan(column, float(start), float(step * unit), bins, least, most, is_cut, fences, distant)
    width = high / BINS - low / BINS
    return _Plan(column, low, width, BINS if width > 0 else 0, least, most, is_cut, fences, distant)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the numbers of a column are sorted into bins, and which of them are outliers."""

    column: Measured
    low: float
    width: float
    bins: int
    least: float
    most: float
    is_cut: bool
    fences: tuple[float, float] | None
    distant: tuple[float, float] | None

    def key(self) -> str:
        """A whole number for each number: its bin, and whether it is outside of the fences and far from the mean."""
        x = self.column.x
        bin_sql = "1"
        if self.bins:
            # A cast rounds. What comes in whole steps must not lie on the edge between two bins.
            shift = self.column.unit / 2 if self.column.unit and self.column.kind == "moment" else 0.0
            bin_sql = f"{x} * {1 / self.width!r}::DOUBLE + {0.5 - (self.low - shift) / self.width!r}::DOUBLE"
            # Each question costs as much as the bin itself: only what can be so is asked.
            if self.is_cut:
                last = f"{self.bins} + CAST({x} > {self._edge(self.bins)!r}::DOUBLE AS SMALLINT)"
                bin_sql = f"greatest({_BELOW}, least({last}, {bin_sql}))"
        flags = [
            _outside(x, limits, flag) for limits, flag in ((self.fences, _OUTSIDE), (self.distant, _DISTANT)) if self._may_leave(limits)
        ]
        return f"CAST({' + '.join([bin_sql, *flags])} AS SMALLINT)"

    def measures(self) -> list[str]:
        """Three measures: rows by key, zeros and negative numbers, as far as there can be any."""
        x, is_number = self.column.x, self.column.kind == "number"
        zeros = f"count(CASE WHEN {x} = 0 THEN 1 END)" if is_number and self.least <= 0 <= self.most else "0"
        negatives = f"count(CASE WHEN {x} < 0 THEN 1 END)" if is_number and self.least < 0 else "0"
        return [f"histogram({self.key()})", zeros, negatives]

    def _may_leave(self, limits: tuple[float, float] | None) -> bool:
        """Whether some number lies outside."""
        return limits is not None and all(map(math.isfinite, limits)) and (self.least < limits[0] or self.most > limits[1])

    def _edge(self, n: int) -> float:
        """The n-th edge; those of the largest numbers do not overflow."""
        edge = self.low + self.width * n
        return edge if math.isfinite(edge) else math.copysign(sys.float_info.max, edge)

    def read(self, row: tuple[Any, ...]) -> Second:
        """The answers."""
        counted: dict[int, int] = dict(row[0] or {})
        bins = [0] * (BINS + 2)
        for key, rows in counted.items():
            bins[key % _OUTSIDE] += rows
        histogram = None
        if self.bins:
            # What lies on the first or last edge may have been rounded out of its bin.
            if self._edge(0) <= self.least:
                bins[1], bins[_BELOW] = bins[1] + bins[_BELOW], 0
            if self._edge(self.bins) >= self.most:
                bins[self.bins], bins[self.bins + 1] = bins[self.bins] + bins[self.bins + 1], 0
            edges = tuple(self._edge(n) for n in range(self.bins + 1))
            histogram = Histogram(edges, tuple(bins[1 : self.bins + 1]), bins[_BELOW], bins[self.bins + 1])
        return Second(
            zeros=int(row[1]),
            negatives=int(row[2]),
            histogram=histogram,
            outliers_iqr=sum(rows for key, rows in counted.items() if key & _OUTSIDE) if self.fences else None,
            outliers_z=sum(rows for key, rows in counted.items() if key & _DISTANT) if self.distant else None,
            low_fence=self.fences[0] if self.fences else None,
            high_fence=self.fences[1] if self.fences else None,
        )


def _outside(x: str, limits: tuple[float, float] | None, flag: int) -> str:
    if limits is None:
        return "0"
    return f"{flag} * CAST({x} < {limits[0]!r}::DOUBLE OR {x} > {limits[1]!r}::DOUBLE AS SMALLINT)"
