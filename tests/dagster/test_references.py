"""References between datasets in a Dagster run: checks of the raw asset that hold back what is downstream until the parent is there."""

import os
import time
from pathlib import Path

import dagster as dg
import pytest

from assets.datasets import build_dataset_assets
from assets.outliers import CLAIM, build_outlier_checks
from assets.references import build_reference_checks
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from resources.workspace import RESOURCE_KEY
from tests.quality.test_references import CITIES, PEOPLE


@dg.asset(key=["staging", "people"], deps=[dg.AssetKey(["raw", "people"])])
def staging() -> None: ...


def land(settings: Settings, dataset: str, text: str) -> None:
    path: Path = settings.landing_dir / dataset / f"{dataset}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (time.time() - 60, time.time() - 60))


def run(settings: Settings, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    workspace = Workspace(settings)
    contracts = workspace.contracts
    definitions = dg.Definitions(
        assets=[*(build_dataset_assets(contracts.dataset(name)) for name in ("people", "cities")), staging],
        asset_checks=[*build_reference_checks(contracts), *build_outlier_checks(contracts)],
        jobs=[dg.define_asset_job("everything", selection=dg.AssetSelection.all() | dg.AssetSelection.all_asset_checks())],
        resources={RESOURCE_KEY: workspace},
    )
    return definitions.resolve_job_def("everything").execute_in_process(instance=instance, raise_on_error=False)


@pytest.fixture
def contracts(settings: Settings) -> None:
    folder = settings.home_dir / "contracts" / "datasets"
    folder.mkdir(parents=True)
    (folder / "people.odcs.yaml").write_text(PEOPLE.replace("SEVERITY", "error"), encoding="utf-8")
    (folder / "cities.odcs.yaml").write_text(CITIES, encoding="utf-8")


@pytest.mark.usefixtures("contracts")
def test_what_is_downstream_waits_for_the_parent(settings: Settings, instance: dg.DagsterInstance) -> None:
    land(settings, "people", "id,city,country,born_in\n1,7,de,7\n2,8,de,7\n")
    first = run(settings, instance)
    found = {one.check_name: one for one in first.get_asset_check_evaluations() if "people" in one.asset_key.path}
    city, born = found["city_is_known_in_cities"], found["born_somewhere"]
    assert (first.success, city.passed, city.severity) == (False, False, dg.AssetCheckSeverity.ERROR)
    assert "2 rows refer to 2 that are not there" in (city.description or "")
    assert (born.passed, born.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (found[CLAIM].passed, found[CLAIM].metadata["judged"].value) == (True, False)
    assert "staging__people" not in {event.step_key for event in first.get_step_success_events()}
    land(settings, "cities", "country,code\nde,7\nde,8\n")
    second = run(settings, instance)
    assert second.success
    assert all(one.passed for one in second.get_asset_check_evaluations() if one.check_name in {city.check_name, born.check_name})
    assert "staging__people" in {event.step_key for event in second.get_step_success_events()}
