"""Whether the rows that are there, and those who read them, can live with another version of a contract."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lakehouse.contracts.objects import Column, DatasetContract, Rule, Severity
from lakehouse.errors import ContractError

_SEMVER = re.compile(r"(v?)(\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)", re.DOTALL)
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
# What every value of a type can become without loss in tables that are there already.
_WIDER: Mapping[str, frozenset[str]] = {
    "TINYINT": frozenset({"SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE"}),
    "SMALLINT": frozenset({"INTEGER", "BIGINT", "FLOAT", "DOUBLE"}),
    "INTEGER": frozenset({"BIGINT", "DOUBLE"}),
    "FLOAT": frozenset({"DOUBLE"}),
    "DATE": frozenset({"TIMESTAMP"}),
}
_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}


class Impact(StrEnum):
    """What a change asks of the version: a new major, a new minor, a new patch."""

    BREAKING = "breaking"
    COMPATIBLE = "compatible"
    EDITORIAL = "editorial"


@dataclass(frozen=True, slots=True)
class ContractChange:
    """One difference between two versions of a contract, and why it is breaking or not."""

    impact: Impact
    subject: str
    change: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.change}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Every difference between two versions of a contract.

    Attributes:
        needed: the least version that tells readers what to expect; None where nothing differs, or versions are not numbers.
        is_told: the newer version's number says as much as it has to.
    """

    before: str
    after: str
    changes: tuple[ContractChange, ...]
    needed: str | None
    is_told: bool

    @property
    def breaking(self) -> tuple[ContractChange, ...]:
        """The changes that rows or readers can't live with."""
        return tuple(change for change in self.changes if change.impact is Impact.BREAKING)

    @property
    def is_compatible(self) -> bool:
        """Existing rows and readers can live with the newer version."""
        return not self.breaking

    def as_dict(self) -> dict[str, Any]:
        """The comparison as the CLI prints it under --json."""
        return {
            "before": self.before,
            "after": self.after,
            "compatible": self.is_compatible,
            "needed": self.needed,
            "version_tells": self.is_told,
            "changes": [
                {"impact": str(one.impact), "subject": one.subject, "change": one.change, "reason": one.reason} for one in self.changes
            ],
        }


def compare(before: DatasetContract, after: DatasetContract) -> Compatibility:
    """What changed from one version of a dataset's contract to another."""
    changes = [*_columns(before, after), *_keys(before, after), *_rules(before, after)]
    if not changes and before.digest != after.digest:
        said = {key: value for key, value in before.document.items() if key != "version"}
        says = {key: value for key, value in after.document.items() if key != "version"}
        if said != says:
            changes.append(ContractChange(Impact.EDITORIAL, after.name, "other words, arrival or policy; the same rows"))
    order = list(Impact)
    ranked = sorted(changes, key=lambda change: order.index(change.impact))
    needed = next_version(before.version, ranked[0].impact) if ranked else None
    return Compatibility(before.version, after.version, tuple(ranked), needed, needed is None or _at_least(after.version, needed))


def next_version(version: str, impact: Impact) -> str | None:
    """The version after a change: major for a breaking one, minor for a compatible one; None where it is not a number."""
    numbers = _numbers(version)
    if numbers is None:
        return None
    prefix = "v" if version.startswith("v") else ""
    major, minor, patch = numbers
    if impact is Impact.BREAKING:
        return f"{prefix}{major + 1}.0.0"
    return f"{prefix}{major}.{minor + 1}.0" if impact is Impact.COMPATIBLE else f"{prefix}{major}.{minor}.{patch + 1}"


def checked_next_version(version: str, impact: Impact, *, subject: str) -> str:
    """As `next_version`.

    Raises:
        ContractError: the version is not a number.
    """
    following = next_version(version, impact)
    if following is None:
        raise ContractError(subject, "has a version that can't be counted up", expected="such as 1.0.0", found=version, fix="Write it so")
    return following


def widens(before: str, after: str) -> bool:
    """Whether every value of one DuckDB type is one of the other in a table that exists."""
    if before == after or after in _WIDER.get(before, ()):
        return True
    wide = _DECIMAL.fullmatch(after)
    if wide is None:
        return False
    room = int(wide[1]) - int(wide[2])
    narrow = _DECIMAL.fullmatch(before)
    if narrow is not None:
        return int(wide[2]) >= int(narrow[2]) and room >= int(narrow[1]) - int(narrow[2])
    return before in _DIGITS and room >= _DIGITS[before]


def _numbers(version: str) -> tuple[int, int, int] | None:
    found = _SEMVER.fullmatch(version.strip())
    if found is None or (found[5] and not found[5].startswith(("-", "+"))):
        return None
    return int(found[2]), int(found[3] or 0), int(found[4] or 0)


def _at_least(version: str, needed: str) -> bool:
    found, least = _numbers(version), _numbers(needed)
    return found is None or least is None or found >= least


