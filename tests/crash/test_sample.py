"""The crash suite in small: every run of the tests kills an ingestion and a merge at each point, and at a few instants between."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.conftest import DISK
from tests.crash.suite import Driver, suite_of


@pytest.mark.parametrize("operation", ["ingestion", "merge"])
def test_killed_and_run_again_every_table_is_the_same(
    operation: str, light_driver: Driver, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with suite_of(light_driver, operation, DISK, tmp_path, record_property) as suite:
        suite.kill_at_points(lambda _, time: time == 1)
        suite.kill_at_random(2, seed=1)
        assert suite.tally.kills == len(suite.reached)
