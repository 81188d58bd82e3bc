"""The next file of an added dataset has other types or other columns: what the user is told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def visits(lakehouse: Run, tmp_path: Path) -> Run:
    """A dataset with whole numbers, dates and text."""
    file = tmp_path / "first.csv"
    file.write_text("visit,pages,day,note\n" + "".join(f"V{i:03d},{i % 7},2024-01-{i % 28 + 1:02d},n{i}\n" for i in range(200)))
    assert lakehouse("add", file, "--name", "visits").code == 0
    assert lakehouse("ingest", "visits", file).code == 0
    return lakehouse


@pytest.mark.parametrize(
    ("pages", "day", "rule", "example", "change"),
    [
        ("few", "2024-02-01", "pages.type in 40 rows", "row 1: pages is few: expected a whole number", "pages as logicalType: string"),
        ("2.5", "2024-02-01", "pages.type in 40 rows", "row 1: pages is 2.5: expected a whole number", "pages as logicalType: number"),
        ("3", "25/02/2024", "day.type in 40 rows", "row 1: day is 25/02/2024: expected a date", "add %d/%m/%Y to lakehouse.format of day"),
        ("3", "2024-02-01 10:30", "day.type in 40 rows", "row 1: day is 2024-02-01 10:30: expected", "day as logicalType: timestamp"),
    ],
)
def test_a_retyped_column_is_refused_with_the_change_that_would_accept_it(
    visits: Run, tmp_path: Path, pages: str, day: str, rule: str, example: str, change: str
) -> None:
    file = tmp_path / "second.csv"
    file.write_text("visit,pages,day,note\n" + "".join(f"W{i},{pages},{day},x\n" for i in range(40)) + "W99,1,2024-02-01,x\n")
    outcome = visits("ingest", "visits", file, "--json")
    assert outcome.code == 1
    error = outcome.json["files"][0]["error"]
    for part in ("second.csv", "40 of 41 rows", "at most 30 %", rule, example, change, "visits.odcs.yaml"):
        assert part in error
    assert part in outcome.err
    assert visits("query", "SELECT count(*) AS n FROM raw.visits", "--json").json["rows"] == [{"n": 200}]


def test_a_few_bad_rows_are_quarantined_and_no_error(visits: Run, tmp_path: Path) -> None:
    file = tmp_path / "second.csv"
    file.write_text("visit,pages,day,note\n" + "".join(f"W{i},{'few' if i < 5 else 1},2024-02-01,x\n" for i in range(40)))
    outcome = visits("ingest", "visits", file, "--json")
    assert outcome.code == 0
    assert outcome.json["files"][0]["rows_quarantined"] == 5


def test_new_and_missing_columns_are_named_and_nothing_is_lost(visits: Run, tmp_path: Path) -> None:
    file = tmp_path / "second.csv"
    file.write_text("visit,pages,note,coupon code\n" + "".join(f"W{i},1,x,C{i}\n" for i in range(3)))
    outcome = visits("ingest", "visits", file, "--json")
    assert outcome.code == 0
    lacks, has = outcome.json["files"][0]["warnings"]
    assert lacks == "second.csv lacks column day: no row of it has a value there"
    assert has.startswith("second.csv has column 'coupon code' that the contract does not know: the values are kept in raw.visits._rescued")
    kept = visits("query", "SELECT day, _rescued FROM raw.visits WHERE visit = 'W1'", "--json").json["rows"]
    assert kept == [{"day": None, "_rescued": '{"coupon code":"C1"}'}]
    third = tmp_path / "third.csv"
    third.write_text(file.read_text().replace("W", "X"))
    shown = visits("ingest", "visits", third)
    assert "Warning: third.csv lacks column day" in shown.out
    assert "Warning: third.csv has column 'coupon code'" in shown.out


def test_half_a_character_waits_in_quarantine_and_can_be_shown(lakehouse: Run, tmp_path: Path) -> None:
    file = tmp_path / "first.ndjson"
    file.write_text("".join(f'{{"id": {number}, "user": "u{number}"}}\n' for number in range(20)))
    assert lakehouse("add", file, "--name", "clicks").code == 0
    file.write_text("".join(f'{{"id": {number}, "user": "u{number}"}}\n' for number in range(20)) + '{"id": 70, "user": "\\ud800"}\n')
    assert lakehouse("ingest", "clicks", file).code == 0
    shown = lakehouse("quarantine", "show", "clicks")
    assert (shown.code, "\\ud800" in shown.out) == (0, True)
    (row,) = lakehouse("quarantine", "show", "clicks", "--json").json["rows"]
    assert "\\ud800" in str(row["record"]).encode("utf-8", "backslashreplace").decode()
