"""Exact contributions against the mean of all coalitions, through the whole pipeline, and when they are sampled instead."""

from collections.abc import Callable
from itertools import product
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts import PreparationSpec
from lakehouse.learning.algorithms import ALGORITHMS, Task, build_pipeline
from lakehouse.learning.calibrated import Calibrated
from lakehouse.learning.explaining import Explainer, Method
from lakehouse.learning.margins import Unit, reading_of
from lakehouse.learning.preparation import plan_columns
from lakehouse.learning.registry import LoadedModel, ModelSpec
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.shapley import Question, Tree, of_trees

ROWS = 160
SCHEMA = FeatureSchema.of({"x": "DOUBLE", "stars": "INTEGER", "kind": "VARCHAR", "member": "BOOLEAN", "at": "TIMESTAMP"})
LINEAR, BOOSTED = ["linear_svm", "logistic_regression"], ["gradient_boosting", "hist_gradient_boosting"]
FORESTS = ["decision_tree", "random_forest"]
NUMBERS = ["ridge", "linear_regression", "lasso", "elastic_net", "linear_svm", *BOOSTED, *FORESTS]


def rows(seed: int, count: int = ROWS) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return SCHEMA.frame(
        {
            "x": np.where(random.random(count) < 0.2, np.nan, random.normal(size=count)),
            "stars": random.integers(0, 5, count),
            "kind": random.choice(["a", "b", "c"], count),
            "member": random.random(count) > 0.5,
            "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(random.integers(0, 10**6, count), unit="s"),
        }
    )


def fitted(
    *names: str,
    problem: str = "classification",
    classes: int = 2,
    calibration: tuple[float, float] | None = None,
    spec: PreparationSpec | None = None,
) -> LoadedModel:
    frame, random = rows(1), np.random.default_rng(2)
    score = np.nan_to_num(frame["x"].to_numpy()) * np.where(frame["kind"] == "a", 2, -1) + frame["stars"].to_numpy() * 0.7
    number = score + random.normal(scale=0.5, size=ROWS)
    labels = number if problem == "regression" else np.digitize(number, np.quantile(number, np.arange(1, classes) / classes)).astype(str)
    task = Task(problem, classes if problem == "classification" else 0, ROWS, has_text=False, seed=3)  # pyright: ignore[reportArgumentType]
    members = [ALGORITHMS[name] for name in names]
    pipeline = build_pipeline(members, plan_columns(frame, SCHEMA, spec), task)
    known = pipeline.get_params()
    pipeline.set_params(**{key: 8 for key in known if key.endswith("n_estimators") or (key.endswith("max_iter") and "hist" in str(names))})
    if calibration is not None:
        last, estimator = pipeline.steps[-1]
        pipeline.steps[-1] = (last, Calibrated(estimator, slope=calibration[0], intercept=calibration[1]))
    pipeline.fit(frame, labels)
    named = tuple(str(one) for one in getattr(pipeline, "classes_", ()))
    return LoadedModel("m", "1", pipeline, ModelSpec(SCHEMA, problem, named, None, "VARCHAR", "digest"))


def by_every_coalition(answer: Callable[[pd.DataFrame], np.ndarray], own: pd.DataFrame, background: pd.DataFrame) -> np.ndarray:
    """Shapley values by their definition: rows by features by answers."""
    names, mixtures = list(own.columns), list(product([False, True], repeat=len(own.columns)))
    parts = []
    for kept in mixtures:
        mixed = pd.concat([background] * len(own), ignore_index=True)
        for name, keeps in zip(names, kept, strict=True):
            if keeps:
                mixed[name] = np.repeat(own[name].to_numpy(), len(background))
        parts.append(mixed)
    said = answer(pd.concat(parts, ignore_index=True)).reshape(len(mixtures), len(own), len(background), -1).mean(axis=2)
    worth = dict(zip(mixtures, said, strict=True))
    values = np.zeros((len(own), len(names), said.shape[-1]))
    for kept, (place, keeps) in product(mixtures, enumerate(names)):
        del keeps
        if not kept[place]:
            joined = (*kept[:place], True, *kept[place + 1 :])
            values[:, place] += (worth[joined] - worth[kept]) / (len(names) * comb(len(names) - 1, sum(kept)))
    return values


