"""One driver for each file of tests: it imports everything once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.suite import Driver, Root, driving
from tests.servers.fixtures import S3Server

DISK = Root("disk")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    with driving(tmp_path_factory.mktemp("answers")) as process:
        yield process


@pytest.fixture(scope="module")
def light_driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Neither builds nor trains."""
    with driving(tmp_path_factory.mktemp("answers"), is_all=False) as process:
        yield process


@pytest.fixture
def s3(s3_server: S3Server, tmp_path: Path) -> Root:
    return Root("S3", s3_server.environment, f"{s3_server.bucket}/{tmp_path.parent.name}-{tmp_path.name}")
