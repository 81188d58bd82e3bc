"""A model contract is read as meant, refused with a hint, or inferred from rows and a target."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse.contracts import (
    ColumnPreparation,
    DatasetContract,
    ModelContract,
    PreparationSpec,
    Retraining,
    Split,
    infer_dataset,
    infer_model,
    load_contracts,
    load_model,
    model_json_schema,
    parse_model,
)
from lakehouse.contracts import document as documents
from lakehouse.contracts.inference.target import parse_target
from lakehouse.contracts.model import _Document, model_json_schema_text
from lakehouse.errors import ContractError
from lakehouse.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
Stage = Callable[[Path], str]
SMALL = """\
apiVersion: lakehouse/v1
kind: ModelContract
name: churn
problem: classification
dataset: people
target_column: left
positive_class: yes
entity: person_id
split: {strategy: time, test_fraction: 0.25, column: at}
minimums: {roc_auc: 0.7}
"""


def parse(text: str) -> ModelContract:
    return parse_model(text, path=Path("churn.yaml"))


@pytest.mark.parametrize(
    ("was", "has", "said"),
    [
        ("minimums: {roc_auc: 0.7}", "minimums: {roc_auc: 1.5}", "minimums.roc_auc is at most 1"),
        ("minimums: {roc_auc: 0.7}", "minimums: {log_loss: -1}", "minimums.log_loss is an error"),
        ("minimums: {roc_auc: 0.7}", "algorithms: []", "algorithms"),
    ],
)
def test_what_no_model_can_reach_is_refused(was: str, has: str, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        parse(SMALL.replace(was, has))


@pytest.mark.parametrize("name", ["prediction", "Predicted_at", "probability_yes"])
def test_what_a_row_is_about_can_not_have_the_name_of_an_answer(name: str) -> None:
    with pytest.raises(ContractError, match=rf"churn\.yaml: entity: has the name of a column that predictions have.*{name}.*physicalName"):
        parse(SMALL.replace("entity: person_id", f"entity: [shop, {name}]"))
    with pytest.raises(ContractError, match=r"churn\.yaml: event_timestamp"):
        parse(f"{SMALL}event_timestamp: {name}\n")


def test_a_model_contract_becomes_an_object() -> None:
    contract = parse(SMALL)

    assert (contract.label_table, contract.target, contract.metric) == ("staging.people", '"left"', "roc_auc")
    assert (contract.positive_class, contract.entity, contract.algorithms) == ("yes", ("person_id",), ())
    assert contract.split == Split("time", 0.25, "at")
    assert dict(contract.minimums) == {"roc_auc": 0.7}
    assert parse(SMALL.replace("target_column: left", "target_sql: income < 100")).target == "income < 100"
    assert parse(SMALL.replace("positive_class: yes\n", "")).metric == "f1_macro"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dataset:", "datset:", "churn.yaml, line 5: datset: is not a key of a model contract. Did you mean dataset?"),
        ("strategy: time", "stratgy: time", "split.stratgy: is not a key of a model contract. Did you mean strategy?"),
        ("problem: classification\n", "", "lacks a required key (expected problem)"),
        ("problem: classification", "problem: clustering", "line 4: problem: is not valid here"),
        ("target_column: left\n", "", "exactly one of target_column and target_sql is needed"),
        ("0.25", "1.5", "split.test_fraction: is not valid here"),
        ("0.25", "0.25, gap_days: -1", "split.gap_days: is not valid here"),
        ("strategy: time", "strategy: random, gap_days: 3", "gap_days needs strategy: time"),
        ("roc_auc", "roc_auk", "did you mean roc_auc?"),
        ("roc_auc", "r2", "r2 is not a metric of classification"),
        ("name: churn", "name: My Model", "line 3: name: is not valid here"),
        ("apiVersion: lakehouse/v1", "apiVersion: lakehouse/v2", "line 1: apiVersion: is not valid here"),
        ("name: churn", "name: churn\nname: other", "the key name is given twice"),
        (
            "name: churn",
            "name: churn\nrollout: {strateg: canary}",
            "rollout.strateg: is not a key of a model contract. Did you mean strategy?",
        ),
        ("name: churn", "name: churn\nrollout: {percent: 5}", "percent and steps need strategy: canary or ab"),
        ("name: churn", "name: churn\nrollout: {strategy: canary, steps: [5, 5]}", "steps are growing shares"),
        ("name: churn", "name: churn\nrollout: {strategy: ab, steps: [5, 50]}", "an A/B test has one share"),
        ("name: churn", "name: churn\nrollout: {strategy: canary, percent: 5, steps: [5]}", "give percent or steps, not both"),
        ("name: churn", "name: churn\nrollout: {max_error_rate: 2}", "rollout.max_error_rate: is not valid here"),
        (
            "name: churn",
            "name: churn\nretraining: {new_row: 5}",
            "retraining.new_row: is not a key of a model contract. Did you mean new_rows?",
        ),
        ("name: churn", "name: churn\nretraining: {schedule: daily}", "a schedule is five fields of cron in UTC"),
        ("name: churn", "name: churn\nretraining: {psi_warn: 0.3}", "psi_warn is at most psi_retrain"),
        ("name: churn", "name: churn\nretraining: {performance_drop: 5}", "retraining.performance_drop: is not valid here"),
        (
            "name: churn",
            "name: churn\npreparation: {imptue: mean}",
            "preparation.imptue: is not a key of a model contract. Did you mean impute?",
        ),
        ("name: churn", "name: churn\npreparation: {impute: guess}", "preparation.impute: is not valid here"),
        ("name: churn", "name: churn\npreparation: {keep: 2.5}", "a share below 1, or a whole number"),
        ("name: churn", "name: churn\npreparation: {keep: 5}", "keep needs select: statistical or model"),
        ("name: churn", "name: churn\npreparation: {outlier_threshold: 3}", "outlier_threshold needs outliers: z_score, iqr"),
        (
            "name: churn",
            "name: churn\npreparation: {outliers: isolation_forest, columns: {age: {outlier_threshold: 3}}}",
            "columns.age.outlier_threshold needs outliers",
        ),
        ("strategy: time", "strategy: random", "column needs strategy: time or group"),
        ("problem: classification", "problem: regression", "positive_class needs problem: classification"),
        (
            "name: churn",
            "name: churn\ncomparison: {min_gain: 0.02}",
            "comparison.min_gain: is not a key of a model contract. Did you mean minimum_gain?",
        ),
        ("name: churn", "name: churn\nexplain: {topp: 3}", "explain.topp: is not a key of a model contract. Did you mean top?"),
        ("name: churn", "name: churn\nexplain: {x: 3}", "(expected one of top, seconds)"),
        ("name: churn", "name: churn\npreparation: {outliers: isolation_forest, outlier_threshold: 3}", "at most 0.5"),
        (
            "name: churn",
            "name: churn\npreparation: {columns: {age: {scael: robust}}}",
            "preparation.columns.age.scael: is not a key of a model contract. Did you mean scale?",
        ),
        ("name: churn", "name: churn\npreparation: {columns: {age: {encode: target, text: words}}}", "different kinds of columns"),
        ("name: churn", "name: churn\npreparation: {columns: {age: {order: [a, b]}}}", "order needs encode: ordinal"),
        ("name: churn", "name: churn\npreparation: {columns: {age: {outliers: isolation_forest}}}", "preparation.columns.age.outliers"),
    ],
)
def test_a_mistake_is_named_with_its_place(old: str, new: str, message: str) -> None:
    with pytest.raises(ContractError) as refused:
        parse(SMALL.replace(old, new, 1))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ("direct", ()),
        ("shadow", ()),
        ("canary", (5.0,)),
        ("ab", (50.0,)),
        ("canary, percent: 10", (10.0,)),
        ("canary, steps: [1, 20]", (1.0, 20.0)),
    ],
)
def test_a_rollout_has_the_steps_that_its_strategy_has(said: str, steps: tuple[float, ...]) -> None:
    contract = parse(f"{SMALL}rollout: {{strategy: {said}}}\n")
    assert contract.rollout.steps == steps
    # It says nothing about the model: nothing is trained again for it.
    assert contract.digest == parse(SMALL).digest


def test_a_model_trains_with_every_change_unless_its_contract_says_when() -> None:
    assert parse(SMALL).retraining == Retraining(automatic=False)
    assert parse(f"{SMALL}retraining: {{}}\n").retraining == Retraining(automatic=True)
    said = parse(f"{SMALL}retraining: {{new_rows: null, max_age_days: 7, schedule: '0 3 * * 1', debounce_minutes: 5}}\n")
    assert said.retraining == Retraining(True, None, max_age_days=7, schedule="0 3 * * 1", debounce_minutes=5)
    # It says nothing about the model: nothing is trained again for it.
    assert said.digest == parse(SMALL).digest


def test_a_preparation_is_what_was_said_and_otherwise_left_to_the_columns() -> None:
    assert parse(SMALL).preparation == PreparationSpec()
    said = "{impute: knn, outliers: iqr, select: model, keep: 20, columns: {age: {scale: robust}, grade: {encode: ordinal, order: [low, high]}}}"
    assert parse(f"{SMALL}preparation: {said}\n").preparation == PreparationSpec(
        impute="knn",
        outliers="iqr",
        select="model",
        keep=20,
        columns={"age": ColumnPreparation(scale="robust"), "grade": ColumnPreparation(encode="ordinal", order=("low", "high"))},
    )
    # Another preparation is another model.
    assert parse(f"{SMALL}preparation: {{impute: knn}}\n").digest != parse(SMALL).digest


def test_texts_and_defaults_that_are_written_out_train_nothing_again() -> None:
    before = parse(SMALL).digest
    spec = _Document.model_validate(documents.parse(SMALL, path=Path())).model_dump(mode="json")
    # They do nothing without `select`, and are refused.
    del spec["preparation"]["keep"]
    assert parse(json.dumps(spec)).digest == before
    other = {
        "version": "2.0.0",
        "description": "other words",
        "owner": "team:churn",
        "intended_use": "letters",
        "limits": ["new shops"],
        "warnings": [{"feature": "age", "reason": "looks ahead"}],
        "abstain": 0.6,
        "budget": {"workers": 4, "memory_gb": 3},
    }
    assert parse(json.dumps({**documents.parse(SMALL, path=Path()), **other})).digest == before


@pytest.mark.parametrize(
    "said",
    [
        "folds: 4",
        "seed: 8",
        "budget: {trials: 3}",
        "budget: {repeats: 2}",
        "minimums: {accuracy: 0.5}",
        "exclude_features: [age]",
        "max_rows: 99",
    ],
)
def test_what_reaches_a_number_trains_again(said: str) -> None:
    document = {**documents.parse(SMALL, path=Path()), **documents.parse(said, path=Path())}
    assert parse(json.dumps(document)).digest != parse(SMALL).digest


def test_brier_can_be_asked_of_a_version_and_chooses_none() -> None:
    document = documents.parse(SMALL, path=Path())
    assert parse(json.dumps({**document, "minimums": {"brier": 0.2}})).minimums == {"brier": 0.2}
    with pytest.raises(ContractError, match="brier is not a metric of classification"):
        parse(json.dumps({**document, "metric": "brier"}))


def test_the_published_schema_is_the_one_in_use() -> None:
    published = PROJECT / "contracts" / "model-contract.schema.json"
    assert published.read_text(encoding="utf-8") == model_json_schema_text()
    assert model_json_schema()["additionalProperties"] is False


def test_the_published_schema_accepts_what_is_read() -> None:
    import jsonschema_rs
    import yaml

    validator = jsonschema_rs.validator_for(model_json_schema())
    assert validator.is_valid(json.loads(json.dumps(yaml.safe_load(SMALL.replace("yes", '"yes"')))))
    assert not validator.is_valid({"apiVersion": "lakehouse/v1"})


def test_a_model_of_an_unknown_dataset_is_refused(settings: Settings, small: str) -> None:
    for kind, name, text in (("datasets", "people.odcs.yaml", small), ("models", "churn.yaml", SMALL)):
        (settings.home_dir / "contracts" / kind).mkdir(parents=True)
        (settings.home_dir / "contracts" / kind / name).write_text(text)
    assert load_contracts(settings).model("churn").dataset == "people"
    assert [one.name for one in load_contracts(settings).models_of("people")] == ["churn"]
    model = settings.home_dir / "contracts" / "models" / "churn.yaml"
    model.write_text(SMALL.replace("dataset: people", "dataset: peple"))
    with pytest.raises(ContractError, match=r"churn\.yaml: dataset: has no contract .*people.*found peple"):
        load_contracts(settings)


def prepared(con: duckdb.DuckDBPyConnection, select: str, rows: int = 400, **more: Any) -> DatasetContract:
    source = f"SELECT {select}, i AS _row FROM range({rows}) r(i)"
    con.execute(f"CREATE OR REPLACE TABLE t AS SELECT COLUMNS(c -> c <> '_row')::VARCHAR, _row FROM ({source})")
    return infer_dataset(con, "t", name="things", **more).contract


BASE = "'k' || i AS id, i % 7 AS a, (hash(i * 13) % 100)::INT AS b, hash(i * 3) % 1000 / 7.0 AS amount"
TARGETS: dict[str, tuple[str, str, tuple[str, str | None, str]]] = {
    "two words": ("CASE WHEN hash(i) % 5 = 0 THEN 'Yes' ELSE 'No' END AS y", "y", ("classification", "Yes", "roc_auc")),
    "truth": ("hash(i) % 5 = 0 AS y", "y", ("classification", "true", "roc_auc")),
    "0 and 1": ("(hash(i) % 5 > 0)::INT AS y", "y", ("classification", "1", "roc_auc")),
    "two unknown words": ("CASE WHEN hash(i) % 5 = 0 THEN 'rare' ELSE 'common' END AS y", "y", ("classification", "rare", "roc_auc")),
    "classes": ("'c' || hash(i) % 4 AS y", "y", ("classification", None, "f1_macro")),
    "few whole numbers": ("hash(i) % 4 AS y", "y", ("classification", None, "f1_macro")),
    "numbers": ("hash(i) % 997 / 7.0 AS y", "y", ("regression", None, "r2")),
    "an expression": ("hash(i) % 997 AS y", "y * 2 < 300 AND amount IS NOT NULL", ("classification", "true", "roc_auc")),
    "an expression that is a number": ("hash(i) % 997 AS y", "ln(y + 1)", ("regression", None, "r2")),
}


@pytest.mark.parametrize("case", TARGETS)
def test_the_problem_follows_from_the_target(con: duckdb.DuckDBPyConnection, case: str) -> None:
    column, target, expected = TARGETS[case]
    contract = prepared(con, f"{BASE}, {column}")

    model = infer_model(con, "t", contract, target=target, name="m").contract

    assert (model.problem, model.positive_class, model.metric) == expected
    assert (model.target_column is None) == (target != "y")
    assert "y" in model.exclude_features or model.target_column == "y"
    assert model.entity == ("id",)
    assert set(model.minimums) == {model.metric}


@pytest.mark.parametrize(
    ("column", "rows", "message"),
    [
        ("if(i = 123, 'n/k', (hash(i) / 7.0)::VARCHAR) AS y", 400, "target y: is no number in 1 of 400 rows .*'n/k' in row 123.*try_cast"),
        ("if(i % 50 = 4, 'inf', (hash(i) / 7.0)::VARCHAR) AS y", 400, "is no number in 8 of 400 rows .*'inf' in row 4"),
        ("'word ' || hash(i) AS y", 400, "it is free text"),
        ("'word ' || hash(i) AS y", 3, "has too few rows to learn from"),
    ],
)
def test_a_target_that_can_not_be_predicted_is_refused_with_the_row(
    con: duckdb.DuckDBPyConnection, column: str, rows: int, message: str
) -> None:
    contract = prepared(con, f"{BASE}, {column}", rows)
    with pytest.raises(ContractError, match=message):
        infer_model(con, "t", contract, target="y", name="m")


def test_one_class_in_two_spellings_is_told_with_a_target_that_makes_it_one(con: duckdb.DuckDBPyConnection) -> None:
    contract = prepared(con, f"{BASE}, ['Yes', 'yes', 'no'][1 + (hash(i) % 3)::INT] AS y")
    [warning] = infer_model(con, "t", contract, target="y", name="m").warnings
    assert "'Yes' and 'yes' are classes of their own" in warning
    told = re.search("--target '(.+)'", warning)
    assert told is not None
    made_one = infer_model(con, "t", contract, target=told[1], name="m")
    assert (made_one.warnings, made_one.contract.positive_class) == ((), "yes")


def test_numbers_that_are_not_finite_do_not_keep_leaks_from_being_looked_for(con: duckdb.DuckDBPyConnection) -> None:
    contract = prepared(con, f"{BASE}, if(i % 50 = 4, 'inf', (hash(i) % 997 / 7.0)::VARCHAR) AS y, hash(i) % 997 / 70.0 AS scaled")
    model = infer_model(con, "t", contract, target="try_cast(y as double)", name="m").contract
    assert (model.problem, {one.feature for one in model.warnings}) == ("regression", {"scaled"})


def test_what_is_no_feature_is_excluded_with_its_reason(con: duckdb.DuckDBPyConnection) -> None:
    contract = prepared(
        con,
        f"{BASE}, hash(i) % 2 AS y, 'always' AS constant, NULL AS empty, md5(i::VARCHAR) AS token, i + 5 AS position, "
        "'some words about ' || hash(i) || ' and more words' AS comment, 'u' || hash(i) || '@example.org' AS mail, "
        "(i % 300)::VARCHAR || 'x' AS user_id",
    )

    inferred = infer_model(con, "t", contract, target="y", name="m")

    assert set(inferred.contract.exclude_features) == {"id", "constant", "empty", "token", "position", "mail", "user_id"}
    assert "# one value in every row\n  - constant" in inferred.text
    assert "# a row counter\n  - position" in inferred.text


def test_leaks_are_suspected_not_hidden(con: duckdb.DuckDBPyConnection) -> None:
    contract = prepared(
        con,
        f"{BASE}, (hash(i) % 2)::INT AS y, (hash(i) % 2) * 100 + hash(i * 5) % 90 AS nearly, "
        "CASE hash(i) % 2 WHEN 1 THEN 'won' ELSE 'lost' END AS recoded, "
        "CASE WHEN hash(i) % 2 = 1 THEN hash(i * 7) % 50 END AS filled_after, hash(i * 11) % 9 AS duration",
    )

    model = infer_model(con, "t", contract, target="y", name="m").contract

    assert {one.feature for one in model.warnings} == {"nearly", "recoded", "filled_after", "duration"}
    assert not {"nearly", "recoded"} & set(model.exclude_features)


def test_leaks_of_numbers_and_of_many_classes(con: duckdb.DuckDBPyConnection) -> None:
    kinds = "'c' || hash(i) % 4 AS kind, 10 * (hash(i) % 4) AS kind_number"
    contract = prepared(con, f"{BASE}, hash(i) % 997 / 7.0 AS y, hash(i) % 997 / 70.0 + 3 AS scaled, {kinds}")

    assert {one.feature for one in infer_model(con, "t", contract, target="y", name="m").contract.warnings} == {"scaled"}
    assert {one.feature for one in infer_model(con, "t", contract, target="kind", name="m").contract.warnings} == {"kind_number"}


def test_the_split_follows_time_then_entity(con: duckdb.DuckDBPyConnection) -> None:
    when = "(TIMESTAMP '2024-01-01' + to_minutes(i)) AS created_at"
    who = "'u' || i % 40 AS customer_id"

    def split(select: str) -> Split:
        return infer_model(con, "t", prepared(con, f"{BASE}, hash(i) % 2 AS y, {select}"), target="y", name="m").contract.split

    assert split(f"{when}, {who}") == Split("time", 0.2, "created_at")
    assert split(who) == Split("group", 0.2, "customer_id")
    assert split("1 AS c") == Split("random", 0.2)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("z", "is not a column of things"),
        ("amunt", "Did you mean amount?"),
        ("amount <", "is not a column of things"),
        ("amount; drop table t", "is not one expression"),
        ("(SELECT max(y) FROM t)", "may not use"),
        ("amount > (SELECT 1)", "may not use"),
        ("read_text('/etc/passwd') = 'x'", "may not use"),
        ("getenv('HOME') = amount", "may not use"),
        ("amount > random()", "may not use"),
        ("sum(amount) > 3", "may not use"),
        ("amount > now()", "may not use"),
        ("1 = 1", "uses no column"),
        ("amount > 99999999", "has one value only"),
        ("amount + words", "can't be computed"),
        ("words", "free text"),
        ("day", "can't be predicted"),
        ("nothing", "has no value"),
    ],
)
def test_a_target_that_can_not_be_predicted_is_refused(con: duckdb.DuckDBPyConnection, target: str, message: str) -> None:
    contract = prepared(con, f"{BASE}, 'word ' || i AS words, DATE '2024-01-01' + i::INT AS day, NULL AS nothing")
    with pytest.raises(ContractError) as refused:
        infer_model(con, "t", contract, target=target, name="m")
    assert message in str(refused.value)


def test_columns_of_an_expression_are_found_by_their_name_in_the_file(con: duckdb.DuckDBPyConnection) -> None:
    con.execute('CREATE TABLE t AS SELECT i::VARCHAR AS "My Income", (i * 2)::VARCHAR AS POVPIP FROM range(9) r(i)')
    contract = infer_dataset(con, "t", name="things").contract

    target = parse_target(contract, '"My Income" > 3 AND povpip < 100')

    assert target.uses == ("my_income", "povpip")
    assert target.sql == '"my_income" > 3 AND "povpip" < 100'
    assert parse_target(contract, "My Income").column == "my_income"


REAL = {
    "telco": ("commerce/crm_telco/customers.csv", "Churn", "classification", "Yes", {"customer_id"}),
    "shoppers": ("commerce/online_shoppers/sessions_feb_oct.csv", "Revenue", "classification", "true", set[str]()),
    "bank": ("commerce/bank_marketing/contacts_2009-05.csv", "y", "classification", "yes", {"month"}),
    "mexico": ("households/mexico/coneval_2014_24_states.csv", "ict_norm", "regression", None, {"folioviv", "foliohog"}),
    "poverty": ("households/acs_ma/ma2018.csv", "POVPIP < 100", "classification", "true", {"povpip"}),
    "meals": ("households/safi/SAFI_clean.csv", "no_meals", "classification", None, {"instance_id"}),
}


@pytest.mark.parametrize("case", REAL)
def test_real_targets_come_out_right(case: str, real_data: Path, con: duckdb.DuckDBPyConnection, stage: Stage, tmp_path: Path) -> None:
    file, target, problem, positive, excluded = REAL[case]
    relation = stage(real_data / file)
    contract = infer_dataset(con, relation, name="real", target=target).contract

    inferred = infer_model(con, relation, contract, target=target, name="real")

    assert inferred.contract.problem == problem
    if positive:
        assert inferred.contract.positive_class == positive
    assert excluded <= set(inferred.contract.exclude_features)
    (tmp_path / "real.yaml").write_text(inferred.text)
    assert load_model(tmp_path / "real.yaml").digest == inferred.contract.digest
    if case == "bank":
        assert [one.feature for one in inferred.contract.warnings] == ["duration"]
