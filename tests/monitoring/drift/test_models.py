"""A model's rows and answers against those it was trained for: like with like, from the table versions it learned from."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets.drift import build_drift_asset
from lakehouse.contracts import Contracts, ModelContract
from lakehouse.errors import ModelError, ModelNotFound
from lakehouse.learning import predict_batch, train
from lakehouse.monitoring.drift import Verdict, measure_model_drift
from lakehouse.monitoring.drift.page import write_drift_page
from lakehouse.monitoring.drift.storing import REFERENCES, TABLE
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from resources.workspace import RESOURCE_KEY
from tests.learning.conftest import PROJECT, model, write

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VISITS = model("visits", algorithms=("decision_tree",), folds=2, event_timestamp="at", include_features=("size", "kind", "same"))
MEMBERS = model("members", algorithms=("decision_tree",), folds=2)


def visits(days: range, *, shift: int = 0) -> str:
    """Forty visits a day; `same` never varies, so that no model uses it."""
    return (
        "SELECT d * 40 + n AS id, TIMESTAMPTZ '2026-01-01 00:00:00+00' + INTERVAL (d) DAY AS at, (n * 7 + d) % 40 + "
        f"{shift}.5 AS size, substr('abcd', 1 + n % 4, 1) AS kind, 'x' AS same, CASE WHEN n % 3 = 0 THEN 'yes' ELSE 'no' END AS label "
        f"FROM range({days.start}, {days.stop}) days(d), range(40) rows(n)"
    )


def members(*, shift: int = 0) -> str:
    return (
        f"SELECT n AS id, n % 40 + {shift}.5 AS size, substr('abcd', 1 + n % 4, 1) AS kind, "
        "CASE WHEN n % 3 = 0 THEN 'yes' ELSE 'no' END AS label FROM range(800) rows(n)"
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Lake]:
    """Two trained models: of rows with an event time, and of rows that say how things are."""
    settings = Settings(project=PROJECT, home=tmp_path_factory.mktemp("home"), threads=1)
    lake = Lake.from_settings(settings)
    for contract, rows in ((VISITS, visits(range(20))), (MEMBERS, members())):
        write(lake, contract.label_table, rows)
        train(settings, lake, contract, run="train", now=NOW)
        predict_batch(settings, lake, contract, run="predict", now=NOW)
    return settings, lake


def measured(home: tuple[Settings, Lake], contract: ModelContract, *, version: str | None = None):
    return measure_model_drift(*home, contract, run="drift", now=NOW, version=version)


def column(lake: Lake, sql: str, *tables: str) -> list[object]:
    with lake.connect(tables) as session:
        return [row[0] for row in session.con.execute(sql).fetchall()]


def test_rows_that_came_later_are_held_against_those_that_were_known(home: tuple[Settings, Lake]) -> None:
    lake = home[1]
    nothing_new = measured(home, VISITS)
    assert (nothing_new.features.rows, nothing_new.features.verdict) == (0, Verdict.UNKNOWN)
    write(lake, VISITS.label_table, f"{visits(range(20))} UNION ALL {visits(range(20, 30))}")
    quiet = measured(home, VISITS)
    assert (quiet.features.rows_reference, quiet.features.rows, quiet.features.verdict) == (800, 400, Verdict.STABLE)
    assert quiet.since == datetime(2026, 1, 20, tzinfo=UTC)
    assert [one.column for one in sorted(quiet.features.columns, key=lambda one: one.column)] == ["kind", "size"]
    write(lake, VISITS.label_table, f"{visits(range(20))} UNION ALL {visits(range(20, 30), shift=25)}")
    loud = measured(home, VISITS)
    assert loud.features.verdict is Verdict.DRIFTED
    assert loud.features.drifted == ("size",)
    # What the version was trained from is profiled once, and only once.
    assert column(lake, f"SELECT part FROM {REFERENCES} WHERE subject = 'models.visits' ORDER BY 1", REFERENCES) == [
        "features",
        "new_features",
        "predictions",
    ]


def test_of_a_table_without_event_times_all_rows_are_held_against_all(home: tuple[Settings, Lake]) -> None:
    lake = home[1]
    assert measured(home, MEMBERS).features.verdict is Verdict.STABLE
    write(lake, MEMBERS.label_table, members(shift=30))
    predict_batch(*home, MEMBERS, run="predict", now=NOW + timedelta(days=1))
    found = measured(home, MEMBERS, version="1")
    assert (found.features.rows_reference, found.features.rows, found.features.drifted) == (800, 800, ("size",))
    assert found.predictions is not None
    assert found.predictions.rows == 800
    assert {one.column for one in found.predictions.columns} == {"prediction", "confidence"}
    recorded = column(lake, f"SELECT DISTINCT column_name FROM {TABLE} WHERE subject = 'models.members' ORDER BY 1", TABLE)
    assert recorded == ["confidence", "kind", "prediction", "size"]
    newest = f"SELECT verdict FROM {TABLE} WHERE subject = 'models.members' AND column_name = 'size' ORDER BY psi DESC LIMIT 1"
    assert column(lake, newest, TABLE) == ["drifted"]


def test_batches_that_vacuum_has_removed_are_no_obstacle(home: tuple[Settings, Lake]) -> None:
    settings, lake = home
    contract = model("guests", algorithms=("decision_tree",), folds=2)
    for shift in (0, 5, 30):
        write(lake, contract.label_table, members(shift=shift))
        if not shift:
            train(settings, lake, contract, run="train", now=NOW)
        predict_batch(settings, lake, contract, run="predict", now=NOW)
    lake.vacuum("models.guests_predictions", retention=timedelta(hours=1), now=datetime.now(UTC) + timedelta(days=1))
    found = measured(home, contract)
    assert found.predictions is not None
    assert (found.predictions.rows, found.features.drifted) == (800, ("size",))


def test_the_asset_measures_every_model_and_its_checks_say_what_has_drifted(home: tuple[Settings, Lake]) -> None:
    settings, lake = home
    write(lake, VISITS.label_table, f"{visits(range(20))} UNION ALL {visits(range(20, 30), shift=25)}")
    write(lake, MEMBERS.label_table, members())
    contracts = Contracts(models={one.name: one for one in (VISITS, MEMBERS, model("strangers"))})
    workspace = Workspace(settings)
    workspace.__dict__["contracts"] = contracts
    made = dg.materialize([build_drift_asset(contracts)], resources={RESOURCE_KEY: workspace})
    results = {one.check_name: one for one in made.get_asset_check_evaluations()}
    passed = {name: one.passed for name, one in results.items()}
    assert passed == {
        "visits_features_have_not_drifted": False,
        "visits_predictions_have_not_drifted": True,
        "members_features_have_not_drifted": True,
        "members_predictions_have_not_drifted": True,
        "strangers_features_have_not_drifted": True,
        "strangers_predictions_have_not_drifted": True,
    }
    loud = results["visits_features_have_not_drifted"]
    assert loud.severity is dg.AssetCheckSeverity.ERROR
    assert "size (PSI" in (loud.description or "")
    assert str(loud.metadata["worst"].value).startswith("![size: share of the rows]")
    assert "has no champion" in (results["strangers_features_have_not_drifted"].description or "")


@pytest.mark.parametrize(
    ("was", "has", "said"),
    [
        ("n % 40 + 0.5 AS size", "'big' AS size", "size was a number and is a text now"),
        ("substr('abcd', 1 + n % 4, 1) AS kind", "n AS kind", "kind was a text and is a number now"),
        (" AS kind", " AS sort", "features that are no longer there: kind"),
    ],
)
def test_what_is_in_the_way_of_a_comparison_is_a_warning_and_no_obstacle_to_others(
    was: str, has: str, said: str, home: tuple[Settings, Lake]
) -> None:
    settings, lake = home
    write(lake, VISITS.label_table, visits(range(20)))
    write(lake, MEMBERS.label_table, members().replace(was, has))
    contracts = Contracts(models={one.name: one for one in (MEMBERS, VISITS)})
    workspace = Workspace(settings)
    workspace.__dict__["contracts"] = contracts
    made = dg.materialize([build_drift_asset(contracts)], resources={RESOURCE_KEY: workspace})
    results = {one.check_name: one for one in made.get_asset_check_evaluations()}
    broken = results["members_features_have_not_drifted"]
    assert (broken.passed, broken.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert said in (broken.description or "")
    assert results["visits_features_have_not_drifted"].passed


@pytest.mark.slow
def test_evidently_writes_its_page_from_both_sides(home: tuple[Settings, Lake], tmp_path: Path) -> None:
    settings, lake = home
    write(lake, VISITS.label_table, f"{visits(range(20))} UNION ALL {visits(range(20, 30), shift=25)}")
    since = measured(home, VISITS).since
    page = tmp_path / "new" / "page.html"
    assert write_drift_page(settings, lake, VISITS, page, since=since) == 400
    text = page.read_text("utf-8")
    assert "size" in text
    assert "kind" in text
    assert "https://" not in text.split("<body")[0]
    with pytest.raises(ModelError, match="has no rows to report on"):
        write_drift_page(settings, lake, VISITS, page, since=NOW + timedelta(days=999))


def test_what_cannot_be_compared_says_why(home: tuple[Settings, Lake]) -> None:
    with pytest.raises(ModelNotFound, match="has no champion"):
        measured(home, model("nothing"))
    with pytest.raises(ModelError, match="has no history"):
        measured(home, MEMBERS, version="9")
    settings, lake = home
    write(lake, MEMBERS.label_table, members().replace(" AS kind", " AS sort"))
    with pytest.raises(ModelError, match="features that are no longer there: kind"):
        measure_model_drift(settings, lake, MEMBERS, run="drift", now=NOW)


def test_a_home_without_models_has_nothing_to_compare(tmp_path: Path) -> None:
    settings = Settings(project=PROJECT, home=tmp_path)
    lake = Lake.from_settings(settings)
    write(lake, MEMBERS.label_table, members())
    with pytest.raises(ModelNotFound):
        measure_model_drift(settings, lake, MEMBERS, run="drift", now=NOW)
