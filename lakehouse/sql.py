"""Quoting: the only two ways a name or a value from outside gets into SQL text."""

from datetime import date, datetime
from decimal import Decimal


def quote_identifier(name: str) -> str:
    """The name as one DuckDB identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(value: str | float | Decimal | bool | date | datetime | None) -> str:  # noqa: PLR0911 - one line per type.
    """The value as one DuckDB literal; text can't end the literal early.

    Raises:
        ValueError: text holds a NUL character, which no SQL text can carry.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124
        return f"'{value}'::DOUBLE"
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, datetime):
        kind = "TIMESTAMP" if value.tzinfo is None else "TIMESTAMPTZ"
        return f"{kind} '{value.isoformat(sep=' ')}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if "\0" in value:
        raise ValueError("SQL text can't hold a NUL character")
    return "'" + value.replace("'", "''") + "'"
