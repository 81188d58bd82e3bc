"""Every operation, killed at random instants: 300 of them on disk, and a fifth as many on S3."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.conftest import DISK
from tests.crash.operations import OPERATIONS
from tests.crash.suite import Driver, Root, suite_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_they_are_three_hundred() -> None:
    assert sum(operation.random_kills for operation in OPERATIONS.values()) >= 300


@pytest.mark.parametrize("operation", OPERATIONS)
def test_on_disk(operation: str, driver: Driver, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    kills = OPERATIONS[operation].random_kills
    with suite_of(driver, operation, DISK, tmp_path, record_property) as suite:
        suite.kill_at_random(kills, seed=1)
        assert suite.tally.random_kills == kills


@pytest.mark.servers
@pytest.mark.parametrize("operation", OPERATIONS)
def test_on_s3(operation: str, s3: Root, driver: Driver, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    kills = OPERATIONS[operation].random_kills // 5
    with suite_of(driver, operation, s3, tmp_path, record_property) as suite:
        suite.kill_at_random(kills, seed=2)
        assert suite.tally.random_kills == kills
