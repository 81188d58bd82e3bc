"""Instants as people write them."""

from datetime import UTC, datetime

from lakehouse.errors import LakehouseError


def parse_instant(text: str, *, subject: str, error: type[LakehouseError], expected: str, fix: str | None = None) -> datetime:
    """The instant, in UTC; one without an offset is UTC.

    Args:
        text: as it was written, in ISO 8601.
        subject: what it was written for.
        error: what is raised where it is none.
        expected: how one is written.
        fix: what to do.

    Raises:
        LakehouseError: of the class `error`: it is no instant, or in UTC none of the years 1 to 9999.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as problem:
        raise error(subject, "is no instant", expected=expected, found=text, fix=fix) from problem
    try:
        return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except OverflowError as problem:
        years = "a year from 1 to 9999 in UTC"
        raise error(subject, "is an instant before or after all that can be told", expected=years, found=text, fix=fix) from problem
