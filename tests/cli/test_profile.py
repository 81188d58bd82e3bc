"""`lakehouse profile`: tables and files, what is kept, and what is never shown."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.tables import Lake, Stamp
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]
RAW = "raw.household_survey"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "Shop Visits.csv"
    rows = "".join(f"C{i:04d},{i % 7},{i * 1.5},{'yes' if i % 3 else 'no'},p{i}@example.org\n" for i in range(300))
    path.write_text("visit id,pages,Amount,Bought,Contact\n" + rows + "C9999,many,1.5,no,x@example.org\n")
    return path


def test_a_table_is_profiled_once_per_version(small_lake: Lake, lakehouse: Run) -> None:
    first, second = lakehouse("profile", RAW, "--json").json, lakehouse("profile", RAW, "--json").json
    assert (first["cached"], second["cached"]) == (False, True)
    assert {**first, "cached": True} == second
    assert (first["rows"], first["version"]) == (30, 2)
    assert lakehouse("profile", RAW, "--version", 0, "--json").json["rows"] == 10
    with small_lake.connect([RAW]) as session:
        small_lake.append(session.con, RAW, f"SELECT * FROM {RAW} LIMIT 5", stamp=Stamp(RAW, "r"))
    third = lakehouse("profile", RAW, "--json").json
    assert (third["cached"], third["rows"]) == (False, 35)
    trend = lakehouse("profile", RAW, "--trend", "--json").json["trend"]
    assert [(one["version"], one["rows"]) for one in trend] == [(0, 10), (2, 30), (3, 35)]
    assert trend[-1]["uniqueness"] < 1


@pytest.mark.usefixtures("small_lake")
def test_validity_is_what_was_accepted_of_what_was_read(lakehouse: Run) -> None:
    found = {one["name"]: one["value"] for one in lakehouse("profile", RAW, "--json").json["dimensions"]}
    assert found["validity"] == pytest.approx(30 / 33)
    assert found["uniqueness"] == 1


@pytest.mark.usefixtures("small_lake")
def test_a_table_made_anew_under_the_same_name_is_profiled_anew(small_lake: Lake, lakehouse: Run) -> None:
    import shutil

    lakehouse("profile", "staging.household_survey")
    shutil.rmtree(Path(small_lake.uri) / "staging")
    with small_lake.connect(()) as session:
        small_lake.overwrite(session.con, "staging.household_survey", "SELECT 1 AS head_age", stamp=Stamp("x", "r"))
    again = lakehouse("profile", "staging.household_survey", "--json").json
    assert (again["cached"], again["rows"], again["version"]) == (False, 1, 0)


def test_a_file_is_typed_as_add_would(lakehouse: Run, shop: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "page.html"
    outcome = lakehouse("profile", shop, "--target", "Bought", "--html", page, "--json")
    assert outcome.code == 0
    document = outcome.json
    columns = {one["name"]: one for one in document["columns"]}
    assert (document["subject"], document["source"], document["version"], document["rows"]) == ("Shop Visits.csv", "file", None, 301)
    assert (columns["pages"]["type"], columns["Amount"]["type"]) == ("VARCHAR", "DOUBLE")
    assert document["target"]["balance"] == [{"label": "yes", "rows": 200}, {"label": "no", "rows": 101}]
    assert columns["Contact"]["hidden"]
    html = page.read_text()
    assert "example.org" not in html
    assert "example.org" not in outcome.out
    # It is one file: nothing is loaded from anywhere, and nothing runs.
    assert not re.search(r"<(script|link|img|iframe)\b|url\(|src=|@import|https?://", html)
    assert html.count("<svg") == html.count("</svg>")
    assert lakehouse("tables", "--json").json["tables"] == []


def test_a_file_is_judged_by_a_contract(lakehouse: Run, tmp_path: Path) -> None:
    lakehouse("sample", "households", "--rows", 80, "--bad-rate", 0.2, "--out", tmp_path / "in", "--json")
    file = sorted((tmp_path / "in").glob("*.csv"))[0]
    document = lakehouse("profile", file, "--dataset", "household_survey", "--json").json
    validity = next(one["value"] for one in document["dimensions"] if one["name"] == "validity")
    assert 0 < validity < 1
    columns = {one["name"]: one for one in document["columns"]}
    assert columns["head_name"]["hidden"].startswith("protected")
    assert columns["head_name"]["top"] == []


@pytest.mark.usefixtures("small_lake")
def test_people_read_it_in_the_terminal(lakehouse: Run) -> None:
    shown = lakehouse("profile", RAW).out
    for words in ("30 rows, 3 columns", "Quality score", "completeness", "head_age", "What to do"):
        assert words in shown
    assert "completen" in lakehouse("profile", RAW, "--trend", "--json").out
    assert "score" in lakehouse("profile", RAW, "--trend").out


@pytest.mark.usefixtures("small_lake")
def test_what_can_not_be_profiled_is_told(lakehouse: Run) -> None:
    for arguments, said in (
        (["raw.nothing"], "raw.nothing"),
        (["nothing.csv"], "does not exist"),
        ([RAW, "--version", 99], "no version 99"),
        ([RAW, "--as-of", "yesterday"], "is no instant"),
        ([RAW, "--version", 1, "--as-of", "2026-01-01"], "can't both"),
        ([RAW, "--target", "nothing"], "is not a column"),
        ([RAW, "--dataset", "household_survey"], "is for files"),
    ):
        outcome = lakehouse("profile", *arguments)
        assert outcome.code == 2
        assert said in outcome.err, arguments


def test_a_file_that_can_not_be_read_is_told(lakehouse: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    assert "empty.csv" in lakehouse("profile", empty).err
    header = tmp_path / "header.csv"
    header.write_text("a,b\n")
    document = lakehouse("profile", header, "--json").json
    assert (document["rows"], document["advice"][0]["finding"]) == (0, "There are no rows.")
