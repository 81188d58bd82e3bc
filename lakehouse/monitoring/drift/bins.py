"""How a column is divided so that two sets of its values can be compared, and the one query that counts all columns of a table.

A number has bins between its reference's quantiles, a number of few values and a text one per value; what is missing has a bin of its
own, and so have all values that the reference hardly knows: among them a new category shows at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

Measure = Literal["number", "text", "length"]
OTHER = "other values"
MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Bins:
    """The bins of one column.

    Attributes:
        column: its name.
        measure: what is counted: its numbers, its texts, or how long its texts are, where nearly each differs.
        edges: upper ends, which belong to their bin; the last bin has none. Empty where there is a bin per value.
        coarse: places of those edges that matter for PSI: between many narrow bins it would measure chance.
        values: those with a bin of their own.
    """

    column: str
    measure: Measure
    edges: tuple[float, ...] = ()
    coarse: tuple[int, ...] = ()
    values: tuple[str | float, ...] = ()

    @property
    def has_intervals(self) -> bool:
        """Whether the bins have an order."""
        return bool(self.edges)

    @property
    def size(self) -> int:
        """How many counts there are: bins, the one for other values or above the last edge, and the one for what is missing."""
        return len(self.edges or self.values) + 2

    @property
    def labels(self) -> tuple[str, ...]:
        """What the coarse bins are called."""
        if not self.has_intervals:
            return (*(_shown(one) for one in self.values), OTHER, MISSING)
        ends = [_shown(self.edges[place]) for place in self.coarse]
        return (*(f"<= {end}" for end in ends), f"> {ends[-1]}" if ends else "any", MISSING)

    def coarsened(self, counts: Sequence[int]) -> tuple[int, ...]:
        """The counts of the bins that PSI is about."""
        if not self.has_intervals:
            return tuple(counts)
        starts = [0, *(place + 1 for place in self.coarse)]
        ends = [*starts[1:], len(counts) - 1]
        return (*(sum(counts[start:end]) for start, end in zip(starts, ends, strict=True)), counts[-1])

    def as_dict(self) -> dict[str, Any]:
        """As stored."""
        return {"column": self.column, "measure": self.measure, "edges": self.edges, "coarse": self.coarse, "values": self.values}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Bins":
        """As stored."""
        return cls(stored["column"], stored["measure"], *(tuple(stored[name]) for name in ("edges", "coarse", "values")))


def value_sql(column: str, measure: Measure) -> str:
    """What is counted of a column that holds DOUBLE or VARCHAR; NULL for what a model takes as missing: no number, no text."""
    name = quote_identifier(column)
    if measure == "number":
        # DuckDB's histogram would count NaN among the least.
        return f"CASE WHEN isfinite({name}) THEN {name} END"
    return f"nullif({name}, '')" if measure == "text" else f"CAST(length(nullif({name}, '')) AS DOUBLE)"


def count(con: "duckdb.DuckDBPyConnection", relation: str, bins: Iterable[Bins]) -> list[tuple[int, ...]]:
    """The counts of every column's bins, in one pass over a relation.

    Args:
        con: a session.
        relation: SQL that can stand after FROM; numbers are DOUBLE in it, texts VARCHAR.
        bins: of the columns.
    """
    asked = tuple(bins)
    if not asked:
        return []
    items = ["count(*)", *(item for one in asked for item in _items(one))]
    row = con.execute(f"SELECT {', '.join(items)} FROM {relation}").fetchone() or (0,)
    rows, maps, present = row[0], row[1::2], row[2::2]
    return [_counts(one, found or {}, present=filled, rows=rows) for one, found, filled in zip(asked, maps, present, strict=True)]


def _items(bins: Bins) -> tuple[str, str]:
    value = value_sql(bins.column, bins.measure)
    kind = "VARCHAR[]" if bins.measure == "text" else "DOUBLE[]"
    # As texts: DuckDB reads a number with a point as a DECIMAL first, and rounds it twice.
    ends = ", ".join(quote_literal(one if isinstance(one, str) else repr(one)) for one in bins.edges or bins.values)
    function = "histogram" if bins.has_intervals else "histogram_exact"
    return f"{function}({value}, [{ends}]::{kind})", f"count({value})"


def _counts(bins: Bins, found: Mapping[str | float, int], *, present: int, rows: int) -> tuple[int, ...]:
    named = [int(found.get(one, 0)) for one in bins.edges or bins.values]
    return (*named, present - sum(named), rows - present)


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
