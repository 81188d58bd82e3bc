"""From rows in memory to a fitted model: candidates compared on training rows, the best one judged once on test rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import Budget, ModelContract
from lakehouse.errors import ModelError, TrainingDataError
from lakehouse.learning.algorithms import BASELINE, Algorithm, Choice, Problem, Task, build_pipeline, choose_candidates
from lakehouse.learning.calibration import Reliability, calibrate, reliability, threshold_metric, with_calibration
from lakehouse.learning.candidates import Candidate, Fold, best_candidate, cross_validate, dealt_anew, fit, make_folds, with_blend
from lakehouse.learning.declared import declared_in
from lakehouse.learning.evaluation import Interval, Predictions, measure, predict
from lakehouse.learning.intervals import metric_intervals
from lakehouse.learning.preparation import Preparation, plan_columns
from lakehouse.learning.segments import Segment, find_segments
from lakehouse.learning.training_rows import TrainingRows
from lakehouse.learning.trials import TrialFile
from lakehouse.learning.tuning import Material, Scope, Tuned, tune

if TYPE_CHECKING:
    import numpy as np


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


def learn(contract: ModelContract, data: TrainingRows, *, threads: int, trials: TrialFile | None = None) -> Learned:
    """Compare the candidates on the training rows' folds, fit the best on all of them, judge it on the test rows.

    Args:
        contract: of the model.
        data: its training set.
        threads: that trees grow on.
        trials: what an earlier start of this training has tried already, where the contract has a budget for trials.
    """
    is_classification = contract.problem == "classification"
    classes = len(set(data.train_labels)) if is_classification else 0
    with declared_in(contract):
        preparation = plan_columns(data.train, data.schema, contract.preparation)
        task = Task(contract.problem, classes, len(data.train), preparation.has_text, contract.seed, contract.imbalance)
        choice = choose_candidates(contract.algorithms, task)
    positive = positive_class(contract, data)
    metric = contract.metric or default_metric(contract.problem, positive)
    selection = _Selection(contract, data, Material(preparation, task, data.train, data.train_labels, positive, metric), threads)
    folds = selection.folds
    candidates, tuned = selection.candidates(choice.algorithms, trials or TrialFile())
    if not contract.algorithms:
        candidates = with_blend(candidates, metric, data.train_labels, folds)
    best = best_candidate(candidates, metric)
    if metric not in best.metrics:
        _refuse_rare_class(contract, data)
        raise ModelError(
            f"model {contract.name}",
            f"could not be judged by {metric} in cross-validation",
            found="; ".join(note for one in candidates for note in one.notes) or f"metrics {', '.join(best.metrics) or 'none'}",
            fix="Name another metric or other algorithms in the model contract, or ingest more labelled rows",
        )
    wanted = threshold_metric(metric, tuple(contract.minimums), contract.imbalance)
    # Of a repeated cross-validation the first: each row is to count once.
    once = len(selection.first)
    calibration = calibrate(
        replace(best, judged=best.judged[:once]),
        data.train_labels,
        folds[:once],
        threshold_for=wanted,
        is_weighted=task.class_weight is not None,
    )
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
        (*choice.notes, *tuned, *calibration.notes, *preparation.warnings, *sorted(notes)),
    )


class _Selection:
    """The folds that candidates are compared on, and the search for their settings."""

    def __init__(self, contract: ModelContract, data: TrainingRows, material: Material, threads: int) -> None:
        self._contract, self._data, self._material, self._threads = contract, data, material, threads
        self._by_time = contract.split.strategy == "time"
        repeats = 1 if self._by_time else contract.budget.repeats
        self._dealt = [data.folds]
        classes = data.train_labels if contract.problem == "classification" else None
        self._dealt += [dealt_anew(data.folds, data.train_units, classes, seed=contract.seed + number) for number in range(1, repeats)]
        self._parts = [self._made(dealt) for dealt in self._dealt]

    @property
    def first(self) -> list[Fold]:
        """The folds that are recorded with the rows."""
        return self._parts[0]

    @property
    def folds(self) -> list[Fold]:
        """Those of all repeats."""
        return [fold for part in self._parts for fold in part]

    def candidates(self, algorithms: Sequence[Algorithm], trials: TrialFile) -> tuple[list[Candidate], tuple[str, ...]]:
        """Every algorithm, tuned if the contract has a budget for it, on every fold; and what is to be said of the search."""
        budget, tuned = self._contract.budget, dict[str, Tuned]()
        if budget.trials:
            tuned = tune(algorithms, self._material, self._scopes(), budget, trials, seed=self._contract.seed)
        found = [self._judged(algorithm, tuned.get(algorithm.name)) for algorithm in algorithms]
        return found, _told(tuned, budget)

    def _judged(self, algorithm: Algorithm, tuned: Tuned | None) -> Candidate:
        given = self._material
        judged = cross_validate(
            tuned.final if tuned else algorithm,
            given.preparation,
            given.task,
            frame=given.frame,
            labels=given.labels,
            folds=self.folds,
            positive=given.positive,
            threads=self._threads,
            per_fold=tuned.per_fold if tuned else (),
        )
        return replace(judged, parameters=dict(tuned.parameters) if tuned else {})

    def _scopes(self) -> list[Scope]:
        """All training rows, then what is left of them without each fold."""
        import numpy as np

        scopes = [Scope("all", tuple(self.first))]
        for repeat, (dealt, part) in enumerate(zip(self._dealt, self._parts, strict=True)):
            for number, outer in enumerate(part):
                inside = np.full(len(dealt), -1)
                inside[outer.fit] = dealt[outer.fit]
                scopes.append(Scope(f"without {repeat}.{number}", tuple(self._made(inside))))
        return scopes

    def _made(self, dealt: "np.ndarray[Any, Any]") -> list[Fold]:
        """Folds of the rows whose number is not negative."""
        contract, data = self._contract, self._data
        return make_folds(
            dealt,
            data.train_labels,
            by_time=self._by_time,
            is_classification=contract.problem == "classification",
            times=data.times,
            gap_s=contract.split.gap_days * 86_400,
        )


def _refuse_rare_class(contract: ModelContract, data: TrainingRows) -> None:
    """A class of which a fold has no row can't be judged there."""
    import numpy as np

    if contract.problem != "classification":
        return
    classes, counts = np.unique(data.train_labels, return_counts=True)
    rarest = int(counts.argmin())
    if counts[rarest] >= contract.folds:
        return
    raise ModelError(
        f"model {contract.name}",
        f"has too few rows of class {classes[rarest]!r} to be judged by",
        expected=f"{contract.folds} or more to learn from, one for each fold",
        found=f"{counts[rarest]} of {counts.sum():,}",
        fix="Ingest more rows of that class, lower folds in the model contract, or name a target whose classes are less rare",
    )


