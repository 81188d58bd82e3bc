"""The algorithms a model contract can name: what each wants to be given, what it costs, and how far it scales."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from lakehouse.errors import ModelError
from lakehouse.learning import estimators
from lakehouse.learning.column_steps import build_preparation, build_selection
from lakehouse.learning.estimators import Problem, Task
from lakehouse.learning.preparation import Preparation, Style

__all__ = ["ALGORITHMS", "BASELINE", "Algorithm", "Choice", "Cost", "Problem", "Task", "build_pipeline", "choose_candidates"]

BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Cost:
    """How long one fit takes on one core, as measured by `benchmarks/training.py --costs` on numbers without gaps.

    Attributes:
        seconds: for 10,000 rows of 30 columns (of two classes).
        rows: power with which it grows with the rows.
        columns: power with which it grows with the columns.
        classes: power with which it grows with the classes.
    """

    seconds: float
    rows: float = 1.0
    columns: float = 1.0
    classes: float = 0.0

    def estimate_s(self, rows: int, columns: int, classes: int = 2) -> float:
        """Seconds for a table of this size: an order of magnitude, not a promise."""
        grown = (max(rows, 1) / 10_000) ** self.rows * (max(columns, 1) / 30) ** self.columns
        return self.seconds * grown * (max(classes, 2) / 2) ** self.classes


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to learn.

    Attributes:
        build: makes the unfitted estimator.
        cost: what a fit takes, by problem.
        max_rows: above this many training rows `sibling` takes its place; None means no limit.
        search_space: parameter of the estimator -> values a tuner may try; the estimator's own values come first.
    """

    name: str
    style: Style
    build: Callable[[Task], Any]
    cost: Mapping[Problem, Cost]
    search_space: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    max_rows: int | None = None
    sibling: str | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What it can learn."""
        return tuple(self.cost)

    def space(self, estimator: Any) -> dict[str, Sequence[Any]]:
        """The search space as `set_params` of a built estimator takes it: one that is wrapped has a place in front of its names."""
        known = estimator.get_params()
        places = ("", "estimator__", "regressor__")
        return {
            next(f"{place}{name}" for place in places if f"{place}{name}" in known): values for name, values in self.search_space.items()
        }


def _of(classification: Cost | None, regression: Cost | None) -> dict[Problem, Cost]:
    found: dict[Problem, Cost | None] = {"classification": classification, "regression": regression}
    return {problem: cost for problem, cost in found.items() if cost is not None}


_NOTHING = Cost(0.001)
_FOREST = {"max_features": ["sqrt", 0.4, 1.0], "min_samples_leaf": [2, 5, 20], "max_depth": [None, 8, 16]}
ALGORITHMS: dict[str, Algorithm] = {
    one.name: one
    for one in (
        Algorithm(BASELINE, Style.FOREST, estimators.baseline, _of(_NOTHING, _NOTHING)),
        Algorithm(
            "logistic_regression",
            Style.LINEAR,
            estimators.linear,
            _of(Cost(0.05, rows=1.0, columns=0.5, classes=0.7), None),
            {"C": [0.01, 0.1, 1.0, 10.0, 100.0]},
        ),
        Algorithm("linear_regression", Style.LINEAR, estimators.linear_regression, _of(None, Cost(0.02, columns=2.0))),
        Algorithm("ridge", Style.LINEAR, estimators.linear, _of(None, Cost(0.005, columns=2.0)), {"alpha": [0.01, 0.1, 1.0, 10.0, 100.0]}),
        Algorithm("lasso", Style.LINEAR, estimators.lasso, _of(None, Cost(0.005, columns=1.5)), {"alpha": [0.0005, 0.005, 0.05]}),
        Algorithm(
            "elastic_net",
            Style.LINEAR,
            estimators.elastic_net,
            _of(None, Cost(0.005, columns=1.5)),
            {"alpha": [0.0005, 0.005, 0.05], "l1_ratio": [0.1, 0.5, 0.9]},
        ),
        Algorithm(
            "naive_bayes", Style.COUNTS, estimators.counts_naive_bayes, _of(Cost(0.02, classes=0.5), None), {"alpha": [0.05, 0.3, 1.0, 3.0]}
        ),
        # It takes no sparse columns, and its words as directions.
        Algorithm(
            "gaussian_naive_bayes",
            Style.BOOSTING,
            estimators.gaussian_naive_bayes,
            _of(Cost(0.015, classes=0.4), None),
            {"var_smoothing": [1e-9, 1e-6, 1e-3, 1e-1]},
        ),
        Algorithm(
            "decision_tree",
            Style.FOREST,
            estimators.decision_tree,
            _of(Cost(0.2, rows=1.15), Cost(0.15, rows=1.15)),
            {"max_depth": [4, 8, 16], "min_samples_leaf": [5, 20, 60]},
        ),
        Algorithm(
            "knn",
            Style.LINEAR,
            estimators.neighbours,
            # Nearly all of it is spent on the rows that are judged: a quarter as many as it keeps.
            _of(Cost(0.18, rows=1.8, columns=0.2), Cost(0.15, rows=1.8, columns=0.2)),
            {"n_neighbors": [5, 25, 75], "weights": ["distance", "uniform"]},
            max_rows=50_000,
            sibling="random_forest",
        ),
        Algorithm(
            "linear_svm",
            Style.LINEAR,
            estimators.linear_svm,
            _of(Cost(0.14, rows=1.2, columns=0.5, classes=1.3), Cost(0.01)),
            {"C": [0.001, 0.01, 0.1, 1.0, 10.0]},
        ),
        Algorithm(
            "svm",
            Style.LINEAR,
            estimators.svm,
            _of(Cost(5.5, rows=2.0, columns=0.6, classes=0.7), Cost(4.2, rows=2.1, columns=0.5)),
            {"C": [0.1, 1.0, 10.0], "gamma": ["scale", 0.01, 0.1]},
            max_rows=20_000,
            sibling="linear_svm",
        ),
        Algorithm(
            "random_forest",
            Style.FOREST,
            estimators.random_forest,
            _of(Cost(6.7, columns=0.5, classes=0.2), Cost(9.8, columns=0.9)),
            _FOREST,
            max_rows=200_000,
            sibling="hist_gradient_boosting",
        ),
        Algorithm(
            "gradient_boosting",
            Style.FOREST,
            estimators.gradient_boosting,
            _of(Cost(6.3, rows=1.1, classes=1.6), Cost(6.7, rows=1.2)),
            {"learning_rate": [0.05, 0.1, 0.2], "max_depth": [2, 3, 5], "n_estimators": [50, 100, 200]},
            max_rows=50_000,
            sibling="hist_gradient_boosting",
        ),
        Algorithm(
            "hist_gradient_boosting",
            Style.BOOSTING,
            estimators.hist_gradient_boosting,
            _of(Cost(2.0, classes=0.5), Cost(1.6)),
            {"learning_rate": [0.03, 0.06, 0.12], "max_leaf_nodes": [7, 15, 31], "l2_regularization": [0.1, 1.0, 10.0]},
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidates of one training, and what was changed about the contract's wish."""

    algorithms: tuple[Algorithm, ...]
    notes: tuple[str, ...] = ()


