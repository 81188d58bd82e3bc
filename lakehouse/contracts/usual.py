"""Limits of the statistical level that a contract pins: `lakehouse.usual`, of the dataset or of a column.

What is usual is learned from earlier batches. `{mean: [20, 60]}` takes the place of what was learned, `{mean: off}` asks no more.
"""

import math
from collections.abc import Mapping
from typing import Any

from lakehouse.contracts.objects import Column, Pin
from lakehouse.errors import ContractError

OF_DATASET = {
    "volume": "rows per file",
    "outlierRows": "share of rows that stand alone (isolation forest)",
}
OF_COLUMN = {
    "nullRate": "share of rows without a value",
    "mean": "mean of the numbers",
    "deviation": "their standard deviation",
    "iqr": "their interquartile range",
    "outliersZ": "share of numbers over 3 standard deviations from the earlier mean",
    "outliersIqr": "share of numbers over 1.5 interquartile ranges from the earlier quartiles",
    "newCategories": "share of rows of categories never seen before",
    "vanishedCategories": "number of usual categories without a row",
    "categoryShift": "largest change of a category's share",
}
_OF_NUMBERS = frozenset({"mean", "deviation", "iqr", "outliersZ", "outliersIqr"})
_OF_CATEGORIES = frozenset({"newCategories", "vanishedCategories", "categoryShift"})
_EXPECTED = "[low, high], {least: low}, {most: high} or off"
_ENDS = 2


def pins(given: Any, *, column: Column | None = None) -> dict[str, Pin]:
    """The pins of a dataset, or of a column.

    Raises:
        ContractError: a statistic is unknown there, or a limit is not written so; the subject is the statistic.
    """
    if given is None:
        return {}
    known = OF_DATASET if column is None else OF_COLUMN
    if not isinstance(given, Mapping):
        raise ContractError("usual", "is not written so", expected="{statistic: [low, high]}", found=str(given))
    found: dict[str, Pin] = {}
    for name, value in given.items():
        if name not in known:
            elsewhere = OF_COLUMN if column is None else OF_DATASET
            fix = f"Write it at {'the column' if column is None else 'the dataset'}" if name in elsewhere else "Correct the name"
            raise ContractError(f"usual.{name}", "is no statistic here", expected=f"one of {', '.join(known)}", found=str(name), fix=fix)
        if column is not None:
            _check_fits(str(name), column)
        found[str(name)] = _pin(str(name), value)
    return found


def _check_fits(name: str, column: Column) -> None:
    is_number = column.logical_type in {"integer", "number"} or (name == "mean" and column.logical_type == "boolean")
    if name in _OF_NUMBERS and (column.protected or not is_number):
        what = "is protected" if column.protected else f"is {column.logical_type}"
        raise ContractError(f"usual.{name}", "is a statistic of numbers", found=f"{column.name} {what}", fix="Remove it")
    if name in _OF_CATEGORIES and (column.protected or column.logical_type not in {"string", "boolean"}):
        what = "is protected" if column.protected else f"is {column.logical_type}"
        raise ContractError(f"usual.{name}", "is a statistic of categories", found=f"{column.name} {what}", fix="Remove it")


def _pin(name: str, value: Any) -> Pin:
    # YAML 1.1 editors write off as false.
    if value is False or value == "off":
        return Pin(is_off=True)
    ends: list[Any] = [None, None]
    if isinstance(value, list) and len(value) == _ENDS:
        ends = list(value)
    elif isinstance(value, Mapping) and value and set(value) <= {"least", "most"}:
        ends = [value.get("least"), value.get("most")]
    else:
        raise ContractError(f"usual.{name}", "is no limit", expected=_EXPECTED, found=str(value), fix="Correct it")
    if ends == [None, None] or any(
        one is not None and (isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one)) for one in ends
    ):
        raise ContractError(f"usual.{name}", "needs numbers", expected=_EXPECTED, found=str(value), fix="Correct it")
    low = -math.inf if ends[0] is None else float(ends[0])
    high = math.inf if ends[1] is None else float(ends[1])
    if low > high:
        raise ContractError(f"usual.{name}", "ends before it begins", expected="the lower limit first", found=str(value), fix="Swap them")
    return Pin(low, high)
