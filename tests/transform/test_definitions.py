"""An incremental table's rows are all of one definition: what changes it makes the next run write the table anew, nothing else does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import load_contracts
from lakehouse.settings import Settings
from lakehouse.tables import Commit, Lake, Stamp
from lakehouse.transform import TransformReport, compiled
from lakehouse.transform.definitions import Definitions
from lakehouse.transform.project import parsed
from tests.transform.conftest import ScratchProject, put_raw, rows_of

SOURCES = "version: 2\nsources: [{name: raw, schema: raw, tables: [{name: orders}]}]"
ORDERS = "SELECT * FROM (VALUES (1, 10, 1), (2, 20, 1)) t(id, amount, _batch)"
MORE = "SELECT * FROM (VALUES (1, 10, 1), (2, 20, 1), (3, 30, 2)) t(id, amount, _batch)"
NEW_ONLY = "{% if is_incremental() %}where _batch > (select coalesce(max(built._batch), -1) from {{ this }} as built){% endif %}"
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: visits
name: visits
version: 1.0.0
status: active
domain: shop
description: {{purpose: "{purpose}"}}
customProperties: [{{property: eventTimestamp, value: {event}}}]
schema:
  - name: visits
    physicalType: table
    properties:
      - {{name: visit, logicalType: integer, physicalType: BIGINT, required: true, primaryKey: true, primaryKeyPosition: 1}}
      - {{name: opened, logicalType: timestamp, physicalType: TIMESTAMP}}
      - {{name: closed, logicalType: timestamp, physicalType: TIMESTAMP}}
      - {{name: pages, {pages}}}
{more}
"""


def model(select: str, *, source: str = "{{ source('raw', 'orders') }}", config: str = "unique_key='id'") -> str:
    """An incremental model that reads what is new in its source."""
    return f"{{{{ config(materialized='incremental', {config}) }}}} select {select}, _batch from {source} {NEW_ONLY}"


def outcomes(report: TransformReport) -> dict[str, tuple[bool, int]]:
    """Whether each table was left alone, and the rows that were written."""
    assert not report.failed
    return {node.name: (node.is_unchanged, node.rows) for node in report.nodes}


@pytest.fixture(scope="module")
def project(scratch_project: Callable[[str], ScratchProject]) -> ScratchProject:
    made = scratch_project("definitions")
    made.write("models/sources.yml", SOURCES)
    return made


@pytest.fixture(autouse=True)
def orders(request: pytest.FixtureRequest) -> None:
    """Two orders, whatever the test before has put there."""
    if "project" in request.fixturenames:
        request.getfixturevalue("project").put("raw.orders", ORDERS)


def test_a_macro_that_a_model_uses_through_another_is_part_of_it(project: ScratchProject) -> None:
    project.write("macros/inner.sql", "{% macro inner(x) %}{{ x }} + 1{% endmacro %}")
    project.write("macros/outer.sql", "{% macro outer(x) %}({{ inner(x) }}){% endmacro %}{% macro unused() %}1{% endmacro %}")
    project.write("models/analytics/priced.sql", model("id, {{ outer('amount') }} as amount"))
    assert outcomes(project.build("priced")) == {"priced": (False, 2)}
    project.write("macros/outer.sql", "{% macro outer(x) %}{# Why. #}({{ inner(x) }}){% endmacro %}{% macro unused() %}2{% endmacro %}")
    assert outcomes(project.build("priced")) == {"priced": (True, 0)}
    project.write("macros/inner.sql", "{% macro inner(x) %}{{ x }} + 2{% endmacro %}")
    assert outcomes(project.build("priced")) == {"priced": (False, 2)}
    assert project.rows("analytics.priced", "id, amount") == [(1, 12), (2, 22)]
    assert project.rows("analytics.priced", "id, amount", version=0) == [(1, 11), (2, 21)]
    history = project.lake.history("analytics.priced")
    assert [(info.version, info.operation) for info in history] == [(1, "overwrite"), (0, "overwrite")]
    assert outcomes(project.build("priced")) == {"priced": (True, 0)}
    project.put("raw.orders", MORE)
    assert outcomes(project.build("priced")) == {"priced": (False, 1)}
    assert project.rows("analytics.priced", "id, amount") == [(1, 12), (2, 22), (3, 32)]


