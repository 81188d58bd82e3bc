"""Contracts change: what arrived is told by name, the change that accepts it accepts it, and versions say what they break."""

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.contracts import DatasetContract, parse_dataset
from lakehouse.contracts.evolution import Arrived, Drift, DriftKind, accept, compare, find_drift, next_version
from lakehouse.contracts.evolution.compatibility import Impact
from lakehouse.contracts.evolution.yaml_edits import ContractText
from lakehouse.errors import ContractError

PATH = Path("people.odcs.yaml")
TEXT = """# People, as they came.
apiVersion: v3.2.0
kind: DataContract
id: people
name: people
version: 1.2.3   # counted by hand
status: active
schema:
  - name: people
    properties:
      # the key
      - name: id
        logicalType: integer
        physicalType: BIGINT
        required: true
        primaryKey: true
        primaryKeyPosition: 1
      - {name: age, logicalType: integer, physicalType: INTEGER, logicalTypeOptions: {minimum: 0}}   # years
      - name: district
        physicalName: District Name
        logicalType: string   # where
        required: true
      - name: visited
        logicalType: date
      - name: note
        logicalType: string

# the end
customProperties:
  - {property: lakehouse.quarantineLimit, value: 30}
"""
KNOWN = {"district": "SELECT unnest(['north', 'south', 'east'])"}
AS_IT_IS = {
    "id": "i",
    "age": "i % 80",
    "District Name": "['north', 'south'][1 + i % 2]",
    "visited": "DATE '2020-01-01' + i::INTEGER",
    "note": "'n' || i",
}


def contract_of(text: str = TEXT) -> DatasetContract:
    return parse_dataset(text, path=PATH)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def arrived(con: duckdb.DuckDBPyConnection, columns: dict[str, str], *, known: dict[str, str] | None = None) -> Arrived:
    listed = ", ".join(f'CAST({sql} AS VARCHAR) AS "{name}"' for name, sql in columns.items())
    con.execute(f"CREATE OR REPLACE TABLE arrived AS SELECT {listed}, i AS _row FROM range(1, 201) AS r(i)")
    return Arrived("arrived", tuple(columns), known=KNOWN if known is None else known)


def named(drifts: tuple[Drift, ...]) -> dict[str, DriftKind]:
    return {drift.column: drift.kind for drift in drifts}


def renamed(columns: dict[str, str], old: str, new: str) -> dict[str, str]:
    return {new if name == old else name: sql for name, sql in columns.items()}


def test_a_file_as_promised_is_no_drift(con: duckdb.DuckDBPyConnection) -> None:
    assert find_drift(con, contract_of(), arrived(con, AS_IT_IS)) == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c | {"fee": "i * 1.5"}, {"fee": DriftKind.NEW}),
        (lambda c: {name: sql for name, sql in c.items() if name != "note"}, {"note": DriftKind.MISSING}),
        (lambda c: {name: sql for name, sql in c.items() if name != "District Name"}, {"district": DriftKind.MISSING}),
        (lambda c: renamed(c, "District Name", "region"), {"district": DriftKind.RENAMED}),
        (lambda c: renamed(c, "visited", "visited_on"), {"visited": DriftKind.RENAMED}),
        (lambda c: c | {"age": "i + 0.5"}, {"age": DriftKind.RETYPED}),
        (lambda c: c | {"age": "3000000000 + i"}, {"age": DriftKind.RETYPED}),
        (lambda c: c | {"visited": "strftime(DATE '2020-01-01' + i::INTEGER, '%d/%m/%Y')"}, {"visited": DriftKind.RETYPED}),
        (lambda c: c | {"id": "'K-' || i"}, {"id": DriftKind.RETYPED}),
        # Three bad values in two hundred are dirt.
        (lambda c: c | {"age": "CASE WHEN i < 4 THEN 'x' ELSE (i % 80)::VARCHAR END"}, {}),
    ],
)
def test_drift_is_told_by_name_and_its_change_accepts_it(
    con: duckdb.DuckDBPyConnection, change: Callable[[dict[str, str]], dict[str, str]], expected: dict[str, DriftKind]
) -> None:
    contract, file = contract_of(), arrived(con, change(AS_IT_IS))
    drifts = find_drift(con, contract, file)
    assert named(drifts) == expected
    accepted = accept(contract, TEXT, drifts)
    assert find_drift(con, accepted.contract, file) == ()
    assert accepted.compatibility.is_told
    for line in ("# People, as they came.", "# the key", "# years", "# where", "# the end"):
        assert line in accepted.text


def test_a_renamed_column_is_read_under_both_names(con: duckdb.DuckDBPyConnection) -> None:
    contract, file = contract_of(), arrived(con, renamed(AS_IT_IS, "District Name", "region"))
    accepted = accept(contract, TEXT, find_drift(con, contract, file)).contract
    column = accepted.column("district")
    assert (column.source, column.also_called) == ("region", ("District Name",))
    assert find_drift(con, accepted, arrived(con, AS_IT_IS)) == ()


def test_another_question_in_the_same_place_is_not_taken_for_a_new_name(con: duckdb.DuckDBPyConnection) -> None:
    columns = {
        ("colour" if name == "District Name" else name): ("'red'" if name == "District Name" else sql) for name, sql in AS_IT_IS.items()
    }
    found = named(find_drift(con, contract_of(), arrived(con, columns)))
    assert found == {"colour": DriftKind.NEW, "district": DriftKind.MISSING}


