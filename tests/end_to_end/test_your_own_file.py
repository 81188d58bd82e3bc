"""`lakehouse add`, then `lakehouse run`: from a file nobody prepared to a model, on real data."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Cli


@dataclass(frozen=True, slots=True)
class Case:
    """A real dataset, what is predicted, and the least that must be reached.

    Attributes:
        without: a column that the files are given without.
        warned_of: a column that the tool itself has to warn of.
    """

    name: str
    files: str
    target: str
    rows: int
    metric: str
    at_least: float
    without: str | None = None
    warned_of: str | None = None


CASES = [
    Case("telco", "commerce/crm_telco/customers.csv", "Churn", 5_636, "roc_auc", 0.84),
    Case("shoppers", "commerce/online_shoppers/sessions_feb_oct.csv", "Revenue", 7_605, "roc_auc", 0.94),
    Case("calls", "commerce/bank_marketing/contacts_*.csv", "y", 39_130, "roc_auc", 0.74, without="duration"),
    Case("calls_with_duration", "commerce/bank_marketing/contacts_*.csv", "y", 39_130, "roc_auc", 0.9, warned_of="duration"),
    Case("poverty", "households/acs_ma/ma2018.csv", "POVPIP < 100", 7_244, "roc_auc", 0.95),
    Case("commit_types", "commits/*_labels.csv", "type", 3_045, "f1_macro", 0.53),
    Case("mexico", "households/mexico/coneval_2014_24_states.csv", "ict_norm", 43_719, "r2", 0.32),
]


def given(case: Case, real_data: Path, folder: Path) -> list[Path]:
    """The files, or copies that lack a column."""
    files = sorted(real_data.glob(case.files))
    if case.without is None:
        return files
    copies = []
    for file in files:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.reader(lines))
        place = rows[0].index(case.without)
        copies.append(folder / file.name)
        with copies[-1].open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([*row[:place], *row[place + 1 :]] for row in rows)
    return copies


@pytest.mark.slow
# It takes about a minute on a quiet machine.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_and_a_target_are_enough(case: Case, lakehouse: Cli, real_data: Path, tmp_path: Path) -> None:
    files, rows = given(case, real_data, tmp_path), case.rows

    lakehouse("add", *files, "--name", case.name, "--target", case.target)
    report = lakehouse("run", case.name, "--json", timeout=1200).json

    counts = report["datasets"][case.name]
    assert counts["rows_read"] == rows
    assert counts["rows_accepted"] + counts["rows_quarantined"] == rows
    assert report["models"][case.name]["metrics"][case.metric] >= case.at_least
    assert report["checks"]["failed"] == []
    leaks = [one for one in report["checks"]["warnings"] if one["check"] == "no_feature_gives_the_target_away"]
    assert [one["detail"].split()[0] for one in leaks] == ([case.warned_of] if case.warned_of else [])

    again = lakehouse("run", case.name, "--json").json
    assert again["datasets"][case.name] == counts
    assert again["models"][case.name]["version"] == report["models"][case.name]["version"], "nothing was new: nothing is trained"


@pytest.mark.slow
@pytest.mark.parametrize("with_target", [True, False], ids=["with the target", "without the target"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_that_training_never_saw_are_predicted(
    with_target: bool, suffix: str, lakehouse: Cli, real_data: Path, tmp_path: Path
) -> None:
    import duckdb

    source = real_data / "commerce/crm_telco/customers.csv"
    seen, unseen, out = tmp_path / "seen.csv", tmp_path / "unseen.csv", tmp_path / f"out{suffix}"
    con = duckdb.connect()
    con.execute(f"CREATE TABLE t AS FROM read_csv('{source}', all_varchar=true)")
    con.execute(f"COPY (FROM t LIMIT 4000) TO '{seen}' (HEADER)")
    con.execute(f"COPY (SELECT {'*' if with_target else '* EXCLUDE (Churn)'} FROM t OFFSET 4000) TO '{unseen}' (HEADER)")

    lakehouse("add", seen, "--name", "telco", "--target", "Churn")
    lakehouse("run", "telco")
    lakehouse("predict", "telco", "--file", unseen, "--out", out)

    columns = [name for name, *_ in con.execute(f"DESCRIBE FROM '{out}'").fetchall()]
    assert {"prediction", "probability_Yes", "probability_No"} <= set(columns)
    keys = con.execute(f"SELECT customerID FROM '{out}'").fetchall()
    assert keys == con.execute(f"SELECT customerID FROM read_csv('{unseen}', all_varchar=true)").fetchall()
    assert con.execute(f"SELECT count(*) FROM '{out}' WHERE abs(probability_Yes + probability_No - 1) > 1e-6").fetchall() == [(0,)]
    auc = con.execute(
        f"""WITH scored AS (SELECT o.probability_Yes AS p, t.Churn = 'Yes' AS y FROM '{out}' o JOIN t USING (customerID)),
        ranked AS (SELECT y, avg(r) OVER (PARTITION BY p) AS r FROM (SELECT *, row_number() OVER (ORDER BY p) AS r FROM scored))
        SELECT (sum(r) FILTER (y) - count(*) FILTER (y) * (count(*) FILTER (y) + 1) / 2) / (count(*) FILTER (y) * count(*) FILTER (NOT y))
        FROM ranked"""
    ).fetchall()[0][0]
    assert auc > 0.8


def test_two_homes_never_see_each_other(lakehouse: Cli, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("person_id,height_cm\n" + "".join(f"p{i:04d},{150 + i % 50}\n" for i in range(200)))
    other = {"LAKEHOUSE_HOME": str(tmp_path / "elsewhere")}

    lakehouse("add", people, "--name", "people")
    ran = lakehouse("ingest", "people", people, "--json", env=other, code=2)

    assert "people" in ran.json["message"]
    assert lakehouse("ingest", "people", people, "--json").json["files"][0]["rows_accepted"] == 200
    assert lakehouse("tables", "--json", env=other).json["tables"] == []
