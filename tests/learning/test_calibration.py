"""Probabilities that mean what they say: kept where that helps rows they were not fitted on, stored in the one pipeline."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.learning import Registry, train
from lakehouse.learning.algorithms import ALGORITHMS
from lakehouse.learning.calibrated import Calibrated, calibrated
from lakehouse.learning.calibration import Reliability, calibrate, reliability, threshold_metric
from lakehouse.learning.candidates import Candidate, Fold
from lakehouse.learning.evaluation import Predictions, predict
from tests.learning.conftest import model, write

ROWS = 3000


def judged(slope: float, intercept: float, *, seed: int = 1) -> tuple[Candidate, np.ndarray, list[Fold]]:
    """What a model says whose log odds are the true ones times a slope, plus an intercept."""
    random = np.random.default_rng(seed)
    odds = random.normal(size=ROWS) - 1
    labels = np.where(random.random(ROWS) < 1 / (1 + np.exp(-odds)), "yes", "no").astype(object)
    yes = 1 / (1 + np.exp(-(slope * odds + intercept)))
    said = Predictions(np.where(yes > 0.5, "yes", "no").astype(object), np.column_stack([1 - yes, yes]), ("no", "yes"), "yes")
    folds = [Fold(np.arange(0), np.arange(start, ROWS, 3)) for start in range(3)]
    parts = tuple(said.take(fold.judge) for fold in folds)
    return Candidate((ALGORITHMS["logistic_regression"],), parts, {}, (), 0.0), labels, folds


@pytest.mark.parametrize(("slope", "intercept"), [(3.0, 0.0), (0.4, 0.0), (1.0, 1.5)])
def test_a_model_that_is_too_sure_too_shy_or_off_is_put_right(slope, intercept):
    candidate, labels, folds = judged(slope, intercept)
    found = calibrate(candidate, labels, folds, threshold_for=None)
    assert found.slope == pytest.approx(1 / slope, rel=0.15)
    assert found.intercept == pytest.approx(-intercept / slope, abs=0.2)
    assert "log loss" in found.notes[0]


def test_a_model_that_is_right_is_left_alone():
    changed = [calibrate(*judged(1.0, 0.0, seed=seed), threshold_for=None).changes for seed in range(10)]
    assert sum(changed) <= 1


@pytest.mark.parametrize("count", [60, 90, 120, 400])
def test_weights_of_a_rare_class_are_taken_back_however_few_rows_there_are(count):
    from sklearn.linear_model import LogisticRegression

    errors: list[float] = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        rare = np.arange(count) % 4 == 0
        values = random.normal(size=(count, 3)) + rare[:, None] * [1.0, 0, 0]
        labels = np.where(rare, "yes", "no").astype(object)
        dealt = (np.arange(count) // 4) % 5
        folds = [Fold(np.flatnonzero(dealt != one), np.flatnonzero(dealt == one)) for one in range(5)]
        models = [LogisticRegression(class_weight="balanced").fit(values[one.fit], labels[one.fit]) for one in folds]
        said = tuple(predict(one, values[fold.judge], positive="yes") for one, fold in zip(models, folds, strict=True))
        candidate = Candidate((ALGORITHMS["logistic_regression"],), said, {}, (), 0.0)
        found = calibrate(candidate, labels, folds, threshold_for="f1", is_weighted=True)
        weighted = np.concatenate([one.probabilities for one in said])
        assert weighted[:, 1].mean() > 0.35
        mapped = calibrated(weighted, found.slope, found.intercept)
        errors.append(float(mapped[:, 1].mean()) - 0.25)
        assert "weights of rare classes" in found.notes[0]
        if count < 100:
            # The answers are those of the weighted model.
            assert ((mapped[:, 1] >= found.threshold) == (weighted[:, 1] >= 0.5)).mean() > 0.99
    assert np.abs(errors).max() < 0.03


def test_nothing_is_taken_back_where_the_algorithm_took_no_weights_or_the_classes_are_even():
    candidate, labels, folds = judged(1.0, 0.0)
    found = calibrate(candidate, labels, folds, threshold_for=None, is_weighted=True)
    assert abs(found.intercept) < 0.15
    even = [np.flatnonzero(labels == one)[:500] for one in ("no", "yes")]
    rows = np.sort(np.concatenate(even))
    said = Predictions(np.full(1000, "no", dtype=object), np.full((1000, 2), 0.5), ("no", "yes"), "yes")
    halves = [Fold(np.arange(0), np.arange(start, 1000, 2)) for start in range(2)]
    parts = tuple(said.take(fold.judge) for fold in halves)
    alike = Candidate((ALGORITHMS["logistic_regression"],), parts, {}, (), 0.0)
    assert not calibrate(alike, labels[rows], halves, threshold_for=None, is_weighted=True).changes


def test_of_more_than_two_classes_the_answers_stay():
    random = np.random.default_rng(2)
    true = random.dirichlet([1, 1, 1], ROWS)
    labels = np.asarray([random.choice(["a", "b", "c"], p=one) for one in true], dtype=object)
    sure = calibrated(true, 2.5, 0.0)
    said = Predictions(np.asarray(["a", "b", "c"], dtype=object)[sure.argmax(axis=1)], sure, ("a", "b", "c"))
    folds = [Fold(np.arange(0), np.arange(start, ROWS, 2)) for start in range(2)]
    candidate = Candidate((ALGORITHMS["naive_bayes"],), tuple(said.take(fold.judge) for fold in folds), {}, (), 0.0)
    found = calibrate(candidate, labels, folds, threshold_for="f1_macro")
    assert found.slope == pytest.approx(0.4, rel=0.15)
    assert (found.intercept, found.threshold) == (0.0, 0.5)


@settings(max_examples=20)
@given(slope=st.floats(0.1, 5), intercept=st.floats(-3, 3), seed=st.integers(0, 1000))
def test_calibration_keeps_the_order_of_rows_and_sums_to_one(slope, intercept, seed):
    given_ = np.random.default_rng(seed).dirichlet([1, 1], 50)
    found = calibrated(given_, slope, intercept)
    assert np.allclose(found.sum(axis=1), 1)
    assert (np.diff(found[np.argsort(given_[:, 1]), 1]) >= -1e-12).all()


def test_the_threshold_is_the_best_one_out_of_fold_and_only_where_it_is_asked_for():
    candidate, labels, folds = judged(1.0, -1.0)
    at_half = calibrate(candidate, labels, folds, threshold_for=None)
    found = calibrate(candidate, labels, folds, threshold_for="f1")
    assert (at_half.threshold, found.threshold < 0.45) == (0.5, True)
    assert threshold_metric("roc_auc", (), "auto") is None
    assert threshold_metric("roc_auc", ("f1",), "auto") == "f1"
    assert threshold_metric("roc_auc", (), "balanced") == "f1"
    assert threshold_metric("f1", (), "none") is None


def test_reliability_says_how_far_what_was_said_is_from_what_came_true():
    candidate, labels, folds = judged(1.0, 0.0)
    right = reliability(labels[folds[0].judge], candidate.judged[0])
    sure = reliability(labels[folds[0].judge], judged(4.0, 0.0)[0].judged[0])
    assert right is not None
    assert sure is not None
    assert (right.error < 0.05, sure.error > 0.1, sum(right.rows)) == (True, True, ROWS // 3)
    assert Reliability.from_dict(right.as_dict()) == right
    assert reliability(np.zeros(3), Predictions(np.zeros(3))) is None


def test_a_calibrated_model_is_stored_answers_at_its_threshold_and_is_the_same_every_time(shared, lake, now):
    write(
        lake,
        "staging.rare",
        "SELECT range AS id, (hash(range) % 1000) / 1000 AS x, (hash(range + 5) % 1000) / 1000 AS z,"
        " if((hash(range + 9) % 1000) / 1000 < 0.35 * x * x, 'yes', 'no') AS label FROM range(3000)",
    )
    contract = model("rare", algorithms=("logistic_regression",), folds=3, positive_class="yes", imbalance="balanced")
    report = train(shared, lake, contract, run="r", now=now)
    plain = train(shared, lake, replace(contract, imbalance="none", digest="plain"), run="r", now=now)
    assert report.reliability is not None
    assert report.reliability.error < 0.05
    assert any("weights of rare classes are taken back" in note for note in report.notes)
    assert any("answers yes from a probability" in note for note in report.notes)
    assert report.metrics["f1"] > plain.metrics["f1"] + 0.1
    assert report.metrics["roc_auc"] == pytest.approx(plain.metrics["roc_auc"], abs=0.02)
    loaded = Registry(shared).load("rare", report.version).pipeline
    assert isinstance(loaded.steps[-1][1], Calibrated)
    with lake.connect(["staging.rare"]) as session:
        frame = session.con.execute("SELECT x, z, label FROM staging.rare ORDER BY id LIMIT 500").df()
    threshold = loaded.steps[-1][1].threshold
    assert (loaded.predict(frame[["x", "z"]]) == np.where(loaded.predict_proba(frame[["x", "z"]])[:, 1] >= threshold, "yes", "no")).all()
    again = train(shared, lake, contract, run="r", now=now, force=True)
    assert again.model_digest == report.model_digest
