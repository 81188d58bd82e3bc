"""What a run came to: rows of every dataset, models with their metrics, checks. Totals are read from the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lakehouse.tables import Lake

if TYPE_CHECKING:
    from lakehouse.contracts import Contracts, DatasetContract
    from lakehouse.learning import TrainReport


@dataclass(frozen=True, slots=True)
class DatasetTotals:
    """Rows of all files ever ingested into a dataset, as they are now: rows read = accepted + quarantined (waiting or discarded) + erased."""

    rows_read: int = 0
    rows_accepted: int = 0
    rows_quarantined: int = 0
    rows_erased: int = 0

    def as_dict(self) -> dict[str, int]:
        """The totals as the command line prints them."""
        erased = {"rows_erased": self.rows_erased} if self.rows_erased else {}
        return {"rows_read": self.rows_read, "rows_accepted": self.rows_accepted, "rows_quarantined": self.rows_quarantined, **erased}


@dataclass(frozen=True, slots=True)
class ModelOutcome:
    """One trained model, as it stands in the registry; `metric` is the one that chose the algorithm."""

    version: str
    algorithm: str
    problem: str
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    metric: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The outcome as the command line prints it."""
        return {
            "version": self.version,
            "algorithm": self.algorithm,
            "problem": self.problem,
            "metric": self.metric,
            "metrics": dict(self.metrics),
            "baseline": dict(self.baseline),
        }


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One claim that was checked.

    Args:
        id: the claim.
        subject: the table, dataset, file or model it is about.
        severity: `error` stops what is downstream, `warning` is reported.
    """

    id: str
    subject: str
    severity: str
    passed: bool
    detail: str = ""

    @property
    def blocks(self) -> bool:
        """Whether the run did not pass because of it."""
        return not self.passed and self.severity == "error"

    def as_dict(self) -> dict[str, Any]:
        """A failed check as the command line prints it."""
        return {"check": self.id, "subject": self.subject, "severity": self.severity, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run of the whole way."""

    run: str
    datasets: Mapping[str, DatasetTotals] = field(default_factory=dict[str, DatasetTotals])
    models: Mapping[str, ModelOutcome] = field(default_factory=dict[str, ModelOutcome])
    checks: Sequence[CheckOutcome] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing that blocks failed."""
        return not any(check.blocks for check in self.checks)

    @property
    def failed(self) -> list[CheckOutcome]:
        """Failed checks that block."""
        return [check for check in self.checks if check.blocks]

    @property
    def warned(self) -> list[CheckOutcome]:
        """Failed checks that only warn."""
        return [check for check in self.checks if not check.passed and not check.blocks]

    def reasons(self) -> list[str]:
        """One line per failed check."""
        return [f"{check.subject}: {check.id} did not pass{f': {check.detail}' if check.detail else ''}" for check in self.failed]

    def as_dict(self) -> dict[str, Any]:
        """The document that `lakehouse run --json` prints."""
        return {
            "datasets": {name: totals.as_dict() for name, totals in self.datasets.items()},
            "models": {name: outcome.as_dict() for name, outcome in self.models.items()},
            "checks": {
                "passed": sum(check.passed for check in self.checks),
                "warned": len(self.warned),
                "failed": [check.as_dict() for check in self.failed],
                "warnings": [check.as_dict() for check in self.warned],
            },
        }


def model_outcome(report: "TrainReport") -> ModelOutcome:
    """The part of a training report that a run reports."""
    return ModelOutcome(
        version=str(report.version),
        algorithm=report.algorithm,
        problem=report.problem,
        metrics=dict(report.metrics),
        baseline=dict(report.baseline),
        metric=report.metric,
    )


def dataset_totals(lake: Lake, dataset: str) -> DatasetTotals | None:
    """Totals over every file in the raw table's log, which is the truth; None if the dataset was never ingested."""
    from lakehouse.monitoring import dataset_volume

    if not lake.exists(f"raw.{dataset}"):
        return None
    volume = dataset_volume(lake, dataset)
    return DatasetTotals(volume.rows_read, volume.rows_accepted, volume.rows_quarantined, volume.rows_erased)


def recorded_checks(lake: Lake, dataset: str) -> list[CheckOutcome]:
    """What ingestion asked of the dataset's newest batch and what the answers were."""
    if not lake.exists("monitoring.checks"):
        return []
    with lake.connect(["monitoring.checks"]) as session:
        rows = session.con.execute(
            'SELECT check_id, "table", severity, passed, detail FROM monitoring.checks WHERE dataset = $dataset '
            "AND batch = (SELECT max(batch) FROM monitoring.checks WHERE dataset = $dataset) ORDER BY ALL",
            {"dataset": dataset},
        ).fetchall()
    return [CheckOutcome(check, table, severity, passed=passed, detail=detail or "") for check, table, severity, passed, detail in rows]


def reference_checks(lake: Lake, contract: "DatasetContract", contracts: "Contracts") -> list[CheckOutcome]:
    """Whether what a dataset refers to is there, as the tables are now."""
    from lakehouse.quality import check_references

    return [
        CheckOutcome(one.id, one.table, str(one.severity), passed=one.passed, detail=one.detail)
        for one in check_references(lake, contract, contracts)
    ]


def outlier_checks(lake: Lake, contract: "DatasetContract", *, run: str, now: datetime) -> list[CheckOutcome]:
    """Whether rows of the newest batch stand alone; empty where that has been asked before."""
    from lakehouse.quality.isolation import check_outlier_rows

    return [
        CheckOutcome(one.id, one.table, str(one.severity), passed=one.passed, detail=one.detail)
        for one in check_outlier_rows(lake, contract, run=run, now=now)
    ]


def recorded_outcome(lake: Lake, model: str) -> ModelOutcome | None:
    """The newest trained version of a model, as its evaluation was recorded; None if it was never trained."""
    from lakehouse.learning.results import TrainReport

    if not lake.exists("models.evaluations"):
        return None
    with lake.connect(["models.evaluations"]) as session:
        row = session.con.execute(
            "SELECT report FROM models.evaluations WHERE model = ? ORDER BY CAST(version AS BIGINT) DESC LIMIT 1", [model]
        ).fetchone()
    return None if row is None else model_outcome(TrainReport.from_json(row[0]))
