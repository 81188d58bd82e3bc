"""Choosing an algorithm fairly: every candidate on the same folds of the training rows; the test rows are never looked at."""

import math
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakehouse.contracts.metrics import LOWER_IS_BETTER
from lakehouse.learning.algorithms import BASELINE, Algorithm, Task, build_pipeline
from lakehouse.learning.evaluation import Predictions, average, mean_metrics, measure, predict
from lakehouse.learning.preparation import Preparation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


_RARE = re.compile(r"least populated class in y has only (\d+) members?, which is less than n_splits=(\d+)")
# Relative gain in the metric that a second model has to bring.
BLEND_GAIN = 0.01
# Rows from which on threads are worth their waiting for each other in boosting.
BOOSTED_ON_THREADS = 20_000


@dataclass(frozen=True, slots=True)
class Fold:
    """Positions of the rows to fit on and to judge by."""

    fit: "np.ndarray[Any, Any]"
    judge: "np.ndarray[Any, Any]"


@dataclass(frozen=True, slots=True)
class Candidate:
    """The cross-validation of one algorithm, or of a blend of two.

    Attributes:
        members: the algorithm; for a blend those whose probabilities (or numbers) are averaged.
        judged: what was predicted of each fold's rows.
        metrics: means over the folds.
        folds: the metrics of each fold.
        seconds: time it took.
        notes: what its fitting warned of.
        parameters: settings that a search found better than the algorithm's own.
    """

    members: tuple[Algorithm, ...]
    judged: tuple[Predictions, ...] = field(repr=False)
    metrics: Mapping[str, float]
    folds: tuple[Mapping[str, float], ...]
    seconds: float
    notes: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def name(self) -> str:
        """The algorithm's name; of a blend all names, joined by a plus."""
        return "+".join(member.name for member in self.members)


def make_folds(
    fold: "np.ndarray[Any, Any]",
    labels: "np.ndarray[Any, Any]",
    *,
    by_time: bool,
    is_classification: bool,
    times: "np.ndarray[Any, Any] | None" = None,
    gap_s: float = 0.0,
) -> list[Fold]:
    """The folds that are recorded with the rows; by time, each block is judged by what was learned from the blocks before.

    A fold is left out when it could not be fitted: without rows, or with one class only.

    Args:
        fold: each row's fold; rows with a negative one take no part.
        labels: each row's label.
        by_time: folds are blocks in time.
        is_classification: labels are classes.
        times: each row's time in seconds; nothing is learned from the last `gap_s` before the block that judges.
        gap_s: see `times`.
    """
    import numpy as np

    folds: list[Fold] = []
    for number in sorted({one for one in fold.tolist() if one >= 0}):
        fit = np.flatnonzero((fold >= 0) & (fold < number if by_time else fold != number))
        judge = np.flatnonzero(fold == number)
        if by_time and times is not None and len(judge):
            fit = fit[times[fit] < times[judge].min() - gap_s]
        enough = len(fit) > 0 and len(judge) > 0 and (not is_classification or len(set(labels[fit])) > 1)
        if enough:
            folds.append(Fold(fit, judge))
    return folds


def dealt_anew(
    folds: "np.ndarray[Any, Any]", units: "np.ndarray[Any, Any]", labels: "np.ndarray[Any, Any] | None", *, seed: int
) -> "np.ndarray[Any, Any]":
    """Other folds, as many: units (entities or groups, which stay together) are dealt out in another order.

    Args:
        folds: number of each row's fold.
        units: number of each row's unit, from 0.
        labels: of classes, which keep their shares in every fold; a unit counts for the first of its own. None for numbers.
        seed: of the order.
    """
    import numpy as np

    order = np.random.default_rng(seed).permutation(int(units.max()) + 1)
    if labels is not None:
        # Rows by unit, and within it by label: the first row of each unit has the class that it counts for.
        classes = np.unique(labels, return_inverse=True)[1]
        rows = np.lexsort((classes, units))
        stratum = classes[rows][np.unique(units[rows], return_index=True)[1]]
        order = order[np.argsort(stratum[order], kind="stable")]
    dealt = np.empty(len(order), dtype="int64")
    dealt[order] = np.arange(len(order)) % (int(folds.max()) + 1)
    return dealt[units]


