"""Training over real tables: what is recorded, what is repeated, what is promoted, what is refused."""

import dataclasses
import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from assets.models import _model_metadata
from lakehouse.contracts import Severity, Split
from lakehouse.errors import DATA_DID_NOT_PASS, ModelError, ModelNotFound, TableNotFound, TrainingDataError
from lakehouse.features import FeatureView
from lakehouse.learning import CHAMPION, Confusion, Registry, TrainReport, predict_batch, train
from lakehouse.learning.fingerprint import code_digest
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.learning.conftest import model, write

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def rows(lake: Lake, sql: str, *tables: str) -> list[tuple]:
    with lake.connect(tables) as session:
        return session.con.execute(sql).fetchall()


@pytest.fixture(scope="module")
def telco(shared: Settings, lake: Lake, real_data: Path) -> TrainReport:
    """Real customers, 26 % of whom left; trained with the contract's defaults."""
    file = real_data / "commerce" / "crm_telco" / "customers.csv"
    write(
        lake,
        "staging.telco",
        f"SELECT * REPLACE (CASE WHEN Churn THEN 'Yes' ELSE 'No' END AS Churn) FROM read_csv('{file}', nullstr=[' ', ''])",
    )
    return train(shared, lake, TELCO, run="first", now=NOW)


TELCO = model("telco", entity=("customerID",), target_column="Churn", positive_class="Yes", minimums={"roc_auc": 0.82})


def test_real_customers_are_told_apart_as_well_as_the_goal_says(telco, shared, lake):
    assert telco.metrics["roc_auc"] >= 0.84
    assert telco.baseline["roc_auc"] == pytest.approx(0.5)
    assert telco.interval is not None
    assert telco.interval.low < telco.metrics["roc_auc"] < telco.interval.high
    assert {one.algorithm for one in telco.candidates} >= {"baseline", "logistic_regression", "random_forest", "hist_gradient_boosting"}
    assert telco.passed
    assert telco.rows_train + telco.rows_test == 5636


def test_the_training_set_is_a_table_that_says_what_it_was_made_from(telco, lake):
    table = "models.telco_training_set"
    [(total, test, folds)] = rows(lake, f"SELECT count(*), count(*) FILTER (_split = 'test'), count(DISTINCT _fold) FROM {table}", table)
    assert (total, test, folds) == (5636, telco.rows_test, 5)
    stamp = lake.history(table, limit=1)[0].stamp
    assert stamp is not None
    assert dict(stamp.inputs) == {"staging.telco": lake.version("staging.telco")}
    assert "churn" not in {column.lower() for column in lake.schema(table)}


def test_evaluation_and_registry_events_are_rows(telco, lake):
    found = rows(
        lake, "SELECT version, passed, value, training_set_version FROM models.evaluations WHERE model = 'telco'", "models.evaluations"
    )
    assert found[0] == ("1", True, telco.metrics["roc_auc"], telco.training_set_version)
    events = rows(
        lake,
        "SELECT event, alias, previous_version FROM models.registry_events WHERE model = 'telco' AND version = '1' ORDER BY number LIMIT 6",
        "models.registry_events",
    )
    told = {event: (alias, previous) for event, alias, previous in events}
    assert list(told) == ["drafted", "training", "registered", "validated", "staged", "promoted"]
    assert (told["registered"], told["promoted"]) == ((None, None), ("champion", None))


def test_what_was_said_of_the_test_rows_is_in_the_report_the_registry_and_the_asset(telco, shared):
    assert isinstance(telco.tested, Confusion)
    assert telco.tested.labels == ("No", "Yes")
    assert sum(map(sum, telco.tested.counts)) == telco.rows_test
    right = sum(telco.tested.counts[place][place] for place in range(2))
    assert telco.metrics["accuracy"] == pytest.approx(right / telco.rows_test)
    registry = Registry(shared)
    newest = registry.newest("telco")
    assert newest is not None
    kept = {one.path for one in registry._client.list_artifacts(newest.run)}
    assert kept == {"report.json", "recipe.json", "card.md", "card.html", "reliability.png", "test_rows.png"}
    shown = _model_metadata(Workspace(shared), telco)["lakehouse/test_rows"].value
    assert shown.startswith("![Test rows")
    assert len(shown) < 40_000


