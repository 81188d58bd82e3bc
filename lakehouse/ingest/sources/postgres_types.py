"""PostgreSQL's types as a page of a source table keeps them."""

import re
from dataclasses import dataclass

_KEPT = {
    "int2": "SMALLINT",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "oid": "BIGINT",
    "float4": "FLOAT",
    "float8": "DOUBLE",
    "bool": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
}
# Text that says all there is to say: bytes as \x and hexadecimal digits, intervals as ISO 8601.
_AS_TEXT = frozenset(
    "text varchar bpchar char name citext uuid json jsonb xml bytea time timetz interval bit varbit inet cidr macaddr macaddr8".split()
)
_NUMERIC = re.compile(r"^numeric\((\d+),(-?\d+)\)$")
_TIMES = frozenset({"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"})
_WHOLE = frozenset({"SMALLINT", "INTEGER", "BIGINT"})
_MOST_DIGITS = 38


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a source table.

    Attributes:
        declared: its type as PostgreSQL writes it.
        kept: DuckDB type that holds its values; None where nothing holds what they mean.
        as_json: PostgreSQL has to write it as JSON.
        is_readable: this user may select it.
    """

    name: str
    declared: str
    kept: str | None
    as_json: bool = False
    is_readable: bool = True

    @property
    def is_time(self) -> bool:
        """It tells a day or an instant."""
        return self.kept in _TIMES

    @property
    def can_be_watermark(self) -> bool:
        """Its values have an order and a distance."""
        return self.kept in _TIMES or self.kept in _WHOLE

    def unfit(self, text: str) -> str | None:
        """SQL over its values as text that is true for one that the type can't hold (NaN, infinity, a year before Christ)."""
        if self.kept is None or not (self.is_time or self.kept.startswith("DECIMAL")):
            return None
        tried = f"TRY_CAST({text} AS {self.kept})"
        fits = f"isfinite({tried})" if self.is_time else f"{tried} IS NOT NULL"
        return f"({text} IS NOT NULL AND NOT coalesce({fits}, false))"


def table_column(
    name: str, declared: str, *, type_name: str, category: str, kind: str, element: str | None, is_readable: bool
) -> TableColumn:
    """A column as the catalogue describes it.

    Args:
        name: the column's.
        declared: its type with its arguments, domains resolved.
        type_name: pg_type.typname.
        category: pg_type.typcategory; A is an array.
        kind: pg_type.typtype; e is an enum.
        element: typname of an array's elements.
        is_readable: this user may select it.
    """
    is_array = category == "A" and element is not None
    if is_array:
        holds = element in _KEPT or element in _AS_TEXT or element == "numeric"
        kept = "VARCHAR" if holds else None
    elif type_name == "numeric":
        kept = _decimal(declared)
    else:
        kept = _KEPT.get(type_name) or ("VARCHAR" if type_name in _AS_TEXT or kind == "e" else None)
    return TableColumn(name, declared, kept, as_json=is_array, is_readable=is_readable)


def _decimal(declared: str) -> str:
    """A number without a declared size can have more digits than any type: its text loses none."""
    found = _NUMERIC.match(declared)
    digits, scale = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
    return f"DECIMAL({digits},{scale})" if 0 < digits <= _MOST_DIGITS and 0 <= scale <= digits else "VARCHAR"
