"""Rows of one table in several places: old rows move from the table to one of the same name under another root, and back.

The table that rows leave (the upper one) says in its own log, in the commit by which they leave, at which version the lower one holds
them: `source.archive.version`. That commit is the moment they have moved; whatever else the lower table holds, left by a process that
was killed or undone by a restore, does not count and is taken out before anything is added. So each row is counted once at any
instant, and an earlier version of the upper table leads to the version of the lower one that belonged to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import duckdb

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ConcurrentWrite, TableError
from lakehouse.tables.lake import Lake
from lakehouse.tables.names import TableName
from lakehouse.tables.restoring import in_force
from lakehouse.tables.sources import inner
from lakehouse.tables.stamp import CommitInfo, Stamp

if TYPE_CHECKING:
    from lakehouse.settings import Settings

WARM, COLD = "warm", "cold"
_ATTEMPTS = 5
_DOWN, _UP = "archive", "unarchive"


@dataclass(frozen=True, slots=True)
class Move:
    """Rows that went from one tier to the next, or would go.

    Attributes:
        version: the version of the table that they left (or came back to) afterwards.
        lower_version: the version of the table below that counts from now on.
    """

    table: TableName
    rows: int
    bytes: int
    version: int
    lower_version: int | None


def archive_tiers(settings: "Settings", lake: Lake) -> Mapping[str, Lake]:
    """The tiers by name, from hot to cold."""
    below = {
        tier: Lake(
            f"{settings.archive_root}/{tier}",
            storage_options=settings.storage_options,
            memory_limit=settings.memory_limit,
            threads=settings.threads,
            spill_dir=settings.spill_dir,
            root=lake.storage,
        )
        for tier in (WARM, COLD)
    }
    return {"hot": lake, **below}


def counted_version(upper: Lake, table: TableName | str, version: int | None = None) -> int | None:
    """The version of the table below that belongs to a version (default: the newest) of this one; None if nothing has moved."""
    if not upper.exists(table):
        return None
    for commit in in_force(upper.history(table), version):
        told = ((commit.stamp.source if commit.stamp else None) or {}).get("archive")
        if isinstance(told, dict):
            return int(told["version"])
    return None


def held_version(lower: Lake, table: TableName | str, counted: int) -> int:
    """The version of the lower table to read for one that counts: its maintenance and erasures count at once, moves when announced."""
    held, is_pending = counted, False
    for commit in reversed(lower.history(table)):
        if commit.version <= counted:
            continue
        if commit.restored is not None:
            is_pending = is_pending and not counted <= commit.restored <= held
        elif _is_move(commit):
            is_pending = True
        if not is_pending:
            held = commit.version
    return held


def _is_move(commit: CommitInfo) -> bool:
    source = (commit.stamp.source if commit.stamp else None) or {}
    return "moved" in source or commit.operation in {_DOWN, _UP}


def needed_below(tiers: Sequence[Lake], table: str) -> list[tuple[Lake, int]]:
    """Of each tier below the first that holds rows of the table: the version that counts."""
    found: list[tuple[Lake, int]] = []
    for upper, lower in pairwise(tiers):
        at = counted_version(upper, table, found[-1][1] if found else None)
        if at is None:
            break
        found.append((lower, held_version(lower, table, at)))
    return found


def rows_over(tiers: Sequence[Lake], table: TableName | str) -> int:
    """Rows of the newest version of a table and of all that has moved out of it, from the logs alone."""
    if not tiers[0].exists(table):
        return 0
    below = needed_below(tiers, str(table))
    return tiers[0].detail(table).rows + sum(lake.detail(table, version).rows for lake, version in below)


def spanning_sql(tiers: Sequence[Lake], table: TableName | str, *, con: duckdb.DuckDBPyConnection, version: int | None = None) -> str:
    """A SELECT over a version of a table and all that has moved out of it by then, down all tiers.

    Args:
        tiers: the table's own lake, then those below it.
        table: `layer.name`.
        con: where the SELECT will run; it is made able to read every tier.
        version: of the first tier's table; default the newest.

    Raises:
        TableNotFound: there is no such table or version, or vacuum has removed what belonged to it below.
    """
    parts: list[str] = []
    at = version
    for number, lake in enumerate(tiers):
        if number and at is None:
            break
        lake.configure(con)
        snapshot = lake.snapshot(table, held_version(lake, table, at) if number and at is not None and lake.exists(table) else at)
        parts.append(snapshot.scan_sql(con))
        at = counted_version(lake, table, snapshot.version)
    return " UNION ALL BY NAME ".join(f"SELECT * FROM {inner(part)}" for part in parts)


def settle(upper: Lake, lower: Lake, table: TableName | str, *, stamp: Stamp) -> int | None:
    """Take out of the lower table what does not count, if anything; returns the version to read.

    Who changes the lower table in another way than by a move, such as an erasure, settles it first.

    Raises:
        TableError: what counts is not there.
    """
    counted = counted_version(upper, table)
    newest = lower.content_version(table)
    if newest is None:
        if counted is not None:
            raise TableError(
                f"{lower.uri}/{str(table).replace('.', '/')}",
                "is not there, and rows have moved to it",
                fix="Bring the archive back from a backup",
            )
        return None
    if counted is None:
        if lower.detail(table).rows:
            with lower.connect(()) as session:
                lower.delete(session.con, table, "true", stamp=stamp)
        return None
    held = held_version(lower, table, counted)
    if newest != lower.content_version(table, held):
        lower.restore(table, held, stamp=stamp)
    return held


def move_down(upper: Lake, lower: Lake, table: TableName | str, where: str, *, stamp: Stamp, tier: str, dry_run: bool = False) -> Move:
    """Move the rows that satisfy a condition to the table of the same name below.

    Args:
        upper: where they are.
        lower: where they go.
        table: `layer.name`.
        where: a condition over the table's columns, written by a programmer.
        stamp: where the commits come from.
        tier: name of the lower tier, for people.
        dry_run: only count them.

    Raises:
        TableNotFound: there is no such table.
        ConcurrentWrite: other writers never paused; the rows are where they were.
    """
    name = TableName.parse(table)
    for _ in range(_ATTEMPTS):
        version = upper.snapshot(name).version
        with upper.connect([name], as_of={str(name): version}) as session:
            con = session.con
            rows = int(con.execute(f"SELECT count(*) FROM {name} t WHERE ({where}) IS TRUE").fetchall()[0][0])
            if not rows or dry_run:
                detail = upper.detail(name, version)
                return Move(name, rows, round(detail.bytes * rows / detail.rows) if rows else 0, version, counted_version(upper, name))
            settle(upper, lower, name, stamp=stamp)
            lower.configure(con)
            inputs = session.inputs(name)
            moved = {"moved": {"from": str(version), "rows": rows}, **_passed_on(lower, name)}
            copied = lower.append(
                con, name, f"SELECT * FROM {name} t WHERE ({where}) IS TRUE", stamp=_with(stamp, source=moved, inputs=inputs)
            )
            reached(Point.MID_ARCHIVE)
            told = {"archive": {"tier": tier, "version": copied.version, "rows": rows}}
            try:
                gone = upper.delete(con, name, where, stamp=_with(stamp, source=told), expect_version=version, operation=_DOWN)
            except ConcurrentWrite:
                # A row may have come or gone: what was copied is taken out again, and the copy made anew.
                continue
        return Move(name, rows, copied.bytes_added, gone.version, copied.version)
    raise _never_paused(name)


def move_up(upper: Lake, lower: Lake, table: TableName | str, where: str, *, stamp: Stamp, tier: str) -> Move:
    """Bring rows back that `move_down` has moved.

    Raises:
        TableNotFound: there is no such table.
        ConcurrentWrite: other writers never paused; the rows are where they were.
    """
    name = TableName.parse(table)
    for _ in range(_ATTEMPTS):
        version = upper.snapshot(name).version
        counted = settle(upper, lower, name, stamp=stamp)
        if counted is None:
            return Move(name, 0, 0, version, None)
        with lower.connect([name], as_of={str(name): counted}) as session:
            con = session.con
            rows = int(con.execute(f"SELECT count(*) FROM {name} t WHERE ({where}) IS TRUE").fetchall()[0][0])
            if not rows:
                return Move(name, 0, 0, version, counted)
            left = lower.delete(con, name, where, stamp=_with(stamp, source=_passed_on(lower, name)), operation=_UP)
            reached(Point.MID_ARCHIVE)
            told = {"archive": {"tier": tier, "version": left.version, "rows": -rows}}
            upper.configure(con)
            sql = f"SELECT * FROM {name} t WHERE ({where}) IS TRUE"
            try:
                back = upper.append(con, name, sql, stamp=_with(stamp, source=told), expect_version=version)
            except ConcurrentWrite:
                continue
        return Move(name, rows, back.bytes_added, back.version, left.version)
    raise _never_paused(name)


def bring_up(tiers: Mapping[str, Lake], table: TableName | str, where: str, *, stamp: Stamp) -> dict[str, Move]:
    """Bring rows that satisfy a condition back from all tiers; the moves by the tier that they went to, in their order.

    Raises:
        TableNotFound: there is no such table.
        ConcurrentWrite: other writers never paused; every row is where it was.
    """
    lakes = list(tiers.values())
    if counted_version(lakes[0], table) is None:
        return {}
    settled = 1
    for upper, lower in pairwise(lakes):
        if settle(upper, lower, table, stamp=stamp) is None:
            break
        settled += 1
    moved: dict[str, Move] = {}
    for number in reversed(range(settled - 1)):
        upper, (tier, lower) = lakes[number], list(tiers.items())[number + 1]
        done = move_up(upper, lower, table, where, stamp=stamp, tier=tier)
        if number and done.rows:
            point_down(lakes[number - 1], upper, table, stamp=stamp, tier=list(tiers)[number])
        moved[list(tiers)[number]] = done
    return moved


def point_down(upper: Lake, lower: Lake, table: TableName | str, *, stamp: Stamp, tier: str) -> int:
    """Have a table count on the newest version of the one below, whose rows have moved further down; returns its own version."""
    told = {"archive": {"tier": tier, "version": lower.snapshot(table).version, "rows": 0}}
    return upper.note(table, stamp=_with(stamp, source=told))


def _passed_on(lower: Lake, table: TableName) -> dict[str, object]:
    """What a commit of the lower table goes on saying about the one below it."""
    below = counted_version(lower, table)
    return {} if below is None else {"archive": {"tier": "below", "version": below, "rows": 0}}


def _with(stamp: Stamp, *, source: Mapping[str, object] | None = None, inputs: Mapping[str, int] | None = None) -> Stamp:
    return replace(stamp, source=source or None, inputs=inputs or {})


def _never_paused(table: TableName) -> ConcurrentWrite:
    return ConcurrentWrite(
        str(table),
        f"was changed by other writers each of the {_ATTEMPTS} times that rows were to move; they are where they were",
        fix="Run again when fewer processes write to it",
    )
