"""The fourth level: is this batch like the earlier ones? Judged from profiles, never from the earlier rows.

A statistic that comes out as nothing has not passed: where the batch has rows, its check fails. A check for which there is
nothing to judge yet (a batch without rows, too few earlier batches) passes and says `not judged`, also in its metadata.
"""

from collections.abc import Sequence

import duckdb

from lakehouse.contracts import DatasetContract, Severity, StatisticalRule
from lakehouse.quality.batches import BatchProfile
from lakehouse.quality.measures import MIN_BATCHES
from lakehouse.quality.results import CheckResult
from lakehouse.quality.samples import with_samples
from lakehouse.quality.usualness import MAX_SIGMA, batch_result, judge_usual, sigma_of
from lakehouse.sql import quote_identifier


def check_batch(
    con: duckdb.DuckDBPyConnection,
    contract: DatasetContract,
    profile: BatchProfile,
    history: Sequence[BatchProfile],
    *,
    rows_sql: str,
) -> list[CheckResult]:
    """Judge a batch by the contract's statistical rules and by what is usual; findings of the latter are warnings.

    Args:
        con: a connection on which `rows_sql` runs.
        contract: the dataset's.
        profile: the batch.
        history: profiles of earlier batches, oldest first.
        rows_sql: a SELECT of the batch's accepted rows.
    """
    earlier = [one for one in history if one.batch < profile.batch and one.rows > 0]
    results = [_rule(con, contract, rule, profile, earlier, rows_sql=rows_sql) for rule in contract.statistical_rules]
    if profile.rows > 0:
        judged = judge_usual(contract, profile, earlier)
        results += [with_samples(con, contract, one, earlier, rows_sql=rows_sql) for one in judged]
    return results


def _rule(
    con: duckdb.DuckDBPyConnection,
    contract: DatasetContract,
    rule: StatisticalRule,
    profile: BatchProfile,
    earlier: Sequence[BatchProfile],
    *,
    rows_sql: str,
) -> CheckResult:
    if rule.measure_sql is None:
        return _custom(contract, rule, profile, earlier)
    try:
        measured = _measured(con, contract, rule, rows_sql)
    except duckdb.Error as error:
        detail = f"{rule.description}: can't be measured: {str(error).splitlines()[0]}"
        return batch_result(contract, rule.id, rule.severity, passed=False, detail=detail)
    if measured is None:
        if profile.rows == 0:
            return _not_judged(contract, rule, "the batch has no accepted rows")
        detail = f"{rule.description}: can't be measured: over {profile.rows:,} rows it comes out as nothing"
        return batch_result(contract, rule.id, rule.severity, passed=False, detail=detail, metadata={"measured": None})
    passed = rule.must is None or rule.must.holds(measured)
    detail = f"{rule.description}: found {measured:g}"
    return batch_result(contract, rule.id, rule.severity, passed=passed, detail=detail, metadata={"measured": measured})


def _not_judged(contract: DatasetContract, rule: StatisticalRule, reason: str) -> CheckResult:
    detail = f"{rule.description}: not judged: {reason}"
    return batch_result(contract, rule.id, rule.severity, passed=True, detail=detail, metadata={"judged": False})


def _measured(con: duckdb.DuckDBPyConnection, contract: DatasetContract, rule: StatisticalRule, rows_sql: str) -> float | None:
    if rule.metric == "sql":
        # The contract's query names the dataset as a table.
        name = quote_identifier(contract.name)
        con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {rows_sql}")
        try:
            found = con.execute(str(rule.measure_sql)).fetchone()
        finally:
            con.execute(f"DROP VIEW IF EXISTS {name}")
    else:
        found = con.execute(f"SELECT {rule.measure_sql} FROM ({rows_sql})").fetchone()
    return None if found is None or found[0] is None else float(found[0])


def _custom(contract: DatasetContract, rule: StatisticalRule, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> CheckResult:
    """Checks that need the batches before."""
    if rule.metric == "mean_drift" and rule.column is not None:
        window = earlier[-int(rule.options.get("baseline", 10)) :]
        limit = float(rule.options.get("maxSigma", MAX_SIGMA))
        if profile.rows == 0:
            return _not_judged(contract, rule, "the batch has no accepted rows")
        if rule.column not in profile.columns or profile.columns[rule.column].mean is None:
            detail = f"{rule.description}: can't be measured: {rule.column} has no number in {profile.rows:,} rows"
            return batch_result(contract, rule.id, rule.severity, passed=False, detail=detail)
        sigma = sigma_of(rule.column, profile, window)
        if sigma is None:
            return _not_judged(contract, rule, f"fewer than {MIN_BATCHES} earlier batches have a mean")
        detail = f"{rule.description}: the mean is {sigma:.1f} standard deviations from the earlier batches'"
        return batch_result(contract, rule.id, rule.severity, passed=sigma <= limit, detail=detail, metadata={"sigma": sigma})
    detail = f"{rule.description}: {_why_not_made(rule)}; it was not made"
    return batch_result(contract, rule.id, Severity.WARNING, passed=False, detail=detail)


def checks_not_made(contract: DatasetContract) -> dict[str, str]:
    """The contract's checks that this version can't make, with the reason."""
    rules = (rule for rule in contract.statistical_rules if rule.measure_sql is None)
    return {rule.id: _why_not_made(rule) for rule in rules if rule.metric != "mean_drift" or rule.column is None}


def _why_not_made(rule: StatisticalRule) -> str:
    engine = rule.options.get("engine")
    if rule.metric == "custom" and engine is not None:
        return f"needs the engine {engine or 'that it does not name'}, which does not run here"
    return "needs a column" if rule.metric == "mean_drift" else "is not a check this version knows"
