"""Every operation, killed each time it comes to a point; the tables are in a folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.crashpoints import Point
from tests.crash.conftest import DISK
from tests.crash.operations import OPERATIONS
from tests.crash.suite import Driver, suite_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# These belong to operations that are killed where they are tested: backup and restore of a home, erasure, fetching, the online store.
ELSEWHERE = {
    Point.MID_BACKUP,
    Point.MID_ERASE,
    Point.BEFORE_CURSOR,
    Point.AFTER_CURSOR,
    Point.BEFORE_SLOT,
    Point.MID_MATERIALIZE,
    Point.VIEW_REPLACED,
}
reached: set[str] = set()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_every_point_and_run_again(
    operation: str, driver: Driver, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with suite_of(driver, operation, DISK, tmp_path, record_property) as suite:
        suite.kill_at_points()
        assert suite.tally.kills == sum(suite.reached.values()) > 0
        reached.update(suite.reached)


def test_no_point_is_left_out() -> None:
    assert reached >= set(Point) - ELSEWHERE
