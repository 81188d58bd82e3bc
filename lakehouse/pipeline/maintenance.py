"""Maintenance of a home: every table fast and small, nothing lost that anything points to."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from lakehouse.errors import LakehouseError
from lakehouse.openlineage import Job, job
from lakehouse.pipeline.archiving import archive_dataset
from lakehouse.pipeline.leftovers import Leftovers, remove_leftovers
from lakehouse.pipeline.overview import require_table
from lakehouse.pipeline.pins import Pins, pinned_versions
from lakehouse.pipeline.workspace import Workspace
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp, TableName
from lakehouse.tables.ranges import spoken
from lakehouse.tables.tiers import archive_tiers, needed_below

ARCHIVE_TABLE = "monitoring.archive"
COMPACTION_TABLE = "monitoring.compaction"
VACUUM_TABLE = "monitoring.vacuum"
_MEGABYTE = 1024 * 1024


class Operation(StrEnum):
    """What maintenance can do, in the order in which it is done."""

    ARCHIVE = "archive"
    COMPACT = "compact"
    CHECKPOINT = "checkpoint"
    VACUUM = "vacuum"
    ORPHANS = "orphans"

    @property
    def table(self) -> str:
        """Where it is recorded."""
        if self is Operation.ARCHIVE:
            return ARCHIVE_TABLE
        return COMPACTION_TABLE if self in {Operation.COMPACT, Operation.CHECKPOINT} else VACUUM_TABLE


@dataclass(frozen=True, slots=True)
class Done:
    """One operation on one table.

    Attributes:
        table: `layer.name`, after the name of its tier where that is not the hot one.
        changed: whether there was anything to do; in a dry run, whether there is.
        files_before: data files that it looked at: those to be rewritten, or all that lie in the folder.
        bytes_before: their size.
        detail: what it did, for people.
        pinned: versions that were kept because something points to them, and what.
        error: why it could not be done; the others go on.
    """

    operation: Operation
    table: str
    changed: bool
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    detail: str = ""
    pinned: tuple[str, ...] = ()
    error: str | None = None

    @property
    def bytes_saved(self) -> int:
        """By how much it is smaller afterwards."""
        return self.bytes_before - self.bytes_after

    def as_dict(self) -> dict[str, Any]:
        """The operation as JSON."""
        return {
            "operation": str(self.operation),
            "table": self.table,
            "changed": self.changed,
            "files_before": self.files_before,
            "files_after": self.files_after,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "detail": self.detail,
            "pinned": list(self.pinned),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What was done, or in a dry run would be."""

    dry_run: bool
    done: tuple[Done, ...]
    leftovers: tuple[Leftovers, ...] = ()

    @property
    def failed(self) -> tuple[Done, ...]:
        """What could not be done."""
        return tuple(one for one in self.done if one.error is not None)

    @property
    def bytes_freed(self) -> int:
        """How much less is stored: what compaction replaced and archiving moved stays until vacuum."""
        freed = sum(one.bytes_saved for one in self.done if one.changed and one.operation not in {Operation.COMPACT, Operation.ARCHIVE})
        return freed + sum(one.bytes for one in self.leftovers)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "dry_run": self.dry_run,
            "bytes_freed": self.bytes_freed,
            "operations": [one.as_dict() for one in self.done],
            "leftovers": [{"kind": one.kind, "files": one.files, "bytes": one.bytes} for one in self.leftovers],
        }


