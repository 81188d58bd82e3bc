"""Settings of the algorithms, tried within a budget: nested, so that what chose them never judges them.

For every fold of the cross-validation the search is made anew on the other folds alone, and the fold judges what it found; one more
search on all training rows finds the settings that the model gets. Each search is a successive halving over folds: every trial is
judged by one fold, the best third by all others as well, the best mean wins. The algorithm's own settings always take part.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import Budget
from lakehouse.contracts.metrics import LOWER_IS_BETTER
from lakehouse.learning.algorithms import BASELINE, Algorithm, Task, build_pipeline
from lakehouse.learning.candidates import Fold, fit
from lakehouse.learning.evaluation import measure, predict
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
# Time that is set aside for the best settings' other folds, by what their trials seem to take: the last ones may take longer.
_MARGIN = 1.25


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
    algorithms: Sequence[Algorithm],
    material: Material,
    scopes: Sequence[Scope],
    budget: Budget,
    trials: TrialFile,
    *,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Tuned]:
    """Search settings for every algorithm but the baseline, first for all rows (the first scope), then without each outer fold.

    Args:
        algorithms: the candidates.
        material: of every trial.
        scopes: the first has all training rows, the others leave out one outer fold each, in their order.
        budget: trials, time, memory and processes. No trial is begun after the time: a setting is tried only if there seems to be time to
            judge the best by all folds too, and settings that there was no time to judge count as not tried, so that as many repeat it.
        trials: what an earlier start of this training has tried already.
        seed: of the settings' order.
        clock: seconds that only grow.
    """
    real = [algorithm for algorithm in algorithms if algorithm.name != BASELINE]
    settings: dict[str, list[Parameters]] = {
        one.name: [{}, *sampled_parameters(one, material.task, budget.trials, seed=seed)] for one in real
    }
    # In turn, an algorithm's own settings first: whenever the time ends, as many trials as were made would have been the same ones.
    turns = [(place, one) for place in range(budget.trials + 1) for one in real if place < len(settings[one.name])]
    turns = turns[: len(real) + budget.trials]
    bench = _Bench(material, budget, trials, clock)

    def searches(count: int) -> list[_Search]:
        """After so many turns."""
        tried = Counter(one.name for _, one in turns[:count])
        return [_Search(one, settings[one.name][: tried[one.name]], scopes) for one in real]

    count = 0
    for _, algorithm in turns:
        after = searches(count + 1)
        first = next(one for one in after if one.algorithm is algorithm).newest
        later = {one.algorithm.name: one.later for one in after}
        if bench.missing(first) and not bench.has_time({**later, algorithm.name: later[algorithm.name] + len(first)}):
            break
        bench.run(first)
        if bench.missing(first):
            break
        count += 1
    for search in searches(count):
        bench.run(search.second(bench))
    # It took longer than it seemed: what was judged by all folds is what as many trials would have found.
    while any(bench.missing(search.second(bench)) for search in searches(count)):
        count -= 1
    return {search.algorithm.name: search.found(bench) for search in searches(count)}


def trials_of(settings: int, folds: Sequence[int]) -> int:
    """How many trials a search of so many settings, the algorithm's own among them, makes at most; `folds` are those of each scope."""
    if settings < 2:
        return 0
    return settings * len(folds) + sum(_most_kept(settings) * (count - 1) for count in folds)


def _most_kept(settings: int) -> int:
    """Those that the first fold leaves over; the algorithm's own settings always are."""
    return min(settings, math.ceil(settings / _KEPT) + 1)


