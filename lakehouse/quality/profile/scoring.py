"""The quality score: the mean of five shares, each with the numbers it was computed from.

completeness  values that are there / values there could be
validity      rows accepted / rows read, times rows that break no rule about single values / rows; without a contract: values that can
              be what their column is for / values
uniqueness    different keys / rows; without a key: rows that repeat no other row / rows
consistency   rows that break no rule across values / rows, times texts written in one way / texts
timeliness    1 as long as the newest rows are younger than the contract promises, then promise / age

What can't be judged is left out of the mean and says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lakehouse.contracts import DatasetContract
from lakehouse.quality.profile.facts import ColumnFacts, Dimension, Duplicates, Freshness, Profile

DIMENSIONS = ("completeness", "validity", "uniqueness", "consistency", "timeliness")
_UNITS = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "w": 604800.0,
    "wk": 604800.0,
    "week": 604800.0,
    "m": 2629746.0,
    "mo": 2629746.0,
    "month": 2629746.0,
    "y": 31556952.0,
    "yr": 31556952.0,
    "year": 31556952.0,
}
_PROMISES = ("freshness", "fy", "latency", "ly", "frequency", "fr")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the score knows beyond the columns: rows ever read and accepted, and rows that break the contract's rules."""

    rows_read: int | None = None
    rows_accepted: int | None = None
    broken_values: int | None = None
    broken_rows: int | None = None
    rules_asked: int = 0


def promised(contract: DatasetContract | None) -> Freshness:
    """How soon new rows come, by the contract's service levels: freshness, latency or frequency."""
    levels = contract.document.get("slaProperties") if contract is not None else None
    found: dict[str, Freshness] = {}
    for level in levels if isinstance(levels, list) else []:
        if not isinstance(level, dict):
            continue
        name, value, unit = str(level.get("property", "")).lower(), level.get("value"), str(level.get("unit", "d")).lower()
        # A capital M is no month to anybody; `months` is `month`.
        seconds = _UNITS.get(unit) or _UNITS.get(unit.rstrip("s"))
        if name in _PROMISES and isinstance(value, int | float) and value > 0 and seconds:
            found.setdefault(
                name, Freshness(None, float(value) * seconds, f"{name} of {in_words(timedelta(seconds=float(value) * seconds))}")
            )
    return next((found[name] for name in _PROMISES if name in found), Freshness())


def judge(
    columns: Sequence[ColumnFacts], duplicates: Duplicates, evidence: Evidence, freshness: Freshness, *, rows: int, now: datetime
) -> tuple[Dimension, ...]:
    """The five dimensions, in their order."""
    return (
        _completeness(columns, rows),
        _validity(columns, evidence, rows),
        _uniqueness(duplicates, rows),
        _consistency(columns, evidence, rows),
        timeliness(freshness, now=now),
    )


def as_of(profile: Profile, now: datetime) -> Profile:
    """The profile as it is to be read now: data that does not change gets older all the same."""
    dimensions = tuple(timeliness(profile.freshness, now=now) if one.name == "timeliness" else one for one in profile.dimensions)
    return replace(profile, dimensions=dimensions)


def _completeness(columns: Sequence[ColumnFacts], rows: int) -> Dimension:
    possible = rows * len(columns)
    if not possible:
        return Dimension("completeness", None, "not judged: there are no rows")
    values = sum(one.values for one in columns)
    return Dimension(
        "completeness", values / possible, f"{values:,} of {possible:,} values are there ({len(columns):,} columns, {rows:,} rows)"
    )


def _validity(columns: Sequence[ColumnFacts], evidence: Evidence, rows: int) -> Dimension:
    parts: list[str] = []
    value = 1.0
    if evidence.rows_read:
        value *= (evidence.rows_accepted or 0) / evidence.rows_read
        parts.append(f"{evidence.rows_accepted:,} of {evidence.rows_read:,} rows that were read were accepted")
    if evidence.broken_values is not None and rows:
        value *= 1 - evidence.broken_values / rows
        parts.append(f"{rows - evidence.broken_values:,} of {rows:,} rows break no rule about single values")
    if not parts:
        values, invalid = sum(one.values for one in columns), sum(one.invalid for one in columns)
        if not values:
            return Dimension("validity", None, "not judged: there are no values")
        value = 1 - invalid / values
        parts.append(
            f"{values - invalid:,} of {values:,} values can be what their column is for (no NaN, no words for “no value”, of the type)"
        )
    return Dimension("validity", value, "; ".join(parts))


def _uniqueness(duplicates: Duplicates, rows: int) -> Dimension:
    if not rows:
        return Dimension("uniqueness", None, "not judged: there are no rows")
    key = duplicates.key
    if key is not None:
        name = " + ".join(key.columns)
        return Dimension("uniqueness", key.distinct / rows, f"{key.distinct:,} different {name} in {rows:,} rows")
    about = "" if duplicates.exact else "about "
    return Dimension(
        "uniqueness", 1 - duplicates.rows / rows, f"{about}{duplicates.rows:,} of {rows:,} rows repeat another one; there is no key"
    )


def _consistency(columns: Sequence[ColumnFacts], evidence: Evidence, rows: int) -> Dimension:
    parts: list[str] = []
    value = 1.0
    if evidence.broken_rows is not None and rows:
        value *= 1 - evidence.broken_rows / rows
        parts.append(f"{rows - evidence.broken_rows:,} of {rows:,} rows break no rule across values")
    texts = [(one, one.texts) for one in columns if one.kind == "text" and one.texts is not None and one.values and not one.hidden]
    total = sum(one.values for one, _ in texts)
    if total:
        odd = sum(max(facts.variants * one.values, float(facts.blank_edges)) for one, facts in texts)
        value *= 1 - min(odd / total, 1.0)
        parts.append(f"{1 - min(odd / total, 1.0):.2%} of {total:,} texts are written in one way (case and blanks)")
    if not parts:
        return Dimension("consistency", None, "not judged: no texts, and no rule across values")
    return Dimension("consistency", value, "; ".join(parts))


def timeliness(freshness: Freshness, *, now: datetime) -> Dimension:
    """1 while the newest rows are as young as promised, then promise / age."""
    if freshness.superseded:
        return Dimension("timeliness", None, "not judged: a later version has come")
    if freshness.promise_s is None or freshness.newest_at is None:
        why = (
            "the contract promises none (slaProperties: freshness or frequency)"
            if freshness.newest_at
            else "nobody knows when the rows came"
        )
        return Dimension("timeliness", None, f"not judged: {why}")
    age = max((now - freshness.newest_at).total_seconds(), 0.0)
    value = 1.0 if age <= freshness.promise_s else freshness.promise_s / age
    return Dimension("timeliness", value, f"the newest rows came {in_words(timedelta(seconds=age))} ago; promised is a {freshness.promise}")


def in_words(age: timedelta) -> str:
    """An age as people say it."""
    seconds = age.total_seconds()
    for size, name in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count:,} {name}{'' if count == 1 else 's'}"
    return "less than a minute"
