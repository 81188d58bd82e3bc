"""The project as it is shipped: its sources are its contracts, it builds over nothing, and increments equal rebuilds."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.contracts import load_contracts
from lakehouse.settings import Settings
from lakehouse.tables import Commit, Lake
from lakehouse.transform import build, prepare, source_yaml
from tests.transform.conftest import put_raw, rows_of

DBT = Path(__file__).resolve().parents[2] / "dbt"
START = datetime(2025, 1, 15, 9)


def interview(household: int, wave: int, **answers: object) -> dict[str, object]:
    """One interview of a household in a quarter."""
    began = START + timedelta(days=91 * wave, hours=household % 5)
    return {
        "interview_id": f"HS-2025Q{wave + 1}-{household:08d}",
        "household_id": f"HH{household:08d}",
        "start_time": began,
        "end_time": began + timedelta(minutes=40),
        "submitted_at": began + timedelta(hours=2),
        **answers,
    }


def commit(number: int, day: int, **fields: object) -> dict[str, object]:
    """One commit."""
    written = f"2025-01-{day:02d} 10:00:00+00"
    return {
        "sha": f"{number:040x}",
        "html_url": f"https://github.com/o/r{number % 2}/commit/{number:040x}",
        "author_email": f"p{number % 3}",
        "message": f"fix: number {number}",
        "authored_at": written,
        "committed_at": written,
        "parents": '[{"sha": "0"}]',
        "files": '[{"filename": "a/b.py", "status": "added"}]',
        "additions": number,
        "deletions": 1,
        **fields,
    }


def test_the_committed_sources_are_those_of_the_contracts(settings: Settings) -> None:
    assert (DBT / "models" / "_sources.yml").read_text("utf-8") == source_yaml(load_contracts(settings).datasets.values())


def test_dbt_never_becomes_a_package() -> None:
    hiding = [DBT / "__init__.py", DBT / "cli", DBT / "adapters"]
    assert not [path for path in hiding if path.exists()], "would hide dbt-core from Python"


def test_every_model_and_column_is_described(settings: Settings) -> None:
    import json

    manifest = json.loads(prepare(settings).read_text("utf-8"))
    tables = [node for node in manifest["nodes"].values() if node["resource_type"] in {"model", "seed", "snapshot"}]
    assert len(tables) >= 12
    assert not [node["name"] for node in tables if not node["description"]]
    bare = [f"{node['name']}.{name}" for node in tables for name, column in node["columns"].items() if not column["description"]]
    assert not [name for name in bare if not name.startswith("district_regions")]
    assert not [node["name"] for node in tables if node["resource_type"] == "model" and not node["columns"]]


def test_an_empty_home_builds_with_no_rows(settings: Settings) -> None:
    report = build(settings, run="empty")
    assert not report.failed
    assert {node.rows for node in report.nodes if node.name != "district_regions"} == {0}
    assert all(test.status == "pass" for test in report.tests)
    assert len([test for test in report.tests if test.unique_id.startswith("unit_test")]) >= 9


def test_batch_by_batch_gives_what_a_rebuild_gives(settings: Settings, interviews: Callable[..., Commit]) -> None:
    lake, contracts = Lake.from_settings(settings), load_contracts(settings)
    commits = contracts.dataset("commits")
    interviews(1, *(interview(household, 0, monthly_income=100 + household) for household in range(20)))
    put_raw(lake, commits, [commit(number, 1 + number % 28) for number in range(40)], batch=1)
    build(settings, run="one", select=["tag:households", "tag:commits"], indirect_selection="empty")
    interviews(
        2,
        *(interview(household, 1, monthly_income=200, vulnerable=household % 2 == 0) for household in range(5, 15)),
        # The first is corrected, the second moves to another household, the third is a late and older answer that must lose.
        interview(0, 0, monthly_income=7, submitted_at=datetime(2025, 2, 1)),
        {**interview(1, 0), "household_id": "HH00000002", "submitted_at": datetime(2025, 2, 2)},
        interview(3, 0, monthly_income=1, submitted_at=datetime(2024, 1, 1)),
    )
    put_raw(lake, commits, [commit(number, 1 + number % 28, additions=5) for number in range(30, 60)], batch=2)
    second = build(settings, run="two")
    assert not second.failed
    tables = [str(node.table) for node in second.nodes if node.name != "household_status_history"]
    incremental = {table: rows_of(lake, table) for table in tables}
    build(settings, run="three", full_refresh=True, exclude=["resource_type:snapshot"], indirect_selection="empty")
    assert {table: rows_of(lake, table) for table in tables} == incremental
    assert rows_of(lake, "staging.household_survey", "count(*), count(distinct interview_id)") == [(30, 30)]
    assert rows_of(lake, "staging.commits", "count(*), count(distinct sha)") == [(60, 60)]
    moved = rows_of(lake, "features.household_features", "household_id, _interview_id, interviews_before")
    assert [row for row in moved if row[1] == "HS-2025Q1-00000001"] == [("HH00000002", "HS-2025Q1-00000001", 1)]


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"), [(0, 10, 0.0, 0.27753), (5, 10, 0.23659, 0.76341), (10, 10, 0.72247, 1.0), (0, 0, None, None)]
)
def test_the_interval_of_a_rate_is_wilsons(settings: Settings, successes: int, trials: int, low: float | None, high: float | None) -> None:
    import jinja2

    module = jinja2.Environment(autoescape=False).from_string((DBT / "macros" / "numbers.sql").read_text("utf-8")).module  # noqa: S701
    con = Lake.from_settings(settings).open_connection()
    found = con.execute(f"SELECT {module.wilson(successes, trials, 'low')}, {module.wilson(successes, trials, 'high')}").fetchall()[0]
    con.close()
    assert found == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5)) if low is not None else found == (None, None)
