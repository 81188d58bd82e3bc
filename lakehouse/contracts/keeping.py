"""How long a contract lets rows be kept, and whose consent they need."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from lakehouse.contracts.document import custom_properties
from lakehouse.contracts.objects import DatasetContract
from lakehouse.errors import ContractError

# The longest that each unit can be: nothing goes before its time.
_DAYS = {
    "d": 1,
    "day": 1,
    "days": 1,
    "w": 7,
    "week": 7,
    "weeks": 7,
    "m": 31,
    "month": 31,
    "months": 31,
    "y": 366,
    "year": 366,
    "years": 366,
}
_ENFORCED = "retention"
_CONSENT = "consent"
_WITHDRAWN = ("false", "no", "0", "withdrawn")


@dataclass(frozen=True, slots=True)
class Retention:
    """Rows go when the value of `column` is older than `days`."""

    column: str
    days: int

    def cutoff(self, now: datetime) -> datetime:
        """What is older goes."""
        return now - timedelta(days=self.days)


@dataclass(frozen=True, slots=True)
class Consent:
    """A dataset of consents: `subject` is erased when the newest row's `column` is one of the values in `withdrawn`."""

    column: str
    subject: str
    withdrawn: tuple[str, ...]


def retention_of(contract: DatasetContract) -> Retention | None:
    """The period that the contract has enforced: an ODCS retention and `lakehouse.retention: enforce`; None where it does not.

    Raises:
        ContractError: the period is no period, or nothing says how old a row is.
    """
    word = custom_properties(contract.document).get(_ENFORCED)
    if word is None or word == "inform":
        return None
    subject = f"contract {contract.name}"
    if word != "enforce":
        raise ContractError(subject, "has an unknown lakehouse.retention", expected="enforce or inform", found=str(word))
    listed = cast("list[dict[str, Any]]", contract.document.get("slaProperties") or [])
    stated = next((one for one in listed if str(one.get("property", "")).lower() == "retention"), None)
    if stated is None:
        raise ContractError(subject, "enforces a retention that it does not state", expected="slaProperties: property retention")
    unit, value = str(stated.get("unit", "d")).lower(), stated.get("value")
    if unit not in _DAYS or isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ContractError(
            subject, "has a retention that is no period", expected=f"a number and one of {', '.join(_DAYS)}", found=f"{value} {unit}"
        )
    element = str(stated.get("element") or "").rpartition(".")[2] or contract.event_timestamp
    if not element:
        raise ContractError(
            subject, "does not say how old a row is", fix="Name the column as `element` of the retention, or an eventTimestamp"
        )
    column = contract.column(element)
    if column.protected or not column.sql_type.startswith(("DATE", "TIMESTAMP")):
        raise ContractError(
            f"{subject}, column {column.name}", "can't tell how old a row is", expected="a date or timestamp", found=column.sql_type
        )
    return Retention(column.name, int(-(-value * _DAYS[unit] // 1)))


def consent_of(contract: DatasetContract) -> Consent | None:
    """The consents that the dataset holds (`lakehouse.consent: {column: ..., subject: ...}`); None if it holds none.

    Raises:
        ContractError: a column is missing.
    """
    stated = custom_properties(contract.document).get(_CONSENT)
    if stated is None:
        return None
    if not isinstance(stated, Mapping) or not {"column", "subject"} <= set(stated):
        raise ContractError(f"contract {contract.name}", "has an incomplete lakehouse.consent", expected="{column: ..., subject: ...}")
    names = cast("Mapping[str, Any]", stated)
    column, subject = (contract.column(str(names[name])).name for name in ("column", "subject"))
    words = names.get("withdrawn", _WITHDRAWN)
    withdrawn = tuple(str(word).lower() for word in (words if isinstance(words, list | tuple) else [words]))
    return Consent(column, subject, withdrawn)
