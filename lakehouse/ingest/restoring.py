"""A dataset back to what it was: raw and quarantine together, as one of raw's versions had them.

Raw goes first, and its commit is the moment the restore counts; quarantine follows. A process killed between the two leaves that
to whoever ingests or restores next, and until then the quarantined rows of undone batches do not count.

The restore takes the next batch number. So a batch that was prepared before it finds that it no longer follows the newest one and
looks again, and batch numbers never mean two things.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from lakehouse.contracts import DatasetContract
from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ConcurrentWrite, TableNotFound
from lakehouse.ingest.known import KnownFiles, app_id, batch_of, files_of, mark_of
from lakehouse.ingest.recording import index_batches
from lakehouse.ingest.waiting import current_rows_sql
from lakehouse.settings import Settings
from lakehouse.sql import quote_literal
from lakehouse.tables import RESTORED, Commit, CommitInfo, Lake, Stamp, Transaction, in_force
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.sources import inner

_FOLLOWED = "ingest.restored"
"""Transaction of the quarantine table: the newest restore of raw that it has followed."""
_EMPTIED = "emptied"


@dataclass(frozen=True, slots=True)
class FileMoved:
    """A file whose rows a restore took away or brought back."""

    file: str
    sha256: str
    batch: int
    rows_accepted: int
    rows_quarantined: int


@dataclass(frozen=True, slots=True)
class DatasetRestore:
    """What a restore did.

    Attributes:
        raw: the commit to raw; skipped where there was nothing to do.
        to: the version of raw that was restored.
        quarantine: the commit to quarantine, None where nothing was to be done.
        removed: files whose rows went; raw does not know them any more, so they can be ingested again.
        returned: files whose rows came back.
        undecided: quarantined rows that had been replayed or discarded, and wait again.
    """

    raw: Commit
    to: int
    quarantine: Commit | None
    removed: tuple[FileMoved, ...]
    returned: tuple[FileMoved, ...]
    undecided: int


def restore_dataset(
    lake: Lake, contract: DatasetContract, to: int | datetime | str, *, settings: Settings, run: str, now: datetime
) -> DatasetRestore:
    """Give raw the rows of one of its versions, and quarantine those that belong to it.

    Files that came later are new again: they can be ingested once more, and the next look at the landing folder does so with those
    that still lie there. Restoring a later version brings rows back as they were.

    Args:
        lake: holds the tables.
        contract: of the dataset.
        to: a version of raw, an instant or a tag.
        settings: of the home.
        run: recorded in the commits.
        now: recorded in the commits.

    Raises:
        TableNotFound: raw has no such version, or quarantine none that belongs to it.
        TableError: data files of the version are gone.
        ConcurrentWrite: other processes ingested without pause.
    """
    attempt = 1
    while True:
        follow_restore(lake, contract, run=run)
        current = lake.snapshot(contract.raw).version
        version = lake.resolve(contract.raw, to)
        _check(lake, contract, version)
        before, after = (_files(lake, contract, at) for at in (current, version))
        decided = _decided(lake, contract, after)
        number = 1 + max(
            lake.transaction(table, app_id(contract)) or 0 for table in (contract.raw, contract.quarantine) if lake.exists(table)
        )
        moved = {"files_removed": len(before.keys() - after.keys()), "files_returned": len(after.keys() - before.keys())}
        stamp = Stamp(
            contract.raw, run, code="restore", source={"restored": {"version": version, "number": number, "at": now.isoformat(), **moved}}
        )
        if version == current:
            commit = Commit(lake.snapshot(contract.raw).table, current, current, skipped=True)
        else:
            try:
                commit = lake.restore(
                    contract.raw, version, stamp=stamp, transaction=Transaction(app_id(contract), number), expect_version=current
                )
            except ConcurrentWrite:
                wait_after_conflict(contract.raw, attempt, undone="nothing was restored")
                attempt += 1
                continue
            reached(Point.MID_RESTORE)
        followed = follow_restore(lake, contract, run=run)
        _complete(lake, contract, settings)
        undecided = max(0, decided - _decided(lake, contract, after))
        return DatasetRestore(commit, version, followed, _moved(before, after), _moved(after, before), undecided)


def follow_restore(lake: Lake, contract: DatasetContract, *, run: str) -> Commit | None:
    """Bring quarantine to where raw's newest restore went, if that is still to be done.

    It must be done before the next batch writes to quarantine.
    """
    restored = lake.transaction(contract.raw, RESTORED)
    if restored is None or not lake.exists(contract.quarantine):
        return None
    if (lake.transaction(contract.quarantine, _FOLLOWED) or -1) >= restored:
        return None
    transaction = Transaction(_FOLLOWED, restored)
    stamp = Stamp(contract.quarantine, run, inputs={contract.raw: restored}, code="restore")
    history = lake.history(contract.quarantine)
    version = _quarantine_at(lake.history(contract.raw), history, restored)
    if version is not None and version != history[0].version:
        return lake.restore(contract.quarantine, version, stamp=stamp, transaction=transaction)
    con = lake.open_connection()
    try:
        if version is None:
            emptied = Stamp(contract.quarantine, run, inputs=stamp.inputs, code=stamp.code, source={_EMPTIED: True})
            return lake.delete(con, contract.quarantine, "true", stamp=emptied, transaction=transaction)
        # It has the right rows; that it has followed must be known all the same, or a later batch would be taken for one to undo.
        nothing = f"SELECT * FROM {inner(lake.scan_sql(contract.quarantine, con=con))} WHERE false"
        return lake.append(con, contract.quarantine, nothing, stamp=stamp, transaction=transaction)
    finally:
        con.close()


def _check(lake: Lake, contract: DatasetContract, version: int) -> None:
    """Raise if the version can't be restored in both tables, before anything is changed."""
    lake.check_restore(contract.raw, version)
    if lake.exists(contract.quarantine):
        found = _quarantine_at(lake.history(contract.raw), lake.history(contract.quarantine), version)
        if found is not None:
            lake.check_restore(contract.quarantine, found)