@dataclass(frozen=True, slots=True)
class _Search:
    """The search of one algorithm after some turns: its settings, its own first, in every scope that has folds."""

    algorithm: Algorithm
    settings: Sequence[Parameters]
    scopes: Sequence[Scope]

    @property
    def newest(self) -> list[_Trial]:
        """Trials that judge the last setting by the first fold of each scope."""
        return [self._trial(len(self.settings) - 1, 0, scope) for scope in self.scopes if scope.folds]

    @property
    def later(self) -> int:
        """How many trials judge what the first folds leave over, at most."""
        folds = [len(scope.folds) for scope in self.scopes if scope.folds]
        return max(0, trials_of(len(self.settings), folds) - len(self.settings) * len(folds))

    def second(self, bench: "_Bench") -> list[_Trial]:
        """These trials."""
        if len(self.settings) < 2:
            return []
        return [
            self._trial(place, number, scope)
            for scope in self.scopes
            if scope.folds
            for place in self._kept(bench, scope)
            for number in range(1, len(scope.folds))
        ]

    def found(self, bench: "_Bench") -> Tuned:
        """What all trials say."""
        best = [self._best(bench, scope) for scope in self.scopes]
        per_fold = tuple(with_parameters(self.algorithm, one) for one in best[1:])
        return Tuned(with_parameters(self.algorithm, best[0]), per_fold, best[0], max(0, len(self.settings) - 1))

    def _trial(self, place: int, number: int, scope: Scope) -> _Trial:
        return _Trial(self.algorithm, self.settings[place], scope.name, number, scope.folds[number])

    def _kept(self, bench: "_Bench", scope: Scope) -> list[int]:
        order = sorted(range(len(self.settings)), key=lambda place: -bench.score(self._trial(place, 0, scope)))
        return sorted({0, *order[: math.ceil(len(order) / _KEPT)]})

    def _best(self, bench: "_Bench", scope: Scope) -> Parameters:
        """The settings with the best mean over the scope's folds, of those that the first fold left over."""
        if not scope.folds or len(self.settings) < 2:
            return {}
        kept = self._kept(bench, scope)
        means = {place: sum(bench.score(self._trial(place, number, scope)) for number in range(len(scope.folds))) for place in kept}
        # On a tie the one that comes first: the algorithm's own settings before all others.
        return self.settings[max(kept, key=lambda place: (means[place], -place))]


class _Bench:
    """Where trials are made, each once, on as many processes as the budget allows."""

    def __init__(self, material: Material, budget: Budget, trials: TrialFile, clock: Callable[[], float]) -> None:
        self._material, self._trials, self._clock = material, trials, clock
        self._workers = _workers(material, budget)
        # What earlier starts took counts.
        self._ends = clock() + budget.seconds - trials.seconds / self._workers
        self._took: dict[str, list[float]] = {}

    @property
    def _is_over(self) -> bool:
        return self._clock() >= self._ends

    def has_time(self, counts: Mapping[str, int]) -> bool:
        """Whether so many trials of each algorithm can be made in what is left of the time, as long as they took until now."""
        seconds = sum(count * fmean(self._took[name]) for name, count in counts.items() if name in self._took)
        return not self._is_over and self._clock() + _MARGIN * seconds / self._workers <= self._ends

    def missing(self, trials: Sequence[_Trial]) -> bool:
        """Whether one of them has not been made."""
        return any(self._trials.get(trial.name) is None for trial in trials)

    def score(self, trial: _Trial) -> float:
        """More is better; what could not be judged is worse than anything."""
        found = self._trials.get(trial.name)
        if found is None or math.isnan(found):
            return -math.inf
        return -found if self._material.metric in LOWER_IS_BETTER else found

    def run(self, trials: Sequence[_Trial]) -> None:
        """Make those that have not been made, as long as there is time to begin one."""
        waiting = [trial for trial in trials if self._trials.get(trial.name) is None]
        # Where the time ends them, the first ones have been made.
        for trial, (score, seconds) in zip(waiting, self._results(waiting), strict=False):
            self._trials.add(trial.name, score, seconds=seconds)
        for trial in trials:
            seconds = self._trials.took(trial.name)
            if seconds is not None:
                self._took.setdefault(trial.algorithm.name, []).append(seconds)

    def _results(self, waiting: Sequence[_Trial]) -> Iterator[tuple[float, float]]:
        if self._workers == 1 or len(waiting) < 2:
            yield from (_judge(trial, self._material) for trial in self._begun(waiting))
            return
        from joblib import Parallel, delayed

        judge: Callable[..., Any] = delayed(_judge)
        # In order, each as soon as it is there: a kill loses what is under way and no more.
        made = Parallel(n_jobs=self._workers, pre_dispatch="n_jobs", return_as="generator")
        yield from made(judge(trial, self._material) for trial in self._begun(waiting))  # pyright: ignore[reportReturnType]

    def _begun(self, waiting: Sequence[_Trial]) -> Iterator[_Trial]:
        for trial in waiting:
            if self._is_over:
                return
            yield trial


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
