"""Why a model says what it says: laws of the contributions, and what is kept with predictions."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from lakehouse.contracts import Explain
from lakehouse.errors import ModelError, ModelNotFound, TableNotFound
from lakehouse.learning import predict_batch, train
from lakehouse.learning.entity_explanation import explain_entity
from lakehouse.learning.explaining import contributions
from tests.learning.conftest import model, write

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def frame(count: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame({name: random.normal(size=count) for name in "abcd"})


@pytest.mark.parametrize("pairs", [1, 5])
def test_contributions_and_base_add_up_and_what_is_not_used_adds_nothing(pairs) -> None:
    def answer(rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(np.tanh(rows["a"] * rows["b"]) + rows["c"] ** 2)

    rows = frame(30, 1)
    told = contributions(answer, rows, frame(20, 2), features=tuple("abcd"), seed=7, pairs=pairs)
    assert told.orders == 2 * pairs
    assert told.values.sum(axis=1) + told.base == pytest.approx(answer(rows))
    assert (told.values[:, 3] == 0).all()


def test_of_a_sum_each_feature_gets_its_own_part_and_equals_get_the_same() -> None:
    rows, others = frame(20, 1), frame(1, 2)
    told = contributions(lambda one: np.asarray(3 * one["a"] - 2 * one["b"]), rows, others, features=("a", "b"), seed=1, pairs=2)
    assert told.values[:, 0] == pytest.approx(3 * (rows["a"] - others["a"].iloc[0]).to_numpy())
    assert told.values[:, 1] == pytest.approx(-2 * (rows["b"] - others["b"].iloc[0]).to_numpy())
    rows["b"], others["b"] = rows["a"], others["a"]
    # An order and its reverse together treat two features alike.
    same = contributions(lambda one: np.asarray(one["a"] * one["b"]), rows, others, features=("a", "b"), seed=1, pairs=1)
    assert same.values[:, 0] == pytest.approx(same.values[:, 1])


def test_without_time_there_is_one_pair_of_orders() -> None:
    told = contributions(lambda one: one["a"].to_numpy(), frame(3, 1), frame(3, 2), features=("a", "b"), seed=1, until=0.0)
    assert told.orders == 2


def test_reasons_and_abstention_are_kept_with_predictions_by_contract(shared, lake) -> None:
    write(
        lake,
        "staging.why",
        "SELECT range AS id, hash(range) % 10 AS x, hash(range + 5) % 9 AS noise, 'k' || hash(range + 9) % 3 AS kind,"
        " if((hash(range) % 10 > 4) <> (hash(range + 3) % 8 = 0), 'hi', 'lo') AS label FROM range(300)",
    )
    plain = model("why", algorithms=("decision_tree",), folds=2)
    with pytest.raises(ModelNotFound, match="lakehouse train why"):
        explain_entity(shared, lake, plain, {"id": "7"})
    train(shared, lake, plain, run="r", now=NOW)
    assert not {"reasons", "abstained"} & set(lake.schema(predict_batch(shared, lake, plain, run="r", now=NOW).table))
    asked = replace(plain, explain=Explain(top=2), abstain=0.9)
    commit = predict_batch(shared, lake, asked, run="r", now=NOW)
    assert not commit.skipped
    assert predict_batch(shared, lake, asked, run="r", now=NOW).skipped
    with lake.connect([commit.table]) as session:
        found = session.con.execute(f"SELECT confidence, abstained, reasons FROM {commit.table}").fetchall()
        stored = session.con.execute(f"SELECT confidence, abstained, reasons FROM {commit.table} ORDER BY id").fetchall()
        how = session.con.execute(f"SELECT DISTINCT reasons_unit, reasons_method FROM {commit.table}").fetchall()
    assert how == [("probability", "exact")]
    assert len(found) == 300
    assert all(abstained == (confidence < 0.9) for confidence, abstained, _ in found)
    assert {len(reasons) for *_, reasons in found} <= {1, 2}
    first = [reasons[0] for *_, reasons in found]
    assert {one["feature"] for one in first} == {"x"}
    assert all(abs(reasons[0]["contribution"]) >= abs(reasons[-1]["contribution"]) for *_, reasons in found)
    assert {one["value"] for one in first} <= {str(value) for value in range(10)}
    assert predict_batch(shared, lake, replace(asked, explain=Explain(top=2, seconds=1e-9)), run="r", now=NOW).rows == 300
    # Of a single entity the same is said, with all its features.
    confidence, abstained, reasons = stored[7]
    told = explain_entity(shared, lake, asked, {"id": "7"}, version="1")
    assert (told.prediction, told.confidence, told.abstained) == (
        max(told.probabilities, key=told.probabilities.__getitem__),
        confidence,
        abstained,
    )
    assert [(one.feature, one.value, one.contribution) for one in told.contributions[:2]] == [tuple(one.values()) for one in reasons]
    assert told.base + sum(one.contribution for one in told.contributions) == pytest.approx(told.answer)
    assert (told.answer, str(told.unit), str(told.method)) == (pytest.approx(confidence), "probability", "exact")
    assert (dict(told.tables), told.event_time) == ({"staging.why": lake.version("staging.why")}, None)
    with pytest.raises(ModelError, match="id 1000: is not among the rows that it predicts"):
        explain_entity(shared, lake, asked, {"id": "1000"})
    with pytest.raises(ModelError, match="expected id; found x"):
        explain_entity(shared, lake, asked, {"x": "1"})
    with pytest.raises(ModelNotFound, match="why@9"):
        explain_entity(shared, lake, asked, {"id": "7"}, version="9")
    with pytest.raises(TableNotFound):
        explain_entity(shared, lake, asked, {"id": "7"}, as_of=datetime(2020, 1, 1, tzinfo=UTC))
    then = lake.history("staging.why")[0].timestamp
    write(lake, "staging.why", "SELECT range AS id, 9 - hash(range) % 10 AS x, 1 AS noise, 'k' AS kind, 'hi' AS label FROM range(300)")
    assert explain_entity(shared, lake, asked, {"id": "7"}, as_of=then).contributions == told.contributions
    assert explain_entity(shared, lake, asked, {"id": "7"}).contributions != told.contributions
