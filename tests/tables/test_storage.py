"""What is asked of a folder and of a bucket, alike. The bucket here is an object store in memory; tests/servers asks a real one."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from lakehouse.errors import MissingExtra, StorageError
from lakehouse.tables import Lake, Stamp, TableName
from lakehouse.tables.bucket import Bucket
from lakehouse.tables.log import CommitLog
from lakehouse.tables.session import reach_storage
from lakehouse.tables.storage import Storage
from tests.tables.storages import STORAGE_LAWS


def bucket_in_memory() -> Storage:
    storage = Storage("s3://bucket/prefix", {})
    storage.__dict__["_files"] = Bucket(storage.root, storage.access, store=MemoryStore())
    return storage


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"), {}) if request.param == "folder" else bucket_in_memory()


@pytest.mark.parametrize("law", STORAGE_LAWS, ids=lambda law: law.__name__)
def test_a_folder_and_a_bucket_keep_the_same_laws(storage: Storage, law, tmp_path: Path) -> None:
    law(storage, tmp_path)


@given(st.dictionaries(st.from_regex(r"[a-c.]{1,2}x(/[a-c.-]{1,2}y){0,2}", fullmatch=True), st.binary(max_size=8), max_size=8))
def test_a_walk_of_a_folder_is_a_walk_of_a_bucket(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    # A bucket can hold a file of a folder's name; a disk can't.
    kept = {path: data for path, data in files.items() if not any(other.startswith(path + "/") for other in files)}
    folder, bucket = Storage(str(tmp_path_factory.mktemp("root")), {}), bucket_in_memory()
    for path, data in kept.items():
        folder.write(path, data)
        bucket.write(path, data)
    walked = [(file.path, file.size_bytes) for file in folder.walk()]
    assert walked == [(file.path, file.size_bytes) for file in bucket.walk()]
    assert walked == [(path, len(kept[path])) for path in sorted(kept)]


def test_the_log_of_a_bucket_reads_like_that_of_a_folder(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    for i in range(3):
        lake.append(con, "raw.events", f"SELECT {i} AS id", stamp=Stamp("test", "run"))
    bucket = bucket_in_memory()
    for file in lake.storage.walk():
        bucket.put(Path(lake.uri) / file.path, file.path)
    for path in ("", "raw", "raw/events", "nowhere"):
        assert bucket.folders(path) == lake.storage.folders(path)
    assert bucket.folders_of(["", "raw"]) == lake.storage.folders_of(["", "raw"]) == [["raw"], ["events"]]
    log = "raw/events/_delta_log"
    assert bucket.files(log) == lake.storage.files(log)
    assert bucket.files("nowhere") == lake.storage.files("nowhere") == []
    names = [f"{log}/{name}" for name in bucket.files(log)] + ["raw/nothing"]
    assert bucket.read_all(names) == lake.storage.read_all(names)
    assert CommitLog(bucket, TableName("raw", "events")).history() == lake.history("raw.events")


def test_linked_folders_are_walked_once(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "root"), {})
    storage.write("a/x", b"1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y").write_bytes(b"22")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "a" / "round").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "dead").symlink_to(tmp_path / "nothing")
    assert [file.path for file in storage.walk()] == ["a/x", "linked/y"]


def test_a_file_is_on_disk_with_its_name_when_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    storage = Storage(str(tmp_path / "root"), {})
    for write in (lambda: storage.write("a/b/one", b"x"), lambda: storage.create("a/b/two", b"x")):
        synced.clear()
        write()
        assert any(name.endswith(".tmp") for name in synced)
        assert synced[-1] == str(tmp_path / "root" / "a" / "b")
    storage.write("new/folder/x", b"x")
    assert {str(tmp_path / "root"), str(tmp_path / "root" / "new")} <= set(synced)


_WRITER = """
import sys
from lakehouse.tables.storage import Storage
storage = Storage(sys.argv[1], {})
print("ready", flush=True)
number = 0
while True:
    number += 1
    storage.write("state", b"%06d" % number * 50_000)
    print(number, flush=True)
"""


def test_a_write_that_is_killed_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    for number in range(3):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(4 + number):
                process.stdout.readline()
            process.kill()
        content = Storage(str(tmp_path), {}).read("state") or b""
        assert len(content) == 300_000
        assert len({content[i : i + 6] for i in range(0, len(content), 6)}) == 1


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
    con = duckdb.connect()
    reach_storage(con, lake.storage)
    name, scope, text = con.execute("SELECT name, scope, secret_string FROM duckdb_secrets()").fetchall()[0]
    assert (name.startswith("lakehouse_"), scope) == (True, ["s3://bucket/prefix"])
    for part in ("region=eu-central-1", "endpoint=127.0.0.1:9", "use_ssl=false", "url_style=path", "key_id=it's"):
        assert part in text
    assert not list(tmp_path.iterdir())


def test_what_is_missing_for_s3_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path / "no wheel")
    with pytest.raises(MissingExtra, match=r"lakehouse\[s3\]"):
        Lake("s3://bucket").open_connection()
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(MissingExtra, match=r"lakehouse\[s3\]"):
        Storage("s3://bucket", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}).read("x")


@pytest.mark.parametrize("uri", ["gs://bucket/x", "https://host/bucket", "s3a://bucket"])
def test_a_root_of_another_kind_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="no folder and no bucket"):
        Storage(uri, {})


def test_a_server_that_does_not_answer_is_named() -> None:
    options = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with pytest.raises(StorageError, match=r"can't be reached.*http://127.0.0.1:9.*LAKEHOUSE_S3_ENDPOINT"):
        Storage("s3://bucket/x", options).read("a")


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that nobody has told about AWS; returns its folder of profiles."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path


def test_credentials_come_from_the_settings_then_the_environment_then_the_profile(no_aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"credentials.*not found.*AWS_PROFILE"):
        _ = Storage("s3://bucket", {}).options
    (no_aws / "credentials").write_text("[team]\naws_access_key_id = p\naws_secret_access_key = ps\n")
    (no_aws / "config").write_text("[profile team]\nregion = eu-west-3\nendpoint_url = http://host:1\n")
    monkeypatch.setenv("AWS_PROFILE", "team")
    profile = Storage("s3://bucket", {}).options
    assert (profile["AWS_ACCESS_KEY_ID"], profile["AWS_REGION"], profile["AWS_ENDPOINT_URL"]) == ("p", "eu-west-3", "http://host:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "e")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "es")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "et")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    environment = Storage("s3://bucket", {}).options
    assert (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SESSION_TOKEN"], environment["AWS_REGION"]) == ("e", "et", "us-west-2")
    given = Storage("s3://bucket", {"AWS_ACCESS_KEY_ID": "g", "AWS_SECRET_ACCESS_KEY": "gs", "AWS_REGION": "here"}).options
    assert (given["AWS_ACCESS_KEY_ID"], given["AWS_REGION"]) == ("g", "here")
    assert "AWS_SESSION_TOKEN" not in given
    assert given["AWS_S3_ALLOW_UNSAFE_RENAME"] == "false"


def test_an_unknown_profile_is_named(no_aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match="nobody"):
        _ = Storage("s3://bucket", {}).options
