"""Erasing one subject everywhere, and checking afterwards that nothing is left."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.errors import PrivacyError, StorageError
from lakehouse.ingest.known import KnownFiles
from lakehouse.ingest.waiting import current_rows_sql
from lakehouse.learning.registry import Registry
from lakehouse.locks import exclusive
from lakehouse.openlineage import job
from lakehouse.pipeline.erasing_online import ErasedOnline, erase_online, hashed_online, left_online
from lakehouse.pipeline.searching import Search, backup_places, places
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy import Key, SubjectKeys
from lakehouse.privacy import key as secret_key
from lakehouse.privacy.erasure.archived import addresses_now, erase_archived, settle_archived
from lakehouse.privacy.erasure.files import Files
from lakehouse.privacy.erasure.identity import Memory, identify, manners
from lakehouse.privacy.erasure.report import read_report, signed_report, write_report
from lakehouse.privacy.erasure.rows import Manner, find_rows, theirs_sql
from lakehouse.privacy.erasure.subject import Identifiers, Subject, is_distinctive
from lakehouse.privacy.erasure.suppression import ERASED_ORIGINALS, RowsGone, count_rows, mark, suppress
from lakehouse.privacy.erasure.tables import ErasedTable, Work, added, erase_table
from lakehouse.privacy.erasure.trees import Choice, ErasedFile, FileTree, inside_tables
from lakehouse.privacy.subject_keys import subject_name
from lakehouse.recovery.checksums import forget
from lakehouse.recovery.erasing import BackupWork, erase_from_backups
from lakehouse.recovery.manifest import ARCHIVE, TABLES
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.names import TableName
from lakehouse.tables.spill import own_folder
from lakehouse.tables.storage import Storage
from lakehouse.tables.tiers import archive_tiers

_ORIGINALS = "files/"
_MOST_PASSES = 3
# Whose rows are made from whose: what is built meanwhile is built from what is clean already.
_LAYERS = ("raw", "quarantine", "staging", "analytics", "features", "models")
Told = Callable[[str], None]


@dataclass(frozen=True)
class ErasureReport:
    """What was done, and what is left: nothing, or the names of what could not be done."""

    document: dict[str, Any]
    path: Path | None
    dry_run: bool

    @property
    def is_clean(self) -> bool:
        """Whether nothing of the subject is left anywhere."""
        return not self.document["left"] and not self.document["waiting"]


@dataclass(frozen=True)
class _Passed:
    """What was done in going through everything, once or more often."""

    tables: list[ErasedTable]
    files: list[ErasedFile]
    online: list[ErasedOnline]
    backups: list[dict[str, Any]]

    def with_more(self, later: "_Passed") -> "_Passed":
        """With what was done in going through everything again."""
        tables = {one.table: one for one in self.tables}
        for one in later.tables:
            tables[one.table] = added(tables[one.table], one) if one.table in tables else one
        # What may belong to a writer is what the newest look says of it.
        waiting = {one.table: one.waiting for one in later.tables}
        kept = [replace(one, waiting=waiting.get(one.table, ())) for one in tables.values()]
        return _Passed(kept, [*self.files, *later.files], [*self.online, *later.online], [*self.backups, *later.backups])


@dataclass
class _Erasure:
    """One erasure under way."""

    workspace: Workspace
    subject: Subject
    key: Key
    con: duckdb.DuckDBPyConnection
    scratch: Path
    run: str
    now: datetime
    dry_run: bool
    told: Told
    backups: Sequence[str] = ()
    who: Identifiers = field(init=False)
    unreached: list[str] = field(init=False, default_factory=list[str])

    def __post_init__(self) -> None:
        self.fingerprint = self.subject.fingerprint(self.key)
        self.stamp = Stamp(asset="erase", run=self.run, code=self.fingerprint)
        self.lake: Lake = self.workspace.lake
        self.tiers = archive_tiers(self.workspace.settings, self.lake)
        self.contract: DatasetContract = self.workspace.contracts.dataset(self.subject.dataset)

    def do(self) -> ErasureReport:
        settings = self.workspace.settings
        memory = Memory(settings.home_dir / "privacy" / "erasing", self.fingerprint, self.key)
        self.who = identify(list(self.tiers.values()), self.con, self.contract, self.subject, [self.key])
        if not self.dry_run:
            settle_archived(list(self.tiers.values()), self.lake.tables(), stamp=self.stamp)
            self.who = memory.complete(self.who)
            suppress(self.lake, self.con, self.subject, self.key, erasure=self.fingerprint, stamp=self.stamp, now=self.now)
            self.lake.erasures.begin(self.con, again=True)
        passed = self._pass(memory.attempt)
        search = Search(self.workspace, self.con, [self.key], self.scratch, self.backups)
        left = [] if self.dry_run else self._left(search)
        for number in range(2, _MOST_PASSES + 1):
            if not left:
                break
            # Somebody wrote meanwhile what they had read before; from the mark on nobody does.
            settle_archived(list(self.tiers.values()), self.lake.tables(), stamp=self.stamp)
            passed = passed.with_more(self._pass(f"{memory.attempt}.{number}"))
            left = self._left(search)
        models = self._models(passed.tables)
        waiting = [f"{one.table}: {self.who.masked(path)}" for one in passed.tables for path in one.waiting]
        keys = 0 if self.dry_run else SubjectKeys(self.key).destroy([subject_name(self.subject.column, self.subject.value)])
        content: dict[str, Any] = {
            "erasure": self.fingerprint,
            "at": self.now.isoformat().replace("+00:00", "Z"),
            "run": self.run,
            "subject": {"dataset": self.subject.dataset, "column": self.subject.column, "fingerprint": self.fingerprint},
            "searched_everywhere": is_distinctive(self.subject.value),
            "tables": [_told_table(one) for one in passed.tables],
            "files": [asdict(one) for one in passed.files],
            "online": [asdict(one) for one in passed.online],
            "backups": passed.backups,
            "models": models,
            "keys_destroyed": keys,
            "waiting": waiting,
            "left": left,
        }
        if self.dry_run:
            return ErasureReport(content, None, dry_run=True)
        document = signed_report(content, self.key)
        path = settings.home_dir / "privacy" / "reports" / f"{self.now:%Y%m%dT%H%M%S}-{self.fingerprint[:12]}.json"
        write_report(document, path)
        if not left and not waiting:
            memory.forget()
        return ErasureReport(document, path, dry_run=False)

    # ---- the parts

    def _pass(self, attempt: str) -> "_Passed":
        """Take the subject out of everything once; whoever holds rows that were read before may not write them afterwards."""
        if not self.dry_run:
            self._count(attempt)
        tables = self._tables()
        originals = self._originals()
        if not self.dry_run:
            forget_tables(self.lake, tables)
            forget(self.lake.storage, [_ORIGINALS])
            mark(self.lake, self.con, stamp=self.stamp)
        online = self._online()
        others = self._others()
        return _Passed(tables, [*originals, *others], online, self._backups())

    def _left(self, search: Search) -> list[str]:
        return [*search.left(self.who), *left_online(self.workspace, self.subject, self.who), *self.unreached]

    def _online(self) -> list[ErasedOnline]:
        """Rows of the online store, after the mark: nobody brings them back. A store out of reach holds nothing else up."""
        self.told("online store")
        self.unreached = []
        try:
            return erase_online(self.workspace, self.subject, self.who, dry_run=self.dry_run)
        except StorageError as error:
            self.unreached = [str(error)]
            return []

    def _count(self, attempt: str) -> None:
        """Rows of raw and quarantine that are about to go: their logs go on saying that they came."""
        plan = manners(self.lake, self.workspace.contracts, self.subject)
        for dataset in self.workspace.contracts.datasets.values():
            theirs = [self._rows_now(TableName.parse(dataset.raw), plan), self._quarantined_now(dataset, plan)]
            if any(theirs):
                gone = RowsGone(dataset.name, *theirs)
                count_rows(self.lake, self.con, gone, attempt=f"{dataset.name}.{attempt}", stamp=self.stamp, now=self.now)

    def _rows_now(self, name: TableName, plan: Mapping[TableName, Manner]) -> int:
        if name not in plan:
            return 0
        return sum(one.theirs for one in find_rows(self.con, addresses_now(list(self.tiers.values()), name), self.who, plan[name]))

    def _quarantined_now(self, dataset: DatasetContract, plan: Mapping[TableName, Manner]) -> int:
        """Rows that wait or were discarded; one that was replayed counts in raw, however many decisions on it are kept."""
        name = TableName.parse(dataset.quarantine)
        if name not in plan:
            return 0
        current = current_rows_sql(self.lake, dataset.name, con=self.con)
        theirs = theirs_sql(self.con, current, self.who, plan[name])
        found = self.con.execute(f"SELECT count(*) FROM ({current}) WHERE status IS DISTINCT FROM 'replayed' AND {theirs}").fetchone()
        return int(found[0]) if found else 0

    def _tables(self) -> list[ErasedTable]:
        plan = manners(self.lake, self.workspace.contracts, self.subject)
        order = sorted(plan, key=lambda name: (_LAYERS.index(name.layer) if name.layer in _LAYERS else len(_LAYERS), name))
        done: list[ErasedTable] = []
        for name in order:
            self.told(f"table {name}")
            who = self.who.everywhere() if name.layer == "monitoring" else self.who
            work = Work(self.lake.storage, self.con, who, self.fingerprint, self.now, self.scratch, self.dry_run)
            done.append(erase_table(self.lake, name, work, plan[name], stamp=self.stamp))
        self.told("archived rows")
        work = Work(self.lake.storage, self.con, self.who, self.fingerprint, self.now, self.scratch, self.dry_run)
        done += erase_archived(self.tiers, plan, work, stamp=self.stamp)
        return [one for one in done if one.is_touched]

    def _originals(self) -> list[ErasedFile]:
        """What else is under the root: originals, whose records are emptied; and what other parts keep there."""
        self.told("originals")
        tree = self._tree(self.lake.storage)
        skip = inside_tables([str(name) for name in self.lake.tables()])
        done: list[ErasedFile] = []
        changed: list[tuple[str, ErasedFile]] = []
        for file in tree.holding(skip=skip):
            choice = Choice(has_records=file.path.startswith(_ORIGINALS))
            if self.dry_run:
                done.append(ErasedFile(self.who.masked(file.path), 0, "found"))
                continue
            made = tree.clean(file.path, choice)
            done.append(made)
            if choice.has_records:
                changed.append((file.path, made))
        self._record_originals(changed)
        return done

    def _record_originals(self, changed: Sequence[tuple[str, ErasedFile]]) -> None:
        """An original is named by its content: what it holds now, and why, is kept beside it."""
        if not changed:
            return
        rows = ", ".join(
            f"({quote_literal(made.path)}, {quote_literal(before.rpartition('/')[2].split('.')[0])}, {quote_literal(made.sha256)}, "
            f"{made.records}::BIGINT, {quote_literal(self.fingerprint)}, {quote_literal(self.now)})"
            for before, made in changed
        )
        columns = "archive, sha256_before, sha256_now, records, erasure, erased_at"
        self.lake.append(self.con, ERASED_ORIGINALS, f"SELECT * FROM (VALUES {rows}) AS v({columns})", stamp=self.stamp)

    def _others(self) -> list[ErasedFile]:
        """What the home holds beside the tables, and the landing folder."""
        done: list[ErasedFile] = []
        for place in places(self.workspace):
            self.told(f"folder {place.storage.root}")
            tree = self._tree(place.storage)
            for file in tree.holding(skip=place.skips_online):
                if self.dry_run:
                    done.append(ErasedFile(self.who.masked(file.path), 0, "found"))
                    continue
                # What was ingested is in the archive: its copy in the landing folder has served.
                goes = place.is_landing and self._is_ingested(Path(place.storage.address(file.path)))
                done.append(tree.clean(file.path, Choice(has_records=place.is_landing, goes=goes)))
        return done

    def _is_ingested(self, path: Path) -> bool:
        for contract in self.workspace.contracts.datasets.values():
            if contract.name not in path.parts:
                continue
            known = KnownFiles(self.lake, contract, self.workspace.settings)
            known.catch_up()
            digests = known.digests([path])
            if known.known(digests.values()):
                return True
        return False

    def _backups(self) -> list[dict[str, Any]]:
        settings = self.workspace.settings
        work = BackupWork(
            settings,
            self.con,
            self.who,
            (self.key,),
            self.fingerprint,
            self.now,
            self.scratch,
            manners(self.lake, self.workspace.contracts, self.subject),
            self.dry_run,
        )
        return [
            {"place": self.who.masked(place), **asdict(one)}
            for place in backup_places(self.workspace, self.backups)
            for one in erase_from_backups(place, work, told=self.told)
        ]

    def _models(self, tables: Sequence[ErasedTable]) -> list[dict[str, Any]]:
        why = f"rows of its training set were erased by {self.fingerprint}"
        return note_models(self.workspace, tables, why, dry_run=self.dry_run)

    def _tree(self, storage: Storage) -> FileTree:
        everywhere = self.who.everywhere()
        files = Files(self.con, everywhere, keys=[self.key], scratch=self.scratch)
        return FileTree(storage, files, everywhere, scratch=self.scratch, is_local=storage.is_local)


def forget_tables(lake: Lake, tables: Sequence[ErasedTable]) -> None:
    """Let a verification know that these were written anew on purpose: to it they would look damaged."""
    for one in tables:
        tier, _, name = one.table.rpartition("/")
        forget(lake.storage, [f"{name.replace('.', '/')}/"], prefix=f"{ARCHIVE}{tier}/" if tier else TABLES)


def note_models(workspace: Workspace, tables: Sequence[ErasedTable], why: str, *, dry_run: bool) -> list[dict[str, Any]]:
    """Models that learned from rows that went can't be made again to the same bytes: they say so from now on."""
    touched = {one.table for one in tables if one.rows_ever}
    names = [name for name in workspace.contracts.models if f"models.{name}_training_set" in touched]
    registry = Registry(workspace.settings)
    if not names or not registry.is_present:
        return []
    done: list[dict[str, Any]] = []
    for name in names:
        versions = registry.versions(name)
        if not dry_run:
            for version in versions:
                registry.tag(name, version, {"lakehouse.reproducible": f"no: {why}"})
        done.append({"model": name, "versions": versions, "note": why})
    return done


