"""What becomes of files: accepted, quarantined with every reason, refused, or left alone."""

import bz2
import gzip
import json
import os
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.ingest import IngestReport, ingest, ingest_landing, path, pending, pending_files
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.ingest.conftest import HEADER, PEOPLE, rows_of

Load = Callable[..., IngestReport]
GOOD = "P1,30,1.7,1990-01-02,f,2\nP2,,,,m,\n"
BAD = "P3,abc,x,1990-13-02,q,1\nP4,5,1.1,2015-01-01,f,3\n,30,1.7,1990-01-02,f,0\nP1,31,1.7,1990-01-02,f,2\nP5,1\n"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    file = tmp_path / "mixed.csv"
    file.write_text(HEADER + GOOD + BAD, encoding="utf-8")
    return file


def test_rows_are_typed_and_traced_to_their_file(lake: Lake, people: DatasetContract, load: Load, mixed: Path, now: datetime) -> None:
    report = load(people, mixed)
    file = report.files[0]
    assert (file.status, file.rows_read, file.rows_accepted, file.rows_quarantined) == ("ingested", 7, 2, 5)
    assert rows_of(lake, people.raw) == [
        ("P1", 30, 1.7, date(1990, 1, 2), "f", 2, 1, "mixed.csv", file.sha256, 1, now),
        ("P2", None, None, None, "m", None, 1, "mixed.csv", file.sha256, 2, now),
    ]
    assert report.version == 0
    assert report.as_dict()["files"][0]["rows_quarantined"] == 5


def test_a_bad_row_keeps_its_text_and_every_reason(lake: Lake, people: DatasetContract, load: Load, mixed: Path) -> None:
    load(people, mixed)
    rows = {row[0]: row[1:] for row in rows_of(lake, people.quarantine, "_row, record, level, rules, reasons, status")}
    record, level, rules, reasons, status = rows[3]
    assert json.loads(record) == {"id": "P3", "age": "abc", "height": "x", "born": "1990-13-02", "sex": "q", "children": "1"}
    assert (level, status) == ("structural", "waiting")
    assert sorted(rules) == ["age.type", "born.type", "height.type", "sex.enum"]
    assert len(reasons) == 4
    assert any("abc" in reason for reason in reasons)
    assert rows[4][1:3] == ("business", ["children_need_age"])
    assert rows[5][2] == ["id.required"]
    assert rows[6][2] == ["id.unique"]
    assert json.loads(rows[6][0])["age"] == "31"
    assert rows[7][0] == "P5,1"
    assert rows[7][2] == ["record.shape"]


def test_the_same_content_is_ingested_once_under_whatever_name(lake: Lake, people: DatasetContract, load: Load, mixed: Path) -> None:
    load(people, mixed)
    other = mixed.with_name("other.csv")
    other.write_bytes(mixed.read_bytes())
    report = load(people, mixed, other)
    assert [file.status for file in report.files] == ["already", "already"]
    assert report.version == 0
    assert len(rows_of(lake, people.raw)) == 2
    third = mixed.with_name("third.csv")
    third.write_text(HEADER + "P9,1,1.0,,f,0\n", encoding="utf-8")
    fourth = mixed.with_name("fourth.csv")
    fourth.write_bytes(third.read_bytes())
    assert [file.status for file in load(people, third, fourth).files] == ["ingested", "already"]


@pytest.mark.parametrize("instant", ["take", "in_batches"])
def test_another_process_that_commits_the_same_file_meanwhile_counts_it_once(
    lake: Lake, people: DatasetContract, load: Load, mixed: Path, monkeypatch: pytest.MonkeyPatch, instant: str
) -> None:
    """At instants between the look at what is known and the commit."""
    real = getattr(path, instant)

    def overtaken(*arguments: object) -> object:
        monkeypatch.setattr(path, instant, real)
        load(people, mixed)
        return real(*arguments)

    monkeypatch.setattr(path, instant, overtaken)
    assert [file.status for file in load(people, mixed).files] == ["already"]
    assert lake.version(people.raw) == 0


