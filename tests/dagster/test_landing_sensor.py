"""The landing sensor over a real folder, a real raw table and the runs of an instance."""

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.datasets import build_dataset_assets
from lakehouse.ingest.events import Author
from lakehouse.ingest.replay import discard
from lakehouse.ingest.waiting import Selection
from lakehouse.pipeline.workspace import Workspace
from lakehouse.tables import Stamp
from resources.workspace import RESOURCE_KEY
from sensors.landing import FILES_TAG, MAX_ATTEMPTS, build_landing_sensors
from tests.dagster.conftest import SURVEY, land_survey


class Watched:
    """The survey's sensor with a repository of its own, as the daemon would hold them."""

    def __init__(self, workspace: Workspace, instance: dg.DagsterInstance) -> None:
        contract = workspace.contracts.dataset(SURVEY)
        [self.sensor] = build_landing_sensors([contract], workspace.settings)
        self.definitions = dg.Definitions(
            assets=[build_dataset_assets(contract)],
            sensors=[self.sensor],
            resources={RESOURCE_KEY: workspace},
            executor=dg.in_process_executor,
        )
        self.workspace, self.instance = workspace, instance

    def look(self) -> dg.RunRequest | dg.SkipReason:
        context = dg.build_sensor_context(
            instance=self.instance,
            repository_def=self.definitions.get_repository_def(),
            resources={RESOURCE_KEY: Workspace(self.workspace.settings)},
        )
        found = self.sensor(context)
        assert isinstance(found, dg.RunRequest | dg.SkipReason)
        return found

    def requested(self) -> dg.RunRequest:
        found = self.look()
        assert isinstance(found, dg.RunRequest), found
        return found

    def skipped(self) -> str:
        found = self.look()
        assert isinstance(found, dg.SkipReason), found
        return found.skip_message or ""

    def ended(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
        """A run for the request that ended so, without having done anything."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        run = self.instance.create_run_for_job(
            job, tags={**request.tags, "dagster/run_key": request.run_key or ""}, status=dg.DagsterRunStatus.STARTED
        )
        if status is dg.DagsterRunStatus.FAILURE:
            self.instance.report_run_failed(run)
        elif status is dg.DagsterRunStatus.CANCELED:
            self.instance.report_run_canceled(run)

    def run(self, request: dg.RunRequest) -> None:
        result = self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance, tags=dict(request.tags)
        )
        assert result.success


@pytest.fixture
def watched(workspace: Workspace, instance: dg.DagsterInstance) -> Watched:
    return Watched(workspace, instance)


def rest(path: Path) -> None:
    os.utime(path, (time.time() - 60, time.time() - 60))


def test_an_empty_landing_folder_starts_nothing(watched: Watched) -> None:
    assert "No new file" in watched.skipped()


def test_a_file_starts_one_run_and_once_ingested_none(watched: Watched) -> None:
    land_survey(watched.workspace.settings)
    request = watched.requested()
    assert watched.requested().run_key == request.run_key
    watched.run(request)
    assert "No new file" in watched.skipped()


def test_the_same_content_under_a_new_name_starts_nothing(watched: Watched) -> None:
    [path] = land_survey(watched.workspace.settings)
    watched.run(watched.requested())
    copy = path.with_name("renamed.csv")
    shutil.copyfile(path, copy)
    rest(copy)
    assert "No new file" in watched.skipped()


def test_a_half_written_file_waits_until_it_is_whole(watched: Watched) -> None:
    [path] = land_survey(watched.workspace.settings)
    whole = path.read_bytes()
    with path.open("wb") as growing:
        growing.write(whole[: len(whole) // 2])
        growing.flush()
        rest(path)  # Even if its time says otherwise: somebody has it open.
        assert "1 still being written" in watched.skipped()
        growing.write(whole[len(whole) // 2 :])
    os.utime(path)
    assert "1 still being written" in watched.skipped()
    rest(path)
    watched.run(watched.requested())
    lake = watched.workspace.lake
    assert lake.detail(f"raw.{SURVEY}").rows > 0


@pytest.mark.parametrize("name", ["wave.csv.part", ".wave.csv", "wave.csv.crdownload"])
def test_unfinished_names_are_not_looked_at(watched: Watched, name: str) -> None:
    [path] = land_survey(watched.workspace.settings)
    path.rename(path.with_name(name))
    assert "No new file" in watched.skipped()


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_a_run_that_did_not_succeed_is_tried_again_a_bounded_number_of_times(watched: Watched, status: dg.DagsterRunStatus) -> None:
    land_survey(watched.workspace.settings)
    keys: list[str | None] = []
    for _ in range(MAX_ATTEMPTS):
        request = watched.requested()
        keys.append(request.run_key)
        watched.ended(request, status)
    assert len(set(keys)) == MAX_ATTEMPTS
    assert "3 runs tried" in watched.skipped()


def test_another_file_gives_the_failed_ones_another_chance(watched: Watched) -> None:
    land_survey(watched.workspace.settings)
    for _ in range(MAX_ATTEMPTS):
        watched.ended(watched.requested(), dg.DagsterRunStatus.FAILURE)
    land_survey(watched.workspace.settings, seed=2)
    assert watched.requested().tags[FILES_TAG]


def test_no_second_run_while_one_is_in_progress(watched: Watched) -> None:
    land_survey(watched.workspace.settings)
    watched.ended(watched.requested(), dg.DagsterRunStatus.STARTED)
    assert "in progress" in watched.skipped()


def test_a_run_somebody_started_by_hand_counts_as_in_progress(watched: Watched) -> None:
    land_survey(watched.workspace.settings)
    job = watched.definitions.resolve_implicit_global_asset_job_def()
    watched.instance.create_run_for_job(job, asset_selection=frozenset({dg.AssetKey(["raw", SURVEY])}), status=dg.DagsterRunStatus.STARTED)
    assert "in progress" in watched.skipped()


def test_a_run_that_broke_after_ingesting_is_finished(watched: Watched) -> None:
    land_survey(watched.workspace.settings)
    request = watched.requested()
    watched.run(request)  # The file is in raw ...
    watched.ended(request, dg.DagsterRunStatus.FAILURE)  # ... but the newest run of it did not get to the end.
    again = watched.requested()
    assert again.tags == request.tags
    watched.run(again)
    assert "No new file" in watched.skipped()


def test_a_run_that_a_check_stopped_is_not_repeated(watched: Watched) -> None:
    land_survey(watched.workspace.settings)
    watched.run(watched.requested())
    lake = watched.workspace.lake
    with lake.connect([f"raw.{SURVEY}"]) as session:
        lake.delete(session.con, f"raw.{SURVEY}", "_row = 1", stamp=Stamp(asset="somebody", run="by hand"))
    land_survey(watched.workspace.settings, seed=2)
    job = watched.definitions.resolve_implicit_global_asset_job_def()
    assert not job.execute_in_process(instance=watched.instance, tags=dict(watched.requested().tags), raise_on_error=False).success
    assert "was stopped by a check" in watched.skipped()


def test_what_a_command_decided_is_followed_once_and_maintenance_never(watched: Watched) -> None:
    workspace = watched.workspace
    land_survey(workspace.settings, bad_rate=0.05)
    watched.run(watched.requested())
    contract = workspace.contracts.dataset(SURVEY)
    author = Author("ann", "by hand", datetime(2026, 1, 1, tzinfo=UTC))
    discard(workspace.lake, contract, selection=Selection(), settings=workspace.settings, author=author)
    request = watched.requested()
    assert watched.requested().run_key == request.run_key
    watched.run(request)
    assert "No new file" in watched.skipped()
    workspace.lake.note(contract.raw, stamp=Stamp(asset="maintenance", run="by hand"))
    assert "No new file" in watched.skipped()


def test_a_restart_changes_nothing(watched: Watched, workspace: Workspace, instance: dg.DagsterInstance) -> None:
    land_survey(workspace.settings)
    first = watched.requested()
    assert Watched(Workspace(workspace.settings), instance).requested().run_key == first.run_key
    watched.run(first)
    assert "No new file" in Watched(Workspace(workspace.settings), instance).skipped()