def cross_validate(
    algorithm: Algorithm,
    preparation: Preparation,
    task: Task,
    *,
    frame: "pd.DataFrame",
    labels: "np.ndarray[Any, Any]",
    folds: Sequence[Fold],
    positive: str | None,
    threads: int = 1,
    per_fold: Sequence[Algorithm] = (),
) -> Candidate:
    """Fit and judge one algorithm on every fold; one that can't learn from these rows has no metrics, and a note that says why.

    Args:
        algorithm: as the model would have it.
        preparation: what columns become.
        task: what the estimator is built for.
        frame: training rows.
        labels: of them.
        folds: to fit and judge on.
        positive: of two classes the one that probability is about.
        threads: that trees grow on.
        per_fold: the algorithm with the settings that were found without each fold's rows; none means as it is.
    """
    started = time.perf_counter()
    judged: list[Predictions] = []
    notes: set[str] = set()
    for fold, tuned in zip(folds, per_fold or [algorithm] * len(folds), strict=True):
        pipeline = build_pipeline((tuned,), preparation, task)
        try:
            notes |= fit(pipeline, frame.iloc[fold.fit], labels[fold.fit], threads=threads)
        except ValueError as error:
            # scikit-learn's way to say that the rows do not suit the estimator, such as a text without words.
            return Candidate((algorithm,), (), {}, (), time.perf_counter() - started, (f"left out: {str(error).splitlines()[0][:200]}",))
        judged.append(predict(pipeline, frame.iloc[fold.judge], positive=positive))
    return _judged((algorithm,), judged, labels, folds, seconds=time.perf_counter() - started, notes=tuple(sorted(notes)))


def blend(one: Candidate, other: Candidate, labels: "np.ndarray[Any, Any]", folds: Sequence[Fold]) -> Candidate:
    """The mean of what two candidates said of the same folds: nothing is fitted again."""
    judged = [average(first, second) for first, second in zip(one.judged, other.judged, strict=True)]
    return _judged((*one.members, *other.members), judged, labels, folds, seconds=0.0, notes=())


def _judged(
    members: tuple[Algorithm, ...],
    judged: Sequence[Predictions],
    labels: "np.ndarray[Any, Any]",
    folds: Sequence[Fold],
    *,
    seconds: float,
    notes: tuple[str, ...],
) -> Candidate:
    measured = tuple(measure(labels[fold.judge], said) for fold, said in zip(folds, judged, strict=True))
    return Candidate(members, tuple(judged), mean_metrics(measured), measured, seconds, notes)


def best_candidate(candidates: Sequence[Candidate], metric: str) -> Candidate:
    """The one with the best mean; on a tie the one that comes first, and the baseline only if nothing is worse."""
    return rank(candidates, metric)[0]


def rank(candidates: Sequence[Candidate], metric: str) -> list[Candidate]:
    """Best first; a candidate that could not be measured comes last, and the baseline behind its equals."""
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0

    def place(candidate: Candidate) -> tuple[float, bool]:
        value = candidate.metrics.get(metric, math.nan)
        return (math.inf if math.isnan(value) else sign * value, candidate.name == BASELINE)

    return sorted(candidates, key=place)


def with_blend(candidates: Sequence[Candidate], metric: str, labels: "np.ndarray[Any, Any]", folds: Sequence[Fold]) -> list[Candidate]:
    """The candidates, and the blend of the two best if it is better by enough to pay for being two models."""
    real = [candidate for candidate in rank(candidates, metric) if candidate.name != BASELINE and metric in candidate.metrics]
    if len(real) < 2:
        return list(candidates)
    mixed = blend(real[0], real[1], labels, folds)
    best, reached = real[0].metrics[metric], mixed.metrics.get(metric)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    earned = reached is not None and sign * (reached - best) > BLEND_GAIN * max(abs(best), 1e-12)
    return [*candidates, mixed] if earned else list(candidates)


def fit(pipeline: Any, frame: "pd.DataFrame", labels: "np.ndarray[Any, Any]", *, threads: int = 1) -> frozenset[str]:
    """Fit in place; returns what scikit-learn warned of, for the record.

    Trees grow on `threads` threads, which changes nothing in them. Sums are made by one: the same on every machine, and no
    spinning where cores are shared. Predictions are made by one thread as well.
    """
    import joblib
    from threadpoolctl import threadpool_limits

    # Of what is fitted here, only the boosting of histograms uses OpenMP.
    limits = {"blas": 1, "openmp": threads if len(frame) >= BOOSTED_ON_THREADS else 1}
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(limits=limits):
        warnings.simplefilter("always")
        with joblib.parallel_config(backend="threading", n_jobs=threads):
            pipeline.fit(frame, labels)
    return frozenset(warned(str(one.message), labels) for one in caught)


def warned(message: str, labels: "np.ndarray[Any, Any]") -> str:
    """A warning of scikit-learn's in a line, where it is known what it means in words that say so."""
    import numpy as np

    rare = _RARE.search(message)
    if rare is None:
        return message.splitlines()[0][:200]
    classes, counts = np.unique(labels, return_counts=True)
    rarest, count, parts = classes[counts.argmin()], rare[1], rare[2]
    return (
        f"class {rarest} has only {count} of the rows that one fit learns from, fewer than the {parts} parts that they are divided into for what "
        "is learned out of fold (codes of categories, probabilities from margins): some parts know nothing of it"
    )
