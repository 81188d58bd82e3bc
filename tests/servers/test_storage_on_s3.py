"""The storage's laws on a real S3 server."""

from pathlib import Path

import pytest

from lakehouse.tables.storage import Storage
from tests.servers.fixtures import S3Server
from tests.tables.storages import STORAGE_LAWS, Law

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("law", STORAGE_LAWS, ids=lambda law: law.__name__)
def test_a_bucket_keeps_the_laws_of_a_folder(s3_server: S3Server, s3_root: str, law: Law, tmp_path: Path) -> None:
    law(Storage(s3_root, s3_server.options), tmp_path)
