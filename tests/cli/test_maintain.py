"""`lakehouse maintain`: what it says is what it does, and what is pointed to stays."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.pipeline.maintenance import Operation, maintain
from lakehouse.pipeline.pins import pinned_versions
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.tables.reading import rows

RAW = "raw.household_survey"
ALL = tuple(Operation)


def later(**by: float) -> datetime:
    return datetime.now(UTC) + timedelta(**by)


def test_what_it_says_it_would_do_is_what_it_does(lakehouse: Callable[..., Any], small_lake: Lake) -> None:
    before = rows(small_lake, RAW)
    said = lakehouse("maintain", "--dry-run", "--json").json
    assert (said["dry_run"], small_lake.version(RAW)) == (True, 2)
    compacted = next(one for one in said["operations"] if (one["operation"], one["table"]) == ("compact", RAW))
    assert (compacted["changed"], compacted["files_before"], compacted["files_after"]) == (True, 3, 1)
    done = lakehouse("maintain", "--json")
    assert done.code == 0
    assert [(one["operation"], one["table"], one["changed"]) for one in done.json["operations"] if one["operation"] == "compact"] == [
        (one["operation"], one["table"], one["changed"]) for one in said["operations"] if one["operation"] == "compact"
    ]
    assert (small_lake.detail(RAW).files, rows(small_lake, RAW)) == (1, before)
    again = lakehouse("maintain", "--compact", "--vacuum", "--orphans")
    assert (again.code, again.out.strip()) == (0, "Nothing to do.")


def test_only_what_is_asked_of_the_tables_that_are_named(lakehouse: Callable[..., Any], small_lake: Lake) -> None:
    done = lakehouse("maintain", RAW, "--checkpoint", "--json").json
    assert [(one["operation"], one["table"], one["changed"], one["detail"]) for one in done["operations"]] == [
        ("checkpoint", RAW, True, "version 2")
    ]
    assert lakehouse("maintain", RAW, "--checkpoint", "--json").json["operations"][0]["changed"] is False
    unknown = lakehouse("maintain", "raw.household_surveys", "--json")
    assert (unknown.code, unknown.json["error"]) == (2, "TableNotFound")


def test_too_short_a_retention_is_an_error_of_each_table_and_exit_code_2(lakehouse: Callable[..., Any], small_lake: Lake) -> None:
    done = lakehouse("maintain", RAW, "--vacuum", "--retention", "0.5", "--json")
    assert done.code == 2
    assert "at least 1:00:00" in done.json["operations"][0]["error"]
    assert lakehouse("maintain", RAW, "--vacuum", "--retention", "0", "--force").code == 0


def test_pins_follow_models_and_predictions_down_to_raw(settings: Settings, small_lake: Lake) -> None:
    small_lake.tag("staging.household_survey", "approved", version=0, now=datetime.now(UTC), run="r")
    pins = pinned_versions(settings, small_lake)
    assert pins["staging.household_survey"][0][0] == "tag approved"
    predictions = [reason for reasons in pins["models.household_vulnerability_predictions"].values() for reason in reasons]
    assert all(reason.startswith("predictions of ") for reason in predictions)
    below = pins["features.household_features"] | pins[RAW]
    assert set(predictions) <= {reason for reasons in below.values() for reason in reasons}


def test_vacuum_keeps_what_is_pointed_to_and_says_why(settings: Settings, small_lake: Lake) -> None:
    table, lake = "analytics.sums", small_lake
    with lake.connect(()) as session:
        for number in range(4):
            lake.overwrite(session.con, table, f"SELECT {number} AS n", stamp=Stamp(table, "r"))
    lake.tag(table, "approved", version=1, now=datetime.now(UTC), run="r")
    pinned = pinned_versions(settings, lake)
    report = maintain(Workspace(settings), operations=[Operation.VACUUM], run="r", now=later(days=8))
    (done,) = [one for one in report.done if one.table == table]
    assert (done.detail, done.pinned) == ("versions 0, 2 can't be read any more", ("1: tag approved",))
    assert (done.files_before - done.files_after, report.failed) == (2, ())
    for name, versions in pinned.items():
        for version in versions:
            rows(lake, name, version=version)
    recorded = rows(lake, "monitoring.vacuum", columns='operation, "table", bytes_before - bytes_after > 0')
    assert ("vacuum", table, True) in recorded


def test_leftovers_of_killed_processes_go_by_age(settings: Settings, small_lake: Lake) -> None:
    root = Path(settings.tables_uri)
    left = [
        root / "files" / "a" / ".x.csv.12.tmp",
        root / "raw" / "never_made" / "part-1.parquet",
        settings.dbt_home / "runs" / "1-a" / "m.json",
    ]
    spilled = settings.spill_dir / "999999999-x" / "spilled"
    kept = [root / "files" / "a" / "whole.csv", root / "raw" / "being_made" / "part-2.parquet"]
    for path in (*left, spilled, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    old = time.time() - 25 * 3600
    for path in (*left, kept[0], left[2].parent):
        os.utime(path, (old, old))
    said = maintain(Workspace(settings), operations=[Operation.ORPHANS], run="r", now=datetime.now(UTC), dry_run=True)
    assert [(one.files, one.bytes) for one in said.leftovers] == [(2, 200), (1, 100), (1, 100), (0, 0)]
    assert all(path.exists() for path in (*left, spilled, *kept))
    done = maintain(Workspace(settings), operations=[Operation.ORPHANS], run="r", now=datetime.now(UTC))
    assert done.leftovers == said.leftovers
    assert [path.exists() for path in (*left, spilled, *kept)] == [False] * 4 + [True] * 2


def test_a_table_that_is_too_busy_does_not_stop_the_others(settings: Settings, small_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Path(settings.tables_uri, "raw", "household_survey", "_delta_log", f"{1:020d}.json")
    broken.write_text("{not json", encoding="utf-8")
    report = maintain(Workspace(settings), operations=ALL, run="r", now=later(days=8))
    assert {one.table for one in report.failed} == {RAW}
    assert any(one.changed for one in report.done)


def test_an_empty_home(lakehouse: Callable[..., Any]) -> None:
    done = lakehouse("maintain", "--json")
    assert (done.code, done.json["operations"]) == (0, [])
