"""What SQL text over tables is made of: quoted names and values, and DuckDB's names of Delta's types."""

from collections.abc import Iterable

from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables.types import delta_type, sql_type

__all__ = ["delta_type", "glob_escape", "quote_identifier", "quote_identifiers", "quote_literal", "sql_type"]

_GLOB = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})


def quote_identifiers(names: Iterable[str]) -> str:
    """The names as a comma-separated list of identifiers."""
    return ", ".join(quote_identifier(name) for name in names)


def glob_escape(path: str) -> str:
    """The path as DuckDB's file functions must see it to read this one file and no pattern."""
    return path.translate(_GLOB)
