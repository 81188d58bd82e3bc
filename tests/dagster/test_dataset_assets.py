"""The raw and quarantine assets over real files and tables, in ephemeral instances."""

import os
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.datasets import CONSERVATION, LEVEL_CLAIMS, LIMIT, PATIENCE, READABLE, build_dataset_assets
from lakehouse.contracts import Level
from lakehouse.pipeline.workspace import Workspace
from resources.workspace import RESOURCE_KEY
from tests.dagster.conftest import SURVEY, land_survey

RAW = dg.AssetKey(["raw", SURVEY])
QUARANTINE = dg.AssetKey(["quarantine", SURVEY])


@dg.asset(key=["staging", SURVEY], deps=[RAW])
def staging() -> None: ...


def run(workspace: Workspace, instance: dg.DagsterInstance, **options: Any) -> dg.ExecuteInProcessResult:
    assets = [build_dataset_assets(workspace.contracts.dataset(SURVEY)), staging]
    return dg.materialize(assets, instance=instance, resources={RESOURCE_KEY: workspace}, raise_on_error=False, **options)


def metadata_of(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> dict[str, Any]:
    [event] = [event for event in result.get_asset_materialization_events() if event.asset_key == key]
    return {name: entry.value for name, entry in event.materialization.metadata.items()}


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def test_rows_arrive_with_their_metadata_and_checks(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    land_survey(workspace.settings, rows=300, bad_rate=0.05)
    result = run(workspace, instance)
    assert result.success
    raw = metadata_of(result, RAW)
    assert raw["dagster/row_count"] + metadata_of(result, QUARANTINE)["dagster/row_count"] == 300
    assert raw["dagster/table_name"] == f"raw.{SURVEY}"
    assert raw["dagster/uri"] == Path(workspace.settings.tables_uri, "raw", SURVEY).as_uri()
    assert (raw["delta/version_before"], raw["delta/version"]) == ("none", 0)
    assert 0.9 < raw["lakehouse/quality_score"] < 1
    assert {column.name for column in raw["dagster/column_schema"].columns} >= {"interview_id", "_batch", "_row"}
    assert "data:image/png;base64," in raw["lakehouse/rows_per_batch"]
    assert checks_of(result) == {
        CONSERVATION: True,
        LIMIT: True,
        READABLE: True,
        LEVEL_CLAIMS[Level.STRUCTURAL]: False,
        LEVEL_CLAIMS[Level.SEMANTIC]: False,
        LEVEL_CLAIMS[Level.BUSINESS]: False,
        LEVEL_CLAIMS[Level.STATISTICAL]: True,
        PATIENCE: True,
    }
    quarantine = metadata_of(result, QUARANTINE)
    assert quarantine["lakehouse/waiting_rows"] == quarantine["dagster/row_count"]
    assert quarantine["lakehouse/samples"].startswith("| file | row | arrived | attempts | why |")


def test_nothing_new_moves_no_version_and_keeps_the_answers(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    land_survey(workspace.settings)
    first = run(workspace, instance)
    again = run(workspace, instance)
    assert metadata_of(again, RAW)["delta/version_before"] == metadata_of(again, RAW)["delta/version"] == 0
    assert checks_of(again) == checks_of(first)
    versions = [
        instance.get_latest_data_version_record(RAW).asset_materialization.tags["dagster/data_version"]  # pyright: ignore
        for _ in range(1)
    ]
    assert versions == [f"{0:020d}"]


def test_a_dataset_without_files_is_skipped_and_so_is_what_is_downstream(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    result = run(workspace, instance)
    assert result.success
    assert not result.get_asset_materialization_events()
    assert [event.step_key for event in result.get_step_skipped_events()] == ["staging__household_survey"]


def test_a_file_that_cannot_be_read_is_told_and_does_not_stop_the_others(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    [survey] = land_survey(workspace.settings)
    odd = survey.with_name("odd.csv")
    odd.write_text("nothing,of\nthe,survey\n")
    os.utime(odd, (time.time() - 60, time.time() - 60))
    for _ in range(2):  # It is told as long as the file lies there.
        result = run(workspace, instance)
        [readable] = [one for one in result.get_asset_check_evaluations() if one.check_name == READABLE]
        assert not readable.passed
        assert "odd.csv" in (readable.description or "")
        assert result.success
        assert metadata_of(result, RAW)["dagster/row_count"] > 0


def test_a_lost_row_stops_everything_downstream(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    land_survey(workspace.settings)
    assert run(workspace, instance).success
    lake = workspace.lake
    with lake.connect([f"raw.{SURVEY}"]) as session:
        from lakehouse.tables import Stamp

        lake.delete(session.con, f"raw.{SURVEY}", "_row = 1", stamp=Stamp(asset="somebody", run="by hand"))
    result = run(workspace, instance)
    assert not result.success
    assert checks_of(result)[CONSERVATION] is False
    assert "staging__household_survey" not in {event.step_key for event in result.get_step_success_events()}


def test_one_of_the_two_tables_can_be_asked_for_alone(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    land_survey(workspace.settings)
    result = run(workspace, instance, selection=[RAW])
    assert result.success
    assert [event.asset_key for event in result.get_asset_materialization_events()] == [RAW]


def test_asked_for_its_checks_alone_it_ingests_nothing(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    land_survey(workspace.settings)
    run(workspace, instance)
    land_survey(workspace.settings, seed=2)
    asset = build_dataset_assets(workspace.contracts.dataset(SURVEY))
    result = dg.materialize(
        [asset], instance=instance, resources={RESOURCE_KEY: workspace}, selection=dg.AssetSelection.checks_for_assets(RAW)
    )
    assert len(checks_of(result)) == 7
    assert not result.get_asset_materialization_events()
    assert workspace.lake.version(f"raw.{SURVEY}") == 0


@pytest.mark.parametrize("limit", [None, 1.0])
def test_the_limit_is_told_even_where_there_is_none(workspace: Workspace, limit: float | None) -> None:
    from dataclasses import replace

    contract = replace(workspace.contracts.dataset(SURVEY), quarantine_limit_percent=limit)
    [spec] = [spec for spec in build_dataset_assets(contract).check_specs if spec.name == LIMIT]
    assert spec.blocking
    assert ("1 %" in (spec.description or "")) == (limit is not None)


def test_rows_over_the_limit_block_until_somebody_has_decided(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    from dataclasses import replace
    from datetime import UTC, datetime

    from lakehouse.ingest import ingest_landing
    from lakehouse.ingest.events import Author
    from lakehouse.ingest.replay import discard
    from lakehouse.ingest.waiting import Selection

    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    land_survey(workspace.settings, rows=300, bad_rate=0.05)
    contract = workspace.contracts.dataset(SURVEY)
    ingest_landing(workspace.lake, contract, settings=workspace.settings, run="r", now=long_ago)
    strict = replace(contract, quarantine_limit_percent=1.0)

    def checks() -> dict[str, bool]:
        assets, selection = [build_dataset_assets(strict)], dg.AssetSelection.checks_for_assets(RAW, QUARANTINE)
        found = dg.materialize(assets, instance=instance, resources={RESOURCE_KEY: workspace}, selection=selection, raise_on_error=False)
        return {name: passed for name, passed in checks_of(found).items() if name in (LIMIT, PATIENCE, CONSERVATION)}

    assert checks() == {LIMIT: False, PATIENCE: False, CONSERVATION: True}
    discard(workspace.lake, strict, selection=Selection(), settings=workspace.settings, author=Author("ann", "r", long_ago))
    assert checks() == {LIMIT: True, PATIENCE: True, CONSERVATION: True}
