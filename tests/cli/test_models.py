"""Train and predict as a person does who gets things wrong."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Outcome

ROWS = [
    {"id": f"k{number}", "size": str(number % 7), "kind": "ab"[number % 2], "left": "yes" if number % 7 > 3 else "no"}
    for number in range(120)
]


def write(path: Path, rows: list[dict[str, Any]], columns: list[str] | None = None) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns or list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.slow
def test_every_mistake_has_one_line_and_its_exit_code(lakehouse: Callable[..., Outcome], tmp_path: Path) -> None:
    early = lakehouse("train", "household_income")
    assert early.code == 2
    assert "has not been built yet" in early.err
    assert "lakehouse run household_income" in early.err
    few = lakehouse("add", write(tmp_path / "few.csv", ROWS[3:6]), "--target", "left", "--json")
    assert (few.code, few.json["problem"]) == (2, "has too few rows to learn from")

    assert lakehouse("add", write(tmp_path / "people.csv", ROWS), "--name", "people", "--target", "left").code == 0
    ran = lakehouse("run", "people", "--direct", "--json")
    assert (ran.code, ran.json["models"]["people"]["version"]) == (0, "1")
    again = lakehouse("train", "people", "--json")
    assert (again.code, again.json["version"], again.json["trained"]) == (0, "1", False)

    out = tmp_path / "out.csv"
    lacking = lakehouse("predict", "people", "--file", write(tmp_path / "lacking.csv", ROWS, ["id", "kind"]), "--out", out, "--json")
    assert (lacking.code, lacking.json["error"]) == (1, "FileRefused")
    assert lacking.json["problem"] == "lacks a column that model people needs: size"
    wrong = lakehouse("predict", "people", "--file", write(tmp_path / "wrong.csv", [{**row, "size": "big"} for row in ROWS]), "--out", out)
    assert wrong.code == 1
    assert "all 120 are invalid (found in record 1: size is big: expected a" in wrong.err
    assert not out.exists()

    strange = [
        {**row, "size": "50" if number < 2 else row["size"], "kind": "c" if number == 5 else row["kind"]} for number, row in enumerate(ROWS)
    ]
    predicted = lakehouse("predict", "people", "--file", write(tmp_path / "strange.csv", strange), "--out", out, "--json")
    assert (predicted.code, predicted.json["rows_predicted"]) == (0, 120)
    told = {(one["column"], one["kind"]): (one["rows"], one["examples"]) for one in predicted.json["warnings"]}
    assert told["size", "out_of_range"] == (2, ["50"])
    assert told["kind", "unseen_value"] == (1, ["c"])
    for outcome in (early, few, ran, again, lacking, wrong, predicted):
        assert "Traceback" not in outcome.err + outcome.out
