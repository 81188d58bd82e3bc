"""All three clients (DuckDB, delta-rs, the object store) with credentials found as AWS' tools find them."""

from pathlib import Path

import pytest

from lakehouse.tables import Lake, Stamp
from tests.servers.fixtures import S3Server
from tests.tables.test_storage import no_aws

__all__ = ["no_aws"]

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("way", ["environment", "profile"])
def test_a_table_is_written_and_read(way: str, s3_server: S3Server, s3_root: str, no_aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "environment":
        for name, value in s3_server.options.items():
            monkeypatch.setenv(name, value)
    else:
        monkeypatch.setenv("AWS_PROFILE", "team")
        keys = f"aws_access_key_id = {s3_server.access_key}\naws_secret_access_key = {s3_server.secret_key}\n"
        (no_aws / "credentials").write_text(f"[team]\n{keys}")
        (no_aws / "config").write_text(f"[profile team]\nregion = {s3_server.region}\nendpoint_url = {s3_server.endpoint}\n")
    lake = Lake(s3_root)
    con = lake.open_connection()
    lake.append(con, "raw.x", "SELECT 1 AS i", stamp=Stamp("test", "run"))
    lake.append(con, "raw.x", "SELECT 2 AS i", stamp=Stamp("test", "run"))
    with lake.connect() as session:
        assert session.con.execute("SELECT sum(i) FROM raw.x").fetchall() == [(3,)]
    assert len(lake.history("raw.x")) == 2
