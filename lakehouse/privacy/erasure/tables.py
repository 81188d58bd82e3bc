"""One person out of one Delta table: out of its newest version by a commit, then out of its past."""

import json
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import PrivacyError
from lakehouse.privacy.erasure.history import Log, Successor, files_added, files_in, log_of, replace_files
from lakehouse.privacy.erasure.rows import Cleaned, Found, Manner, clean_file, find_rows
from lakehouse.privacy.erasure.subject import Identifiers
from lakehouse.privacy.erasure.tree import Tree
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.log import CommitLog
from lakehouse.tables.names import TableName
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.writing import Conflict, Intent, TableWriter, Written

_NAMES = uuid.UUID("6a1d1f4e-54c6-4f43-9d9e-0d5a6c1a7e11")
_MOST_ROUNDS = 5
# Delta and DuckDB leave alone what begins with an underscore.
_NOTE = "_erasing.json"
_IN_FLIGHT = timedelta(hours=1)
"""A data file that no version names may belong to a writer that has not committed yet, unless it is older than this."""


@dataclass(frozen=True, slots=True)
class ErasedTable:
    """What was done to a table.

    Attributes:
        table: `layer.name`.
        rows_now: rows of the subject in the newest version, before.
        rows_ever: rows of the subject in all data files; the same row counts in each file that has it.
        masked: other rows in which a mention was masked.
        files: data files that were written again, or went whole.
        commits: entries of the log that were changed.
        version: the newest version afterwards.
        waiting: files that may belong to a writer that has not committed yet; erase again in an hour.
    """

    table: str
    rows_now: int = 0
    rows_ever: int = 0
    masked: int = 0
    files: int = 0
    commits: int = 0
    version: int | None = None
    waiting: tuple[str, ...] = ()

    @property
    def is_touched(self) -> bool:
        """Whether anything of the subject was there."""
        return bool(self.rows_ever or self.masked or self.files or self.commits or self.waiting)


@dataclass(frozen=True, slots=True)
class Work:
    """What every step needs: the files, a connection that reads them, the subject and a name for this erasure.

    Attributes:
        known_clean: addresses of contents that have nothing of the subject, where an address always has the same content.
    """

    tree: Tree
    con: duckdb.DuckDBPyConnection
    who: Identifiers
    erasure: str
    now: datetime
    scratch: Path
    dry_run: bool = False
    known_clean: set[str] | None = None


def erase_table(lake: Lake, table: TableName, work: Work, manner: Manner, *, stamp: Stamp) -> ErasedTable:
    """Take a subject's rows out of every version of a table and mask mentions in the others; every other row stays as it is.

    The newest version changes first, by a commit that other writers see: what they write afterwards is built without the
    subject. Then the past is rewritten; versions, their numbers, times and all other rows stay.

    Raises:
        PrivacyError: the table has what can't be rewritten.
        ConcurrentWrite: other writers never paused.
    """
    total = ErasedTable(str(table))
    for _ in range(_MOST_ROUNDS):
        done = _round(lake, table, work, manner, stamp)
        total = added(total, done)
        if work.dry_run or not done.files:
            break
    version = lake.version(table)
    return ErasedTable(str(table), total.rows_now, total.rows_ever, total.masked, total.files, total.commits, version, total.waiting)


def erase_past(work: Work, folder: str, manner: Manner) -> ErasedTable:
    """The same for a table that nobody writes to, such as one in a backup: no commit is added.

    Raises:
        PrivacyError: the table has what can't be rewritten.
    """
    found = _find(work, folder, manner)
    if work.dry_run:
        return _counted(folder, found, work, commits=0)
    with tempfile.TemporaryDirectory(prefix="erase-", dir=work.scratch) as scratch:
        cleaned = _clean(work, folder, found, manner, Path(scratch))
        rewritten = replace_files(work.tree, folder, cleaned.successors, work.who.masked)
        work.tree.delete(f"{folder}/{path}" for path in [*cleaned.successors, *found.orphans])
    return _counted(folder, found, work, commits=rewritten.commits)


@dataclass(frozen=True, slots=True)
class _Findings:
    """Files of a table that have something of the subject, by path in the table's folder; orphans are in no version."""

    log: Log
    named: Mapping[str, Found]
    whole: frozenset[str]
    orphans: Mapping[str, Found]
    young: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Cleaned:
    """Successors by old path, and the rows of each."""

    successors: Mapping[str, Successor | None]
    rows: Mapping[str, int]


