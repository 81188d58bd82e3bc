"""Under which versions of its contract a dataset was ingested, and whether a new one keeps what the ones before promised.

`monitoring.contracts` has a row per version that ingestion or a replay saw for the first time, with the whole document: the stamp of every
batch names its digest, so what a row was judged by can be read whatever became of the file.
"""

import json
from datetime import datetime
from pathlib import Path

from lakehouse.contracts import DatasetContract, Level, Severity, parse_dataset
from lakehouse.contracts.evolution import Compatibility, compare, widens
from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ConcurrentWrite, ContractError, ContractNotFound
from lakehouse.ingest.known import files_of
from lakehouse.quality import CheckResult
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Stamp, Transaction
from lakehouse.tables.retrying import wait_after_conflict

CONTRACTS_TABLE = "monitoring.contracts"
CHECK = "contract.version_tells_of_breaking_changes"
_SHOWN = 3
# Maintenance and wider columns come between the batches.
_NEWEST = 16


def note_contract(lake: Lake, contract: DatasetContract, *, run: str, now: datetime) -> CheckResult | None:
    """Record a contract that no row was judged by before, make raw as wide as it asks, and judge it by the one before.

    Returns:
        The judgement of a version that no batch was ingested under yet; None where this is the version of the newest batch.

    Raises:
        ConcurrentWrite: raw has to become wider, and other processes wrote into it without pause.
        ContractError: it breaks promises without a new major version, and its `breakingChange` says reject.
    """
    history = lake.history(contract.raw, limit=_NEWEST) if lake.exists(contract.raw) else []
    # Compactions, restores and replays have stamps of their own: whoever ingests next tells of the version.
    newest = next((commit.stamp for commit in history if commit.stamp is not None and files_of(commit)), None)
    if newest is not None and newest.code == contract.digest:
        return None
    recorded = _recorded(lake, contract.name)
    # Recorded by a process that died before a batch of it counted: nobody has been told yet.
    is_recorded = bool(recorded) and recorded[-1].digest == contract.digest
    if is_recorded:
        recorded = recorded[:-1]
    before = _parsed(recorded[-1].document, contract.name) if recorded else None
    found = compare(before, contract) if before is not None else None
    result = _judged(contract, found)
    if not result.passed and contract.schema_changes.breaking_change == "reject":
        raise ContractError(
            str(contract.path or f"dataset {contract.name}"),
            "changes what was promised without a new major version",
            expected=f"version {found.needed if found else ''}",
            found=result.detail,
            fix=f"Set the version, or undo the change; see lakehouse contract diff {contract.name}@{before.version if before else ''}",
        )
    _widen(lake, contract, run=run)
    if not is_recorded:
        _record(lake, contract, number=len(recorded) + 1, run=run, now=now)
    return result


def recorded_contract(lake: Lake, dataset: str, version: str) -> DatasetContract:
    """A version of a contract that rows were ingested under; the newest document of that version.

    Raises:
        ContractNotFound: nothing was.
    """
    recorded = _recorded(lake, dataset)
    found = next((one for one in reversed(recorded) if version in {one.version, one.digest}), None)
    if found is None:
        known = ", ".join(dict.fromkeys(one.version for one in recorded))
        raise ContractNotFound(
            f"version {version} of the contract of {dataset}", "was never used", expected=known or "nothing was ingested yet"
        )
    return _parsed(found.document, dataset)


class _Recorded:
    """One recorded version."""

    __slots__ = ("digest", "document", "version")

    def __init__(self, version: str, digest: str, document: str) -> None:
        self.version, self.digest, self.document = version, digest, document


def _recorded(lake: Lake, dataset: str) -> list[_Recorded]:
    if not lake.exists(CONTRACTS_TABLE):
        return []
    with lake.connect([CONTRACTS_TABLE]) as session:
        rows = session.con.execute(
            f"SELECT version, digest, document FROM {CONTRACTS_TABLE} WHERE dataset = {quote_literal(dataset)} ORDER BY number, noted_at"
        ).fetchall()
    return [_Recorded(*row) for row in rows]


def _parsed(document: str, dataset: str) -> DatasetContract:
    # JSON is YAML.
    return parse_dataset(document, path=Path(f"{dataset}.odcs.yaml"))


def _judged(contract: DatasetContract, found: Compatibility | None) -> CheckResult:
    detail = f"version {contract.version} is the first"
    passed = True
    if found is not None:
        breaking = found.breaking
        passed = not breaking or found.is_told
        shown = "; ".join(str(change) for change in breaking[:_SHOWN]) + (
            f" and {len(breaking) - _SHOWN} more" if len(breaking) > _SHOWN else ""
        )
        if passed:
            detail = f"version {contract.version} after {found.before}" + (f", with breaking changes: {shown}" if breaking else "")
        else:
            detail = f"version {contract.version} after {found.before} should be {found.needed}: {shown}"
    return CheckResult(CHECK, contract.name, contract.raw, Level.STRUCTURAL, Severity.WARNING, passed, 0 if passed else 1, detail)


def _widen(lake: Lake, contract: DatasetContract, *, run: str) -> None:
    """Give raw the wider types that the contract has now: once, and every row that is there keeps its value and its origin.

    A type that has no room for what is there is left alone: the first batch is refused with both types. Where another process
    writes meanwhile, its rows are read too, or it has made raw wider already.
    """
    attempt = 1
    while lake.exists(contract.raw):
        detail = lake.detail(contract.raw)
        wider = {
            column.name: column.stored_type
            for column in contract.columns
            if column.name in detail.columns
            and detail.columns[column.name] != column.stored_type
            and widens(detail.columns[column.name], column.stored_type)
        }
        if not wider:
            return
        casts = ", ".join(f"CAST({quote_identifier(name)} AS {kind}) AS {quote_identifier(name)}" for name, kind in wider.items())
        stamp = Stamp(asset=contract.raw, run=run, inputs={contract.raw: detail.version}, code=contract.digest)
        try:
            with lake.connect([contract.raw], as_of={contract.raw: detail.version}) as session:
                sql = f"SELECT * REPLACE ({casts}) FROM raw.{quote_identifier(contract.name)}"
                lake.overwrite(session.con, contract.raw, sql, stamp=stamp, partition_by=detail.partition_by, expect_version=detail.version)
        except ConcurrentWrite:
            wait_after_conflict(contract.raw, attempt, undone="raw did not become wider")
            attempt += 1
        else:
            reached(Point.MID_WIDENING)
            return


def _record(lake: Lake, contract: DatasetContract, *, number: int, run: str, now: datetime) -> None:
    document = json.dumps(contract.document, ensure_ascii=False, default=str)
    sql = (
        f"SELECT {quote_literal(contract.name)} AS dataset, {number}::BIGINT AS number, {quote_literal(contract.version)} AS version, "
        f"{quote_literal(contract.digest)} AS digest, {quote_literal(document)} AS document, {quote_literal(run)} AS run, "
        f"{quote_literal(now)}::TIMESTAMPTZ AS noted_at"
    )
    with lake.connect(()) as session:
        # Two processes that find the same new version write it once.
        once = Transaction(f"contract.{contract.name}.{number}.{contract.digest[:16]}", 1)
        lake.append(session.con, CONTRACTS_TABLE, sql, stamp=Stamp(asset=CONTRACTS_TABLE, run=run, code=contract.digest), transaction=once)
