"""Delta's change data feed: a commit that rewrites files says in files of their own which rows went and came.

Such a file lies in CHANGE_FOLDER, has the table's columns and CHANGE_TYPE, and is named by a `cdc` action of its commit. Commits that only
add files or take whole files away need none, and neither do those that change no row: their other actions say it. Where the rows that
changed are a large part of those that are written again, the old and new files say it at nearly the same price, and none is written.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from deltalake import TableFeatures

from lakehouse.sql import quote_identifier
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.sources import inner
from lakehouse.tables.sql import quote_identifiers
from lakehouse.tables.types import TableColumn

CHANGE_FOLDER = "_change_data"
CHANGE_TYPE = "_change_type"
COMMIT_VERSION = "_commit_version"
_RESERVED = frozenset({CHANGE_TYPE, COMMIT_VERSION, "_commit_timestamp"})
_PROPERTY = "delta.enableChangeDataFeed"
_FEATURE = "changeDataFeed"
# Writer features that ask nothing of a commit that we write ourselves; NOT NULL and CHECK are looked at before.
_KNOWN = frozenset({_FEATURE, "timestampNtz", "appendOnly", "invariants", "checkConstraints"})
_FIRST_WRITER_VERSION, _WITH_FEATURES = 4, 7
_ALWAYS_ROWS = 10_000
_LARGEST_SHARE = 0.02


class ChangeType(StrEnum):
    """What became of a row; an update has two, the row as it was and as it is."""

    INSERT = "insert"
    DELETE = "delete"
    BEFORE = "update_preimage"
    AFTER = "update_postimage"


def feed_properties(columns: Iterable[TableColumn]) -> dict[str, str]:
    """The property of a new table by which its commits say what they changed; not where its columns have the feed's names."""
    return {} if _has_reserved(columns) else {_PROPERTY: "true"}


def feed_features(snapshot: Snapshot) -> list[TableFeatures]:
    """The feature that a table must declare, once it declares any, for its feed."""
    return [TableFeatures.ChangeDataFeed] if _is_enabled(snapshot) and _FEATURE not in snapshot.features else []


def has_feed(snapshot: Snapshot) -> bool:
    """Whether a commit on this version can name files with changed rows."""
    protocol = snapshot.delta.protocol()
    declared = snapshot.features if protocol.min_writer_version >= _WITH_FEATURES else frozenset({_FEATURE})
    return (
        _is_enabled(snapshot)
        and protocol.min_writer_version in (_FIRST_WRITER_VERSION, _WITH_FEATURES)
        and _FEATURE in declared <= _KNOWN
        and snapshot.configuration.get("delta.appendOnly", "false").lower() != "true"
        and not _has_reserved(snapshot.columns)
    )


def is_worth_a_file(*, changed: int, rewritten: int | None) -> bool:
    """Whether the rows that change are few beside those that are read and written again; None where nobody has counted them."""
    return 0 < changed <= max(_ALWAYS_ROWS, _LARGEST_SHARE * (rewritten or 0))


def changes_sql(gone: str, come: str | None, columns: Sequence[TableColumn], key: Sequence[str]) -> str:
    """The rows of a change file.

    Args:
        gone: a table of the rows that go.
        come: a query of those that come.
        columns: of the table.
        key: a row that comes for one that goes with this key is the same row, updated; without a key rows are deleted and inserted.
    """
    names = quote_identifiers(column.name for column in columns)
    kind = quote_identifier(CHANGE_TYPE)
    parts = [f"SELECT {names}, '{ChangeType.BEFORE if key else ChangeType.DELETE}' AS {kind} FROM {gone}"]
    if come is not None:
        match = " AND ".join(f"g.{quote_identifier(name)} IS NOT DISTINCT FROM c.{quote_identifier(name)}" for name in key)
        is_update = f"EXISTS (SELECT 1 FROM {gone} g WHERE {match})" if key else "false"
        change = f"CASE WHEN {is_update} THEN '{ChangeType.AFTER}' ELSE '{ChangeType.INSERT}' END"
        parts.append(f"SELECT {names}, {change} AS {kind} FROM {inner(come)} c")
    return "\nUNION ALL\n".join(parts)


def _is_enabled(snapshot: Snapshot) -> bool:
    return snapshot.configuration.get(_PROPERTY, "false").lower() == "true"


def _has_reserved(columns: Iterable[TableColumn]) -> bool:
    return any(column.key in _RESERVED for column in columns)
