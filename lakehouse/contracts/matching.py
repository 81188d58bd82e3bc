"""Which of a file's columns are the contract's."""

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.contracts.objects import Column, DatasetContract


@dataclass(frozen=True, slots=True)
class Matching:
    """Which of the file's columns are the contract's: text name by contract column, and what the contract does not know."""

    found: dict[str, str]
    missing: tuple[Column, ...]
    unknown: tuple[str, ...]


def match_columns(contract: DatasetContract, names: Sequence[str]) -> Matching:
    """Find the contract's columns in a file: by source, by earlier names, by name, then without regard to case and blanks."""
    exact = set(names)
    folded = {_folded(name): name for name in reversed(names)}
    found: dict[str, str] = {}
    missing: list[Column] = []
    for column in contract.columns:
        known = (column.source, *column.also_called, column.name)
        name = next((name for name in known if name in exact), None) or next(
            (folded[_folded(name)] for name in known if _folded(name) in folded), None
        )
        if name is None:
            missing.append(column)
        else:
            found[column.name] = name
    used = set(found.values())
    return Matching(found, tuple(missing), tuple(name for name in names if name not in used))


def _folded(name: str) -> str:
    return name.strip().casefold()
