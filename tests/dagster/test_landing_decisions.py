"""What the landing sensor decides, without files and runs."""

import dagster as dg
import pytest

from sensors.landing import FILES_TAG, MAX_ATTEMPTS, Attempt, decide, files_key

FAILED = Attempt("run-1", "FAILURE")


def requested(decision: dg.RunRequest | dg.SkipReason) -> dg.RunRequest:
    assert isinstance(decision, dg.RunRequest)
    return decision


def reason(decision: dg.RunRequest | dg.SkipReason) -> str:
    assert isinstance(decision, dg.SkipReason)
    return decision.skip_message or ""


def test_new_contents_start_a_run() -> None:
    request = requested(decide("survey", ["a", "b"], waiting=0, attempts=[], busy=None))
    assert request.run_key == f"survey:{files_key(['a', 'b'])}:0"
    assert request.tags[FILES_TAG] == files_key(["b", "a"])


def test_the_key_is_of_the_contents_alone() -> None:
    assert files_key(["a", "b"]) == files_key(["b", "a", "a"])
    assert files_key(["a"]) != files_key(["b"])


def test_a_failed_run_is_tried_again_under_another_key() -> None:
    first = requested(decide("survey", ["a"], waiting=0, attempts=[], busy=None))
    second = requested(decide("survey", ["a"], waiting=0, attempts=[FAILED], busy=None))
    assert first.run_key != second.run_key


def test_attempts_are_bounded_and_the_reason_names_the_last_run() -> None:
    text = reason(decide("survey", ["a"], waiting=0, attempts=[FAILED] * MAX_ATTEMPTS, busy=None))
    assert "run-1" in text
    assert "3 runs" in text


@pytest.mark.parametrize(
    ("digests", "waiting", "busy", "expected"),
    [([], 0, None, "No new file"), ([], 2, None, "2 still being written"), (["a"], 0, "run-9", "run-9 is in progress")],
)
def test_every_skip_says_why(digests: list[str], waiting: int, busy: str | None, expected: str) -> None:
    assert expected in reason(decide("survey", digests, waiting=waiting, attempts=[], busy=busy))
