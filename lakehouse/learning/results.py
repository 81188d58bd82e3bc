"""What training and prediction report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lakehouse.contracts import Severity
from lakehouse.learning.calibration import Reliability
from lakehouse.learning.comparison import ModelComparison
from lakehouse.learning.evaluation import Interval
from lakehouse.learning.familiarity import DataWarning
from lakehouse.learning.segments import Segment, segment_from
from lakehouse.learning.splits import LeftOut
from lakehouse.learning.tested import Confusion, Pairs, outcome_from
from lakehouse.tables import Commit

MINIMUMS = "metrics_reach_their_minimums"
BEATS_BASELINE = "model_beats_its_baseline"
NO_LEAK = "no_feature_gives_the_target_away"
NEW_TEST_ROWS = "test_rows_are_new_to_the_model"


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """One claim about a model."""

    id: str
    severity: Severity
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class CandidateReport:
    """How one candidate did in cross-validation; `std` is the spread of the choosing metric over the folds.

    `parameters` are settings that a search found better than the algorithm's own.
    """

    algorithm: str
    metrics: Mapping[str, float]
    std: float | None
    seconds: float
    notes: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class TrainReport:
    """One model version: what it learned from, how it was chosen and how good it is on rows it never saw.

    Attributes:
        version: in the registry.
        algorithm: the chosen one; two names joined by a plus are blended.
        metrics: on the test rows.
        baseline: the same metrics of a model that always gives the same answer.
        metric: the one that chose.
        interval: where `metrics[metric]` will lie on as many new rows, with 95 % probability.
        intervals: the same for every metric.
        reliability: what the probabilities meant on the test rows; None for numbers.
        segments: kinds of test rows on which it errs more, or less, than on all others, the worst first.
        checks: whether the contract's minimums hold (an error), and as warnings whether it beats the baseline, whether a feature gives
            the target away, and whether the test rows are new to it.
        candidates: every algorithm that was compared.
        columns: what became of each feature, and why.
        left_out: rows of the label table that took no part, and why.
        alias: `champion` in production, else `canary`, `staged`, `challenger`, or empty.
        state: of its life: see lakehouse.learning.lifecycle.
        semantic_version: what changed since the version before: architecture or target, features, or only the data.
        comparison: with the version in production when it was trained; None if there was none.
        reason: why it was trained; empty where something had changed and the contract asks for no reason.
        triggers: the contract's limits that were passed, by their names in `retraining`.
        tested: what it said of its test rows; None in a report from before this was kept.
        training_set: the commit of its training set; None where a recorded report is returned.
        skipped: nothing was trained: inputs, contract and code are those of this version.
    """

    model: str
    version: str
    algorithm: str
    problem: str
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    checks: tuple[ModelCheck, ...]
    metric: str
    interval: Interval | None
    candidates: tuple[CandidateReport, ...]
    columns: Sequence[Mapping[str, str]]
    rows_train: int
    rows_test: int
    alias: str
    inputs: Mapping[str, int]
    training_set_version: int
    model_digest: str
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    tested: Confusion | Pairs | None = None
    training_set: Commit | None = None
    skipped: bool = False
    state: str = ""
    semantic_version: str = ""
    intervals: Mapping[str, Interval] = field(default_factory=dict[str, Interval])
    segments: tuple[Segment, ...] = ()
    reliability: Reliability | None = None
    comparison: ModelComparison | None = None
    reason: str = ""
    triggers: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the model may be used."""
        return all(check.passed for check in self.checks if check.severity is Severity.ERROR)

    def as_json(self) -> str:
        """What is recorded, and read back by `from_json`."""
        return json.dumps(
            {
                "model": self.model,
                "version": self.version,
                "algorithm": self.algorithm,
                "problem": self.problem,
                "metrics": dict(self.metrics),
                "baseline": dict(self.baseline),
                "checks": [
                    {"id": one.id, "severity": one.severity.value, "passed": one.passed, "detail": one.detail} for one in self.checks
                ],
                "metric": self.metric,
                "interval": [self.interval.low, self.interval.high] if self.interval else None,
                "intervals": {name: [one.low, one.high] for name, one in self.intervals.items()},
                "reliability": self.reliability.as_dict() if self.reliability else None,
                "segments": [one.as_dict() for one in self.segments],
                "candidates": [
                    {
                        "algorithm": one.algorithm,
                        "metrics": dict(one.metrics),
                        "std": one.std,
                        "seconds": round(one.seconds, 3),
                        "notes": list(one.notes),
                        "parameters": dict(one.parameters),
                    }
                    for one in self.candidates
                ],
                "columns": [dict(one) for one in self.columns],
                "rows_train": self.rows_train,
                "rows_test": self.rows_test,
                "tested": self.tested.as_dict() if self.tested else None,
                "comparison": self.comparison.as_dict() if self.comparison else None,
                "left_out": [asdict(one) for one in self.left_out],
                "reason": self.reason,
                "triggers": list(self.triggers),
                "alias": self.alias,
                "state": self.state,
                "semantic_version": self.semantic_version,
                "inputs": dict(self.inputs),
                "training_set_version": self.training_set_version,
                "model_digest": self.model_digest,
                "notes": list(self.notes),
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> "TrainReport":
        """The recorded report, marked as skipped."""
        recorded: dict[str, Any] = json.loads(text)
        interval = recorded.pop("interval")
        checks = tuple(ModelCheck(one["id"], Severity(one["severity"]), one["passed"], one["detail"]) for one in recorded.pop("checks"))
        candidates = tuple(
            CandidateReport(one["algorithm"], one["metrics"], one["std"], one["seconds"], tuple(one["notes"]), one.get("parameters", {}))
            for one in recorded.pop("candidates")
        )
        notes, triggers = tuple(recorded.pop("notes")), tuple(recorded.pop("triggers", ()))
        intervals = {name: Interval(*ends) for name, ends in recorded.pop("intervals", {}).items()}
        segments = tuple(segment_from(one) for one in recorded.pop("segments", ()))
        left_out = tuple(LeftOut(**one) for one in recorded.pop("left_out", ()))
        compared = recorded.pop("comparison", None)
        return cls(
            checks=checks,
            candidates=candidates,
            notes=notes,
            triggers=triggers,
            intervals=intervals,
            segments=segments,
            reliability=Reliability.from_dict(recorded.pop("reliability", None)),
            left_out=left_out,
            comparison=ModelComparison.from_dict(compared) if compared else None,
            tested=outcome_from(recorded.pop("tested", None)),
            interval=Interval(*interval) if interval else None,
            training_set=None,
            skipped=True,
            **recorded,
        )


@dataclass(frozen=True, slots=True)
class PredictReport:
    """What became of the rows of a file.

    Attributes:
        rows_read: records in the file.
        rows_predicted: rows in the output, one per valid record, in the file's order.
        columns: of the output.
        rejected: records that are no rows of the dataset, with the reason; at most the first hundred.
        warnings: what is odd about rows that were predicted: rules they broke, values that the model has never seen.
        threshold: set by people, from which the positive class was answered; None for the model's own.
    """

    model: str
    version: str
    file: str
    out: str
    rows_read: int
    rows_predicted: int
    columns: tuple[str, ...]
    rejected: tuple[tuple[int, str], ...] = ()
    warnings: tuple[DataWarning, ...] = ()
    threshold: float | None = None

    @property
    def rows_rejected(self) -> int:
        """Records that got no prediction."""
        return self.rows_read - self.rows_predicted
