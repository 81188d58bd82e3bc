"""What a column's name says: a safe name for it, and whether it sounds like an identifier, a measure or a moment."""

import re
import unicodedata
from collections.abc import Iterable

from lakehouse.contracts.dataset import RESERVED_COLUMNS

_ID_WORDS = frozenset(
    """
    id ids key sha sha1 sha256 md5 hash uuid guid code ref reference sku serial identifier pk isbn ean iban vin
    folio clave
    """.split()
)
_COUNTED = frozenset({"no", "nr", "num", "number", "nbr"})
# Words that merely end in "id".
_NOT_IDS = frozenset(
    """
    paid valid invalid grid humid said void bid kid covid solid liquid rapid android unpaid prepaid avoid fluid
    acid aid mid raid
    """.split()
)
_PARTS_OF_A_KEY = frozenset(
    """
    order seq sequence line item position pos step version rank wave round visit year month week quarter period
    date day hog member plot
    """.split()
)
_MEASURES = frozenset(
    """
    price amount cost rate idx index pct percent percentage ratio income salary wage weight score avg mean average
    total charges charge fee tax balance value lat latitude lon lng long longitude duration distance km hectares
    area length width height temperature temp revenue sales expenditure expense exp spend budget share probability
    prob std var variance norm density size volume speed altitude accuracy factor margin discount interest euribor
    paid payment debt loan usd eur gbp
    """.split()
)
_WHO = frozenset(
    """
    customer user client patient household person member account device store employee student subscriber visitor
    shop company farm farmer respondent author driver vendor supplier merchant hh machine sensor station vehicle
    """.split()
)


# Letters that have no accent to take off.
_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "đ": "d", "Đ": "D", "ł": "l", "Ł": "L"})


def words(name: str) -> tuple[str, ...]:
    """The words of a name: customerID, customer_id and "Customer Id" are all (customer, id)."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", spaced)
    return tuple(word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word)


def safe_names(names: Iterable[str]) -> list[str]:
    """One snake_case name for each name, in order: lower-case ASCII, unique, never reserved."""
    result: list[str] = []
    taken: set[str] = set(RESERVED_COLUMNS)
    for position, name in enumerate(names, start=1):
        ascii_name = unicodedata.normalize("NFKD", name.translate(_LETTERS)).encode("ascii", "ignore").decode("ascii")
        base = "_".join(words(ascii_name))[:100].rstrip("_") or f"column_{position}"
        if base[0].isdigit():
            base = f"n_{base}"
        candidate, count = base, 1
        while candidate in taken:
            count += 1
            candidate = f"{base}_{count}"
        taken.add(candidate)
        result.append(candidate)
    return result


def safe_dataset_name(name: str) -> str:
    """A dataset's name made of any text."""
    return safe_names([name])[0]


def is_identifier(name: str) -> bool:
    """Whether the name says that values tell things apart: customer_id, InvoiceNo, sha, folioviv."""
    parts = words(name)
    if not parts:
        return False
    first, last = parts[0], parts[-1]
    if last in _COUNTED and len(parts) > 1:
        return True
    if first in _ID_WORDS or last in _ID_WORDS:
        return True
    return (last.endswith("id") and len(last) > 3 and last not in _NOT_IDS) or last.startswith(("folio", "clave"))


def is_key_part(name: str) -> bool:
    """Whether the name may complete an identifier to a key: a line number, a wave, a date."""
    return any(part in _PARTS_OF_A_KEY for part in words(name))


def is_measure(name: str) -> bool:
    """Whether the name says that values are amounts, for which decimals are to be expected later."""
    return any(part in _MEASURES for part in words(name))


def is_code(name: str) -> bool:
    """Whether digits under this name are no number: postal codes, phone numbers, invoice numbers."""
    parts = words(name)
    numbered = len(parts) > 1 and parts[-1] in {"code", "ref", "reference", "sku", "no", "nr", "number"}
    return numbered or any(part in _CODES for part in parts)


def names_somebody(name: str) -> bool:
    """Whether an identifier is about somebody or something that comes again: customer_id, household_id."""
    parts = words(name)
    return is_identifier(name) and (any(part in _WHO for part in parts) or any(parts[-1] == f"{who}id" for who in _WHO))


_CODES = frozenset(
    {"zip", "zipcode", "postal", "postcode", "postalcode", "plz", "fips", "phone", "telephone", "mobile", "iban", "ssn", "isbn", "ean"}
)
_BIRTH = frozenset({"birth", "birthdate", "birthday", "dob", "born"})
_MOMENTS = (
    (6, ("event", "occurred", "observed", "measured")),
    (5, ("submitted", "submission", "timestamp", "tstamp", "ts", "created", "collector", "transaction", "recorded", "logged", "authored")),
    (
        4,
        ("order", "ordered", "invoice", "interview", "purchase", "visit", "session", "survey", "payment", "contact", "posted", "committed"),
    ),
    (3, ("date", "time", "datetime", "day", "at", "when")),
    (2, ("start", "begin", "started")),
)
_NOT_MOMENTS = frozenset(
    {"etl", "updated", "modified", "expiry", "expires", "due", "end", "ended", "until", "derived", "sent", "deleted", "load", "loaded"}
)


def moment_score(name: str) -> int:
    """How much the name sounds like "when it happened"; negative for birth dates, ends and technical times."""
    parts = words(name)
    if any(part in _BIRTH for part in parts):
        return -10
    score = sum(points for points, sounds in _MOMENTS if any(part in sounds for part in parts))
    return score - (8 if any(part in _NOT_MOMENTS for part in parts) else 0)


def is_birth(name: str) -> bool:
    """Whether the name says date of birth."""
    return any(part in _BIRTH for part in words(name))
