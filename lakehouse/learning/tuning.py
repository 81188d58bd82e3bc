"""Settings of the algorithms, tried within a budget: nested, so that what chose them never judges them.

For every fold of the cross-validation the search is made anew on the other folds alone, and the fold judges what it found; one more
search on all training rows finds the settings that the model gets. Each search is a successive halving over folds: every trial is
judged by one fold, the best third by all others as well, the best mean wins. The algorithm's own settings always take part.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import Budget
from lakehouse.learning.algorithms import BASELINE, Algorithm, Task, build_pipeline
from lakehouse.learning.candidates import Fold, fit
from lakehouse.learning.evaluation import LOWER_IS_BETTER, measure, predict
from lakehouse.learning.preparation import Preparation
from lakehouse.learning.trials import TrialFile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Parameters = Mapping[str, Any]
# A worker holds the rows, their prepared form and a model, on top of the libraries.
_WORKER_GB = 0.4
_COPIES = 8
_KEPT = 3


@dataclass(frozen=True, slots=True)
class Material:
    """What every trial is made with."""

    preparation: Preparation
    task: Task
    frame: "pd.DataFrame"
    labels: "np.ndarray[Any, Any]"
    positive: str | None
    metric: str


@dataclass(frozen=True, slots=True)
class Scope:
    """Where one search is made: the folds that judge its trials, none of whose rows the outer fold has."""

    name: str
    folds: tuple[Fold, ...]


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the searches found for one algorithm.

    Attributes:
        final: with the settings that the model gets.
        per_fold: for each outer fold with the settings that were found without it.
        parameters: of `final`, where they are not the algorithm's own.
        trials: settings that were tried beside its own.
    """

    final: Algorithm
    per_fold: tuple[Algorithm, ...]
    parameters: Parameters
    trials: int


@dataclass(frozen=True, slots=True)
class _Trial:
    """One setting of one algorithm, judged by one fold of one scope."""

    algorithm: Algorithm
    parameters: Parameters
    scope: str
    number: int
    fold: Fold

    @property
    def name(self) -> str:
        settings = ",".join(f"{key}={value!r}" for key, value in sorted(self.parameters.items()))
        return f"{self.scope}/{self.number}/{self.algorithm.name}({settings})"


def with_parameters(algorithm: Algorithm, parameters: Parameters) -> Algorithm:
    """The same algorithm with other settings of its estimator."""
    if not parameters:
        return algorithm
    original = algorithm.build

    def build(task: Task) -> Any:
        return original(task).set_params(**parameters)

    return replace(algorithm, build=build)


def sampled_parameters(algorithm: Algorithm, task: Task, count: int, *, seed: int) -> list[Parameters]:
    """Different settings of the search space in an order of chance, none of them the algorithm's own: a longer list begins with a shorter."""
    import numpy as np

    estimator = algorithm.build(task)
    space, own = algorithm.space(estimator), estimator.get_params()
    every = [dict(zip(space, values, strict=True)) for values in product(*space.values())] if space else []
    others = [one for one in every if any(own.get(key) != value for key, value in one.items())]
    order = np.random.default_rng([seed, *algorithm.name.encode()]).permutation(len(others))
    return [others[place] for place in order[:count]]


def tune(
    algorithms: Sequence[Algorithm], material: Material, scopes: Sequence[Scope], budget: Budget, trials: TrialFile, *, seed: int
) -> dict[str, Tuned]:
    """Search settings for every algorithm but the baseline, first for all rows (the first scope), then without each outer fold.

    Args:
        algorithms: the candidates.
        material: of every trial.
        scopes: the first has all training rows, the others leave out one outer fold each, in their order.
        budget: trials, time, memory and processes. Time ends the search between two trials, so that as many trials repeat it.
        trials: what an earlier start of this training has tried already.
        seed: of the settings' order.
    """
    real = [algorithm for algorithm in algorithms if algorithm.name != BASELINE]
    settings: dict[str, list[Parameters]] = {
        one.name: [{}, *sampled_parameters(one, material.task, budget.trials, seed=seed)] for one in real
    }
    # In turn, an algorithm's own settings first: whenever the time ends, as many trials as were made would have been the same ones.
    turns = [(place, one) for place in range(budget.trials + 1) for one in real if place < len(settings[one.name])]
    bench = _Bench(material, budget, trials)
    tried = dict.fromkeys(settings, 0)
    for place, algorithm in turns[: len(real) + budget.trials]:
        # Its own settings are always tried: there is something to choose from, however short the time.
        if place and bench.is_over:
            break
        given = settings[algorithm.name][place]
        bench.run([_Trial(algorithm, given, scope.name, 0, scope.folds[0]) for scope in scopes if scope.folds])
        tried[algorithm.name] = place + 1
    found: dict[str, Tuned] = {}
    for algorithm in real:
        listed = settings[algorithm.name][: tried[algorithm.name]]
        best = [_best(bench, algorithm, listed, scope) for scope in scopes]
        per_fold = tuple(with_parameters(algorithm, one) for one in best[1:])
        found[algorithm.name] = Tuned(with_parameters(algorithm, best[0]), per_fold, best[0], len(listed) - 1)
    return found


