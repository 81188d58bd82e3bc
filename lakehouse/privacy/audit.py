"""The audit: who read or changed what, in a chain that shows when an entry was changed, removed, moved or cut off.

Entries are lines of `<home>/audit/journal.ndjson`. Each holds the HMAC of itself and of the entry before under a key derived from the
home's, so nobody without the key can make one. The newest number and HMAC stand, signed, beside the keys: a journal that ends
earlier was cut. An entry costs two small writes; `collect` copies the journal into the table `monitoring.audit` in one commit.

An entry names tables, versions and counts, never a value that was read, a query's text or a file's name.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from lakehouse.errors import PrivacyError
from lakehouse.locks import exclusive
from lakehouse.privacy.keys import Key
from lakehouse.privacy.keys import key as secret_key
from lakehouse.settings import Settings
from lakehouse.sql import quote_literal
from lakehouse.tables import CommitInfo, Lake, Stamp, Transaction
from lakehouse.tables.log import CommitLog
from lakehouse.tables.names import TableName
from lakehouse.tables.stamp import USER

AUDIT_TABLE = "monitoring.audit"
COMMIT = "commit"
"""The action of an entry that a commit to a table made."""
_PURPOSE = "audit"
_APP = "audit"
_START = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One access or change.

    Attributes:
        number: 1 for the first; without gaps.
        at: when it was; of a commit, when that was made.
        who: the user of the machine.
        action: a command, or `commit`.
        tables: version by `layer.name`; None where it is not known.
        outcome: `done`, or the kind of error.
        facts: counts and names of datasets and models.
    """

    number: int
    at: str
    who: str
    action: str
    tables: Mapping[str, int | None]
    outcome: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    previous: str = _START
    mac: str = ""

    def content(self) -> bytes:
        """What the HMAC is made of."""
        return _canonical({name: getattr(self, name) for name in _FIELDS})

    def line(self) -> bytes:
        """The entry in the journal."""
        return _canonical({name: getattr(self, name) for name in (*_FIELDS, "mac")}) + b"\n"


_FIELDS = ("number", "at", "who", "action", "tables", "outcome", "facts", "previous")


@dataclass(frozen=True, slots=True)
class Problem:
    """Where the chain does not hold, and how."""

    number: int
    what: str


