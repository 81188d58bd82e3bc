"""What a check found: one shape for the four levels, recorded in monitoring.checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from lakehouse.contracts import Level, Severity
from lakehouse.sql import quote_literal

CHECKS_TABLE = "monitoring.checks"
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One question and its answer.

    Attributes:
        id: the rule's or check's id, unique within the dataset.
        dataset: the dataset asked about.
        table: the table that holds the rows the answer is about.
        rows_failed: rows that broke a row rule; 0 or 1 for a check of a whole batch.
        detail: what was found and what was expected, for people.
        metadata: the numbers behind it.
    """

    id: str
    dataset: str
    table: str
    level: Level
    severity: Severity
    passed: bool
    rows_failed: int = 0
    detail: str = ""
    metadata: Mapping[str, object] = field(default_factory=lambda: _NOTHING)

    @property
    def is_warning(self) -> bool:
        """Failed, but not so that anything stops."""
        return not self.passed and self.severity is Severity.WARNING


def results_sql(results: "list[CheckResult]", *, batch: int, run: str, at: datetime) -> str:
    """The results as rows of monitoring.checks."""
    rows = [
        ", ".join(
            (
                quote_literal(result.dataset),
                quote_literal(result.table),
                f"{batch}::BIGINT",
                quote_literal(result.id),
                quote_literal(str(result.level)),
                quote_literal(str(result.severity)),
                quote_literal(result.passed),
                f"{result.rows_failed}::BIGINT",
                quote_literal(result.detail.replace("\0", "")),
                quote_literal(run),
                quote_literal(at),
            )
        )
        for result in results
    ]
    values = ", ".join(f"({row})" for row in rows)
    columns = 'dataset, "table", batch, check_id, level, severity, passed, rows_failed, detail, run, checked_at'
    return f"SELECT * FROM (VALUES {values}) AS c({columns})"