def test_nothing_is_trained_when_nothing_changed(telco, shared, lake):
    again = train(shared, lake, TELCO, run="second", now=NOW)
    assert again.skipped
    assert (again.version, again.model_digest, dict(again.metrics)) == (telco.version, telco.model_digest, dict(telco.metrics))
    assert again.checks == telco.checks


def test_every_customer_is_predicted_once_with_where_it_came_from(telco, shared, lake):
    commit = predict_batch(shared, lake, TELCO, run="predict", now=NOW)
    table = "models.telco_predictions"
    found = rows(
        lake,
        f'SELECT count(*), count(DISTINCT "customerID"), min(model_version), min(abs(probability_Yes + probability_No - 1)),'
        f" count(*) FILTER (confidence = greatest(probability_Yes, probability_No)), min(feature_versions) FROM {table}",
        table,
    )
    assert found[0][:3] == (5636, 5636, telco.version)
    assert found[0][4] == 5636
    assert json.loads(found[0][5]) == {"staging.telco": 0}
    stamp = lake.history(table, limit=1)[0].stamp
    assert stamp is not None
    assert stamp.source == {"model": f"models.telco@{telco.version}", "model_digest": telco.model_digest}
    again = predict_batch(shared, lake, TELCO, run="predict again", now=NOW)
    assert (again.skipped, again.version) == (True, commit.version)


# ---- small tables


def two_classes(lake: Lake, name: str, count: int = 200) -> None:
    write(
        lake,
        f"staging.{name}",
        f"SELECT range AS id, range % 7 AS x, hash(range) % 5 AS noise, if(range % 7 > 3, 'hi', 'lo') AS label FROM range({count})",
    )


def quick(name: str, **changes: object) -> object:
    return model(name, algorithms=("decision_tree",), **changes)


def test_a_model_below_its_minimums_is_a_challenger_and_the_champion_stays(shared, lake):
    two_classes(lake, "gate")
    good = train(shared, lake, quick("gate", minimums={"accuracy": 0.9}), run="r", now=NOW)
    strict = quick("gate", minimums={"accuracy": 1.0, "log_loss": -1.0})
    assert good.alias == CHAMPION
    bad = train(shared, lake, strict, run="r", now=NOW)
    assert (bad.passed, bad.alias) == (False, "challenger")
    [check] = [one for one in bad.checks if not one.passed and one.severity is Severity.ERROR]
    assert "log_loss" in check.detail
    assert "at most" in check.detail
    registry = Registry(shared)
    assert registry.version("gate", CHAMPION) == good.version
    assert registry.version("gate", "challenger") == bad.version
    assert registry.load("gate").version == good.version


def test_without_a_champion_nothing_is_predicted(shared, lake):
    two_classes(lake, "hopeless")
    contract = quick("hopeless", minimums={"log_loss": -1.0})
    assert not train(shared, lake, contract, run="r", now=NOW).passed
    with pytest.raises(ModelNotFound, match="no champion"):
        predict_batch(shared, lake, contract, run="r", now=NOW)


def test_the_same_inputs_contract_and_seed_give_the_same_model(shared, lake):
    two_classes(lake, "twice")
    contract = quick("twice")
    first = train(shared, lake, contract, run="r", now=NOW)
    second = train(shared, lake, contract, run="r", now=NOW, force=True)
    assert first.version != second.version
    assert first.model_digest == second.model_digest
    assert train(shared, lake, dataclasses.replace(contract, digest="edited"), run="r", now=NOW).skipped is False


def test_the_contract_can_train_on_a_sample_that_does_not_depend_on_the_order_of_rows(shared, lake):
    two_classes(lake, "sampled", 400)
    contract = quick("sampled", max_rows=150)
    first = train(shared, lake, contract, run="r", now=NOW)
    assert first.rows_train + first.rows_test == 150
    write(lake, "staging.sampled", duckdb_reversed(lake, "staging.sampled"))
    second = train(shared, lake, contract, run="r", now=NOW)
    assert not second.skipped
    assert second.model_digest == first.model_digest


def duckdb_reversed(lake: Lake, table: str) -> str:
    return f"SELECT * FROM ({lake.scan_sql(table)}) ORDER BY id DESC"


