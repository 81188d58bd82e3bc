"""A repaired file takes the place of the damaged one: at once, afterwards, and whatever is killed in between."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.errors import SourceError
from lakehouse.ingest import IngestReport, ingest, replacing
from lakehouse.monitoring import dataset_volume
from lakehouse.recovery.home_checks import check_conservation
from lakehouse.settings import Settings
from lakehouse.tables import ROWS_REMOVED, Lake, Stamp
from lakehouse.tables.tiers import archive_tiers, move_down, point_down, rows_over
from tests.ingest.conftest import HEADER, rows_of
from tests.quarantine.conftest import LATER, states

DAMAGED = HEADER + "P1,30,,,,\nP2,old,,,,\nP3,40,,,,\n"
REPAIRED = HEADER + "P1,30,,,,\nP2,35,,,,\nP3,40,,,,\nP4,41,,,,\n"
Ingest = Callable[..., IngestReport]


@pytest.fixture
def bring(lake: Lake, people: DatasetContract, settings: Settings) -> Ingest:
    def run(*paths: Path, contract: DatasetContract | None = None, **how: Any) -> IngestReport:
        return ingest(lake, contract or people, paths, settings=settings, run="r", now=LATER, **how)

    return run


@pytest.fixture
def damaged(tmp_path: Path, bring: Ingest) -> Path:
    """The path of a file that arrived damaged, beside another one, and lies there repaired now."""
    file, other = tmp_path / "day.csv", tmp_path / "other.csv"
    file.write_text(DAMAGED, encoding="utf-8")
    other.write_text(HEADER + "P9,old,,,,\nP8,50,,,,\n", encoding="utf-8")
    bring(file, other)
    file.write_text(REPAIRED, encoding="utf-8")
    return file


def check_replaced(lake: Lake, people: DatasetContract) -> None:
    assert rows_of(lake, people.raw, "id, age, _file") == [
        ("P1", 30, "day.csv"),
        ("P2", 35, "day.csv"),
        ("P3", 40, "day.csv"),
        ("P4", 41, "day.csv"),
        ("P8", 50, "other.csv"),
    ]
    assert states(lake, people) == [("day.csv", 2, "discarded", 1), ("other.csv", 1, "waiting", 1)]
    volume = dataset_volume(lake, people.name)
    assert (volume.rows_read, volume.rows_accepted, volume.rows_quarantined, volume.rows_replaced) == (9, 5, 4, 2)
    assert lake.transaction(people.raw, ROWS_REMOVED) is not None


def test_a_repaired_file_replaces_what_arrived_under_its_name(lake: Lake, people: DatasetContract, bring: Ingest, damaged: Path) -> None:
    version = lake.version(people.raw)
    report = bring(damaged, repaired=True)
    assert (report.files[0].status, len(report.files[0].replaced)) == ("ingested", 1)
    check_replaced(lake, people)
    assert version is not None
    assert lake.version(people.raw) == version + 1
    again = bring(damaged, repaired=True)
    assert (again.files[0].status, again.files[0].replaced, again.version) == ("already", (), report.version)


@pytest.mark.parametrize("is_cold", [False, True])
def test_rows_of_the_replaced_file_that_were_archived_go_as_well(
    lake: Lake, people: DatasetContract, bring: Ingest, damaged: Path, settings: Settings, is_cold: bool
) -> None:
    tiers = archive_tiers(settings, lake)
    hot, warm, cold = tiers.values()
    stamp = Stamp("maintenance", "r")
    move_down(hot, warm, people.raw, "id IN ('P1', 'P3', 'P8')", stamp=stamp, tier="warm")
    if is_cold:
        move_down(warm, cold, people.raw, "id IN ('P1', 'P8')", stamp=stamp, tier="cold")
        point_down(hot, warm, people.raw, stamp=stamp, tier="warm")
    assert (rows_of(lake, people.raw), rows_over(list(tiers.values()), people.raw)) == ([], 3)
    assert len(bring(damaged, repaired=True).files[0].replaced) == 1
    assert rows_over(list(tiers.values()), people.raw) == 5
    # What belongs to another file stays where it was.
    assert rows_of(lake, people.raw, "id, age") == [("P1", 30), ("P2", 35), ("P3", 40), ("P4", 41)]
    assert check_conservation(list(tiers.values()), people.name) == []
    volume = dataset_volume(lake, people.name)
    assert (volume.rows_read, volume.rows_accepted, volume.rows_quarantined, volume.rows_replaced) == (9, 5, 4, 2)


def test_rows_archived_while_their_file_is_replaced_go_as_well(
    lake: Lake, people: DatasetContract, bring: Ingest, damaged: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = list(archive_tiers(settings, lake).values())
    found = replacing.take_out

    def archived_after(*arguments: Any, **named: Any) -> Any:
        taken = found(*arguments, **named)
        move_down(tiers[0], tiers[1], people.raw, "id = 'P1'", stamp=Stamp("maintenance", "r"), tier="warm")
        monkeypatch.setattr("lakehouse.ingest.batch.take_out", found)
        return taken

    monkeypatch.setattr("lakehouse.ingest.batch.take_out", archived_after)
    bring(damaged, repaired=True)
    assert rows_over(tiers, people.raw) == 5
    check_replaced(lake, people)


def test_a_file_that_came_in_beside_the_damaged_one_replaces_it_afterwards(
    lake: Lake, people: DatasetContract, bring: Ingest, damaged: Path
) -> None:
    first = bring(damaged)
    assert "--repaired" in first.files[0].warnings[0]
    assert len(rows_of(lake, people.raw)) == 7
    digest = next(row[0] for row in rows_of(lake, people.quarantine, "_sha256, _file") if row[1] == "day.csv")
    assert bring(damaged, replaces=[digest[:10]]).files[0].replaced == (digest,)
    check_replaced(lake, people)


def test_the_damaged_file_delivered_once_more_changes_nothing(lake: Lake, people: DatasetContract, bring: Ingest, damaged: Path) -> None:
    bring(damaged, repaired=True)
    damaged.write_text(DAMAGED, encoding="utf-8")
    for how in ({}, {"repaired": True}):
        assert bring(damaged, **how).files[0].status == "already"
        check_replaced(lake, people)


def test_a_contract_says_that_files_of_one_name_replace_each_other(
    lake: Lake, people: DatasetContract, bring: Ingest, damaged: Path
) -> None:
    contract = replace(people, redelivery="replaces")
    bring(damaged, contract=contract)
    check_replaced(lake, people)
    bring(damaged, contract=contract)
    check_replaced(lake, people)


def test_rows_that_were_replayed_leave_with_their_file(
    lake: Lake, people: DatasetContract, bring: Ingest, damaged: Path, replayed: Any, edited: Any
) -> None:
    def correct(row: dict[str, Any]) -> None:
        row["age"] = "33"

    assert replayed(people, edited(people, correct, file="day.csv")).accepted == 1
    bring(damaged, repaired=True)
    assert len(rows_of(lake, people.raw)) == 5
    assert [row[2] for row in states(lake, people)] == ["discarded", "waiting"]
    assert dataset_volume(lake, people.name).rows_accepted == 5


def test_a_refused_file_replaces_nothing_and_what_is_meant_must_be_known(
    lake: Lake, people: DatasetContract, bring: Ingest, damaged: Path, tmp_path: Path
) -> None:
    before = lake.version(people.raw)
    damaged.write_bytes(b"\x00\x01" * 50)
    assert bring(damaged, repaired=True).files[0].status == "refused"
    assert lake.version(people.raw) == before
    with pytest.raises(SourceError, match="no file that was ingested"):
        bring(damaged, replaces=["nothing.csv"])
    with pytest.raises(SourceError, match="by one file only"):
        bring(damaged, tmp_path / "other.csv", replaces=["day.csv"])


@pytest.mark.parametrize("point", ["before", "between", "after"])
def test_killed_at_any_commit_and_run_again(
    lake: Lake, people: DatasetContract, bring: Ingest, damaged: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    from lakehouse.ingest.pieces import PiecewiseAppend

    class Died(BaseException):
        """As a killed process."""

    commit, append = PiecewiseAppend.commit, Lake.append

    def die(*arguments: Any, **more: Any) -> Any:
        if point == "after":
            commit(*arguments, **more)
        raise Died

    def die_early(*_: Any, **__: Any) -> Any:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(PiecewiseAppend, "commit", die)
        if point == "before":
            patched.setattr(Lake, "append", die_early)
        with pytest.raises(Died):
            bring(damaged, repaired=True)
    assert append is Lake.append
    bring(damaged, repaired=True)
    check_replaced(lake, people)
