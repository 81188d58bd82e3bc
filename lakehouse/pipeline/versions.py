"""Versions as people use them: what differs between two of them, and the way back to one."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lakehouse.errors import ContractNotFound, TableError
from lakehouse.ingest import DatasetRestore, restore_dataset
from lakehouse.ingest.landing import landing_files
from lakehouse.openlineage import job
from lakehouse.pipeline.overview import require_table
from lakehouse.pipeline.workspace import Workspace
from lakehouse.tables import Commit, Stamp, TableName
from lakehouse.tables.diff import TableDiff, diff_snapshots
from lakehouse.tables.versions import AsOf

# What a row of a table is known by when it came out of a file.
_LINE = ("_sha256", "_row")


@dataclass(frozen=True, slots=True)
class TableRestore:
    """A table's restore.

    Attributes:
        commit: to the table; skipped where it was at that version already.
        to: the version whose rows it has now.
        dataset: what else was done, where the table is a dataset's raw table.
        in_landing: removed files that lie in the landing folder, so that the next look brings them in again.
        is_derived: it is made from other tables, so that the next run brings it up to date again.
    """

    commit: Commit
    to: int
    dataset: DatasetRestore | None
    in_landing: tuple[Path, ...]
    is_derived: bool


def diff_versions(
    workspace: Workspace, table: str, before: AsOf, after: AsOf, *, key: Sequence[str] = (), limit: int = 10, out: Path | None = None
) -> TableDiff:
    """Compare two versions of a table, by its own key unless one is given.

    Raises:
        TableNotFound: there is no such table or version.
        SchemaMismatch: a column of the given key is not in both versions.
    """
    lake = workspace.lake
    name = require_table(lake, table)
    old, new = lake.snapshot(name, before), lake.snapshot(name, after)
    if not key:
        both = {column.name for column in old.columns} & {column.name for column in new.columns}
        key = next((one for one in _keys(workspace, name) if one and set(one) <= both), ())
    con = lake.open_connection()
    try:
        since, until = sorted((old.version, new.version))
        return diff_snapshots(con, old, new, key=key, limit=limit, out=out, changes=lambda: lake.changes(name, since, until))
    finally:
        con.close()


def _keys(workspace: Workspace, table: TableName) -> Iterator[tuple[str, ...]]:
    """What may tell the rows of a table apart, the surest first."""
    contracts = workspace.contracts
    if table.layer in {"raw", "quarantine"}:
        yield _LINE
    if table.layer in {"raw", "staging"} and table.name in contracts.datasets:
        yield contracts.datasets[table.name].primary_key or ("row_id",)
    yield from _dbt_keys(workspace, table)
    if table.layer == "models":
        for model in contracts.models.values():
            if table.name in {f"{model.name}_training_set", f"{model.name}_predictions"}:
                dataset = contracts.datasets.get(model.dataset)
                yield dataset.primary_key if dataset is not None else ()


def _dbt_keys(workspace: Workspace, table: TableName) -> Iterator[tuple[str, ...]]:
    """The unique_key of the model that makes the table, from dbt's newest manifest; parsing the project would take seconds."""
    manifests = sorted((workspace.settings.dbt_home / "parsed").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not manifests:
        return
    nodes: dict[str, Any] = json.loads(manifests[-1].read_text(encoding="utf-8")).get("nodes", {})
    for node in nodes.values():
        if (node.get("schema"), node.get("alias")) == (table.layer, table.name):
            unique = (node.get("config") or {}).get("unique_key") or ()
            yield (unique,) if isinstance(unique, str) else tuple(unique)


def restore_table(workspace: Workspace, table: str, to: AsOf, *, run: str, now: datetime) -> TableRestore:
    """Give a table the rows of one of its versions; of a dataset's raw table, quarantine follows.

    Raises:
        TableNotFound: there is no such table or version.
        TableError: it can't be restored: its files are gone, or it follows another table.
        ConcurrentWrite: other processes wrote without pause.
    """
    with job(workspace.settings, workspace.lake, "restore", table, run=run):
        return _restore(workspace, table, to, run=run, now=now)


def _restore(workspace: Workspace, table: str, to: AsOf, *, run: str, now: datetime) -> TableRestore:
    lake = workspace.lake
    name = require_table(lake, table)
    if name.layer == "quarantine" and name.name in workspace.contracts.datasets:
        raise TableError(
            table,
            "holds the rejected rows of what is in raw, and is restored with it",
            fix=f"Restore raw.{name.name}; quarantine follows",
        )
    version = lake.resolve(name, to)
    if name.layer == "raw":
        try:
            contract = workspace.contracts.dataset(name.name)
        except ContractNotFound:
            contract = None
        if contract is not None:
            done = restore_dataset(lake, contract, version, settings=workspace.settings, run=run, now=now)
            gone = {file.file for file in done.removed}
            waiting = tuple(path for path in landing_files(contract, workspace.settings) if path.name in gone)
            return TableRestore(done.raw, done.to, done, waiting, is_derived=False)
    commit = lake.restore(name, version, stamp=Stamp(str(name), run, code="restore"))
    newest = lake.history(name, limit=50)
    is_derived = any(info.stamp is not None and info.stamp.inputs and info.restored is None for info in newest)
    return TableRestore(commit, version, None, (), is_derived=is_derived)
