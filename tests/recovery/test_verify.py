"""What is damaged is found, named, and can be put back."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from lakehouse.errors import BackupDamaged, RecoveryError
from lakehouse.recovery.backing_up import back_up
from lakehouse.recovery.backup_checks import check_backups
from lakehouse.recovery.checksums import forget
from lakehouse.recovery.repairing import repair
from lakehouse.recovery.restoring import restore_home
from lakehouse.recovery.store import BackupStore
from lakehouse.recovery.verifying import VerifyReport, verify_home
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.recovery.conftest import original, sum_of, write

Clock = Callable[[], datetime]


def flip(path: Path, at: int, mask: int = 0xFF) -> None:
    """Change one byte as a bad disk would: nothing else tells of it."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def problems(report: VerifyReport) -> set[tuple[str, str]]:
    return {(one.check, one.subject) for one in report.failures}


@pytest.fixture
def tables(filled: Settings) -> Path:
    return Path(filled.tables_uri)


def test_a_sound_home_is_green(filled: Settings, lake: Lake) -> None:
    first = verify_home(filled)
    assert first.is_green, first.failures
    assert (first.digests_compared, first.digests_noted) == (2, first.files)
    again = verify_home(filled)
    assert (again.digests_compared, again.digests_noted) == (again.files, 0)
    write(lake, "raw.numbers", "SELECT 1000 AS n")
    assert verify_home(filled).digests_noted == 2
    assert verify_home(filled, ["raw.numbers"]).tables == {"raw.numbers": 2}


def test_a_changed_byte_of_a_data_file_is_found_and_put_back(filled: Settings, lake: Lake, tables: Path, place: str, clock: Clock) -> None:
    back_up(filled, place, now=clock())
    write(lake, "raw.numbers", "SELECT 1000 AS n")
    victim = Path(lake.snapshot("raw.numbers", 0).files[0].uri)
    flip(victim, 40)
    report = verify_home(filled, backup=place)
    (failure,) = [one for one in report.failures if one.check == "bytes_are_as_written"]
    assert (failure.subject, failure.path, failure.versions) == ("raw.numbers", f"tables/raw/numbers/{victim.name}", "0-2")
    assert failure.fix == f"lakehouse restore-backup {place} --only raw.numbers"
    assert repair(filled, place, ["raw.numbers"], dry_run=True).replaced == (failure.path,)
    assert repair(filled, place, ["raw.numbers"]).replaced == (failure.path,)
    assert verify_home(filled, backup=place).is_green
    assert sum_of(Lake.from_settings(filled), "raw.numbers") == 20900


def test_what_is_missing_from_the_log_or_the_folder_is_named(filled: Settings, lake: Lake, tables: Path, place: str, clock: Clock) -> None:
    back_up(filled, place, now=clock())
    Path(lake.snapshot("analytics.totals").files[0].uri).unlink()
    (tables / "raw" / "numbers" / "_delta_log" / f"{0:020d}.json").unlink()
    (tables / "staging" / "numbers" / "_delta_log" / f"{1:020d}.json").write_text('{"commitInfo":')
    found = problems(verify_home(filled, backup=place))
    assert {
        ("data_files_are_there", "analytics.totals"),
        ("log_has_no_gaps", "raw.numbers"),
        ("log_can_be_read", "staging.numbers"),
    } <= found
    repair(filled, place, ["analytics.totals", "raw.numbers", "staging.numbers"])
    assert verify_home(filled, backup=place).is_green
    shutil.rmtree(tables / "analytics" / "totals")
    repair(filled, place, ["analytics.totals"])
    assert verify_home(filled, backup=place).is_green


def test_what_a_version_changed_is_backed_up_missed_and_put_back(filled: Settings, lake: Lake, place: str, clock: Clock) -> None:
    stamp = Stamp(asset="test", run="test")
    con = lake.open_connection()
    for number in (1, 2):
        lake.delete(con, "raw.numbers", f"n = {number}", stamp=stamp)
    con.close()
    back_up(filled, place, now=clock())
    changes = sorted(Path(filled.tables_uri, "raw", "numbers", "_change_data").iterdir())
    assert len(changes) == 2
    assert verify_home(filled).is_green
    changes[0].unlink()
    (failure,) = verify_home(filled, backup=place).failures
    assert (failure.check, failure.path) == ("data_files_are_there", f"tables/raw/numbers/_change_data/{changes[0].name}")
    repair(filled, place, ["raw.numbers"])
    assert verify_home(filled, backup=place).is_green
    # Of a version that vacuum has removed nobody expects it.
    lake.vacuum("raw.numbers", retention=timedelta(0), now=datetime(2100, 1, 1, tzinfo=UTC), force=True)
    assert sum(path.exists() for path in changes) == 1
    assert verify_home(filled).is_green


def test_a_table_made_anew_is_not_mixed_with_the_old_one(filled: Settings, lake: Lake, tables: Path, place: str, clock: Clock) -> None:
    back_up(filled, place, now=clock())
    shutil.rmtree(tables / "analytics" / "totals")
    write(Lake.from_settings(filled), "analytics.totals", "SELECT 1 AS n")
    with pytest.raises(RecoveryError, match="another table"):
        repair(filled, place, ["analytics.totals"])
    with pytest.raises(RecoveryError, match=r"expected one of analytics\.totals"):
        repair(filled, place, ["raw.nothing"])


