"""One home whose dbt project is parsed once for all tests of this folder, and small survey files."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from definitions import build_definitions
from lakehouse.pipeline.workspace import Workspace
from lakehouse.sampling import households
from lakehouse.settings import Settings
from tests.conftest import PROJECT

SURVEY = "household_survey"


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "home"


@pytest.fixture
def shared_home(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home that all tests of a session see: for what is slow to make and only read, or for one test that fills it."""
    for name in [name for name in os.environ if name.startswith(("LAKEHOUSE_", "DAGSTER_HOME"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(shared_folder))
    monkeypatch.setenv("LAKEHOUSE_PROJECT", str(PROJECT))
    return shared_folder


@pytest.fixture
def definitions(shared_home: Path) -> dg.Definitions:
    """Everything of the project itself: nothing has been added to the home."""
    return build_definitions(Settings.load())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def workspace(settings: Settings) -> Workspace:
    """A home of its own, without dbt."""
    return Workspace(settings)


def land_survey(settings: Settings, *, rows: int = 200, seed: int = 1, bad_rate: float = 0.05, at_rest: bool = True) -> list[Path]:
    """Survey files in the landing folder, as if they had arrived a minute ago."""
    folder = settings.landing_dir / SURVEY
    report = households(rows=rows, out=folder, seed=seed, bad_rate=bad_rate, files=1)
    paths = [file.path for file in report.files]
    for path in paths if at_rest else []:
        os.utime(path, (time.time() - 60, time.time() - 60))
    return paths
