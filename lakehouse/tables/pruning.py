"""Which files of a version can have certain rows, by the bounds that the log has of them; one without bounds can have any."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from lakehouse.tables.snapshot import DataFile

# Some engines cut a timestamp's upper bound to milliseconds.
_SLACK = timedelta(milliseconds=1)


def may_hold(file: DataFile, bounds: Mapping[str, tuple[Any, Any]]) -> bool:
    """False if no row of the file can have a key between the lowest and the highest of each column."""
    for name, (lowest, highest) in bounds.items():
        low, high = bounds_of(file, name)
        if low is None or high is None or type(low) is not type(lowest) or type(high) is not type(highest):
            continue
        if low > highest or high < lowest:
            return False
    return True


def may_hold_one(file: DataFile, name: str, values: Sequence[Any]) -> bool:
    """False if no row of the file can have one of these values, which are sorted, in a column."""
    low, high = bounds_of(file, name)
    if low is None or high is None or not values or not type(low) is type(high) is type(values[0]):
        return bool(values)
    place = bisect_left(values, low)
    return place < len(values) and bool(values[place] <= high)


def may_reach(file: DataFile, names: Sequence[str], instant: datetime) -> bool:
    """False if in none of these columns a row of the file can be at the instant, which is in UTC, or later."""
    for name in names:
        high = bounds_of(file, name)[1]
        if isinstance(high, date) and not isinstance(high, datetime):
            high = datetime(high.year, high.month, high.day)
        if not isinstance(high, datetime) or high >= instant.replace(tzinfo=None):
            return True
    return not names


def bounds_of(file: DataFile, name: str) -> tuple[Any, Any]:
    """The lowest and the highest value that a column of a file can have, None where nobody says; instants without their zone."""
    if f"partition.{name}" in file.facts:
        value = _comparable(file.facts[f"partition.{name}"])
        return value, value
    low, high = (_comparable(file.facts.get(f"{kind}.{name}")) for kind in ("min", "max"))
    return low, high + _SLACK if isinstance(high, datetime) and high.year < 9999 else high


def _comparable(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value
