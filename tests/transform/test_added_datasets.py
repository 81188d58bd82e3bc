"""A contract that is added to a home is all it takes: sources, staging and features follow it."""

import json
from pathlib import Path

import pytest

from lakehouse.contracts import load_contracts
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from lakehouse.transform import build, prepare
from lakehouse.transform.generated import generated_files
from tests.transform.conftest import put_raw, rows_of

CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: visits
name: visits
version: 1.0.0
status: active
domain: shop
description: {{purpose: "Visits {{{{ of }}}} a shop."}}
schema:
  - name: visits
    physicalType: table
    properties:
      - {{name: visit, logicalType: integer, physicalType: BIGINT, required: true{key}}}
      - {{name: who, logicalType: string, physicalType: VARCHAR}}
      - {{name: phone, logicalType: string, physicalType: VARCHAR, classification: restricted,
         customProperties: [{{property: lakehouse.pii, value: {{kind: phone, protect: pseudonym}}}}]}}
      - {{name: pages, logicalType: integer, physicalType: BIGINT}}
      - {{name: seconds, logicalType: integer, physicalType: BIGINT}}
      - {{name: bought, logicalType: boolean, physicalType: BOOLEAN}}
"""
MODEL = """
apiVersion: lakehouse/v1
kind: ModelContract
name: visits
problem: classification
dataset: visits
target_sql: bought OR seconds > 100
"""


def add(settings: Settings, *, key: str = ", primaryKey: true, primaryKeyPosition: 1", model: str | None = MODEL) -> None:
    """Put the contracts where `lakehouse add` puts them."""
    folder = settings.home_dir / "contracts"
    (folder / "datasets").mkdir(parents=True, exist_ok=True)
    (folder / "datasets" / "visits.odcs.yaml").write_text(CONTRACT.format(key=key), "utf-8")
    if model is not None:
        (folder / "models").mkdir(exist_ok=True)
        (folder / "models" / "visits.yaml").write_text(model, "utf-8")


@pytest.fixture
def generated(settings: Settings) -> Path:
    """Where generated files are."""
    return settings.dbt_home / "packages" / "added"


def files_in(folder: Path) -> dict[str, str]:
    """Text of the files below it."""
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_shipped_datasets_need_nothing_generated(settings: Settings) -> None:
    assert generated_files(settings, load_contracts(settings)) == {}


def test_an_added_dataset_is_built_with_its_features(settings: Settings, generated: Path) -> None:
    add(settings)
    contracts = load_contracts(settings)
    lake = Lake.from_settings(settings)
    put_raw(lake, contracts.dataset("visits"), [{"visit": 1, "who": " a ", "pages": 3, "bought": True}, {"visit": 2, "who": ""}], batch=1)
    report = build(settings, run="r", select=["tag:shop"])
    assert not report.failed
    assert rows_of(lake, "staging.visits", "visit, who, pages") == [(1, "a", 3), (2, None, None)]
    # Neither the protected column nor what the target is made of is a feature.
    assert list(lake.schema("features.visits_features")) == ["visit", "known_at", "who", "pages", "_batch"]
    manifest = json.loads(prepare(settings).read_text("utf-8"))
    assert manifest["nodes"]["model.added.visits_features"]["config"]["meta"]["feature_view"]["entity"] == ["visit"]
    assert {"models/_sources.yml", "models/staging/stg_visits.sql", "models/features/visits_features.sql"} <= set(files_in(generated))


def test_preparing_again_touches_nothing_and_follows_the_contract(settings: Settings, generated: Path) -> None:
    add(settings)
    first = prepare(settings)
    written = {path: path.stat().st_mtime_ns for path in generated.rglob("*.*")}
    parsed_at = first.stat().st_mtime_ns
    assert prepare(settings) == first
    assert {path: path.stat().st_mtime_ns for path in generated.rglob("*.*")} == written
    assert first.stat().st_mtime_ns == parsed_at
    own = generated / "models" / "analytics" / "mine.sql"
    own.parent.mkdir()
    own.write_text("select 1 as id", "utf-8")
    (settings.home_dir / "contracts" / "models" / "visits.yaml").unlink()
    second = prepare(settings)
    assert second != first
    assert "models/features/visits_features.sql" not in files_in(generated)
    (settings.home_dir / "contracts" / "datasets" / "visits.odcs.yaml").unlink()
    prepare(settings)
    # What somebody wrote there stays, and so does the package around it.
    assert list(files_in(generated)) == ["dbt_project.yml", "models/analytics/mine.sql"]


def test_a_variable_of_the_environment_is_part_of_the_project(settings: Settings, generated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(settings)
    own = generated / "models" / "analytics" / "mine.sql"
    prepare(settings)
    own.parent.mkdir(exist_ok=True)
    own.write_text("select '{{ env_var(\"REGION\", 'north') }}' as region", "utf-8")
    north = prepare(settings)
    monkeypatch.setenv("REGION", "south")
    assert prepare(settings) != north
    monkeypatch.delenv("REGION")
    assert prepare(settings) == north


def test_a_dataset_without_a_key_keeps_every_row(settings: Settings) -> None:
    add(settings, key="", model=None)
    lake = Lake.from_settings(settings)
    contract = load_contracts(settings).dataset("visits")
    put_raw(lake, contract, [{"visit": 1}, {"visit": 1}], batch=1)
    build(settings, run="one", select=["stg_visits"])
    put_raw(lake, contract, [{"visit": 1}], batch=2)
    build(settings, run="two", select=["stg_visits"])
    assert rows_of(lake, "staging.visits", "visit") == [(1,), (1,), (1,)]
    assert rows_of(lake, "staging.visits", "count(distinct row_id)") == [(3,)]
