"""The columns a model reads: their types come from the feature tables, and every frame it ever sees is made the same way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lakehouse.errors import ModelError
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

_NUMBERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
)
_INTEGERS = frozenset(kind for kind in _NUMBERS if kind.endswith("INT") or kind == "INTEGER")


class Kind(StrEnum):
    """What a feature's SQL type lets a model do with it."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature as its table declares it."""

    name: str
    sql_type: str
    kind: Kind

    @property
    def is_integer(self) -> bool:
        """Whether its values are whole numbers by type."""
        return self.sql_type.upper() in _INTEGERS


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """Features in model order. A frame made by it has float64 for numbers and booleans, UTC microseconds for times, and text."""

    features: tuple[Feature, ...]

    @classmethod
    def of(cls, types: Mapping[str, str]) -> "FeatureSchema":
        """The schema of columns with these DuckDB types; columns of nested or binary type can't be features.

        Raises:
            ModelError: none of the columns can be a feature.
        """
        features = [Feature(name, kind, _kind(kind)) for name, kind in types.items() if is_usable(kind)]
        if not features:
            raise ModelError("features", "have no type a model can learn from", found=", ".join(f"{n} {t}" for n, t in types.items()))
        return cls(tuple(features))

    @classmethod
    def from_list(cls, recorded: Iterable[Mapping[str, Any]]) -> "FeatureSchema":
        """The schema a model was stored with."""
        return cls(tuple(Feature(str(one["name"]), str(one["sql_type"]), Kind(one["kind"])) for one in recorded))

    def as_list(self) -> list[dict[str, str]]:
        """What is stored with a model."""
        return [{"name": one.name, "sql_type": one.sql_type, "kind": one.kind.value} for one in self.features]

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in model order."""
        return tuple(one.name for one in self.features)

    def select_sql(self) -> str:
        """The select list that casts the features' columns to what a frame holds."""
        return ", ".join(f"{_cast(one)} AS {quote_identifier(one.name)}" for one in self.features)

    def fetch(
        self, con: "duckdb.DuckDBPyConnection", relation: str, *, order_by: Sequence[str] = (), extra: Sequence[str] = ()
    ) -> "pd.DataFrame":
        """The frame of a relation's rows, with `extra` columns (SQL) after the features.

        Args:
            con: a session.
            relation: SQL that can stand after FROM.
            order_by: columns that fix the order of the rows.
            extra: select items beside the features.
        """
        order = f" ORDER BY {', '.join(quote_identifier(column) for column in order_by)}" if order_by else ""
        listed = ", ".join([self.select_sql(), *extra])
        found = con.execute(f"SELECT {listed} FROM {relation}{order}").to_arrow_table().to_pandas()
        rest = [column for column in found.columns if column not in set(self.names)]
        frame = self.frame(found)
        for column in rest:
            frame[column] = found[column]
        return frame

    def frame(self, rows: "pd.DataFrame | Mapping[str, Sequence[Any]]") -> "pd.DataFrame":
        """Exactly the model's columns, typed: missing numbers are NaN, missing text is empty, a missing column is all missing.

        Raises:
            ModelError: a value is not of its feature's type.
        """
        import pandas as pd

        given = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(dict(rows))
        columns = {one.name: _typed(one, given) for one in self.features}
        return pd.DataFrame(columns, index=given.index)


def is_usable(sql_type: str) -> bool:
    """Whether a column of this DuckDB type can be a feature."""
    upper = sql_type.upper()
    return not (upper.endswith("]") or upper.startswith(("STRUCT", "MAP", "UNION", "BLOB", "BIT", "JSON", "INTERVAL")))


def _kind(sql_type: str) -> Kind:
    upper = sql_type.upper()
    if upper == "BOOLEAN":
        return Kind.BOOLEAN
    if upper in _NUMBERS or upper.startswith("DECIMAL") or upper == "TIME":
        return Kind.NUMBER
    return Kind.TIME if upper.startswith(("DATE", "TIMESTAMP")) else Kind.STRING


def _cast(feature: Feature) -> str:
    column = quote_identifier(feature.name)
    if feature.sql_type.upper() == "TIME":
        return f"epoch({column})"
    if feature.kind in (Kind.NUMBER, Kind.BOOLEAN):
        return f"CAST({column} AS DOUBLE)"
    return f"CAST({column} AS {'TIMESTAMP' if feature.kind is Kind.TIME else 'VARCHAR'})"


def _typed(feature: Feature, rows: "pd.DataFrame") -> "pd.Series":
    import numpy as np
    import pandas as pd

    values = rows[feature.name] if feature.name in rows.columns else pd.Series([None] * len(rows), index=rows.index, dtype=object)
    try:
        if feature.kind is Kind.STRING:
            return values.astype(object).where(values.notna(), "").astype(str).astype(object)
        if feature.kind is Kind.TIME:
            return pd.to_datetime(values, utc=True).dt.tz_localize(None).astype("datetime64[us]")
        numbers = pd.to_numeric(values.astype(object).where(values.notna(), np.nan)).astype("float64")
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"feature {feature.name}", "has a value of another type", expected=feature.sql_type, found=str(error)[:120]
        ) from error
    return numbers.where(np.isfinite(numbers), np.nan)