@contextmanager
def opened(workspace: Workspace) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A connection, and a private folder that goes with it."""
    con = workspace.lake.open_connection()
    try:
        with tempfile.TemporaryDirectory(prefix="erasing-", dir=own_folder(workspace.settings.spill_dir)) as scratch:
            yield con, Path(scratch)
    finally:
        con.close()


def erase(
    workspace: Workspace,
    subject: Subject,
    *,
    run: str,
    now: datetime,
    dry_run: bool = False,
    backups: Sequence[str] = (),
    told: Told = lambda _step: None,
) -> ErasureReport:
    """Remove a subject from every table and version, originals, landing, home, registry and backup, and keep them out.

    Killed at any instant, and run again, it ends the same. Other processes may read and write meanwhile.

    Args:
        workspace: the home.
        subject: who.
        run: recorded in the commits.
        now: recorded in the report.
        dry_run: only look.
        backups: places of backups beside the setting's.
        told: what is looked at now.

    Raises:
        ContractNotFound: there is no such dataset.
        PrivacyError: something can't be looked into or rewritten.
    """
    settings = workspace.settings
    lock = settings.home_dir / "privacy" / "erasing" / "erase.lock"
    with (
        exclusive(lock, waiting=lambda: told("another erasure is under way: waiting for it to end")),
        # Its name says nothing of the person.
        nullcontext() if dry_run else job(settings, workspace.lake, "erase", "subject", run=run),
        opened(workspace) as (con, scratch),
    ):
        return _Erasure(workspace, subject, secret_key(settings), con, scratch, run, now, dry_run, told, backups).do()


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of a report came to.

    Attributes:
        report: its content.
        left: where something of the subject was found.
        looked_everywhere: the subject was given, so that every byte could be searched; else tables were, by keyed hash.
    """

    report: dict[str, Any]
    left: tuple[str, ...]
    looked_everywhere: bool