@pytest.mark.parametrize(
    ("names", "given", "unit"),
    [
        *(((name,), {}, Unit.LOG_ODDS) for name in [*LINEAR, *BOOSTED]),
        *(((name,), {"calibration": (0.6, 0.3)}, Unit.LOG_ODDS) for name in [*LINEAR, *BOOSTED]),
        *(((name,), {"classes": 3, "calibration": (0.6, 0.0)}, Unit.LOG_ODDS) for name in ["logistic_regression", *BOOSTED]),
        *(((name,), {"classes": classes}, Unit.PROBABILITY) for name in FORESTS for classes in (2, 3)),
        (("decision_tree",), {"calibration": (0.6, 0.3)}, Unit.PROBABILITY),
        (("random_forest", "decision_tree"), {}, Unit.PROBABILITY),
        *(((name,), {"problem": "regression"}, Unit.TARGET) for name in NUMBERS),
        (("ridge", "hist_gradient_boosting"), {"problem": "regression"}, Unit.TARGET),
        (("logistic_regression",), {"spec": PreparationSpec(select="statistical", keep=0.4)}, Unit.LOG_ODDS),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, tuple) else None,
)
def test_exact_contributions_are_the_mean_over_all_coalitions(names, given, unit) -> None:
    model, own, background = fitted(*names, **given), rows(7, 6), rows(8, 4)
    told = Explainer(model, background, seed=1).explain(own)
    assert (told.unit, told.method) == (unit, Method.EXACT)
    reading = reading_of(model.pipeline)
    which = np.zeros(6, dtype=int) if unit is Unit.TARGET else model.pipeline.predict_proba(own).argmax(axis=1)
    expected = by_every_coalition(reading.answers, own, background)[np.arange(6), :, which]
    assert told.values == pytest.approx(expected, abs=1e-9)
    answers = reading.answers(own)[np.arange(6), which]
    assert told.values.sum(axis=1) + told.base == pytest.approx(answers, abs=1e-9)
    assert np.abs(told.values).max() > 0
    # The unit is what it is called: the answers are those of the model itself.
    if unit is Unit.PROBABILITY:
        assert reading.answers(own) == pytest.approx(model.pipeline.predict_proba(own))
    elif unit is Unit.LOG_ODDS:
        logarithms = np.log(model.pipeline.predict_proba(own))
        others = logarithms[:, ::-1] if logarithms.shape[1] == 2 else logarithms.mean(axis=1, keepdims=True)
        assert reading.answers(own) == pytest.approx(logarithms - others, abs=1e-6)


@pytest.mark.parametrize(
    ("names", "given", "unit"),
    [
        (("knn",), {}, Unit.PROBABILITY),
        (("svm",), {}, Unit.PROBABILITY),
        (("svm",), {"problem": "regression"}, Unit.TARGET),
        (("linear_svm",), {"classes": 3}, Unit.PROBABILITY),
        (("gaussian_naive_bayes",), {}, Unit.PROBABILITY),
        (("random_forest",), {"calibration": (0.6, 0.3)}, Unit.PROBABILITY),
        (("logistic_regression", "random_forest"), {}, Unit.PROBABILITY),
        (("logistic_regression",), {"spec": PreparationSpec(impute="knn"), "calibration": (0.6, 0.3)}, Unit.LOG_ODDS),
        (("decision_tree",), {"spec": PreparationSpec(outliers="isolation_forest")}, Unit.PROBABILITY),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, tuple) else None,
)
def test_what_is_no_sum_is_sampled_in_the_unit_of_its_kind(names, given, unit) -> None:
    model, own = fitted(*names, **given), rows(7, 5)
    explainer = Explainer(model, rows(8, 4), seed=1)
    assert not explainer.is_exact
    told = explainer.explain(own, until=0.0)
    assert (told.unit, told.method) == (unit, Method.SAMPLED)
    answers = reading_of(model.pipeline).answers(own)
    which = answers.argmax(axis=1)
    assert told.values.sum(axis=1) + told.base == pytest.approx(answers[np.arange(5), which])


