"""Real processes: killed at any instant and run again, and several at once."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.ingest import IngestReport
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.ingest.conftest import HEADER, PEOPLE, rows_of

DRIVER = Path(__file__).with_name("driver.py")
PROJECT = DRIVER.parent.parent.parent
ROWS = 200_000
CONTENT = "* EXCLUDE (_ingested_at, _batch)"


def write_people(path: Path, rows: int, *, first: int = 0) -> None:
    """Rows of which every hundredth is bad in one of several ways."""
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        for number in range(first, first + rows):
            age = "old" if number % 500 == 0 else 200 if number % 500 == 100 else number % 100 + 12
            more = ",too,many" if number % 500 == 200 else ""
            file.write(f"P{number},{age},1.{number % 100:02d},{1950 + number % 60}-05-17,{'fm'[number % 2]},{number % 4}{more}\n")


def tables_of(home: Path) -> str:
    """The root of a home's tables: in it, or below the bucket's prefix that the test was given."""
    bucket = os.environ.get("LAKEHOUSE_URI")
    return f"{bucket}/{home.name}" if bucket else str(home / "tables")


def start(contract: DatasetContract, home: Path, *files: Path, dies_at: str | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, str(DRIVER), str(contract.path), *map(str, files)]
    environment = {
        **os.environ,
        "LAKEHOUSE_HOME": str(home),
        "LAKEHOUSE_URI": tables_of(home),
        "LAKEHOUSE_THREADS": "2",
        "PYTHONPATH": str(PROJECT),
    }
    if dies_at:
        environment["DIES_AT"] = dies_at
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def content(home: Path, contract: DatasetContract) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """What a home's raw and quarantine tables hold, without what differs from run to run."""
    lake = Lake(tables_of(home))
    return tuple(rows_of(lake, table, CONTENT, order="_sha256, _row") for table in (contract.raw, contract.quarantine))  # type: ignore[return-value]


def killed_and_repeated(contract: DatasetContract, file: Path, tmp_path: Path, kills: int, seed: int) -> None:
    clean = tmp_path / "clean"
    began = time.monotonic()
    output, errors = (first := start(contract, clean, file)).communicate(timeout=120)
    assert first.returncode == 0, errors
    whole_s = time.monotonic() - began
    expected = content(clean, contract)
    assert len(expected[0]) + len(expected[1]) == ROWS
    assert expected[1]
    chance = random.Random(seed)
    were_killed = 0
    for number in range(kills):
        home = tmp_path / f"home-{number}"
        process = start(contract, home, file)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, whole_s * 0.8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        were_killed += process.returncode == -signal.SIGKILL
        output, errors = (again := start(contract, home, file)).communicate(timeout=120)
        assert again.returncode == 0, errors
        assert content(home, contract) == expected, f"kill {number} left other rows; {output}"
    # Where a process begins faster than it was measured to, fewer are hit; that some were is what makes this a test.
    assert were_killed > 0