def _best(bench: "_Bench", algorithm: Algorithm, settings: Sequence[Parameters], scope: Scope) -> Parameters:
    """The settings with the best mean over the scope's folds, of those that the first fold left over."""
    if not scope.folds or len(settings) < 2:
        return {}

    def trial(place: int, number: int) -> _Trial:
        return _Trial(algorithm, settings[place], scope.name, number, scope.folds[number])

    order = sorted(range(len(settings)), key=lambda place: -bench.score(trial(place, 0)))
    kept = sorted({0, *order[: math.ceil(len(order) / _KEPT)]})
    bench.run([trial(place, number) for place in kept for number in range(1, len(scope.folds))])
    means = {place: sum(bench.score(trial(place, number)) for number in range(len(scope.folds))) for place in kept}
    # On a tie the one that comes first: the algorithm's own settings before all others.
    return settings[max(kept, key=lambda place: (means[place], -place))]


class _Bench:
    """Where trials are made, each once, on as many processes as the budget allows."""

    def __init__(self, material: Material, budget: Budget, trials: TrialFile) -> None:
        self._material, self._trials = material, trials
        self._workers = _workers(material, budget)
        self._ends = time.monotonic() + budget.seconds - trials.seconds / self._workers

    @property
    def is_over(self) -> bool:
        """Whether the time is up; what earlier starts took counts."""
        return time.monotonic() >= self._ends

    def score(self, trial: _Trial) -> float:
        """More is better; what could not be judged is worse than anything."""
        found = self._trials.get(trial.name)
        if found is None or math.isnan(found):
            return -math.inf
        return -found if self._material.metric in LOWER_IS_BETTER else found

    def run(self, trials: Sequence[_Trial]) -> None:
        """Make those that have not been made."""
        waiting = [trial for trial in trials if self._trials.get(trial.name) is None]
        for trial, (score, seconds) in zip(waiting, self._results(waiting), strict=True):
            self._trials.add(trial.name, score, seconds=seconds)

    def _results(self, waiting: Sequence[_Trial]) -> Iterator[tuple[float, float]]:
        if self._workers == 1 or len(waiting) < 2:
            yield from (_judge(trial, self._material) for trial in waiting)
            return
        from joblib import Parallel, delayed

        judge: Callable[..., Any] = delayed(_judge)
        # In order, each as soon as it is there: a kill loses what is under way and no more.
        yield from Parallel(n_jobs=self._workers, return_as="generator")(judge(trial, self._material) for trial in waiting)  # pyright: ignore[reportReturnType]


def _workers(material: Material, budget: Budget) -> int:
    """As many processes as the budget's memory is enough for, at least one."""
    if budget.memory_gb is None:
        return budget.workers
    each = _WORKER_GB + _COPIES * float(material.frame.memory_usage(deep=True).sum()) / 1e9
    return max(1, min(budget.workers, int(budget.memory_gb / each)))


def _judge(trial: _Trial, material: Material) -> tuple[float, float]:
    """The metric of one trial on one fold, NaN where it can't be learned or measured; and the seconds it took."""
    started = time.perf_counter()
    pipeline = build_pipeline((with_parameters(trial.algorithm, trial.parameters),), material.preparation, material.task)
    fold, labels = trial.fold, material.labels
    try:
        fit(pipeline, material.frame.iloc[fold.fit], labels[fold.fit])
        said = predict(pipeline, material.frame.iloc[fold.judge], positive=material.positive)
    except ValueError:
        # scikit-learn's way to say that the rows, or these settings, do not suit the estimator: a trial that does not win.
        return math.nan, time.perf_counter() - started
    return measure(labels[fold.judge], said).get(material.metric, math.nan), time.perf_counter() - started
