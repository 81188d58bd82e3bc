"""DuckDB's types and Delta's, and what may be written into what."""

import re
from dataclasses import dataclass

from deltalake import Field, Schema
from deltalake.schema import ArrayType, DataType, MapType, PrimitiveType, StructType
from duckdb.sqltypes import DuckDBPyType

from lakehouse.sql import quote_identifier

EVERYWHERE = {"lakehouse.everywhere": "true"}
"""Field metadata of a column that every data file has: it was there when the table was created or last replaced."""

# Delta has no unsigned or huge integers, no UUID, TIME, INTERVAL, ENUM, BIT, JSON or UNION.
_FROM_DUCKDB = {
    "boolean": "boolean",
    "tinyint": "byte",
    "smallint": "short",
    "integer": "integer",
    "bigint": "long",
    "utinyint": "short",
    "usmallint": "integer",
    "uinteger": "long",
    "ubigint": "decimal(20,0)",
    "hugeint": "decimal(38,0)",
    "uhugeint": "decimal(38,0)",
    "float": "float",
    "double": "double",
    "varchar": "string",
    "enum": "string",
    "uuid": "string",
    "time": "string",
    "time_ns": "string",
    "time with time zone": "string",
    "interval": "string",
    "bit": "string",
    "bignum": "string",
    "union": "string",
    "null": "string",
    "sqlnull": "string",
    '"null"': "string",
    "blob": "binary",
    "date": "date",
    "timestamp": "timestamp_ntz",
    "timestamp_s": "timestamp_ntz",
    "timestamp_ms": "timestamp_ntz",
    "timestamp_ns": "timestamp_ntz",
    "timestamp with time zone": "timestamp",
}
_TO_DUCKDB = {
    "boolean": "BOOLEAN",
    "byte": "TINYINT",
    "short": "SMALLINT",
    "integer": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
    "timestamp_ntz": "TIMESTAMP",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}
_INTEGER_DIGITS = {"byte": 3, "short": 5, "integer": 10, "long": 19}
_DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")
# Each goes into the next without loss; an integer's way into decimals depends on the digits.
_WIDER = {
    "byte": {"short", "integer", "long", "float", "double"},
    "short": {"integer", "long", "float", "double"},
    "integer": {"long", "double"},
    "float": {"double"},
    "date": {"timestamp_ntz"},
}
_NAME_REFUSED = re.compile(r"[ ,;{}()\n\t=]")


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column: its name, its Delta type and whether NULL may be in it."""

    name: str
    type: DataType
    is_nullable: bool = True
    is_everywhere: bool = False

    @property
    def sql_type(self) -> str:
        """The DuckDB type it reads as."""
        return sql_type(self.type)

    @property
    def key(self) -> str:
        """What names are compared by: DuckDB and Delta tell no case apart."""
        return self.name.casefold()

    def field(self, *, is_everywhere: bool) -> Field:
        """The column in a Delta schema."""
        return Field(self.name, self.type, nullable=self.is_nullable, metadata=dict(EVERYWHERE) if is_everywhere else None)


def delta_type(duck: DuckDBPyType) -> DataType:
    """The Delta type that values of a DuckDB type are stored as.

    Raises:
        ValueError: Delta has no such type and no text form is agreed on.
    """
    kind = duck.id
    if kind == "decimal":
        options = dict(duck.children)
        return PrimitiveType(f"decimal({options['precision']},{options['scale']})")
    if kind in ("list", "array"):
        return ArrayType(delta_type(_child(duck, "child")), contains_null=True)
    if kind == "map":
        return MapType(delta_type(_child(duck, "key")), delta_type(_child(duck, "value")), value_contains_null=True)
    if kind == "struct":
        return StructType([Field(name, delta_type(_typed(child)), nullable=True) for name, child in duck.children])
    name = _FROM_DUCKDB.get(kind)
    if name is None:
        raise ValueError(f"Delta has no type for {duck}")
    return PrimitiveType(name)


def _child(duck: DuckDBPyType, name: str) -> DuckDBPyType:
    return _typed(dict(duck.children)[name])


def _typed(child: object) -> DuckDBPyType:
    if not isinstance(child, DuckDBPyType):
        raise TypeError(f"expected a type, found {child!r}")
    return child


def sql_type(delta: DataType) -> str:
    """The DuckDB type that a Delta type is read as, written as DuckDB writes it."""
    if isinstance(delta, ArrayType):
        return f"{sql_type(delta.element_type)}[]"
    if isinstance(delta, MapType):
        return f"MAP({sql_type(delta.key_type)}, {sql_type(delta.value_type)})"
    if isinstance(delta, StructType):
        return "STRUCT(" + ", ".join(f"{quote_identifier(field.name)} {sql_type(field.type)}" for field in delta.fields) + ")"
    return _TO_DUCKDB.get(delta.type) or delta.type.upper()


def is_nested(delta: DataType) -> bool:
    """True for what has values inside values: such a column carries no flat statistics."""
    return not isinstance(delta, PrimitiveType)


def has_local_timestamp(delta: DataType) -> bool:
    """True if a timestamp without zone is in it, which a table must declare as a feature."""
    if isinstance(delta, ArrayType):
        return has_local_timestamp(delta.element_type)
    if isinstance(delta, MapType):
        return has_local_timestamp(delta.key_type) or has_local_timestamp(delta.value_type)
    if isinstance(delta, StructType):
        return any(has_local_timestamp(field.type) for field in delta.fields)
    return delta.type == "timestamp_ntz"


def fits(source: DataType, target: DataType) -> bool:
    """True if every value of `source` can be written into a column of type `target` without loss."""
    if isinstance(source, PrimitiveType) and isinstance(target, PrimitiveType):
        return source.type == target.type or target.type in _WIDER.get(source.type, ()) or _fits_decimal(source.type, target.type)
    if isinstance(source, ArrayType) and isinstance(target, ArrayType):
        return fits(source.element_type, target.element_type)
    if isinstance(source, MapType) and isinstance(target, MapType):
        return fits(source.key_type, target.key_type) and fits(source.value_type, target.value_type)
    if isinstance(source, StructType) and isinstance(target, StructType):
        inside = {field.name: field.type for field in target.fields}
        return {field.name for field in source.fields} == set(inside) and all(
            fits(field.type, inside[field.name]) for field in source.fields
        )
    return False


def _fits_decimal(source: str, target: str) -> bool:
    wide = _DECIMAL.fullmatch(target)
    if wide is None:
        return False
    precision, scale = int(wide[1]), int(wide[2])
    if source in _INTEGER_DIGITS:
        return precision - scale >= _INTEGER_DIGITS[source]
    narrow = _DECIMAL.fullmatch(source)
    return narrow is not None and scale >= int(narrow[2]) and precision - scale >= int(narrow[1]) - int(narrow[2])


def refused_names(name: str, delta: DataType) -> list[str]:
    """The name and the names inside the type that Delta does not take."""
    refused = [name] if not name or _NAME_REFUSED.search(name) else []
    if isinstance(delta, StructType):
        for field in delta.fields:
            refused += [f"{name}.{inner}" for inner in refused_names(field.name, field.type)]
    elif isinstance(delta, ArrayType):
        refused += refused_names("element", delta.element_type)
    elif isinstance(delta, MapType):
        refused += refused_names("key", delta.key_type) + refused_names("value", delta.value_type)
    return refused


def columns_of(schema: Schema) -> list[TableColumn]:
    """A table's columns in their order."""
    return [
        TableColumn(field.name, field.type, field.nullable, is_everywhere=field.metadata.get("lakehouse.everywhere") == "true")
        for field in schema.fields
    ]
