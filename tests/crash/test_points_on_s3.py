"""Every operation, killed each time it comes to a point; the tables are in a bucket of a real server."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.operations import OPERATIONS
from tests.crash.suite import Driver, Root, suite_of

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_every_point_and_run_again(
    operation: str, s3: Root, driver: Driver, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with suite_of(driver, operation, s3, tmp_path, record_property) as suite:
        # The first and the last time: the times between differ by what is written, not by how.
        suite.kill_at_points(lambda point, time: time in {1, suite.reached[point]})
        assert suite.tally.kills == sum(min(times, 2) for times in suite.reached.values()) > 0