def _find(work: Work, folder: str, manner: Manner) -> _Findings:
    log = log_of(work.tree, folder)
    in_versions = files_in(work.tree, folder, log)
    there = {file.path.removeprefix(f"{folder}/"): file for file in work.tree.walk(folder) if "/_delta_log/" not in file.path}
    data = {path: file for path, file in there.items() if path.endswith(".parquet")}
    found = _search(work, {path: work.tree.address(f"{folder}/{path}") for path in data}, manner)
    # A partition's value is in the path and not in the file.
    whole = frozenset(path for path in {*data, *in_versions} if _is_of_partition(path, work.who, manner))
    for path in whole & set(data):
        rows = found[path].rows if path in found else _rows(work, folder, path)
        found[path] = Found(work.tree.address(f"{folder}/{path}"), rows, rows, 0)
    for path, has_dead_rows in in_versions.items():
        if has_dead_rows and path in found:
            raise PrivacyError(folder, "has deletion vectors that another engine wrote", fix="Rewrite it with overwrite, then erase again")
    orphans = {path: one for path, one in found.items() if path not in in_versions}
    ours = set(_noted(work, folder)["files"])
    young = tuple(sorted(path for path in orphans if path not in ours and work.now - there[path].modified < _IN_FLIGHT))
    named = {path: one for path, one in found.items() if path in in_versions}
    return _Findings(log, named, whole, {path: one for path, one in orphans.items() if path not in young}, young)


def _search(work: Work, addresses: Mapping[str, str], manner: Manner) -> dict[str, Found]:
    """What each file has of the subject; where addresses name contents, each is looked into once."""
    known = work.known_clean if work.known_clean is not None else set[str]()
    new = sorted({address for address in addresses.values() if address not in known})
    by_address = {one.address: one for one in find_rows(work.con, new, work.who, manner)}
    if work.known_clean is not None:
        work.known_clean.update(address for address in new if address not in by_address)
    return {path: by_address[address] for path, address in addresses.items() if address in by_address}


def _round(lake: Lake, table: TableName, work: Work, manner: Manner, stamp: Stamp) -> ErasedTable:
    folder = f"{table.layer}/{table.name}"
    found = _find(work, folder, manner)
    if work.dry_run:
        return _counted(str(table), found, work, commits=0)
    with tempfile.TemporaryDirectory(prefix="erase-", dir=work.scratch) as scratch:
        cleaned = _clean(work, folder, found, manner, Path(scratch))
        rows_now = _commit(lake, table, found, cleaned, stamp)
        checkpoints = _note(work, folder, found)
        rewritten = replace_files(work.tree, folder, cleaned.successors, work.who.masked)
    still = _added_again(work, folder, found.log, cleaned.successors)
    work.tree.delete(f"{folder}/{path}" for path in [*cleaned.successors, *found.orphans] if path not in still)
    reached(Point.MID_ERASE)
    _make_checkpoints(lake, folder, checkpoints if checkpoints else rewritten.checkpoints)
    work.tree.delete([f"{folder}/{_NOTE}"])
    return _counted(str(table), found, work, commits=rewritten.commits, rows_now=rows_now)


def _clean(work: Work, folder: str, found: _Findings, manner: Manner, scratch: Path) -> _Cleaned:
    """Write the successors of all files that have something of the subject."""
    successors: dict[str, Successor | None] = {path: None for path in found.whole}
    rows: dict[str, int] = {}
    for path, one in found.named.items():
        if path in found.whole or one.theirs == one.rows:
            successors[path] = None
            continue
        made = _clean_one(work, folder, path, manner, scratch)
        successors[path] = Successor(made.path.name, made.size_bytes, made.stats)
        rows[path] = made.rows
    return _Cleaned(successors, rows)


def _clean_one(work: Work, folder: str, path: str, manner: Manner, scratch: Path) -> Cleaned:
    # Its name follows from the old one's: done again after a crash, it takes the same place.
    name = f"part-{uuid.uuid5(_NAMES, f'{work.erasure}/{folder}/{path}')}.parquet"
    made = clean_file(work.con, work.tree.address(f"{folder}/{path}"), scratch / name, work.who, manner)
    inside, slash, _ = path.rpartition("/")
    work.tree.put(made.path, f"{folder}/{inside}{slash}{name}")
    made.path.unlink(missing_ok=True)
    reached(Point.MID_ERASE)
    return made


