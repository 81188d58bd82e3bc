"""A model that names a version of a feature view: trained from that version's table, by whatever way it is started."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from definitions import build_definitions
from lakehouse.contracts import load_contracts
from lakehouse.pipeline.runs import run_pipeline
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from tests.transform.conftest import put_raw
from tests.transform.test_added_datasets import add

MODEL = """
apiVersion: lakehouse/v1
kind: ModelContract
name: visits
problem: classification
dataset: visits
target_column: bought
entity: [visit]
feature_views: [visit_activity@1]
algorithms: auto
"""
DECLARED = """
version: 2
models:
  - name: visit_activity
    latest_version: 2
    config:
      schema: features
      materialized: table
      meta: {feature_view: {entity: visit}}
    versions: [{v: 1}, {v: 2}]
"""


@pytest.mark.slow
def test_a_model_learns_from_the_version_that_it_names(settings: Settings) -> None:
    add(settings, model=MODEL)
    folder = settings.dbt_home / "packages" / "added" / "models" / "features"
    folder.mkdir(parents=True)
    (folder / "activity.yml").write_text(DECLARED, "utf-8")
    for number in (1, 2):
        sql = f"select visit, pages as pages_{number} from {{{{ ref('stg_visits') }}}}"
        (folder / f"visit_activity_v{number}.sql").write_text(sql, "utf-8")
    definitions = build_definitions(settings)
    graph = definitions.resolve_asset_graph()
    for made in ("visits_training_set", "visits_predictions"):
        parents = graph.get(dg.AssetKey(["models", made])).parent_keys
        assert dg.AssetKey(["features", "visit_activity_v1"]) in parents
        assert not [key for key in parents if not graph.has(key)]

    workspace = Workspace(settings)
    contract = load_contracts(settings).dataset("visits")
    rows = [{"visit": number, "who": "a", "pages": number % 9, "bought": number % 9 > 4} for number in range(300)]
    put_raw(workspace.lake, contract, rows, batch=1)
    report = run_pipeline(workspace, ["visits"], run="r", now=datetime(2026, 1, 2, tzinfo=UTC))
    assert "visits" in report.models, [check for check in report.checks if not check.passed]
    columns = workspace.lake.schema("models.visits_training_set")
    assert "pages_1" in columns
    assert "pages_2" not in columns
    stamp = workspace.lake.history("models.visits_training_set")[0].stamp
    assert stamp is not None
    assert "features.visit_activity_v1" in stamp.inputs