def test_a_process_that_commits_after_the_batch_was_chosen_supersedes_it(
    lake: Lake, people: DatasetContract, load: Load, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = path.Batch

    def overtaken(*arguments: Any, **more: Any) -> object:
        monkeypatch.setattr(path, "Batch", real)
        load(people, mixed)
        return real(*arguments, **more)

    monkeypatch.setattr(path, "Batch", overtaken)
    assert [file.status for file in load(people, mixed).files] == ["already"]
    assert lake.version(people.raw) == 0


def test_a_later_file_corrects_a_key(lake: Lake, people: DatasetContract, load: Load, tmp_path: Path) -> None:
    for number, age in enumerate((30, 31)):
        file = tmp_path / f"{number}.csv"
        file.write_text(HEADER + f"P1,{age},1.7,1990-01-02,f,2\n", encoding="utf-8")
        assert load(people, file).rows_accepted == 1
    assert rows_of(lake, people.raw, "id, age, _batch") == [("P1", 30, 1), ("P1", 31, 2)]


def test_the_first_good_row_of_a_key_stays(lake: Lake, people: DatasetContract, load: Load, tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"
    file.write_text(HEADER + "P1,999,,,f,\nP1,30,,,f,\nP1,31,,,f,\nP1,999,,,f,\n", encoding="utf-8")
    load(people, file)
    assert rows_of(lake, people.raw, "age, _row") == [(30, 2)]
    assert [row[0] for row in rows_of(lake, people.quarantine, "rules", order="_row")] == [
        ["age.maximum"],
        ["id.unique"],
        ["age.maximum", "id.unique"],
    ]


def test_originals_are_kept_by_content(lake: Lake, people: DatasetContract, load: Load, mixed: Path, now: datetime) -> None:
    report = load(people, mixed)
    original = f"files/people/{now:%Y-%m-%d}/{report.files[0].sha256}.csv"
    assert lake.storage.read(original) == mixed.read_bytes()


def test_protected_values_are_stored_nowhere_in_plain(
    lake: Lake, settings: Settings, write_contract: Callable[..., DatasetContract], load: Load, tmp_path: Path
) -> None:
    text = PEOPLE.replace(
        "- {name: height, logicalType: number, physicalType: DOUBLE}",
        "- {name: height, logicalType: string, physicalType: VARCHAR, classification: restricted,\n"
        "         customProperties: [{property: lakehouse.protection, value: pseudonym}]}",
    )
    contract = write_contract(text)
    assert [column.name for column in contract.protected_columns] == ["height"]
    file = tmp_path / "secret.csv"
    file.write_text(
        HEADER + "P1,30,Alice-Secret,,f,0\nP2,999,Bobby-Secret,,f,0\nP1,31,Carol-Secret,,f,0\nP3,Daisy-Secret\n", encoding="utf-8"
    )
    report = load(contract, file)
    assert (report.rows_accepted, report.rows_quarantined) == (1, 3)
    assert rows_of(lake, contract.raw, "height")[0][0].startswith("pn_")
    stored = [
        path for path in settings.home_dir.rglob("*") if path.is_file() and path.suffix in {".parquet", ".json", ".csv", ".enc", ".sqlite"}
    ]
    assert stored
    assert not [path for path in stored if b"-Secret" in path.read_bytes()]
    shown = str(rows_of(lake, contract.quarantine))
    assert "-Secret" not in shown


def test_a_file_beyond_the_limit_is_refused_as_a_whole(
    lake: Lake, write_contract: Callable[..., DatasetContract], load: Load, mixed: Path, tmp_path: Path
) -> None:
    contract = write_contract(
        PEOPLE + "customProperties:\n  - {property: lakehouse.quarantine, value: {maxBadPercent: 50, above: rejectFile}}\n"
    )
    fine = tmp_path / "fine.csv"
    fine.write_text(HEADER + "P7,30,1.7,,f,2\nP8,300,1.7,,f,2\nP9,30,1.7,,f,2\n", encoding="utf-8")
    report = load(contract, mixed, fine)
    assert [file.status for file in report.files] == ["refused", "ingested"]
    assert "mixed.csv" in str(report.files[0].error)
    assert "71.4 %" in str(report.files[0].error)
    assert rows_of(lake, contract.raw, "id") == [("P7",), ("P9",)]
    assert rows_of(lake, contract.quarantine, "_file, rules") == [("fine.csv", ["age.maximum"])]


def test_files_that_cannot_be_read_are_refused_and_the_others_go_on(
    lake: Lake, people: DatasetContract, load: Load, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress((HEADER + GOOD * 50).encode())[:-30])
    other = tmp_path / "other.csv"
    other.write_text("colour,shape\nred,round\n", encoding="utf-8")
    good = tmp_path / "good.csv"
    good.write_text(HEADER + GOOD, encoding="utf-8")
    missing = tmp_path / "missing.csv"
    report = load(people, empty, cut, other, missing, tmp_path, good)
    assert [file.status for file in report.files] == ["refused"] * 5 + ["ingested"]
    for refused, result in zip((empty, cut, other, missing), report.files, strict=False):
        assert refused.name in str(result.error)
    assert "id" in str(report.files[2].error)
    assert len(rows_of(lake, people.raw)) == 2


def test_only_refused_files_make_no_version(lake: Lake, people: DatasetContract, load: Load, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    assert load(people, empty).version is None
    assert not lake.exists(people.raw)
    assert not lake.exists(people.quarantine)


@pytest.mark.parametrize("kind", ["csv", "semicolon", "utf-16", "cp1252", "gz", "bz2", "zip", "ndjson", "json", "parquet"])
def test_the_format_does_not_change_a_row(lake: Lake, people: DatasetContract, load: Load, tmp_path: Path, kind: str) -> None:
    text = HEADER + GOOD + "P6,999,1.7,,f,1\n"
    lines = [line.split(",") for line in text.splitlines()]
    records = [{name: value or None for name, value in zip(lines[0], line, strict=True)} for line in lines[1:]]
    file = tmp_path / f"people.{kind}"
    match kind:
        case "csv":
            file.write_text(text, encoding="utf-8")
        case "semicolon":
            file.write_text(text.replace(",", ";"), encoding="utf-8")
        case "utf-16" | "cp1252":
            file.write_text(text, encoding=kind)
        case "gz":
            file.write_bytes(gzip.compress(text.encode()))
        case "bz2":
            file.write_bytes(bz2.compress(text.encode()))
        case "zip":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("people.csv", text)
        case "ndjson":
            file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        case "json":
            file.write_text(json.dumps(records, indent=1), encoding="utf-8")
        case _:
            with lake.connect(()) as session:
                values = ", ".join("(" + ", ".join(f"nullif('{value}', '')" for value in line) + ")" for line in lines[1:])
                session.con.execute(f"COPY (SELECT * FROM (VALUES {values}) AS t({text.splitlines()[0]})) TO '{file}' (FORMAT parquet)")
    load(people, file)
    assert rows_of(lake, people.raw, "id, age, height, born, sex, children, _row") == [
        ("P1", 30, 1.7, date(1990, 1, 2), "f", 2, 1),
        ("P2", None, None, None, "m", None, 2),
    ]
    assert rows_of(lake, people.quarantine, "_row, rules") == [(3, ["age.maximum"])]


def test_many_small_files_are_one_version(lake: Lake, people: DatasetContract, load: Load, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.json" for number in range(30)]
    for number, file in enumerate(files):
        file.write_text(json.dumps([{"id": f"P{number}", "age": str(200 if number == 7 else number)}, {"id": "P1000"}]), encoding="utf-8")
    files[3].write_text("[{]", encoding="utf-8")
    report = load(people, *files)
    assert lake.version(people.raw) == 0
    assert report.counts() == {"ingested": 29, "already": 0, "refused": 1}
    assert {(file.rows_read, file.rows_accepted) for file in report.files} == {(2, 2), (2, 1), (0, 0)}
    assert rows_of(lake, people.quarantine, "_file, _row, rules") == [("7.json", 1, ["age.maximum"])]
    assert len(rows_of(lake, people.raw)) == 57


def test_small_files_of_records_are_read_together_as_each_alone(
    lake: Lake, people: DatasetContract, load: Load, tmp_path: Path, settings: Settings, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = '{"id": "P1", "age": 30, "sex": "f"}\n'
    contents = {
        "plain": good + '{"id": "P2"}\n',
        "no end": good + '{"id": "P2", "age": 300}',
        "blank": "\n \t\n" + good + "\n" + '{"id": "P3"}\n\n{"id": "x"}\n',
        "bad": good + '{"id": "P4"\nno json\n[1]\n"text"\n17\n{"id": "P5", "age": "é\u2028"}\n',
        "twice": good + good,
        "unknown": '{"id": "P6", "colour": "red", "age": {"years": 3}}\n' + good,
        "windows": good.replace("\n", "\r\n") * 2,
        "marked": "\ufeff" + good,
        "empty": "",
        "nothing": "\n\n",
        "values": '1\n"a"\n',
        "odd": good + '{"id": "P\x1f7"}\n' + '{"id": "P\\u00007"}\n',
    }
    files = []
    for name, text in contents.items():
        files.append(tmp_path / f"{name}.ndjson")
        files[-1].write_bytes(text.encode())
    files.append(tmp_path / "no text.ndjson")
    files[-1].write_bytes(good.encode() + b'{"id": "P\xff"}\n{"id": "P\0"}\n' + good.encode())
    together = load(people, *files)
    assert lake.version(people.raw) == 0
    monkeypatch.setattr("lakehouse.ingest.reading.plain_lines", lambda *_: None)
    alone = Lake(tmp_path / "alone")
    assert together.files == ingest(alone, people, files, settings=settings, run="r", now=now).files
    for table, columns in ((people.raw, "* EXCLUDE (_batch)"), (people.quarantine, "_file, _row, record, level, rules, reasons")):
        assert rows_of(lake, table, columns) == rows_of(alone, table, columns)


def test_new_columns_follow_the_contract(lake: Lake, write_contract: Callable[..., DatasetContract], load: Load, tmp_path: Path) -> None:
    file = tmp_path / "more.csv"
    file.write_text(HEADER.strip() + ",colour\nP1,30,1.7,,f,2,red\nP2,30,1.7,,f,2,\n", encoding="utf-8")
    drift = "customProperties:\n  - {{property: lakehouse.drift, value: {{newColumns: {}}}}}\n"
    assert load(write_contract(PEOPLE + drift.format("reject")), file).files[0].status == "refused"
    contract = write_contract(PEOPLE + drift.format("rescue"))
    load(contract, file)
    assert rows_of(lake, contract.raw, "id, _rescued") == [("P1", '{"colour":"red"}'), ("P2", None)]


def test_warnings_count_and_never_quarantine(write_contract: Callable[..., DatasetContract], load: Load, mixed: Path) -> None:
    contract = write_contract(
        PEOPLE.replace("name: children_need_age, type: sql, severity: error", "name: children_need_age, type: sql, severity: warning")
    )
    report = load(contract, mixed)
    assert report.rows_quarantined == 4
    check = next(check for check in report.checks if check.id == "children_need_age")
    assert (check.passed, check.rows_failed) == (False, 1)


def test_an_empty_day_is_no_error(lake: Lake, people: DatasetContract, load: Load, tmp_path: Path) -> None:
    file = tmp_path / "nothing.csv"
    file.write_text(HEADER, encoding="utf-8")
    assert load(people, file).files[0].status == "ingested"
    assert load(people, file).files[0].status == "already"
    assert lake.version(people.raw) == 0


def test_landing_waits_for_complete_files(lake: Lake, settings: Settings, people: DatasetContract, now: datetime) -> None:
    folder = settings.landing_dir / "people"
    folder.mkdir(parents=True)
    for name in ("a.csv", "b.csv.part", ".c.csv", "d.tmp"):
        (folder / name).write_text(HEADER + GOOD, encoding="utf-8")
    new = folder / "new.csv"
    new.write_text(HEADER + GOOD + "P3,1,,,f,\n", encoding="utf-8")
    long_ago = time.time() - 60
    os.utime(folder / "a.csv", (long_ago, long_ago))
    found = pending(lake, people, settings=settings)
    assert [file.path.name for file in found.ready] == ["a.csv"]
    assert [path.name for path in found.settling] == ["new.csv"]
    report = ingest_landing(lake, people, settings=settings, run="r", now=now)
    assert report.rows_accepted == 2
    os.utime(new, (long_ago, long_ago))
    with new.open("a", encoding="utf-8"):
        assert pending_files(lake, people, settings=settings) == []
    assert pending_files(lake, people, settings=settings) == [new]


def test_a_refused_landing_file_is_not_read_again_under_the_same_contract(
    lake: Lake, settings: Settings, people: DatasetContract, write_contract: Callable[..., DatasetContract], now: datetime
) -> None:
    folder = settings.landing_dir / "people"
    folder.mkdir(parents=True)
    file = folder / "odd.csv"
    file.write_text("colour\nred\n", encoding="utf-8")
    os.utime(file, (0, 0))
    assert ingest_landing(lake, people, settings=settings, run="r", now=now).files[0].status == "refused"
    found = pending(lake, people, settings=settings)
    assert found.ready == ()
    assert found.refused[0][0] == file
    changed = write_contract(PEOPLE.replace("version: 1.0.0", "version: 1.1.0"))
    assert len(pending(lake, changed, settings=settings).ready) == 1


def test_a_piece_boundary_changes_nothing(
    lake: Lake, settings: Settings, people: DatasetContract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.ingest import ingest, reading, sorting

    text = HEADER + "".join(
        f'P{number % 900},{number % 140},1.{number % 10},,"{"fx"[number % 7 == 0]}",{chr(10) if number % 50 == 0 else ""}{number % 3}\n'
        for number in range(1000)
    )
    file = tmp_path / "sliced.csv"
    file.write_text(text, encoding="utf-8")
    whole, sliced = Lake(tmp_path / "whole"), Lake(tmp_path / "sliced")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    ingest(whole, people, [file], settings=settings, run="r", now=at)
    original = reading.read_chunks
    monkeypatch.setattr(reading, "_SMALL_BYTES", 0)
    monkeypatch.setattr(sorting, "_DIRECT_ROWS", 50)
    monkeypatch.setattr(reading, "_is_one_piece", lambda *_: False)
    monkeypatch.setattr(reading, "read_chunks", lambda *args, **named: original(*args, **named, slice_bytes=4096))
    ingest(sliced, people, [file], settings=settings, run="r", now=at)
    for table in (people.raw, people.quarantine):
        assert rows_of(whole, table, order="_row") == rows_of(sliced, table, order="_row")
    assert len(rows_of(whole, people.quarantine)) > 100


def test_the_only_document_among_other_files_keeps_its_row_numbers(lake: Lake, people: DatasetContract, load: Load, tmp_path: Path) -> None:
    table, document = tmp_path / "a.csv", tmp_path / "b.json"
    table.write_text(HEADER + GOOD, encoding="utf-8")
    document.write_text('[{"id": "P8", "age": "8"}, 5, {"id": "P9", "age": "900"}]', encoding="utf-8")
    report = load(people, table, document)
    assert [file.rows_quarantined for file in report.files] == [0, 2]
    assert rows_of(lake, people.quarantine, "_file, _row, rules") == [("b.json", 2, ["record.shape"]), ("b.json", 3, ["age.maximum"])]


MORE = [
    ("csv", HEADER.strip() + ",colour\nP1,30,1.7,,f,2,red\nP2,30,1.7,,f,2,\n"),
    ("ndjson", '{"id": "P1", "age": 30, "colour": "red"}\n{"id": "P2", "age": 30}\n'),
    ("json", '[{"id": "P1", "age": 30, "colour": "red"}, {"id": "P2", "age": 30}]'),
]


@pytest.mark.parametrize(("ending", "text"), MORE, ids=[ending for ending, _ in MORE])
@pytest.mark.parametrize("policy", ["warn", "rescue", "ignore", "reject"])
def test_new_columns_are_named_and_follow_the_contract(
    lake: Lake, write_contract: Callable[..., DatasetContract], load: Load, tmp_path: Path, policy: str, ending: str, text: str
) -> None:
    file, plain = tmp_path / f"more.{ending}", tmp_path / f"plain.{ending}"
    file.write_text(text, encoding="utf-8")
    plain.write_text(
        text.replace("colour", "height").replace(",height\n", "\n").replace(",red\n", "\n").replace("P", "P7"), encoding="utf-8"
    )
    declared = f"customProperties:\n  - {{property: lakehouse.schemaChanges, value: {{newColumns: {policy}}}}}\n"
    contract = write_contract(PEOPLE + declared)
    report = load(contract, file, plain)
    if policy == "reject":
        assert [one.status for one in report.files] == ["refused", "ingested"]
        assert "colour" in str(report.files[0].error)
        return
    assert [one.rows_read for one in report.files] == [2, 2]
    warnings = {one.path: " ".join(one.warnings) for one in report.files}
    assert ("column colour" in warnings[str(file)]) == (policy != "ignore")
    assert "colour" not in warnings[str(plain)]
    if policy == "rescue":
        assert rows_of(lake, contract.raw, "id, _rescued")[:1] == [("P1", '{"colour":"red"}')]
    check = next((one for one in report.checks if one.id == "batch.new_columns"), None)
    assert (check is None) if policy == "ignore" else (check is not None and check.is_warning and "more." in check.detail)


def test_a_missing_column_is_named_once_and_null_in_every_row(lake: Lake, people: DatasetContract, load: Load, tmp_path: Path) -> None:
    file = tmp_path / "less.csv"
    file.write_text("id,age,born,sex\nP1,30,,f\nP2,31,,m\n", encoding="utf-8")
    report = load(people, file)
    assert report.files[0].as_dict()["warnings"] == ["less.csv lacks columns height, children: no row of it has a value there"]
    assert rows_of(lake, people.raw, "id, height, children") == [("P1", None, None), ("P2", None, None)]
    check = next(one for one in report.checks if one.id == "batch.missing_columns")
    assert check.is_warning
    assert "less.csv" in check.detail


def test_new_keys_that_come_late_in_a_large_file_are_kept(
    lake: Lake, write_contract: Callable[..., DatasetContract], load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.ingest.reading._SMALL_BYTES", 0)
    contract = write_contract(PEOPLE + "customProperties:\n  - {property: lakehouse.schemaChanges, value: {newColumns: rescue}}\n")
    file = tmp_path / "late.ndjson"
    lines = [json.dumps({"id": f"P{number}", "age": 30, **({"Age": 1, "Übung": "x"} if number == 99 else {})}) for number in range(100)]
    file.write_text("\n".join(lines), encoding="utf-8")
    report = load(contract, file)
    assert report.rows_accepted == 100
    assert "columns Age, Übung" in report.files[0].warnings[0]
    assert rows_of(lake, contract.raw, "id, _rescued", order="_row")[-1] == ("P99", '{"Übung":"x"}')
