"""From rows in memory to a fitted model: candidates compared on training rows, the best one judged once on test rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError, TrainingDataError
from lakehouse.learning.algorithms import BASELINE, Choice, Problem, Task, build_pipeline, choose_candidates
from lakehouse.learning.calibration import Reliability, calibrate, reliability, threshold_metric, with_calibration
from lakehouse.learning.candidates import Candidate, best_candidate, cross_validate, fit, make_folds, with_blend
from lakehouse.learning.evaluation import Interval, Predictions, measure, predict
from lakehouse.learning.intervals import metric_intervals
from lakehouse.learning.preparation import Preparation, plan_columns
from lakehouse.learning.segments import Segment, find_segments
from lakehouse.learning.training_rows import TrainingRows


@dataclass(frozen=True, slots=True)
class Learned:
    """The chosen model and how it came to be chosen."""

    rows: TrainingRows
    preparation: Preparation
    choice: Choice
    candidates: list[Candidate]
    best: Candidate
    pipeline: Any
    metric: str
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    tested: Predictions
    intervals: Mapping[str, Interval]
    segments: tuple[Segment, ...]
    reliability: Reliability | None
    notes: tuple[str, ...]


def learn(contract: ModelContract, data: TrainingRows, *, threads: int) -> Learned:
    """Compare the candidates on the training rows' folds, fit the best on all of them, judge it on the test rows."""
    is_classification = contract.problem == "classification"
    preparation = plan_columns(data.train, data.schema, contract.preparation)
    classes = len(set(data.train_labels)) if is_classification else 0
    task = Task(contract.problem, classes, len(data.train), preparation.has_text, contract.seed, contract.imbalance)
    choice = choose_candidates(contract.algorithms, task)
    positive = _positive(contract, data)
    metric = contract.metric or default_metric(contract.problem, positive)
    folds = make_folds(
        data.folds,
        data.train_labels,
        by_time=contract.split.strategy == "time",
        is_classification=is_classification,
        times=data.times,
        gap_s=contract.split.gap_days * 86_400,
    )
    candidates = [
        cross_validate(
            algorithm, preparation, task, frame=data.train, labels=data.train_labels, folds=folds, positive=positive, threads=threads
        )
        for algorithm in choice.algorithms
    ]
    if not contract.algorithms:
        candidates = with_blend(candidates, metric, data.train_labels, folds)
    best = best_candidate(candidates, metric)
    if metric not in best.metrics:
        raise ModelError(
            f"model {contract.name}",
            f"could not be judged by {metric} in cross-validation",
            found="; ".join(note for one in candidates for note in one.notes) or f"metrics {', '.join(best.metrics) or 'none'}",
            fix="Name another metric or other algorithms in the model contract, or ingest more labelled rows",
        )
    wanted = threshold_metric(metric, tuple(contract.minimums), contract.imbalance)
    calibration = calibrate(best, data.train_labels, folds, threshold_for=wanted)
    pipeline = with_calibration(build_pipeline(best.members, preparation, task), calibration)
    try:
        notes = fit(pipeline, data.train, data.train_labels, threads=threads)
    except ValueError as error:
        # It could learn from the folds, but not from all rows.
        found = str(error).splitlines()[0][:200]
        fix = "Name other algorithms in the model contract, or exclude the column"
        raise TrainingDataError(f"model {contract.name}", f"{best.name} can't learn from its rows", found=found, fix=fix) from error
    tested = predict(pipeline, data.test, positive=positive)
    dull = build_pipeline([one for one in choice.algorithms if one.name == BASELINE], preparation, task)
    fit(dull, data.train, data.train_labels)
    baseline = measure(data.test_labels, predict(dull, data.test, positive=positive))
    metrics = measure(data.test_labels, tested)
    return Learned(
        data,
        preparation,
        choice,
        candidates,
        best,
        pipeline,
        metric,
        metrics,
        baseline,
        tested,
        metric_intervals(data.test_labels, tested, data.test_units, seed=contract.seed),
        find_segments(data.test, data.schema, data.test_labels, tested, data.test_units, metric=metric, seed=contract.seed),
        reliability(data.test_labels, tested),
        (*choice.notes, *calibration.notes, *preparation.warnings, *sorted(notes)),
    )


def default_metric(problem: Problem, positive: str | None) -> str:
    """What chooses the algorithm where the contract does not say."""
    if problem == "regression":
        return "r2"
    return "roc_auc" if positive is not None else "f1_macro"


def _positive(contract: ModelContract, data: TrainingRows) -> str | None:
    """The class that probability is about: the contract's; of two classes without one, the rarer."""
    if contract.problem != "classification":
        return None
    labels = sorted(set(data.train_labels))
    if contract.positive_class is not None:
        if contract.positive_class not in labels:
            raise ModelError(
                f"model {contract.name}: positive_class",
                "is not a value of the target",
                expected=f"one of {', '.join(labels[:20])}",
                found=contract.positive_class,
                fix="Correct the model contract",
            )
        return contract.positive_class
    if len(labels) != 2:
        return None
    return min(labels, key=lambda one: (int((data.train_labels == one).sum()), one))