@dataclass(frozen=True, eq=False)
class _Work:
    workspace: Workspace
    tier: str
    lake: Lake
    run: str
    now: datetime
    dry_run: bool
    force: bool
    retention: timedelta
    pins: Pins

    @property
    def stamp(self) -> Stamp:
        return Stamp(asset="maintenance", run=self.run)

    def name(self, table: TableName) -> str:
        return f"{self.tier} {table}" if self.tier else str(table)

    def archive(self, table: TableName) -> Done:
        contract = self.workspace.contracts.datasets.get(table.name) if table.layer == "raw" and not self.tier else None
        if contract is None or contract.archiving is None:
            return Done(Operation.ARCHIVE, self.name(table), False)
        settings = self.workspace.settings
        before = self.lake.detail(table)
        moved = archive_dataset(settings, self.lake, contract, run=self.run, now=self.now, dry_run=self.dry_run)
        after = before if self.dry_run else self.lake.detail(table)
        size = before.bytes - sum(one.bytes for one in moved if one.origin == "hot") if self.dry_run else after.bytes
        detail = ", ".join(f"{one.rows:,} rows from {one.origin} to {one.target}" for one in moved)
        return Done(Operation.ARCHIVE, self.name(table), bool(moved), before.files, after.files, before.bytes, size, detail)

    def compact(self, table: TableName) -> Done:
        contracts = self.workspace.contracts.datasets
        contract = contracts.get(table.name) if table.layer in {"raw", "staging"} else None
        columns = set(self.lake.schema(table)) if contract is not None and contract.cluster_by else set[str]()
        cluster_by = [name for name in contract.cluster_by if name in columns] if contract is not None else []
        target = self.workspace.settings.compact_target_mb * _MEGABYTE
        found = self.lake.compact(table, stamp=self.stamp, target_bytes=target, cluster_by=cluster_by, dry_run=self.dry_run)
        sorted_by = f", sorted by {', '.join(found.clustered_by)}" if found.clustered_by else ""
        after = found.bytes_before if self.dry_run else found.bytes_after
        detail = f"{found.files_before:,} files into {found.files_after:,}{sorted_by}" if found.groups else ""
        return Done(
            Operation.COMPACT, self.name(table), found.groups > 0, found.files_before, found.files_after, found.bytes_before, after, detail
        )

    def checkpoint(self, table: TableName) -> Done:
        found = self.lake.checkpoint(table, now=self.now, dry_run=self.dry_run)
        details = [f"version {found.version}"] if found.is_due else []
        details += [f"{found.superseded_files:,} older ones removed"] if found.superseded_files else []
        bytes_before = found.superseded_bytes
        return Done(Operation.CHECKPOINT, self.name(table), bool(details), found.superseded_files, 0, bytes_before, 0, ", ".join(details))

    def vacuum(self, table: TableName) -> Done:
        pins = self.pins.get(str(table), {})
        found = self.lake.vacuum(
            table, keep=tuple(pins), retention=self.retention, now=self.now, stamp=self.stamp, dry_run=self.dry_run, force=self.force
        )
        files, size = found.stored_files, found.stored_bytes
        detail = f"versions {spoken(found.newly_gone)} can't be read any more" if found.newly_gone else ""
        kept = tuple(f"{version}: {', '.join(reasons)}" for version, reasons in pins.items())
        return Done(
            Operation.VACUUM, self.name(table), found.files > 0, files, files - found.files, size, size - found.bytes, detail, pinned=kept
        )

    def orphans(self, table: TableName) -> Done:
        older_than = timedelta(hours=self.workspace.settings.orphan_age_h)
        found = self.lake.remove_orphans(table, now=self.now, older_than=older_than, dry_run=self.dry_run, force=self.force)
        detail = f"{found.files:,} files that were never committed" if found.files else ""
        return Done(Operation.ORPHANS, self.name(table), found.files > 0, found.files, 0, found.bytes, 0, detail)