def test_a_regression_on_an_expression_never_sees_the_columns_it_is_made_of(shared, lake):
    write(lake, "staging.income", "SELECT range AS id, range % 10 AS x, (range % 10) * 3.0 AS pay, 1 AS hours FROM range(300)")
    contract = model("income", problem="regression", target_column=None, target_sql="pay / hours", algorithms=("ridge",), metric="r2")
    report = train(shared, lake, contract, run="r", now=NOW)
    assert [one["feature"] for one in report.columns] == ["x"]
    assert report.metrics["r2"] > 0.99
    commit = predict_batch(shared, lake, contract, run="r", now=NOW)
    assert commit.rows == 300
    assert lake.schema(commit.table)["prediction"] == "DOUBLE"


def test_rare_classes_gaps_and_columns_that_start_late_do_not_stop_training(shared, lake):
    write(
        lake,
        "staging.panel",
        "SELECT range AS id, TIMESTAMP '2026-01-01' + INTERVAL 1 hour * range AS seen, range % 5 AS x,"
        " if(range > 150, range % 3, NULL) AS late, if(range = 7, 'only', if(range % 5 > 2, 'a', 'b')) AS label FROM range(200)",
    )
    contract = model("panel", event_timestamp="seen", split=Split("time", 0.2), metric="f1_macro", algorithms=("hist_gradient_boosting",))
    report = train(shared, lake, contract, run="r", now=NOW)
    assert report.metrics["f1_macro"] > 0.8
    assert report.rows_test == 40


def test_rows_without_a_place_in_time_are_left_out_and_counted(shared, lake):
    write(
        lake,
        "staging.undated",
        "SELECT range AS id, if(range % 10 = 3, NULL, DATE '2026-01-01' + CAST(range AS INTEGER)) AS seen, range % 5 AS x,"
        " if(range % 10 = 7, NULL, if(range % 5 > 2, 'a', 'b')) AS label FROM range(200)",
    )
    contract = quick("undated", split=Split("time", 0.2, "seen", gap_days=7))
    report = train(shared, lake, contract, run="r", now=NOW)
    reasons = {one.reason: (one.rows, one.example) for one in report.left_out}
    assert reasons["no target"] == (20, "id 107")
    assert reasons["no seen, which the split needs"] == (20, "id 103")
    near = reasons.pop("less than 7 days before the test rows")[0]
    assert near > 0
    table = "models.undated_training_set"
    assert dict(rows(lake, f"SELECT _split, count(*) FROM {table} GROUP BY 1", table)) == {
        "train": report.rows_train,
        "test": report.rows_test,
        "gap": near,
    }
    assert report.rows_train + report.rows_test + near == 160
    assert train(shared, lake, contract, run="r", now=NOW).left_out == report.left_out


def test_targets_that_are_no_finite_number_are_left_out_or_named(shared, lake):
    select = "SELECT range AS id, range % 10 AS x, {} AS label FROM range(200)"
    contract = model("odd", problem="regression", algorithms=("ridge",), metric="r2")
    write(lake, "staging.odd", select.format("CASE range % 50 WHEN 7 THEN 'nan'::DOUBLE WHEN 8 THEN 'inf'::DOUBLE ELSE range % 10 END"))
    report = train(shared, lake, contract, run="r", now=NOW)
    assert [str(one) for one in report.left_out] == ["8 rows: target NaN or infinite (such as id 107)"]
    assert report.rows_train + report.rows_test == 192
    write(lake, "staging.odd", select.format("if(range % 50 = 7, 'n/a', CAST(range % 10 AS VARCHAR))"))
    with pytest.raises(ModelError, match=r"target label: is text in 4 of 200 rows.* found 'n/a' in the row with id 7\b.*try_cast"):
        train(shared, lake, contract, run="r", now=NOW)
    write(lake, "staging.odd", select.format("CAST(range % 10 AS VARCHAR)"))
    assert train(shared, lake, contract, run="r", now=NOW).rows_test == 40
    write(lake, "staging.odd", select.format("DATE '2026-01-01' + CAST(range AS INTEGER)"))
    with pytest.raises(ModelError, match=r"is no number.*found date"):
        train(shared, lake, contract, run="r", now=NOW)


