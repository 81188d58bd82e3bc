"""Enforcing what contracts say of retention and consent; a contract that says nothing of it is left alone."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.contracts.keeping import Consent, Retention, consent_of, retention_of
from lakehouse.openlineage import job
from lakehouse.pipeline.erasing import erase, forget_tables, note_models, opened
from lakehouse.pipeline.erasing_online import fill_anew
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy import encrypt_file
from lakehouse.privacy import key as secret_key
from lakehouse.privacy.erasure.archived import addresses_now, erase_archived, settle_archived
from lakehouse.privacy.erasure.identity import manners
from lakehouse.privacy.erasure.rows import Manner, find_rows
from lakehouse.privacy.erasure.subject import Identifiers, Subject
from lakehouse.privacy.erasure.suppression import ERASED_ORIGINALS, RowsGone, count_rows, originals_now
from lakehouse.privacy.erasure.tables import ErasedTable, Work, erase_table
from lakehouse.recovery.checksums import forget
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Stamp
from lakehouse.tables.names import TableName
from lakehouse.tables.tiers import archive_tiers

_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_NOBODY = Identifiers.of({}, [])
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Expired:
    """What was over its period in one dataset.

    Attributes:
        tables: rows by table, in the newest version or, where it has none, in older ones.
        originals: original files that were emptied: everything in them had arrived before the cutoff.
    """

    dataset: str
    cutoff: datetime
    tables: dict[str, int]
    originals: int


@dataclass(frozen=True, slots=True)
class KeepingReport:
    """What was enforced: rows over their period, and people who withdrew their consent (by fingerprint)."""

    expired: tuple[Expired, ...] = ()
    withdrawn: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    enforced: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "enforced": list(self.enforced),
            "expired": [
                {"dataset": one.dataset, "cutoff": one.cutoff, "tables": one.tables, "originals": one.originals} for one in self.expired
            ],
            "withdrawn": list(self.withdrawn),
            "unfinished": list(self.unfinished),
        }


def enforce_contracts(
    workspace: Workspace, *, run: str, now: datetime, dry_run: bool = False, told: Told = lambda _step: None
) -> KeepingReport:
    """Remove rows that are over their contract's period, and people who withdrew their consent, from every version.

    Killed at any instant and run again it ends the same.

    Raises:
        ContractError: a contract states a period or a consent that can't be enforced.
        PrivacyError: something can't be rewritten.
    """
    expired: list[Expired] = []
    withdrawn: list[str] = []
    unfinished: list[str] = []
    enforced: list[str] = []
    for contract in workspace.contracts.datasets.values():
        retention, consent = retention_of(contract), consent_of(contract)
        if retention is not None or consent is not None:
            enforced.append(contract.name)
        if retention is not None:
            told(f"retention of {contract.name}")
            with nullcontext() if dry_run else job(workspace.settings, workspace.lake, "expire", contract.name, run=run):
                done = _Period(workspace, contract, retention, run, now, dry_run).do()
            expired += [done] if done.tables or done.originals else []
        if consent is not None:
            told(f"consents of {contract.name}")
            for subject in _withdrawn(workspace, contract, consent):
                report = erase(workspace, subject, run=run, now=now, dry_run=dry_run, told=told)
                withdrawn.append(report.document["erasure"])
                unfinished += [report.document["erasure"]] if not dry_run and not report.is_clean else []
    return KeepingReport(tuple(expired), tuple(withdrawn), tuple(unfinished), tuple(enforced))


@dataclass
class _Period:
    """One dataset's rows that are over their period."""

    workspace: Workspace
    contract: DatasetContract
    retention: Retention
    run: str
    now: datetime
    dry_run: bool

    def do(self) -> Expired:
        note = self.workspace.settings.home_dir / "privacy" / "erasing" / f"retention.{self.contract.name}.json"
        cutoff = self.retention.cutoff(self.now)
        if not self.dry_run:
            # What an interrupted call began is counted once, so it is ended with its own cutoff.
            cutoff = datetime.fromisoformat(json.loads(note.read_text())["cutoff"]) if note.exists() else cutoff
            note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            note.write_text(json.dumps({"cutoff": cutoff.isoformat()}))
        with opened(self.workspace) as (con, scratch):
            tables = self._tables(con, scratch, cutoff)
            originals = self._originals(con, scratch, cutoff)
        if not self.dry_run:
            fill_anew(self.workspace, (one.table for one in tables))
            note.unlink(missing_ok=True)
        return Expired(self.contract.name, cutoff, {one.table: one.rows_now or one.rows_ever for one in tables}, originals)

    def _tables(self, con: duckdb.DuckDBPyConnection, scratch: Path, cutoff: datetime) -> list[ErasedTable]:
        lake = self.workspace.lake
        own = Manner(whole_cells=False, older_than=(self.retention.column, cutoff))
        plan = {
            name: own
            for name, manner in manners(lake, self.workspace.contracts, Subject(self.contract.name, self.retention.column, "")).items()
            if manner.shares_columns
        }
        refused = TableName.parse(self.contract.quarantine)
        if lake.exists(refused):
            plan[refused] = Manner(whole_cells=False, older_than=("_ingested_at", cutoff))
        stamp = Stamp(asset="retention", run=self.run, code=self.contract.digest)
        tiers = archive_tiers(self.workspace.settings, lake)
        if not self.dry_run:
            settle_archived(list(tiers.values()), sorted(plan), stamp=stamp)
            self._count(con, plan, stamp, cutoff)
        attempt = f"retention.{self.contract.name}.{cutoff.isoformat()}"
        work = Work(lake.storage, con, _NOBODY, attempt, self.now, scratch, self.dry_run)
        done = [erase_table(lake, name, work, manner, stamp=stamp) for name, manner in sorted(plan.items())]
        done += erase_archived(tiers, plan, work, stamp=stamp)
        touched = [one for one in done if one.rows_ever]
        if touched and not self.dry_run:
            note_models(self.workspace, touched, f"rows of its training set were over their period before {cutoff:%Y-%m-%d}", dry_run=False)
            forget_tables(lake, touched)
        return touched

    def _count(self, con: duckdb.DuckDBPyConnection, plan: dict[TableName, Manner], stamp: Stamp, cutoff: datetime) -> None:
        lake = self.workspace.lake
        theirs: list[int] = []
        for name in (TableName.parse(self.contract.raw), TableName.parse(self.contract.quarantine)):
            addresses = addresses_now(list(archive_tiers(self.workspace.settings, lake).values()), name) if name in plan else []
            theirs.append(sum(one.theirs for one in find_rows(con, addresses, _NOBODY, plan[name])) if addresses else 0)
        if any(theirs):
            attempt = f"retention.{self.contract.name}.{cutoff.isoformat()}"
            count_rows(lake, con, RowsGone(self.contract.name, *theirs), attempt=attempt, stamp=stamp, now=self.now)

    def _originals(self, con: duckdb.DuckDBPyConnection, scratch: Path, cutoff: datetime) -> int:
        """Empty the originals that arrived, whole, before the cutoff."""
        lake = self.workspace.lake
        emptied = originals_now(lake)
        base = f"files/{self.contract.name}"
        old = [file.path for file in lake.storage.walk(base) if _is_before(file.path, cutoff.date()) and emptied.get(file.path) != _EMPTY]
        if self.dry_run or not old:
            return len(old)
        nothing = scratch / "nothing"
        nothing.write_bytes(b"")
        for path in old:
            if path.endswith(".enc"):
                encrypt_file(nothing, scratch / "sealed", secret_key(self.workspace.settings))
            lake.storage.put(scratch / "sealed" if path.endswith(".enc") else nothing, path)
        rows = ", ".join(
            f"({quote_literal(path)}, {quote_literal(path.rpartition('/')[2].split('.')[0])}, {quote_literal(_EMPTY)}, 0::BIGINT, "
            f"'retention', {quote_literal(self.now)})"
            for path in old
        )
        columns = "archive, sha256_before, sha256_now, records, erasure, erased_at"
        stamp = Stamp(asset="retention", run=self.run, code=self.contract.digest)
        lake.append(con, ERASED_ORIGINALS, f"SELECT * FROM (VALUES {rows}) AS v({columns})", stamp=stamp)
        forget(lake.storage, old)
        return len(old)


def _is_before(path: str, day: date) -> bool:
    try:
        return date.fromisoformat(path.split("/")[2]) < day
    except (ValueError, IndexError):
        return False


def _withdrawn(workspace: Workspace, contract: DatasetContract, consent: Consent) -> list[Subject]:
    """People whose newest row says that they withdrew."""
    lake = workspace.lake
    if not lake.exists(contract.raw):
        return []
    order = quote_identifier(contract.event_timestamp or "_ingested_at")
    subject, column = quote_identifier(consent.subject), quote_identifier(consent.column)
    words = ", ".join(map(quote_literal, consent.withdrawn))
    with lake.connect([contract.raw]) as session:
        newest = f"SELECT {subject} AS who, {column} AS given FROM {contract.raw} WHERE {subject} IS NOT NULL QUALIFY row_number() OVER "
        newest += f"(PARTITION BY {subject} ORDER BY {order} DESC, _batch DESC, _row DESC) = 1"
        sql = f"SELECT CAST(who AS VARCHAR) FROM ({newest}) WHERE lower(CAST(given AS VARCHAR)) IN ({words}) ORDER BY 1"
        return [Subject(contract.name, consent.subject, str(row[0])) for row in session.con.execute(sql).fetchall()]
