"""Names for versions: `approved`, `before-migration`. They live in a table of their own, and vacuum keeps what they name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse.errors import ConcurrentWrite, TableError, TableNotFound, VersionGone
from lakehouse.instants import parse_instant
from lakehouse.sql import quote_literal
from lakehouse.tables.names import TableName
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.stamp import Stamp

if TYPE_CHECKING:
    from lakehouse.tables.lake import Lake

TAGS_TABLE = TableName("monitoring", "tags")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Tag:
    """The name of one version of one table."""

    table: TableName
    name: str
    version: int
    note: str
    created_at: datetime


def parse_point(text: str) -> int | datetime | str:
    """A point in a table's history as people write it: a version, an instant (without an offset it is UTC), or a tag.

    Raises:
        TableError: it is none of them.
    """
    if text.isascii() and text.isdecimal():
        return int(text)
    if _NAME.fullmatch(text):
        return text
    try:
        return parse_instant(text, subject="point", error=TableError, expected="an instant")
    except TableError as error:
        raise TableError(
            f"point {text!r}",
            "is no point in a table's history",
            expected="a version (3), an instant (2026-01-31T12:00, UTC) or a tag (letters, digits, dots, dashes, underscores)",
            fix="lakehouse history TABLE lists versions, lakehouse tag list the tags",
        ) from error


def read_tags(lake: "Lake", table: TableName | None = None) -> list[Tag]:
    """Every tag, or those of one table, oldest first."""
    if not lake.exists(TAGS_TABLE):
        return []
    where = f"WHERE table_name = {quote_literal(str(table))}" if table is not None else ""
    with lake.connect([TAGS_TABLE]) as session:
        rows = session.con.execute(
            f"SELECT table_name, name, version, note, epoch_us(created_at) FROM {TAGS_TABLE} {where} ORDER BY created_at, table_name, name"
        ).fetchall()
    return [
        Tag(TableName.parse(name), tag, version, note, datetime.fromtimestamp(at / 1_000_000, UTC)) for name, tag, version, note, at in rows
    ]


def tagged_version(lake: "Lake", table: TableName, name: str) -> int:
    """The version that a tag names.

    Raises:
        TableNotFound: the table has no such tag.
    """
    found = {tag.name: tag.version for tag in read_tags(lake, table)}
    if name not in found:
        raise _no_tag(table, name, list(found))
    return found[name]


def write_tag(lake: "Lake", tag: Tag, *, run: str, move: bool) -> Tag:
    """Add a tag, or give its name to another version; returns the one that is there then.

    A version that has the name already keeps it as it is, unless there is another note.

    Raises:
        TableError: the name can't be one, or names another version and `move` is false.
        VersionGone: vacuum has removed the version, before or meanwhile; the tag is as it was.
    """
    if not _NAME.fullmatch(tag.name):
        raise TableError(
            f"tag {tag.name!r}",
            "is not a name of a version",
            expected="a letter, then letters, digits, dots, dashes or underscores, at most 100",
            fix="Choose another name",
        )
    lake.snapshot(tag.table, tag.version)
    attempt = 1
    while True:
        expected = lake.version(TAGS_TABLE)
        taken = next((one for one in read_tags(lake, tag.table) if one.name == tag.name), None)
        if taken is not None and taken.version == tag.version and tag.note in {"", taken.note}:
            return taken
        if taken is not None and taken.version != tag.version and not move:
            raise TableError(
                f"tag {tag.name} of {tag.table}",
                "is taken",
                expected="a new name",
                found=f"version {taken.version}, since {taken.created_at:%Y-%m-%d %H:%M:%S}",
                fix="Choose another name, or move the tag with --move",
            )
        try:
            _merge(lake, tag, run=run, expect_version=-1 if expected is None else expected)
            break
        except ConcurrentWrite:
            wait_after_conflict(TAGS_TABLE, attempt)
            attempt += 1
    try:
        lake.snapshot(tag.table, tag.version)
    except VersionGone:
        # A vacuum that did not know of the tag was first.
        if taken is None:
            remove_tag(lake, tag.table, tag.name, run=run)
        else:
            _merge(lake, taken, run=run)
        raise
    return tag


def _merge(lake: "Lake", tag: Tag, *, run: str, expect_version: int | None = None) -> None:
    values = {
        "table_name": quote_literal(str(tag.table)),
        "name": quote_literal(tag.name),
        "version": f"{tag.version}::BIGINT",
        "note": quote_literal(tag.note),
        "created_at": quote_literal(tag.created_at.astimezone(UTC)),
        "run": quote_literal(run),
    }
    select = ", ".join(f"{value} AS {name}" for name, value in values.items())
    con = lake.open_connection()
    try:
        stamp = Stamp(asset=str(TAGS_TABLE), run=run, inputs={str(tag.table): tag.version}, code="tag")
        lake.merge(con, TAGS_TABLE, f"SELECT {select}", key=["table_name", "name"], stamp=stamp, expect_version=expect_version)
    finally:
        con.close()


def remove_tag(lake: "Lake", table: TableName, name: str, *, run: str) -> None:
    """Remove a tag; the version stays until maintenance finds that nothing needs it.

    Raises:
        TableNotFound: the table has no such tag.
    """
    names = [tag.name for tag in read_tags(lake, table)]
    if name not in names:
        raise _no_tag(table, name, names)
    con = lake.open_connection()
    try:
        stamp = Stamp(asset=str(TAGS_TABLE), run=run, code="untag")
        lake.delete(con, TAGS_TABLE, f"table_name = {quote_literal(str(table))} AND name = {quote_literal(name)}", stamp=stamp)
    finally:
        con.close()


def _no_tag(table: TableName, name: str, names: Sequence[str]) -> TableNotFound:
    return TableNotFound(
        f"tag {name} of {table}",
        "does not exist",
        expected=f"one of {', '.join(names)}" if names else "a version or an instant; the table has no tags",
        fix=f"See lakehouse tag list and lakehouse history {table}",
    )