def test_changed_code_makes_new_predictions(shared, lake, monkeypatch):
    two_classes(lake, "recoded")
    contract = quick("recoded")
    train(shared, lake, contract, run="r", now=NOW)
    first = predict_batch(shared, lake, contract, run="r", now=NOW)
    assert predict_batch(shared, lake, contract, run="r", now=NOW).skipped
    # Nor does maintenance make anything new.
    for table in ("staging.recoded", "models.recoded_predictions"):
        assert not lake.compact(table, stamp=Stamp("maintenance", "m"), cluster_by=["id"]).skipped
    assert train(shared, lake, contract, run="r", now=NOW).skipped
    assert predict_batch(shared, lake, contract, run="r", now=NOW).skipped
    monkeypatch.setattr("lakehouse.learning.prediction.code_digest", lambda _: "changed")
    again = predict_batch(shared, lake, contract, run="r", now=NOW)
    assert (again.skipped, again.version) == (False, first.version + 2)


def test_the_code_s_digest_is_of_every_library_that_changes_numbers(monkeypatch):
    for library in ("scikit-learn", "numpy", "scipy", "pandas", "duckdb", "skops"):
        code_digest.cache_clear()
        before = code_digest()
        monkeypatch.setattr(
            "lakehouse.learning.fingerprint.version", lambda name, changed=library: "0.0" if name == changed else version(name)
        )
        code_digest.cache_clear()
        assert code_digest() != before, library
        monkeypatch.undo()
    code_digest.cache_clear()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positive_class": "medium"}, "not a value of the target"),
        ({"entity": ("who",)}, "does not have: who"),
        ({"exclude_features": ("x", "noise")}, "no feature left"),
        ({"target_column": None, "target_sql": "case when false then 'x' end"}, "is empty"),
        ({"algorithms": ("magic",)}, "is unknown"),
        ({"split": Split("time")}, "needs a time"),
        ({"split": Split("time", column="x", gap_days=3)}, "needs x to be a time"),
        ({"target_column": None, "target_sql": "if(id < 3, label, NULL)"}, "too small.*left out: 197 rows: no target"),
        ({"target_column": "nothere"}, "target_column: is no column of staging.wrong.*expected one of id, x, noise, label"),
        ({"target_column": None, "target_sql": "nothere > 3"}, 'can\'t be computed from staging.wrong.*"nothere" not found'),
        ({"target_column": None, "target_sql": "sum(x) > 3"}, "can't be computed.*aggregates"),
        ({"target_column": None, "target_sql": "label; drop table x"}, "can't be computed.*syntax error"),
        ({"target_column": None, "target_sql": "cast(label as integer)"}, "can't be computed.*Could not convert"),
        ({"target_column": None, "target_sql": "'same'"}, "one value of the target only"),
        ({"label_table": "staging.absent"}, "staging.absent: has not been built yet.*lakehouse run wrong"),
    ],
)
def test_a_contract_that_can_not_work_is_refused_with_the_reason(shared, lake, changes, message):
    if not lake.exists("staging.wrong"):
        two_classes(lake, "wrong")
    with pytest.raises((ModelError, TableNotFound), match=message):
        train(shared, lake, model("wrong", **changes), run="r", now=NOW)


@pytest.mark.parametrize(
    ("name", "select", "message"),
    [
        ("header", "SELECT range AS id, range AS x, 'a' AS label FROM range(0)", "is empty"),
        ("single", "SELECT range AS id, range AS x, 'a' AS label FROM range(50)", "one value of the target"),
        ("three", "SELECT range AS id, range AS x, if(range > 1, 'a', 'b') AS label FROM range(3)", "too small"),
        ("blank", "SELECT range AS id, NULL::DOUBLE AS x, 1 AS same, if(range > 20, 'a', 'b') AS label FROM range(50)", "say nothing"),
    ],
)
def test_rows_that_teach_nothing_do_not_pass_and_say_why(shared, lake, name, select, message):
    write(lake, f"staging.{name}", select)
    with pytest.raises(TrainingDataError, match=message) as raised:
        train(shared, lake, quick(name), run="r", now=NOW)
    assert raised.value.exit_code == DATA_DID_NOT_PASS
    assert Registry(shared).newest(name) is None


def test_few_different_words_are_enough_for_every_algorithm(shared, lake):
    words = "list_extract(['red', 'blue', 'green', 'sky'], 1 + CAST(hash({}) % 4 AS INTEGER))"
    text = " || ' ' || ".join(words.format(f"range * 7 + {place}") for place in range(5))
    write(
        lake, "staging.words", f"SELECT range AS id, {text} AS remark, if(contains(remark, 'red sky'), 'y', 'n') AS label FROM range(300)"
    )
    report = train(shared, lake, model("words", algorithms=("random_forest", "hist_gradient_boosting")), run="r", now=NOW)
    assert {one.algorithm for one in report.candidates if one.metrics} == {"baseline", "random_forest", "hist_gradient_boosting"}
    assert [one["treatment"] for one in report.columns] == ["text"]
    assert predict_batch(shared, lake, model("words"), run="r", now=NOW).rows == 300


