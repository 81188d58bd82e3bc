"""Periods and consents of contracts: off until the contract says so, then enforced in every version."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from lakehouse.contracts.keeping import retention_of
from lakehouse.errors import ContractError
from lakehouse.ingest import ingest_landing
from lakehouse.monitoring import batch_volumes
from lakehouse.pipeline.keeping import enforce_contracts
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy.erasure.suppression import rows_gone
from lakehouse.recovery.verifying import verify_home
from lakehouse.settings import Settings

NOW = datetime.now(UTC)
DOCUMENT: dict[str, Any] = {
    "apiVersion": "v3.1.0",
    "kind": "DataContract",
    "id": "visits",
    "name": "visits",
    "version": "1.0.0",
    "status": "active",
    "schema": [
        {
            "name": "visits",
            "properties": [
                {"name": "visit", "logicalType": "string", "required": True, "primaryKey": True, "primaryKeyPosition": 1},
                {"name": "person", "logicalType": "string"},
                {"name": "agreed", "logicalType": "string"},
                {"name": "visited_at", "logicalType": "timestamp"},
            ],
        }
    ],
}
PERIOD = {"slaProperties": [{"property": "retention", "value": 30, "unit": "d", "element": "visits.visited_at"}]}
ENFORCE = {"property": "lakehouse.retention", "value": "enforce"}
CONSENT = {"property": "lakehouse.consent", "value": {"column": "agreed", "subject": "person"}}


def opened(settings: Settings, custom: list[dict[str, Any]], **more: Any) -> Workspace:
    folder = settings.home_dir / "contracts" / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "visits.odcs.yaml").write_text(yaml.safe_dump({**DOCUMENT, "customProperties": custom, **more}), encoding="utf-8")
    return Workspace(settings.model_copy(update={"settle_s": 0.0}))


def arrive(workspace: Workspace, name: str, rows: list[str]) -> None:
    folder = workspace.settings.landing_dir / "visits"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("visit,person,agreed,visited_at\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    ingest_landing(workspace.lake, workspace.contracts.dataset("visits"), settings=workspace.settings, run="r", now=NOW)


def visits(first: int, count: int, *, days: int, agreed: str = "yes") -> list[str]:
    at = NOW - timedelta(days=days)
    return [f"V-{number:05d},PERSON-{number % 10:04d},{agreed},{at:%Y-%m-%dT%H:%M:%S}" for number in range(first, first + count)]


def people(workspace: Workspace, version: int | None = None) -> list[str]:
    con = workspace.lake.open_connection()
    found = con.execute(f"SELECT visit FROM ({workspace.lake.scan_sql('raw.visits', version=version, con=con)}) ORDER BY 1").fetchall()
    con.close()
    return [row[0] for row in found]


def test_a_contract_that_says_nothing_is_left_alone(settings: Settings) -> None:
    workspace = opened(settings, [], **PERIOD)
    arrive(workspace, "old.csv", visits(0, 20, days=400))
    report = enforce_contracts(workspace, run="r", now=NOW)
    assert (report.enforced, report.expired) == ((), ())
    assert len(people(workspace)) == 20


def test_rows_over_their_period_leave_every_version(settings: Settings) -> None:
    workspace = opened(settings, [ENFORCE], **PERIOD)
    arrive(workspace, "old.csv", visits(0, 20, days=31))
    arrive(workspace, "new.csv", visits(20, 20, days=29))
    looked = enforce_contracts(workspace, run="r", now=NOW, dry_run=True)
    assert looked.expired[0].tables == {"raw.visits": 20}
    assert len(people(workspace)) == 40
    done = enforce_contracts(workspace, run="r", now=NOW)
    assert done.expired[0].tables == {"raw.visits": 20}
    young = [row.split(",")[0] for row in visits(20, 20, days=0)]
    assert people(workspace) == young
    assert people(workspace, 0) == []
    assert people(workspace, 1) == young
    assert sum(volume.rows_accepted for volume in batch_volumes(workspace.lake, "visits")) == 20 + rows_gone(workspace.lake, "visits").raw
    assert enforce_contracts(workspace, run="r", now=NOW).expired == ()
    # A year later the originals go as well, and nothing counts as damaged.
    later = NOW + timedelta(days=365)
    assert enforce_contracts(workspace, run="r", now=later).expired[0].originals == 2
    assert people(workspace) == []
    assert verify_home(settings).failures == ()


def test_a_person_who_withdrew_is_erased(settings: Settings) -> None:
    workspace = opened(settings, [CONSENT])
    arrive(workspace, "first.csv", visits(0, 20, days=3))
    assert enforce_contracts(workspace, run="r", now=NOW).withdrawn == ()
    # Of the newest rows: one withdrew, another agreed again.
    arrive(workspace, "second.csv", [*visits(103, 1, days=1, agreed="no"), *visits(104, 1, days=1, agreed="no")])
    arrive(workspace, "third.csv", visits(204, 1, days=0))
    done = enforce_contracts(workspace, run="r", now=NOW + timedelta(hours=2))
    assert len(done.withdrawn) == 1
    assert done.unfinished == ()
    left = people(workspace)
    assert not {"V-00003", "V-00013", "V-00103"} & set(left)
    assert {"V-00004", "V-00104", "V-00204"} <= set(left)


def test_what_is_enforced_is_told_without_naming_anybody(settings: Settings) -> None:
    events = settings.home_dir / "events.ndjson"
    workspace = opened(settings.model_copy(update={"openlineage_file": events}), [CONSENT, ENFORCE], **PERIOD)
    arrive(workspace, "first.csv", [*visits(3, 1, days=31), *visits(20, 5, days=3)])
    arrive(workspace, "second.csv", visits(124, 1, days=1, agreed="no"))
    events.unlink()
    enforce_contracts(workspace, run="r", now=NOW + timedelta(hours=2))
    text = events.read_text("utf-8")
    told = [json.loads(line) for line in text.splitlines()]
    assert [(one["job"]["name"], one["eventType"]) for one in told] == [
        ("expire.visits", "START"), ("expire.visits", "COMPLETE"), ("erase.subject", "START"), ("erase.subject", "COMPLETE"),
    ]  # fmt: skip
    for end in told[1::2]:
        assert any(one["name"].endswith("raw/visits") for one in end["outputs"])
    assert "PERSON-" not in text
    assert "V-00" not in text


@pytest.mark.parametrize(
    ("custom", "more", "problem"),
    [
        ([ENFORCE], {}, "does not state"),
        ([{"property": "lakehouse.retention", "value": "maybe"}], PERIOD, "unknown"),
        ([ENFORCE], {"slaProperties": [{"property": "retention", "value": 3, "unit": "moons"}]}, "no period"),
        ([ENFORCE], {"slaProperties": [{"property": "retention", "value": 3, "unit": "d"}]}, "how old"),
        ([ENFORCE], {"slaProperties": [{"property": "retention", "value": 3, "unit": "d", "element": "person"}]}, "how old"),
    ],
)
def test_what_can_not_be_enforced_is_told(settings: Settings, custom: list[dict[str, Any]], more: dict[str, Any], problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        retention_of(opened(settings, custom, **more).contracts.dataset("visits"))
