"""Registering feature views: one file, whole or not at all, and every reason why not."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import FeatureError, FeatureViewNotFound, ViewRefused
from lakehouse.features import find_view
from lakehouse.pipeline.features import declared, materialize_view, online
from lakehouse.pipeline.registering import register_view, unregister_view
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy.audit import Audit
from lakehouse.tables import Stamp
from lakehouse.transform import build, prepare
from lakehouse.transform.registered import registered_dir
from tests.cli.conftest import lakehouse  # noqa: F401 - a fixture.
from tests.serving.conftest import HOUSEHOLDS, ask

STATUS = "analytics.household_status"
DECLARATION: dict[str, Any] = {
    "table": "analytics.district_regions",
    "description": "Where a {{ district }} lies.",
    "features": {"region": "Region {% it lies %} in.", "is_lowland": ""},
    "feature_view": {"entity": ["district"], "ttl": "90d", "online": True, "owner": "maps@example.org", "defaults": {"region": "unknown"}},
}


def changed(meta: Mapping[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    return {**DECLARATION, **others, "feature_view": {**DECLARATION["feature_view"], **(meta or {})}}


@pytest.fixture(scope="module")
def regions(workspace: Workspace) -> Workspace:
    """The home with a seed built, and a table that has an instant."""
    build(workspace.settings, run="run-1", contracts=workspace.contracts, select=["district_regions"])
    with workspace.lake.connect(()) as session:
        sql = "SELECT 'HH1' AS household_id, TIMESTAMPTZ '2026-01-01' AS at, 'x' AS status, 1.5::DOUBLE AS score, [1] AS list, 1 AS _i"
        workspace.lake.overwrite(session.con, STATUS, sql, stamp=Stamp(asset="test", run="run-1"))
    return workspace


def files(workspace: Workspace) -> dict[str, bytes]:
    folder = registered_dir(workspace.settings)
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.name != ".lock"}


def test_from_a_declaration_to_what_is_served(regions, api, service):
    path = "/v1/views/district_lowland"
    dry = ask(api, "PUT", path, DECLARATION, query={"dry_run": "true"})
    assert (dry.status, dry.json["created"], files(regions)) == (200, True, {})
    done = ask(api, "PUT", path, DECLARATION)
    assert (done.status, done.json["created"], done.json["table"]) == (201, True, "features.district_lowland")
    assert list(files(regions)) == ["district_lowland.yaml"]
    again = ask(api, "PUT", path, DECLARATION)
    assert (again.status, again.json["created"], again.json["changed"]) == (200, False, False)
    # What dbt would render is no more than text.
    shown = ask(api, "GET", path).json
    assert (shown["description"], shown["ttl_s"], shown["entity"]) == ("Where a (( district )) lies.", 90 * 86400.0, ["district"])
    assert shown["made_from"] == ["analytics.district_regions"]
    assert ask(api, "POST", "/v1/features", {"views": ["district_lowland"], "entities": [{"district": "x"}]}).status == 409

    report = build(regions.settings, run="run-2", contracts=regions.contracts, select=["district_lowland"])
    assert [str(node.table) for node in report.nodes] == ["features.district_lowland"]
    with online(regions) as features:
        materialize_view(regions, features, declared(regions)["district_lowland"], now=datetime.now(UTC))
    with regions.lake.connect(["analytics.district_regions"]) as session:
        district, region, is_lowland = session.con.execute("SELECT district, region, is_lowland FROM analytics.district_regions").fetchone()
    found = ask(api, "POST", "/v1/features", {"views": ["district_lowland"], "entities": [{"district": district}, {"district": "no such"}]})
    assert found.json["rows"] == [
        {"district": district, "region": region, "is_lowland": is_lowland},
        {"district": "no such", "region": "unknown", "is_lowland": None},
    ]
    lineage = ask(api, "GET", f"{path}/lineage").json
    assert [step["table"] for step in lineage["steps"]] == ["features.district_lowland", "analytics.district_regions"]

    anew = ask(api, "PUT", path, changed({"ttl": "30d"}))
    assert (anew.status, anew.json["created"], anew.json["changed"]) == (200, False, True)
    assert ask(api, "GET", path).json["ttl_s"] == 30 * 86400.0
    assert ask(api, "DELETE", path).json == {"view": "district_lowland", "removed": True}
    assert (files(regions), ask(api, "GET", path).status, ask(api, "DELETE", path).status) == ({}, 404, 404)
    entries = [(one.action, one.outcome, one.facts.get("through")) for one in Audit(regions.settings).entries() if one.action != "commit"]
    assert ("features register", "done", "Feature API") in entries
    assert ("features unregister", "FeatureViewNotFound", "Feature API") in entries


def test_every_reason_is_given_at_once(regions, api):
    declaration = {
        "table": STATUS,
        "features": {"score": "", "list": "", "at": "", "_i": "", "wealth": ""},
        "feature_view": {
            "entity": ["household_id"],
            "event_timestamp": "status",
            "ttl": "soon",
            "owner": "{{ env_var('SECRET') }}",
            "online": True,
        },
    }
    found = ask(api, "PUT", "/v1/views/household_scores", declaration)
    assert found.status == 422
    reasons = "\n".join(found.json["reasons"])
    for one in (
        "holds Jinja",
        "ttl: is not a duration",
        "has no column wealth",
        "_i begins with an underscore",
        "status is VARCHAR, and no instant",
    ):
        assert one in reasons
    assert files(regions) == {}


@pytest.mark.parametrize(
    ("name", "declaration", "says"),
    [
        ("../../evil", DECLARATION, "lower-case letters"),
        ("Regions", DECLARATION, "lower-case letters"),
        (HOUSEHOLDS, DECLARATION, "is a model already"),
        ("district_regions", DECLARATION, "is a seed already"),
        ("ok", changed(table="raw.household_survey"), "is none that dbt builds"),
        ("ok", changed(table="analytics.district_region"), "did you mean analytics.district_regions"),
        ("ok", changed(table="features.ok"), "is the view's own"),
        ("ok", changed(table="analytics.household_panel"), "has not been built"),
        ("ok", changed(table="analytics.{{ target.name }}"), "holds Jinja"),
        ("ok", changed({"entity": []}), "entity: List should have at least 1 item"),
        ("ok", changed({"entity": ["region"]}), "region is a key or an instant"),
        ("ok", changed({"ttl": float("inf")}), "ttl.float: Input should be a finite number"),
        ("ok", changed({"ttl": 10**10}), "at most 100 years"),
        ("ok", changed({"colour": "red"}), "colour: Extra inputs are not permitted"),
        ("ok", changed({"defaults": {"is_lowland": "perhaps"}}), "is no value of its type"),
        ("ok", changed({"defaults": {"height": 1}}), "is for a feature that is not there"),
        ("ok", changed({"source_priority": ["crm"]}), "has no column _source"),
        ("ok", changed(features=["region", "region {{ 1 }}"]), "holds Jinja"),
        ("ok", changed(sql="DROP TABLE x"), "sql: Extra inputs are not permitted"),
        (
            "ok",
            {**DECLARATION, "table": STATUS, "features": ["score"], "feature_view": {"entity": ["list"], "online": True}},
            "can't be the key",
        ),
    ],
)
def test_what_is_not_valid_is_refused(regions, name, declaration, says):
    with pytest.raises(ViewRefused, match="is not registered") as refused:
        register_view(regions, name, declaration)
    assert any(says in reason for reason in refused.value.reasons), refused.value.reasons
    assert files(regions) == {}


def test_views_are_made_from_each_other_in_one_direction(regions):
    def over(view: str) -> dict[str, Any]:
        return {"table": f"features.{view}", "features": ["region"], "feature_view": {"entity": ["district"]}}

    register_view(regions, "one", changed({"online": False}))
    with regions.lake.connect(()) as session:
        for view in ("one", "two"):
            sql = "SELECT 'd' AS district, 'r' AS region, true AS is_lowland"
            regions.lake.overwrite(session.con, f"features.{view}", sql, stamp=Stamp(asset="test", run="run-1"))
    register_view(regions, "two", over("one"))
    before = files(regions)
    # Now they would be made from each other.
    with pytest.raises(ViewRefused, match=r"features\.two is made from features\.one itself"):
        register_view(regions, "one", over("two"))
    assert files(regions) == before
    with pytest.raises(ViewRefused, match="dbt can't parse the project without it"):
        unregister_view(regions, "one")
    assert files(regions) == before
    assert find_view(declared(regions), "two").tables_above == ("features.one",)
    unregister_view(regions, "two")
    unregister_view(regions, "one")
    with pytest.raises(FeatureViewNotFound):
        unregister_view(regions, HOUSEHOLDS)
    assert "one" not in declared(regions)


def test_a_declaration_that_somebody_broke_is_named(regions, api):
    path = registered_dir(regions.settings) / "broken.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    for text in (
        "kind: [",
        "kind: FeatureView\nname: broken\n",
        yaml.safe_dump({"name": "broken", "model": "x", "declaration": DECLARATION}),
    ):
        path.write_text(text.replace("maps@example.org", "{{ 1 }}"), "utf-8")
        with pytest.raises(FeatureError, match=r"broken\.yaml"):
            prepare(regions.settings, regions.contracts)
    # It is the server's, not the caller's; and what is online is served all the same.
    assert ask(api, "GET", "/v1/views").status == 500
    assert ask(api, "POST", "/v1/features", {"views": [HOUSEHOLDS], "entities": [{"household_id": "x"}]}).status == 200
    path.unlink()
    assert ask(api, "GET", "/v1/views").status == 200


def test_it_is_off_by_default(regions, service, api):
    from lakehouse.settings import Settings

    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert (defaults["serving_registers"], defaults["serving_pushes"], defaults["serving_keys"]) == (False, False, None)
    service.settings, before = service.settings.model_copy(update={"serving_registers": False}), service.settings
    try:
        for method in ("PUT", "DELETE"):
            found = ask(api, method, "/v1/views/ok", DECLARATION)
            assert (found.status, "LAKEHOUSE_SERVING_REGISTERS=true" in found.json["fix"]) == (403, True)
    finally:
        service.settings = before


TEXT = st.text(max_size=12) | st.sampled_from(
    ["district", "region", "is_lowland", "{{ x }}", "'; DROP TABLE x; --", "90d", "_source", "\x00", "a: b"]
)


@settings(max_examples=25)
@given(
    name=TEXT | st.sampled_from(["ok", "view_2"]),
    declaration=st.fixed_dictionaries(
        {
            "table": st.just("analytics.district_regions") | TEXT,
            "features": st.lists(TEXT, max_size=3) | st.dictionaries(TEXT, TEXT, max_size=3),
            "feature_view": st.fixed_dictionaries(
                {"entity": st.just(["district"]) | st.lists(TEXT, max_size=2)},
                optional={"ttl": TEXT | st.floats() | st.integers(), "defaults": st.dictionaries(TEXT, TEXT, max_size=2), "owner": TEXT},
            ),
        },
        optional={"description": TEXT},
    ),
)
def test_a_declaration_is_refused_or_valid(regions, name, declaration):
    refused: list[ViewRefused] = []
    try:
        register_view(regions, name, declaration, dry_run=True)
    except ViewRefused as error:
        refused.append(error)
    assert all(one.reasons and all(one.reasons) for one in refused)
    assert files(regions) == {}


def test_the_commands_say_the_same(regions, lakehouse, tmp_path):  # noqa: F811
    path = tmp_path / "view.yaml"
    path.write_text(yaml.safe_dump(changed({"online": False})), "utf-8")
    home = str(regions.settings.home_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_HOME", home)
        assert "is valid" in lakehouse("features", "register", "by_command", path, "--dry-run").out
        from tests.cli.test_documents import _same

        done = lakehouse("features", "register", "by_command", path, "--json")
        assert (done.code, done.json["next"]) == (0, "lakehouse run")
        _same("features register", done.json)
        assert "is registered so already" in lakehouse("features", "register", "by_command", path).out
        _same("features unregister", lakehouse("features", "unregister", "by_command", "--json").json)
        path.write_text("[1]", "utf-8")
        assert "declares nothing" in lakehouse("features", "register", "by_command", path).err
        path.write_text("{", "utf-8")
        assert "is neither YAML nor JSON" in lakehouse("features", "register", "by_command", path).err
        assert lakehouse("features", "register", "by_command", tmp_path / "nothing").code == 2
