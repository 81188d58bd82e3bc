"""Feature views as dbt declares them, and the rows that are made from them."""

import duckdb
import pytest

from lakehouse.contracts import Contracts, DatasetContract, ModelContract
from lakehouse.errors import FeatureError, ModelError
from lakehouse.features import (
    JoinedView,
    described,
    feature_source,
    feature_views,
    find_view,
    output_names,
    prediction_set,
    target_columns,
    training_set,
    view_tables,
)


def manifest(**declared: object) -> dict:
    node = {
        "resource_type": "model",
        "name": "customer_features",
        "schema": "features",
        "alias": "customers",
        "description": "What is known of a customer.",
        "config": {"meta": {"feature_view": declared}},
    }
    other = {"resource_type": "model", "name": "stg_orders", "schema": "staging", "alias": "orders", "config": {"meta": {}}}
    return {"nodes": {"model.x.customer_features": node, "model.x.stg_orders": other, "test.x": {"resource_type": "test"}}}


def test_a_view_is_what_its_model_says():
    views = feature_views(
        manifest(entity="customer_id", event_timestamp="seen_at", known_timestamp="known_at", ttl="90 days", online=True, owner="team:crm")
    )
    view = views["customer_features"]
    assert (view.table, view.entity, view.ttl_s, view.online, view.owner) == (
        "features.customers",
        ("customer_id",),
        7_776_000.0,
        True,
        "team:crm",
    )
    assert view.features(["customer_id", "seen_at", "known_at", "age", "_batch"]) == ("age",)
    assert find_view(views, "features.customers") is view


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(None, None), (3600, 3600.0), ("24h", 86400.0), ("1.5 minutes", 90.0), ("2 weeks", 1_209_600.0)]
)
def test_a_ttl_is_a_duration(ttl, seconds):
    assert feature_views(manifest(entity=["id"], ttl=ttl))["customer_features"].ttl_s == seconds


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"event_timestamp": "seen_at"}, "names no entity"),
        ({"entity": "id", "ttl": "soon"}, "is not a duration"),
        ({"entity": "id", "ttl": 0}, "is not a duration"),
        *[
            ({"entity": "id", "ttl": ttl}, "at most 100 years")
            for ttl in (float("inf"), float("nan"), "Infinity", 1e30, 10**400, "99999 weeks", "9" * 400 + " d", True)
        ],
        ({"entity": "id", "tll": "1 day"}, "keys that mean nothing"),
        ({"entity": "id", "defaults": {"id": 1}}, "is no feature"),
        ({"entity": "id", "defaults": {"spent": [1]}}, "no single value"),
        ({"entity": "id", "defaults": 3}, "are not written so"),
        ({"entity": "id", "source_priority": "crm"}, "is not a list of sources"),
    ],
)
def test_a_declaration_that_says_too_little_is_refused(declared, message):
    with pytest.raises(FeatureError, match=message):
        feature_views(manifest(**declared))


def test_versions_of_a_view_stand_side_by_side():
    nodes = {}
    for number in (1, 2):
        (node,) = [one for one in manifest(entity="id")["nodes"].values() if one.get("name") == "customer_features"]
        nodes[f"model.x.customer_features.v{number}"] = node | {
            "version": number,
            "latest_version": 2,
            "alias": f"customer_features_v{number}",
        }
    views = feature_views({"nodes": nodes})
    assert list(views) == ["customer_features_v1", "customer_features_v2"]
    newest, older = views["customer_features_v2"], views["customer_features_v1"]
    assert [find_view(views, name) for name in ("customer_features", "customer_features@2", "features.customer_features_v2")] == [
        newest
    ] * 3
    assert [find_view(views, name) for name in ("customer_features@1", "customer_features.v1", "customer_features_v1")] == [older] * 3
    # A model of one version comes after that version's table; a view that nobody declares keeps nobody else from their work.
    asked = ["customer_features@1", "customer_features", "features.customer_features_v2", "visits"]
    assert view_tables(asked, views) == ("features.customer_features_v1", "features.customer_features_v2", "features.visits")
    assert output_names([JoinedView(older, "a", ("id", "x"), ("x",)), JoinedView(newest, "b", ("id", "x"), ("x",))]) == {
        ("customer_features_v1", "x"): "customer_features_v1__x",
        ("customer_features_v2", "x"): "customer_features_v2__x",
    }


