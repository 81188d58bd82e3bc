"""Metrics against scikit-learn's, and what happens at their edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from lakehouse.learning.evaluation import Predictions, check_minimums, mean_metrics, measure

CLASSES = ("a", "b", "c")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=2, max_size=40),
    st.integers(0, 10**6),
)
def test_class_metrics_are_those_of_scikit_learn(pairs, seed):
    truth = np.asarray([one for one, _ in pairs], dtype=object)
    said = np.asarray([one for _, one in pairs], dtype=object)
    probabilities = np.random.default_rng(seed).dirichlet([1, 1, 1], len(pairs))
    found = measure(truth, Predictions(said, probabilities, CLASSES))
    present = sorted(set(truth))
    texts, answers = truth.astype(str), said.astype(str)
    options = {"labels": present, "average": "macro", "zero_division": 0.0}
    assert found["f1_macro"] == pytest.approx(reference.f1_score(texts, answers, **options))
    assert found["precision"] == pytest.approx(reference.precision_score(texts, answers, **options))
    assert found["balanced_accuracy"] == pytest.approx(reference.recall_score(texts, answers, **options))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(texts, answers))
    assert found["log_loss"] == pytest.approx(reference.log_loss(texts, probabilities, labels=list(CLASSES)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=3, max_size=40).filter(
        lambda rows: len({row[0] for row in rows}) > 1
    )
)
def test_regression_metrics_are_those_of_scikit_learn(pairs):
    truth, said = (np.asarray(column) for column in zip(*pairs, strict=True))
    found = measure(truth, Predictions(said))
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(truth, said))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, said))
    if np.var(truth) > 1e-6:
        assert found["r2"] == pytest.approx(reference.r2_score(truth, said))


def test_of_two_classes_the_positive_one_is_measured():
    truth = np.asarray(["yes", "yes", "no", "no"], dtype=object)
    given_ = Predictions(
        np.asarray(["yes", "no", "no", "no"], dtype=object),
        np.asarray([[0.1, 0.9], [0.6, 0.4], [0.7, 0.3], [0.9, 0.1]]),
        ("no", "yes"),
        "yes",
    )
    found = measure(truth, given_)
    assert (found["precision"], found["recall"], found["roc_auc"]) == (1.0, 0.5, 1.0)
    assert found["brier"] == pytest.approx((0.01 + 0.36 + 0.09 + 0.01) / 4)


def test_what_has_no_meaning_is_left_out_and_what_was_never_learned_counts_as_missed():
    truth = np.asarray(["yes", "yes"], dtype=object)
    found = measure(truth, Predictions(np.asarray(["no", "no"], dtype=object), np.asarray([[1.0], [1.0]]), ("no",), "yes"))
    assert "roc_auc" not in found
    assert found["accuracy"] == 0.0
    assert math.isfinite(found["log_loss"])
    assert "r2" not in measure(np.asarray([1.0, 1.0]), Predictions(np.asarray([1.0, 2.0])))
    assert "mape" not in measure(np.asarray([0.0, 1.0]), Predictions(np.asarray([1.0, 2.0])))


def test_a_minimum_is_an_upper_limit_where_less_is_better():
    good, bad, absent = check_minimums({"accuracy": 0.9, "log_loss": 0.2, "roc_auc": 0.5}, {"accuracy": 0.9, "log_loss": 0.3})
    assert (good.passed, bad.passed, absent.passed) == (True, False, False)
    assert str(bad) == "log_loss 0.3000, demanded at most 0.2"
    assert "not measurable" in str(absent)


def test_means_are_over_what_every_fold_has():
    assert mean_metrics([{"a": 1.0, "b": 2.0}, {"a": 3.0}]) == {"a": 2.0}
    assert mean_metrics([]) == {}
