"""What a batch leaves in the monitoring tables. All of it can be lost and made again: the truth is the raw log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from lakehouse.contracts import DatasetContract, Level, Severity
from lakehouse.ingest.batch import BatchResult
from lakehouse.ingest.drift import column_results
from lakehouse.ingest.known import batch_of, files_of, number_of
from lakehouse.ingest.unrecorded import Addition, Note
from lakehouse.quality import (
    CHECKS_TABLE,
    PROFILES_TABLE,
    BatchProfile,
    CheckResult,
    check_batch,
    measured,
    profile_sql,
    read_profiles,
    results_sql,
)
from lakehouse.sql import quote_literal
from lakehouse.tables import CommitInfo, Lake, Stamp, Transaction, in_force

INGESTED_TABLE = "monitoring.ingested_files"
# Enough to know what is usual; reading more would make a batch cost more the more there were before.
_HISTORY_FILES = 30
_PAGE = 32
_INDEX_COLUMNS = "dataset, batch, raw_version, file, sha256, bytes, rows_read, rows_accepted, rows_quarantined, archive, ingested_at, run"
_NO_FILE = "('', 0::BIGINT, 0::BIGINT, '', '', 0::BIGINT, 0::BIGINT, 0::BIGINT, 0::BIGINT, '', TIMESTAMPTZ '1970-01-01 00:00:00+00', '')"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The results of all four levels on a batch, and what is to be recorded of it."""

    results: list[CheckResult]
    note: Note


def judge_batch(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    contract: DatasetContract,
    result: BatchResult,
    *,
    run: str,
    now: datetime,
    noted: Sequence[CheckResult] = (),
    counted: frozenset[int] | None = None,
) -> Judgement:
    """Judge a batch as a whole, before it counts.

    Args:
        lake: the tables.
        con: where the batch was read.
        contract: the dataset's.
        result: the batch.
        run: recorded with the results.
        now: likewise.
        noted: what was found before it was read.
        counted: the batches that are history: those whose rows are still there; None means all.
    """
    files = sum(outcome.error is None for outcome in result.files)
    history = _history(lake, con, contract, counted)
    rows_sql = result.tally.rows_sql
    profile = measured(con, contract, result.tally.profile(result.number, files), history, rows_sql=rows_sql)
    results = [
        _conservation(contract, result),
        *noted,
        *column_results(contract, result.files),
        *result.tally.row_results(),
        *check_batch(con, contract, profile, history, rows_sql=rows_sql),
    ]
    additions = (
        Addition(PROFILES_TABLE, f"profile.{contract.name}", profile_sql(profile, dataset=contract.name, run=run, at=now)),
        Addition(CHECKS_TABLE, f"checks.{contract.name}", results_sql(results, batch=result.number, run=run, at=now)),
    )
    digests = tuple(outcome.original.sha256 for outcome in result.files if outcome.error is None)
    return Judgement(results, Note(result.number, digests, run, additions))


def _conservation(contract: DatasetContract, result: BatchResult) -> CheckResult:
    """Every row that was read is in raw or in quarantine: counted by the reader on one side, in the data files on the other."""
    read = sum(outcome.rows_read for outcome in result.files)
    quarantined = sum(outcome.rows_quarantined for outcome in result.files)
    accepted = sum(one.rows for outcome in result.files if outcome.error is None for one in outcome.written)
    erased = sum(outcome.rows_erased for outcome in result.files)
    lost = read - accepted - quarantined - erased
    detail = f"{read} rows read, {accepted} accepted, {quarantined} quarantined" + (f", {erased} erased" if erased else "")
    return CheckResult("batch.rows_conserved", contract.name, contract.raw, Level.STRUCTURAL, Severity.ERROR, lost == 0, abs(lost), detail)