def _commit(lake: Lake, table: TableName, found: _Findings, cleaned: _Cleaned, stamp: Stamp) -> int:
    """Take the old files out of the newest version; returns the subject's rows in it."""
    writer = TableWriter(lake.storage, table, CommitLog(lake.storage, table))
    attempt = 1
    while cleaned.successors:
        snapshot = writer.open()
        if snapshot is None:
            return 0
        live = [file for file in snapshot.files if file.path in cleaned.successors]
        if not live:
            return 0
        made_ms = int(time.time() * 1000)
        actions: list[AddAction] = []
        for file in live:
            new = cleaned.successors[file.path]
            if new is not None:
                inside, slash, _ = file.path.rpartition("/")
                actions.append(AddAction(f"{inside}{slash}{new.name}", new.size_bytes, dict(file.partition), made_ms, True, new.stats))
        theirs = sum(found.named[file.path].theirs for file in live if file.path in found.named)
        kept = sum(cleaned.rows.get(file.path, 0) for file in live)
        written = Written(actions, rows=kept, size_bytes=sum(action.size for action in actions))
        try:
            writer.change(snapshot, written, live, Intent("erase", stamp), rows=theirs)
        except Conflict:
            wait_after_conflict(table, attempt)
            attempt += 1
            continue
        reached(Point.AFTER_COMMIT)
        return theirs
    return 0


def _added_again(work: Work, folder: str, before: Log, successors: Mapping[str, Successor | None]) -> set[str]:
    """Old files that a commit made meanwhile (a restore, say) names again: they stay for the next round."""
    if not successors:
        return set()
    known = before.commits[-1] if before.commits else -1
    later = tuple(version for version in log_of(work.tree, folder).commits if version > known)
    return files_added(work.tree, folder, later) & set(successors)


def _note(work: Work, folder: str, found: _Findings) -> tuple[int, ...]:
    """Note beside the data what is about to go, for whoever takes over from a killed process; returns the checkpoints to be made anew."""
    if not found.named and not found.whole:
        return ()
    noted = _noted(work, folder)
    files = sorted({*noted["files"], *found.named, *found.whole})
    checkpoints = sorted({*noted["checkpoints"], *(int(name[:20]) for name in found.log.checkpoints if found.log.is_complete)})
    work.tree.write(f"{folder}/{_NOTE}", json.dumps({"files": files, "checkpoints": checkpoints}).encode())
    return tuple(checkpoints)


def _noted(work: Work, folder: str) -> dict[str, list[Any]]:
    content = work.tree.read(f"{folder}/{_NOTE}")
    return {"files": [], "checkpoints": []} if content is None else json.loads(content)


def _make_checkpoints(lake: Lake, folder: str, versions: tuple[int, ...]) -> None:
    """Make those that were taken away anew, oldest first, so that the last one is the newest."""
    for version in versions:
        table = DeltaTable(lake.storage.address(folder), version=version, storage_options=lake.storage.options or None)
        table.create_checkpoint()
        reached(Point.MID_CHECKPOINT)


def _rows(work: Work, folder: str, path: str) -> int:
    from lakehouse.sql import quote_literal
    from lakehouse.tables.sql import glob_escape

    address = quote_literal(glob_escape(work.tree.address(f"{folder}/{path}")))
    found = work.con.execute(f"SELECT count(*) FROM read_parquet({address})").fetchone()
    return int(found[0]) if found else 0


def _is_of_partition(path: str, who: Identifiers, manner: Manner) -> bool:
    by_key = {name.casefold(): values for name, values in who.columns.items()} if manner.shares_columns else {}
    for part in path.split("/")[:-1]:
        name, equals, value = part.partition("=")
        text = unquote(value)
        if equals and (text in by_key.get(name.casefold(), ()) or text in who.words):
            return True
    return False


def _counted(table: str, found: _Findings, work: Work, *, commits: int, rows_now: int = 0) -> ErasedTable:
    every = [*found.named.values(), *found.orphans.values()]
    return ErasedTable(
        table,
        rows_now=rows_now,
        rows_ever=sum(one.theirs for one in every),
        masked=sum(one.mentions for one in every),
        files=len(every),
        commits=commits,
        waiting=found.young,
    )


def added(total: ErasedTable, more: ErasedTable) -> ErasedTable:
    """What two looks at a table came to together."""
    return ErasedTable(
        total.table,
        total.rows_now + more.rows_now,
        total.rows_ever + more.rows_ever,
        total.masked + more.masked,
        total.files + more.files,
        total.commits + more.commits,
        more.version,
        more.waiting,
    )
