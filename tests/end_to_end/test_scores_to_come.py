"""A score that is reported with its interval, and the score on rows that came later: real data that have not drifted."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from lakehouse.learning import Registry
from lakehouse.learning.evaluation import Predictions, measure
from lakehouse.learning.scoring import probability_columns
from lakehouse.settings import Settings
from tests.end_to_end.conftest import Cli


@dataclass(frozen=True, slots=True)
class Case:
    """A reference, what is predicted from it, and files of rows that came later and are like it.

    Attributes:
        source: folder of the reference and of what came later.
        target: as given to `lakehouse add`.
        truth: the target of a row as SQL over text.
        without: columns that the files are given without.
        later: files of the folder that have not drifted from the reference.
    """

    source: str
    target: str
    truth: str
    without: tuple[str, ...] = ()
    later: tuple[str, ...] = ("current_nodrift_random",)


CASES = {
    "poverty": Case("acs_ma", "POVPIP < 100", "CAST(POVPIP AS DOUBLE) < 100", later=("current_nodrift_random", "current_2019")),
    "means": Case("acs_ma", "POVPIP", "POVPIP", later=("current_nodrift_random", "current_2019")),
    "calls": Case("bank_marketing", "y", "y", without=("duration",)),
    "calls_with_duration": Case("bank_marketing", "y", "y"),
    "earners": Case("gss", "rincome", "rincome"),
    "viewers": Case("gss", "tvhours", "tvhours"),
}


def copied(file: Path, out: Path, without: tuple[str, ...]) -> Path:
    """The file without some columns."""
    with file.open(newline="", encoding="utf-8") as lines:
        names, *rows = csv.reader(lines)
    kept = [place for place, name in enumerate(names) if name not in without]
    with out.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([row[place] for place in kept] for row in (names, *rows))
    return out


def measured(name: str, said: Path, rows: Path, truth: str) -> dict[str, float]:
    """Every metric of what `lakehouse predict` wrote about a file's rows, where their target is known."""
    import duckdb

    spec = Registry(Settings.load()).load(name).spec
    kind = "VARCHAR" if spec.classes else "DOUBLE"
    columns = [f"CAST(prediction AS {kind})", *(f'"{one}"' for one in probability_columns(spec.classes) if spec.classes)]
    found = duckdb.sql(
        f"""WITH truths AS (
            SELECT CAST({truth} AS {kind}) AS truth, row_number() OVER () AS _row FROM read_csv('{rows}', header=true, all_varchar=true))
        SELECT truth, {", ".join(columns)} FROM '{said}' JOIN truths USING (_row) WHERE truth IS NOT NULL ORDER BY _row"""
    ).df()
    probabilities = found.iloc[:, 2:].to_numpy("float64") if spec.classes else None
    return measure(found.iloc[:, 0].to_numpy(), Predictions(found.iloc[:, 1].to_numpy(), probabilities, spec.classes, spec.positive))


@pytest.mark.slow
# It takes about a minute on a quiet machine.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CASES)
def test_rows_to_come_score_where_the_report_says(name: str, lakehouse: Cli, home: Path, real_data: Path, tmp_path: Path) -> None:
    """The slices are larger than the test rows, so they vary less than the intervals allow for, which are for as many rows."""
    case, folder = CASES[name], real_data / "drift" / CASES[name].source
    if not folder.is_dir():
        pytest.skip(f"real data is absent: {folder}")

    lakehouse("add", copied(folder / "reference.csv", tmp_path / "reference.csv", case.without), "--name", name, "--target", case.target)
    # Calls without their duration can hardly be told apart; that a model is poor makes its interval no less true.
    contract = home / "contracts" / "models" / f"{name}.yaml"
    contract.write_text(contract.read_text("utf-8").replace("roc_auc: 0.6", "roc_auc: 0"), "utf-8")
    lakehouse("run", name, "--direct", timeout=1200)
    report = lakehouse("train", name, "--json").json

    for came in case.later:
        rows, said = copied(folder / f"{came}.csv", tmp_path / f"{came}.csv", case.without), tmp_path / f"{came}.parquet"
        lakehouse("predict", name, "--file", rows, "--out", said)
        later = measured(name, said, rows, case.truth)
        compared = {metric: (low, later[metric], high) for metric, (low, high) in report["intervals"].items()}
        missed = {metric: values for metric, values in compared.items() if sorted(values) != list(values)}
        assert report["metric"] in compared
        assert report["metric"] not in missed, (came, compared)
        # Each interval holds 19 times of 20: of some ten metrics one may lie outside.
        assert len(missed) <= 1, (came, missed)