def _history(lake: Lake, con: duckdb.DuckDBPyConnection, contract: DatasetContract, counted: frozenset[int] | None) -> list[BatchProfile]:
    """Profiles of the newest batches that count, read from the newest files only."""
    if not lake.exists(PROFILES_TABLE):
        return []
    snapshot = lake.snapshot(PROFILES_TABLE)
    mine = [
        file
        for file in snapshot.files
        if (low := file.facts.get("min.dataset")) is None or low <= contract.name <= (file.facts.get("max.dataset") or contract.name)
        if counted is None or _has_one_of(counted, file.facts.get("min.batch"), file.facts.get("max.batch"))
    ]
    newest = sorted(mine, key=lambda file: file.facts.get("max.batch") or 0)[-_HISTORY_FILES:]
    if not newest:
        return []
    addresses = [file.uri.removeprefix("file://") for file in newest]
    return read_profiles(con, snapshot.scan_sql(con, files=addresses), dataset=contract.name, batches=counted)


def _has_one_of(batches: frozenset[int], low: int | None, high: int | None) -> bool:
    """Whether a file whose batches are between these may hold one of them."""
    return low is None or high is None or any(low <= batch <= high for batch in batches)


def index_batches(lake: Lake, con: duckdb.DuckDBPyConnection, contract: DatasetContract) -> int:
    """Complete monitoring.ingested_files from the raw log; returns the number of batches that were missing.

    The index is at the batch its transaction names. A process that died after the raw commit leaves it behind; whoever comes
    next completes it.
    """
    newest = lake.transaction(contract.raw, f"ingest.{contract.name}")
    if newest is None:
        return 0
    indexed = lake.transaction(INGESTED_TABLE, f"index.{contract.name}") or 0
    if indexed >= newest:
        return 0
    missing = _commits_after(lake, contract, indexed)
    is_restored = any(commit.restored is not None for commit in missing)
    if is_restored:
        missing = list(in_force(lake.history(contract.raw)))
    missing = [commit for commit in missing if files_of(commit)]
    rows = [row for commit in reversed(missing) for row in _rows(contract, commit)]
    if not rows and not is_restored:
        return 0
    transaction = Transaction(f"index.{contract.name}", newest)
    run = missing[0].stamp.run if missing and missing[0].stamp else ""
    stamp = Stamp(asset=INGESTED_TABLE, run=run, code=contract.digest)
    sql = f"SELECT * FROM (VALUES {', '.join(rows or [_NO_FILE])}) AS f({_INDEX_COLUMNS})" + ("" if rows else " WHERE false")
    if is_restored and lake.exists(INGESTED_TABLE):
        # What was undone is not ingested; what a later restore brings back is.
        where = f"dataset = {quote_literal(contract.name)}"
        lake.replace_where(con, INGESTED_TABLE, sql, where=where, stamp=stamp, transaction=transaction)
    else:
        lake.append(con, INGESTED_TABLE, sql, stamp=stamp, transaction=transaction)
    return len(missing)


def _commits_after(lake: Lake, contract: DatasetContract, batch: int) -> list[CommitInfo]:
    """Raw commits of later batches, and restores that took a later number, newest first."""
    limit = _PAGE
    while True:
        commits = lake.history(contract.raw, limit=limit)
        numbers = {commit.version: number for commit in commits if (number := number_of(commit)) is not None}
        if len(commits) < limit or min(numbers.values(), default=batch + 1) <= batch:
            return [commit for commit in commits if numbers.get(commit.version, batch) > batch]
        limit *= 4


def _rows(contract: DatasetContract, commit: CommitInfo) -> list[str]:
    run = commit.stamp.run if commit.stamp else ""
    at = commit.timestamp
    return [
        f"({quote_literal(contract.name)}, {batch_of(commit)}::BIGINT, {commit.version}::BIGINT, {quote_literal(file['file'])}, "
        f"{quote_literal(file['sha256'])}, {file['bytes']}::BIGINT, {file['rows_read']}::BIGINT, {file['rows_accepted']}::BIGINT, "
        f"{file['rows_quarantined']}::BIGINT, {quote_literal(file.get('archive'))}, {quote_literal(at)}, {quote_literal(run)})"
        for file in files_of(commit)
    ]
