"""What users see in Dagster, and that each command of it works from the project's root."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from tests.conftest import PROJECT
from tests.dagster.rendering import render

EXPECTED = Path(__file__).parent / "expected_definitions.txt"


def test_definitions_are_the_expected_ones(definitions: dg.Definitions) -> None:
    rendered = render(definitions)
    assert rendered == EXPECTED.read_text(encoding="utf-8"), (
        "What users see in Dagster has changed. If that is meant: python -m tests.dagster.rendering > tests/dagster/expected_definitions.txt"
    )


def test_every_asset_can_be_understood(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    for node in graph.asset_nodes:
        assert node.description, node.key
        assert node.group_name not in (None, "default"), node.key
        assert node.kinds, node.key
        assert node.tags.get("layer") == node.key.path[0], node.key
    for key in graph.asset_check_keys:
        assert graph.get_check_spec(key).description, key


def test_every_schedule_and_sensor_says_what_it_does(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    assert all(one.description for one in [*repository.schedule_defs, *repository.sensor_defs])


def test_loading_imports_nothing_heavy(shared_home: Path, definitions: dg.Definitions) -> None:
    code = (
        "import sys, dagster, dagster_dbt; before = set(sys.modules); import definitions; definitions.defs().get_repository_def();"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new & {'mlflow', 'sklearn', 'pandas', 'matplotlib', 'evidently', 'skops', 'scipy', 'networkx', 'python_calamine'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command", [["definitions", "validate"], pytest.param(["asset", "list", "-m", "definitions"], marks=pytest.mark.slow)]
)
def test_command_line_works_from_the_root_without_dagster_home(shared_home: Path, definitions: dg.Definitions, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dagster", *command], cwd=PROJECT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if command[0] == "asset":
        assert "raw/household_survey" in done.stdout.split()
