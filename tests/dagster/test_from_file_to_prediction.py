"""One dropped file reaches the predictions on its own: once in this process, once through the real daemon."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from definitions import build_definitions
from lakehouse.pipeline.orchestrator import prepare_instance
from lakehouse.pipeline.workspace import Workspace
from lakehouse.sampling import households
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from resources.workspace import RESOURCE_KEY
from sensors.landing import DATASET_TAG
from tests.conftest import PROJECT
from tests.dagster.conftest import SURVEY

PREDICTIONS = "models.household_vulnerability_predictions"
PATIENCE_S = 180


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """One core for the numeric libraries: small data is slower with more."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def survey_files(folder: Path, *, rows: int = 1600, seed: int = 3, files: int = 1) -> list[Path]:
    return [file.path for file in households(rows=rows, out=folder, seed=seed, bad_rate=0.02, files=files).files]


# MLflow warns about its own type hints when it is imported; the warnings of our own code are judged where it is tested.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_run_that_the_sensor_asks_for_reaches_the_predictions(shared_home: Path, small_models: None, tmp_path: Path) -> None:
    settings = Settings.load()
    repository = build_definitions(settings).get_repository_def()
    landing = settings.landing_dir / SURVEY
    landing.mkdir(parents=True)
    [file] = survey_files(tmp_path)
    shutil.copy(file, landing)
    os.utime(landing / file.name, (time.time() - 60, time.time() - 60))
    sensor = repository.get_sensor_def(f"{SURVEY}_landing_file_arrived")
    with dg.DagsterInstance.ephemeral() as instance:
        with dg.build_sensor_context(
            instance=instance, repository_def=repository, resources={RESOURCE_KEY: Workspace(settings)}
        ) as context:
            [request] = sensor.evaluate_tick(context).run_requests or []
        job = repository.get_job(sensor.targets[0].job_name)
        result = job.execute_in_process(instance=instance, tags=dict(request.tags), raise_on_error=False)
        made = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}
        failed = [(one.check_name, one.description) for one in result.get_asset_check_evaluations() if not one.passed and one.blocking]
        assert result.success, failed
        assert made >= {
            "raw/household_survey",
            "staging/household_survey",
            "features/household_features",
            "models/household_vulnerability_predictions",
        }
        with dg.build_sensor_context(
            instance=instance, repository_def=repository, resources={RESOURCE_KEY: Workspace(settings)}
        ) as context:
            assert not sensor.evaluate_tick(context).run_requests
    lake = Lake.from_settings(settings)
    assert lake.detail(PREDICTIONS).rows > 0
    one_of = "analytics/household_income_distribution"
    again = repository.get_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey.from_user_string(one_of)], instance=dg.DagsterInstance.ephemeral()
    )
    assert [event.asset_key.to_user_string() for event in again.get_asset_materialization_events() if event.asset_key] == [one_of]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_real_daemon_brings_a_dropped_file_to_the_predictions(
    home: Path, settings: Settings, small_models: None, tmp_path: Path
) -> None:
    first, second = survey_files(tmp_path / "a")[0], survey_files(tmp_path / "b", seed=4)[0]
    landing = settings.landing_dir / SURVEY
    landing.mkdir(parents=True)
    with daemon(settings) as log:
        whole = first.read_bytes()
        with (landing / "survey.csv").open("wb") as growing:
            growing.write(whole[: len(whole) // 2])
            growing.flush()
            time.sleep(8)
            assert not runs(settings), "a half-written file must wait"
            growing.write(whole[len(whole) // 2 :])
        rows = wait_for_predictions(settings, more_than=0, log=log)
        (landing / "survey-2.csv.part").write_bytes(second.read_bytes())
        (landing / "survey-2.csv.part").rename(landing / "survey-2.csv")
        wait_for_predictions(settings, more_than=rows, log=log)
        shutil.copy(landing / "survey-2.csv", landing / "again.csv")
        time.sleep(12)
    found = runs(settings)
    assert [run["status"] for run in found] == ["SUCCESS", "SUCCESS"], found
    assert {run["tags"][DATASET_TAG] for run in found} == {SURVEY}
    evaluations = Lake.from_settings(settings)
    with evaluations.connect(["models.evaluations"]) as session:
        trained = session.con.execute("SELECT count(*) FROM models.evaluations WHERE model = 'household_vulnerability'").fetchone()
    assert trained == (2,), "each file must train each model once"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_daemon_and_run_are_made_good_after_a_restart(home: Path, settings: Settings, small_models: None, tmp_path: Path) -> None:
    [file] = survey_files(tmp_path)
    landing = settings.landing_dir / SURVEY
    landing.mkdir(parents=True)
    with daemon(settings, stop=signal.SIGKILL) as log:
        shutil.copy(file, landing)
        wait_until(lambda: any(run["status"] == "STARTED" for run in runs(settings)), log=log)
        kill_runs(settings)
    with daemon(settings) as log:
        wait_for_predictions(settings, more_than=0, log=log)
        wait_until(lambda: sorted(run["status"] for run in runs(settings)) == ["FAILURE", "SUCCESS"], log=log)


@contextmanager
def daemon(settings: Settings, *, stop: signal.Signals = signal.SIGTERM) -> Iterator[Path]:
    """`dagster dev` with everything that belongs to it in one process group, which is gone afterwards."""
    prepare_instance(settings)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = settings.home_dir / "dev.log"
    with log.open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
            cwd=PROJECT,
            env={
                **settings.child_environment(),
                "LAKEHOUSE_SENSOR_INTERVAL_S": "2",
                "LAKEHOUSE_SETTLE_S": "1",
                "DAGSTER_DISABLE_TELEMETRY": "1",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(lambda: "Launching" in log.read_text() or "Serving dagster-webserver" in log.read_text(), log=log)
            yield log
        finally:
            end_group(process, stop)


def end_group(process: "subprocess.Popen[bytes]", first: signal.Signals) -> None:
    for number in (first, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def runs(settings: Settings) -> list[dict[str, object]]:
    """Runs of the home, oldest first, asked of its storage in a process of its own: this one has no instance."""
    code = (
        "import json, dagster as dg\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    print(json.dumps([{'status': r.status.value, 'tags': dict(r.tags), 'id': r.run_id} for r in instance.get_runs()][::-1]))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=settings.child_environment(), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def kill_runs(settings: Settings) -> None:
    """Kill the processes of all running runs at once, as a crash of the machine would."""
    code = (
        "import os, signal, dagster as dg\n"
        "from sensors.lost_runs import worker_pid\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):\n"
        "        os.kill(worker_pid(instance, run.run_id), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=settings.child_environment(), check=True)


def wait_until(claim: Callable[[], bool], *, log: Path, patience_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if claim():
            return
        time.sleep(1)
    pytest.fail(f"not within {patience_s} s; the end of the log:\n{log.read_text()[-4000:]}")


def wait_for_predictions(settings: Settings, *, more_than: int, log: Path) -> int:
    """Wait until the predictions table holds more rows than that, and every run has ended."""
    lake = Lake.from_settings(settings)

    def rows() -> int:
        return lake.detail(PREDICTIONS).rows if lake.exists(PREDICTIONS) else 0

    wait_until(lambda: rows() > more_than, log=log)
    wait_until(lambda: all(run["status"] in ("SUCCESS", "FAILURE") for run in runs(settings)), log=log)
    return rows()
