"""What processes that were killed left in a home outside of any table: found by age and by whose they were."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from lakehouse.contracts import Contracts
from lakehouse.settings import Settings
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake
from lakehouse.tables.spill import remove_stale_spill, stale_spill
from lakehouse.tables.stored import StoredFile

_LOG = "_delta_log"


@dataclass(frozen=True, slots=True)
class Leftovers:
    """One kind of things that nobody needs: what it is, how many files (or rows) and bytes."""

    kind: str
    files: int
    bytes: int


def remove_leftovers(
    settings: Settings, lake: Lake, contracts: Contracts, *, run: str, now: datetime, older_than: timedelta, dry_run: bool
) -> list[Leftovers]:
    """Remove what lies around a home, or only say what there is.

    Args:
        settings: of the home.
        lake: its tables.
        contracts: whose quarantined rows of dead batches are removed.
        run: recorded with commits.
        now: the time it is.
        older_than: files younger than this may belong to a living process.
        dry_run: only look.
    """
    since = now - older_than
    strays = list(_strays(lake, since))
    if not dry_run:
        lake.storage.delete(file.path for file in strays)
    spill = stale_spill(settings.spill_dir)
    if not dry_run:
        remove_stale_spill(settings.spill_dir)
    targets = [folder for folder in _old_folders(settings.dbt_home / "runs", since)]
    targets_size = [_size(folder) for folder in targets]
    if not dry_run:
        for folder in targets:
            shutil.rmtree(folder, ignore_errors=True)
    return [
        Leftovers("files outside of tables", len(strays), sum(file.size_bytes for file in strays)),
        Leftovers("spilled by dead processes", spill.files, spill.bytes),
        Leftovers("abandoned dbt targets", sum(size[0] for size in targets_size), sum(size[1] for size in targets_size)),
        Leftovers("quarantined rows of dead batches", _dead_rows(settings, lake, contracts, run=run, dry_run=dry_run), 0),
    ]


def _strays(lake: Lake, since: datetime) -> Iterator[StoredFile]:
    """Drafts of files that never got their name, and data files in folders that never became a table."""
    tables = {f"{table.layer}/{table.name}" for table in lake.tables()}
    for file in lake.storage.walk():
        parts = file.path.split("/")
        is_draft = parts[-1].startswith(".") and parts[-1].endswith(".tmp")
        is_homeless = len(parts) > 2 and parts[0] != "files" and "/".join(parts[:2]) not in tables and file.path.endswith(".parquet")
        if file.modified < since and (is_draft or (is_homeless and _LOG not in parts)):
            yield file


def _old_folders(folder: Path, since: datetime) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        newest = max((one.stat().st_mtime for one in (path, *path.rglob("*")) if one.exists()), default=since.timestamp())
        if path.is_dir() and newest < since.timestamp():
            yield path


def _size(folder: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def _dead_rows(settings: Settings, lake: Lake, contracts: Contracts, *, run: str, dry_run: bool) -> int:
    """Rows in quarantine whose batch never counted; those of a batch that may be under way are left."""
    from lakehouse.ingest.dead import counted_condition, remove_dead
    from lakehouse.ingest.known import KnownFiles

    found = 0
    for contract in contracts.datasets.values():
        if not lake.exists(contract.quarantine) or not lake.exists(contract.raw):
            continue
        counted = counted_condition(lake.history(contract.raw), lake.history(contract.quarantine))
        newest = lake.transaction(contract.raw, f"ingest.{contract.name}")
        with lake.connect([contract.quarantine]) as session:
            query = f"SELECT count(*) FROM {contract.quarantine} WHERE NOT ({counted}) AND _batch <= {quote_literal(newest or 0)}"
            row = session.con.execute(query).fetchone()
            dead = int(row[0]) if row else 0
            if dead and not dry_run:
                remove_dead(lake, session.con, contract, KnownFiles(lake, contract, settings), run=run)
        found += dead
    return found
