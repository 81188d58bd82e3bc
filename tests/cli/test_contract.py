"""A file that is not what its contract says: told, accepted, ingested; and what became of the contract is remembered."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from tests.cli.conftest import Outcome
from tests.cli.test_documents import _same

Run = Callable[..., Outcome]


def write(path: Path, header: str, row: Callable[[int], str], start: int = 0) -> Path:
    path.write_text("\n".join([header, *(row(number) for number in range(start, start + 300))]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def first(lakehouse: Run, tmp_path: Path) -> Path:
    path = write(tmp_path / "first.csv", "id,age,district,note", lambda i: f"{i},{i % 80},{('north', 'south')[i % 2]},n{i}")
    assert lakehouse("add", path, "--name", "people").code == 0
    assert lakehouse("ingest", "people", path).code == 0
    return path


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return write(tmp_path / "second.csv", "id,age,region,fee", lambda i: f"{i},{i % 80}.5,{('north', 'south')[i % 2]},{i}.25", start=1000)


def test_what_arrived_is_accepted_and_raw_follows(lakehouse: Run, first: Path, second: Path, settings: Settings) -> None:
    assert lakehouse("contract", "diff", "people").code == 0
    refused = lakehouse("ingest", "people", second, "--json")
    assert refused.code == 1
    told = lakehouse("contract", "diff", "people", second, "--json")
    assert told.code == 1
    _same("contract diff", told.json)
    kinds = {one["column"]: one["kind"] for one in told.json["drift"]}
    assert kinds == {"age": "retyped", "district": "renamed", "fee": "new", "note": "missing"}
    accepted = lakehouse("contract", "accept", "people", second, "--json").json
    assert (accepted["version"], accepted["accepted_version"], accepted["compatibility"]["compatible"]) == ("1.0.0", "1.1.0", True)
    assert accepted["next"] == ["lakehouse run people --full"]
    assert lakehouse("contract", "diff", "people", second).code == 0
    assert lakehouse("contract", "accept", "people", second, "--json").json["written"] is None
    assert lakehouse("ingest", "people", second).code == 0
    assert lakehouse("ingest", "people", first, "--json").json["files"][0]["status"] == "already"
    rows = lakehouse(
        "query", "select count(*) as n, sum(age) as age, count(district) as district, count(_sha256) as f from raw.people", "--json"
    )
    assert rows.json["rows"] == [
        {"n": 600, "age": pytest.approx(2 * 300 * 39.5 - 2 * 10 * 20 * 3 + 150, abs=2000), "district": 600, "f": 600}
    ]
    lake = Workspace(settings).lake
    newest = lake.history("raw.people", limit=1)[0]
    assert newest.stamp is not None
    assert newest.stamp.source is not None
    assert newest.stamp.source["contract_version"] == "1.1.0"
    assert lakehouse("contract", "diff", "people@1.0.0").code == 0
    assert lakehouse("contract", "diff", "people@7.0.0").code == 2


def test_one_column_alone_can_be_accepted(lakehouse: Run, first: Path, second: Path) -> None:
    assert lakehouse("contract", "accept", "people", second, "--column", "fee").code == 0
    left = lakehouse("contract", "diff", "people", second, "--json").json
    assert "fee" not in {one["column"] for one in left["drift"]}
    assert lakehouse("contract", "accept", "people", second, "--column", "fee").code == 2


@pytest.mark.parametrize("policy", ["warn", "reject"])
def test_a_broken_promise_without_a_new_major_version_is_told(
    lakehouse: Run, first: Path, tmp_path: Path, settings: Settings, policy: str
) -> None:
    path = settings.home_dir / "contracts" / "datasets" / "people.odcs.yaml"
    text = path.read_text(encoding="utf-8").replace("newColumns: rescue", f"newColumns: rescue\n      breakingChange: {policy}")
    path.write_text(text.replace("name: note", "name: remark\n        physicalName: note"), encoding="utf-8")
    again = write(tmp_path / "again.csv", "id,age,district,note", lambda i: f"{i},{i % 80},north,n{i}", start=5000)
    found = lakehouse("ingest", "people", again, "--json")
    if policy == "reject":
        assert found.code == 2
        assert "version 2.0.0" in found.json["message"]
    else:
        assert found.code == 0
        (file,) = found.json["files"]
        assert any("should be 2.0.0: note: column removed" in warning for warning in file["warnings"])
    path.write_text(path.read_text(encoding="utf-8").replace("1.0.0", "2.0.0"), encoding="utf-8")
    more = write(tmp_path / "more.csv", "id,age,district,note", lambda i: f"{i},{i % 80},north,n{i}", start=9000)
    assert lakehouse("ingest", "people", more, "--json").json["files"][0]["warnings"] == []


def test_contracts_that_can_not_be_compared_are_named(lakehouse: Run, first: Path, tmp_path: Path) -> None:
    assert lakehouse("contract", "diff", "nobody").code == 2
    assert lakehouse("contract", "diff", "people", tmp_path / "none.csv").code == 2
    assert lakehouse("contract", "diff", tmp_path / "none.yaml").code == 2
