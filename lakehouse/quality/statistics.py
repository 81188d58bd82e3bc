"""The fourth level: is this batch like the earlier ones? Judged from profiles, never from the earlier rows.

A statistic that comes out as nothing has not passed: where the batch has rows, its check fails. A check for which there is
nothing to judge yet (a batch without rows, too few earlier batches) passes and says `not judged`, also in its metadata.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean, median, pstdev

import duckdb

from lakehouse.contracts import DatasetContract, Level, Severity, StatisticalRule
from lakehouse.quality.results import CheckResult
from lakehouse.quality.usual import usual
from lakehouse.sql import quote_identifier, quote_literal

PROFILES_TABLE = "monitoring.profiles"
# Fewer earlier batches say nothing about what is usual.
_MIN_BATCHES = 3
_MIN_BATCHES_MEAN = 5
_VOLUME_FACTOR = 5.0
_NULL_RATE_CHANGE = 0.2
_MAX_SIGMA = 6.0
# Less than this is no news, however alike the batches were.
_LEAST_LOG_SPREAD = 0.1
_LEAST_RATE_SPREAD = 0.01
_LEAST_MEAN_SPREAD = 0.01
_MOST_LOG = 700.0


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """How often a column has no value in a batch, and the mean of its numbers."""

    nulls: int
    mean: float | None = None


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """One batch in numbers; `rows` are the accepted ones."""

    batch: int
    files: int
    rows: int
    columns: Mapping[str, ColumnProfile] = field(default_factory=dict)

    def null_rate(self, column: str) -> float | None:
        """Share of rows without a value; None where there is nothing to say."""
        profile = self.columns.get(column)
        return None if profile is None or self.rows == 0 else profile.nulls / self.rows


def profile_sql(profile: BatchProfile, *, dataset: str, run: str, at: datetime) -> str:
    """The profile as rows of monitoring.profiles: one of the batch (no column), one per column."""
    rows = [(None, None, None), *((name, column.nulls, column.mean) for name, column in profile.columns.items())]
    values = ", ".join(
        f"({quote_literal(dataset)}, {profile.batch}::BIGINT, {quote_literal(name)}::VARCHAR, {profile.files}::BIGINT, "
        f"{profile.rows}::BIGINT, {quote_literal(nulls)}::BIGINT, {quote_literal(mean)}::DOUBLE, {quote_literal(run)}, {quote_literal(at)})"
        for name, nulls, mean in rows
    )
    return f"SELECT * FROM (VALUES {values}) AS p(dataset, batch, column_name, files, rows, nulls, mean, run, profiled_at)"


def read_profiles(con: duckdb.DuckDBPyConnection, scan_sql: str, *, dataset: str, limit: int = 30) -> list[BatchProfile]:
    """The newest batches' profiles, oldest first.

    Args:
        con: a connection that can read the root.
        scan_sql: a SELECT over monitoring.profiles.
        dataset: whose profiles.
        limit: how many batches.
    """
    found = con.execute(
        f"SELECT batch, files, rows, column_name, nulls, mean FROM ({scan_sql}) WHERE dataset = {quote_literal(dataset)} "
        f"QUALIFY dense_rank() OVER (ORDER BY batch DESC) <= {int(limit)} ORDER BY batch"
    ).fetchall()
    sizes: dict[int, tuple[int, int]] = {}
    columns: dict[int, dict[str, ColumnProfile]] = {}
    for batch, files, rows, name, nulls, mean in found:
        sizes[batch] = (files, rows)
        if name is not None:
            columns.setdefault(batch, {})[name] = ColumnProfile(nulls, mean)
    return [BatchProfile(batch, files, rows, columns.get(batch, {})) for batch, (files, rows) in sizes.items()]


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
    if len(earlier) >= _MIN_BATCHES and profile.rows > 0:
        results.append(_volume(contract, profile, earlier))
        results.append(_null_rates(contract, profile, earlier))
    if len(earlier) >= _MIN_BATCHES_MEAN and profile.rows > 0:
        results.append(_means(contract, profile, earlier))
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
        return _result(contract, rule.id, rule.severity, passed=False, detail=detail)
    if measured is None:
        if profile.rows == 0:
            return _not_judged(contract, rule, "the batch has no accepted rows")
        detail = f"{rule.description}: can't be measured: over {profile.rows:,} rows it comes out as nothing"
        return _result(contract, rule.id, rule.severity, passed=False, detail=detail, metadata={"measured": None})
    passed = rule.must is None or rule.must.holds(measured)
    detail = f"{rule.description}: found {measured:g}"
    return _result(contract, rule.id, rule.severity, passed=passed, detail=detail, metadata={"measured": measured})


def _not_judged(contract: DatasetContract, rule: StatisticalRule, reason: str) -> CheckResult:
    detail = f"{rule.description}: not judged: {reason}"
    return _result(contract, rule.id, rule.severity, passed=True, detail=detail, metadata={"judged": False})


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
        limit = float(rule.options.get("maxSigma", _MAX_SIGMA))
        if profile.rows == 0:
            return _not_judged(contract, rule, "the batch has no accepted rows")
        if rule.column not in profile.columns or profile.columns[rule.column].mean is None:
            detail = f"{rule.description}: can't be measured: {rule.column} has no number in {profile.rows:,} rows"
            return _result(contract, rule.id, rule.severity, passed=False, detail=detail)
        sigma = _sigma(rule.column, profile, window)
        if sigma is None:
            return _not_judged(contract, rule, f"fewer than {_MIN_BATCHES} earlier batches have a mean")
        detail = f"{rule.description}: the mean is {sigma:.1f} standard deviations from the earlier batches'"
        return _result(contract, rule.id, rule.severity, passed=sigma <= limit, detail=detail, metadata={"sigma": sigma})
    detail = f"{rule.description}: {_why_not_made(rule)}; it was not made"
    return _result(contract, rule.id, Severity.WARNING, passed=False, detail=detail)


def checks_not_made(contract: DatasetContract) -> dict[str, str]:
    """The contract's checks that this version can't make, with the reason."""
    rules = (rule for rule in contract.statistical_rules if rule.measure_sql is None)
    return {rule.id: _why_not_made(rule) for rule in rules if rule.metric != "mean_drift" or rule.column is None}


def _why_not_made(rule: StatisticalRule) -> str:
    engine = rule.options.get("engine")
    if rule.metric == "custom" and engine is not None:
        return f"needs the engine {engine or 'that it does not name'}, which does not run here"
    return "needs a column" if rule.metric == "mean_drift" else "is not a check this version knows"


def _sigma(column: str, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> float | None:
    """Distance of the batch's mean from the earlier ones' in their standard deviations."""
    now = profile.columns.get(column)
    means = [one.columns[column].mean for one in earlier if column in one.columns]
    known = [mean for mean in means if mean is not None and math.isfinite(mean)]
    if now is None or now.mean is None or len(known) < _MIN_BATCHES:
        return None
    spread = max(pstdev(known), 0.01 * abs(fmean(known)), 1e-12)
    return abs(now.mean - fmean(known)) / spread


def _volume(contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> CheckResult:
    sizes = [one.rows / max(one.files, 1) for one in earlier]
    middle, found = median(sizes), profile.rows / max(profile.files, 1)
    low, high = middle / _VOLUME_FACTOR, middle * _VOLUME_FACTOR
    # Half as much is as unusual as twice as much.
    learned = usual([math.log(size) for size in sizes], least_spread=_LEAST_LOG_SPREAD)
    if learned is not None:
        low, high = math.exp(learned.low), math.exp(min(learned.high, _MOST_LOG))
    detail = (
        f"{found:,.0f} rows per file; the median of {len(earlier)} earlier batches is {middle:,.0f}, usual is {low:,.0f} to {high:,.0f}"
    )
    metadata = {"found": found, "usual": middle, "low": low, "high": high, "learned": learned is not None}
    return _result(contract, "batch.volume", Severity.WARNING, passed=low <= found <= high, detail=detail, metadata=metadata)


def _null_rates(contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> CheckResult:
    strange: list[str] = []
    for name in profile.columns:
        rates = [rate for one in earlier if (rate := one.null_rate(name)) is not None]
        now = profile.null_rate(name)
        if now is None or len(rates) < _MIN_BATCHES:
            continue
        middle = median(rates)
        # A rate measured on few rows is uncertain by itself.
        least = max(_LEAST_RATE_SPREAD, math.sqrt(middle * (1 - middle) / profile.rows))
        learned = usual(rates, least_spread=least)
        if not (learned.holds(now) if learned is not None else abs(now - middle) <= _NULL_RATE_CHANGE):
            strange.append(f"{name}: {now:.0%} without a value, usually {middle:.0%}")
    detail = "; ".join(strange) or "no column has unusually many or few missing values"
    return _result(contract, "batch.null_rate", Severity.WARNING, passed=not strange, detail=detail)


def _means(contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> CheckResult:
    strange: list[str] = []
    for name, column in profile.columns.items():
        if column.mean is None:
            continue
        means = [mean for one in earlier if name in one.columns and (mean := one.columns[name].mean) is not None and math.isfinite(mean)]
        learned = usual(means, least_spread=max(_LEAST_MEAN_SPREAD * abs(median(means)), 1e-12)) if means else None
        if learned is not None:
            if not learned.holds(column.mean):
                strange.append(f"{name}: the mean is {column.mean:g}, usually {learned.low:g} to {learned.high:g}")
            continue
        sigma = _sigma(name, profile, earlier)
        if sigma is not None and sigma > _MAX_SIGMA:
            strange.append(f"{name}: the mean is {column.mean:g}, {sigma:.0f} standard deviations from the earlier batches'")
    detail = "; ".join(strange) or "no column's mean is unusual"
    return _result(contract, "batch.mean", Severity.WARNING, passed=not strange, detail=detail)


def _result(
    contract: DatasetContract, check_id: str, severity: Severity, *, passed: bool, detail: str, metadata: Mapping[str, object] | None = None
) -> CheckResult:
    return CheckResult(
        check_id, contract.name, contract.raw, Level.STATISTICAL, severity, passed, 0 if passed else 1, detail, metadata or {}
    )
