"""What is already ingested: a local index of the raw log, and digests of files that have not changed.

The truth is the log of the raw table (`lakehouse.source` of its commits). The index remembers how far it has read that log, so
that looking costs as much as there are new commits, however many files there have been. It can be deleted at any time.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.archive import digest_of
from lakehouse.ingest.arrivals import Arrived, Looks, looks_of
from lakehouse.ingest.topic_pages import Covered, Offsets, TopicPage
from lakehouse.settings import Settings
from lakehouse.tables import CommitInfo, Lake, in_force
from lakehouse.tables.log import CommitLog
from lakehouse.tables.names import TableName

# Another number makes the index be made anew: it held less before.
_FORMAT = 6
_SCHEMA = """
CREATE TABLE IF NOT EXISTS progress (raw TEXT PRIMARY KEY, version INTEGER NOT NULL, mark TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS looks (quarantine TEXT PRIMARY KEY, version INTEGER NOT NULL, mark TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS restores (raw TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ingested (raw TEXT, sha256 TEXT, batch INTEGER NOT NULL, rows_read INTEGER, rows_accepted INTEGER,
    rows_quarantined INTEGER, file TEXT, archive TEXT, replaced_by TEXT, PRIMARY KEY (raw, sha256)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS names ON ingested (raw, file);
CREATE INDEX IF NOT EXISTS arrivals ON ingested (raw, batch);
CREATE TABLE IF NOT EXISTS offsets (raw TEXT, topic TEXT, partition INTEGER, first INTEGER, last INTEGER,
    PRIMARY KEY (raw, topic, partition, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS topics (raw TEXT, topic TEXT, id TEXT, PRIMARY KEY (raw, topic, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (raw TEXT, batch INTEGER, mark TEXT NOT NULL, PRIMARY KEY (raw, batch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (raw TEXT, sha256 TEXT, contract TEXT, error TEXT, PRIMARY KEY (raw, sha256)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS looked (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mark NOT NULL,
    sha256 TEXT NOT NULL) WITHOUT ROWID;
"""


_FILE_COLUMNS = "sha256, batch, rows_read, rows_accepted, rows_quarantined, file, archive, replaced_by"


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A content that was ingested, with its numbers as they were then.

    Attributes:
        file: the name it arrived under.
        archive: where its bytes are, relative to the root.
        replaced_by: digest of the content that took its place; none of its rows counts since then.
    """

    sha256: str
    batch: int
    rows_read: int
    rows_accepted: int
    rows_quarantined: int
    file: str = ""
    archive: str | None = None
    replaced_by: str | None = None


@dataclass(frozen=True, slots=True)
class SeenFile:
    """The digest of a file that looked like this."""

    path: Arrived
    looks: Looks
    sha256: str


def app_id(contract: DatasetContract) -> str:
    """The transaction that numbers the batches of a dataset, in raw and in quarantine."""
    return f"ingest.{contract.name}"


def files_of(commit: CommitInfo) -> list[Mapping[str, Any]]:
    """The files a raw commit accounts for."""
    return _listed(commit, "files")


def replaced_of(commit: CommitInfo) -> list[Mapping[str, Any]]:
    """The files whose rows a raw commit took out, each with the digest (`by`) of the one that took its place."""
    return _listed(commit, "replaced")


def changes_of(commit: CommitInfo) -> list[Mapping[str, Any]]:
    """What a commit did to quarantined rows of earlier batches, by file: how many it accepted, discarded or left waiting."""
    return _listed(commit, "changes")


def batch_of(commit: CommitInfo) -> int | None:
    """The batch a raw commit made, None for commits of other kinds."""
    batch = _source(commit).get("batch")
    return int(str(batch)) if batch is not None else None


def number_of(commit: CommitInfo) -> int | None:
    """The number that a raw commit took: a batch's own, or the one that a restore made unusable."""
    restored: Any = ((commit.stamp.source if commit.stamp is not None else None) or {}).get("restored")
    return int(restored["number"]) if commit.restored is not None and restored else batch_of(commit)


def mark_of(commit: CommitInfo) -> str:
    """What the two commits of one batch have in common, and those of no other."""
    source = _source(commit)
    return str(source.get("attempt") or hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest())


def _source(commit: CommitInfo) -> Mapping[str, Any]:
    if commit.stamp is None or commit.stamp.source is None or commit.is_preparation:
        return {}
    return commit.stamp.source


def _listed(commit: CommitInfo, name: str) -> list[Mapping[str, Any]]:
    listed: Any = _source(commit).get(name, [])
    return list(listed)


def cuts_one(known: "KnownFiles", page: TopicPage) -> bool:
    """Whether a page that was read again holds a part only of one that counts: another has come between, and it can't take its place."""
    found = (TopicPage.of(file.file) for file in known.pages_below(page))
    return any(not page.offsets.contains(one.offsets) for one in found if one is not None)


class KnownFiles:
    """The index of one dataset."""

    def __init__(self, lake: Lake, contract: DatasetContract, settings: Settings) -> None:
        self._contract = contract
        self._raw_log, self._quarantine_log = (
            CommitLog(lake.storage, TableName.parse(name)) for name in (contract.raw, contract.quarantine)
        )
        self._raw = lake.storage.address(*contract.raw.split("."))
        self._quarantine = lake.storage.address(*contract.quarantine.split("."))
        self._path = settings.home_dir / "index" / "files.sqlite"
        self._path.parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            # Losing the index costs reading the log again.
            database.execute("PRAGMA synchronous=OFF")
            self._prepare(database)
            yield database

    @staticmethod
    def _prepare(database: sqlite3.Connection) -> None:
        if database.execute("PRAGMA user_version").fetchone() == (_FORMAT,):
            return
        database.execute("BEGIN IMMEDIATE")
        if database.execute("PRAGMA user_version").fetchone() != (_FORMAT,):
            for table in ("ingested", "offsets", "topics", "batches", "progress", "restores"):
                database.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {_FORMAT}")
        database.execute("COMMIT")

    def catch_up(self) -> None:
        """Read what was committed to raw since the last look."""
        while not self._catch_up():
            pass

    def _catch_up(self) -> bool:
        """False if another process has changed the index meanwhile."""
        versions = self._raw_log.versions()
        with self._database() as database:
            if not versions:
                self._forget(database)
                return True
            seen = self._seen(database, versions[-1])
            commits = self._raw_log.commits([version for version in reversed(versions) if version > seen])
            if not commits:
                return True
            is_restored = any(commit.restored is not None for commit in commits)
            if is_restored:
                commits = list(in_force(self._raw_log.commits(versions[::-1])))
            database.execute("BEGIN IMMEDIATE")
            if self._progress(database) != seen:
                database.execute("ROLLBACK")
                return False
            if is_restored:
                self._forget(database)
                restore = next(commit.version for commit in commits if commit.restored is not None)
                database.execute("INSERT INTO restores VALUES (?, ?)", (self._raw, restore))
            for commit in reversed(commits):
                self._index(database, commit)
            database.execute("INSERT OR REPLACE INTO progress VALUES (?, ?, ?)", (self._raw, commits[0].version, _mark(commits[0])))
            database.execute("COMMIT")
        return True

    def _progress(self, database: sqlite3.Connection) -> int:
        row = database.execute("SELECT version FROM progress WHERE raw = ?", (self._raw,)).fetchone()
        return -1 if row is None else int(row[0])

    def _index(self, database: sqlite3.Connection, commit: CommitInfo) -> None:
        batch = batch_of(commit)
        if batch is None:
            return
        database.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?)", (self._raw, batch, mark_of(commit)))
        rows = [
            (
                self._raw, file["sha256"], batch, file["rows_read"], file["rows_accepted"], file["rows_quarantined"],
                file.get("file", ""), file.get("archive"),
            )
            for file in files_of(commit)
        ]  # fmt: skip
        database.executemany("INSERT OR REPLACE INTO ingested VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", rows)
        # Whoever fetched an object has said so: it need not be fetched again to be known.
        fetched = [(file["uri"], file["bytes"], file["etag"], file["sha256"]) for file in files_of(commit) if "uri" in file]
        database.executemany("INSERT OR REPLACE INTO looked VALUES (?, ?, ?, ?)", fetched)
        for file in files_of(commit):
            if "offsets" in file:
                for begin, end in (file["offsets"], *file.get("lost", ())):
                    self._cover(database, str(file["topic"]), int(file["partition"]), Offsets(int(begin), int(end)))
        # Commits of earlier releases don't say which topic it was.
        topics = {(self._raw, str(file["topic"]), str(file["topic_id"])) for file in files_of(commit) if "topic_id" in file}
        database.executemany("INSERT OR IGNORE INTO topics VALUES (?, ?, ?)", sorted(topics))
        gone = [(file["by"], self._raw, file["sha256"]) for file in replaced_of(commit)]
        database.executemany("UPDATE ingested SET replaced_by = ? WHERE raw = ? AND sha256 = ?", gone)

    def _cover(self, database: sqlite3.Connection, topic: str, partition: int, offsets: Offsets) -> None:
        """Join a range with those that it touches: what is read in order stays one, however many pages there are."""
        where = "raw = ? AND topic = ? AND partition = ? AND first <= ? AND last >= ?"
        values = (self._raw, topic, partition, offsets.end, offsets.begin)
        touched = database.execute(f"SELECT first, last FROM offsets WHERE {where}", values).fetchall()
        database.execute(f"DELETE FROM offsets WHERE {where}", values)
        first, last = min([offsets.begin, *(one[0] for one in touched)]), max([offsets.end, *(one[1] for one in touched)])
        database.execute("INSERT INTO offsets VALUES (?, ?, ?, ?, ?)", (self._raw, topic, partition, first, last))

    def _seen(self, database: sqlite3.Connection, newest: int) -> int:
        """The version up to which the index is right; -1 where the table is not the one that was indexed."""
        row = database.execute("SELECT version, mark FROM progress WHERE raw = ?", (self._raw,)).fetchone()
        if row is None:
            return -1
        if row[0] <= newest:
            there = self._raw_log.commits([row[0]])
            if there and _mark(there[0]) == row[1]:
                return int(row[0])
        self._forget(database)
        return -1

    def _forget(self, database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM ingested WHERE raw = ?", (self._raw,))
        database.execute("DELETE FROM offsets WHERE raw = ?", (self._raw,))
        database.execute("DELETE FROM topics WHERE raw = ?", (self._raw,))
        database.execute("DELETE FROM batches WHERE raw = ?", (self._raw,))
        database.execute("DELETE FROM progress WHERE raw = ?", (self._raw,))
        database.execute("DELETE FROM restores WHERE raw = ?", (self._raw,))

    def is_restored(self) -> bool:
        """Whether raw was ever restored to an earlier version, after `catch_up`."""
        with self._database() as database:
            return database.execute("SELECT 1 FROM restores WHERE raw = ?", (self._raw,)).fetchone() is not None

    def quarantined_since_last_look(self) -> list[CommitInfo]:
        """Commits to quarantine after the one that `remember_look` was told of, oldest first; all where it is not there any more."""
        log = self._quarantine_log
        versions = log.versions()
        if not versions:
            return []
        with self._database() as database:
            row = database.execute("SELECT version, mark FROM looks WHERE quarantine = ?", (self._quarantine,)).fetchone()
        if row is not None:
            last = log.commits([row[0]])
            if last and _mark(last[0]) == row[1]:
                versions = [version for version in versions if version > row[0]]
        return log.commits(versions)

    def remember_look(self, commit: CommitInfo) -> None:
        """Keep that every commit to quarantine up to this one counts, or its rows are gone."""
        with self._database() as database:
            database.execute("INSERT OR REPLACE INTO looks VALUES (?, ?, ?)", (self._quarantine, commit.version, _mark(commit)))

    def known(self, digests: Iterable[str]) -> dict[str, KnownFile]:
        """Those of the contents that are in raw, after `catch_up`."""
        found: dict[str, KnownFile] = {}
        with self._database() as database:
            for digest in set(digests):
                row = database.execute(
                    f"SELECT {_FILE_COLUMNS} FROM ingested WHERE raw = ? AND sha256 = ?",
                    (self._raw, digest),
                ).fetchone()
                if row is not None:
                    found[digest] = KnownFile(*row)
        return found

    def files(self, *, name: str | None = None) -> list[KnownFile]:
        """Every content that was ingested (under a name), in the order of arrival, after `catch_up`."""
        with self._database() as database:
            named = "" if name is None else " AND file = ?"
            rows = database.execute(
                f"SELECT {_FILE_COLUMNS} FROM ingested WHERE raw = ?{named} ORDER BY batch, file, sha256",
                (self._raw,) if name is None else (self._raw, name),
            ).fetchall()
        return [KnownFile(*row) for row in rows]

    def covered(self) -> Covered:
        """The offsets of topics that raw accounts for, after `catch_up`."""
        with self._database() as database:
            rows = database.execute("SELECT topic, partition, first, last FROM offsets WHERE raw = ?", (self._raw,)).fetchall()
            topics = database.execute("SELECT topic, id FROM topics WHERE raw = ?", (self._raw,)).fetchall()
        return Covered(((topic, partition, Offsets(first, last)) for topic, partition, first, last in rows), topics)

    def pages_below(self, page: TopicPage) -> list[KnownFile]:
        """Pages that count and hold an offset of this one, after `catch_up`."""
        found = [(file, TopicPage.of(file.file)) for file in self.files() if file.replaced_by is None]
        return [file for file, one in found if one is not None and one.same_place(page)]

    def replaced_files(self) -> list[KnownFile]:
        """Contents whose place another one has taken, after `catch_up`."""
        with self._database() as database:
            rows = database.execute(
                f"SELECT {_FILE_COLUMNS} FROM ingested WHERE raw = ? AND replaced_by IS NOT NULL",
                (self._raw,),
            ).fetchall()
        return [KnownFile(*row) for row in rows]

    def newest_batches(self, limit: int) -> frozenset[int]:
        """The newest batches of which a file is still there: neither undone by a restore nor replaced; after `catch_up`."""
        with self._database() as database:
            rows = database.execute(
                "SELECT DISTINCT batch FROM ingested WHERE raw = ? AND replaced_by IS NULL ORDER BY batch DESC LIMIT ?", (self._raw, limit)
            ).fetchall()
        return frozenset(row[0] for row in rows)

    def mark_of_batch(self, batch: int) -> str | None:
        """What identifies raw's commit of a batch, None where raw has no such batch; after `catch_up`."""
        with self._database() as database:
            row = database.execute("SELECT mark FROM batches WHERE raw = ? AND batch = ?", (self._raw, batch)).fetchone()
        return None if row is None else str(row[0])

    def refused(self, digests: Iterable[str]) -> dict[str, str]:
        """Errors of contents that this very contract has refused."""
        with self._database() as database:
            rows = [
                database.execute(
                    "SELECT sha256, error FROM refused WHERE raw = ? AND sha256 = ? AND contract = ?",
                    (self._raw, digest, self._contract.digest),
                ).fetchone()
                for digest in set(digests)
            ]
        return {row[0]: row[1] for row in rows if row is not None}

    def remember_refused(self, errors: Mapping[str, str]) -> None:
        """Keep what was refused, so that a landing file is not read again and again under the same contract."""
        with self._database() as database:
            rows = [(self._raw, digest, self._contract.digest, error) for digest, error in errors.items()]
            database.executemany("INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)", rows)

    def digests(self, paths: Sequence[Arrived]) -> dict[Arrived, str]:
        """Digests of files, computed only for those whose path, size or time of change is new; vanished ones are left out.

        Objects in a bucket are not fetched for it: those that nobody has fetched are left out too.
        """
        found = self.cached_digests(paths)
        new: list[SeenFile] = []
        for path in paths:
            if path in found or not isinstance(path, Path) or not path.is_file():
                continue
            before = looks_of(path)
            found[path] = digest_of(path)
            if before is not None:
                new.append(SeenFile(path, before, found[path]))
        if new:
            self.remember_digests(new)
        return found

    def cached_digests(self, paths: Iterable[Arrived]) -> dict[Arrived, str]:
        """Digests of the files that have not changed since they were last looked at."""
        found: dict[Arrived, str] = {}
        with self._database() as database:
            for path in paths:
                now = looks_of(path)
                if now is None:
                    continue
                row = database.execute("SELECT size, mark, sha256 FROM looked WHERE path = ?", (str(path),)).fetchone()
                if row is not None and (row[0], row[1]) == now:
                    found[path] = row[2]
        return found

    def remember_digests(self, seen: Iterable[SeenFile]) -> None:
        """Keep the digests of files as they were when they were read."""
        rows = [(str(one.path), *one.looks, one.sha256) for one in seen]
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR REPLACE INTO looked VALUES (?, ?, ?, ?)", rows)
            database.execute("COMMIT")


def _mark(commit: CommitInfo) -> str:
    """What tells a commit from the one of a table that was made anew under the same name."""
    return f"{commit.timestamp.isoformat()} {commit.stamp.run if commit.stamp else ''}"
