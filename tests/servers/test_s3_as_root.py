"""The product with its tables on a real S3 server: what is wrong is told, nothing unsafe is used, machines take turns."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lakehouse.errors import QueryError, StorageError
from lakehouse.pipeline.doctor import Health, examine
from lakehouse.pipeline.query import query
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.lease import one_at_a_time
from lakehouse.tables.storage import Storage
from tests.servers.fixtures import S3Server

pytestmark = pytest.mark.servers
STAMP = Stamp("test", "run")


def _first_use(uri: str, options: dict[str, str]) -> str:
    began = time.monotonic()
    with pytest.raises(StorageError) as caught:
        Lake(uri, storage_options=options).tables()
    assert time.monotonic() - began < 60
    return str(caught.value)


def test_what_is_wrong_with_the_settings_is_told_by_name(s3_server: S3Server) -> None:
    options = s3_server.options
    assert "bucket nobody-has-it: does not exist" in _first_use("s3://nobody-has-it/x", options)
    wrong = _first_use(s3_server.new_root(), options | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert "refused to these credentials" in wrong
    assert "LAKEHOUSE_S3_SECRET_ACCESS_KEY" in wrong
    assert "wrong" not in wrong.replace("wrongly", "")
    assert "refused to these credentials" in _first_use(s3_server.new_root(), options | {"AWS_ACCESS_KEY_ID": "nobody"})
    for endpoint in ("http://127.0.0.1:1", "http://no-such-host.invalid"):
        told = _first_use(s3_server.new_root(), options | {"AWS_ENDPOINT_URL": endpoint})
        assert "can't be reached" in told
        assert endpoint in told
        assert "LAKEHOUSE_S3_ENDPOINT" in told


def test_the_command_line_tells_it_in_one_line(s3_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, name, value in (
        (["tables"], "LAKEHOUSE_URI", "s3://nobody-has-it/x"),
        (["query", "select 1 from raw.x"], "LAKEHOUSE_S3_SECRET_ACCESS_KEY", "not this"),
        (["history", "raw.x"], "LAKEHOUSE_S3_ENDPOINT", "http://127.0.0.1:1"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "lakehouse", *arguments, "--json"],
            env={**os.environ, name: value}, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert json.loads(done.stdout)["error"] == "StorageError"
        assert value not in done.stdout or name != "LAKEHOUSE_S3_SECRET_ACCESS_KEY"


def test_the_doctor_tries_what_commits_depend_on(s3_settings: Settings, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {one.check: one for one in examine()}
    assert found["storage"].health is Health.OK
    assert s3_server.endpoint in found["storage"].detail
    assert list(Storage(s3_settings.tables_uri, s3_settings.storage_options).walk()) == []

    # A server that takes the condition and ignores it.
    def create_anyway(self: Storage, path: str, data: bytes) -> bool:
        self.write(path, data)
        return True

    monkeypatch.setattr(Storage, "create", create_anyway)
    broken = {one.check: one for one in examine()}["storage"]
    assert broken.health is Health.BROKEN
    assert "commits would get lost" in broken.detail
    monkeypatch.setenv("LAKEHOUSE_S3_SECRET_ACCESS_KEY", "wrong")
    assert {one.check: one for one in examine()}["storage"].health is Health.BROKEN


@pytest.mark.parametrize("variable", [("AWS_S3_ALLOW_UNSAFE_RENAME", "true"), ("AWS_S3_LOCKING_PROVIDER", "dynamodb")])
def test_unsafe_ways_to_commit_are_not_taken_from_the_environment(
    s3_root: str, s3_server: S3Server, variable: tuple[str, str], tmp_path: Path
) -> None:
    writer = """
import sys
from lakehouse.tables import Lake, Stamp
lake = Lake(sys.argv[1], memory_limit="200MB", threads=1)
con = lake.open_connection()
for i in range(8):
    lake.append(con, "raw.shared", f"SELECT {sys.argv[2]} AS writer, {i} AS i", stamp=Stamp("writer", sys.argv[2]))
"""
    environment = {**os.environ, **s3_server.options, variable[0]: variable[1]}
    processes = [
        subprocess.Popen([sys.executable, "-c", writer, s3_root, str(number)], env=environment, stderr=subprocess.PIPE)
        for number in range(3)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors.decode()
    lake = Lake(s3_root, storage_options=s3_server.options)
    with lake.connect() as session:
        assert session.con.execute("SELECT count(*), count(DISTINCT (writer, i)) FROM raw.shared").fetchall() == [(24, 24)]


def test_a_query_reads_tables_and_nothing_else_of_the_bucket(s3_lake: Lake, s3_server: S3Server) -> None:
    con = s3_lake.open_connection()
    s3_lake.append(con, "raw.x", "SELECT 1 AS i", stamp=STAMP)
    s3_lake.append(con, "raw.y", "SELECT 2 AS i", stamp=STAMP)
    assert query(s3_lake, "select i from raw.x").rows == ((1,),)
    (other,) = [file.uri for file in s3_lake.snapshot("raw.y").files]
    with pytest.raises(QueryError, match="reaches outside"):
        query(s3_lake, f"select * from read_parquet('{other}')")
    for sql in ("select * from duckdb_secrets()", "select secret_string from duckdb_secrets()"):
        assert s3_server.secret_key not in str(query(s3_lake, sql).rows)


def test_two_homes_on_one_bucket_take_turns(s3_server: S3Server, s3_root: str, tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        storage = Storage(s3_root, s3_server.options)
        for _ in range(2):
            with one_at_a_time(storage, "m.training", lock=tmp_path / str(number), waiting=lambda: None):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.05)
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert most == [1] * 6