def _told(tuned: Mapping[str, Tuned], budget: Budget) -> tuple[str, ...]:
    """What the report says of the search for settings."""
    if not tuned:
        return ()
    made = sum(one.trials for one in tuned.values())
    found = [
        f"{name} with {', '.join(f'{key}={value}' for key, value in one.parameters.items())}"
        for name, one in tuned.items()
        if one.parameters
    ]
    better = f"; better than their own: {'; '.join(found)}" if found else "; none is better than the algorithms' own"
    short = f" (of {budget.trials}; budget.trials: {made} gives the same model whatever the time)" if made < budget.trials else ""
    return (f"tried {made} settings{short}{better}",)


def default_metric(problem: Problem, positive: str | None) -> str:
    """What chooses the algorithm where the contract does not say."""
    if problem == "regression":
        return "r2"
    return "roc_auc" if positive is not None else "f1_macro"


def positive_class(contract: ModelContract, data: TrainingRows) -> str | None:
    """The class that probability is about: the contract's; of two classes without one, the rarer.

    Raises:
        ModelError: no training row is of the contract's class.
    """
    if contract.problem != "classification":
        return None
    labels = sorted(set(data.train_labels))
    if contract.positive_class is not None:
        if contract.positive_class not in labels:
            close = get_close_matches(contract.positive_class, labels, n=1, cutoff=0.5)
            raise ModelError(
                f"model {contract.name}: positive_class",
                "is not a value of the target",
                expected=f"one of {', '.join(labels[:20])}",
                found=contract.positive_class,
                fix=f"Did you mean {close[0]}?" if close else "Correct the model contract",
            )
        return contract.positive_class
    if len(labels) != 2:
        return None
    return min(labels, key=lambda one: (int((data.train_labels == one).sum()), one))
