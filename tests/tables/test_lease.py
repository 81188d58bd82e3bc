"""One at a time across machines, with an object store in memory for the bucket."""

import json
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from lakehouse.errors import StorageError
from lakehouse.locks import LockError
from lakehouse.tables import lease as lease_module
from lakehouse.tables.lease import Lease, one_at_a_time
from lakehouse.tables.storage import Storage
from tests.tables.test_storage import bucket_in_memory


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(lease_module, "_LOOK_S", 0.01)
    monkeypatch.setattr(lease_module, "_BEAT_S", 0.05)
    return bucket_in_memory()


def unheard() -> None:
    """Nobody needs to know."""


def test_many_homes_take_turns(bucket: Storage, tmp_path: Path) -> None:
    inside = 0
    most = 0
    turns: list[int] = []

    def work(number: int) -> None:
        nonlocal inside, most
        for _ in range(3):
            with one_at_a_time(bucket, "training-m", lock=tmp_path / str(number) / "lock", waiting=unheard):
                inside += 1
                most = max(most, inside)
                time.sleep(0.01)
                turns.append(number)
                inside -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(turns)) == (1, 15)
    assert [file.path for file in bucket.walk()] == ["locks/training-m/0000000014"]
    assert json.loads(bucket.read("locks/training-m/0000000014") or b"")["released"] is True


def test_who_waits_is_told_once(bucket: Storage, tmp_path: Path) -> None:
    told: list[str] = []
    first = Lease(bucket, "n", owner="elsewhere")
    first.take(waiting=unheard)
    releasing = threading.Timer(0.2, first.release)
    releasing.start()
    with one_at_a_time(bucket, "n", lock=tmp_path / "lock", waiting=lambda: told.append("x")):
        assert not first.is_held()
    releasing.join()
    assert told == ["x"]


def test_the_dead_are_followed_and_the_living_are_not(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LIFETIME", timedelta(seconds=0.4))
    living = Lease(bucket, "n", owner="a")
    living.take(waiting=unheard)
    time.sleep(0.8)
    assert living.is_held()
    taken = threading.Event()

    def follow() -> None:
        Lease(bucket, "n", owner="b").take(waiting=unheard)
        taken.set()

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    assert not taken.wait(0.6)
    # As when its machine stops: no more beats.
    living._stop.set()
    assert taken.wait(10)
    assert not living.is_held()
    # It wakes up and lets go of what it does not have any more.
    living.release()
    assert json.loads(bucket.read("locks/n/0000000001") or b"") | {"process": 0} == {"owner": "b", "process": 0, "released": False}


def test_a_killed_process_of_the_same_home_keeps_nobody_waiting(bucket: Storage) -> None:
    Lease(bucket, "n", owner="same").take(waiting=unheard)
    assert Lease(bucket, "n", owner="same").take(waiting=unheard) == 1


def test_work_that_is_done_stays_done_where_the_lease_can_not_be_released(
    bucket: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise StorageError("s3://bucket", "can't be reached", fix="Check it")

    with one_at_a_time(bucket, "n", lock=tmp_path / "lock", waiting=unheard):
        monkeypatch.setattr(Storage, "write", away)
    assert "ends in 45 s" in caplog.text


def test_who_was_taken_for_dead_is_told_before_it_writes(bucket: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_BEAT_S", 60.0)
    with one_at_a_time(bucket, "n", lock=tmp_path / "lock", waiting=unheard) as still_ours:
        still_ours()
        monkeypatch.setattr(lease_module, "LIFETIME", timedelta(seconds=0))
        time.sleep(0.01)
        Lease(bucket, "n", owner="elsewhere").take(waiting=unheard)
        with pytest.raises(LockError, match=r"locks/n: went to another process.*Run it again"):
            still_ours()


def test_a_wrong_clock_here_changes_nothing(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Lease(bucket, "n", owner="a")
    first.take(waiting=unheard)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    waited = threading.Event()
    late = threading.Thread(target=lambda: Lease(bucket, "n", owner="b").take(waiting=waited.set), daemon=True)
    late.start()
    assert waited.wait(5)
    assert first.is_held()
    first.release()
    late.join(10)


def test_on_a_disk_there_is_only_the_lock_file(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "root"), {})
    with one_at_a_time(storage, "n", lock=tmp_path / "lock", waiting=unheard):
        assert list(storage.walk()) == []
