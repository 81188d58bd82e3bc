"""The online store in one SQLite file: a table per lane, write-ahead logging, any number of processes of one machine."""

import os
import sqlite3
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from lakehouse.durable import PRIVATE
from lakehouse.errors import StorageError
from lakehouse.features.online.store import LaneSize, Read
from lakehouse.sql import quote_identifier

_WAIT_S = 30.0
_LOOK_S = 0.2
_AT_ONCE = 10_000
_KEYS_AT_ONCE = 500
_SCHEMA = """
CREATE TABLE IF NOT EXISTS views (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lanes (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
"""


class _Opened(NamedTuple):
    """A connection, and whose it is."""

    thread: threading.Thread
    process: int
    con: sqlite3.Connection


class SqliteStore:
    """A file that is made when something is first written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = os.fspath(path)
        self._local = threading.local()
        self._tables: dict[str, str] = {}
        self._opened: dict[int, _Opened] = {}

    @property
    def address(self) -> str:
        """The file."""
        return str(self._path)

    def read(self, view: str, lanes: Sequence[str], keys: Sequence[bytes]) -> Read:
        """As the interface says; all of one instant."""
        is_known = self._is_known()
        if not is_known and not self._is_there():
            return Read(None, tuple((None,) * len(keys) for _ in lanes))
        try:
            con = self._local.con if is_known else self._connection()
            if len(keys) == 1 and lanes and (found := self._read_one(con, view, tuple(lanes), keys[0])) is not None:
                return found
            con.execute("BEGIN")
            try:
                row = con.execute("SELECT state FROM views WHERE name = ?", (view,)).fetchone()
                return Read(row[0] if row else None, tuple(self._values(con, lane, keys) for lane in lanes))
            finally:
                con.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _read_one(self, con: sqlite3.Connection, view: str, lanes: tuple[str, ...], key: bytes) -> Read | None:
        """One key in one statement, which sees one instant by itself; None where a lane is new to this process, or has gone.

        A single row is the common case, and beginning and ending a transaction costs as much as reading it.
        """
        known = [self._tables.get(lane) for lane in lanes]
        sql = _reading_one(*known)
        try:
            row = con.execute(sql, (view, *[lane if table is None else key for lane, table in zip(lanes, known, strict=True)])).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return None
        if any([table is None and found is not None for table, found in zip(known, row[1:], strict=True)]):
            return None
        return Read(row[0], tuple([(value,) for value in row[1:]]))

    def _values(self, con: sqlite3.Connection, lane: str, keys: Sequence[bytes]) -> tuple[bytes | None, ...]:
        table = self._table(con, lane)
        if table is None:
            return (None,) * len(keys)
        try:
            if len(keys) == 1:
                row = con.execute(f"SELECT value FROM {table} WHERE key = ?", (keys[0],)).fetchone()
                return (row[0] if row else None,)
            found: dict[bytes, bytes] = {}
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                part = keys[start : start + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(part))
                found.update(con.execute(f"SELECT key, value FROM {table} WHERE key IN ({marks})", part))
            return tuple(map(found.get, keys))
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            # Another process has dropped the lane.
            self._tables.pop(lane, None)
            return (None,) * len(keys)

    def put(self, lane: str, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """As the interface says; other writers come in between after every few thousand rows."""
        written, waiting = 0, iter(rows)
        while chunk := list(islice(waiting, _AT_ONCE)):
            with self._writing() as con:
                table = self._table(con, lane, make=True)
                before = con.total_changes
                con.executemany(
                    f"INSERT INTO {table} VALUES (?, ?)"
                    " ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE excluded.value > value",
                    chunk,
                )
                written += con.total_changes - before
        return written

    def remove(self, lane: str, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """As the interface says."""
        with self._writing() as con:
            table = self._table(con, lane)
            if table is None:
                return 0
            before = con.total_changes
            con.executemany(f"DELETE FROM {table} WHERE key = ? AND value = ?", rows)
            return con.total_changes - before

    def scan(self, lane: str) -> Iterator[tuple[bytes, bytes]]:
        """As the interface says; in the order of the keys."""
        last: bytes | None = None
        while self._is_there():
            with self._telling() as con:
                table = self._table(con, lane)
                if table is None:
                    return
                after = "" if last is None else "WHERE key > ?"
                found = con.execute(
                    f"SELECT key, value FROM {table} {after} ORDER BY key LIMIT {_AT_ONCE}", () if last is None else (last,)
                ).fetchall()
            yield from found
            if len(found) < _AT_ONCE:
                return
            last = found[-1][0]

    def drop(self, lane: str) -> None:
        """As the interface says."""
        with self._writing() as con:
            table = self._table(con, lane)
            if table is not None:
                con.execute(f"DROP TABLE {table}")
                con.execute("DELETE FROM lanes WHERE name = ?", (lane,))
        self._tables.pop(lane, None)

    def lanes(self) -> Mapping[str, LaneSize]:
        """As the interface says."""
        if not self._is_there():
            return {}
        sizes: dict[str, LaneSize] = {}
        with self._telling() as con:
            for (name,) in con.execute("SELECT name FROM lanes ORDER BY name").fetchall():
                table = self._table(con, name)
                if table is not None:
                    rows, size = con.execute(f"SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM {table}").fetchone()
                    sizes[name] = LaneSize(rows, size)
        return sizes

    def states(self) -> Mapping[str, str]:
        """As the interface says."""
        if not self._is_there():
            return {}
        with self._telling() as con:
            return dict(con.execute("SELECT name, state FROM views ORDER BY name").fetchall())

    def replace_state(self, view: str, new: str | None, *, expected: str | None) -> bool:
        """As the interface says."""
        with self._writing() as con:
            row = con.execute("SELECT state FROM views WHERE name = ?", (view,)).fetchone()
            if (row[0] if row else None) != expected:
                return False
            if new is None:
                con.execute("DELETE FROM views WHERE name = ?", (view,))
            else:
                con.execute("INSERT INTO views VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET state = excluded.state", (view, new))
            return True

    def size_bytes(self) -> int:
        """Of the file, without pages that are free."""
        if not self._is_there():
            return 0
        with self._telling() as con:
            pages, free, page = (con.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
        return (pages - free) * page

    def capacity_bytes(self) -> int | None:
        """A file grows as long as the disk has room."""
        return None

    def shrink(self) -> None:
        """Write the file again without free pages; nobody writes meanwhile."""
        if self._is_there():
            with self._telling() as con:
                con.execute("VACUUM")
                con.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def purge(self) -> None:
        """As the interface says: what is free is overwritten, and the log is empty."""
        if not self._path.exists():
            return
        with self._telling() as con:
            con.execute("VACUUM")
            is_busy, *_ = con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise StorageError(
                f"online store {self._path}",
                "is being read by somebody who does not let go of it",
                expected="a log that can be emptied",
                fix="Stop what reads from it, and try again",
            )

    def close(self) -> None:
        """Close the connections of all threads of this process, which must have ended their work."""
        for one in list(self._opened.values()):
            if one.process == os.getpid():
                one.con.close()
        self._opened.clear()
        self._local = threading.local()

    def _table(self, con: sqlite3.Connection, lane: str, *, make: bool = False) -> str | None:
        """The table of a lane; a number is never used again, so a name that is known stays right."""
        if (known := self._tables.get(lane)) is not None and not make:
            return known
        row = con.execute("SELECT id FROM lanes WHERE name = ?", (lane,)).fetchone()
        if row is None and not make:
            return None
        number = row[0] if row else con.execute("INSERT INTO lanes (name) VALUES (?)", (lane,)).lastrowid
        table = quote_identifier(f"lane_{number}")
        if row is None:
            con.execute(f"CREATE TABLE {table} (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        self._tables[lane] = table
        return table

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        with self._telling() as con:
            con.execute("BEGIN IMMEDIATE")
            try:
                yield con
            except BaseException:
                if con.in_transaction:
                    con.execute("ROLLBACK")
                # What this block made is not there.
                self._tables.clear()
                raise
            con.execute("COMMIT")

    @contextmanager
    def _telling(self) -> Generator[sqlite3.Connection]:
        try:
            yield self._connection()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> StorageError:
        fix = "Make room on the disk, or remove the file: lakehouse features materialize fills it again"
        return StorageError(f"online store {self._path}", "can't be used", found=str(error), fix=fix)

    def _is_known(self) -> bool:
        """Whether this thread has looked at the file a moment ago, which is enough to read: a look costs a fifth of reading a row."""
        local = self._local
        return getattr(local, "con", None) is not None and local.process == os.getpid() and monotonic() < local.known_until

    def _is_there(self) -> bool:
        return self._file() is not None

    def _file(self) -> tuple[int, int] | None:
        """Which file it is; None where there is none."""
        try:
            found = os.stat(self._name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino

    def _connection(self) -> sqlite3.Connection:
        con: sqlite3.Connection | None = getattr(self._local, "con", None)
        # A connection must not cross a fork, nor stay with a file that was removed.
        if con is not None and self._local.process == os.getpid() and self._local.file == self._file():
            self._local.known_until = monotonic() + _LOOK_S
            return con
        if con is not None and self._local.process == os.getpid():
            self._local.con = None
            self._opened.pop(id(con), None)
            con.close()
            self._tables.clear()
        self._close_of_ended_threads()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # It holds what the tables hold, for one user.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, PRIVATE))
        con = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        # Of a file that has pages already it changes nothing.
        con.execute("PRAGMA page_size = 8192")
        con.execute("PRAGMA journal_mode = WAL")
        con.execute("PRAGMA synchronous = NORMAL")
        # Rows of somebody who was erased must not stay in free pages.
        con.execute("PRAGMA secure_delete = ON")
        # A file that is mapped into memory and made shorter by somebody ends the process; read into a cache it is an error.
        con.execute("PRAGMA mmap_size = 0")
        con.execute("PRAGMA cache_size = -65536")
        with closing(con.cursor()) as cursor:
            cursor.executescript(_SCHEMA)
        self._local.con, self._local.process, self._local.file = con, os.getpid(), self._file()
        self._local.known_until = monotonic() + _LOOK_S
        self._opened[id(con)] = _Opened(threading.current_thread(), os.getpid(), con)
        return con

    def _close_of_ended_threads(self) -> None:
        """Servers end threads that have nothing to do, and begin others: what those had opened would stay open."""
        for key, one in list(self._opened.items()):
            # A connection of the process that this one was forked from is that one's to close.
            if one.process == os.getpid() and not one.thread.is_alive() and self._opened.pop(key, None) is not None:
                one.con.close()


@lru_cache(maxsize=1_000)
def _reading_one(*tables: str | None) -> str:
    """SQL of a view's state and a key's value in each table; of a lane without one, whether there is one by now."""
    values = [
        "(SELECT id FROM lanes WHERE name = ?)" if table is None else f"(SELECT value FROM {table} WHERE key = ?)" for table in tables
    ]
    return f"SELECT (SELECT state FROM views WHERE name = ?), {', '.join(values)}"