def choose_candidates(names: Sequence[str], task: Task) -> Choice:
    """The algorithms to compare: those named, or three suited to the task; the baseline always among them.

    Raises:
        ModelError: a name is unknown, or it does not solve this problem.
    """
    wanted = [*dict.fromkeys(names)] or _auto(task)
    chosen: dict[str, Algorithm] = {BASELINE: ALGORITHMS[BASELINE]}
    notes: list[str] = []
    for name in wanted:
        algorithm = _find(name, task.problem)
        while algorithm.max_rows is not None and task.rows > algorithm.max_rows and algorithm.sibling is not None:
            notes.append(
                f"{algorithm.name} is for up to {algorithm.max_rows:,} rows; with {task.rows:,} {algorithm.sibling} takes its place"
            )
            algorithm = ALGORITHMS[algorithm.sibling]
        chosen[algorithm.name] = algorithm
    return Choice(tuple(chosen.values()), tuple(notes))


def _auto(task: Task) -> list[str]:
    if task.problem == "regression":
        return ["ridge", "random_forest", "hist_gradient_boosting"]
    if task.has_text:
        return ["logistic_regression", "naive_bayes", "random_forest"]
    return ["logistic_regression", "random_forest", "hist_gradient_boosting"]


def _find(name: str, problem: Problem) -> Algorithm:
    suited = [one.name for one in ALGORITHMS.values() if problem in one.problems]
    if name not in suited:
        close = get_close_matches(name, suited, n=1)
        raise ModelError(
            f"algorithms: {name}",
            f"is not one for {problem}" if name in ALGORITHMS else "is unknown",
            expected=f"auto, or some of {', '.join(suited)}",
            fix=f"Did you mean {close[0]}?" if close else "Correct it",
        )
    return ALGORITHMS[name]


def build_pipeline(members: Sequence[Algorithm], preparation: Preparation, task: Task) -> Any:
    """The unfitted Pipeline: preparation and estimator in one, so that training and serving can't differ.

    Several members are blended: each with its own preparation, their probabilities (or numbers) averaged.
    """
    from sklearn.ensemble import VotingClassifier, VotingRegressor
    from sklearn.pipeline import Pipeline

    if [member.name for member in members] == [BASELINE]:
        # It looks at no column, so nothing about the columns can keep it from its answer.
        return Pipeline([("estimate", members[0].build(task))])
    if len(members) == 1:
        prepare = build_preparation(preparation, members[0].style, problem=task.problem, seed=task.seed)
        select = build_selection(preparation, problem=task.problem, seed=task.seed)
        chosen = [("select", select)] if select is not None else []
        return Pipeline([("prepare", prepare), *chosen, ("estimate", members[0].build(task))])
    parts = [(member.name, build_pipeline((member,), preparation, task)) for member in members]
    return Pipeline([("blend", VotingRegressor(parts) if task.problem == "regression" else VotingClassifier(parts, voting="soft"))])
