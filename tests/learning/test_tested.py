"""What is kept of the test rows: every row counted once, few enough to look at."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.learning.evaluation import Predictions
from lakehouse.learning.tested import Confusion, Pairs, outcome_from, outcome_of

PNG = b"\x89PNG"
CLASSES = tuple(f"class {number:02}" for number in range(30))


@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=80))
def test_every_test_row_is_counted_once_whatever_the_number_of_classes(pairs):
    truth, said = (np.asarray(column, dtype=object) for column in zip(*pairs, strict=True))
    kept = outcome_of(truth, Predictions(said, np.ones((len(said), len(CLASSES))), CLASSES))
    assert isinstance(kept, Confusion)
    assert len(kept.labels) == len(kept.counts) == 15
    assert sum(map(sum, kept.counts)) == len(pairs)
    for label, row in zip(kept.labels, kept.counts, strict=True):
        if label in CLASSES:
            assert sum(row) == sum(true == label for true, _ in pairs)
            assert row[kept.labels.index(label)] == pairs.count((label, label))
    assert outcome_from(json.loads(json.dumps(kept.as_dict()))) == kept


@pytest.mark.parametrize("count", [1, 7, 5000])
def test_pairs_reach_from_the_least_to_the_greatest_true_number(count):
    truth = np.random.default_rng(0).normal(size=count) * 1000
    kept = outcome_of(truth, Predictions(truth + 1))
    assert isinstance(kept, Pairs)
    assert len(kept.actual) == len(kept.predicted) == min(count, 400)
    assert (min(kept.actual), max(kept.actual)) == pytest.approx((truth.min(), truth.max()), rel=1e-4)
    assert outcome_from(json.loads(json.dumps(kept.as_dict()))) == kept
    assert kept.picture().startswith(PNG)


def test_a_confusion_is_drawn_the_same_every_time():
    kept = Confusion(("no", "a rather long name of a class"), ((3, 1), (0, 2)))
    assert kept.picture() == kept.picture()
    assert kept.picture().startswith(PNG)


def test_a_report_from_before_has_none():
    assert outcome_from(None) is None
