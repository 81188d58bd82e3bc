"""Choosing an algorithm fairly: every candidate on the same folds of the training rows; the test rows are never looked at."""

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.learning.algorithms import BASELINE, Algorithm, Task, build_pipeline
from lakehouse.learning.evaluation import is_better, mean_metrics, measure, predict
from lakehouse.learning.preparation import Preparation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Fold:
    """Positions of the rows to fit on and to judge by."""

    fit: "np.ndarray[Any, Any]"
    judge: "np.ndarray[Any, Any]"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One algorithm's cross-validation.

    Attributes:
        metrics: means over the folds.
        folds: the metrics of each fold.
        seconds: time it took.
        notes: what its fitting warned of.
    """

    algorithm: Algorithm
    metrics: Mapping[str, float]
    folds: tuple[Mapping[str, float], ...]
    seconds: float
    notes: tuple[str, ...] = ()


def make_folds(fold: "np.ndarray[Any, Any]", labels: "np.ndarray[Any, Any]", *, by_time: bool, is_classification: bool) -> list[Fold]:
    """The folds that are recorded with the rows; by time, each block is judged by what was learned from the blocks before.

    A fold is left out when it could not be fitted: without rows, or with one class only.
    """
    import numpy as np

    folds: list[Fold] = []
    for number in sorted(set(fold.tolist())):
        fit = np.flatnonzero(fold < number if by_time else fold != number)
        judge = np.flatnonzero(fold == number)
        enough = len(fit) > 0 and len(judge) > 0 and (not is_classification or len(set(labels[fit])) > 1)
        if enough:
            folds.append(Fold(fit, judge))
    return folds


def cross_validate(
    algorithm: Algorithm,
    preparation: Preparation,
    task: Task,
    *,
    frame: "pd.DataFrame",
    labels: "np.ndarray[Any, Any]",
    folds: Sequence[Fold],
    positive: str | None,
) -> Candidate:
    """Fit and judge one algorithm on every fold."""
    started = time.perf_counter()
    judged: list[dict[str, float]] = []
    notes: set[str] = set()
    for fold in folds:
        pipeline = build_pipeline(algorithm, preparation, task)
        notes |= fit(pipeline, frame.iloc[fold.fit], labels[fold.fit])
        judged.append(measure(labels[fold.judge], predict(pipeline, frame.iloc[fold.judge], positive=positive)))
    return Candidate(algorithm, mean_metrics(judged), tuple(judged), time.perf_counter() - started, tuple(sorted(notes)))


def best_candidate(candidates: Sequence[Candidate], metric: str) -> Candidate:
    """The one with the best mean; the baseline only if nothing beats it; on a tie the simpler, which comes first."""
    ranked = sorted(candidates, key=lambda one: one.algorithm.name != BASELINE)
    best = ranked[0]
    for one in ranked[1:]:
        value, reached = one.metrics.get(metric, math.nan), best.metrics.get(metric, math.nan)
        if not math.isnan(value) and (math.isnan(reached) or is_better(metric, value, reached)):
            best = one
    return best


def fit(pipeline: Any, frame: "pd.DataFrame", labels: "np.ndarray[Any, Any]") -> frozenset[str]:
    """Fit in place, on a fixed number of threads; returns what scikit-learn warned of, for the record."""
    with warnings.catch_warnings(record=True) as caught, steady_threads():
        warnings.simplefilter("always")
        pipeline.fit(frame, labels)
    return frozenset(str(one.message).splitlines()[0][:200] for one in caught)


@contextmanager
def steady_threads() -> Iterator[None]:
    """One thread for BLAS and OpenMP: the same sums on every machine, and no spinning where cores are shared."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
