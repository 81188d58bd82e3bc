"""Tags: names for versions, each of one version at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from lakehouse.errors import TableError, TableNotFound, VersionGone
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.tags import parse_point
from lakehouse.tables.writing import TableWriter
from tests.tables.reading import rows

T = "raw.people"


@pytest.fixture
def three(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> Lake:
    for number in range(3):
        lake.append(con, T, f"SELECT {number} AS id", stamp=stamp)
    return lake


def test_a_tag_stands_wherever_a_version_does(three: Lake, now: datetime, stamp: Stamp) -> None:
    made = three.tag(T, "approved", version=1, note='it\'s "good"', now=now, run="r")
    three.tag(T, "newest", now=now, run="r")
    assert (made.version, [(tag.name, tag.version, tag.note, tag.created_at) for tag in three.tags(T)]) == (
        1,
        [("approved", 1, 'it\'s "good"', now), ("newest", 2, "", now)],
    )
    assert rows(three, T, version="approved") == [(0,), (1,)]
    assert three.detail(T, "approved").rows == 2
    assert three.restore(T, "approved", stamp=stamp).rows == 2
    assert three.history(T, limit=1)[0].restored == 1


def test_a_name_means_one_version(three: Lake, now: datetime) -> None:
    three.tag(T, "good", version=0, now=now, run="r")
    three.tag(T, "good", version=0, now=now, run="again")
    with pytest.raises(TableError, match="is taken"):
        three.tag(T, "good", version=1, now=now, run="r")
    three.tag(T, "good", version=1, now=now, run="r", move=True)
    assert [(tag.name, tag.version) for tag in three.tags()] == [("good", 1)]
    three.untag(T, "good")
    assert three.tags() == []
    with pytest.raises(TableNotFound, match="the table has no tags"):
        three.untag(T, "good")


@pytest.mark.parametrize("name", ["", "3", "2026-01-01", "a b", "a@b", "ä", "'; drop", "x" * 101])
def test_names_that_could_mean_something_else_are_refused(three: Lake, now: datetime, name: str) -> None:
    with pytest.raises(TableError, match="is not a name of a version"):
        three.tag(T, name, now=now, run="r")


def test_a_version_that_is_tagged_again_keeps_its_tag(three: Lake, now: datetime) -> None:
    first = three.tag(T, "approved", version=1, note="signed off", now=now, run="r")
    before = three.version("monitoring.tags")
    assert three.tag(T, "approved", version=1, now=now + timedelta(days=1), run="r") == first
    assert (three.tags(), three.version("monitoring.tags")) == ([first], before)
    again = three.tag(T, "approved", version=1, note="twice", now=now + timedelta(days=1), run="r")
    assert three.tags() == [again]


def test_versions_and_tables_that_do_not_exist(three: Lake, now: datetime) -> None:
    with pytest.raises(TableNotFound):
        three.tag(T, "x", version=7, now=now, run="r")
    with pytest.raises(TableNotFound):
        three.tag("raw.nobody", "x", now=now, run="r")
    assert three.tags() == []


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("12", 12),
        ("approved", "approved"),
        ("v1.2-rc", "v1.2-rc"),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_points_in_a_history(text: str, point: object) -> None:
    assert parse_point(text) == point


@pytest.mark.parametrize("text", ["", "-1", "1.5", "²", "2026-13-01", "a b"])
def test_what_is_no_point_is_told(text: str) -> None:
    with pytest.raises(TableError, match="is no point in a table's history"):
        parse_point(text)


def test_a_tag_that_comes_while_a_vacuum_is_under_way_is_kept(
    three: Lake, con: duckdb.DuckDBPyConnection, now: datetime, stamp: Stamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vacuum has asked for tags, and has not yet said what it takes."""
    three.merge(con, T, "SELECT 0 AS id, 'x' AS v", key=["id"], stamp=stamp)
    commit = TableWriter.change
    first = iter([True])

    def after_a_tag(self: TableWriter, *arguments: Any, **named: Any) -> int:
        if str(self.table) == T and next(first, False):
            three.tag(T, "late", version=1, now=now, run="r")
        return commit(self, *arguments, **named)

    monkeypatch.setattr(TableWriter, "change", after_a_tag)
    done = three.vacuum(T, retention=timedelta(0), now=datetime(2100, 1, 1, tzinfo=UTC), force=True)
    assert not any(first_one <= 1 <= last for first_one, last in done.gone)
    assert rows(three, T, version="late", columns="id") == [(0,), (1,)]
    assert [file.path for file in three.snapshot(T, 1).files]
    three.untag(T, "late")
    three.vacuum(T, retention=timedelta(0), now=datetime(2100, 1, 1, tzinfo=UTC), force=True)
    with pytest.raises(VersionGone):
        three.snapshot(T, 1)


def test_a_tag_that_comes_after_a_vacuum_has_spoken_is_refused(
    three: Lake, con: duckdb.DuckDBPyConnection, now: datetime, stamp: Stamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.merge(con, T, "SELECT 0 AS id, 'x' AS v", key=["id"], stamp=stamp)
    merge = Lake.merge

    def after_a_vacuum(self: Lake, *arguments: Any, **named: Any) -> object:
        three.vacuum(T, retention=timedelta(0), now=datetime(2100, 1, 1, tzinfo=UTC), force=True)
        return merge(self, *arguments, **named)

    monkeypatch.setattr(Lake, "merge", after_a_vacuum)
    with pytest.raises(VersionGone):
        three.tag(T, "late", version=1, now=now, run="r")
    assert three.tags() == []


def test_a_tag_that_can_not_be_moved_after_all_stays_where_it_was(
    three: Lake, con: duckdb.DuckDBPyConnection, now: datetime, stamp: Stamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.merge(con, T, "SELECT unnest([0, 1]) AS id, 'x' AS v", key=["id"], stamp=stamp)
    before = three.tag(T, "approved", version=0, now=now, note="by ann", run="r")
    merge = Lake.merge
    first = iter([True])

    def after_a_vacuum(self: Lake, *arguments: Any, **named: Any) -> object:
        if next(first, False):
            three.vacuum(T, retention=timedelta(0), now=datetime(2100, 1, 1, tzinfo=UTC), force=True)
        return merge(self, *arguments, **named)

    monkeypatch.setattr(Lake, "merge", after_a_vacuum)
    with pytest.raises(VersionGone):
        three.tag(T, "approved", version=1, now=now, run="r", move=True)
    assert three.tags() == [before]
