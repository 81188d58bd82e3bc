"""Rows that are replayed: by a new contract, by a corrected file, and never twice."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.contracts.objects import SchemaChanges
from lakehouse.errors import ContractError, FileRefused
from lakehouse.ingest import IngestReport, restore_dataset
from lakehouse.ingest.contract_versions import CHECK, recorded_contract
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.ingest.conftest import HEADER, PEOPLE, rows_of
from tests.quarantine.conftest import LATER, states

FOUR = HEADER + "P1,30,1.5,1990-05-17,f,1\nP2,130,1.6,1990-05-17,m,1\nP3,old,1.7,1990-05-17,m,1\nP4,40,1.7,1990-05-17,x,1\n"
Load = Callable[..., IngestReport]
WIDER = PEOPLE.replace("maximum: 120", "maximum: 150")


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """One good row and three bad ones."""
    file = tmp_path / "four.csv"
    file.write_text(FOUR, encoding="utf-8")
    return file


def test_a_new_contract_accepts_rows_with_their_origin(
    lake: Lake, people: DatasetContract, write_contract: Callable[..., DatasetContract], load: Load, four: Path, replayed: Any
) -> None:
    load(people, four)
    report = replayed(write_contract(WIDER))
    assert (report.chosen, report.accepted, report.waiting, report.left) == (3, 1, 2, 0)
    assert report.rules == {"age.type": 1, "sex.enum": 1}
    assert rows_of(lake, people.raw, "id, age, _file, _row, _batch, _arrival") == [
        ("P1", 30, "four.csv", 1, 1, None),
        ("P2", 130, "four.csv", 2, 2, 1),
    ]
    assert rows_of(lake, people.raw, "_ingested_at", order="_row")[1][0] == LATER
    assert len({row[0] for row in rows_of(lake, people.raw, "_sha256")}) == 1
    assert states(lake, people) == [("four.csv", 2, "replayed", 2), ("four.csv", 3, "waiting", 2), ("four.csv", 4, "waiting", 2)]
    again = replayed(write_contract(WIDER))
    assert (again.accepted, again.waiting) == (0, 2)
    assert len(rows_of(lake, people.raw)) == 2


@pytest.mark.parametrize("ending", ["csv", "ndjson"])
def test_a_corrected_row_is_accepted_and_its_history_says_who_changed_what(
    lake: Lake, people: DatasetContract, load: Load, four: Path, replayed: Any, edited: Any, ending: str
) -> None:
    load(people, four)

    def correct(row: dict[str, Any]) -> None:
        if int(row["lakehouse_row"]) == 3:
            row["age"] = "33"
        if int(row["lakehouse_row"]) == 4:
            row["height"] = "1.8"

    file = edited(people, correct, ending)
    report = replayed(people, file)
    assert (report.accepted, report.waiting, report.edited, report.done_before) == (1, 2, 2, 0)
    assert rows_of(lake, people.raw, "id, age") == [("P1", 30), ("P3", 33)]
    found = dict(rows_of(lake, people.quarantine, "_row, history"))
    assert found[2] is None
    entry = json.loads(found[3])[0]
    assert (entry["by"], entry["action"], entry["before"], entry["after"]) == ("ann", "edited and replayed", {"age": "old"}, {"age": "33"})
    assert json.loads(found[4])[0]["after"] == {"height": "1.8"}
    record = dict(rows_of(lake, people.quarantine, "_row, record"))
    assert json.loads(record[4])["height"] == "1.8"
    again = replayed(people, file)
    assert (again.accepted, again.waiting, again.done_before, again.edited) == (0, 2, 1, 0)


def test_lines_that_were_no_rows_are_corrected_as_lines_or_by_columns(
    lake: Lake, people: DatasetContract, load: Load, tmp_path: Path, replayed: Any, edited: Any
) -> None:
    file = tmp_path / "lines.csv"
    file.write_text(HEADER + "P1,30,1.5,1990-05-17,f,1\nP2,30,1.5\nP3,1,2,3,4,5,6,7\nP4,too,few\n", encoding="utf-8")
    load(people, file)

    def correct(row: dict[str, Any]) -> None:
        match int(row["lakehouse_row"]):
            case 2:
                row["lakehouse_line"] = 'P2,30,1.5,1990-05-17,"f",1'
            case 3:
                row |= {"id": "P3", "age": "31", "sex": "m"}
            case _:
                row["lakehouse_line"] = "P4,too,many,1,2,3,4,5"

    report = replayed(people, edited(people, correct))
    assert (report.accepted, report.waiting, report.left) == (2, 1, 0)
    assert rows_of(lake, people.raw, "id, age, sex, _row") == [("P1", 30, "f", 1), ("P2", 30, "f", 2), ("P3", 31, "m", 3)]
    assert rows_of(lake, people.quarantine, "record, attempts, status", order="_row")[2] == ("P4,too,many,1,2,3,4,5", 2, "waiting")


def test_a_repaired_row_does_not_take_the_key_of_one_that_its_file_has_in_raw(
    lake: Lake, people: DatasetContract, write_contract: Callable[..., DatasetContract], load: Load, tmp_path: Path, replayed: Any
) -> None:
    file, other = tmp_path / "keys.csv", tmp_path / "other.csv"
    file.write_text(HEADER + "P1,130,,,,\nP1,30,,,,\nP2,131,,,,\nP2,132,,,,\n", encoding="utf-8")
    other.write_text(HEADER + "P2,50,,,,\n", encoding="utf-8")
    load(people, file, other)
    report = replayed(write_contract(WIDER))
    assert (report.accepted, report.waiting) == (1, 2)
    assert rows_of(lake, people.raw, "_file, _row, id, age") == [
        ("keys.csv", 2, "P1", 30),
        ("keys.csv", 3, "P2", 131),
        ("other.csv", 1, "P2", 50),
    ]
    assert report.rules == {"id.unique": 2}


def test_protected_values_are_judged_as_they_arrived_and_stay_protected(
    lake: Lake, write_contract: Callable[..., DatasetContract], load: Load, tmp_path: Path, replayed: Any, edited: Any
) -> None:
    text = PEOPLE.replace("{name: sex,", "{name: sex, classification: restricted,")
    contract, wider = write_contract(text), None
    file = tmp_path / "four.csv"
    file.write_text(FOUR + "P5,30\n", encoding="utf-8")
    load(contract, file)
    before = lake.history(contract.quarantine)
    wider = write_contract(text.replace("maximum: 120", "maximum: 150"))
    report = replayed(wider)
    assert (report.accepted, report.waiting, report.left) == (1, 3, 0)
    stored = rows_of(lake, contract.raw, "sex")
    assert all(value is None or value not in {"f", "m"} for (value,) in stored)

    def correct(row: dict[str, Any]) -> None:
        match int(row["lakehouse_row"]):
            case 3:
                row["age"] = "33"
            case 4:
                row["sex"] = "m"
            case _:
                assert row["lakehouse_line"].startswith("sealed1:")

    report = replayed(wider, edited(wider, correct))
    assert (report.accepted, report.waiting) == (2, 1)
    kept = [*rows_of(lake, contract.quarantine, "record, history"), *rows_of(lake, contract.raw, "sex")]
    assert '"m"' not in str(kept)
    assert before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("lakehouse_row", "row"), "lacks lakehouse_row"),
        (lambda text: text + text.splitlines()[1] + "\n", "twice"),
        (lambda text: text.replace(",2,age", ",77,age"), "not in quarantine"),
        (lambda text: text.replace(",height,", ",heigth,"), "Did you mean height"),
    ],
)
def test_an_edited_file_that_makes_no_sense_is_refused_whole(
    lake: Lake, people: DatasetContract, load: Load, four: Path, replayed: Any, edited: Any, change: Callable[[str], str], words: str
) -> None:
    load(people, four)
    file = edited(people, lambda row: None)
    file.write_text(change(file.read_text("utf-8")), encoding="utf-8")
    with pytest.raises(FileRefused, match=words):
        replayed(people, file)
    assert states(lake, people) == [("four.csv", number, "waiting", 1) for number in (2, 3, 4)]


def test_discarded_rows_wait_no_more_and_can_be_replayed_all_the_same(
    lake: Lake,
    people: DatasetContract,
    write_contract: Callable[..., DatasetContract],
    load: Load,
    four: Path,
    replayed: Any,
    discarded: Any,
) -> None:
    load(people, four)
    report = discarded(people, rule="age.maximum")
    assert report.rows == 1
    assert states(lake, people) == [("four.csv", 2, "discarded", 1), ("four.csv", 3, "waiting", 1), ("four.csv", 4, "waiting", 1)]
    assert json.loads(rows_of(lake, people.quarantine, "history", order="_row")[0][0])[0]["note"] == "checked"
    assert replayed(write_contract(WIDER)).accepted == 0
    assert discarded(people, rule="age.maximum").rows == 0
    assert replayed(write_contract(WIDER), status="discarded").accepted == 1
    assert len(rows_of(lake, people.raw)) == 2


def test_a_restore_counts_the_decisions_that_it_undoes(
    lake: Lake,
    people: DatasetContract,
    write_contract: Callable[..., DatasetContract],
    load: Load,
    four: Path,
    replayed: Any,
    discarded: Any,
    settings: Settings,
) -> None:
    load(people, four)
    before = lake.version(people.raw)
    discarded(people, rule="age.type")
    assert replayed(write_contract(WIDER)).accepted == 1
    decided = lake.version(people.raw)
    restored = restore_dataset(lake, people, before or 0, settings=settings, run="r", now=LATER)
    assert (restored.undecided, [status for _, _, status, _ in states(lake, people)]) == (2, ["waiting"] * 3)
    assert restore_dataset(lake, people, decided or 0, settings=settings, run="r", now=LATER).undecided == 0
    assert [status for _, _, status, _ in states(lake, people)] == ["replayed", "discarded", "waiting"]


def test_a_contract_that_a_replay_judged_by_is_recorded_and_makes_raw_wider(
    lake: Lake, people: DatasetContract, write_contract: Callable[..., DatasetContract], load: Load, four: Path, replayed: Any
) -> None:
    load(people, four)
    wider = write_contract(WIDER.replace("physicalType: INTEGER", "physicalType: BIGINT").replace("version: 1.0.0", "version: 2.0.0"))
    assert replayed(wider).accepted == 1
    assert lake.schema("raw.people")["children"] == "BIGINT"
    assert recorded_contract(lake, "people", "2.0.0").digest == wider.digest


def test_a_replay_keeps_what_the_contract_promised(
    lake: Lake, people: DatasetContract, write_contract: Callable[..., DatasetContract], load: Load, four: Path, replayed: Any
) -> None:
    load(people, four)
    rejecting = replace(
        write_contract(WIDER.replace("required: true, unique: true", "required: true")),
        schema_changes=SchemaChanges(breaking_change="reject"),
    )
    with pytest.raises(ContractError, match="changes what was promised"):
        replayed(rejecting)
    assert states(lake, people) == [("four.csv", number, "waiting", 1) for number in (2, 3, 4)]


def test_a_new_version_is_told_of_once(
    lake: Lake,
    people: DatasetContract,
    write_contract: Callable[..., DatasetContract],
    load: Load,
    four: Path,
    replayed: Any,
    tmp_path: Path,
) -> None:
    load(people, four)
    changed = write_contract(PEOPLE.replace("maximum: 120", "maximum: 60"))
    replayed(changed)

    def told(number: int) -> bool:
        (tmp_path / f"{number}.csv").write_text(HEADER + f"Q{number},30,1.5,1990-05-17,f,1\n", encoding="utf-8")
        return any(check.id == CHECK for check in load(changed, tmp_path / f"{number}.csv").checks)

    assert [told(1), told(2)] == [True, False]
    lake.note("raw.people", stamp=Stamp(asset="maintenance", run="r", source={"compaction": {}}))
    assert not told(3)


def test_an_edited_file_brings_discarded_rows_back_and_says_nothing_else_of_them(
    people: DatasetContract, load: Load, four: Path, replayed: Any, discarded: Any, edited: Callable[..., Path]
) -> None:
    load(people, four)
    corrected = edited(people, lambda row: row.update(age="30"), rule="age.maximum")
    discarded(people, rule="age.maximum")
    assert (replayed(people, corrected).accepted, replayed(people, corrected).done_before) == (0, 1)
    report = replayed(people, corrected, status="discarded")
    assert (report.accepted, report.done_before) == (1, 0)
