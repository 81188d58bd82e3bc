"""The columns to be profiled: their kind, and the one name each has inside the queries, whatever it is called outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.quality.profile.facts import Kind
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

# Where a row came from is no property of what it says.
PROVENANCE = frozenset({"_batch", "_file", "_sha256", "_row", "_ingested_at", "_rescued"})
_NUMBERS = frozenset(
    """
    TINYINT SMALLINT INTEGER BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT UHUGEINT FLOAT DOUBLE DECIMAL BIGNUM
    """.split()
)
_FLOATS = frozenset({"FLOAT", "DOUBLE"})


@dataclass(frozen=True, slots=True)
class Measured:
    """One column on its way through the queries.

    Attributes:
        number: its place: in a query its value is `v<number>`, and `x<number>` its finite number or second since 1970.
        hidden: why its values stay out of sight; None if they may be seen.
    """

    number: int
    name: str
    type: str
    kind: Kind
    hidden: str | None = None

    @property
    def value(self) -> str:
        """The column's own value."""
        return f"v{self.number}"

    @property
    def x(self) -> str:
        """Its number."""
        return f"x{self.number}"

    @property
    def is_ordered(self) -> bool:
        """Whether it has a distribution along a line."""
        return self.kind in {"number", "moment"}

    @property
    def is_whole(self) -> bool:
        """Whether its numbers have no fraction."""
        return self.kind == "number" and self.type not in _FLOATS and not self.type.startswith("DECIMAL")

    @property
    def unit(self) -> float | None:
        """The step its numbers come in: 1, or the seconds of a day; None if they have none."""
        return 86400.0 if self.type == "DATE" else 1.0 if self.is_whole else None

    @property
    def is_float(self) -> bool:
        """Whether NaN and infinity may be among its numbers."""
        return self.type in _FLOATS

    def aliased(self) -> str:
        """Its value under the name of the queries."""
        return f"{quote_identifier(self.name)} AS {self.value}"

    def as_number(self) -> str:
        """SQL of its finite number over `value`."""
        if self.kind == "moment":
            return f"CASE WHEN isfinite({self.value}) THEN epoch({self.value}) END"
        number = f"CAST({self.value} AS DOUBLE)" if self.type != "BIGNUM" else f"TRY_CAST({self.value} AS DOUBLE)"
        return f"CASE WHEN isfinite({number}) THEN {number} END" if self.is_float or self.type == "BIGNUM" else number

    def as_text(self, limit: int) -> str:
        """SQL of the beginning of its text over `value`."""
        return f"left(CAST({self.value} AS VARCHAR), {limit})"


def kind_of(sql_type: str) -> Kind:
    """What can be said of values of a DuckDB type."""
    base = sql_type.upper().partition("(")[0].strip()
    if sql_type.endswith("]") or base in {"STRUCT", "MAP", "UNION", "VARIANT"}:
        return "nested"
    if base in _NUMBERS:
        return "number"
    if base == "DATE" or base.startswith("TIMESTAMP"):
        return "moment"
    if base == "BOOLEAN":
        return "boolean"
    return "bytes" if base in {"BLOB", "BIT"} else "text"


def columns_of(con: "duckdb.DuckDBPyConnection", relation: str, *, hidden: Mapping[str, str]) -> list[Measured]:
    """The columns of a relation that are its own, in order.

    Args:
        con: the connection that knows the relation.
        relation: what may stand after FROM.
        hidden: columns whose values must not be seen, with the reason.
    """
    described = con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    named = [(str(row[0]), str(row[1])) for row in described if row[0] not in PROVENANCE]
    return [Measured(n, name, kind, kind_of(kind), hidden.get(name)) for n, (name, kind) in enumerate(named)]


def parts(columns: Sequence[Measured], size: int = 24) -> list[Sequence[Measured]]:
    """The columns in slices: a query over hundreds of them plans for longer than it runs."""
    return [columns[start : start + size] for start in range(0, len(columns), size)]


def inner(relation: str, columns: Sequence[Measured]) -> str:
    """A subquery with `v<number>` of each column and `x<number>` of those that have an order."""
    if not columns:
        return f"(SELECT 1 FROM {relation})"
    values = f"(SELECT {', '.join(one.aliased() for one in columns)} FROM {relation})"
    numbers = [f"{one.as_number()} AS {one.x}" for one in columns if one.is_ordered]
    return f"(SELECT *, {', '.join(numbers)} FROM {values})" if numbers else values