def test_a_missing_key_can_not_be_accepted(con: duckdb.DuckDBPyConnection) -> None:
    columns = {name: sql for name, sql in AS_IT_IS.items() if name != "id"}
    contract = contract_of()
    [drift] = find_drift(con, contract, arrived(con, columns))
    assert (drift.kind, drift.edits) == (DriftKind.MISSING, ())
    with pytest.raises(ContractError, match=r"people\.id: can't be accepted"):
        accept(contract, TEXT, [drift])


VALUES = st.sampled_from(["i", "i + 0.25", "'v' || i", "DATE '2021-05-01' + i::INTEGER", "NULL", "['a', 'b'][1 + i % 2]", "'' || i || '%'"])
NAMES = st.sampled_from(["id", "age", "District Name", "visited", "note", "region", "visited on", "Fee (EUR)", "ünïcode", "n: #1", "AGE2"])


@hypothesis_settings(max_examples=8)
@given(columns=st.dictionaries(NAMES, VALUES, min_size=1, max_size=7), data=st.data())
def test_what_was_accepted_is_no_drift_and_accepting_again_changes_nothing(columns: dict[str, str], data: st.DataObject) -> None:
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute("SET TimeZone = 'UTC'")
        contract = contract_of()
        file = arrived(con, {"id": "i"} | columns, known=data.draw(st.sampled_from([KNOWN, {}])))
        accepted = accept(contract, TEXT, find_drift(con, contract, file))
        again = find_drift(con, accepted.contract, file)
        assert again == ()
        assert accept(accepted.contract, accepted.text, again).text == accepted.text
        assert accepted.compatibility.is_told


@pytest.mark.parametrize(
    ("old", "new", "impact"),
    [
        ("      # the key\n", "", None),
        ("status: active", "status: deprecated", Impact.EDITORIAL),
        ("      - name: note\n        logicalType: string\n", "", Impact.BREAKING),
        ("{minimum: 0}", "{minimum: 15}", Impact.BREAKING),
        ("{minimum: 15}", "{minimum: 0}", Impact.COMPATIBLE),
        (", logicalTypeOptions: {minimum: 0}", "", Impact.COMPATIBLE),
        ("physicalType: INTEGER", "physicalType: BIGINT", Impact.COMPATIBLE),
        ("physicalType: BIGINT", "physicalType: INTEGER", Impact.BREAKING),
        ("        required: true\n      - name: visited", "      - name: visited", Impact.BREAKING),
        ("physicalName: District Name", "physicalName: Region", Impact.COMPATIBLE),
        ("      - name: visited", "      - {name: fee, logicalType: number}\n      - name: visited", Impact.COMPATIBLE),
        ("      - name: visited", "      - {name: fee, logicalType: number, required: true}\n      - name: visited", Impact.BREAKING),
    ],
)
def test_versions_are_compared_by_what_rows_and_readers_can_live_with(old: str, new: str, impact: Impact | None) -> None:
    before = TEXT.replace("{minimum: 0}", "{minimum: 15}") if old == "{minimum: 15}" else TEXT
    assert old in before
    found = compare(contract_of(before), contract_of(before.replace(old, new)))
    assert (found.changes[0].impact if found.changes else None) == impact
    assert found.is_told == (impact is None)
    assert found.is_compatible == (impact is not Impact.BREAKING)
    if impact:
        bumped = before.replace(old, new).replace("1.2.3", str(next_version("1.2.3", impact)))
        assert compare(contract_of(before), contract_of(bumped)).is_told


@pytest.mark.parametrize(
    ("version", "breaking", "compatible"),
    [("1.2.3", "2.0.0", "1.3.0"), ("v1", "v2.0.0", "v1.1.0"), ("0.9-rc.1", "1.0.0", "0.10.0"), ("first", None, None)],
)
def test_versions_are_counted_up(version: str, breaking: str | None, compatible: str | None) -> None:
    assert (next_version(version, Impact.BREAKING), next_version(version, Impact.COMPATIBLE)) == (breaking, compatible)


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: [1, 2], c: x}  # end\n",
        "a:\n  b:\n  - 1\n  - 2\n  # after\n  c: x\n",
        "a:\n  b: [1,\n    2,  # two\n  ]\n  c: x",
        "a:\r\n  b:\r\n    - 1\r\n  c: |\r\n    long\r\n    text\r\n",
        "a:\n  c: x\n  b:\n    - k: 1\n      l: |\n        text\nz: 1\n",
        'a: {"c": "quoted, no comment", "b": []}\n',
    ],
)
def test_a_text_is_changed_in_one_place(text: str) -> None:
    before = ContractText(text, PATH)
    more = before.append(("a", "b"), {"new": "entry, with [signs]"}).set(("a",), "d", True).set(("a",), "c", "y: z")
    wanted = before.document["a"]
    assert more.document["a"] == {**wanted, "b": [*wanted["b"], {"new": "entry, with [signs]"}], "d": True, "c": "y: z"}
    assert text.count("#") == more.text.count("#")


def test_what_can_not_be_changed_safely_is_refused() -> None:
    shared = ContractText("x: &same [1]\na:\n  b: *same\n", PATH)
    with pytest.raises(ContractError, match="can't be changed safely"):
        shared.append(("a", "b"), 2)
