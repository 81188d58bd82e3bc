"""The same in a bucket: tables there, backups there, and from one to the other."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from lakehouse.errors import BackupBusy, RecoveryError
from lakehouse.privacy import key
from lakehouse.recovery.backing_up import back_up
from lakehouse.recovery.leases import Work, lease
from lakehouse.recovery.pruning import prune
from lakehouse.recovery.repairing import repair
from lakehouse.recovery.restoring import restore_home
from lakehouse.recovery.store import BackupStore
from lakehouse.recovery.tree import changing_backups
from lakehouse.recovery.verifying import verify_home
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.recovery.conftest import sum_of, write
from tests.servers.fixtures import S3Server

pytestmark = pytest.mark.servers
Clock = Callable[[], datetime]


@pytest.fixture
def on_s3(s3_settings: Settings) -> Settings:
    lake = Lake.from_settings(s3_settings)
    first = write(lake, "raw.numbers", "SELECT range AS n FROM range(100)")
    write(lake, "staging.numbers", "SELECT range AS n FROM range(100)", inputs={"raw.numbers": first})
    lake.storage.write("files/numbers/2026-01-31/original.csv", b"n\n1\n")
    key(s3_settings)
    return s3_settings


def test_tables_and_backups_in_buckets(
    on_s3: Settings, s3_server: S3Server, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = s3_server.new_root()
    with pytest.raises(RecoveryError, match="lies inside"):
        back_up(on_s3, f"{on_s3.tables_uri}/backups", now=clock())
    back_up(on_s3, place, now=clock())
    lake = Lake.from_settings(on_s3)
    write(lake, "raw.numbers", "SELECT 1000 AS n")
    more = back_up(on_s3, place, now=clock())
    assert (more.files_read, more.objects_added) == (2, 2)
    assert verify_home(on_s3, backup=place).is_green
    assert verify_home(on_s3, backup=place).digests_noted == 0

    restore_home(on_s3, place, now=clock(), to=tmp_path / "folder")
    assert sum_of(Lake(tmp_path / "folder" / "tables"), "raw.numbers") == 5950
    with pytest.raises(RecoveryError, match="is not empty"):
        restore_home(on_s3, place, now=clock())
    monkeypatch.setenv("LAKEHOUSE_URI", s3_server.new_root())
    elsewhere = Settings.load()
    restore_home(elsewhere, place, now=clock())
    assert sum_of(Lake.from_settings(elsewhere), "raw.numbers") == 5950
    # What an interrupted restore has put there is no reason to refuse.
    restore_home(elsewhere, place, now=clock())
    assert verify_home(elsewhere, backup=place).is_green


def test_damage_pruning_and_rewriting_in_a_bucket(
    on_s3: Settings, s3_server: S3Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = s3_server.new_root()
    back_up(on_s3, place, now=clock())
    back_up(on_s3, place, now=clock())
    storage = Lake.from_settings(on_s3).storage
    victim = Lake.from_settings(on_s3).snapshot("raw.numbers").files[0].path
    whole = storage.read(f"raw/numbers/{victim}")
    assert whole is not None
    storage.write(f"raw/numbers/{victim}", whole[:-9] + b"?" + whole[-8:])
    (failure, *_) = verify_home(on_s3, backup=place).failures
    assert failure.path == f"tables/raw/numbers/{victim}"
    assert repair(on_s3, place, ["raw.numbers"]).replaced == (failure.path,)
    assert verify_home(on_s3, backup=place).is_green

    store = BackupStore.open(place, on_s3)
    monkeypatch.setattr("lakehouse.recovery.pruning._PATIENCE_S", 0)
    with lease(store.storage, Work.ADDING, patience_s=0), pytest.raises(BackupBusy):
        prune(on_s3, place, keep_last=1, now=clock())
    with changing_backups(place, on_s3) as trees:
        for tree in trees:
            tree.replace({"tables/files/numbers/2026-01-31/original.csv": None})
            tree.commit()
    assert verify_home(on_s3, backup=place).is_green
    assert len(prune(on_s3, place, keep_last=1, now=clock()).removed) == 1
