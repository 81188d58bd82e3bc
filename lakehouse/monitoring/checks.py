"""What the contract's questions answered for the newest batch, from the recorded results."""

from lakehouse.contracts import Level, Severity
from lakehouse.quality import CHECKS_TABLE, CheckResult
from lakehouse.tables import Lake


def newest_checks(lake: Lake, dataset: str) -> list[CheckResult]:
    """Every recorded answer about the newest batch of a dataset, those that failed first."""
    if not lake.exists(CHECKS_TABLE):
        return []
    with lake.connect([CHECKS_TABLE]) as session:
        rows = session.con.execute(
            f'SELECT check_id, "table", level, severity, passed, rows_failed, detail FROM {CHECKS_TABLE} WHERE dataset = $dataset '
            f"AND batch = (SELECT max(batch) FROM {CHECKS_TABLE} WHERE dataset = $dataset) ORDER BY passed, rows_failed DESC, check_id",
            {"dataset": dataset},
        ).fetchall()
    return [
        CheckResult(
            id=check,
            dataset=dataset,
            table=table,
            level=Level(level),
            severity=Severity(severity),
            passed=passed,
            rows_failed=rows_failed,
            detail=detail or "",
        )
        for check, table, level, severity, passed, rows_failed, detail in rows
    ]
