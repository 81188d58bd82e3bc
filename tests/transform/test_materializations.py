"""Each materialization and strategy, built twice and a third time over unchanged inputs, by the shipped macros."""

import gc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lakehouse.transform import build
from tests.transform.conftest import ScratchProject

SOURCES = """
version: 2
sources:
  - name: raw
    schema: raw
    tables: [{name: orders}]
"""
FIRST = "SELECT * FROM (VALUES (1, 'a', 10, DATE '2025-01-01'), (2, 'b', 20, DATE '2025-01-02')) t(id, who, amount, day)"
SECOND = (
    "SELECT * FROM (VALUES (1, 'a', 10, DATE '2025-01-01'), (2, 'B', 25, DATE '2025-01-02'), (3, 'c', 30, DATE '2025-01-02'))"
    " t(id, who, amount, day)"
)
MODELS = {
    "whole": "select * from {{ source('raw', 'orders') }}",
    "appended": """
        {{ config(materialized='incremental', incremental_strategy='append') }}
        select id, amount from {{ source('raw', 'orders') }}
        {% if is_incremental() %}where id > (select max(id) from {{ this }}){% endif %}""",
    "merged": """
        {{ config(materialized='incremental', unique_key='id') }}
        select id, who, amount from {{ source('raw', 'orders') }}""",
    "deleted_inserted": """
        {{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['day']) }}
        select day, amount from {{ source('raw', 'orders') }} where day > '2025-01-01' or not {{ is_incremental() }}""",
    "by_day": """
        {{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by='day') }}
        select day, sum(amount) as amount from {{ source('raw', 'orders') }}
        {% if is_incremental() %}where day > '2025-01-01'{% endif %} group by day""",
    "replaced": """
        {{ config(materialized='incremental', incremental_strategy='replace_where', meta={'lakehouse': {'replace_where': 'id >= 2'}}) }}
        select id, amount from {{ source('raw', 'orders') }} {% if is_incremental() %}where id = 3{% endif %}""",
    "widened": """
        {{ config(materialized='incremental', unique_key='id') }}
        select id {% if is_incremental() %}, amount{% endif %} from {{ source('raw', 'orders') }}""",
    "narrow": """
        {{ config(materialized='incremental', unique_key='id', on_schema_change='ignore') }}
        select id {% if is_incremental() %}, amount{% endif %} from {{ source('raw', 'orders') }}""",
    "passed_on": "{{ config(materialized='ephemeral') }} select * from {{ source('raw', 'orders') }}",
    "through_ephemeral": "select id from {{ ref('passed_on') }}",
}
PYTHON_MODEL = """
def model(dbt, session):
    dbt.config(materialized="table")
    return dbt.source("raw", "orders").project("id, amount * 2 AS doubled")
"""
SNAPSHOT = """
version: 2
snapshots:
  - name: order_history
    relation: source('raw', 'orders')
    config: {unique_key: id, strategy: timestamp, updated_at: day_or_later}
"""


@pytest.fixture(scope="module")
def built(scratch_project: Callable[[str], ScratchProject]) -> SimpleNamespace:
    """The reports of three builds: over the first orders, over changed ones, and over the same again."""
    project = scratch_project("strategies")
    project.write("models/sources.yml", SOURCES)
    for name, sql in MODELS.items():
        project.write(f"models/analytics/{name}.sql", sql)
    project.write("seeds/regions.csv", "code,region\n01,North\n02,\n")
    project.write("seeds/seeds.yml", "version: 2\nseeds: [{name: regions, config: {column_types: {code: varchar}}}]")
    project.write(
        "models/analytics/stamped.sql", "select *, day + cast(amount as integer) as day_or_later from {{ source('raw', 'orders') }}"
    )
    project.write("snapshots/history.yml", SNAPSHOT.replace("source('raw', 'orders')", "ref('stamped')"))
    project.put("raw.orders", FIRST)
    first = project.build()
    project.put("raw.orders", SECOND)
    return SimpleNamespace(project=project, first=first, second=project.build(), third=project.build())


def test_a_table_holds_what_its_query_gives_now(built: SimpleNamespace) -> None:
    assert built.project.rows("analytics.whole", "id, who") == [(1, "a"), (2, "B"), (3, "c")]
    assert built.project.rows("analytics.whole", "id, who", version=0) == [(1, "a"), (2, "b")]


def test_append_adds_only_new_rows(built: SimpleNamespace) -> None:
    assert built.project.rows("analytics.appended") == [(1, 10), (2, 20), (3, 30)]


def test_merge_updates_and_inserts(built: SimpleNamespace) -> None:
    assert built.project.rows("analytics.merged") == [(1, "a", 10), (2, "B", 25), (3, "c", 30)]


def test_delete_and_insert_replaces_every_row_of_a_key(built: SimpleNamespace) -> None:
    assert built.project.rows("analytics.deleted_inserted", "amount") == [(10,), (25,), (30,)]


