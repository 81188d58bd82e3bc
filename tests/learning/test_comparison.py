"""Laws of the comparison: weights are repetitions, swapping the models swaps the sign, and chance wins as rarely as it is said to."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts import Comparison
from lakehouse.contracts.metrics import LOWER_IS_BETTER
from lakehouse.learning.comparison import (
    ModelComparison,
    OnFolds,
    compare_on_folds,
    compare_on_rows,
    effect_word,
    gain_of,
    verdict,
)
from lakehouse.learning.comparison_page import comparison_page
from lakehouse.learning.evaluation import Predictions, measure
from lakehouse.learning.resampling import drawn_weights, weighted
from tests.learning.conftest import model

CLASSES = ("a", "b", "c")
OF_CLASSES = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_macro",
    "f1_weighted",
    "precision",
    "recall",
    "log_loss",
    "roc_auc",
    "average_precision",
)
OF_NUMBERS = ("r2", "rmse", "mae", "median_ae", "mape")


def answers(probabilities: Sequence[Sequence[float]], classes: tuple[str, ...], positive: str | None) -> Predictions:
    shares = np.asarray(probabilities, dtype="float64")
    shares = shares / shares.sum(axis=1, keepdims=True)
    return Predictions(np.asarray(classes, dtype=object)[shares.argmax(axis=1)], shares, classes, positive)


@st.composite
def classified(draw: st.DrawFn) -> tuple[np.ndarray, Predictions, np.ndarray]:
    positive = draw(st.sampled_from([None, "a"]))
    classes = CLASSES[:2] if positive else CLASSES
    count = draw(st.integers(2, 12))
    # Few different numbers: equal scores are where areas go wrong.
    share = st.sampled_from([0.1, 0.2, 0.5, 0.8])
    rows = draw(st.lists(st.lists(share, min_size=len(classes), max_size=len(classes)), min_size=count, max_size=count))
    truth = draw(st.lists(st.sampled_from([*classes, "unknown"]), min_size=count, max_size=count))
    weights = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count).filter(any))
    return np.asarray(truth, dtype=object), answers(rows, classes, positive), np.asarray(weights)


@settings(max_examples=20, deadline=None)
@given(classified())
def test_a_weight_of_classes_is_so_many_rows(case) -> None:
    truth, said, weights = case
    rows = np.repeat(np.arange(len(truth)), weights)
    expected = measure(truth[rows], said.take(rows))
    for metric in (*OF_CLASSES, *(["brier"] if said.positive else [])):
        (value,) = weighted(truth, said, metric, weights[None, :].astype("float64"))
        assert value == pytest.approx(expected.get(metric, np.nan), nan_ok=True), metric


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(0, 3)), min_size=2, max_size=12).filter(
        lambda rows: any(weight for *_, weight in rows)
    )
)
def test_a_weight_of_numbers_is_so_many_rows(case) -> None:
    truth, predicted, weights = (np.asarray(column, dtype="float64") for column in zip(*case, strict=True))
    rows = np.repeat(np.arange(len(truth)), weights.astype("int64"))
    expected = measure(truth[rows], Predictions(predicted[rows]))
    for metric in OF_NUMBERS:
        (value,) = weighted(truth, Predictions(predicted), metric, weights[None, :])
        assert value == pytest.approx(expected.get(metric, np.nan), nan_ok=True), metric


def test_rows_of_one_unit_are_drawn_together() -> None:
    units = np.asarray([0, 0, 1, 2, 2, 2])
    (weights,) = drawn_weights(units, resamples=50, seed=1)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def scores(count: int, seed: int, *, noise: tuple[float, float]) -> tuple[np.ndarray, Predictions, Predictions]:
    """Rows of two classes, and two models that see the truth through noise."""
    random = np.random.default_rng(seed)
    truth = random.random(count) < 0.4
    seen = [1 / (1 + np.exp(-(2 * truth - 1 + random.normal(0, one, count)))) for one in noise]
    said = [answers(np.column_stack([one, 1 - one]), ("yes", "no"), "yes") for one in seen]
    return np.where(truth, "yes", "no").astype(object), said[0], said[1]


@pytest.mark.parametrize("metric", ["roc_auc", "f1", "log_loss"])
def test_the_better_model_is_found_and_swapping_both_swaps_the_sign(metric) -> None:
    truth, worse, better = scores(800, 3, noise=(3.0, 1.0))
    rows = np.arange(len(truth))
    found = compare_on_rows(truth, worse, better, metric=metric, units=rows, seed=1)
    other = compare_on_rows(truth, better, worse, metric=metric, units=rows, seed=1)
    assert found is not None
    assert other is not None
    assert found.gain > 0.02
    assert found.p_value < 0.01
    assert 0 < found.low <= found.gain <= found.high
    assert found.effect == pytest.approx(-other.effect)
    assert (found.only_champion, found.only_challenger) == (other.only_challenger, other.only_champion)
    assert other.gain < 0
    if metric not in LOWER_IS_BETTER:
        assert found.gain == pytest.approx(-other.gain)
    same = compare_on_rows(truth, better, better, metric=metric, units=rows, seed=1)
    assert same is not None
    assert (same.gain, same.p_value, same.effect) == (0.0, 1.0, 0.0)


def test_rows_of_the_same_entities_are_worth_less() -> None:
    truth, one, other = scores(120, 5, noise=(2.5, 1.5))
    many = np.tile(np.arange(len(truth)), 5)
    alone = compare_on_rows(truth[many], one.take(many), other.take(many), metric="roc_auc", units=np.arange(len(many)), seed=1)
    together = compare_on_rows(truth[many], one.take(many), other.take(many), metric="roc_auc", units=many, seed=1)
    assert alone is not None
    assert together is not None
    assert (alone.entities, together.entities) == (600, 120)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_gains_of_metrics_where_less_is_better_are_shares() -> None:
    assert gain_of("rmse", 10.0, 9.0) == pytest.approx(0.1)
    assert gain_of("r2", 0.5, 0.6) == pytest.approx(0.1)
    assert gain_of("mae", 0.0, 0.0) == 0.0
    assert gain_of("mae", 0.0, 1.0) == -1.0


def test_the_corrected_t_test_of_folds_is_the_published_one() -> None:
    found = compare_on_folds([0.80, 0.82, 0.81, 0.79, 0.83], [0.84, 0.85, 0.86, 0.82, 0.86], metric="f1", judged_share=0.25)
    gains = np.asarray([0.04, 0.03, 0.05, 0.03, 0.03])
    error = np.sqrt((1 / 5 + 0.25) * gains.var(ddof=1))
    from scipy.stats import t as student

    assert found.gain == pytest.approx(gains.mean())
    assert found.p_value == pytest.approx(2 * student.sf(gains.mean() / error, 4))
    # Without the correction it would seem twice as sure.
    assert found.p_value > 2 * 2 * student.sf(gains.mean() / (gains.std(ddof=1) / np.sqrt(5)), 4)
    assert compare_on_folds([0.8], [0.9], metric="f1", judged_share=0.25).p_value == 1.0


def compared(*, noise: tuple[float, float] = (3.0, 1.0), count: int = 800) -> ModelComparison:
    truth, champion, challenger = scores(count, 3, noise=noise)
    found = compare_on_rows(truth, champion, challenger, metric="roc_auc", units=np.arange(count), seed=1)
    return ModelComparison("1", "2", "roc_auc", found)


def test_both_the_gain_and_its_significance_are_asked_for() -> None:
    clear = compared()
    assert verdict(clear, Comparison()).passed
    assert "asks for a gain of 0.9" in verdict(clear, Comparison(minimum_gain=0.9)).sentence
    assert clear.holdout is not None
    unsure = verdict(replace(clear, holdout=replace(clear.holdout, p_value=0.2)), Comparison(minimum_gain=0.0))
    assert not unsure.passed
    assert "chance may explain it" in unsure.sentence
    assert "nothing is concluded" in verdict(compared(count=25), Comparison()).sentence
    worse = replace(clear, folds=OnFolds((0.8, 0.8), (0.7, 0.7), -0.1, 0.01))
    assert "it is worse" in verdict(worse, Comparison()).sentence


def test_what_can_not_be_compared_says_why() -> None:
    asked = ModelComparison("1", "2", "roc_auc", reason="the contract now predicts another target", free=True)
    assert verdict(asked, Comparison()).passed
    assert "another target" in verdict(asked, Comparison()).sentence
    assert not verdict(replace(asked, free=False), Comparison()).passed


def test_a_comparison_is_read_back_as_it_was_recorded() -> None:
    import json

    told = replace(compared(), folds=OnFolds((0.8, 0.7), (0.7, 0.9), 0.05, 0.4), notes=("one",))
    assert ModelComparison.from_dict(json.loads(json.dumps(told.as_dict()))) == told


@pytest.mark.parametrize("kind", ["better", "chance", "share", "free", "folds"])
def test_the_page_says_it_in_words_and_needs_nothing_else(kind) -> None:
    found = compared()
    assert found.holdout is not None
    changed = {
        "better": found,
        "chance": replace(found, holdout=replace(found.holdout, gain=0.03, p_value=0.3)),
        "share": replace(found, metric="rmse", holdout=replace(found.holdout, only_champion=None, only_challenger=None)),
        "free": ModelComparison("1", "", "r2", reason="it can't be <loaded>", free=True),
        "folds": replace(found, folds=OnFolds((0.8, 0.7), (0.9, 0.8), 0.1, 0.02), notes=("a note & more",)),
    }[kind]
    shown = comparison_page(model("shown"), changed)
    said = {
        "better": "Version 2 is better than version 1",
        "chance": "too often to conclude anything",
        "share": "of the old version&#x27;s value",
        "free": "it can&#x27;t be &lt;loaded&gt;",
        "folds": "a note &amp; more",
    }[kind]
    assert said in shown
    assert "http" not in shown.replace("http://www.w3.org", "")
    assert "<script" not in shown
    assert "nan" not in shown


@pytest.mark.parametrize(("effect", "word"), [(0.1, "negligible"), (0.3, "small, for the better"), (-0.9, "large, for the worse")])
def test_effects_have_cohen_s_words(effect, word) -> None:
    assert effect_word(effect) == word


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "count"), [("roc_auc", 60), ("f1", 60), ("f1_macro", 200), ("log_loss", 60)])
def test_chance_takes_over_no_more_often_than_the_contract_says(metric, count) -> None:
    """Of two models that are equally good, the challenger wins in at most the level's share of trials, even with no gain asked for."""
    trials, wins = 400, 0
    for trial in range(trials):
        truth, one, other = scores(count, 1000 + trial, noise=(1.5, 1.5))
        found = compare_on_rows(truth, one, other, metric=metric, units=np.arange(count), seed=trial, resamples=300)
        wins += verdict(ModelComparison("1", "2", metric, found), Comparison(minimum_gain=0.0)).passed
    assert wins / trials <= 0.05


@pytest.mark.slow
def test_chance_passes_the_test_of_folds_no_more_often_than_the_level() -> None:
    """Recipes that are equally good on folds whose training sets overlap: scores of one draw share its luck."""
    random, trials = np.random.default_rng(4), 2000
    rejected = 0
    for _ in range(trials):
        shared = random.normal(0, 0.01 * np.sqrt(0.25 / 1.25), 1)
        gains = shared + random.normal(0, 0.01, 5)
        rejected += compare_on_folds([0.5] * 5, list(0.5 + gains), metric="f1", judged_share=0.25).p_value <= 0.05
    assert rejected / trials <= 0.06
