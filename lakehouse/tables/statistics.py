"""A data file's statistics as Delta's log wants them, from what DuckDB's COPY returned.

A bound that is not certain is left out: a reader skips files by these, so a wrong bound loses rows, a missing one only time.
"""

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from deltalake.schema import PrimitiveType

from lakehouse.sql import quote_identifier
from lakehouse.tables.types import TableColumn

_MAX_TEXT = 64
_MAX_DECIMAL_DIGITS = 15
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?(\+00)?")
_MILLISECOND = timedelta(milliseconds=1)

Bound = int | float | str


def file_statistics(rows: int, returned: Mapping[str, Mapping[str, str]], columns: Sequence[TableColumn]) -> str:
    """The `stats` of an add action, as JSON.

    Args:
        rows: number of rows in the file.
        returned: DuckDB's `column_statistics`, by quoted column name.
        columns: the columns that are in the file (not those of its partition).
    """
    minimums: dict[str, Bound] = {}
    maximums: dict[str, Bound] = {}
    nulls: dict[str, int] = {}
    for column in columns:
        found = returned.get(quote_identifier(column.name))
        # A flat count for a nested column would make the whole table unreadable.
        if found is None or not isinstance(column.type, PrimitiveType):
            continue
        if "null_count" in found:
            nulls[column.name] = int(found["null_count"])
        if "min" not in found or "max" not in found or found.get("has_nan") == "true":
            continue
        lower = _bound(column.type.type, found["min"], is_upper=False)
        upper = _bound(column.type.type, found["max"], is_upper=True)
        if lower is not None and upper is not None:
            minimums[column.name], maximums[column.name] = lower, upper
    statistics = {"numRecords": rows, "minValues": minimums, "maxValues": maximums, "nullCount": nulls}
    return json.dumps(statistics, ensure_ascii=False, allow_nan=False)


def _bound(kind: str, text: str, *, is_upper: bool) -> Bound | None:
    if kind in ("byte", "short", "integer", "long"):
        return int(text)
    if kind in ("double", "float"):
        return _floating(text, is_short=kind == "float")
    if kind in ("timestamp", "timestamp_ntz"):
        return _timestamp(text, is_upper=is_upper, suffix="Z" if kind == "timestamp" else "")
    if kind.startswith("decimal"):
        return float(text) if sum(character.isdigit() for character in text) <= _MAX_DECIMAL_DIGITS else None
    is_sure = (kind == "string" and len(text) <= _MAX_TEXT) or (kind == "date" and _DATE.fullmatch(text) is not None)
    return text if is_sure else None


def _floating(text: str, *, is_short: bool) -> float | None:
    value = float(text)
    if not math.isfinite(value):
        return None
    # The shortest text of a 32-bit number is not the number: 0.1 is 0.100000001490116.
    return struct.unpack("f", struct.pack("f", value))[0] if is_short else value


def _timestamp(text: str, *, is_upper: bool, suffix: str) -> str | None:
    """Milliseconds is what Delta keeps: rounded down for a minimum, up for a maximum."""
    if not _TIMESTAMP.fullmatch(text):
        return None
    instant = datetime.fromisoformat(text.removesuffix("+00"))
    down = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
    if is_upper and down != instant:
        if down.year == 9999:
            return None
        down += _MILLISECOND
    return down.isoformat(timespec="milliseconds") + suffix
