"""What is asked of a bucket goes through delta-rs' object store; here it is pointed at a folder."""

from pathlib import Path

import duckdb
import pytest

from lakehouse.errors import MissingExtra
from lakehouse.tables import Lake, Stamp, TableName
from lakehouse.tables.log import CommitLog
from lakehouse.tables.storage import Storage


@pytest.fixture
def bucket(lake: Lake, con: duckdb.DuckDBPyConnection) -> Storage:
    for i in range(3):
        lake.append(con, "raw.events", f"SELECT {i} AS id", stamp=Stamp("test", "run"))
    storage = Storage(lake.uri, {})
    storage.is_local = False
    return storage


def test_a_bucket_and_a_folder_answer_alike(lake: Lake, bucket: Storage) -> None:
    log = "raw/events/_delta_log"
    for path in ("", "raw", "raw/events", "nowhere"):
        assert bucket.folders(path) == lake.storage.folders(path)
    assert bucket.folders_of(["", "raw"]) == lake.storage.folders_of(["", "raw"]) == [["raw"], ["events"]]
    assert bucket.files(log) == lake.storage.files(log)
    assert bucket.files("nowhere") == lake.storage.files("nowhere") == []
    names = [f"{log}/{name}" for name in bucket.files(log)] + ["raw/nothing"]
    assert bucket.read_all(names) == lake.storage.read_all(names)
    assert bucket.read("raw/nothing") is None
    assert CommitLog(bucket, TableName("raw", "events")).history() == lake.history("raw.events")


def test_deleting_twice_is_no_error(bucket: Storage, tmp_path: Path) -> None:
    file = tmp_path / "tables" / "raw" / "events" / "orphan.parquet"
    file.write_bytes(b"x")
    for storage in (bucket, Storage(bucket.root, {})):
        storage.delete(["raw/events/orphan.parquet"])
        storage.delete(["raw/events/orphan.parquet"])
    assert not file.exists()


def test_a_connection_to_s3_has_its_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9/",
        "AWS_ACCESS_KEY_ID": "it's",
        "AWS_SECRET_ACCESS_KEY": "x'; DROP TABLE y; --",
        "AWS_REGION": "eu-central-1",
    }
    lake = Lake("s3://bucket/prefix/", storage_options=options)
    assert lake.uri == "s3://bucket/prefix"
    con = lake.open_connection()
    name, scope, text = con.execute("SELECT name, scope, secret_string FROM duckdb_secrets()").fetchall()[0]
    assert (name, scope) == ("lakehouse_root", ["s3://bucket/prefix"])
    for part in ("region=eu-central-1", "endpoint=127.0.0.1:9", "use_ssl=false", "url_style=path", "key_id=it's"):
        assert part in text
    assert not list(tmp_path.iterdir())


def test_what_is_missing_for_s3_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path / "no wheel")
    with pytest.raises(MissingExtra, match=r"lakehouse\[s3\]"):
        Lake("s3://bucket").open_connection()