def _quarantine_at(raw: Sequence[CommitInfo], quarantine: Sequence[CommitInfo], version: int) -> int | None:
    """The newest version of quarantine that has the rows of exactly those batches that a version of raw has; None: it had none.

    Args:
        raw: raw's log, newest first.
        quarantine: quarantine's log, newest first.
        version: of raw.

    Raises:
        TableNotFound: the log of that time is gone.
    """
    counted = {key for commit in raw if (key := _key(commit)) is not None}
    keys = {key for commit in quarantine if (key := _key(commit)) is not None} & counted
    wanted = _sum({key for commit in in_force(raw, version) if (key := _key(commit)) is not None} & keys)
    # Every version as a number that is the same for the same batches: comparing sets of thousands would take too long.
    states: dict[int, int] = {}
    state = 0
    found = None
    for commit in reversed(quarantine):
        key = _key(commit)
        if commit.restored is not None:
            state = states.get(commit.restored, 0)
        elif commit.stamp is not None and commit.stamp.source and _EMPTIED in commit.stamp.source:
            state = 0
        elif key in keys:
            state ^= _number(key)
        states[commit.version] = state
        if state == wanted:
            found = commit.version
    if found is None and wanted:
        raise TableNotFound(
            f"quarantine of {raw[0].table}@{version}",
            "can't be found in its log",
            expected="the log from its first commit on",
            fix="Choose a newer version",
        )
    return found


def _key(commit: CommitInfo) -> str | None:
    """What the two commits of one batch have in common, and those of no other."""
    number = batch_of(commit)
    return None if number is None else f"{number} {mark_of(commit)}"


def _number(key: str | None) -> int:
    return int.from_bytes(hashlib.sha256(str(key).encode()).digest(), "big")


def _sum(keys: Iterable[str]) -> int:
    total = 0
    for key in keys:
        total ^= _number(key)
    return total


def _files(lake: Lake, contract: DatasetContract, version: int) -> dict[str, FileMoved]:
    """The files whose rows a version of raw has."""
    return {
        str(file["sha256"]): FileMoved(
            str(file["file"]), str(file["sha256"]), batch_of(commit) or 0, int(file["rows_accepted"]), int(file["rows_quarantined"])
        )
        for commit in in_force(lake.history(contract.raw), version)
        for file in files_of(commit)
    }


def _decided(lake: Lake, contract: DatasetContract, files: Iterable[str]) -> int:
    """How many quarantined rows of these files people have decided on."""
    if not lake.exists(contract.quarantine):
        return 0
    digests = ", ".join(quote_literal(digest) for digest in files)
    con = lake.open_connection()
    try:
        rows = current_rows_sql(lake, contract.name, con=con)
        found = con.execute(f"SELECT count(*) FROM ({rows}) WHERE status <> 'waiting' AND _sha256 IN ({digests or 'NULL'})").fetchone()
    finally:
        con.close()
    return int(found[0]) if found else 0


def _moved(there: dict[str, FileMoved], not_there: dict[str, FileMoved]) -> tuple[FileMoved, ...]:
    return tuple(sorted((file for digest, file in there.items() if digest not in not_there), key=lambda file: (file.batch, file.file)))


def _complete(lake: Lake, contract: DatasetContract, settings: Settings) -> None:
    """The indexes of the raw log, so that nobody has to find out for himself."""
    KnownFiles(lake, contract, settings).catch_up()
    con = lake.open_connection()
    try:
        index_batches(lake, con, contract)
    finally:
        con.close()