def test_features_of_views_are_those_of_the_labels_time(shared, lake, monkeypatch):
    write(
        lake,
        "staging.visits",
        "SELECT range AS visit, range % 40 AS person, TIMESTAMPTZ '2026-01-01 00:00:00Z' + INTERVAL 1 day * (range // 40) AS seen,"
        " if(range % 40 >= 20, 'sick', 'well') AS label FROM range(400)",
    )
    # The value of the day of a visit is noise; the truth is written the day after, when the label is known.
    write(
        lake,
        "features.person_state",
        "SELECT person, seen, hash(visit) % 2 AS state FROM (SELECT * FROM (SELECT range AS visit, range % 40 AS person,"
        " TIMESTAMPTZ '2026-01-01 00:00:00Z' + INTERVAL 1 day * (range // 40) AS seen FROM range(400)))"
        " UNION ALL SELECT range % 40, TIMESTAMPTZ '2026-01-01 00:00:01Z' + INTERVAL 1 day * (range // 40), (range % 40 >= 20)::INT FROM range(360, 400)",
    )
    views = {"person_state": FeatureView("person_state", "features.person_state", ("person",), "seen")}
    monkeypatch.setattr("lakehouse.learning.training.declared_views", lambda settings, contract: views)
    contract = model(
        "visits",
        entity=("person",),
        event_timestamp="seen",
        feature_views=("person_state",),
        split=Split("time", 0.2),
        algorithms=("decision_tree",),
    )
    report = train(shared, lake, contract, run="r", now=NOW)
    # A join that looked one second ahead on the last day would reach more than chance there.
    assert report.metrics["accuracy"] < 0.75


# ---- real data, at leisure


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sql", "changes", "metric", "goal"),
    [
        (
            "shoppers",
            "SELECT row_number() OVER () AS id, * RENAME (Revenue AS label) FROM read_csv('{data}/commerce/online_shoppers/sessions_feb_oct.csv')",
            {"positive_class": "true"},
            "roc_auc",
            0.94,
        ),
        (
            "bank",
            "SELECT row_number() OVER () AS id, * RENAME (y AS label) FROM read_csv('{data}/commerce/bank_marketing/contacts_2009-*.csv')",
            {},
            "roc_auc",
            0.85,
        ),
        (
            "mexico",
            "SELECT folioviv || foliohog AS id, * EXCLUDE (folioviv, ict_norm), ict_norm AS label FROM"
            " read_csv('{data}/households/mexico/coneval_2014_24_states.csv', types={{'folioviv': 'VARCHAR', 'entidad': 'VARCHAR'}})",
            {"problem": "regression"},
            "r2",
            0.32,
        ),
        (
            "poverty",
            "SELECT row_number() OVER () AS id, * FROM read_csv('{data}/households/acs_ma/ma2018.csv', nullstr=['N', ''])",
            {"target_column": None, "target_sql": "POVPIP < 100", "positive_class": "true"},
            "roc_auc",
            0.95,
        ),
    ],
)
def test_real_data_reach_their_goals_without_tuning(shared, lake, real_data, name, sql, changes, metric, goal):
    write(lake, f"staging.{name}", sql.format(data=real_data))
    report = train(shared, lake, model(name, **changes), run="r", now=NOW)
    assert report.metrics[metric] >= goal
    assert report.interval is not None


def test_a_class_too_rare_for_the_folds_is_named(shared: Settings, lake: Lake) -> None:
    rows = "SELECT n AS id, n % 7 AS size, CASE WHEN n % 500 = 0 THEN 'yes' ELSE 'no' END AS label FROM range(1000) rows(n)"
    contract = model("rare", algorithms=("decision_tree",), folds=5, metric="roc_auc")
    write(lake, contract.label_table, rows)
    with pytest.raises(ModelError, match=r"model rare: has too few rows of class 'yes'.*5 or more.*found [0-4] of 800"):
        train(shared, lake, contract, run="r", now=NOW)
