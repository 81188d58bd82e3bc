"""Instants in options: one rule for all commands."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from lakehouse.errors import QueryError, TableError
from lakehouse.instants import parse_instant
from lakehouse.tables.tags import parse_point
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]
BEYOND = ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00+01:00", datetime(2026, 1, 31, 11, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_an_instant_is_told_in_utc(text: str, expected: datetime) -> None:
    found = parse_instant(text, subject="--at", error=QueryError, expected="one")
    assert (found, found.tzinfo) == (expected, UTC)
    assert parse_point(text) == expected


@pytest.mark.parametrize("text", [*BEYOND, "yesterday", "2026-02-30"])
def test_what_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(QueryError, match=r"--at: is") as caught:
        parse_instant(text, subject="--at", error=QueryError, expected="one", fix="Write one")
    assert (caught.value.found, caught.value.fix) == (text, "Write one")


@pytest.mark.parametrize("text", BEYOND)
def test_a_point_beyond_all_years_is_none(text: str) -> None:
    with pytest.raises(TableError, match="is no point in a table's history"):
        parse_point(text)


@pytest.mark.parametrize("text", BEYOND)
@pytest.mark.parametrize(
    "words",
    [
        ("profile", "raw.x", "--as-of"),
        ("query", "SELECT 1", "--as-of"),
        ("quarantine", "show", "household_survey", "--since"),
    ],
    ids=lambda words: words[0],
)
def test_no_command_stumbles(lakehouse: Run, words: tuple[str, ...], text: str) -> None:
    outcome = lakehouse(*words, f"raw.x@{text}" if words[0] == "query" else text)
    assert outcome.code == 2
    assert "unexpected" not in outcome.err
    assert text in outcome.err
