"""Every algorithm on 100,000 rows of 30 columns: ours (plan, cross-validation with all metrics, last fit) against scikit-learn by hand.

By hand means the same Pipeline, `sklearn.model_selection.cross_validate` on the same folds with ROC AUC alone (R2 for numbers), and one
fit on all rows, with as many threads; both run in turn in this process. An algorithm that does not scale to so many rows gives way to
its sibling on both sides. The limit is on the time of all algorithms together.

`--costs` measures what `lakehouse.learning.algorithms.Cost` says of each algorithm instead: CPU seconds of a fit on 10,000 rows of 30
columns, and the powers with which they grow; a few minutes of one core.
"""

import argparse
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
from figures import Figure, figure, tell
from sklearn.model_selection import cross_validate as by_scikit_learn
from threadpoolctl import threadpool_limits

from lakehouse.learning.algorithms import ALGORITHMS, Algorithm, Problem, Task, build_pipeline, choose_candidates
from lakehouse.learning.candidates import cross_validate, fit, make_folds
from lakehouse.learning.preparation import Style, plan_columns
from lakehouse.learning.schema import FeatureSchema

ROWS, FOLDS, THREADS = 100_000, 3, os.cpu_count() or 1
LIMIT = 1.3
NUMBERS, CATEGORIES = 22, 6
SCHEMA = FeatureSchema.of(
    {f"number_{place}": "DOUBLE" for place in range(NUMBERS)}
    | {f"kind_{place}": "VARCHAR" for place in range(CATEGORIES)}
    | {"shop": "VARCHAR", "opened": "TIMESTAMP"}
)


def table(rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Numbers with gaps, categories of few and of many values, a time; and a signal in some of them."""
    random = np.random.default_rng(7)
    numbers = random.normal(size=(rows, NUMBERS))
    kinds = random.integers(0, 8, size=(rows, CATEGORIES))
    shops = random.integers(0, 400, rows)
    signal = numbers[:, :5].sum(axis=1) + numbers[:, 5] * numbers[:, 6] + (kinds[:, 0] == 2) * 2 + shops / 200 + random.normal(size=rows)
    numbers[random.random(size=numbers.shape) < 0.02] = np.nan
    columns: dict[str, Any] = {f"number_{place}": numbers[:, place] for place in range(NUMBERS)}
    columns |= {f"kind_{place}": [f"k{value}" for value in kinds[:, place]] for place in range(CATEGORIES)}
    columns |= {"shop": [f"shop {value}" for value in shops]}
    columns |= {"opened": pd.Timestamp("2026-01-01") + pd.to_timedelta(random.integers(0, 10**7, rows), unit="s")}
    return SCHEMA.frame(columns), signal


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work()
    return time.perf_counter() - started


def compare(problem: Problem, rows: int, repeats: int) -> list[Figure]:
    """Both ways in turn; medians of the quick ones, one pair of what takes long."""
    frame, signal = table(rows)
    labels = signal if problem == "regression" else np.where(signal > np.median(signal), "yes", "no").astype(object)
    positive = None if problem == "regression" else "yes"
    folds = make_folds(np.arange(rows) % FOLDS, labels, by_time=False, is_classification=positive is not None)
    splits = [(fold.fit, fold.judge) for fold in folds]
    task = Task(problem, 0 if positive is None else 2, rows, has_text=False, seed=7)
    names = [one.name for one in ALGORITHMS.values() if problem in one.problems]
    # Once before, for what is imported and allocated by the first.
    fit(build_pipeline((ALGORITHMS["hist_gradient_boosting"],), plan_columns(frame, SCHEMA), task), frame[:2000], labels[:2000])
    figures: list[Figure] = []
    total = {"ours": 0.0, "by hand": 0.0}
    for algorithm in choose_candidates(names, task).algorithms:

        def ours(algorithm: Algorithm = algorithm) -> None:
            plan = plan_columns(frame, SCHEMA)
            cross_validate(algorithm, plan, task, frame=frame, labels=labels, folds=folds, positive=positive, threads=THREADS)
            fit(build_pipeline((algorithm,), plan, task), frame, labels, threads=THREADS)

        plan = plan_columns(frame, SCHEMA)

        def by_hand(algorithm: Algorithm = algorithm, plan: Any = plan) -> None:
            pipeline = build_pipeline((algorithm,), plan, task)
            if "n_jobs" in pipeline.named_steps["estimate"].get_params():
                pipeline.set_params(estimate__n_jobs=THREADS)
            with joblib.parallel_config(backend="threading"):
                by_scikit_learn(pipeline, frame, labels, cv=splits, scoring="r2" if positive is None else "roc_auc")
                pipeline.fit(frame, labels)

        pairs = [(timed(ours), timed(by_hand))]
        while len(pairs) < repeats and sum(pairs[0]) < 20:
            pairs.append((timed(ours), timed(by_hand)))
        mine, theirs = (statistics.median(one[side] for one in pairs) for side in (0, 1))
        total["ours"] += mine
        total["by hand"] += theirs
        print(f"  {algorithm.name}: {mine:.1f} s, by hand {theirs:.1f} s", file=sys.stderr, flush=True)
        ratio = statistics.median(one / other for one, other in pairs)
        figures.append(figure(f"Training: {algorithm.name}, {problem} ({theirs:.1f} s by hand)", ratio, "x"))
    name = f"Training: all algorithms for {problem} on {rows:,} x 30, over scikit-learn by hand ({total['by hand']:.0f} s)"
    return [figure(name, total["ours"] / total["by hand"], "x", LIMIT), *figures]


def costs() -> None:
    """What each algorithm's Cost should say."""
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for algorithm in ALGORITHMS.values():
            for problem in algorithm.problems:
                other = 4_000 if algorithm.name == "svm" else 40_000
                base = cost(algorithm, problem, 10_000, 30, 2)
                rows = math.log(cost(algorithm, problem, other, 30, 2) / base) / math.log(other / 10_000)
                columns = math.log(base / cost(algorithm, problem, 10_000, 10, 2)) / math.log(3)
                classes = math.log(cost(algorithm, problem, 10_000, 30, 6) / base) / math.log(3) if problem == "classification" else 0.0
                print(
                    f"{algorithm.name:24} {problem:15} {base:8.3f} s  rows {rows:5.2f}  columns {columns:5.2f}  classes {classes:5.2f}",
                    flush=True,
                )


def cost(algorithm: Algorithm, problem: Problem, rows: int, columns: int, classes: int) -> float:
    """CPU seconds of one fit on prepared numbers; of neighbours with the judging of a quarter as many rows."""
    random = np.random.default_rng(0)
    values = random.normal(size=(rows, columns))
    signal = values[:, :6].sum(axis=1) + values[:, 6] * values[:, 7] + random.normal(size=rows)
    edges = np.quantile(signal, np.linspace(0, 1, classes + 1)[1:-1])
    labels = signal if problem == "regression" else np.asarray([f"c{one}" for one in np.searchsorted(edges, signal)], dtype=object)
    if algorithm.style is Style.COUNTS:
        values = (values - values.min(axis=0)) / np.ptp(values, axis=0)
    estimator = algorithm.build(Task(problem, classes, rows, has_text=False, seed=7))
    started = time.process_time()
    estimator.fit(values, labels)
    if algorithm.name == "knn":
        estimator.predict(values[: rows // 4])
    return max(time.process_time() - started, 1e-4)


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--costs", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.costs:
        costs()
        return
    problems: tuple[Problem, ...] = ("classification", "regression")
    tell([one for problem in problems for one in compare(problem, options.rows, options.repeats)], as_json=options.json)


if __name__ == "__main__":
    main()
