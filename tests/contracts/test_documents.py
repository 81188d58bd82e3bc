"""A dataset contract is read as it was meant, or refused with a message that says where and what to do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from lakehouse.contracts import (
    DatasetContract,
    Landing,
    Level,
    Must,
    SchemaChanges,
    Severity,
    cast_sql,
    load_contracts,
    load_dataset,
    parse_dataset,
    parse_model,
)
from lakehouse.errors import ContractError, ContractNotFound
from lakehouse.settings import Settings
from lakehouse.sql import quote_literal

PROJECT = Path(__file__).resolve().parents[2]
HERE = Path("people.odcs.yaml")


def parse(text: str) -> DatasetContract:
    return parse_dataset(text, path=HERE)


def test_a_contract_becomes_typed_columns(small: str) -> None:
    contract = parse(small)

    assert contract.name == "people"
    assert (contract.raw, contract.quarantine, contract.staging) == ("raw.people", "quarantine.people", "staging.people")
    assert contract.primary_key == ("person_id",)
    assert [column.sql_type for column in contract.columns] == ["VARCHAR", "INTEGER", "VARCHAR", "VARCHAR"]
    assert [rule.id for rule in contract.rules] == ["person_id.required", "age.minimum", "age.maximum", "sex.enum", "phone.pattern"]
    assert {rule.level for rule in contract.rules} == {Level.STRUCTURAL, Level.SEMANTIC}


def test_yaml_words_and_dates_stay_text(small: str) -> None:
    contract = parse(
        small.replace("maximum: 110", "maximum: 110}, description: 12:30:00, tags: [no, 2024-01-01]").replace("01-01]}}", "01-01]}")
    )

    assert contract.column("sex").allowed == ("female", "male", "no")
    assert contract.column("age").description == "12:30:00"
    assert contract.column("age").tags == ("no", "2024-01-01")


def test_a_restricted_column_is_protected_unless_the_contract_says_how(small: str) -> None:
    assert parse(small).column("phone").protection == "pseudonym"
    open_column = "classification: restricted\n        customProperties: [{property: lakehouse.protection, value: none}]"
    assert parse(small.replace("classification: restricted", open_column)).column("phone").protection == "none"


def test_everything_a_contract_can_say(small: str) -> None:
    contract = parse(
        small.replace(
            "schema:",
            """servers:
  - server: landing
    type: local
    path: ./landing/people/*.csv
    format: csv
    customProperties: [{property: lakehouse.encoding, value: [utf-8, cp1252]}, {property: lakehouse.delimiter, value: ";"}]
team: {name: field-work, members: [{username: a@example.org, role: owner}]}
customProperties:
  - {property: lakehouse.entity, value: person_id}
  - {property: quarantineLimit, value: 5}
  - {property: lakehouse.sourcePriority, value: [tablet, paper]}
  - {property: lakehouse.nullValues, value: ["NA", "-99"]}
  - {property: lakehouse.schemaChanges, value: {newColumns: rescue, missingColumns: reject, typeChange: quarantine}}
schema:""",
        )
        + """\
        quality: [{metric: nullValues, unit: percent, mustBeLessThan: 10, severity: warning}]
    quality:
      - {metric: rowCount, mustBeBetween: [1, 100]}
      - {name: adults_have_phones, type: sql, query: SELECT count(*) FROM people WHERE age > 18 AND phone IS NULL, mustBe: 0,
         customProperties: [{property: lakehouse.row, value: age <= 18 OR phone IS NOT NULL}]}
      - {name: drift, type: custom, engine: lakehouse, implementation: {check: mean_drift, baseline: 10}}
"""
    )

    assert contract.landing == Landing(("./landing/people/*.csv",), "csv", ("utf-8", "cp1252"), ";")
    assert contract.owner == "team:field-work"
    assert contract.entity == ("person_id",)
    assert contract.quarantine_limit_percent == 5
    assert contract.source_priority == ("tablet", "paper")
    assert contract.schema_changes == SchemaChanges("rescue", "reject", "quarantine")
    assert contract.column("age").null_values == ("NA", "-99")
    filled, count, drift = contract.statistical_rules
    assert (filled.metric, filled.severity, str(filled.must)) == ("nullValues", Severity.WARNING, "less than 10")
    assert count.must == Must("between", (1.0, 100.0))
    assert (drift.metric, drift.measure_sql, dict(drift.options)) == ("mean_drift", None, {"baseline": 10})
    business = next(rule for rule in contract.rules if rule.level is Level.BUSINESS)
    assert business.columns == ("age", "phone")


def test_the_digest_is_of_what_is_said_not_of_how(small: str) -> None:
    digest = parse(small).digest

    assert parse("# a comment\n" + small.replace("domain: tests\n", "").replace("version:", "domain: tests\nversion:")).digest == digest
    assert parse(small.replace("110", "111")).digest != digest


REFUSED = {
    "not YAML": ("schema:", "schema: [", "line 9, column 3: is not valid YAML"),
    "a key twice": ("domain: tests", "domain: tests\ndomain: other", "line 8, column 1: is not valid YAML: the key domain is given twice"),
    "a later standard": ("v3.1.0", "v9.0.0", "people.odcs.yaml, line 1: apiVersion: is not a version"),
    "a value of the wrong type": (
        "minimum: 15",
        "minimum: fifteen",
        'schema.people.properties.age.logicalTypeOptions.minimum: is not valid here (expected number; found "fifteen")',
    ),
    "a misspelt option": ("minimum: 15", "minimun: 15", "Did you mean minimum?"),
    "a misspelt key": ("required: true", "requird: true", "schema.people.properties.person_id.requird"),
    "a misspelt key at the top": ("domain:", "domian:", "Did you mean domain?"),
    "a missing key": ("kind: DataContract\n", "", "lacks a required key (expected kind)"),
    "an unknown type": (
        "physicalType: INTEGER",
        "physicalType: INTEGRE",
        "line 12: schema.people.properties.age.physicalType: is not a known physical type",
    ),
    "a type that does not hold": ("physicalType: INTEGER", "physicalType: VARCHAR", "does not hold logicalType integer"),
    "a bad pattern": ("^[0-9]+$", "^[0-9+$", "rule phone.pattern: has a pattern that is not a regular expression"),
    "a bad table name": ("  - name: people", "  - name: My People", "can't be a table's name"),
    "a bad column name": ("name: age", "name: the age", 'physicalName: "the age"'),
    "a reserved column name": ("name: age", "name: _row", "can't be a column's name"),
    "a column twice": ("name: age", "name: Sex", "is given to two columns (found Sex and sex)"),
    "an unknown entity": (
        "status: active",
        "status: active\ncustomProperties: [{property: lakehouse.entity, value: persn}]",
        "entity names no column",
    ),
    "a limit that is no percentage": (
        "status: active",
        "status: active\ncustomProperties: [{property: quarantineLimit, value: 120}]",
        "expected 0 to 100",
    ),
    "an unknown policy": (
        "status: active",
        "status: active\ncustomProperties: [{property: lakehouse.schemaChanges, value: {newColumns: explode}}]",
        "newColumns: warn | rescue | reject | ignore",
    ),
    "an unknown protection": (
        "classification: restricted",
        "customProperties: [{property: lakehouse.protection, value: rot13}]",
        "expected one of none, pseudonym, redact, encrypt, mask, drop; found rot13",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_named_with_its_place(small: str, case: str) -> None:
    old, new, message = REFUSED[case]
    assert old in small

    with pytest.raises(ContractError) as refused:
        parse(small.replace(old, new, 1))

    assert message in str(refused.value)
    assert "people.odcs.yaml" in str(refused.value)


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        (
            "{name: r, type: sql, query: SELECT 1, mustBe: 0, customProperties: [{property: lakehouse.row, value: agee > 1}]}",
            "rule r: is not SQL",
        ),
        ("{name: r, type: sql, query: SELEC count(*) FROM people, mustBe: 0}", "rule r: is not SQL"),
        ("{name: r, type: sql, query: \"SELECT count(*) FROM read_csv('/etc/passwd')\", mustBe: 0}", "rule r: is not SQL"),
        ("{name: r, metric: nullValues, mustBe: 0}", "quality.r: nullValues judges a column"),
        ("{name: r, metric: rowCount}", "quality.r"),
        ("{name: r, metric: rowCount, mustBe: many}", "mustBe needs a number"),
    ],
)
def test_a_rule_that_can_not_work_is_refused_before_any_data(small: str, quality: str, message: str) -> None:
    with pytest.raises(ContractError) as refused:
        parse(small + f"    quality:\n      - {quality}\n")

    assert message in str(refused.value)


@pytest.mark.parametrize("version", ["v3.0.2", "v3.1.0", "v3.2.0", "v3.2.7"])
def test_every_version_of_the_standard_from_3_is_read(small: str, version: str) -> None:
    assert parse(small.replace("v3.1.0", version)).name == "people"


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"absent\.yaml: can't be read"):
        load_dataset(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ContractError, match="is not UTF-8 text"):
        load_dataset(tmp_path / "latin.yaml")


def test_contracts_of_project_and_home_are_one_set(settings: Settings, small: str) -> None:
    added = settings.home_dir / "contracts" / "datasets"
    added.mkdir(parents=True)
    (added / "people.odcs.yaml").write_text(small)

    contracts = load_contracts(settings)

    assert {"people", "household_survey", "commits"} <= set(contracts.datasets)
    with pytest.raises(ContractNotFound, match=r"Did you mean people\?"):
        contracts.dataset("peple")
    with pytest.raises(ContractNotFound, match="dataset nothing_like_it: has no contract"):
        contracts.dataset("nothing_like_it")
    with pytest.raises(ContractNotFound, match=r"model commit_type@2: is a version, .*expected commit_type"):
        contracts.model("commit_type@2")


def test_two_contracts_of_one_name_are_refused(settings: Settings, small: str) -> None:
    added = settings.home_dir / "contracts" / "datasets"
    added.mkdir(parents=True)
    for name in ("a", "b"):
        (added / f"{name}.odcs.yaml").write_text(small)

    with pytest.raises(
        ContractError, match=r"b\.odcs\.yaml: dataset people: is already the name of another contract \(found .*a\.odcs\.yaml"
    ):
        load_contracts(settings)


def test_the_guide_s_examples_are_valid() -> None:
    guide = (PROJECT / "docs" / "contracts.md").read_text(encoding="utf-8")
    dataset, model = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)

    assert parse(dataset).column("visited").formats == ("%d/%m/%Y",)
    assert parse_model(model, path=HERE).minimums == {"roc_auc": 0.8}


@pytest.mark.parametrize(
    ("jdk", "text", "moment"),
    [
        ("dd/MM/yyyy", "31/12/2024", "2024-12-31 00:00:00"),
        ("d MMM yyyy HH:mm", "3 Jan 2024 09:05", "2024-01-03 09:05:00"),
        ("yyyyMMdd'T'HHmmss", "20240131T235959", "2024-01-31 23:59:59"),
        ("dd.MM.yyyy HH:mm:ss.SSS", "31.12.2024 10:00:00.250", "2024-12-31 10:00:00.25"),
    ],
)
def test_the_standard_s_own_date_formats_are_read(small: str, con: duckdb.DuckDBPyConnection, jdk: str, text: str, moment: str) -> None:
    at = f'{{name: at, logicalType: timestamp, logicalTypeOptions: {{format: "{jdk}"}}}}'
    column = parse(small.replace("      - {name: age", f"      - {at}\n      - {{name: age", 1)).column("at")

    found = con.execute(f"SELECT CAST({cast_sql(column, '?')} AS VARCHAR)".replace("?", quote_literal(text))).fetchone()
    assert found == (moment,)
    with pytest.raises(ContractError, match="is not a date format"):
        parse(small.replace("      - {name: age", f"      - {at.replace(jdk, 'qq-yyyy')}\n      - {{name: age", 1))


def test_missing_columns_may_be_null(small: str) -> None:
    policy = "customProperties: [{property: lakehouse.schemaChanges, value: {missingColumns: null}}]\nschema:"
    assert parse(small.replace("schema:", policy, 1)).schema_changes.missing_columns == "null"


def test_contracts_import_nothing_heavy() -> None:
    heavy = "mlflow sklearn pandas sqlglot duckdb dagster jsonschema_rs"
    code = f"import sys, lakehouse.contracts; print([name for name in {heavy.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT, env=dict(os.environ))
    assert done.stdout.strip() == "[]"
