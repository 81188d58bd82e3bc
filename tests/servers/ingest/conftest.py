import pytest

from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.ingest.conftest import load, people, write_contract
from tests.servers.fixtures import S3Server

__all__ = ["load", "people", "write_contract"]


@pytest.fixture
def settings(s3_settings: Settings, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in s3_server.options.items():
        monkeypatch.setenv(name, value)
    return s3_settings


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake.from_settings(settings)