def verify_erasure(workspace: Workspace, path: Path, subject: Subject | None, *, backups: Sequence[str] = ()) -> Verification:
    """Check a report's signature and that what it says is gone is gone.

    Args:
        workspace: the home.
        path: of the report.
        subject: who was erased; with it every byte is searched.
        backups: places of backups beside the setting's.

    Raises:
        PrivacyError: the report was changed, is another home's, or about another subject.
    """
    key = secret_key(workspace.settings)
    document = read_report(path, {key.id: key})
    fingerprint = document["subject"]["fingerprint"]
    with opened(workspace) as (con, scratch):
        search = Search(workspace, con, [key], scratch, backups)
        dataset, column = document["subject"]["dataset"], document["subject"]["column"]
        left = search.hashed(dataset, column, fingerprint)
        left += hashed_online(workspace, Subject(dataset, column, ""), fingerprint, key)
        if subject is None:
            return Verification(document, tuple(left), looked_everywhere=False)
        if subject.fingerprint(key) != fingerprint:
            raise PrivacyError("subject", "is not the one that the report is about", fix="Give the subject that was erased")
        contract = workspace.contracts.dataset(subject.dataset)
        who = identify(list(archive_tiers(workspace.settings, workspace.lake).values()), con, contract, subject, [key])
        left += [*search.left(who), *left_online(workspace, subject, who)]
        return Verification(document, tuple(dict.fromkeys(left)), looked_everywhere=is_distinctive(subject.value))


def _told_table(one: ErasedTable) -> dict[str, Any]:
    return {
        "table": one.table,
        "version": one.version,
        "rows_now": one.rows_now,
        "rows_in_files": one.rows_ever,
        "masked": one.masked,
        "files": one.files,
        "commits": one.commits,
    }
