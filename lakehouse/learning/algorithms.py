"""The algorithms a model contract can name: how each is built, what it wants to be given, and how far it scales."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lakehouse.errors import ModelError
from lakehouse.learning.column_steps import build_preparation, build_selection
from lakehouse.learning.preparation import Preparation, Style

Problem = Literal["classification", "regression"]
BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Task:
    """What an estimator is built for."""

    problem: Problem
    classes: int
    rows: int
    has_text: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to learn.

    Attributes:
        build: makes the unfitted estimator.
        max_rows: above this many training rows `sibling` takes its place; None means no limit.
        search_space: parameter -> values a tuner may try; the estimator's own values come first.
    """

    name: str
    problems: tuple[Problem, ...]
    style: Style
    build: Callable[[Task], Any]
    max_rows: int | None = None
    sibling: str | None = None
    search_space: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def _linear(task: Task) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    if task.problem == "regression":
        return Ridge(alpha=1.0, random_state=task.seed)
    # Rare classes of a text count as much as frequent ones; two classes keep their rates, so that probabilities stay honest.
    weight = "balanced" if task.classes > 2 else None
    return LogisticRegression(C=4.0 if task.has_text else 1.0, class_weight=weight, max_iter=2000, tol=1e-3, random_state=task.seed)


def _forest(task: Task) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    trees = 200 if task.rows <= 20_000 else 100
    if task.problem == "regression":
        return RandomForestRegressor(trees, min_samples_leaf=5, max_features=0.4, random_state=task.seed)
    weight = "balanced_subsample" if task.classes > 2 else None
    leaf = 5 if task.classes == 2 else 2
    return RandomForestClassifier(trees, min_samples_leaf=leaf, class_weight=weight, random_state=task.seed)


def _hist_gradient_boosting(task: Task) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    # Every class has its own trees: many classes take smaller steps' worth of time with fewer of them.
    rounds = 150 if task.classes <= 2 else max(40, 300 // task.classes)
    shared: dict[str, Any] = {
        "learning_rate": 0.06 if task.classes <= 2 else 0.12,
        "max_iter": rounds,
        "max_leaf_nodes": 15 if task.rows < 10_000 else 31,
        "l2_regularization": 1.0,
        "early_stopping": False,
        "random_state": task.seed,
    }
    if task.problem == "regression":
        return HistGradientBoostingRegressor(**shared)
    return HistGradientBoostingClassifier(class_weight="balanced" if task.classes > 2 else None, **shared)


def _gradient_boosting(task: Task) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    build = GradientBoostingRegressor if task.problem == "regression" else GradientBoostingClassifier
    return build(n_estimators=100, learning_rate=0.1, max_depth=3, subsample=0.8, random_state=task.seed)


def _tree(task: Task) -> Any:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    build = DecisionTreeRegressor if task.problem == "regression" else DecisionTreeClassifier
    return build(max_depth=8, min_samples_leaf=20, random_state=task.seed)


def _neighbours(task: Task) -> Any:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    build = KNeighborsRegressor if task.problem == "regression" else KNeighborsClassifier
    return build(n_neighbors=25, weights="distance")


def _naive_bayes(task: Task) -> Any:
    from sklearn.naive_bayes import ComplementNB, MultinomialNB

    return ComplementNB(alpha=0.3) if task.classes > 2 else MultinomialNB(alpha=0.3)


def _baseline(task: Task) -> Any:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    return DummyRegressor(strategy="mean") if task.problem == "regression" else DummyClassifier(strategy="prior")


_BOTH: tuple[Problem, ...] = ("classification", "regression")
_TREES = {"max_depth": [None, 6, 12], "min_samples_leaf": [5, 2, 20]}
ALGORITHMS: dict[str, Algorithm] = {
    one.name: one
    for one in (
        Algorithm(BASELINE, _BOTH, Style.FOREST, _baseline),
        Algorithm("logistic_regression", ("classification",), Style.LINEAR, _linear, search_space={"C": [1.0, 0.1, 10.0]}),
        Algorithm("ridge", ("regression",), Style.LINEAR, _linear, search_space={"alpha": [1.0, 0.1, 10.0, 100.0]}),
        Algorithm("naive_bayes", ("classification",), Style.COUNTS, _naive_bayes, search_space={"alpha": [0.3, 0.1, 1.0]}),
        Algorithm("decision_tree", _BOTH, Style.FOREST, _tree, search_space=_TREES),
        Algorithm("knn", _BOTH, Style.LINEAR, _neighbours, 50_000, "random_forest", {"n_neighbors": [25, 5, 75]}),
        Algorithm("random_forest", _BOTH, Style.FOREST, _forest, 200_000, "hist_gradient_boosting", _TREES),
        Algorithm("gradient_boosting", _BOTH, Style.FOREST, _gradient_boosting, 50_000, "hist_gradient_boosting", {"max_depth": [3, 2, 5]}),
        Algorithm("hist_gradient_boosting", _BOTH, Style.BOOSTING, _hist_gradient_boosting, search_space={"max_leaf_nodes": [15, 7, 31]}),
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
        raise ModelError(
            f"algorithm {name}",
            f"is not one for {problem}" if name in ALGORITHMS else "is unknown",
            expected=f"auto, or some of {', '.join(suited)}",
            fix="Correct `algorithms` in the model contract",
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
