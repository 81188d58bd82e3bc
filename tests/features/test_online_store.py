"""What every online store has to do, whatever it is made of."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lakehouse.errors import SettingsError, StorageError
from lakehouse.features.online import open_store
from lakehouse.features.online.redis_store import RedisStore
from lakehouse.features.online.sqlite_store import SqliteStore


def test_a_store_without_anything_answers(store):
    assert store.read("v", ("a", "b"), (b"1", b"2")).values == ((None, None), (None, None))
    assert store.read("v", (), ()).state is None
    assert (dict(store.lanes()), dict(store.states()), list(store.scan("a"))) == ({}, {}, [])
    assert store.remove("a", [(b"1", b"x")]) == 0
    store.drop("a")
    store.shrink()


def test_the_greater_value_stays(store):
    assert store.put("a", [(b"1", b"\x05x"), (b"2", b"\x01")]) == 2
    assert store.put("a", [(b"1", b"\x04zzzz"), (b"2", b"\xff\x00"), (b"3", b"")]) == 2
    assert store.put("a", [(b"1", b"\x05x"), (b"2", b"\xff")]) == 0
    assert store.read("v", ("a",), (b"1", b"2", b"3", b"4")).values == ((b"\x05x", b"\xff\x00", b"", None),)
    assert store.put("b", [(b"1", b"other")]) == 1
    assert store.read("v", ("b", "a"), (b"1",)).values == ((b"other",), (b"\x05x",))
    assert {lane: size.rows for lane, size in store.lanes().items()} == {"a": 3, "b": 1}
    assert all(size.size_bytes > 0 for size in store.lanes().values())
    assert store.size_bytes() > 0


def test_many_rows_are_scanned_and_read_once_each(store):
    rows = {b"%d" % number: b"value of %d" % number for number in range(25_000)}
    assert store.put("a", rows.items()) == 25_000
    assert store.put("a", rows.items()) == 0
    assert dict(store.scan("a")) == rows
    keys = list(rows)[::7]
    assert store.read("v", ("a",), keys).values == (tuple(rows[key] for key in keys),)
    store.drop("a")
    assert list(store.scan("a")) == []
    assert "a" not in store.lanes()
    assert store.put("a", [(b"1", b"again")]) == 1


def test_only_what_is_still_there_is_removed(store):
    store.put("a", [(b"1", b"x"), (b"2", b"y")])
    assert store.remove("a", [(b"1", b"x"), (b"2", b"x"), (b"3", b"x")]) == 1
    assert dict(store.scan("a")) == {b"2": b"y"}


def test_a_state_is_replaced_only_by_who_has_read_it(store):
    assert not store.replace_state("v", "new", expected="old")
    assert store.replace_state("v", "one", expected=None)
    assert not store.replace_state("v", "two", expected=None)
    assert store.replace_state("v", "two", expected="one")
    assert dict(store.states()) == {"v": "two"}
    assert store.read("v", (), ()).state == "two"
    assert store.replace_state("v", None, expected="two")
    assert dict(store.states()) == {}


def test_threads_that_write_the_same_keys_leave_the_greatest(store):
    def write(number: int) -> None:
        store.put("a", [(b"%d" % key, b"%03d" % (number * 37 % 64)) for key in range(200)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(store.scan("a")) == {b"%d" % key: b"063" for key in range(200)}


def test_a_thread_that_has_ended_leaves_no_connection_open(tmp_path):
    path = tmp_path / "features.db"
    store = SqliteStore(path)
    store.put("a", [(b"1", b"x")])

    def open_files() -> int:
        return sum(os.path.realpath(f"/proc/self/fd/{name}") == str(path) for name in os.listdir("/proc/self/fd"))

    before = open_files()
    for _ in range(20):
        thread = threading.Thread(target=store.read, args=("v", ("a",), (b"1",)))
        thread.start()
        thread.join()
    # The last one's is closed when the next one is opened.
    assert open_files() <= before + 1
    # A file that was removed is let go of too.
    for _ in range(5):
        path.unlink()
        store.put("a", [(b"1", b"y")])
    assert store.read("v", ("a",), (b"1", b"2")).values == ((b"y", None),)
    store.close()
    assert open_files() == 0


WRITER = """
import sys
from pathlib import Path
from lakehouse.features.online.sqlite_store import SqliteStore
store, number = SqliteStore(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
for turn in range(1_000_000 if number < 0 else 20):
    store.put("a", [(b"%d" % key, b"%06d" % (turn * 10 + abs(number))) for key in range(500)])
"""


def _start(path: Path, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], stdout=subprocess.PIPE, text=True)


def test_processes_write_one_file(tmp_path):
    path = tmp_path / "online" / "features.db"
    writers = [_start(path, number) for number in range(2)]
    for writer in writers:
        writer.communicate(timeout=120)
    assert [writer.returncode for writer in writers] == [0] * 2
    store = SqliteStore(path)
    assert set(dict(store.scan("a")).values()) == {b"%06d" % 191}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_writer_that_is_killed_leaves_whole_rows(tmp_path):
    path = tmp_path / "online" / "features.db"
    store = SqliteStore(path)
    with _start(path, -1) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        while not store.lanes() or store.put("other", [(b"1", b"1")]) < 0:
            time.sleep(0.005)
        os.kill(writer.pid, signal.SIGKILL)
    assert len(dict(store.scan("a"))) == 500
    assert all(len(value) == 6 for _, value in store.scan("a"))


def test_a_lane_that_another_process_drops_holds_nothing(tmp_path):
    here, there = (SqliteStore(tmp_path / "features.db") for _ in range(2))
    here.put("a", [(b"1", b"x")])
    assert there.read("v", ("a",), (b"1",)).values == ((b"x",),)
    here.drop("a")
    assert there.read("v", ("a",), (b"1",)).values == ((None,),)
    here.put("a", [(b"1", b"y")])
    assert there.read("v", ("a",), (b"1", b"2")).values == ((b"y", None),)


def test_removed_rows_are_not_found_in_the_file(tmp_path):
    store = SqliteStore(tmp_path / "features.db")
    store.put("a", [(b"%d" % number, b"somebody's secret %d" % number) for number in range(1000)])
    store.drop("a")
    store.shrink()
    store.close()
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.iterdir())


def test_removed_rows_are_not_found_in_the_files_of_a_purged_store(tmp_path):
    store = SqliteStore(tmp_path / "features.db")
    store.purge()
    store.put("a", [(b"%d" % number, b"somebody's secret %d" % number) for number in range(1000)])
    store.remove("a", list(store.scan("a")))
    store.purge()
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.servers
def test_a_redis_server_that_keeps_files_writes_them_anew(redis_url, tmp_path):
    import redis

    client = redis.Redis.from_url(redis_url)
    folder = Path(client.config_get("dir")["dir"])
    store = RedisStore(redis_url, home=str(tmp_path))

    def has_secret() -> bool:
        return any(b"somebody's secret" in path.read_bytes() for path in folder.rglob("*") if path.is_file())

    try:
        client.config_set("save", "3600 1")
        client.config_set("appendonly", "yes")
        store.put("a", [(b"1", b"somebody's secret")])
        store.purge()
        assert has_secret()
        store.remove("a", [(b"1", b"somebody's secret")])
        assert has_secret()
        store.purge()
        assert not has_secret()
    finally:
        client.config_set("appendonly", "no")
        client.config_set("save", "")
        client.close()
        store.close()


def test_a_store_that_cannot_be_used_says_so(tmp_path):
    (tmp_path / "features.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match=r"features\.db.*can't be used"):
        SqliteStore(tmp_path / "features.db").put("a", [(b"1", b"x")])
    nobody = RedisStore("redis://user:hidden@127.0.0.1:1/0", home="h")
    assert "hidden" not in nobody.address
    with pytest.raises(StorageError, match="LAKEHOUSE_ONLINE_URL"):
        nobody.read("v", ("a",), (b"1",))
    with pytest.raises(SettingsError, match="is not Redis' address"):
        RedisStore("http://127.0.0.1", home="h")


def test_the_settings_choose_the_store(settings, monkeypatch):
    assert open_store(settings).address == str(settings.home_dir / "online" / "features.db")
    monkeypatch.setenv("LAKEHOUSE_ONLINE_URL", "redis://:pass@cache:6380/2")
    assert open_store(type(settings).load()).address == "redis://cache:6380/2"
