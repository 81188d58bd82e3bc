"""Killed at any instant, beside writers, beside vacuum, and two at once: a backup counts whole or not at all, and nothing needs repair."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from lakehouse.recovery.backing_up import back_up
from lakehouse.recovery.pruning import prune
from lakehouse.recovery.restoring import restore_home
from lakehouse.recovery.store import BackupStore
from lakehouse.recovery.verifying import verify_home
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.recovery.conftest import sum_of, write

Clock = Callable[[], datetime]


def run(*arguments: str, crash_at: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"LAKEHOUSE_TEST_CRASH_AT": crash_at} if crash_at else {})}
    return subprocess.run(
        [sys.executable, "-m", "lakehouse", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("nth", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_a_killed_backup_does_not_count_and_is_not_in_the_way(filled: Settings, place: str, clock: Clock, nth: int, tmp_path: Path) -> None:
    assert run("backup", place, crash_at=f"mid_backup:{nth}").returncode == -signal.SIGKILL
    store = BackupStore.open(place, filled)
    assert store.ids() == []
    report = back_up(filled, place, now=clock())
    # Nothing waits for the dead process, and what it has stored is used.
    assert report.objects_added is not None
    assert report.objects_added <= report.files - nth
    prune(filled, place, keep_last=1, now=clock())
    assert store.storage.files("leases") == []
    restore_home(filled, place, now=clock(), to=tmp_path / "other")
    assert not [path for path in Path(place).rglob("*.tmp")]


@pytest.mark.parametrize("nth", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_a_killed_restore_is_taken_up(filled: Settings, place: str, clock: Clock, nth: int) -> None:
    back_up(filled, place, now=clock())
    shutil.rmtree(filled.home_dir)
    assert run("restore-backup", place, crash_at=f"mid_restore:{nth}").returncode == -signal.SIGKILL
    assert Lake.from_settings(filled).tables() == []
    report = restore_home(filled, place, now=clock())
    assert report.files_found >= nth - 1
    assert verify_home(filled).is_green
    assert not list(filled.home_dir.glob(".*"))


def test_a_restore_killed_between_two_names_is_taken_up(
    filled: Settings, place: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(filled, place, now=clock())
    shutil.rmtree(filled.home_dir)
    rename = Path.replace
    for nth in (1, 2, 2, 99):
        names: Iterator[int] = iter(range(1, 100))

        def replace(self: Path, target: Path, names: Iterator[int] = names, nth: int = nth) -> Path:
            if ".restoring-" in self.name and next(names) == nth:
                raise KeyboardInterrupt
            return rename(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", replace)
            if nth < 99:
                with pytest.raises(KeyboardInterrupt):
                    restore_home(filled, place, now=clock())
            else:
                restore_home(filled, place, now=clock())
    assert verify_home(filled).is_green
    assert not list(filled.home_dir.glob(".*"))


def test_two_at_once_both_count(filled: Settings, place: str, clock: Clock, tmp_path: Path) -> None:
    now = clock()
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(back_up(filled, place, now=now).id)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = BackupStore.open(place, filled)
    # Of the same instant: the later ones were moved on, and none was lost.
    assert len(set(made)) == 3
    assert store.ids() == sorted(made)
    for number, one in enumerate(store.ids()):
        restore_home(filled, place, now=clock(), at=store.load(one).created_at, to=tmp_path / str(number))


def test_beside_writers_no_version_points_at_one_that_is_missing(
    filled: Settings, lake: Lake, place: str, clock: Clock, tmp_path: Path
) -> None:
    is_done = threading.Event()

    def keep_writing() -> None:
        writer = Lake.from_settings(filled)
        while not is_done.is_set():
            version = write(writer, "raw.numbers", "SELECT 1 AS n")
            write(writer, "staging.numbers", "SELECT 1 AS n", inputs={"raw.numbers": version})

    thread = threading.Thread(target=keep_writing)
    thread.start()
    try:
        for _ in range(3):
            back_up(filled, place, now=clock())
    finally:
        is_done.set()
        thread.join()
    store = BackupStore.open(place, filled)
    for number, one in enumerate(store.ids()):
        manifest = store.load(one)
        restore_home(filled, place, now=clock(), at=manifest.created_at, to=tmp_path / str(number))
        there = Lake(tmp_path / str(number) / "tables", threads=1)
        assert there.version("raw.numbers") == manifest.tables["raw.numbers"]
        for commit in there.history("staging.numbers"):
            assert commit.stamp is not None
            assert commit.stamp.inputs["raw.numbers"] <= manifest.tables["raw.numbers"]
        sum_of(there, "raw.numbers")


def test_a_file_that_vacuum_takes_away_meanwhile(
    filled: Settings, lake: Lake, place: str, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.recovery import backing_up

    plan = backing_up._Work._plan
    rounds: list[int] = []

    def plan_then_vacuum(self: object) -> object:
        found = plan(self)
        rounds.append(1)
        if len(rounds) == 1:
            old = [Path(file.uri) for file in lake.snapshot("raw.numbers").files]
            con = lake.open_connection()
            lake.overwrite(con, "raw.numbers", "SELECT 5 AS n", stamp=Stamp("raw.numbers", "run"))
            con.close()
            for file in old:
                file.unlink()
        return found

    monkeypatch.setattr(backing_up._Work, "_plan", plan_then_vacuum)
    back_up(filled, place, now=clock())
    assert len(rounds) == 2
    restored = restore_home(filled, place, now=clock(), to=tmp_path / "other")
    assert restored.tables["raw.numbers"] == 2
    assert sum_of(Lake(tmp_path / "other" / "tables"), "raw.numbers") == 5
    assert verify_home(Settings(project=filled.project, home=tmp_path / "other")).is_green