def test_a_macro_that_only_increments_call_is_part_of_the_model(project: ScratchProject) -> None:
    project.write("macros/fresh.sql", "{% macro fresh() %}_batch > 1{% endmacro %}")
    project.write(
        "models/analytics/guarded.sql",
        "{{ config(materialized='incremental', unique_key='id') }} select * from {{ source('raw', 'orders') }}"
        "{% if is_incremental() %} where {{ fresh() }}{% endif %}",
    )
    project.build("guarded")
    project.put("raw.orders", MORE)
    assert outcomes(project.build("guarded")) == {"guarded": (False, 1)}
    project.write("macros/fresh.sql", "{% macro fresh() %}_batch > 0{% endmacro %}")
    assert outcomes(project.build("guarded")) == {"guarded": (False, 3)}


def test_a_changed_model_is_rebuilt_with_all_that_is_made_from_it(project: ScratchProject) -> None:
    project.write("seeds/rates.csv", "id,rate\n1,2\n2,3\n")
    project.write("models/staging/base.sql", model("id, amount"))
    project.write("models/staging/passed.sql", "{{ config(materialized='ephemeral') }} select * from {{ ref('base') }}")
    project.write("models/analytics/middle.sql", "select * from {{ ref('passed') }}")
    project.write("models/features/view_of_it.sql", model("id, amount", source="{{ ref('middle') }}"))
    joined = "(select b.*, r.rate from {{ ref('base') }} as b join {{ ref('rates') }} as r using (id)) as joined"
    project.write("models/features/rated.sql", model("id, amount * rate as amount", source=joined))
    first = outcomes(project.build("+view_of_it", "+rated"))
    assert set(first) == {"rates", "base", "middle", "view_of_it", "rated"}
    project.write("models/staging/base.sql", model("id, amount * 10 as amount"))
    # What is not asked for keeps its rows, and what reads it does so too.
    assert outcomes(project.build("view_of_it")) == {"view_of_it": (True, 0)}
    again = outcomes(project.build("+view_of_it", "+rated"))
    assert again == {"rates": (True, 0)} | dict.fromkeys(["base", "middle", "view_of_it", "rated"], (False, 2))
    assert project.rows("features.view_of_it", "amount") == [(100,), (200,)]
    project.write("seeds/rates.csv", "id,rate\n1,2\n2,5\n")
    assert outcomes(project.build("+rated")) == {"rates": (False, 2), "base": (True, 0), "rated": (False, 2)}
    assert project.rows("features.rated", "amount") == [(200,), (1000,)]


def test_rows_that_nothing_could_make_again_stay_when_the_config_says_so(project: ScratchProject) -> None:
    project.write("models/analytics/kept.sql", model("id, amount", config="full_refresh=false"))
    project.write("models/analytics/appended.sql", model("id, amount", config="incremental_strategy='append'"))
    project.build("kept", "appended")
    project.put("raw.orders", MORE)
    project.write("models/analytics/kept.sql", model("id, -amount as amount", config="full_refresh=false"))
    project.write("models/analytics/appended.sql", model("id, -amount as amount", config="incremental_strategy='append'"))
    assert outcomes(project.build("kept", "appended")) == {"kept": (False, 1), "appended": (False, 3)}
    assert project.rows("analytics.kept", "amount") == [(-30,), (10,), (20,)]
    assert project.rows("analytics.appended", "amount") == [(-30,), (-20,), (-10,)]
    assert outcomes(project.build("kept", "appended")) == {"kept": (True, 0), "appended": (True, 0)}
    # Elsewhere there are no rows to keep.
    assert "max(built._batch)" not in compiled(project.settings, ["kept"])[0].sql


