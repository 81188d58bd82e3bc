"""A backup holds the home as it was at one instant, costs what is new, and counts whole or not at all."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from lakehouse.errors import BackupBusy, BackupNotFound, RecoveryError
from lakehouse.recovery.backing_up import back_up
from lakehouse.recovery.leases import Work, lease
from lakehouse.recovery.pruning import prune
from lakehouse.recovery.restoring import restore_home
from lakehouse.recovery.store import BackupStore
from lakehouse.recovery.tree import backup_trees, changing_backups
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.recovery.conftest import original, sum_of, write

Clock = Callable[[], datetime]


def at(home: Path) -> Lake:
    return Lake(home / "tables", memory_limit="500MB", threads=1)


def test_the_home_comes_back_as_it_was(filled: Settings, lake: Lake, place: str, clock: Clock, tmp_path: Path) -> None:
    made = back_up(filled, place, now=clock())
    write(lake, "raw.numbers", "SELECT 1000 AS n")
    restored = restore_home(filled, place, now=clock(), to=tmp_path / "other")
    there = at(tmp_path / "other")
    assert restored.tables == {"raw.numbers": 1, "staging.numbers": 1, "analytics.totals": 0}
    assert [sum_of(there, "raw.numbers"), sum_of(there, "staging.numbers"), sum_of(there, "analytics.totals")] == [19900, 4950, 4950]
    assert there.snapshot("raw.numbers", 0).files
    assert (tmp_path / "other" / "contracts" / "datasets" / "numbers.odcs.yaml").read_text() == "name: numbers\n"
    assert len(list((tmp_path / "other" / "tables" / "files").rglob("*.csv"))) == 2
    with closing(sqlite3.connect(tmp_path / "other" / "dagster" / "history" / "runs.db")) as con:
        assert con.execute("SELECT id FROM runs").fetchall() == [("one",)]
    assert made.tables == 3
    assert not list((tmp_path / "other").glob(".*"))


def test_an_instant_is_chosen(filled: Settings, lake: Lake, place: str, clock: Clock, tmp_path: Path) -> None:
    back_up(filled, place, now=clock())
    between = clock()
    write(lake, "raw.numbers", "SELECT 1000 AS n")
    back_up(filled, place, now=clock())
    assert restore_home(filled, place, now=clock(), at=between, to=tmp_path / "then").tables["raw.numbers"] == 1
    assert restore_home(filled, place, now=clock(), to=tmp_path / "newest").tables["raw.numbers"] == 2
    with pytest.raises(BackupNotFound, match="2 backups"):
        restore_home(filled, place, now=clock(), at=datetime(2020, 1, 1, tzinfo=between.tzinfo), to=tmp_path / "never")


def test_only_what_is_new_is_read_and_stored(filled: Settings, lake: Lake, place: str, clock: Clock) -> None:
    first = back_up(filled, place, now=clock())
    again = back_up(filled, place, now=clock())
    assert (again.files_read, again.objects_added) == (0, 0)
    write(lake, "raw.numbers", "SELECT 1000 AS n")
    original(filled, b"n\n3\n")
    more = back_up(filled, place, now=clock())
    # A data file, its log entry and an original.
    assert (more.files_read, more.objects_added) == (3, 3)
    assert first.files + 3 == more.files
    assert back_up(filled, place, now=clock(), dry_run=True).files_read == 0


def test_a_dry_run_changes_nothing(filled: Settings, place: str, clock: Clock) -> None:
    report = back_up(filled, place, now=clock(), dry_run=True)
    assert report.files_read == report.files > 0
    assert not Path(place).exists()


def test_keys_go_to_a_place_of_their_own(filled: Settings, place: str, clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(RecoveryError, match="beside the backup"):
        back_up(filled, place, now=clock(), keys_to=f"{place}/keys")
    without = back_up(filled, place, now=clock())
    assert any(note.startswith("keys (") for note in without.left_out)
    keys = tmp_path / "elsewhere"
    report = back_up(filled, place, now=clock(), keys_to=str(keys))
    assert not any(note.startswith("keys (") for note in report.left_out)
    secret = filled.key_file.read_text()
    assert all(secret.strip() not in file.read_bytes().decode("latin-1") for file in Path(place).rglob("*") if file.is_file())
    restore_home(filled, place, now=clock(), to=tmp_path / "other", keys_from=str(keys))
    restored = tmp_path / "other" / "keys" / "secret.key"
    assert restored.read_text() == secret
    assert restored.stat().st_mode & 0o777 == 0o600


def test_a_home_that_is_there_is_not_overwritten(filled: Settings, lake: Lake, place: str, clock: Clock) -> None:
    back_up(filled, place, now=clock())
    write(lake, "raw.numbers", "SELECT 1000 AS n")
    with pytest.raises(RecoveryError, match="is not empty"):
        restore_home(filled, place, now=clock())
    report = restore_home(filled, place, now=clock(), force=True)
    assert Lake.from_settings(filled).version("raw.numbers") == 1
    assert {Path(one).name.partition(".")[0] for one in report.moved_aside} == {"contracts", "dagster", "tables"}
    aside = next(Path(one) for one in report.moved_aside if Path(one).name.startswith("tables"))
    assert Lake(aside).version("raw.numbers") == 2


def test_a_backup_inside_the_home_is_refused(filled: Settings, clock: Clock) -> None:
    with pytest.raises(RecoveryError, match="lies inside"):
        back_up(filled, str(filled.home_dir / "backup"), now=clock())


def test_old_backups_go_with_what_only_they_needed(filled: Settings, place: str, clock: Clock, tmp_path: Path) -> None:
    gone = original(filled, b"n\n99\n")
    for _ in range(3):
        back_up(filled, place, now=clock())
        gone.unlink(missing_ok=True)
    store = BackupStore.open(place, filled)
    objects = len(list(store.objects()))
    assert prune(filled, place, keep_last=2, now=clock(), dry_run=True).objects_removed == 1
    assert len(store.ids()) == 3
    report = prune(filled, place, keep_last=2, now=clock())
    assert (len(report.removed), report.objects_removed) == (1, 1)
    assert len(list(store.objects())) == objects - 1
    assert len(prune(filled, place, keep_days=0, now=clock()).kept) == 1
    restore_home(filled, place, now=clock(), to=tmp_path / "other")
    with pytest.raises(RecoveryError, match="what to keep"):
        prune(filled, place, now=clock())


def test_nothing_is_removed_beside_a_backup(filled: Settings, place: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    back_up(filled, place, now=clock())
    store = BackupStore.open(place, filled)
    monkeypatch.setattr("lakehouse.recovery.pruning._PATIENCE_S", 0)
    with lease(store.storage, Work.ADDING, patience_s=0), pytest.raises(BackupBusy, match="is in use: adding"):
        prune(filled, place, keep_last=1, now=clock())
    with lease(store.storage, Work.ADDING, patience_s=0), lease(store.storage, Work.ADDING, patience_s=0):
        pass
    assert store.storage.files("leases") == []


def test_a_file_is_rewritten_in_every_backup(filled: Settings, lake: Lake, place: str, clock: Clock, tmp_path: Path) -> None:
    original(filled, b"name\nAda Lovelace\n")
    back_up(filled, place, now=clock())
    write(lake, "raw.numbers", "SELECT 1000 AS n")
    back_up(filled, place, now=clock())
    with changing_backups(place, filled) as trees:
        for tree in trees:
            found = [file.path for file in tree.files() if file.path.startswith("tables/files/") and b"Ada" in tree.read(file.path)]
            assert len(found) == 1
            tree.replace({found[0]: None, "tables/files/numbers/2026-01-31/erased.csv": b"name\n"})
            tree.commit()
    assert all(b"Ada" not in file.read_bytes() for file in Path(place).rglob("*") if file.is_file())
    for tree in backup_trees(place, filled):
        assert [file.path for file in tree.files() if tree.read(file.path) == b"name\n"] == ["tables/files/numbers/2026-01-31/erased.csv"]
    shutil.rmtree(filled.home_dir / "tables")
    restore_home(filled, place, now=clock(), to=tmp_path / "other")