def test_rows_that_do_not_fit_the_log_are_found(filled: Settings, lake: Lake, tables: Path) -> None:
    log = tables / "raw" / "numbers" / "_delta_log" / f"{1:020d}.json"
    text = log.read_text()
    log.write_text(text.replace('\\"numRecords\\": 100', '\\"numRecords\\": 101').replace('{\\"n\\": 199}', '{\\"n\\": 150}'))
    assert log.read_text() != text
    found = [one.problem for one in verify_home(filled).failures]
    assert found == ["holds 100 rows, the log says 101", "has values of n outside the bounds in the log: readers would miss them"]


def test_lost_and_doubled_rows_of_a_file_are_found(filled: Settings, lake: Lake) -> None:
    for name, rows in (("good", 10), ("lost", 9), ("doubled", 11)):
        source = {
            "batch": 1,
            "files": [{"file": f"{name}.csv", "sha256": name, "rows_read": 10, "rows_accepted": 10, "rows_quarantined": 0}],
        }
        write(lake, f"raw.{name}", f"SELECT range AS n, '{name}' AS _sha256, 1::BIGINT AS _batch FROM range({rows})", source=source)
    report = verify_home(filled)
    assert problems(report) == {("rows_are_conserved", "raw.lost"), ("rows_are_conserved", "raw.doubled")}


def test_an_original_that_is_not_what_its_name_says_is_found_at_once(filled: Settings) -> None:
    flip(original(filled, b"n\n77\n"), 2)
    assert problems(verify_home(filled)) == {("bytes_are_as_written", "originals")}


def test_rewriting_on_purpose_can_be_announced(filled: Settings, lake: Lake, tables: Path) -> None:
    verify_home(filled)
    log = tables / "raw" / "numbers" / "_delta_log" / f"{1:020d}.json"
    log.write_text(log.read_text() + "\n")
    assert problems(verify_home(filled)) == {("bytes_are_as_written", "raw.numbers")}
    forget(lake.storage, ["raw/numbers/_delta_log/00000000000000000001.json"])
    assert verify_home(filled).is_green


@pytest.mark.parametrize("most", [4, pytest.param(25, marks=pytest.mark.slow)])
def test_any_byte_of_any_file_of_the_home(filled: Settings, lake: Lake, tables: Path, place: str, clock: Clock, most: int) -> None:
    lake.snapshot("raw.numbers").delta.create_checkpoint()
    verify_home(filled)
    back_up(filled, place, now=clock())
    # The hint where the newest checkpoint is vouches for nothing; databases have their own check.
    every = [path for path in files_below(tables) if path.name != "_last_checkpoint"]

    @examples(max_examples=most, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(every))
        at = data.draw(st.integers(0, path.stat().st_size - 1))
        mask = data.draw(st.integers(1, 255))
        flip(path, at, mask)
        try:
            report = verify_home(filled)
            inside = str(path.relative_to(tables))
            named = [one.path for one in report.failures]
            assert f"tables/{inside}" in named, (inside, at, report.failures)
        finally:
            flip(path, at, mask)
        assert verify_home(filled, quick=True).is_green

    law()


@pytest.mark.parametrize("most", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_any_byte_of_a_backup(filled: Settings, place: str, clock: Clock, tmp_path_factory: pytest.TempPathFactory, most: int) -> None:
    back_up(filled, place, now=clock())
    every = files_below(Path(place))

    @examples(max_examples=most, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(every))
        at = data.draw(st.integers(0, path.stat().st_size - 1))
        mask = data.draw(st.integers(1, 255))
        flip(path, at, mask)
        try:
            assert check_backups(BackupStore.open(place, filled), filled, quick=False).failures
            with pytest.raises(BackupDamaged):
                restore_home(filled, place, now=clock(), to=tmp_path_factory.mktemp("other"))
        finally:
            flip(path, at, mask)

    law()
    restore_home(filled, place, now=clock(), to=tmp_path_factory.mktemp("other"))


def test_a_damaged_object_is_stored_anew_by_a_full_backup(filled: Settings, place: str, clock: Clock) -> None:
    back_up(filled, place, now=clock())
    store = BackupStore.open(place, filled)
    victim = next(path for path in files_below(Path(place) / "objects"))
    flip(victim, 0)
    assert not verify_home(filled, backup=place).is_green
    back_up(filled, place, now=clock())
    assert not verify_home(filled, backup=place).is_green
    back_up(filled, place, now=clock(), full=True)
    assert verify_home(filled, backup=place).is_green
    assert len(store.ids()) == 3


def test_a_manifest_of_another_key_or_none_is_told(filled: Settings, place: str, clock: Clock) -> None:
    back_up(filled, place, now=clock())
    filled.key_file.write_text("ab" * 32)
    report = verify_home(filled, backup=place)
    assert report.is_green
    assert report.backups is not None
    assert "not at hand" in report.backups.notes[0]
    unsigned = BackupStore(BackupStore.open(place, filled).storage, None)
    unsigned.rewrite(unsigned.at(None))
    assert {one.problem for one in verify_home(filled, backup=place).failures} == {"its manifest is not signed"}