def test_sources_are_trusted_as_the_contract_above_says():
    document = manifest(entity="id")
    document["nodes"]["model.x.customer_features"]["depends_on"] = {"nodes": ["model.x.stg_orders"]}
    document["nodes"]["model.x.stg_orders"]["depends_on"] = {"nodes": ["source.x.raw.orders"]}
    document["sources"] = {"source.x.raw.orders": {"schema": "raw", "identifier": "orders"}}
    orders = DatasetContract(name="orders", version="1", columns=(), source_priority=("crm", "clicks"))
    contracts = Contracts(datasets={"orders": orders})
    view = feature_views(document, contracts)["customer_features"]
    assert view.source_priority == ("crm", "clicks")
    assert view.tables_above == ("staging.orders",)
    assert feature_views(document)["customer_features"].source_priority == ()
    document["nodes"]["model.x.customer_features"]["config"]["meta"]["feature_view"]["source_priority"] = ["own"]
    assert feature_views(document, contracts)["customer_features"].source_priority == ("own",)


def test_an_unknown_view_names_the_nearest():
    with pytest.raises(FeatureError, match="Did you mean customer_features"):
        find_view(feature_views(manifest(entity="id")), "customers_features")


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE SCHEMA staging; CREATE SCHEMA features")
    connection.execute(
        "CREATE TABLE staging.visits AS SELECT * FROM (VALUES"
        " (1, TIMESTAMP '2026-01-01', true, 'x', 3, TIMESTAMPTZ '2026-01-02 00:00:00Z'),"
        " (1, TIMESTAMP '2026-02-01', NULL, 'y', 4, TIMESTAMPTZ '2026-02-02 00:00:00Z'),"
        " (2, TIMESTAMP '2026-01-15', false, 'x', 5, TIMESTAMPTZ '2026-01-16 00:00:00Z'))"
        " AS v(id, seen_at, ill, note, weight, _ingested_at)"
    )
    connection.execute(
        "CREATE TABLE features.customers AS SELECT id, seen_at, weight * 10 AS load, ill, _ingested_at AS known_at, 1 AS _batch FROM staging.visits"
    )
    # A correction of the first visit that arrived after its label.
    connection.execute("INSERT INTO features.customers VALUES (1, TIMESTAMP '2026-01-01', 99, true, TIMESTAMPTZ '2026-06-01 00:00:00Z', 2)")
    return connection


def contract(**changes: object) -> ModelContract:
    given = {
        "name": "illness",
        "version": "1",
        "problem": "classification",
        "dataset": "visits",
        "label_table": "staging.visits",
        "target_column": "ill",
        "entity": ("id",),
        "event_timestamp": "seen_at",
    }
    return ModelContract(**(given | changes))  # pyright: ignore[reportArgumentType]


VIEWS = feature_views(manifest(entity="id", event_timestamp="seen_at", known_timestamp="known_at"))


def test_labels_get_what_was_known_and_never_their_target(con):
    source = described(feature_source(contract(feature_views=("customer_features",)), VIEWS), con)
    rows = training_set(source)
    assert list(rows.features) == ["load"]
    assert con.execute(f"SELECT id, load, _label FROM ({rows.sql}) ORDER BY id").fetchall() == [(1, 30, True), (2, 50, False)]


def test_without_views_the_label_table_has_the_features(con):
    rows = training_set(described(feature_source(contract(), {}), con))
    assert list(rows.features) == ["note", "weight"]
    assert [column[0] for column in con.execute(rows.sql).description or []] == ["id", "seen_at", "note", "weight", "_label"]


def test_every_entity_is_predicted_at_its_newest_row(con):
    rows = prediction_set(described(feature_source(contract(feature_views=("customer_features",)), VIEWS), con))
    assert con.execute(f"SELECT id, load FROM ({rows.sql}) ORDER BY id").fetchall() == [(1, 40), (2, 50)]
    every = prediction_set(described(feature_source(contract(), {}), con), newest_only=False, carried=("_ingested_at",))
    assert con.execute(f"SELECT count(*), count(_ingested_at) FROM ({every.sql})").fetchone() == (3, 3)


def test_chosen_features_come_in_the_chosen_order(con):
    rows = training_set(described(feature_source(contract(include_features=("weight",)), {}), con))
    assert list(rows.features) == ["weight"]
    with pytest.raises(FeatureError, match="height"):
        training_set(described(feature_source(contract(include_features=("height",)), {}), con))


def test_the_columns_of_a_target_are_found_in_its_sql():
    found = target_columns(contract(target_column=None, target_sql="coalesce(a.pay, 0) / nullif(hours, 0) > 3"))
    assert found == {"pay", "hours"}
    with pytest.raises(ModelError, match="is not SQL"):
        target_columns(contract(target_column=None, target_sql="select from where ("))


def test_rows_that_nothing_tells_apart_are_refused(con):
    with pytest.raises(ModelError, match="has no entity"):
        training_set(described(feature_source(contract(entity=()), {}), con))
