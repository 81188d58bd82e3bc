"""Is everything as it was written? The whole home is read: logs, data files, originals, databases, models, and backups."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse.errors import BackupDamaged, PrivacyError, StorageError, TableNotFound
from lakehouse.privacy import key
from lakehouse.privacy.vault import open_decrypted
from lakehouse.recovery.backup_checks import BackupFindings, check_backups
from lakehouse.recovery.checksums import modified_alike, note, read_index
from lakehouse.recovery.contents import CHECKSUMS, ORIGINALS, Item, home_contents
from lakehouse.recovery.findings import Advice, Failure, subject_of
from lakehouse.recovery.home_checks import check_conservation, check_databases, check_models, check_originals, erased_originals
from lakehouse.recovery.manifest import ARCHIVE, HOME, TABLES, Entry
from lakehouse.recovery.store import BackupStore, digest_of
from lakehouse.recovery.table_checks import Inspected, check_rows, inspect_all
from lakehouse.settings import Settings
from lakehouse.tables import Lake, TableName
from lakehouse.tables.spill import own_folder
from lakehouse.tables.stored import StoredFile
from lakehouse.tables.tiers import archive_tiers

_PARALLEL = 4
_NAMED_BY_CONTENT = re.compile(r"([0-9a-f]{64})((?:\.[a-z0-9]+)*)")


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification looked at, and what is wrong.

    Attributes:
        tables: looked at, with their newest versions.
        files: whose bytes were read.
        bytes_read: of these.
        digests_compared: files that had a digest to be compared with.
        digests_noted: files that were read for the first time.
        models: registered models that were loaded.
        backups: what was found of the backups; None if none were asked for.
    """

    tables: Mapping[str, int]
    files: int
    bytes_read: int
    digests_compared: int
    digests_noted: int
    failures: tuple[Failure, ...]
    backups: BackupFindings | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_green(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures


@dataclass(slots=True)
class _Digests:
    """The comparison of what is read with what is known."""

    settings: Settings
    advice: Advice
    known: Mapping[str, Entry]
    new: dict[str, Entry] = field(default_factory=dict[str, Entry])
    compared: int = 0
    files: int = 0
    bytes_read: int = 0
    failures: list[Failure] = field(default_factory=list[Failure])


def unwatched(done: int, total: int) -> None:
    """Where nobody watches."""


def verify_home(
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    backup: str | None = None,
    quick: bool = False,
    progress: Callable[[int, int], None] = unwatched,
) -> VerifyReport:
    """Look at everything in a home, or at some tables; nothing of it is changed but the notes of digests.

    Args:
        settings: of the home.
        tables: only these; none means everything.
        backup: also the backups at this place: whether they are whole, and whether the home still is what they hold.
        quick: sizes and logs only; no file's bytes are read.
        progress: told how many files were read, of how many.

    Raises:
        TableNotFound: a table that was asked for is not there.
    """
    lake = Lake.from_settings(settings)
    advice, notes = _advice(settings, backup)
    listed = _list(lake)
    chosen = _chosen(lake, listed, tables)
    seen = inspect_all(lake, chosen, {table: listed.tables.get(table, {}) for table in chosen}, advice)
    tiers = list(archive_tiers(settings, lake).items())
    lakes = {TABLES: lake} | {f"{ARCHIVE}{tier}/": below for tier, below in tiers[1:]}
    for prefix, below in list(lakes.items())[1:]:
        archived = _list(below)
        names = [table for table in _chosen(below, archived, ()) if not tables or table in chosen]
        seen += inspect_all(below, names, archived.tables, advice, prefix=prefix)
    index = read_index(lake.storage)
    digests = _Digests(settings, advice, index.entries)
    failures = [failure for one in seen for failure in one.failures]
    failures += [
        Failure("digests_are_whole", "home", "a file of digests was damaged", f"Remove it: {path} is made anew", f"{TABLES}{path}")
        for path in index.damaged
    ]
    if not quick:
        files = list(_table_files(lakes, seen))
        if not tables:
            files += _other_files(settings, lake, listed.originals)
        with tempfile.TemporaryDirectory(prefix="verify-", dir=own_folder(settings.spill_dir)) as scratch:
            _read_all(files, digests, Path(scratch), progress)
        failures += digests.failures
        damaged = frozenset(failure.path for failure in digests.failures if failure.path is not None)
        for one in seen:
            before = len(one.failures)
            check_rows(one, lakes[one.prefix], advice, damaged=damaged)
            failures += one.failures[before:]
        note(lake.storage, index, digests.new)
    sound = {one.name for one in seen if one.snapshot is not None and not any(f.subject == one.name for f in failures)}
    unsound = {str(one.table) for one in seen if one.name not in sound}
    datasets = sorted(name.partition(".")[2] for name in sound - unsound if name.startswith("raw."))
    if not quick:
        for dataset in datasets:
            refused = f"quarantine.{dataset}"
            if refused in sound or not lake.exists(refused):
                failures += check_conservation([tier for _, tier in tiers], dataset)
    if not tables:
        failures += check_originals(lake, {file.path: file for file in listed.originals}, datasets, advice)
        failures += _check_home(settings, is_quick=quick)
    found = None
    if backup is not None:
        found = check_backups(BackupStore.open(backup, settings), settings, quick=quick)
        failures += found.failures
    return VerifyReport(
        tables={one.name: one.version for one in seen},
        files=digests.files,
        bytes_read=digests.bytes_read,
        digests_compared=digests.compared,
        digests_noted=len(digests.new),
        failures=tuple(failures),
        backups=found,
        notes=tuple(notes),
    )


def _advice(settings: Settings, backup: str | None) -> tuple[Advice, list[str]]:
    """What the newest backup has; one that can't be read is said so where backups are looked at."""
    if backup is None:
        return Advice(), []
    store = BackupStore.open(backup, settings)
    for backup_id in reversed(store.ids()):
        try:
            return Advice(store.uri, store.load(backup_id).files), []
        except BackupDamaged:
            continue
    return Advice(), [f"there is no backup in {store.uri}"]


@dataclass(slots=True)
class _Listed:
    """All files under the root of the tables, sorted out."""

    tables: dict[TableName, dict[str, StoredFile]] = field(default_factory=dict[TableName, dict[str, StoredFile]])
    originals: list[StoredFile] = field(default_factory=list[StoredFile])


def _list(lake: Lake) -> _Listed:
    listed = _Listed()
    for file in lake.storage.walk(""):
        parts = file.path.split("/", 2)
        if file.path.startswith(ORIGINALS):
            if not parts[-1].rpartition("/")[2].startswith("."):
                listed.originals.append(file)
        elif len(parts) == 3 and not file.path.startswith(CHECKSUMS) and all(re.fullmatch("[a-z][a-z0-9_]*", part) for part in parts[:2]):
            listed.tables.setdefault(TableName(parts[0], parts[1]), {})[parts[2]] = file
    return listed


def _chosen(lake: Lake, listed: _Listed, tables: Collection[str]) -> list[TableName]:
    if not tables:
        # A folder that never got a commit is what a killed process left, and no table.
        return sorted(table for table, files in listed.tables.items() if any(path.startswith("_delta_log/") for path in files))
    chosen = [TableName.parse(name) for name in tables]
    for table in chosen:
        if table not in listed.tables:
            raise TableNotFound(str(table), "does not exist", fix=f"Check the name; the root is {lake.uri}")
    return chosen


@dataclass(frozen=True, slots=True)
class _File:
    """A file to be read.

    Attributes:
        is_final: nobody may ever write to it again, so that a digest of it holds for ever.
        sha256: of its content, where its name says it.
        versions: of the table that need it.
    """

    item: Item
    is_final: bool
    sha256: str | None = None
    is_sealed: bool = False
    versions: str | None = None


def _table_files(lakes: Mapping[str, Lake], seen: Iterable[Inspected]) -> Iterator[_File]:
    for one in seen:
        known = {failure.path for failure in one.failures}
        for stored, is_final in one.files():
            path = one.prefix + stored.path
            if path not in known:
                yield _File(
                    Item(path, lakes[one.prefix].storage, stored), is_final, versions=one.versions_of(path.removeprefix(one.folder))
                )


def _other_files(settings: Settings, lake: Lake, originals: Iterable[StoredFile]) -> Iterator[_File]:
    rewritten = erased_originals(lake)
    for stored in originals:
        found = _NAMED_BY_CONTENT.fullmatch(stored.path.rpartition("/")[2])
        is_sealed = bool(found and found[2].endswith(".enc"))
        yield _File(
            Item(TABLES + stored.path, lake.storage, stored),
            is_final=True,
            sha256=found[1] if found and found[1] not in rewritten else None,
            is_sealed=is_sealed,
        )
    for item in home_contents(settings).items:
        if not item.is_database:
            yield _File(item, is_final=False)


# ---- bytes


def _read_all(files: Sequence[_File], digests: _Digests, scratch: Path, progress: Callable[[int, int], None]) -> None:
    def read(number: int) -> str | None:
        return _digest(files[number].item, scratch / str(number))

    with ThreadPoolExecutor(_PARALLEL) as pool:
        for number, sha256 in enumerate(pool.map(read, range(len(files)))):
            file = files[number]
            progress(number + 1, len(files))
            if sha256 is None:
                # Removed by maintenance since it was listed.
                continue
            digests.files += 1
            digests.bytes_read += file.item.stored.size_bytes
            problem = _judge(file, sha256, digests)
            if problem is not None:
                fix = digests.advice.for_file(file.item.path)
                digests.failures.append(
                    Failure("bytes_are_as_written", subject_of(file.item.path), problem, fix, file.item.path, file.versions)
                )


def _digest(item: Item, copy: Path) -> str | None:
    try:
        if item.storage.is_local:
            return digest_of(Path(item.storage.address(item.stored.path)))
        item.storage.get(item.stored.path, copy)
        return digest_of(copy)
    except (FileNotFoundError, StorageError):
        return None
    finally:
        if not item.storage.is_local:
            copy.unlink(missing_ok=True)


def _judge(file: _File, sha256: str, digests: _Digests) -> str | None:
    """Compare a digest with everything that is known of the file; what is wrong, if anything."""
    path, stored = file.item.path, file.item.stored
    noted, backed_up = digests.known.get(path), digests.advice.files.get(path)
    plain: str | None = None
    if file.sha256 is not None:
        digests.compared += 1
        plain = _plain_digest(digests.settings, file) if file.is_sealed else sha256
        if plain is not None and plain != file.sha256:
            return "its content is not the one that its name says"
    entry = Entry(sha256, stored.size_bytes, stored.modified)
    if noted is None:
        digests.new[path] = entry
    else:
        digests.compared += file.sha256 is None
        if noted.sha256 != sha256 and (file.is_final or modified_alike(noted.modified, stored.modified)):
            return f"its bytes have changed: SHA-256 was {noted.sha256[:16]} and is {sha256[:16]}"
        if noted.sha256 != sha256 or noted.modified != stored.modified:
            digests.new[path] = entry
    # A log can be another table's by now, and an original that a person was erased from was written anew in each place.
    is_for_ever = file.is_final and "/_delta_log/" not in path and (file.sha256 is not None or not path.startswith(TABLES + ORIGINALS))
    # One that is encrypted was judged by what it holds: under a new key it has other bytes.
    is_judged = file.is_sealed and plain is not None
    is_same_file = backed_up is not None and not is_judged and (is_for_ever or modified_alike(backed_up.modified, stored.modified))
    if backed_up is not None and is_same_file and backed_up.sha256 != sha256:
        digests.new.pop(path, None)
        return f"its bytes are not those that were backed up: SHA-256 was {backed_up.sha256[:16]} and is {sha256[:16]}"
    return None


def _plain_digest(settings: Settings, file: _File) -> str | None:
    """Digest of what an encrypted original holds; None where the key is not at hand."""
    if not settings.key_file.exists() or not file.item.storage.is_local:
        return None
    try:
        digest = hashlib.sha256()
        with open_decrypted(Path(file.item.storage.address(file.item.stored.path)), key(settings)) as reader:
            while block := reader.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    except PrivacyError as error:
        # Every block is authenticated, so a changed byte shows here; another key says nothing about the bytes.
        return None if "another key" in error.problem else "damaged"


def _check_home(settings: Settings, *, is_quick: bool) -> list[Failure]:
    databases = [
        (item.path, settings.home_dir / item.path.removeprefix(HOME)) for item in home_contents(settings).items if item.is_database
    ]
    failures = check_databases([(path, place) for path, place in databases if place.exists()])
    scheme, _, place = settings.mlflow_tracking_uri.partition(":///")
    if scheme == "sqlite" and not is_quick and not any(failure.subject == "registry" for failure in failures):
        failures += check_models(settings, Path(place))
    return failures
