"""The life of a model's versions, as a person leads it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome
from tests.cli.test_documents import DOCUMENTED
from tests.cli.test_models import ROWS, write


@pytest.mark.slow
# A dozen commands that learn: two minutes on a quiet machine.
@pytest.mark.timeout(1200)
def test_versions_are_promoted_rolled_back_and_archived_with_who_and_why(
    lakehouse: Callable[..., Outcome], home: Path, tmp_path: Path
) -> None:
    assert lakehouse("add", write(tmp_path / "people.csv", ROWS), "--name", "people", "--target", "left").code == 0
    early = lakehouse("model", "history", "people", "--json")
    assert (early.code, early.json["error"]) == (2, "ModelNotFound")
    nothing = lakehouse("model", "promote", "people")
    assert (nothing.code, "the registry is empty" in nothing.err) == (1, True)
    assert lakehouse("run", "people", "--direct").code == 0
    again = lakehouse("train", "people", "--force", "--json").json
    assert (again["semantic_version"], again["state"], again["comparison"]["better"]) == ("1.0.1", "validated", False)
    compared = lakehouse("model", "compare", "people@champion", "people@2", "--json")
    assert (compared.code, compared.json["champion"], compared.json["better"]) == (0, "1", False)
    assert set(compared.json) == set(DOCUMENTED["model compare"])
    assert compared.json["holdout"] is None or set(compared.json["holdout"]) == set(DOCUMENTED["model compare"]["holdout"])
    assert "people@2 is not shown to be better than people@1" in lakehouse("model", "compare", "people").out
    assert lakehouse("model", "compare", "people", "other@2").code == 2
    itself = lakehouse("model", "compare", "people@1", "people@champion")
    assert (itself.code, "people@1: compares a version with itself" in itself.err) == (2, True)
    page = tmp_path / "compared.html"
    assert lakehouse("model", "compare", "people", "--html", page).code == 0
    assert page.read_text("utf-8").startswith("<!doctype html>")
    made = lakehouse("model", "reproduce", "people", "--json")
    assert (made.code, made.json["version"], made.json["equal"]) == (0, "1", True)
    assert set(made.json) == set(DOCUMENTED["model reproduce"])
    assert "people@2 made again: it is the same" in lakehouse("model", "reproduce", "people@2").out
    assert "challenger_beats_champion" in lakehouse("model", "promote", "people").err
    # The rest is about who answers, not about who is better.
    contract = home / "contracts" / "models" / "people.yaml"
    contract.write_text(contract.read_text("utf-8") + "comparison: {required: false}\n", "utf-8")
    assert lakehouse("model", "promote", "people", "--json").json["production"] == "2"

    back = lakehouse("model", "rollback", "people", "--reason", "complaints", "--by", "ann", "--json")
    assert (back.code, back.json["production"], back.json["aliases"]) == (0, "1", {"champion": "1"})
    assert [(one["version"], one["event"], one["by"], one["reason"]) for one in back.json["events"]] == [
        ("2", "rolled_back", "ann", "complaints"),
        ("1", "restored", "ann", "complaints"),
    ]
    assert set(back.json) == set(DOCUMENTED["model rollback"])
    assert set(back.json["events"][0]) == set(DOCUMENTED["model rollback"]["events"][0])
    none = lakehouse("model", "rollback", "people", "--json")
    assert (none.code, none.json["error"]) == (1, "TransitionRefused")
    # What was rolled back is not promoted again by itself, and by name only with a rollback.
    assert lakehouse("train", "people", "--json").json["state"] == "archived"
    assert "only by a rollback" in lakehouse("model", "promote", "people@1.0.1").err
    assert lakehouse("model", "rollback", "people@1.0.1", "--json").json["production"] == "2"
    assert "it is in production" in lakehouse("model", "archive", "people@2").err
    assert lakehouse("model", "archive", "people").code == 2
    assert lakehouse("model", "approve", "people@1").code == 1

    shown = lakehouse("model", "history", "people")
    assert "people@2  1.0.1    production" in shown.out
    assert "@1 restored (archived -> production) by ann: complaints" in shown.out
    assert len(lakehouse("model", "history", "people@1", "--json").json["events"]) == 9

    put = lakehouse("model", "threshold", "people", "--set", "0.9", "--reason", "complaints", "--by", "ann", "--json")
    documented = DOCUMENTED["model threshold"]
    assert (put.code, set(put.json), set(put.json["events"][0])) == (0, set(documented), set(documented["events"][0]))
    assert [one["threshold"] for one in put.json["versions"]] == [None, 0.9]
    assert "threshold_set from 0.5 to 0.9 (stays production) by ann: complaints" in lakehouse("model", "history", "people").out
    assert "decides from 0.9 on" in lakehouse("model", "history", "people").out
    assert "threshold_set from 0.5 to 0.9" in lakehouse("model", "card", "people").out
    assert lakehouse("model", "threshold", "people", "--set", "0.9", "--reset").code == 2
    assert "has no suggested threshold" in lakehouse("model", "threshold", "people", "--suggested").err
    assert lakehouse("model", "threshold", "people", "--reset", "--json").json["events"][0]["event"] == "threshold_reset"


@pytest.mark.slow
# A dozen commands that learn: two minutes on a quiet machine.
@pytest.mark.timeout(1200)
def test_a_model_is_trained_again_because_it_is_due_or_somebody_asks(lakehouse: Callable[..., Outcome], tmp_path: Path) -> None:
    assert lakehouse("add", write(tmp_path / "pets.csv", ROWS), "--name", "pets", "--target", "left").code == 0
    assert lakehouse("model", "retrain", "pets").code == 2
    assert lakehouse("run", "pets", "--direct").code == 0
    waits = lakehouse("model", "retrain", "pets", "--if-due", "--json")
    assert (waits.code, waits.json["due"], waits.json["trained"], waits.json["version"]) == (0, False, False, "1")
    assert waits.json["why"] == "nothing has changed since version 1 was trained"
    asked = lakehouse("model", "retrain", "pets", "--reason", "a colleague asked", "--json")
    # The same rows give the same model.
    assert (asked.code, asked.json["trained"], asked.json["version"]) == (0, False, "1")
    assert set(asked.json) == set(waits.json) == set(DOCUMENTED["model retrain"])
    assert "not trained again" in lakehouse("model", "retrain", "pets").out
    drift = lakehouse("drift", "pets", "--json")
    assert (drift.code, drift.json["verdict"]) == (0, "stable")
    assert [one["part"] for one in drift.json["compared"]] == ["features", "predictions"]
    page = tmp_path / "page.html"
    assert lakehouse("drift", "pets", "--report", page, "--json").json["report"] == str(page)
    assert page.stat().st_size > 100_000
    assert lakehouse("drift", "--report", page).code == 2
    strange = [{**row, "size": str(50 + number % 7)} for number, row in enumerate(ROWS)]
    loud = lakehouse("drift", "pets", "--file", write(tmp_path / "strange.csv", strange), "--json")
    assert (loud.code, loud.json["verdict"]) == (1, "drifted")
    assert loud.json["compared"][0]["columns"][0]["column"] == "size"


@pytest.mark.slow
def test_the_command_shows_columns_warnings_candidates_and_rows(lakehouse: Callable[..., Outcome], tmp_path: Path) -> None:
    assert lakehouse("add", write(tmp_path / "people.csv", ROWS), "--name", "people", "--target", "left").code == 0
    assert lakehouse("run", "people", "--direct").code == 0
    told = lakehouse("model", "preview", "people", "--rows", "2", "--json")
    assert told.code == 0
    documented = DOCUMENTED["model preview"]
    assert set(told.json) == set(documented)
    for key in ("columns", "candidates", "rows"):
        assert set(told.json[key][0]) == set(documented[key][0])
    shown = lakehouse("model", "preview", "people", "--rows", "1")
    assert "rows to train" in shown.out
    assert "kind: a -> kind_a 1, kind_b 0" in shown.out or "kind: b -> kind_a 0, kind_b 1" in shown.out
    assert lakehouse("model", "preview", "people", "--algorithm", "svm").code == 2
    why = lakehouse("model", "explain", "people", "--entity", "k5", "--json")
    assert (why.code, why.json["entity"], why.json["prediction"]) == (0, {"id": "k5"}, "yes")
    assert set(why.json) == set(DOCUMENTED["model explain"])
    assert set(why.json["contributions"][0]) == set(DOCUMENTED["model explain"]["contributions"][0])
    assert why.json["contributions"][0]["feature"] == "size"
    parts = sum(one["contribution"] for one in why.json["contributions"])
    assert why.json["answer"] == pytest.approx(why.json["base"] + parts)
    shown = lakehouse("model", "explain", "people@1", "--entity", "id=k5")
    assert "people@1 says of id k5: yes, confidence" in shown.out
    nobody = lakehouse("model", "explain", "people", "--entity", "k500")
    assert (nobody.code, "id k500: is not among the rows that it predicts" in nobody.err) == (2, True)
