"""Exactly one version for the same data, contract and code: real processes, killed at every instant, and several at once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.learning import CHAMPION, Registry
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.learning.conftest import PROJECT, write
from tests.learning.trainer import BOARD, CLIENT, DATABASE, LAKE

KILLED = -signal.SIGKILL
# In the order in which they happen; the first ones leave nothing that counts, the later ones a version to be completed.
INSTANTS = [
    f"{LAKE}overwrite",
    f"{CLIENT}create_run",
    f"{CLIENT}log_batch",
    f"{CLIENT}log_dict",
    f"{CLIENT}create_logged_model",
    f"{CLIENT}log_model_artifacts",
    f"{CLIENT}finalize_logged_model",
    f"{CLIENT}set_terminated",
    f"{CLIENT}create_registered_model",
    f"{CLIENT}create_model_version",
    f"{LAKE}append@evaluations",
    f"{LAKE}append@registry_events",
    f"{BOARD}set_alias",
    f"{BOARD}tag",
]
TELLING = {f"{CLIENT}create_model_version"}


class Trainer:
    """Starts trainings, each in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, settings: Settings, model: str, **more: Any) -> int:
        return self._ask({"home": str(settings.home_dir), "model": model, **more})["pid"]

    def wait(self, pid: int) -> dict[str, Any]:
        return self._ask({"wait": pid})

    def train(self, settings: Settings, model: str, **more: Any) -> dict[str, Any]:
        return self.wait(self.start(settings, model, **more))


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    command = [sys.executable, "-m", "tests.learning.trainer", str(tmp_path_factory.mktemp("answers"))]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Trainer(process)


def two_classes(lake: Lake, name: str) -> None:
    write(lake, f"staging.{name}", "SELECT range AS id, range % 7 AS x, if(range % 7 > 3, 'hi', 'lo') AS label FROM range(120)")


def rows(lake: Lake, table: str, columns: str, model: str) -> list[tuple]:
    with lake.connect([table]) as session:
        return session.con.execute(f"SELECT {columns} FROM {table} WHERE model = '{model}' ORDER BY ALL").fetchall()


def require_whole(settings: Settings, lake: Lake, model: str, version: str = "1") -> None:
    """One version, its alias, its rows, its training set, and no run that seems to go on."""
    registry = Registry(settings)
    newest = registry.newest(model)
    assert newest is not None
    assert newest.version == version
    assert registry.version(model, CHAMPION) == version
    assert registry.load(model).version == version
    versions = [str(number) for number in range(1, int(version) + 1)]
    assert rows(lake, "models.evaluations", "version", model) == [(one,) for one in versions]
    made = [(one, event) for one in versions for event in ("drafted", "training", "registered", "validated", "staged", "promoted")]
    # Each takes the place of the one before.
    replaced = [(one, "archived") for one in versions[:-1]]
    assert rows(lake, "models.registry_events", "version, event", model) == sorted(made + replaced)
    assert lake.version(f"models.{model}_training_set") == 0
    client = registry._client
    runs = client.search_runs([client.get_experiment_by_name(model).experiment_id])
    assert sorted({run.info.status for run in runs}) in (["FINISHED"], ["FINISHED", "KILLED"])


@pytest.mark.parametrize(
    "instant",
    [pytest.param(one, marks=[] if one in TELLING else pytest.mark.slow, id=one.rpartition(".")[2]) for one in INSTANTS],
)
def test_killed_after_any_step_and_run_again_there_is_one_version(instant, trainer, shared, lake):
    model = "killed_" + "".join(letter if letter.isalpha() else "_" for letter in instant.rpartition(".")[2])
    two_classes(lake, model)
    assert trainer.train(shared, model, dies_at=instant)["status"] == KILLED
    again = trainer.train(shared, model)
    assert (again["status"], again["version"]) == (0, "1")
    require_whole(shared, lake, model)
    assert trainer.train(shared, model)["skipped"]
    require_whole(shared, lake, model)


@pytest.mark.slow
def test_a_forced_training_that_was_killed_is_completed_and_not_repeated(trainer, shared, lake):
    two_classes(lake, "forced")
    assert trainer.train(shared, "forced")["version"] == "1"
    assert trainer.train(shared, "forced", force=True, dies_at=f"{CLIENT}create_model_version")["status"] == KILLED
    again = trainer.train(shared, "forced")
    assert (again["version"], again["skipped"]) == ("2", True)
    require_whole(shared, lake, "forced", "2")


def test_of_two_at_once_one_trains_and_the_other_says_that_it_waits_for_the_report(trainer, shared, lake):
    two_classes(lake, "at_once")
    both = [trainer.start(shared, "at_once", predict=True) for _ in range(2)]
    answers = [trainer.wait(pid) for pid in both]
    assert [(one["status"], one["version"], one["predictions"]) for one in answers] == [(0, "1", 0)] * 2
    assert sorted(one["skipped"] for one in answers) == [False, True]
    waited = next(one for one in answers if one["skipped"])
    assert waited["said"][0] == "another process is training at_once: waiting for it to end"
    require_whole(shared, lake, "at_once")


@pytest.mark.slow
def test_a_registry_that_two_models_make_at_once_after_a_kill_is_whole(trainer, tmp_path: Path):
    settings = Settings(project=PROJECT, home=tmp_path / "home", threads=1)
    lake = Lake.from_settings(settings)
    for model in ("one", "other"):
        two_classes(lake, model)
    assert trainer.train(settings, "one", dies_at=DATABASE)["status"] == KILLED
    assert not Registry(settings).is_present
    for pid in [trainer.start(settings, model) for model in ("one", "other")]:
        assert trainer.wait(pid)["version"] == "1"
    for model in ("one", "other"):
        require_whole(settings, lake, model)


@pytest.mark.slow
def test_a_registry_that_was_made_anew_is_trained_into_anew(trainer, tmp_path: Path):
    settings = Settings(project=PROJECT, home=tmp_path / "home", threads=1)
    lake = Lake.from_settings(settings)
    two_classes(lake, "lost")
    assert trainer.train(settings, "lost")["version"] == "1"
    (settings.home_dir / "registry" / "mlflow.db").unlink()
    assert trainer.train(settings, "lost") == {"status": 0, "version": "1", "skipped": False, "said": [], "predictions": None}
    assert trainer.train(settings, "lost")["skipped"]
