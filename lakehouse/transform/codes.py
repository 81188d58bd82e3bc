"""The code in the stamps of tables that dbt builds, and which code made the rows of a version.

A model's code is `<definition>`, for a table that is replaced as a whole `<definition>.<its compiled SQL>`, and
`<definition>.mixed` where rows of this definition were added to rows of another. A model's definition holds those of the tables
it reads, as their stamps have them: what a table was made of, not what it would be made of now.
"""

import re
import threading

from lakehouse.tables import CommitInfo, Lake, TableName, in_force

_MODEL_CODE = re.compile(r"([0-9a-f]{32}(?:\.mixed)?)(?:\.[0-9a-f]{32})?")
# Columns and features that a write prepares have commits of their own, with its stamp and without its rows; maintenance and
# erasure do not change what made the rows that stay.
_BUILDS = frozenset({"overwrite", "append", "merge", "delete_insert", "replace_partitions", "replace_where"})


def mixed(code: str) -> str:
    """The code of a table that holds rows of this definition and of others: equal to no definition, whichever is wanted next."""
    return f"{code}.mixed"


def definition_in(code: str | None) -> str | None:
    """The part of a code that the definitions of tables downstream hold."""
    found = _MODEL_CODE.fullmatch(code or "")
    return code if found is None else found[1]


def is_build(info: CommitInfo) -> bool:
    """Whether dbt gave the table rows with this commit."""
    return info.stamp is not None and info.stamp.asset == str(info.table) and bool(info.stamp.code) and info.operation in _BUILDS


class BuildCodes:
    """Codes of builds, each read from a table's log once."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._known: dict[tuple[TableName, int], str | None] = {}
        self._lock = threading.Lock()

    def at(self, table: TableName, version: int) -> str | None:
        """The code of the build that made a version's rows, a restored one's too; None if dbt has not built the table."""
        with self._lock:
            if (table, version) in self._known:
                return self._known[table, version]
        found = self._look_up(table, version)
        with self._lock:
            self._known[table, version] = found
        return found

    def remember(self, table: TableName, version: int, code: str) -> None:
        """What this process has just built."""
        with self._lock:
            self._known[table, version] = code

    def _look_up(self, table: TableName, version: int) -> str | None:
        limit = 1
        while True:
            history = self._lake.history(table, limit)
            made = next((info for info in in_force(history, version) if is_build(info)), None)
            if made is not None and made.stamp is not None:
                return made.stamp.code
            if len(history) < limit:
                return None
            limit *= 16
