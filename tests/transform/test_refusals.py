"""What can't be built says so in one line, names the table, and leaves the others alone."""

from collections.abc import Callable

import pytest

from lakehouse.errors import TransformError
from lakehouse.transform import BuildFailed, TransformReport
from tests.transform.conftest import ScratchProject

SOURCES = "version: 2\nsources: [{name: raw, schema: raw, tables: [{name: orders}, {name: missing}]}]"
MODELS = {
    "seen": "{{ config(materialized='view') }} select 1 as id",
    "keyless": "{{ config(materialized='incremental', incremental_strategy='merge') }} select id from {{ source('raw', 'orders') }}",
    "invented": "{{ config(materialized='incremental', incremental_strategy='upsert') }} select id from {{ source('raw', 'orders') }}",
    "shrinking": "{{ config(materialized='incremental', unique_key='id', on_schema_change='sync_all_columns') }} "
    "select id from {{ source('raw', 'orders') }}",
    "strict": "{{ config(materialized='incremental', unique_key='id', on_schema_change='fail') }} "
    "select id {% if is_incremental() %}, who{% endif %} from {{ source('raw', 'orders') }}",
    "twice": "{{ config(materialized='incremental', unique_key='id') }} "
    "select 1 as id from {{ source('raw', 'orders') }} {% if not is_incremental() %}limit 1{% endif %}",
    "orphan": "select * from {{ source('raw', 'missing') }}",
    "wrong": "select nothing_like_it from {{ source('raw', 'orders') }}",
    "fine": "select count(*) as orders from {{ source('raw', 'orders') }}",
}
EXPECTED = {
    "seen": "materialized as a view",
    "keyless": "needs a key",
    "invented": "found 'upsert'",
    "shrinking": "asks to drop columns",
    "strict": "adding columns was not allowed",
    "twice": "key",
    "orphan": "raw.missing: does not exist, and analytics.orphan is made from it",
    "wrong": 'Referenced column "nothing_like_it" not found',
}


@pytest.fixture(scope="module")
def project(scratch_project: Callable[[str], ScratchProject]) -> ScratchProject:
    made = scratch_project("refusals")
    made.write("models/sources.yml", SOURCES)
    for name, sql in MODELS.items():
        made.write(f"models/analytics/{name}.sql", sql)
    made.put("raw.orders", "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) t(id, who)")
    return made


@pytest.fixture(scope="module")
def report(project: ScratchProject) -> TransformReport:
    project.build("keyless", "invented", "shrinking", "strict", "twice", "fine")
    project.put("raw.orders", "SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c')) t(id, who)")
    return project.build(check=False)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_refusal_is_one_clear_line(report: TransformReport, name: str) -> None:
    node = next(node for node in report.nodes if node.name == name)
    assert node.status == "error"
    assert EXPECTED[name] in node.message
    assert "\n" not in node.message
    assert "Traceback" not in node.message


def test_what_can_be_built_is_built(report: TransformReport, project: ScratchProject) -> None:
    assert next(node for node in report.nodes if node.name == "fine").status == "success"
    assert project.rows("analytics.fine") == [(3,)]
    assert project.rows("analytics.twice") == [(1,)]


def test_a_failed_build_names_model_cause_and_next_step(project: ScratchProject, report: TransformReport) -> None:
    del report
    with pytest.raises(BuildFailed, match=r"dbt model wrong: .*nothing_like_it.*dbt build --select wrong\+") as failure:
        project.build("wrong", "fine")
    assert [node.name for node in failure.value.report.failed] == ["wrong"]
    assert failure.value.exit_code == 1


def test_a_failed_test_names_itself_and_its_rows(project: ScratchProject, report: TransformReport) -> None:
    del report
    project.write(
        "models/checks.yml",
        "version: 2\nmodels: [{name: fine, columns: [{name: orders, data_tests: [{accepted_values: {arguments: {values: [9]}}}]}]}]",
    )
    with pytest.raises(BuildFailed, match=r"dbt test accepted_values_fine_orders__9: .*found 1 rows.*Look at the rows of fine"):
        project.build("fine")


def test_a_project_that_does_not_parse_is_one_line(project: ScratchProject) -> None:
    project.write("models/analytics/broken.sql", "select {{ ref('nobody') }}")
    with pytest.raises(TransformError, match="depends on a node named 'nobody' which was not found"):
        project.build("fine")
    (project.root / "dbt" / "models" / "analytics" / "broken.sql").unlink()