def test_by_hand_an_increment_stays_one_and_the_next_run_makes_the_table_whole(
    project: ScratchProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAKEHOUSE_RUN_ID", raising=False)
    before, after = model("id, amount"), model("id, -amount as amount")
    project.write("models/analytics/tried.sql", before)
    project.build("tried")
    assert project.build_by_hand("tried") == []
    project.put("raw.orders", MORE)
    project.write("models/analytics/tried.sql", after)
    warnings = project.build_by_hand("tried")
    assert project.rows("analytics.tried", "amount") == [(-30,), (10,), (20,)]
    assert len(warnings) == 1
    assert "analytics.tried has rows that an earlier definition made" in warnings[0]
    assert "--full-refresh" in warnings[0]
    # Taking the change back does not take back the row that it made.
    project.write("models/analytics/tried.sql", before)
    assert outcomes(project.build("tried")) == {"tried": (False, 3)}
    assert project.rows("analytics.tried", "amount") == [(10,), (20,), (30,)]
    project.write("models/analytics/tried.sql", after)
    assert project.build_by_hand("tried", "--full-refresh") == []
    assert project.rows("analytics.tried", "amount") == [(-30,), (-20,), (-10,)]
    assert outcomes(project.build("tried")) == {"tried": (True, 0)}


def test_a_variable_and_a_table_of_an_older_release_are_rebuilt_once(project: ScratchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTOR", "2")
    project.write("models/analytics/scaled.sql", model("id, amount * {{ env_var('FACTOR', '1') }} as amount"))
    con = project.lake.open_connection()
    stamp = Stamp("analytics.scaled", "older", {"raw.orders": project.lake.version("raw.orders")}, "0" * 64)
    project.lake.overwrite(con, "analytics.scaled", "SELECT 1 AS id, 0 AS amount, 1 AS _batch", stamp=stamp)
    con.close()
    assert outcomes(project.build("scaled")) == {"scaled": (False, 2)}
    assert outcomes(project.build("scaled")) == {"scaled": (True, 0)}
    monkeypatch.setenv("FACTOR", "3")
    assert outcomes(project.build("scaled")) == {"scaled": (False, 2)}
    assert project.rows("analytics.scaled", "amount") == [(30,), (60,)]


def between(monkeypatch: pytest.MonkeyPatch, method: str, act: Callable[[Lake, tuple[Any, ...], dict[str, Any]], None]) -> None:
    """Let another process act once, after this one has read the table and before it writes."""
    write, is_first = getattr(Lake, method), [True]

    def written(lake: Lake, *given: Any, **named: Any) -> Commit:
        if is_first and given[1].layer == "analytics":
            is_first.clear()
            act(lake, given, named)
        return write(lake, *given, **named)

    monkeypatch.setattr(Lake, method, written)


def test_of_two_runs_that_rebuild_one_does(project: ScratchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("models/analytics/raced.sql", model("id, amount"))
    project.build("raced")
    project.write("models/analytics/raced.sql", model("id, -amount as amount"))
    with monkeypatch.context() as patch:
        between(patch, "overwrite", lambda lake, given, named: lake.overwrite(*given, **named) and None)
        assert outcomes(project.build("raced")) == {"raced": (True, 0)}
    assert project.lake.version("analytics.raced") == 1
    assert project.rows("analytics.raced", "amount") == [(-20,), (-10,)]


def test_a_run_does_not_add_to_what_another_definition_made_meanwhile(project: ScratchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("models/analytics/crossed.sql", model("id, amount"))
    project.build("crossed")
    project.put("raw.orders", MORE)

    def rebuild(lake: Lake, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        del named
        stamp = Stamp("analytics.crossed", "other", {}, "f" * 32)
        lake.overwrite(given[0], given[1], "SELECT 7 AS id, 7 AS amount, 1 AS _batch", stamp=stamp)

    with monkeypatch.context() as patch:
        between(patch, "merge", rebuild)
        report = project.build("crossed", check=False)
    assert [node.message for node in report.nodes if "was built by another definition" in node.message]
    assert project.rows("analytics.crossed", "id") == [(7,)]
    assert outcomes(project.build("crossed")) == {"crossed": (False, 3)}


def test_staging_follows_what_its_contract_says_of_columns_key_and_time(scratch_project: Callable[[str], ScratchProject]) -> None:
    project = scratch_project("contract")
    path = project.root / "contracts" / "datasets" / "visits.odcs.yaml"

    def contract(*, purpose: str = "Visits.", event: str = "opened", pages: str = "logicalType: integer", more: str = "") -> None:
        path.write_text(CONTRACT.format(purpose=purpose, event=event, pages=pages, more=more), "utf-8")

    contract()
    early, late = "2025-01-01 08:00:00", "2025-01-01 09:00:00"
    rows = [{"visit": 1, "opened": late, "closed": early, "pages": 1}, {"visit": 1, "opened": early, "closed": late, "pages": 2}]
    put_raw(project.lake, load_contracts(project.settings).dataset("visits"), rows, batch=1)
    assert outcomes(project.build("stg_visits", "visits_features"))["stg_visits"] == (False, 1)
    assert project.rows("staging.visits", "visit, pages") == [(1, 1)]
    contract(purpose="Visits of a shop.")
    assert outcomes(project.build("stg_visits")) == {"stg_visits": (True, 0)}
    contract(event="closed")
    assert outcomes(project.build("stg_visits")) == {"stg_visits": (False, 1)}
    assert project.rows("staging.visits", "visit, pages") == [(1, 2)]
    # No batch has brought the new column yet, and the rows that are there have numbers for pages.
    contract(event="closed", pages="logicalType: string", more="      - {name: shop, logicalType: string, physicalType: VARCHAR}")
    assert outcomes(project.build("stg_visits")) == {"stg_visits": (False, 1)}
    assert project.rows("staging.visits", "visit, pages, shop") == [(1, "2", None)]
    assert outcomes(project.build("stg_visits")) == {"stg_visits": (True, 0)}


@pytest.mark.parametrize(
    ("macro", "changed"),
    [
        ("touched_households", {"household_features", "household_panel"}),
        ("stage_dataset", {f"stg_{one}" for one in ("commits", "customers", "household_survey", "orders", "payments", "web_events")}),
        ("commit_types", {"stg_commits", "commit_features"}),
        ("wilson", {"household_vulnerability_by_district_quarter"}),
        ("lakehouse_write", set()),
        ("is_incremental", set()),
    ],
)
def test_macros_of_the_project_are_part_of_the_models_that_use_them(
    settings: Settings, parsed_project: Path, macro: str, changed: set[str]
) -> None:
    manifest, contracts = parsed(parsed_project / "manifest.json"), load_contracts(settings)
    models = [unique_id for unique_id, node in manifest.nodes.items() if str(node.resource_type) == "model"]
    before = Definitions(manifest, contracts, lambda _, name: name)
    known = {unique_id: before.of(unique_id) for unique_id in models}
    manifest.macros[f"macro.lakehouse.{macro}"].macro_sql += " "
    after = Definitions(manifest, contracts, lambda _, name: name)
    assert {unique_id.rsplit(".", 1)[-1] for unique_id in models if after.of(unique_id) != known[unique_id]} == changed
    panel = known["model.lakehouse.household_panel"]
    assert [str(table) for table in panel.parents] == ["staging.household_survey"]


def test_rows_that_a_restore_takes_away_leave_everything_made_from_them(project: ScratchProject) -> None:
    project.write("models/staging/undone.sql", model("id, amount"))
    project.write("models/analytics/undone_twice.sql", model("id, amount * 2 as double", source="{{ ref('undone') }}"))
    project.put("raw.orders", MORE)
    project.build("undone+")
    stamp = Stamp("raw.orders", "undo")
    versions = [info.version for info in project.lake.history("raw.orders")]
    project.lake.restore("raw.orders", versions[1], stamp=stamp)
    assert outcomes(project.build("undone+")) == {"undone": (False, 2), "undone_twice": (False, 2)}
    assert [row[0] for row in rows_of(project.lake, "analytics.undone_twice", "id")] == [1, 2]
    # A table that was restored itself is brought up to date as after any other increment.
    first = project.lake.history("staging.undone")[-1].version
    project.lake.restore("staging.undone", first, stamp=stamp)
    project.build("undone+")
    assert [row[0] for row in rows_of(project.lake, "staging.undone", "id")] == [1, 2]
    assert outcomes(project.build("undone+")) == {"undone": (True, 0), "undone_twice": (True, 0)}