class _KnownCommits(Mapping[str, int]):
    """The newest version by table that has an entry; found out only if somebody asks, for it takes the whole journal."""

    def __init__(self, entries: Callable[[], Iterator[Entry]]) -> None:
        self._entries = entries

    @cached_property
    def _versions(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for entry in self._entries():
            for table, version in entry.tables.items() if entry.action == COMMIT else ():
                found[table] = max(version if version is not None else -1, found.get(table, -1))
        return found

    def __getitem__(self, table: str) -> int:
        return self._versions[table]

    def __iter__(self) -> Iterator[str]:
        return iter(self._versions)

    def __len__(self) -> int:
        return len(self._versions)


class Audit:
    """The audit of one home. Processes that write at the same time wait for each other."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.home_dir / "audit"
        self._journal = self._folder / "journal.ndjson"
        self._head = settings.key_file.parent / "audit.head"
        self._settings = settings

    @property
    def _key(self) -> Key:
        return secret_key(self._settings)

    def record(
        self,
        *,
        who: str,
        action: str,
        tables: Mapping[str, int | None],
        outcome: str,
        now: datetime,
        facts: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Add one entry; when this returns it is on disk.

        Raises:
            PrivacyError: the journal is not as its head says, or can't be written.
        """
        return self._add(lambda _known: [_draft(who, action, tables, outcome, at=now, facts=facts or {})])[0]

    def record_commits(self, lake: Lake) -> int:
        """Add an entry for every commit to a table that has none yet, whoever made it; returns their number.

        Raises:
            PrivacyError: the journal is not as its head says, or can't be written.
        """
        return len(
            self._add(lambda known: [draft for table in lake.tables() for draft in _commits(lake, table, known.get(str(table), -1))])
        )

    def _add(self, drafts: Callable[[Mapping[str, int]], Sequence[Entry]]) -> list[Entry]:
        key = self._key
        try:
            with exclusive(self._folder / "journal.lock", waiting=lambda: None):
                number, previous = self._end(key)
                made: list[Entry] = []
                for draft in drafts(_KnownCommits(self.entries)):
                    number += 1
                    entry = _with_mac(replace(draft, number=number, previous=previous), key)
                    previous = entry.mac
                    made.append(entry)
                if made:
                    _append(self._journal, b"".join(entry.line() for entry in made))
                    self._write_head(made[-1], key)
                return made
        except OSError as error:
            raise PrivacyError(
                "audit", "can't be written", found=error.strerror or str(error), fix=f"Make {self._folder} writable"
            ) from error

    def entries(self) -> Iterator[Entry]:
        """Every entry, oldest first, as it stands there.

        Raises:
            PrivacyError: a line is no entry.
        """
        if not self._journal.exists():
            return
        with self._journal.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield _parsed(line, number)

    def problems(self) -> list[Problem]:
        """Where the chain does not hold; none if every entry that was ever made is there as it was made."""
        key = self._key
        found: list[Problem] = []
        number, previous = 0, _START
        try:
            for entry in self.entries():
                if entry.number != number + 1:
                    found.append(Problem(number + 1, f"is missing or moved: entry {entry.number} stands in its place"))
                if not hmac.compare_digest(_with_mac(entry, key).mac, entry.mac):
                    found.append(Problem(entry.number, "was changed"))
                elif entry.previous != previous and entry.number == number + 1:
                    found.append(Problem(entry.number, "does not follow the entry before it"))
                number, previous = entry.number, entry.mac
        except PrivacyError as error:
            found.append(Problem(number + 1, error.problem))
        head = self._read_head(key)
        if head is None:
            if number:
                found.append(Problem(number, "has no signed head beside the keys"))
        elif head.number > number:
            found.append(Problem(number + 1, f"is missing, and what follows: the signed head names entry {head.number}"))
        elif head.number == number and head.mac != previous:
            found.append(Problem(number, "is not the one that the signed head names"))
        return found

    def _end(self, key: Key) -> "tuple[int, str]":
        """Number and HMAC of the last entry. A process that died between its two writes left a head that is one behind."""
        last = _last_line(self._journal)
        head = self._read_head(key)
        if last is None:
            if head is not None:
                raise _cut(head.number, 0)
            return 0, _START
        entry = _parsed(last, 0)
        if not hmac.compare_digest(_with_mac(entry, key).mac, entry.mac):
            raise PrivacyError("audit", f"entry {entry.number} was changed", fix="Look into it with: lakehouse audit verify")
        if head is not None and (head.number > entry.number or (head.number == entry.number and head.mac != entry.mac)):
            raise _cut(head.number, entry.number)
        return entry.number, entry.mac

    def _write_head(self, entry: Entry, key: Key) -> None:
        body = {"number": entry.number, "mac": entry.mac}
        signed = {**body, "signature": hmac.new(key.derive(_PURPOSE + " head"), _canonical(body), hashlib.sha256).hexdigest()}
        draft = self._head.with_suffix(".new")
        draft.write_bytes(_canonical(signed))
        draft.replace(self._head)

    def _read_head(self, key: Key) -> "Entry | None":
        try:
            signed = json.loads(self._head.read_bytes())
            number, mac = int(signed["number"]), str(signed["mac"])
            body = {"number": number, "mac": mac}
            signature = str(signed["signature"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise PrivacyError("audit", "has a head that can't be read", fix="Restore keys/audit.head from a backup") from error
        if not hmac.compare_digest(hmac.new(key.derive(_PURPOSE + " head"), _canonical(body), hashlib.sha256).hexdigest(), signature):
            raise PrivacyError("audit", "has a head with a wrong signature", fix="Restore keys/audit.head from a backup")
        return Entry(number, "", "", "", {}, "", mac=mac)

    # ---- the table

    def collect(self, lake: Lake, con: duckdb.DuckDBPyConnection, *, run: str) -> int:
        """Copy what is new into `monitoring.audit`, in one commit; returns the number of entries.

        Raises:
            ConcurrentWrite: other writers never paused.
        """
        known = lake.transaction(AUDIT_TABLE, _APP) or 0
        new = [entry for entry in self.entries() if entry.number > known]
        if not new:
            return 0
        rows = ", ".join(
            f"({entry.number}::BIGINT, {quote_literal(datetime.fromisoformat(entry.at))}, {quote_literal(entry.who)}, "
            f"{quote_literal(entry.action)}, {quote_literal(_text(entry.tables))}, {quote_literal(entry.outcome)}, "
            f"{quote_literal(_text(entry.facts))}, {quote_literal(entry.previous)}, {quote_literal(entry.mac)})"
            for entry in new
        )
        columns = "number, recorded_at, who, action, tables, outcome, facts, previous, mac"
        stamp = Stamp(asset=AUDIT_TABLE, run=run)
        made = lake.append(
            con, AUDIT_TABLE, f"SELECT * FROM (VALUES {rows}) AS v({columns})", stamp=stamp, transaction=Transaction(_APP, new[-1].number)
        )
        return made.rows

    def table_problems(self, lake: Lake, con: duckdb.DuckDBPyConnection) -> list[Problem]:
        """Entries that the table has otherwise than the journal."""
        if not lake.exists(AUDIT_TABLE):
            return []
        stored: dict[int, str] = dict(con.execute(f"SELECT number, mac FROM ({lake.scan_sql(AUDIT_TABLE, con=con)})").fetchall())
        known = lake.transaction(AUDIT_TABLE, _APP) or 0
        journal = {entry.number: entry.mac for entry in self.entries() if entry.number <= known}
        return [
            Problem(number, f"is not in {AUDIT_TABLE} as it is in the journal")
            for number in sorted(journal.keys() | stored.keys())
            if journal.get(number) != stored.get(number)
        ]


@dataclass(frozen=True, slots=True)
class AuditState:
    """How many entries the table got, and where the chain does not hold."""

    added: int
    problems: tuple[Problem, ...]


def bring_up_to_date(settings: Settings, lake: Lake, *, run: str) -> AuditState:
    """Record the commits that have no entry yet, look at the whole chain, and copy it into the table if it holds.

    Raises:
        PrivacyError: the journal can't be written.
        ConcurrentWrite: other writers never paused.
    """
    audit = Audit(settings)
    with lake.connect(()) as session:
        problems = [*audit.problems(), *audit.table_problems(lake, session.con)]
        if problems:
            return AuditState(0, tuple(problems))
        audit.record_commits(lake)
        return AuditState(audit.collect(lake, session.con, run=run), ())


def _draft(who: str, action: str, tables: Mapping[str, int | None], outcome: str, *, at: datetime, facts: Mapping[str, Any]) -> Entry:
    return Entry(0, at.astimezone(UTC).isoformat().replace("+00:00", "Z"), who, action, dict(tables), outcome, dict(facts))


def _commits(lake: Lake, table: TableName, known: int) -> Iterator[Entry]:
    """The commits after a version, oldest first. The audit's own copy of itself is none: each would bring the next."""
    if str(table) == AUDIT_TABLE:
        return
    log = CommitLog(lake.storage, table)
    for version in log.versions():
        if version <= known:
            continue
        metadata = log.commit_metadata(version) or {}
        info = CommitInfo.from_log(table, version, metadata)
        facts = {"operation": info.operation, "rows": info.rows}
        if info.stamp is not None:
            facts |= {"asset": info.stamp.asset, "run": info.stamp.run, "inputs": dict(info.stamp.inputs)}
        yield _draft(str(metadata.get(USER, "unknown")), COMMIT, {str(table): version}, "done", at=info.timestamp, facts=facts)


def _with_mac(entry: Entry, key: Key) -> Entry:
    return replace(entry, mac=hmac.new(key.derive(_PURPOSE), entry.content(), hashlib.sha256).hexdigest())


def _parsed(line: bytes, number: int) -> Entry:
    try:
        found: dict[str, Any] = json.loads(line)
        return Entry(**{name: found[name] for name in (*_FIELDS, "mac")})
    except (ValueError, KeyError, TypeError) as error:
        raise PrivacyError(
            "audit", f"line {number or 'at the end'} is no entry", fix="Look into it with: lakehouse audit verify"
        ) from error


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            # A killed process left half a line; its entry was never acknowledged.
            os.ftruncate(descriptor, _whole(descriptor, size))
        os.write(descriptor, line)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _whole(descriptor: int, size: int) -> int:
    block = os.pread(descriptor, min(size, 1 << 16), max(0, size - (1 << 16)))
    return max(0, size - (1 << 16)) + block.rfind(b"\n") + 1


def _last_line(path: Path) -> bytes | None:
    """The last whole line."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            block = b""
            while size and block.count(b"\n") < 2:
                step = min(size, 1 << 14)
                size -= step
                file.seek(size)
                block = file.read(step) + block
    except FileNotFoundError:
        return None
    lines = block[: block.rfind(b"\n") + 1].splitlines()
    return lines[-1] if lines else None


def _cut(named: int, there: int) -> PrivacyError:
    return PrivacyError(
        "audit",
        "ends before the entry that its signed head names",
        expected=f"entry {named}",
        found=f"entry {there}",
        fix="Somebody cut the journal: restore it from a backup, and look into it with: lakehouse audit verify",
    )


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True, ensure_ascii=False)


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
