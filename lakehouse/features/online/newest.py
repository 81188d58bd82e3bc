"""The newest rows of a few entities, out of as few files of a version as can have them.

A file whose bounds say that it has none of the entities is not read. Of the others first those are that reach to when something changed: an
entity that has a row there as young as that has no younger one elsewhere. Only for who is left the older files are read.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse.features.online.rows import EPOCH
from lakehouse.features.point_in_time import JoinedView, newest_sql
from lakehouse.features.views import FeatureView
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables.pruning import may_hold, may_hold_one, may_reach

if TYPE_CHECKING:
    import duckdb

    from lakehouse.tables.snapshot import DataFile, Snapshot

_MOST_VALUES = 10_000
_BOUNDED = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "VARCHAR", "DATE", "TIMESTAMP"})
_RECENT = "__lakehouse_recent"
_LEFT = "__lakehouse_left"
CHANGED_AT = "__lakehouse_at"
"""Column of the table of changed entities: when the newest of what changed was true; empty where that is not known."""


def instants(view: FeatureView) -> list[str]:
    """SQL of the instants that a row of the view has."""
    return [f"CAST({quote_identifier(column)} AS TIMESTAMPTZ)" for column in _times(view)]


def effective(view: FeatureView) -> str:
    """SQL of the instant from which a row is both true and known."""
    times = instants(view)
    return times[0] if len(times) == 1 else f"greatest({', '.join(times)})"


def _times(view: FeatureView) -> list[str]:
    return [column for column in (view.event_timestamp, view.known_timestamp) if column]


def rows_between(con: "duckdb.DuckDBPyConnection", snapshot: "Snapshot", view: FeatureView, after: datetime, until: datetime | None) -> str:
    """SQL of the rows that became true and known after an instant, and until another one; FROM and WHERE without a SELECT."""
    files = [file for file in snapshot.files if may_reach(file, _times(view), after)]
    instant = effective(view)
    limit = "" if until is None else f" AND {instant} <= {quote_literal(until)}"
    return f"FROM ({_scan(con, snapshot, files)}) WHERE {instant} > {quote_literal(after)}{limit}"


def newest_of_changed(
    con: "duckdb.DuckDBPyConnection", snapshot: "Snapshot", joined: JoinedView, changed: str, at: datetime
) -> tuple[str, int]:
    """As `newest_sql`, of the entities in a table alone; and how many files have to be read for it.

    Args:
        con: has the table.
        snapshot: of the view's table.
        joined: the view.
        changed: name of a table of the view's entities, each once, with CHANGED_AT.
        at: the instant to look from.
    """
    view = joined.view
    files = _may_have(con, snapshot, view, changed, snapshot.files)
    since_us = con.execute(f"SELECT epoch_us(min({CHANGED_AT})) FROM {changed}").fetchall()[0][0] if view.event_timestamp else None
    since = None if since_us is None else EPOCH + timedelta(microseconds=since_us)
    recent = files if since is None else [file for file in files if may_reach(file, [view.event_timestamp or ""], since)]
    if since is None or len(recent) == len(files):
        return _newest(_scan(con, snapshot, files), joined, changed, at), len(files)
    entity = ", ".join(map(quote_identifier, view.entity))
    con.execute(f"CREATE OR REPLACE TEMP TABLE {_RECENT} AS {_newest(_scan(con, snapshot, recent), joined, changed, at)}")
    keys = ", ".join(f"__e{place} AS {quote_identifier(column)}" for place, column in enumerate(view.entity))
    is_sure = f"__at >= {quote_literal(since)}"
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {_LEFT} AS SELECT {entity} FROM {changed} ANTI JOIN (SELECT {keys} FROM {_RECENT} WHERE {is_sure})"
        f" USING ({entity})"
    )
    older = _may_have(con, snapshot, view, _LEFT, files)
    found = f"SELECT * FROM {_RECENT} WHERE {is_sure}"
    if not older:
        return found, len(recent)
    return f"{found} UNION ALL ({_newest(_scan(con, snapshot, older), joined, _LEFT, at)})", len({file.path for file in (*recent, *older)})


def _newest(scan: str, joined: JoinedView, entities: str, at: datetime) -> str:
    using = ", ".join(map(quote_identifier, joined.view.entity))
    rows = f"(SELECT * FROM ({scan}) SEMI JOIN {entities} USING ({using}))"
    return newest_sql(replace(joined, relation=rows), at=at)


def _may_have(
    con: "duckdb.DuckDBPyConnection", snapshot: "Snapshot", view: FeatureView, entities: str, files: Sequence["DataFile"]
) -> list["DataFile"]:
    """Those of the files that can have a row of the entities in a table."""
    types = {column.name: column.sql_type for column in snapshot.columns}
    kept = list(files)
    for name in view.entity:
        if types[name] not in _BOUNDED:
            continue
        column = quote_identifier(name)
        low, high, count = con.execute(f"SELECT min({column}), max({column}), count(DISTINCT {column}) FROM {entities}").fetchall()[0]
        if count > _MOST_VALUES:
            kept = [file for file in kept if may_hold(file, {name: (low, high)})]
            continue
        values = [value for (value,) in con.execute(f"SELECT DISTINCT {column} FROM {entities} ORDER BY 1").fetchall()]
        kept = [file for file in kept if may_hold_one(file, name, values)]
    return kept


def _scan(con: "duckdb.DuckDBPyConnection", snapshot: "Snapshot", files: Sequence["DataFile"]) -> str:
    return snapshot.scan_sql(con, files=[file.uri for file in files])
