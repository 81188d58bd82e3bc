"""dbt as people run it: commands in shells, one after the other and at once."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.settings import Settings
from lakehouse.tables import Commit, Lake
from lakehouse.transform import prepare
from tests.transform.conftest import rows_of
from tests.transform.test_shipped_project import interview

DBT = Path(__file__).resolve().parents[2] / "dbt"
COMMAND = [str(Path(sys.executable).with_name("dbt")), "--no-use-colors", "build"]


def shell(home: str, *arguments: str) -> "subprocess.Popen[str]":
    """A fresh shell in dbt/ in which nothing but LAKEHOUSE_HOME is set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DBT_", "DAGSTER_"))}
    environment["LAKEHOUSE_HOME"] = home
    return subprocess.Popen(
        [*COMMAND, *arguments], cwd=DBT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )


def finished(process: "subprocess.Popen[str]") -> str:
    """Its output, once it has ended well."""
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "lock" not in output.lower()
    assert "Traceback" not in output
    return output


@pytest.mark.slow
def test_layers_one_by_one_then_two_at_once(settings: Settings, interviews: Callable[..., Commit]) -> None:
    home, lake = str(settings.home_dir), Lake.from_settings(settings)
    interviews(1, *(interview(household, 0) for household in range(30)))
    finished(shell(home, "--select", "staging"))
    finished(shell(home, "--select", "analytics"))
    interviews(2, *(interview(household, 1) for household in range(30)))
    both = [shell(home, "--select", "+analytics"), shell(home, "--select", "+analytics")]
    for process in both:
        finished(process)
    for table in ("staging.household_survey", "analytics.household_panel"):
        assert rows_of(lake, table, "count(*), count(distinct interview_id)") == [(60, 60)]
    # Each step is one version: of two processes that build the same, the second finds it done.
    assert [info.rows for info in lake.history("staging.household_survey")] == [30, 30]
    assert rows_of(lake, "analytics.household_status_history", "count(*), count(dbt_valid_to)") == [(60, 30)]
    assert rows_of(lake, "analytics.household_panel", "count(*)", version=0) == [(30,)]


@pytest.mark.slow
def test_a_home_may_be_relative_to_the_project(tmp_path: Path) -> None:
    relative = os.path.relpath(tmp_path / "somewhere", DBT.parent)
    finished(shell(relative, "--select", "stg_household_survey"))
    assert (tmp_path / "somewhere" / "tables" / "staging" / "household_survey" / "_delta_log").is_dir()
    assert (tmp_path / "somewhere" / "dbt" / "target" / "manifest.json").is_file()


@pytest.mark.slow
def test_two_processes_may_prepare_at_once(settings: Settings) -> None:
    # There is something to parse, whatever the fixtures have parsed already.
    shutil.rmtree(settings.dbt_home / "parsed")
    program = "from lakehouse.settings import Settings; from lakehouse.transform import prepare; print(prepare(Settings.load()))"
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, encoding="utf-8") for _ in range(2)]
    paths = {process.communicate(timeout=240)[0].strip() for process in both}
    assert {process.returncode for process in both} == {0}
    assert paths == {str(prepare(settings))}
    assert not list((settings.dbt_home / "runs").iterdir())
