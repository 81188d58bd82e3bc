"""What is inferred from a file is what a careful person would write, and never sends an honest later row away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts import DatasetContract, Landing, Severity, infer_dataset, load_dataset, row_rules, typed_select
from lakehouse.contracts.inference.naming import is_identifier, safe_names
from lakehouse.contracts.inference.yaml_text import Commented, render
from lakehouse.errors import ContractError
from lakehouse.sql import quote_identifier

Stage = Callable[[Path], str]


def infer(con: duckdb.DuckDBPyConnection, rows: list[dict[str, str | None]], **more: Any) -> DatasetContract:
    names = list(rows[0])
    con.execute(f"CREATE OR REPLACE TABLE t ({', '.join(f'{quote_identifier(name)} VARCHAR' for name in names)}, _row BIGINT)")
    if rows:
        con.executemany(f"INSERT INTO t VALUES ({', '.join('?' * (len(names) + 1))})", [[*row.values(), n] for n, row in enumerate(rows)])
    return infer_dataset(con, "t", name="things", **more).contract


def column_of(con: duckdb.DuckDBPyConnection, name: str, values: list[str | None]) -> Any:
    return infer(con, [{name: value} for value in values]).columns[0]


def bad_rows(con: duckdb.DuckDBPyConnection, contract: DatasetContract, relation: str) -> int:
    texts = ", ".join(f"{quote_identifier(one.source)} AS {quote_identifier('text ' + one.source)}" for one in contract.columns)
    typed = f"SELECT {typed_select(contract.columns, text=lambda one: quote_identifier(one.source))}, {texts} FROM {relation}"
    rules = row_rules(contract, text=lambda one: quote_identifier("text " + one.source))
    all_valid = " AND ".join(f"coalesce({rule.valid_sql}, true)" for rule in rules) or "true"
    row = con.execute(f"SELECT count(*) FROM ({typed}) WHERE NOT ({all_valid})").fetchone()
    assert row is not None
    return int(row[0])


KINDS: dict[str, tuple[str, list[str | None], str]] = {
    "whole numbers": ("children", ["1", "2", None, "3"], "BIGINT"),
    "whole numbers of a measure": ("monthly_income", ["1", "2", "3"], "DOUBLE"),
    "whole numbers written as floats": ("customer_id", ["17850.0", None, "13047.0"], "BIGINT"),
    "amounts written as floats": ("x", ["1.0", "2.0"], "DOUBLE"),
    "one number in every row": ("x", ["-50", "-50"], "DOUBLE"),
    "codes with leading zeros": ("district", ["01", "02", "10"], "VARCHAR"),
    "postal codes": ("zip", ["90210", "10001"], "VARCHAR"),
    "invoice numbers": ("InvoiceNo", ["536365", "536366"], "VARCHAR"),
    "phone numbers": ("contact", ["+254700111222", "+254700111333"], "VARCHAR"),
    "a number among codes": ("x", ["1", "2", "C3"], "VARCHAR"),
    "numbers too large": ("x", ["9" * 25, "1"], "DOUBLE"),
    "truth values": ("x", ["TRUE", "false", None], "BOOLEAN"),
    "answers": ("x", ["Yes", "No", "No"], "VARCHAR"),
    "ISO dates": ("x", ["2024-01-02", "2024-12-31"], "DATE"),
    "moments": ("x", ["2024-01-02 10:00:00", "2024-01-03"], "TIMESTAMP"),
    "instants": ("x", ["2024-01-02T10:00:00Z", "2024-01-03T10:00:00+02:00"], "TIMESTAMPTZ"),
    "day first": ("x", ["31/12/2024", "01/02/2024"], "DATE"),
    "month first with a clock": ("x", ["12/31/2024 10:00", "01/02/2024 9:30"], "TIMESTAMP"),
    "decimal commas": ("x", ["1,5", "1.234,25", "7"], "DOUBLE"),
    "thousands": ("x", ["1,234", "2,345"], "VARCHAR"),
    "nothing": ("x", [None, None], "VARCHAR"),
    "only a null token": ("x", ["NULL", "NULL"], "VARCHAR"),
    "numbers and tokens": ("x", ["1", "NA", "-", "3"], "BIGINT"),
    "dates and tokens": ("x", ["2024-01-02", "N/A"], "DATE"),
    "durations": ("x", ["10:30", "27:15"], "VARCHAR"),
}


@pytest.mark.parametrize("case", KINDS)
def test_a_column_has_the_type_its_values_have(con: duckdb.DuckDBPyConnection, case: str) -> None:
    name, values, expected = KINDS[case]

    found = column_of(con, name, values)

    assert found.sql_type == expected
    assert bad_rows(con, DatasetContract("t", "1", (found,)), "t") == 0


def test_a_corrupt_line_in_thousands_does_not_make_a_number_a_text(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(
        "CREATE TABLE t AS SELECT CASE WHEN i = 7777 THEN '#corrupt' ELSE (i % 97)::VARCHAR END AS n, i AS _row FROM range(30000) r(i)"
    )

    inferred = infer_dataset(con, "t", name="things")

    assert inferred.contract.column("n").sql_type == "BIGINT"
    assert "# 1 values are no integer and will be quarantined, such as '#corrupt'" in inferred.text


def test_a_null_token_that_is_an_answer_elsewhere_stays_an_answer(con: duckdb.DuckDBPyConnection) -> None:
    rows: list[dict[str, str | None]] = [
        {"score": "N" if n % 3 else str(n), "answer": "N" if n % 2 else "Y", "country": "NA"} for n in range(40)
    ]

    contract = infer(con, rows)

    assert contract.column("score").sql_type == "DOUBLE"
    assert contract.column("score").null_values == ("N",)
    assert contract.column("answer").null_values == ()
    assert contract.column("country").null_values == ("N",)


def test_ranges_and_categories_are_warnings_about_a_batch(con: duckdb.DuckDBPyConnection) -> None:
    contract = infer(con, [{"id": str(n), "age": str(20 + n % 30), "sex": "fm"[n % 2]} for n in range(100)])

    assert contract.primary_key == ("id",)
    assert {rule.id for rule in contract.rules} == {"id.required"}
    assert {(rule.id, rule.severity) for rule in contract.statistical_rules} == {
        ("age_range", Severity.WARNING),
        ("sex_categories", Severity.WARNING),
    }
    con.execute("CREATE OR REPLACE TABLE later AS SELECT 'x' || i AS id, '150' AS age, 'other' AS sex FROM range(9) r(i)")
    con.execute("UPDATE later SET id = replace(id, 'x', '10')")
    assert bad_rows(con, contract, "later") == 0


@pytest.mark.parametrize(
    ("rows", "key"),
    [
        ([{"when": f"2024-01-01 00:{n:02d}:00", "x": f"{n}.5"} for n in range(60)], ()),
        ([{"amount": f"{n}.25", "note": f"free text number {n}"} for n in range(60)], ()),
        ([{"name": f"n{n}", "order_id": str(n)} for n in range(60)], ("order_id",)),
        ([{"a": f"ab{n}c", "b": "1"} for n in range(60)], ("a",)),
        ([{"b": "1", "a": f"ab{n}c"} for n in range(60)], ()),
        ([{"n": str(n), "x": "1"} for n in range(60)], ("n",)),
        ([{"id": "1"}], ()),
        ([{"id": "1"}, {"id": "2"}], ("id",)),
        ([{"x": "a"}, {"x": "b"}], ()),
        ([{"house_id": str(n // 4), "line": str(n % 4), "v": "1"} for n in range(600)], ("house_id", "line")),
        ([{"line": str(n % 4), "house_id": str(n // 4), "v": "1"} for n in range(600)], ("house_id", "line")),
        ([{"house_id": str(n // 4), "line": str(n % 4)} for n in range(80)], ()),
        ([{"a_id": str(n // 100), "b_id": str(n // 10 % 10), "c_id": str(n % 10)} for n in range(1000)], ("a_id", "b_id", "c_id")),
    ],
)
def test_a_key_needs_evidence_and_a_plausible_name(
    con: duckdb.DuckDBPyConnection, rows: list[dict[str, str | None]], key: tuple[str, ...]
) -> None:
    assert infer(con, rows).primary_key == key


def test_the_user_knows_better(con: duckdb.DuckDBPyConnection) -> None:
    rows: list[dict[str, str | None]] = [{"Who": str(n % 9), "On": f"2024-01-{1 + n % 20:02d}", "id": str(n)} for n in range(60)]

    contract = infer(con, rows, primary_key=("Who", "on"), entity=("who",), event_timestamp="On")

    assert (contract.primary_key, contract.entity, contract.event_timestamp) == (("who", "on"), ("who",), "on")
    with pytest.raises(ContractError, match="has no column nobody"):
        infer(con, rows, primary_key=("nobody",))
    with pytest.raises(ContractError, match="event time id: is no time"):
        infer(con, rows, event_timestamp="id")


PERSONAL: dict[str, tuple[str, str, str | None]] = {
    "e-mail addresses": ("contact", "user{n}@example.org", "email"),
    "IP addresses": ("source", "10.0.{n}.7", "ip address"),
    "phone numbers by name": ("phone", "0700 111 {n:03d}", "phone"),
    "first names": ("first_name", "Ada", "name"),
    "a name alone": ("name", "Thing {n}", None),
    "phone service": ("phone_service", "Yes", None),
    "a code": ("author_name", "a{n}", None),
}


@pytest.mark.parametrize("case", PERSONAL)
def test_what_is_surely_personal_is_protected(con: duckdb.DuckDBPyConnection, case: str) -> None:
    name, value, kind = PERSONAL[case]
    rows: list[dict[str, str | None]] = [
        {"n": "1", name: value.format(n=n) if "{" in value else value + chr(97 + n % 26) * (kind == "name")} for n in range(60)
    ]

    found = infer(con, rows).columns[1]

    assert (found.protection, found.pii) == (("pseudonym", kind) if kind else ("none", None))
    assert infer(con, rows, target=name).columns[1].protection == "none"


def test_odd_column_names_become_safe_and_keep_their_source(con: duckdb.DuckDBPyConnection) -> None:
    names = ["Customer ID", "customer_id", "Größe", "数量", "select", "2019", "_row_", "emp.var.rate", 'a"b', "row_id", "  ", "RAC1P"]

    safe = safe_names(names)

    assert safe == [
        "customer_id",
        "customer_id_2",
        "grosse",
        "column_4",
        "select",
        "n_2019",
        "row",
        "emp_var_rate",
        "a_b",
        "row_id_2",
        "column_11",
        "rac1_p",
    ]
    contract = infer(con, [dict.fromkeys(names, "1")] * 3)
    assert [column.source for column in contract.columns] == names
    assert bad_rows(con, contract, "t") == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=20), max_size=20))
def test_safe_names_are_unique_identifiers(names: list[str]) -> None:
    safe = safe_names(names)
    assert len(set(safe)) == len(names)
    assert all(name.isidentifier() and name.isascii() and name == name.lower() and not name.startswith("_") for name in safe)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_file_of_no_or_one_row_has_a_contract(con: duckdb.DuckDBPyConnection, rows: int) -> None:
    con.execute(f"CREATE TABLE t AS SELECT '1' AS id, 'x' AS b, 1 AS _row FROM range({rows})")
    contract = infer_dataset(con, "t", name="things").contract
    assert [column.name for column in contract.columns] == ["id", "b"]
    assert contract.primary_key == ()


def test_five_hundred_columns_are_read_in_seconds(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(
        f"CREATE TABLE t AS SELECT {', '.join(f'(i * {n + 1})::VARCHAR AS column_{n}' for n in range(500))}, i AS _row FROM range(50) r(i)"
    )
    contract = infer_dataset(con, "t", name="things").contract
    assert len(contract.columns) == 500
    assert {column.sql_type for column in contract.columns} == {"BIGINT"}


@pytest.mark.parametrize("name", ["My Table", "1st", "", "a-b"])
def test_a_name_that_is_no_table_is_refused(con: duckdb.DuckDBPyConnection, name: str) -> None:
    con.execute("CREATE TABLE t AS SELECT '1' AS a")
    with pytest.raises(ContractError, match="can't be a table's name"):
        infer_dataset(con, "t", name=name)


def test_identifiers_are_known_by_name() -> None:
    assert all(is_identifier(name) for name in ["id", "customerID", "InvoiceNo", "order_id", "sha", "folioviv", "caseid", "plot_no"])
    assert not any(is_identifier(name) for name in ["paid", "no_membrs", "grid", "valid", "age", "number", "humid"])


def test_what_the_reader_found_is_written_down(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE t AS SELECT '1' AS a")
    landing = Landing(format="csv", encodings=("cp1252",), delimiter=";", quote='"', header=True, sheet="a: b", skip_rows=2)
    contract = infer_dataset(con, "t", name="things", landing=landing, source="thing's file.csv").contract
    assert contract.landing == Landing(("./landing/things/*",), "csv", ("cp1252",), ";", '"', None, True, "a: b", 2)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12)
)
KEYS = st.text(min_size=1, max_size=8)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=10).filter(
    lambda value: not _mixed(value)
)


def _mixed(value: Any) -> bool:
    """Whether it holds what a contract never holds: a list directly in a list of mappings."""
    if isinstance(value, list):
        return any(isinstance(one, list) for one in value) or any(_mixed(one) for one in value)
    return any(_mixed(one) for one in value.values()) if isinstance(value, dict) else False


@settings(deadline=None, max_examples=60)
@given(document=st.dictionaries(KEYS, TREES, max_size=4), comment=st.text(max_size=20))
def test_what_is_rendered_reads_back_the_same(document: dict[str, Any], comment: str) -> None:
    usable = yaml.safe_load(yaml.safe_dump(document)) == document
    text = render({key: Commented(value, comment) for key, value in document.items()}, head=[comment])
    if usable:
        assert yaml.safe_load(text) == (document or None)


CELLS = st.one_of(
    st.none(), st.text(max_size=8), st.integers().map(str), st.sampled_from(["NA", "N", "yes", "TRUE", "2024-01-01", "1,5", "01", "-"])
)


@settings(deadline=None, max_examples=20)
@given(
    data=st.data(),
    names=st.lists(st.text(min_size=1, max_size=8).filter(lambda name: "\0" not in name), min_size=1, max_size=4, unique_by=str.casefold),
)
def test_any_file_has_a_contract_that_reads_back_and_accepts_it(data: st.DataObject, names: list[str]) -> None:
    clean = [name for name in names if name.isprintable() and name.casefold() != "_row"] or ["a"]
    cell = CELLS.filter(lambda text: text is None or "\0" not in text)
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(clean, cell)), min_size=1, max_size=30))
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        contract = infer(con, rows)
        assert {column.source for column in contract.columns} == set(clean)
        assert bad_rows(con, contract, "t") == 0


REAL: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "commerce/crm_telco/customers.csv": (("customer_id",), {"total_charges": "DOUBLE", "senior_citizen": "BIGINT", "churn": "VARCHAR"}),
    "commerce/online_shoppers/sessions_feb_oct.csv": ((), {"revenue": "BOOLEAN", "page_values": "DOUBLE", "month": "VARCHAR"}),
    "commerce/bank_marketing/contacts_2009-03.csv": (
        (),
        {"age": "BIGINT", "cons_conf_idx": "DOUBLE", "nr_employed": "DOUBLE", "y": "VARCHAR"},
    ),
    "households/mexico/coneval_2014_24_states.csv": (
        ("folioviv", "foliohog"),
        {"entidad": "VARCHAR", "folioviv": "VARCHAR", "ict_norm": "DOUBLE"},
    ),
    "households/safi/SAFI_clean.csv": (("instance_id",), {"interview_date": "TIMESTAMPTZ", "years_liv": "BIGINT", "memb_assoc": "VARCHAR"}),
    "households/safi/SAFI_crops.csv": ((), {"farm": "VARCHAR", "plot_area": "DOUBLE"}),
    "households/acs_ma/ma2018.csv": ((), {"povpip": "BIGINT", "pincp": "DOUBLE", "puma": "VARCHAR", "noc": "BIGINT"}),
    "households/gss/gss_cat.csv": ((), {"year": "BIGINT", "tvhours": "BIGINT", "partyid": "VARCHAR"}),
    "commerce/jaffle_shop/raw_customers.csv": (("id",), {"id": "BIGINT"}),
    "commerce/jaffle_shop/raw_orders.csv": (("id",), {"order_date": "DATE", "user_id": "BIGINT"}),
    "commerce/jaffle_shop/raw_payments.csv": (("id",), {"amount": "DOUBLE"}),
    "commerce/online_retail/daily/2010-12-01.csv": ((), {"invoice_no": "VARCHAR", "customer_id": "BIGINT", "invoice_date": "TIMESTAMP"}),
    "commerce/eshop_clickstream/clicks_2008-04.csv": (("session_id", "order"), {"price": "DOUBLE"}),
    "commerce/snowplow_web/events.csv": ((), {"event_id": "VARCHAR", "collector_tstamp": "TIMESTAMP", "geo_zipcode": "VARCHAR"}),
}


@pytest.mark.parametrize("file", REAL)
def test_real_files_come_out_right(file: str, real_data: Path, con: duckdb.DuckDBPyConnection, stage: Stage, tmp_path: Path) -> None:
    relation = stage(real_data / file)

    inferred = infer_dataset(con, relation, name="real", source=file)

    key, types = REAL[file]
    contract = inferred.contract
    assert contract.primary_key == key
    assert {name: contract.column(name).sql_type for name in types} == types
    assert bad_rows(con, contract, relation) == 0
    (tmp_path / "real.odcs.yaml").write_text(inferred.text)
    assert load_dataset(tmp_path / "real.odcs.yaml").digest == contract.digest


def test_real_null_tokens_and_event_times(real_data: Path, con: duckdb.DuckDBPyConnection, stage: Stage) -> None:
    def contract(file: str) -> DatasetContract:
        return infer_dataset(con, stage(real_data / file), name="real").contract

    assert contract("households/safi/SAFI_clean.csv").null_values == ("NULL",)
    assert contract("households/safi/SAFI_clean.csv").event_timestamp == "interview_date"
    assert contract("households/acs_ma/ma2018.csv").null_values == ("N",)
    assert contract("commerce/online_retail/daily/2010-12-01.csv").event_timestamp == "invoice_date"
    orders = contract("commerce/jaffle_shop/raw_orders.csv")
    assert (orders.entity, orders.event_timestamp) == (("user_id",), "order_date")
    customers = contract("commerce/jaffle_shop/raw_customers.csv")
    assert [column.name for column in customers.protected_columns] == ["first_name", "last_name"]


def test_a_contract_of_one_day_accepts_the_other_days(real_data: Path, con: duckdb.DuckDBPyConnection, stage: Stage) -> None:
    folder = real_data / "commerce" / "online_retail" / "daily"
    contract = infer_dataset(con, stage(folder / "2010-12-01.csv"), name="sales").contract

    assert sum(bad_rows(con, contract, stage(file)) for file in sorted(folder.glob("2011-0[1-2]-*.csv"))) == 0


@pytest.mark.parametrize(("bad_share", "limit"), [(0.0, 30), (0.1, 30), (0.4, 80), (0.9, 100)])
def test_a_file_may_be_dirty_but_not_another_kind_of_file(bad_share: float, limit: float, con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE OR REPLACE TABLE t AS SELECT CAST(range AS VARCHAR) AS id FROM range(30)")
    assert infer_dataset(con, "t", name="things", bad_share=bad_share).contract.quarantine_limit_percent == limit
