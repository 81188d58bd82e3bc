"""Writers beside an erasure: rows that were read before somebody was erased are never written after it.

An erasure takes a person out of every table, then makes a mark: a version of `monitoring.erased_subjects`. A connection remembers how
many marks there were before it read anything. A write asks right before its commit whether there are more: then what it holds may have
the person in it, and nothing is written. What was committed before the mark is found by the search that follows it.
"""

from weakref import WeakKeyDictionary

import duckdb

from lakehouse.errors import ErasedMeanwhile
from lakehouse.tables.log import CommitLog
from lakehouse.tables.names import TableName
from lakehouse.tables.storage import Storage

ERASED_SUBJECTS = "monitoring.erased_subjects"
_LOG = "monitoring/erased_subjects/_delta_log"
_NONE = -1
_seen: WeakKeyDictionary[duckdb.DuckDBPyConnection, dict[str, int]] = WeakKeyDictionary()


class Erasures:
    """The marks under one root, and what connections have seen of them.

    Args:
        storage: of the root of the tables, also where rows are read and written in their archive.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known = _NONE

    def newest(self) -> int:
        """The newest mark. Looking costs one request where there is no new one: versions are never removed."""
        if self._known == _NONE and self._is_there(0):
            self._known = CommitLog(self._storage, TableName.parse(ERASED_SUBJECTS)).versions()[-1]
        while self._is_there(self._known + 1):
            self._known += 1
        return self._known

    def begin(self, con: duckdb.DuckDBPyConnection, *, again: bool = False) -> None:
        """Let a connection remember what it sees now, before it reads; what it remembers already counts, unless it begins again."""
        seen = _seen.setdefault(con, {})
        if again or self._storage.root not in seen:
            seen[self._storage.root] = self.newest()

    def follow(self, con: duckdb.DuckDBPyConnection, before: duckdb.DuckDBPyConnection) -> None:
        """Let a connection remember what another one does, such as the one that it is a cursor of."""
        _seen[con] = dict(_seen.get(before, {}))

    def check(self, con: duckdb.DuckDBPyConnection, table: TableName) -> None:
        """Raise ErasedMeanwhile if there is a mark that the connection has not seen."""
        seen = _seen.get(con, {}).get(self._storage.root)
        if seen is not None and self._is_there(seen + 1):
            raise ErasedMeanwhile(
                str(table),
                "was to get rows that were read before somebody was erased; nothing was written",
                fix="Run it again: it reads what is there now",
            )

    def _is_there(self, version: int) -> bool:
        return self._storage.size(f"{_LOG}/{version:020d}.json") is not None
