"""diff, restore, as-of and tag by the command line."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.tables import Lake
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]
RAW = "raw.household_survey"
pytestmark = pytest.mark.usefixtures("small_lake")


def test_a_tag_names_a_version_wherever_one_is_asked_for(lakehouse: Run) -> None:
    assert lakehouse("tag", "add", RAW, "first", "--version", 0, "--note", "two [b]waves[/b]").code == 0
    assert "first" in lakehouse("history", RAW).out
    assert "two [b]waves[/b]" in lakehouse("tag", "list", RAW).out
    assert len(lakehouse("as-of", RAW, "first", "--json").json["rows"]) == 10
    assert lakehouse("query", f"select count(*) as n from {RAW}", "--as-of", f"{RAW}@first", "--json").json["rows"] == [{"n": 10}]
    assert lakehouse("diff", RAW, "first", "--json").json["added"] == 20
    taken = lakehouse("tag", "add", RAW, "first", "--json")
    assert (taken.code, taken.json["problem"]) == (2, "is taken")
    assert lakehouse("tag", "remove", RAW, "first", "--json").json["removed"]
    assert lakehouse("tag", "remove", RAW, "first").code == 2
    assert "No version has a name" in lakehouse("tag", "list").out


def test_rows_are_paired_by_the_key_of_the_contract(lakehouse: Run, small_lake: Lake, tmp_path: Path) -> None:
    from lakehouse.tables import Stamp

    staging = "staging.household_survey"
    with small_lake.connect([staging]) as session:
        sql = f"SELECT interview_id, household_id, 77::INTEGER AS head_age FROM {staging} WHERE interview_id LIKE '%Q3-00000001'"
        small_lake.merge(session.con, staging, sql, key=["interview_id"], stamp=Stamp(staging, "r"))
    found = lakehouse("diff", staging, 0, 1, "--out", tmp_path / "all.csv", "--json").json
    assert found["key"] == ["interview_id"]
    assert (found["added"], found["removed"], found["changed"]) == (0, 0, 1)
    assert found["changed_columns"] == [{"column": "head_age", "rows": 1}]
    with (tmp_path / "all.csv").open() as file:
        assert [row["_change"] for row in csv.DictReader(file)] == ["changed_from", "changed_to"]
    shown = lakehouse("diff", staging, 0, 1).out
    assert "~ interview_id=HS-2024Q3-00000001  head_age: 21 -> 77" in shown
    assert "1 removed" in lakehouse("diff", staging, 0, 1, "--key", "head_age").out
    assert lakehouse("diff", staging, 0, 1, "--key", "nothing").code == 2
    assert "The same columns and the same rows." in lakehouse("diff", staging, 1).out


@pytest.mark.parametrize("point", ["99", "nothing", "2020-01-01", "a b"])
def test_points_that_are_not_there(lakehouse: Run, point: str) -> None:
    for arguments in (["diff", RAW, point], ["as-of", RAW, point], ["restore", RAW, "--to", point]):
        found = lakehouse(*arguments, "--json")
        assert found.code == 2
        assert found.json["fix"]


def test_restore_says_what_becomes_of_files(lakehouse: Run, small_lake: Lake) -> None:
    done = lakehouse("restore", RAW, "--to", 0, "--json").json
    assert (done["version"], done["restored"], [file["file"] for file in done["ingested_files_removed"]]) == (
        3,
        0,
        ["wave_2.csv", "wave_3.csv"],
    )
    assert small_lake.detail("quarantine.household_survey").rows == 1
    assert lakehouse("history", RAW, "--json").json["versions"][0]["restored"] == 0
    assert "wave_2.csv: 10 rows and 1 quarantined came back" in lakehouse("restore", RAW, "--to", 2).out
    assert small_lake.detail("quarantine.household_survey").rows == 3
    assert "nothing was done" in lakehouse("restore", RAW, "--to", small_lake.version(RAW)).out
    refused = lakehouse("restore", "quarantine.household_survey", "--to", 0, "--json")
    assert (refused.code, refused.json["fix"]) == (2, "Restore raw.household_survey; quarantine follows")


def test_a_derived_table_says_that_the_next_run_builds_it(lakehouse: Run, small_lake: Lake) -> None:
    from lakehouse.tables import Stamp

    table = "staging.household_survey"
    with small_lake.connect([table]) as session:
        small_lake.delete(session.con, table, "head_age > 21", stamp=Stamp(table, "r"))
    assert "the next run brings it up to date" in lakehouse("restore", table, "--to", 0).out
