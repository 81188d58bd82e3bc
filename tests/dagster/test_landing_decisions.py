"""What the landing sensor decides, without files and runs."""

from dataclasses import replace

import dagster as dg
import pytest

from sensors.landing import FILES_TAG, MAX_ATTEMPTS, Attempt, decide, files_key

FAILED = Attempt("run-1", files_key(["a"]), dg.DagsterRunStatus.FAILURE)
CANCELED = replace(FAILED, status=dg.DagsterRunStatus.CANCELED)
SUCCEEDED = replace(FAILED, status=dg.DagsterRunStatus.SUCCESS)
STOPPED = replace(FAILED, stopped_by_check=True)


def requested(decision: dg.RunRequest | dg.SkipReason) -> dg.RunRequest:
    assert isinstance(decision, dg.RunRequest)
    return decision


def reason(decision: dg.RunRequest | dg.SkipReason) -> str:
    assert isinstance(decision, dg.SkipReason)
    return decision.skip_message or ""


def test_new_contents_start_a_run() -> None:
    request = requested(decide("survey", ["a", "b"], waiting=0, history=[], busy=None))
    assert request.run_key == f"survey:{files_key(['a', 'b'])}:0"
    assert request.tags[FILES_TAG] == files_key(["b", "a"])


def test_the_key_is_of_the_contents_alone() -> None:
    assert files_key(["a", "b"]) == files_key(["b", "a", "a"])
    assert files_key(["a"]) != files_key(["b"])


def test_a_failed_run_is_tried_again_under_another_key() -> None:
    first = requested(decide("survey", ["a"], waiting=0, history=[], busy=None))
    second = requested(decide("survey", ["a"], waiting=0, history=[FAILED], busy=None))
    assert first.run_key != second.run_key


def test_attempts_are_bounded_and_the_reason_names_the_last_run() -> None:
    text = reason(decide("survey", ["a"], waiting=0, history=[FAILED] * MAX_ATTEMPTS, busy=None))
    assert "run-1" in text
    assert "3 runs" in text


@pytest.mark.parametrize("last", [FAILED, CANCELED])
def test_a_run_that_failed_after_ingesting_is_finished(last: Attempt) -> None:
    request = requested(decide("survey", [], waiting=0, history=[last], busy=None))
    assert request.tags[FILES_TAG] == last.files
    assert (request.run_key or "").endswith(":1")


@pytest.mark.parametrize("history", [[SUCCEEDED], [SUCCEEDED, FAILED], [STOPPED], [FAILED] * MAX_ATTEMPTS])
def test_what_is_done_or_stopped_by_a_check_is_not_repeated(history: list[Attempt]) -> None:
    reason(decide("survey", [], waiting=0, history=history, busy=None))


def test_new_files_are_taken_whatever_happened_before() -> None:
    request = requested(decide("survey", ["b"], waiting=0, history=[FAILED] * MAX_ATTEMPTS, busy=None))
    assert (request.run_key or "").endswith(":0")


def test_rows_that_a_command_changed_are_followed_after_new_files_and_a_bounded_number_of_times() -> None:
    assert requested(decide("survey", ["a"], changed="7", waiting=0, history=[], busy=None)).tags[FILES_TAG] == files_key(["a"])
    first = requested(decide("survey", [], changed="7", waiting=0, history=[STOPPED], busy=None))
    assert first.tags[FILES_TAG] == "raw@7"
    assert "changed beside Dagster; run run-9" in reason(decide("survey", [], changed="7", waiting=0, history=[], busy="run-9"))
    tried = [replace(FAILED, files="raw@7")] * MAX_ATTEMPTS
    assert "3 runs tried" in reason(decide("survey", [], changed="7", waiting=0, history=tried, busy=None))
    assert requested(decide("survey", [], changed="8", waiting=0, history=tried, busy=None)).tags[FILES_TAG] == "raw@8"


@pytest.mark.parametrize(
    ("digests", "waiting", "busy", "expected"),
    [([], 0, None, "No new file"), ([], 2, None, "2 still being written"), (["a"], 0, "run-9", "run-9 is in progress")],
)
def test_every_skip_says_why(digests: list[str], waiting: int, busy: str | None, expected: str) -> None:
    assert expected in reason(decide("survey", digests, waiting=waiting, history=[], busy=busy))