def test_trees_for_which_there_is_no_time_are_sampled_from_then_on() -> None:
    explainer = Explainer(fitted("hist_gradient_boosting"), rows(8, 4), seed=1)
    assert explainer.is_exact
    told = explainer.explain(rows(7, 5), until=0.0)
    assert (told.method, told.orders, told.unit) == (Method.SAMPLED, 2, Unit.LOG_ODDS)
    assert not explainer.is_exact


def test_the_time_for_all_trees_is_judged_by_those_that_are_done() -> None:
    leaf, none = np.asarray([-1]), np.asarray([False])
    trees = [Tree(leaf, leaf, leaf, np.zeros(1), none, np.ones((1, 1)))] * 10
    asked = Question(np.zeros((2, 1)), np.zeros((1, 1)), np.zeros(1, dtype=int), 1, np.zeros(2, dtype=int))
    # Two seconds per tree.
    assert of_trees(trees, asked, until=21.0, clock=iter(range(0, 100, 2)).__next__) is not None
    assert of_trees(trees, asked, until=19.0, clock=iter(range(0, 100, 2)).__next__) is None


COLUMNS = 5


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Trees of up to 9 splits, on few values, so that a column is asked about again on the same way."""
    left, right, column, threshold, gaps = [-1], [-1], [0], [0.0], [False]
    for _ in range(draw(st.integers(0, 9))):
        leaf = draw(st.sampled_from([place for place, child in enumerate(left) if child < 0]))
        left[leaf], right[leaf] = len(left), len(left) + 1
        column[leaf], threshold[leaf] = draw(st.integers(0, COLUMNS - 1)), draw(st.sampled_from([-0.5, 0.5, 1.5]))
        gaps[leaf] = draw(st.booleans())
        for one, value in ((left, -1), (right, -1), (column, 0), (threshold, 0.0), (gaps, False)):
            one += [value, value]
    says = draw(st.lists(st.integers(-9, 9), min_size=len(left), max_size=len(left)))
    whole = [np.asarray(one) for one in (left, right, column)]
    return Tree(*whole, np.asarray(threshold), np.asarray(gaps), np.asarray(says, dtype="float64")[:, None])


def answered(tree: Tree, row: np.ndarray) -> float:
    node = 0
    while tree.left[node] >= 0:
        seen = row[tree.column[node]]
        goes_left = tree.gaps_left[node] if np.isnan(seen) else seen <= tree.threshold[node]
        node = tree.left[node] if goes_left else tree.right[node]
    return float(tree.says[node, 0])


@settings(max_examples=60, deadline=None)
@given(tree=trees(), owners=st.lists(st.integers(0, 3), min_size=COLUMNS, max_size=COLUMNS), data=st.data())
def test_of_any_tree_the_values_are_those_of_all_coalitions_of_features(tree, owners, data) -> None:
    value = st.sampled_from([-1.0, 0.0, 1.0, 2.0, np.nan])
    table = np.asarray([[data.draw(value) for _ in range(COLUMNS)] for _ in range(5)])
    own, background, owned = table[:2], table[2:], np.asarray(owners)
    found = of_trees([tree], Question(own, background, owned, 4, np.zeros(2, dtype=int)))

    def answer(mixed: pd.DataFrame) -> np.ndarray:
        # A frame's cell says whose row its feature is of.
        said = [
            answered(tree, np.asarray([table[int(row[owner]), place] for place, owner in enumerate(owners)])) for row in mixed.to_numpy()
        ]
        return np.asarray(said)

    names = list("abcd")
    cells = pd.DataFrame({name: range(5) for name in names})
    expected = by_every_coalition(answer, cells[:2], cells[2:].reset_index(drop=True))[:, :, 0]
    assert found == pytest.approx(expected, abs=1e-9)