def maintain(
    workspace: Workspace,
    *,
    operations: Iterable[Operation],
    run: str,
    now: datetime,
    tables: Sequence[str] = (),
    dry_run: bool = False,
    force: bool = False,
    retention: timedelta | None = None,
    told: Callable[[Done], None] | None = None,
) -> MaintenanceReport:
    """Do the operations, in their order, on the tables; what goes wrong with one is reported, and the others go on.

    Args:
        workspace: the home.
        operations: what to do.
        run: recorded with every commit.
        now: the time it is.
        tables: `layer.name` of each; none means all, and what lies around outside of tables.
        dry_run: change nothing, say what would be.
        force: allow retentions under an hour.
        retention: of versions, instead of the setting.
        told: of each operation that is done.

    Raises:
        TableNotFound: a table is not there.
    """
    lake, wanted = workspace.lake, set(operations)
    with nullcontext(Job()) if dry_run else job(workspace.settings, lake, "maintain", "tables", run=run) as telling:
        names = [require_table(lake, name) for name in tables] or lake.tables()
        kept = retention if retention is not None else timedelta(hours=workspace.settings.vacuum_retention_h)
        done: list[Done] = []
        for operation in (one for one in Operation if one in wanted):
            pins = pinned_versions(workspace.settings, lake) if operation is Operation.VACUUM else {}
            works = {_Work(workspace, "", lake, run, now, dry_run, force, kept, pins): names}
            tiers = archive_tiers(workspace.settings, lake)
            for tier, below in list(tiers.items())[1:] if not tables else ():
                found = below.tables()
                needed = _needed(list(tiers.values()), below, found) if operation is Operation.VACUUM else {}
                works[_Work(workspace, tier, below, run, now, dry_run, force, kept, needed)] = found
            for one in (_tried(work, operation, table) for work, found in works.items() for table in found):
                done.append(one)
                if told is not None:
                    told(one)
        leftovers: list[Leftovers] = []
        if Operation.ORPHANS in wanted and not tables:
            age = timedelta(hours=workspace.settings.orphan_age_h)
            contracts = workspace.contracts
            leftovers = remove_leftovers(workspace.settings, lake, contracts, run=run, now=now, older_than=age, dry_run=dry_run)
        report = MaintenanceReport(dry_run, tuple(done), tuple(leftovers))
        for one in report.failed:
            telling.failed(one.table, f"{one.operation} failed")
        if not dry_run:
            _record(lake, report, run=run, now=now)
        return report


def _needed(tiers: Sequence[Lake], tier: Lake, tables: Iterable[TableName]) -> Pins:
    """What the tables above a tier count on in it."""
    return {
        str(table): {version: ("rows archived here",) for lake, version in needed_below(tiers, str(table)) if lake is tier}
        for table in tables
    }


def _tried(work: _Work, operation: Operation, table: TableName) -> Done:
    try:
        match operation:
            case Operation.ARCHIVE:
                return work.archive(table)
            case Operation.COMPACT:
                return work.compact(table)
            case Operation.CHECKPOINT:
                return work.checkpoint(table)
            case Operation.VACUUM:
                return work.vacuum(table)
            case Operation.ORPHANS:
                return work.orphans(table)
    except LakehouseError as error:
        return Done(operation, work.name(table), False, error=str(error))


def _record(lake: Lake, report: MaintenanceReport, *, run: str, now: datetime) -> None:
    """Add what was done to the tables of maintenance; where nothing was, nothing is written."""
    for table in dict.fromkeys(one.operation.table for one in report.done):
        rows: list[tuple[str | int | None, ...]] = [
            (one.operation, one.table, one.files_before, one.files_after, one.bytes_before, one.bytes_after, one.detail, one.error)
            for one in report.done
            if one.operation.table == table and (one.changed or one.error)
        ]
        if table == VACUUM_TABLE:
            rows += [("leftovers", one.kind, one.files, 0, one.bytes, 0, "", None) for one in report.leftovers if one.files]
        if rows:
            _append(lake, table, rows, run=run, now=now)


def _append(lake: Lake, table: str, rows: Sequence[tuple[str | int | None, ...]], *, run: str, now: datetime) -> None:
    values = ", ".join(f"({', '.join(quote_literal(value) for value in row)})" for row in rows)
    counts = ", ".join(f"{name}::BIGINT AS {name}" for name in ("files_before", "files_after", "bytes_before", "bytes_after"))
    sql = (
        f'SELECT {quote_literal(now)} AS done_at, {quote_literal(run)} AS run, operation, "table", {counts}, '
        "detail::VARCHAR AS detail, error::VARCHAR AS error "
        f'FROM (VALUES {values}) AS done(operation, "table", files_before, files_after, bytes_before, bytes_after, detail, error)'
    )
    with lake.connect(()) as session:
        lake.append(session.con, table, sql, stamp=Stamp(asset=table, run=run, code="maintenance-1"))
