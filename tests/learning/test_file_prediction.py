"""Predicting a file goes through the very tables that training went through: real contract, real dbt, real files."""

import csv
import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from lakehouse.contracts import ModelContract, load_contracts
from lakehouse.errors import FileRefused, ModelError
from lakehouse.ingest import ingest
from lakehouse.learning import Registry, predict_batch, predict_file, train
from lakehouse.learning.file_columns import require_columns
from lakehouse.learning.lifecycle import Author
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.scratch import model_recipe
from lakehouse.learning.threshold import adjust_threshold
from lakehouse.sampling import households
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from lakehouse.transform import build

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def survey(shared: Settings, lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Survey files, ingested, built and learned from; returns their folder."""
    folder = tmp_path_factory.mktemp("survey")
    households(rows=1500, seed=3, out=folder)
    contracts = load_contracts(shared)
    files = sorted(folder.rglob("*.csv"))
    ingest(lake, contracts.dataset("household_survey"), files, settings=shared, run="r", now=NOW)
    build(shared, contracts=contracts, select=["+household_features"], run="r", check=False)
    train(shared, lake, vulnerability(shared), run="r", now=NOW)
    return folder


def vulnerability(settings: Settings) -> ModelContract:
    contract = load_contracts(settings).model("household_vulnerability")
    return dataclasses.replace(contract, algorithms=("logistic_regression",), digest="test")


def newest_file(folder: Path) -> Path:
    return sorted(folder.rglob("*.csv"))[-1]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_file_and_the_table_predict_the_same(survey, shared, lake, tmp_path):
    contract = vulnerability(shared)
    predict_batch(shared, lake, contract, run="r", now=NOW)
    file, out = newest_file(survey), tmp_path / "out.parquet"
    report = predict_file(shared, lake, contract, file, out, now=NOW)
    given = read(file)
    assert report.rows_read == report.rows_predicted == len(given)
    assert report.columns == ("interview_id", "prediction", "probability_false", "probability_true")
    found = duckdb.sql(f"SELECT interview_id, prediction, probability_true FROM '{out}'").fetchall()
    assert [row[0] for row in found] == [row["interview_id"] for row in given]
    assert {type(row[1]) for row in found} == {bool}
    table = "models.household_vulnerability_predictions"
    with lake.connect([table]) as session:
        of_table = dict(session.con.execute(f"SELECT household_id, probability_true FROM {table}").fetchall())
    by_interview = {row["interview_id"]: row["household_id"] for row in given}
    assert [row[2] for row in found] == pytest.approx([of_table[by_interview[row[0]]] for row in found])


@pytest.mark.slow
def test_a_threshold_that_people_set_decides_of_files_too(survey, shared, lake, tmp_path):
    contract, life = vulnerability(shared), Lifecycle(Registry(shared), lake)
    adjust_threshold(life, contract, 0.05, Author("ann", NOW, "nobody is to be missed"))
    out = tmp_path / "out.parquet"
    assert predict_file(shared, lake, contract, newest_file(survey), out, now=NOW).threshold == 0.05
    assert duckdb.sql(f"SELECT DISTINCT prediction = (probability_true >= 0.05) FROM '{out}'").fetchall() == [(True,)]
    adjust_threshold(life, contract, None, Author("ann", NOW))
    assert predict_file(shared, lake, contract, newest_file(survey), out, now=NOW).threshold is None


def test_rows_keep_their_order_and_number_whatever_the_file_is_like(survey, shared, lake, tmp_path):
    given = read(newest_file(survey))[:40]
    without_target = [{name: value for name, value in row.items() if name != "vulnerable"} for row in given]
    without_target[3]["district"] = "Nowhere"
    without_target[5]["head_age"] = "old"
    again = {**without_target[7], "months_food_shortage": "12", "meals_per_day": "0", "food_expenditure": "1"}
    file = write(tmp_path / "new.csv", [*without_target, again])
    out = tmp_path / "sub" / "out.csv"
    report = predict_file(shared, lake, vulnerability(shared), file, out, now=NOW)
    ids = [row["interview_id"] for row in read(out)]
    assert ids == [row["interview_id"] for number, row in enumerate([*without_target, again]) if number != 5]
    assert report.rows_read == 41
    assert report.rows_rejected == 1
    [(number, reason)] = report.rejected
    assert number == 6
    assert "head_age" in reason
    odd = {(one.column, one.kind): one for one in report.warnings}
    assert (odd["district", "unseen_value"].rows, odd["district", "unseen_value"].examples) == (1, ("Nowhere",))
    assert any(kind == "rule" for _, kind in odd)
    assert (odd["interview_id", "repeated_key"].rows, odd["interview_id", "repeated_key"].examples) == (2, (again["interview_id"],))
    # The row that repeats a key has features of its own.
    first, second = (float(row["probability_true"]) for row in read(out) if row["interview_id"] == again["interview_id"])
    assert first != second


def test_a_missing_column_is_named_with_what_it_is_for(survey, shared):
    contract, contracts = vulnerability(shared), load_contracts(shared)
    dataset, recipe = contracts.dataset("household_survey"), model_recipe(shared, contracts, contract)
    used = Registry(shared).load(contract.name).spec.used

    def require(*names: str) -> None:
        missing = [dataset.column(name) for name in names]
        require_columns(Path("in/new.csv"), missing, contracts=contracts, source=recipe.source, steps=recipe.steps, used=used)

    with pytest.raises(
        FileRefused, match=r"^new\.csv: lacks a column that model household_vulnerability needs: has_electricity \(.*asset_score"
    ):
        require("has_electricity")
    with pytest.raises(FileRefused, match=r"lacks columns .* submitted_at \(for .*\); shock"):
        require("submitted_at", "phone", "shock")
    require("phone", "head_name", "enumerator_id")


def test_a_column_that_only_other_rows_features_need_may_be_missing(survey, shared, lake, tmp_path):
    left_out = {"monthly_income", "phone", "vulnerable"}
    given = [{name: value for name, value in row.items() if name not in left_out} for row in read(newest_file(survey))[:30]]
    # Only the income of the interview before is a feature, and that is another row's.
    report = predict_file(shared, lake, vulnerability(shared), write(tmp_path / "lean.csv", given), tmp_path / "out.csv", now=NOW)
    assert report.rows_predicted == 30


def test_rows_with_what_the_model_never_saw_are_predicted_and_counted(survey, shared, lake, tmp_path):
    given = read(newest_file(survey))[:30]
    for row in given[:4]:
        row["total_expenditure"], row["food_expenditure"] = "99999999", "1"
    given[7]["roof_material"] = "glass"
    report = predict_file(shared, lake, vulnerability(shared), write(tmp_path / "odd.csv", given), tmp_path / "out.csv", now=NOW)
    assert report.rows_predicted + report.rows_rejected == 30
    odd = {(one.column, one.kind): one for one in report.warnings}
    assert (odd["total_expenditure", "out_of_range"].rows, odd["total_expenditure", "out_of_range"].examples) == (4, ("99999999",))
    assert "training" in odd["total_expenditure", "out_of_range"].detail
    assert ("roof_material", "unseen_value") in odd or report.rows_rejected == 1


def test_a_file_without_one_valid_row_is_refused_with_the_first_reason(survey, shared, lake, tmp_path):
    given = [{**row, "head_age": "old"} for row in read(newest_file(survey))[:5]]
    with pytest.raises(FileRefused, match=r"all 5 are invalid.*in record 1: head_age"):
        predict_file(shared, lake, vulnerability(shared), write(tmp_path / "bad.csv", given), tmp_path / "out.csv", now=NOW)
    assert not (tmp_path / "out.csv").exists()
    header = tmp_path / "header.csv"
    header.write_text(",".join(given[0]) + "\n")
    with pytest.raises(FileRefused, match=r"header\.csv: has no row that can be predicted"):
        predict_file(shared, lake, vulnerability(shared), header, tmp_path / "out.csv", now=NOW)
    assert not (tmp_path / "out.csv").exists()


def test_nothing_is_written_by_predicting_a_file(survey, shared, lake, tmp_path):
    before = {str(table): lake.version(table) for table in lake.tables()}
    predict_file(shared, lake, vulnerability(shared), newest_file(survey), tmp_path / "out.csv", now=NOW)
    assert {str(table): lake.version(table) for table in lake.tables()} == before


def test_what_can_not_be_predicted_is_an_error_and_no_file(survey, shared, lake, tmp_path):
    contract = vulnerability(shared)
    with pytest.raises(ModelError, match=r"\.csv or \.parquet"):
        predict_file(shared, lake, contract, newest_file(survey), tmp_path / "out.xlsx", now=NOW)
    with pytest.raises(FileRefused, match="lacks columns"):
        predict_file(shared, lake, contract, write(tmp_path / "other.csv", [{"a": "1", "b": "2"}]), tmp_path / "out.csv", now=NOW)
    with pytest.raises(FileRefused, match="is not a file"):
        predict_file(shared, lake, contract, tmp_path / "absent.csv", tmp_path / "out.csv", now=NOW)
    assert not (tmp_path / "out.csv").exists()
    # Nobody may make a file there.
    with pytest.raises(ModelError, match=r"output /proc/out.csv: can't be written .*Choose another place"):
        predict_file(shared, lake, contract, newest_file(survey), Path("/proc/out.csv"), now=NOW)
