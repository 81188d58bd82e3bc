"""Another decision threshold for the version in production: used wherever it answers, recorded, and gone with the version."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError, ModelNotFound
from lakehouse.learning import Registry, predict_batch, train
from lakehouse.learning.entity_explanation import explain_entity
from lakehouse.learning.lifecycle import Author
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.lifecycle.states import Standing, State
from lakehouse.learning.reproduction import reproduce
from lakehouse.learning.threshold import OUTCOMES, adjust_threshold, suggested_threshold
from lakehouse.monitoring.drift import Verdict, measure_model_drift
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.learning.conftest import model, write

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANN = Author("ann", NOW, "too many leave unnoticed", by_hand=True)
LEAVING = model("leaving", algorithms=("logistic_regression",), folds=2, positive_class="yes")
SORTS = model("sorts", algorithms=("decision_tree",), folds=2)
SIZES = model("sizes", problem="regression", algorithms=("linear_regression",), folds=2)


def leaving(rows: int) -> str:
    return f"SELECT n AS id, n % 40 AS size, CASE WHEN (n * 7) % 40 < n % 40 THEN 'yes' ELSE 'no' END AS label FROM range({rows}) t(n)"


@pytest.fixture(scope="module")
def life(shared: Settings, lake: Lake) -> Lifecycle:
    write(lake, LEAVING.label_table, leaving(400))
    train(shared, lake, LEAVING, run="train", now=NOW)
    return Lifecycle(Registry(shared), lake)


def said_yes(settings: Settings, lake: Lake) -> tuple[int, int, int, object]:
    """The table's version, its rows that say yes, those with a probability of at least 0.8, and the threshold of its stamp."""
    commit = predict_batch(settings, lake, LEAVING, run="predict", now=NOW)
    with lake.connect(["models.leaving_predictions"]) as session:
        row = session.con.execute(
            "SELECT count(*) FILTER (prediction = 'yes'), count(*) FILTER (probability_yes >= 0.8) FROM models.leaving_predictions"
        ).fetchone()
    newest = lake.content_commit("models.leaving_predictions")
    assert row is not None
    assert newest is not None
    assert newest.stamp is not None
    return commit.version, row[0], row[1], dict(newest.stamp.source or {}).get("threshold")


def test_it_is_used_recorded_and_ends_with_the_version(shared: Settings, lake: Lake, life: Lifecycle) -> None:
    before, own_yes, sure, _ = said_yes(shared, lake)
    assert own_yes > sure > 0
    measure_model_drift(shared, lake, LEAVING, run="drift", now=NOW)
    (event,) = adjust_threshold(life, LEAVING, 0.8, ANN).events
    assert (event.kind, event.version, event.actor, event.reason) == ("threshold_set", "1", "ann", "too many leave unnoticed")
    assert (event.threshold_before, event.threshold) == (0.5, 0.8)
    assert not adjust_threshold(life, LEAVING, 0.8, ANN).events, "it was so before"
    assert life.history("leaving")[-1] == event, "it is as it was written"

    after, yes, _, stamped = said_yes(shared, lake)
    assert (after, yes, stamped) == (before + 1, sure, 0.8)
    newest = lake.content_commit("models.leaving_predictions")
    assert newest is not None
    assert newest.stamp is not None
    by_itself = {"positive": "yes", "own_threshold": 0.5}
    assert by_itself.items() <= dict(newest.stamp.source or {}).items(), "what it is judged by when labels come"
    assert said_yes(shared, lake)[0] == after, "the same threshold predicts nothing anew"
    with lake.connect(["models.leaving_predictions"]) as session:
        row = session.con.execute(
            "SELECT id, probability_yes FROM models.leaving_predictions WHERE probability_yes BETWEEN 0.5 AND 0.8 LIMIT 1"
        ).fetchone()
    assert row is not None
    why = explain_entity(shared, lake, LEAVING, {"id": str(row[0])})
    assert (why.prediction, why.probabilities["yes"]) == ("no", pytest.approx(row[1]))
    # That people decide otherwise is no drift.
    found = measure_model_drift(shared, lake, LEAVING, run="drift", now=NOW)
    assert found.predictions is not None
    assert found.predictions.verdict is Verdict.STABLE
    assert reproduce(shared, lake, "leaving", "1").is_equal

    back = adjust_threshold(life, LEAVING, None, ANN)
    assert [(one.kind, one.threshold_before, one.threshold) for one in back.events] == [("threshold_reset", 0.8, 0.5)]
    assert said_yes(shared, lake)[1:] == (own_yes, sure, None)

    adjust_threshold(life, LEAVING, 0.8, ANN)
    write(lake, LEAVING.label_table, leaving(440))
    assert train(shared, lake, LEAVING, run="train", now=NOW).alias == "champion"
    assert life.load("leaving").threshold is None
    life.roll_back("leaving", "1", ANN)
    assert life.load("leaving").version == "1"
    assert life.load("leaving").threshold is None


def test_what_labels_suggest_is_taken_only_if_it_is_worth_it(lake: Lake) -> None:
    seventh = Standing("7", State.PRODUCTION, NOW, drafted_at=datetime(2026, 3, 2, tzinfo=UTC))
    with pytest.raises(ModelError, match=r"has no suggested threshold .*Wait for labels"):
        suggested_threshold(lake, LEAVING, seventh)
    with pytest.raises(ModelError, match="Name the positive_class in the model contract"):
        suggested_threshold(lake, replace(LEAVING, positive_class=None), seventh)
    for day, name, flagged in ((1, "0.31", True), (2, "0.36", True), (3, "0.52", False)):
        with lake.connect(()) as session:
            row = (
                f"SELECT TIMESTAMPTZ '2026-03-0{day} 00:00:00+00' AS measured_at, 'leaving' AS model, '7' AS model_version, 'threshold' AS kind, "
                f"'{name}' AS name, 0.7::DOUBLE AS expected, 0.8::DOUBLE AS observed, {flagged} AS flagged"
            )
            lake.append(session.con, OUTCOMES, row, stamp=Stamp(asset=OUTCOMES, run="test"))
        if day == 1:
            with pytest.raises(ModelError, match="has no suggested threshold"):
                suggested_threshold(lake, LEAVING, seventh)
        elif flagged:
            assert suggested_threshold(lake, LEAVING, seventh) == float(name)
    with pytest.raises(ModelError, match="as well by its threshold as by any other"):
        suggested_threshold(lake, LEAVING, seventh)


@pytest.mark.parametrize(
    ("contract", "threshold", "said"),
    [(LEAVING, 0.0, "found 0"), (LEAVING, 1.0, "found 1"), (LEAVING, float("nan"), "found nan"), (SIZES, 0.5, "found regression")],
)
def test_what_can_have_no_such_threshold_says_why(contract: ModelContract, threshold: float, said: str, life: Lifecycle) -> None:
    with pytest.raises(ModelError, match=said):
        adjust_threshold(life, contract, threshold, ANN)


def test_of_more_classes_there_is_none(shared: Settings, lake: Lake, life: Lifecycle) -> None:
    with pytest.raises(ModelNotFound, match="has no champion"):
        adjust_threshold(life, SORTS, 0.5, ANN)
    write(lake, SORTS.label_table, "SELECT n AS id, n % 3 AS size, substr('abc', 1 + n % 3, 1) AS label FROM range(150) t(n)")
    train(shared, lake, SORTS, run="train", now=NOW)
    with pytest.raises(ModelError, match="found 3 classes"):
        adjust_threshold(life, SORTS, 0.5, ANN)
