"""When a contract's sources are looked at: a cron expression, checked before anybody runs by it."""

import re

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "weekday": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_PART = re.compile(r"(\*|\w+(?:-\w+)?)(?:/(\d+))?")
EXPECTED = "five fields of cron in UTC, such as 0 */4 * * *"


def is_cron(text: str) -> bool:
    """Whether a text is a cron expression of five fields: numbers, names, lists, ranges and steps."""
    fields = text.split()
    return len(fields) == len(_FIELDS) and all(_is_field(field, *known) for field, known in zip(fields, _FIELDS, strict=True))


def _is_field(text: str, name: str, lowest: int, highest: int) -> bool:
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if found is None or (found[2] is not None and int(found[2]) == 0):
            return False
        ends = [] if found[1] == "*" else [_number(end, name, lowest) for end in found[1].split("-")]
        if any(end is None or not lowest <= end <= highest for end in ends) or ends != sorted(end for end in ends if end is not None):
            return False
    return True


def _number(text: str, name: str, lowest: int) -> int | None:
    if text.isdecimal():
        return int(text)
    names = _NAMES.get(name, ())
    return names.index(text.lower()) + lowest if text.lower() in names else None