def _columns(before: DatasetContract, after: DatasetContract) -> Iterator[ContractChange]:
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in after.columns}
    for name, column in old.items():
        if name not in new:
            yield ContractChange(Impact.BREAKING, name, "column removed", "readers of it find nothing in new rows")
        else:
            yield from _column(column, new[name])
    for name, column in new.items():
        if name not in old:
            if column.required:
                reason = "rows that are there have no value in it"
                yield ContractChange(Impact.BREAKING, name, f"required column added, {column.sql_type}", reason)
            else:
                yield ContractChange(Impact.COMPATIBLE, name, f"column added, {column.sql_type}", "rows that are there have NULL in it")


def _column(old: Column, new: Column) -> Iterator[ContractChange]:
    name = new.name
    if old.stored_type != new.stored_type:
        change = f"type {old.stored_type} is now {new.stored_type}"
        if widens(old.stored_type, new.stored_type):
            yield ContractChange(Impact.COMPATIBLE, name, change, "every value that is there fits")
        else:
            yield ContractChange(Impact.BREAKING, name, change, "rows that are there do not fit the new type, nor readers the new values")
    elif old.logical_type != new.logical_type:
        yield ContractChange(Impact.COMPATIBLE, name, f"logical type {old.logical_type} is now {new.logical_type}")
    if old.protection != new.protection:
        reason = "values of one kind do not match those of the other"
        yield ContractChange(Impact.BREAKING, name, f"protection {old.protection} is now {new.protection}", reason)
    if old.required and not new.required:
        yield ContractChange(Impact.BREAKING, name, "no longer required", "readers may count on a value in every row")
    if new.required and not old.required:
        yield ContractChange(Impact.BREAKING, name, "now required", "rows that are there may have no value in it")
    if old.unique and not new.unique:
        yield ContractChange(Impact.BREAKING, name, "no longer unique", "readers may count on one row per value")
    if new.unique and not old.unique:
        yield ContractChange(Impact.BREAKING, name, "now unique", "rows that are there may share a value")
    if (old.source, old.also_called) != (new.source, new.also_called):
        lost = {old.source, *old.also_called} - {new.source, *new.also_called, new.name}
        reason = f"files that call it {', '.join(sorted(lost))} lack it from now on" if lost else "files of both names are read"
        yield ContractChange(Impact.COMPATIBLE, name, f"in files it is called {new.source}", reason)
    reading = ("formats", "null_values", "decimal", "timezone", "trim", "may_be_missing")
    if old.sql_type == new.sql_type and any(getattr(old, one) != getattr(new, one) for one in reading):
        yield ContractChange(Impact.COMPATIBLE, name, "its text is read otherwise", "rows that are there stay as they were read")


def _keys(before: DatasetContract, after: DatasetContract) -> Iterator[ContractChange]:
    if before.primary_key != after.primary_key:
        change = f"key ({', '.join(before.primary_key) or 'none'}) is now ({', '.join(after.primary_key) or 'none'})"
        yield ContractChange(Impact.BREAKING, after.name, change, "staging keeps one row per key")
    if before.entity != after.entity or before.event_timestamp != after.event_timestamp:
        yield ContractChange(Impact.BREAKING, after.name, "entity or event time changed", "features and models are joined by them")


def _rules(before: DatasetContract, after: DatasetContract) -> Iterator[ContractChange]:
    was = {column.name: column for column in before.columns}
    now = {column.name: column for column in after.columns}
    added = now.keys() - was.keys()
    # What became of columns as a whole has been said; the rules about them went along.
    moved = (was.keys() - now.keys()) | {name for name in was.keys() & now.keys() if was[name].sql_type != now[name].sql_type}
    old, new = _asked(before), _asked(after)
    for name, rule in new.items():
        about = set(rule.columns)
        if about & moved or (about and about <= added):
            continue
        if name not in old:
            yield ContractChange(Impact.BREAKING, name, f"rule added: {rule.description}", "rows that are there may break it")
        elif old[name].valid_sql != rule.valid_sql:
            change = f"rule changed: {old[name].description} is now {rule.description}"
            if len(rule.columns) == 1 and _loosens(was[rule.columns[0]], now[rule.columns[0]], name):
                yield ContractChange(Impact.COMPATIBLE, name, change, "every row that is there passes")
            else:
                yield ContractChange(Impact.BREAKING, name, change, "rows that are there may break it")
    for name, rule in old.items():
        if name not in new and not set(rule.columns) & moved:
            yield ContractChange(Impact.COMPATIBLE, name, f"rule dropped: {rule.description}", "every row that is there passes")


def _asked(contract: DatasetContract) -> dict[str, Rule]:
    """Rules that decide on rows; those about columns as such are compared with the columns."""
    return {rule.id: rule for rule in contract.rules if rule.severity is Severity.ERROR and not rule.id.endswith((".required", ".type"))}


def _loosens(old: Column, new: Column, rule: str) -> bool:
    """Whether the changed bound or list of a column lets through all that the old one did."""
    option = rule.removeprefix(f"{new.name}.")
    if option == "enum":
        return {str(value) for value in old.allowed} <= {str(value) for value in new.allowed}
    low, high = old.options.get(option), new.options.get(option)
    if not (isinstance(low, int | float) and isinstance(high, int | float)):
        return False
    if option in {"minimum", "exclusiveMinimum", "minLength", "minItems"}:
        return high < low
    return option in {"maximum", "exclusiveMaximum", "maxLength", "maxItems"} and high > low
