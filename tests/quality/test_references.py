"""Rules between datasets: judged over whole tables, so a late parent settles them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from lakehouse.contracts import Contracts, DatasetContract, Severity, parse_dataset
from lakehouse.errors import ContractError
from lakehouse.pipeline.report import reference_checks
from lakehouse.quality import check_references
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp

HEAD = "apiVersion: v3.2.0\nkind: DataContract\nid: x\nname: x\nversion: 1.0.0\nstatus: active\nschema:\n"
CITIES = (
    HEAD
    + """  - name: cities
    properties:
      - {name: country, logicalType: string}
      - {name: code, logicalType: integer}
"""
)
PEOPLE = (
    HEAD
    + """  - name: people
    properties:
      - {name: id, logicalType: integer}
      - name: city
        logicalType: string
        relationships:
          - {to: cities.code, customProperties: [{property: lakehouse.severity, value: SEVERITY}]}
      - {name: country, logicalType: string}
      - {name: born_in, logicalType: integer}
    relationships:
      - {id: born_somewhere, from: [people.country, people.born_in], to: [cities.country, cities.code]}
"""
)


def contract(text: str) -> DatasetContract:
    return parse_dataset(text, path=Path("x.odcs.yaml"))


@pytest.fixture
def contracts() -> Contracts:
    return Contracts(datasets={"people": contract(PEOPLE.replace("SEVERITY", "error")), "cities": contract(CITIES)})


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake.from_settings(settings)


@pytest.fixture
def rows(lake: Lake) -> Callable[[str, str, str], None]:
    def append(table: str, columns: str, values: str) -> None:
        with lake.connect(()) as session:
            lake.append(session.con, table, f"SELECT * FROM (VALUES {values}) AS v({columns})", stamp=Stamp(asset=table, run="r"))

    return append


def test_a_late_parent_settles_the_reference(
    lake: Lake, contracts: Contracts, rows: Callable[[str, str, str], None], now: datetime
) -> None:
    people = contracts.dataset("people")
    assert check_references(lake, people, contracts) == []
    rows("raw.people", "id, city, country, born_in", "(1, '7', 'de', 7), (2, '8', 'fr', 7), (3, '8', NULL, 8), (4, NULL, 'de', NULL)")
    city, born = check_references(lake, people, contracts)
    assert (city.passed, city.severity, city.rows_failed, born.rows_failed) == (False, Severity.ERROR, 3, 2)
    assert "raw.cities has no rows yet" in city.detail
    rows("raw.cities", "country, code", "('de', 7)")
    city, born = check_references(lake, people, contracts)
    assert (city.rows_failed, born.rows_failed, born.severity) == (2, 1, Severity.WARNING)
    assert "2 rows refer to 1 that are not there, such as 8 (2)" in city.detail
    assert [one.blocks for one in reference_checks(lake, people, contracts)] == [True, False]
    rows("raw.cities", "country, code", "('fr', 7), ('fr', 8)")
    assert all(one.passed for one in check_references(lake, people, contracts))


def test_an_unknown_parent_is_a_warning_that_says_so(lake: Lake, contracts: Contracts, rows: Callable[[str, str, str], None]) -> None:
    rows("raw.people", "id, city, country, born_in", "(1, '7', 'de', 7)")
    people = contracts.dataset("people")
    city, _ = check_references(lake, people, Contracts(datasets={"people": people}))
    assert (city.is_warning, "there is no dataset cities" in city.detail) == (True, True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[cities.country, cities.code]", "[cities.country, towns.code]", "as many columns of one dataset"),
        ("people.born_in", "people.born", "names no column"),
        ("to: cities.code", "to: a.cities.code", "no reference this lakehouse reads"),
    ],
)
def test_a_reference_that_names_nothing_is_refused_with_its_place(old: str, new: str, says: str) -> None:
    assert old in PEOPLE
    with pytest.raises(ContractError, match=says):
        contract(PEOPLE.replace("SEVERITY", "error").replace(old, new))
