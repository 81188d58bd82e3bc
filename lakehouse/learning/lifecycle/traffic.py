"""Which version answers for whom: the same one for the same entity, wherever it is asked, with nothing to be remembered.

An entity's place is a hash of its key and of the version that is rolled out, evenly spread over 0 to 100. The new version answers for
places below its share: who had it at 5 % has it at 25 %, and another rollout begins with other entities.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.sql import quote_identifier, quote_literal

_SEPARATOR = "\x1f"
_PLACES = 1 << 32


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who answers.

    Attributes:
        champion: the version in production.
        candidate: the version that is rolled out; None if there is none.
        share: percent of the entities that the candidate answers for.
        shadow: the candidate is asked for all entities, and its answers are only recorded.
    """

    model: str
    champion: str
    candidate: str | None = None
    share: float = 0.0
    shadow: bool = False

    @property
    def is_divided(self) -> bool:
        """Whether some entities get the candidate's answer."""
        return self.candidate is not None and self.share > 0


def place(traffic: Traffic, key: Sequence[object]) -> float:
    """Where an entity lies between 0 and 100; NULL (None) is an empty text in its key."""
    text = _SEPARATOR.join([_salt(traffic), *("" if one is None else str(one) for one in key)])
    return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8], 16) * 100 / _PLACES


def assigned(traffic: Traffic, key: Sequence[object]) -> str:
    """The version that answers for an entity.

    Args:
        traffic: who answers.
        key: the values of the entity's columns, in the contract's order, as texts or whole numbers.
    """
    if traffic.candidate is not None and place(traffic, key) < traffic.share:
        return traffic.candidate
    return traffic.champion


def assigned_sql(traffic: Traffic, key: Sequence[str]) -> str:
    """The same as an expression over the entity's columns."""
    if not traffic.is_divided:
        return quote_literal(traffic.champion)
    parts = [f"coalesce(CAST({quote_identifier(column)} AS VARCHAR), '')" for column in key]
    text = f" || chr({ord(_SEPARATOR)}) || ".join([quote_literal(_salt(traffic)), *parts])
    drawn = f"CAST('0x' || left(md5({text}), 8) AS UBIGINT) * 100.0::DOUBLE / {_PLACES}::DOUBLE"
    candidate, champion = quote_literal(traffic.candidate), quote_literal(traffic.champion)
    return f"CASE WHEN {drawn} < {float(traffic.share)!r}::DOUBLE THEN {candidate} ELSE {champion} END"


def _salt(traffic: Traffic) -> str:
    return f"{traffic.model}@{traffic.candidate}"
