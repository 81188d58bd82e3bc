"""Archiving by contract: rows leave the raw table, none is lost or counted twice, and all can be read and brought back."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import load_contracts
from lakehouse.errors import ContractError
from lakehouse.pipeline.maintenance import Operation, maintain
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from tests.cli.test_maintain import later

FILES = {
    "old.csv": "id,at,size\n1,2020-01-05,10\n2,2020-02-05,20\n3,2999-11-01,30\n",
    "new.csv": "id,at,size\n4,2999-11-02,40\n5,,50\nx,2020-01-01,oops\n",
}
DAY = datetime(2026, 12, 31, tzinfo=UTC)
RULE = "\n  - {{property: lakehouse.archive, value: {value}}}\n"


@pytest.fixture
def sensors(lakehouse: Callable[..., Any], home: Path, tmp_path: Path) -> Callable[..., Any]:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    assert lakehouse("add", tmp_path / "old.csv", "--name", "sensors", "--key", "id", "--event-time", "at").code == 0
    contract = home / "contracts" / "datasets" / "sensors.odcs.yaml"
    text = contract.read_text()
    assert "\ncustomProperties:" in text
    rule = RULE.format(value="{warmAfterDays: 100, coldAfterDays: 2540, by: at}")
    text = text.replace("\ncustomProperties:\n", f"\ncustomProperties:{rule}", 1)
    contract.write_text(text.replace("quarantineLimit", "lakehouse.none") if "quarantineLimit" not in text else text)
    for name in FILES:
        assert lakehouse("ingest", "sensors", tmp_path / name, "--json").code in (0, 1)
    return lakehouse


def ids(lakehouse: Callable[..., Any], *options: str) -> list[int]:
    return [row["id"] for row in lakehouse("query", "SELECT id FROM raw.sensors ORDER BY id", "--json", *options).json["rows"]]


def test_old_rows_leave_and_come_back(sensors: Callable[..., Any], settings: Settings, tmp_path: Path) -> None:
    everything = ids(sensors)
    assert {1, 2, 3} <= set(everything)
    said = sensors("maintain", "raw.sensors", "--archive", "--dry-run", "--json").json["operations"]
    assert [(one["changed"], one["detail"]) for one in said] == [(True, "2 rows from hot to warm")]
    assert ids(sensors) == everything
    done = sensors("maintain", "--json").json
    assert ("archive", "raw.sensors", "2 rows from hot to warm") in [
        (one["operation"], one["table"], one["detail"]) for one in done["operations"]
    ]
    assert ids(sensors) == [one for one in everything if one > 2]
    assert ids(sensors, "--with-archive") == everything
    # What was read is still what is held, file by file, and delivered again it is known.
    count = "SELECT _file, count(*) AS n FROM raw.sensors GROUP BY 1 ORDER BY 1"
    held = {row["_file"]: row["n"] for row in sensors("query", count, "--with-archive", "--json").json["rows"]}
    assert held["old.csv"] == 3
    again = sensors("ingest", "sensors", tmp_path / "old.csv", "--json").json
    assert again["files"][0]["status"] == "already"
    # Later the oldest go on to the cold tier; maintenance of every tier changes nothing of it.
    work = Workspace(settings)
    (moved,) = [one for one in maintain(work, operations=[Operation.ARCHIVE], run="r", now=DAY).done if one.changed]
    assert moved.detail == "1 rows from warm to cold"
    report = maintain(work, operations=[one for one in Operation if one is not Operation.ARCHIVE], run="r", now=later(days=8))
    assert report.failed == ()
    assert {"warm raw.sensors", "cold raw.sensors"} <= {one.table for one in report.done}
    assert ids(sensors, "--with-archive") == everything
    back = sensors("unarchive", "sensors", "--until", "2020-02-01", "--json").json
    assert [(one["from"], one["to"], one["rows"]) for one in back["moves"]] == [("cold", "warm", 1), ("warm", "hot", 1)]
    assert ids(sensors) == [one for one in everything if one != 2]
    assert ids(sensors, "--with-archive") == everything
    assert sensors("unarchive", "sensors").code == 0
    assert ids(sensors) == everything


def test_a_rule_that_makes_no_sense_names_its_place(sensors: Callable[..., Any], settings: Settings) -> None:
    path = settings.home_dir / "contracts" / "datasets" / "sensors.odcs.yaml"
    right, text = "{warmAfterDays: 100, coldAfterDays: 2540, by: at}", path.read_text()
    assert right in text
    for wrong in ("90", "{warmAfterDays: 0}", "{warmAfterDays: 9, coldAfterDays: 9}", "{warmAfterDays: 9, by: size}", "{days: 9}"):
        path.write_text(text.replace(right, wrong))
        with pytest.raises(ContractError, match="archive"):
            load_contracts(settings)
