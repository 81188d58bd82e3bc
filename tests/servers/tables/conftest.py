from collections.abc import Iterator

import duckdb
import pytest

from lakehouse.tables import Lake
from tests.servers.fixtures import S3Server
from tests.tables.conftest import stamp

__all__ = ["stamp"]


@pytest.fixture
def lake(s3_lake: Lake, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Lake:
    # Child processes and other writers than ours find the server as every AWS tool does.
    for name, value in {**s3_server.options, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    return s3_lake


@pytest.fixture
def con(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with lake.connect(()) as session:
        yield session.con