def test_insert_overwrite_replaces_whole_partitions(built: SimpleNamespace) -> None:
    assert built.project.rows("analytics.by_day", "amount") == [(10,), (55,)]
    assert built.project.lake.detail("analytics.by_day").partition_by == ("day",)


def test_replace_where_replaces_what_it_names(built: SimpleNamespace) -> None:
    assert built.project.rows("analytics.replaced") == [(1, 10), (3, 30)]


def test_new_columns_join_when_asked_and_stay_out_when_not(built: SimpleNamespace) -> None:
    assert built.project.rows("analytics.widened") == [(1, 10), (2, 25), (3, 30)]
    assert built.project.rows("analytics.narrow") == [(1,), (2,), (3,)]


def test_a_seed_keeps_its_types_and_is_loaded_once(built: SimpleNamespace) -> None:
    assert built.project.rows("analytics.regions") == [("01", "North"), ("02", None)]
    assert built.project.lake.version("analytics.regions") == 0


def test_a_snapshot_keeps_what_was(built: SimpleNamespace) -> None:
    history = built.project.rows("analytics.order_history", "id, who, dbt_valid_to is null")
    assert history == [(1, "a", True), (2, "B", True), (2, "b", False), (3, "c", True)]


def test_inputs_are_named_through_ephemeral_models(built: SimpleNamespace) -> None:
    stamp = built.project.lake.history("analytics.through_ephemeral", limit=1)[0].stamp
    assert stamp.inputs == {"raw.orders": 1}
    assert stamp.run == "run-2"
    assert stamp.asset == "analytics.through_ephemeral"


def test_every_table_is_left_alone_when_nothing_has_changed(built: SimpleNamespace) -> None:
    assert not built.first.failed
    assert not built.second.failed
    assert {node.name: node.is_unchanged for node in built.third.nodes} == {node.name: True for node in built.third.nodes}
    assert len(built.third.nodes) == len(MODELS) + 2


def test_a_report_tells_versions_and_rows(built: SimpleNamespace) -> None:
    merged = next(node for node in built.second.nodes if node.name == "merged")
    assert (merged.status, merged.version, merged.rows, merged.is_unchanged) == ("success", 1, 3, False)
    assert str(merged.table) == "analytics.merged"


def test_a_changed_query_builds_again_and_full_refresh_always_does(built: SimpleNamespace) -> None:
    project = built.project
    project.write("models/analytics/whole.sql", "select id from {{ source('raw', 'orders') }}")
    report = project.build("whole", "merged")
    assert {node.name: node.is_unchanged for node in report.nodes} == {"whole": False, "merged": True}
    assert not project.build("merged", full_refresh=True).nodes[0].is_unchanged
    assert project.rows("analytics.merged") == [(1, "a", 10), (2, "B", 25), (3, "c", 30)]


def test_time_travel_inside_a_model(built: SimpleNamespace) -> None:
    project = built.project
    project.write("models/analytics/before.sql", "select count(*) as orders from {{ lakehouse_as_of(source('raw', 'orders'), 0) }}")
    project.build("before")
    assert project.rows("analytics.before") == [(2,)]


# dbt-duckdb gives each thread that runs a Python model an event loop, and never closes it.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_python_model_is_a_table(built: SimpleNamespace) -> None:
    project = built.project
    project.write("models/analytics/doubled.py", PYTHON_MODEL)
    report = project.build("doubled")
    assert project.rows("analytics.doubled") == [(1, 20), (2, 50), (3, 60)]
    assert not report.nodes[0].is_unchanged
    assert project.build("doubled").nodes[0].is_unchanged
    gc.collect()


@pytest.mark.slow
def test_a_build_is_told_to_openlineage_table_by_table(
    scratch_project: Callable[[str], ScratchProject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    project = scratch_project("told")
    project.put("raw.orders", "SELECT 1 AS id, 10 AS amount")
    project.write("models/sources.yml", "version: 2\nsources: [{name: raw, schema: raw, tables: [{name: orders}]}]")
    project.write("models/staging/orders.sql", "select id, amount * 2 as twice from {{ source('raw', 'orders') }}")
    project.write("models/analytics/broken.sql", "select nothing from {{ ref('orders') }}")
    settings = project.settings.model_copy(update={"openlineage_file": tmp_path / "events.ndjson"})
    build(settings, run="told", check=False)
    events = [json.loads(line) for line in (tmp_path / "events.ndjson").read_text().splitlines()]
    ends = {event["job"]["name"]: event for event in events if event["eventType"] != "START"}
    assert {name: event["eventType"] for name, event in ends.items()} == {
        "dbt.staging.orders": "COMPLETE",
        "dbt.analytics.broken": "FAIL",
        "dbt.build": "FAIL",
    }
    fields = ends["dbt.staging.orders"]["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert [one["field"] for one in fields["twice"]["inputFields"]] == ["amount"]