def test_killed_at_any_instant_and_run_again(people: DatasetContract, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    write_people(file, ROWS)
    killed_and_repeated(people, file, tmp_path, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_fifty_instants(people: DatasetContract, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    write_people(file, ROWS)
    killed_and_repeated(people, file, tmp_path, kills=50, seed=2)


def ended(process: subprocess.Popen[str]) -> int:
    """Wait for a process; one that was not meant to be killed must have done its work."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode in {0, -signal.SIGKILL}, errors
    return process.returncode


def test_what_a_dead_batch_left_is_removed_by_whoever_comes_next(people: DatasetContract, home: Path, tmp_path: Path) -> None:
    """Killed between the two commits, and the next process right after its raw commit, before it could clean up."""
    file, other, later = (tmp_path / name for name in ("people.csv", "other.csv", "later.csv"))
    for first, path in enumerate((file, other, later)):
        write_people(path, 1000, first=first * 1000)
    alone, interrupted = tmp_path / "alone", tmp_path / "interrupted"
    assert ended(start(people, alone, file, other, later)) == 0
    assert ended(start(people, interrupted, file, dies_at="before-raw")) == -signal.SIGKILL
    assert ended(start(people, interrupted, other, dies_at="after-raw")) == -signal.SIGKILL
    lake = Lake(tables_of(interrupted))
    assert {row[0] for row in rows_of(lake, people.quarantine, "_batch")} == {1, 2}
    # Nothing is new: it still looks.
    assert ended(start(people, interrupted, other)) == 0
    assert {row[0] for row in rows_of(lake, people.quarantine, "_batch")} == {2}
    assert ended(start(people, interrupted, file, later)) == 0
    assert content(interrupted, people) == content(alone, people)


def test_no_readable_copy_of_a_protected_file_outlives_its_process(
    write_contract: Callable[..., DatasetContract], home: Path, tmp_path: Path
) -> None:
    contract = write_contract(PEOPLE.replace("{name: sex,", "{name: sex, classification: restricted,"))
    file = tmp_path / "people.csv"
    write_people(file, 1000)
    assert ended(start(contract, home, file, dies_at="before-raw")) == -signal.SIGKILL
    left = list((home / "tmp").rglob("people.csv"))
    assert left
    for folder in (left[0].parent, left[0].parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert ended(start(contract, home, file)) == 0
    assert not list((home / "tmp").rglob("people.csv"))
    assert list((home / "tmp").iterdir()) == []


def test_originals_are_on_disk_before_a_commit_names_them(
    people: DatasetContract, lake: Lake, load: Callable[..., IngestReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.ingest.pieces import PiecewiseAppend

    synced: set[int] = set()
    at_commit: set[int] = set()
    fsync, commit = os.fsync, PiecewiseAppend.commit

    def note(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def commit_then(*arguments: Any, **more: Any) -> Any:
        at_commit.update(synced)
        return commit(*arguments, **more)

    monkeypatch.setattr("lakehouse.ingest.archive.os.fsync", note)
    monkeypatch.setattr(PiecewiseAppend, "commit", commit_then)
    file = tmp_path / "people.csv"
    write_people(file, 10)
    load(people, file)
    archived = next((Path(lake.uri) / "files").rglob("*.csv"))
    needed = [archived, archived.parent, archived.parent.parent, archived.parent.parent.parent, Path(lake.uri)]
    assert {path.stat().st_ino for path in needed} <= at_commit


def test_processes_that_ingest_the_same_files_count_each_once(people: DatasetContract, home: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.csv" for number in range(4)]
    for number, file in enumerate(files):
        write_people(file, 3000, first=number * 3000)
    together = tmp_path / "together"
    processes = [start(people, together, *chosen) for chosen in (files[:3], files[1:], files[:3])]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    alone = tmp_path / "alone"
    _, errors = (process := start(people, alone, *files)).communicate(timeout=120)
    assert process.returncode == 0, errors
    assert content(together, people) == content(alone, people)
    index = rows_of(Lake(tables_of(together)), "monitoring.ingested_files", "file, rows_read")
    assert index == [(file.name, 3000) for file in files]


def test_a_batch_that_died_between_its_commits_is_made_again(
    people: DatasetContract,
    lake: Lake,
    load: Callable[..., IngestReport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lakehouse.ingest.pieces import PiecewiseAppend

    class Died(BaseException):
        """As a killed process: nothing catches it."""

    def die(*_: object, **__: object) -> None:
        raise Died

    file = tmp_path / "people.csv"
    write_people(file, 1000)
    with monkeypatch.context() as patched:
        patched.setattr(PiecewiseAppend, "commit", die)
        for _ in range(2):
            with pytest.raises(Died):
                load(people, file)
    dead = len(rows_of(lake, people.quarantine))
    assert dead > 0
    assert not lake.exists(people.raw)
    report = load(people, file)
    assert report.files[0].status == "ingested"
    assert len(rows_of(lake, people.quarantine)) == report.rows_quarantined == dead // 2
    assert {row[0] for row in rows_of(lake, people.quarantine, "_batch")} == {3}


def test_a_batch_under_the_number_of_a_dead_one_does_not_make_its_rows_count(
    people: DatasetContract,
    lake: Lake,
    load: Callable[..., IngestReport],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two processes chose the same number; the one without bad rows was first, the other one was killed."""
    from lakehouse.ingest.pieces import PiecewiseAppend
    from lakehouse.pipeline.rejected import count_by_rule

    class Died(BaseException):
        """As a killed process."""

    def die(*_: object, **__: object) -> None:
        raise Died

    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(HEADER + "P1,30,1.5,1990-05-17,f,1\n", encoding="utf-8")
    write_people(bad, 1000)
    with monkeypatch.context() as patched:
        patched.setattr(PiecewiseAppend, "commit", die)
        with pytest.raises(Died):
            load(people, bad)
    with monkeypatch.context() as patched:
        transaction = Lake.transaction
        patched.setattr(Lake, "transaction", lambda self, table, app: None if table == people.quarantine else transaction(self, table, app))
        patched.setattr("lakehouse.ingest.path.remove_dead", lambda *_, **__: [])
        assert load(people, good).files[0].status == "ingested"
    assert {row[0] for row in rows_of(lake, people.raw, "_batch")} == {row[0] for row in rows_of(lake, people.quarantine, "_batch")} == {1}
    assert count_by_rule(lake) == {}
    load(people, good)
    assert rows_of(lake, people.quarantine) == []


def test_looking_for_dead_batches_reads_only_what_is_new(
    people: DatasetContract, lake: Lake, load: Callable[..., IngestReport], settings: Settings, tmp_path: Path
) -> None:
    from lakehouse.ingest.known import KnownFiles

    for number in range(4):
        file = tmp_path / f"{number}.csv"
        write_people(file, 300, first=number * 300)
        load(people, file)
        assert KnownFiles(lake, people, settings).quarantined_since_last_look() == []
    assert len(lake.history(people.quarantine)) == 4


def test_the_index_is_completed_after_a_crash(
    people: DatasetContract,
    lake: Lake,
    load: Callable[..., IngestReport],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lakehouse.ingest.unrecorded import Unrecorded

    class Died(BaseException):
        """As a killed process."""

    def die(*_: object, **__: object) -> None:
        raise Died

    file = tmp_path / "people.csv"
    write_people(file, 100)
    with monkeypatch.context() as patched:
        patched.setattr(Unrecorded, "settle", die)
        with pytest.raises(Died):
            load(people, file)
    assert not lake.exists("monitoring.ingested_files")
    assert not lake.exists("monitoring.checks")
    (home / "index" / "files.sqlite").unlink()
    assert load(people, file).files[0].status == "already"
    assert rows_of(lake, "monitoring.ingested_files", "file, rows_read") == [("people.csv", 100)]
    assert rows_of(lake, "monitoring.profiles", "rows", order="1 LIMIT 1") == [(99,)]
    assert "batch.rows_conserved" in [row[0] for row in rows_of(lake, "monitoring.checks", "check_id")]
    assert lake.version(people.raw) == 0
