"""Outcomes: what calibration, segments and thresholds say, against brute force and on real tables."""

from dataclasses import replace
from datetime import datetime

import dagster as dg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, brier_score_loss

from assets.outcomes import build_outcomes_asset
from lakehouse.contracts import Contracts, ModelContract
from lakehouse.monitoring.outcomes import TABLE, Bin, measure_outcomes
from lakehouse.monitoring.outcomes.measures import SegmentSums, best_threshold, calibration, segments
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from resources.workspace import RESOURCE_KEY
from tests.monitoring.histories import has_happened

CLASSES = ModelContract(
    name="leaving",
    version="1.0.0",
    problem="classification",
    dataset="guests",
    label_table="staging.guests",
    target_column="left",
    positive_class="yes",
    entity=("id",),
)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=20).filter(lambda pairs: len(pairs) % 2 == 0))
def test_the_threshold_is_the_best_there_is(pairs: list[tuple[int, int]]) -> None:
    yes, no = [one for one, _ in pairs], [one for _, one in pairs]
    found, size = best_threshold(yes, no), len(pairs)
    if not sum(yes) or not sum(no):
        assert found is None
        return
    assert found is not None
    places = np.repeat(np.tile(np.arange(size), 2), [*yes, *no])
    labels = np.repeat([1, 0], [sum(yes), sum(no)])
    reached = [balanced_accuracy_score(labels, places >= place) for place in range(size + 1)]
    assert found.balanced_accuracy == pytest.approx(max(reached))
    assert found.now == pytest.approx(reached[size // 2])
    assert found.value * size == pytest.approx(
        min((abs(place - size // 2), place) for place in range(size + 1) if reached[place] > max(reached) - 1e-12)[1]
    )


def test_right_probabilities_are_well_calibrated_and_bold_ones_are_not() -> None:
    random = np.random.default_rng(7)
    real = random.uniform(0.05, 0.95, 5000)
    outcomes = random.uniform(size=5000) < real
    for said, is_well in ((real, True), (np.clip((real - 0.5) * 1.8 + 0.5, 0.01, 0.99), False)):
        places = np.minimum((said * 10).astype(int), 9)
        bins = [
            Bin(
                place / 10,
                (place + 1) / 10,
                int(sum(places == place)),
                float(said[places == place].mean()),
                float(outcomes[places == place].mean()),
            )
            for place in range(10)
            if any(places == place)
        ]
        found = calibration(bins, squared=float(((said - outcomes) ** 2).sum()))
        assert found is not None
        assert found.is_well is is_well
        assert found.brier == pytest.approx(brier_score_loss(outcomes, said))
        assert (found.error < 0.02) is is_well
    assert calibration([], squared=0.0) is None


def test_a_segment_is_worse_only_beyond_chance_and_by_much() -> None:
    sums = [
        SegmentSums("region", name, rows, errors, errors)
        for name, rows, errors in (("n", 400, 40.0), ("s", 400, 160.0), ("e", 30, 4.0), ("w", 9, 9.0))
    ]
    found = {one.value: one for one in segments(sums, SegmentSums("", "", 839, 213.0, 213.0))}
    assert list(found) == ["s", "e", "n"]
    assert [one.value for one in found.values() if one.is_worse] == ["s"]
    assert found["s"].error == pytest.approx(0.4)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """600 guests; in the south the model is mostly wrong; its probabilities are right, but for the south."""
    lake = Lake.from_settings(settings)
    said = "CASE WHEN n % 10 < 6 THEN 0.9 ELSE 0.2 END"
    left = f"(CASE WHEN region = 'south' THEN n % 4 = 0 ELSE ({said} > 0.5) <> (n % 12 = 7) END)"
    guests = "SELECT n AS id, CASE WHEN n % 3 = 0 THEN 'south' ELSE 'north' END AS region, n AS n FROM range(600) t(n)"
    tables = {
        "staging.guests": f"SELECT id, region, 'x' || n AS note, CASE WHEN {left} THEN 'yes' ELSE 'no' END AS \"left\" FROM ({guests})",
        "models.leaving_training_set": "SELECT n AS id FROM range(10) t(n)",
        "models.leaving_predictions": f"SELECT id, CASE WHEN {said} > 0.5 THEN 'yes' ELSE 'no' END AS prediction, {said} AS probability_yes, "
        f"1 - {said} AS probability_no, greatest({said}, 1 - {said}) AS confidence, '3' AS model_version FROM ({guests})",
    }
    for table, sql in tables.items():
        with lake.connect(()) as session:
            lake.overwrite(session.con, table, sql, stamp=Stamp(asset=table, run="r"))
    return lake


def test_outcomes_say_where_a_model_errs(lake: Lake, now: datetime) -> None:
    [found] = measure_outcomes(lake, CLASSES, run="r", now=now)
    assert (found.model_version, found.rows) == ("3", 590)
    assert [(one.column, one.value) for one in found.worse_segments] == [("region", "south"), ("prediction", "yes")]
    assert found.calibration is not None
    assert not found.calibration.is_well
    assert sum(one.rows for one in found.calibration.bins) == sum(found.confidence) == 590
    assert found.threshold is not None
    assert found.threshold.balanced_accuracy >= found.threshold.now
    with lake.connect([TABLE]) as session:
        flagged = session.con.execute(f"SELECT kind, name FROM {TABLE} WHERE flagged ORDER BY 1, 2").fetchall()
    assert ("segment", "region = south") in flagged
    assert ("calibration_error", "") in flagged


def test_numbers_have_segments_only_and_few_labels_say_nothing(lake: Lake, now: datetime) -> None:
    assert measure_outcomes(lake, replace(CLASSES, rollout=replace(CLASSES.rollout, min_rows=1000)), run="r", now=now) == ()
    assert measure_outcomes(lake, replace(CLASSES, name="nobody"), run="r", now=now) == ()
    assert not lake.exists(TABLE)
    numbers = replace(CLASSES, problem="regression", target_column=None, target_sql='length("left")', positive_class=None)
    with lake.connect(()) as session:
        sql = "SELECT n AS id, 2.0 AS prediction, NULL::DOUBLE AS confidence, '4' AS model_version FROM range(600) t(n)"
        lake.overwrite(session.con, "models.leaving_predictions", sql, stamp=Stamp(asset="models.leaving_predictions", run="r"))
    [found] = measure_outcomes(lake, numbers, run="r", now=now)
    assert (found.calibration, found.confidence, found.threshold) == (None, (), None)
    assert {one.column for one in found.segments} == {"region"}


def test_the_asset_warns_of_segments_and_of_probabilities(lake: Lake, settings: Settings) -> None:
    contracts = Contracts(models={"leaving": CLASSES, "nobody": replace(CLASSES, name="nobody")})
    workspace = Workspace(settings)
    workspace.__dict__["contracts"] = contracts
    made = dg.materialize([build_outcomes_asset(contracts)], resources={RESOURCE_KEY: workspace})
    results = {one.check_name: one for one in made.get_asset_check_evaluations()}
    assert {name: one.passed for name, one in results.items()} == {
        "leaving_probabilities_are_right": False,
        "leaving_errs_alike_in_all_segments": False,
        "nobody_probabilities_are_right": True,
        "nobody_errs_alike_in_all_segments": True,
    }
    assert all(one.severity is dg.AssetCheckSeverity.WARN for one in results.values() if not one.passed)
    assert "region = south" in (results["leaving_errs_alike_in_all_segments"].description or "")
    assert {"calibration", "confidence", "threshold"} <= set(results["leaving_probabilities_are_right"].metadata)


@pytest.mark.parametrize("shape", [(1, 1), (0.4, 0.4), (6, 6), (1, 4)])
@pytest.mark.parametrize("labels", [100, 300])
def test_a_threshold_that_is_right_is_hardly_ever_said_to_be_wrong(shape: tuple[float, float], labels: int) -> None:
    random, alarms, runs = np.random.default_rng(7), 0, 400
    for _ in range(runs):
        # One half is optimal for balanced accuracy: the odds of the classes in a row are those of its probability, weighted by their share.
        said = random.beta(*shape, labels)
        share = shape[0] / sum(shape)
        is_so = random.uniform(size=labels) < said
        balanced = said * (1 - share) / (said * (1 - share) + (1 - said) * share)
        places = np.minimum((balanced * 100).astype(int), 99)
        found = best_threshold(*(np.bincount(places[side], minlength=100).tolist() for side in (is_so, ~is_so)))
        alarms += found is not None and found.is_worth_it
    assert alarms <= 0.05 * runs


def test_a_threshold_that_is_far_off_is_found() -> None:
    random = np.random.default_rng(7)
    said = random.beta(1, 1, 1000)
    is_so = random.uniform(size=1000) < said
    places = np.minimum((said**2 * 100).astype(int), 99)
    found = best_threshold(*(np.bincount(places[side], minlength=100).tolist() for side in (is_so, ~is_so)))
    assert found is not None
    assert found.is_worth_it
    assert found.value == pytest.approx(0.25, abs=0.1)


def test_the_version_in_production_comes_first_though_another_has_more_labels(lake: Lake, now: datetime) -> None:
    table = "models.leaving_predictions"
    with lake.connect([table]) as session:
        for version, most in (("3", 600), ("4", 200)):
            sql = f"SELECT * REPLACE ('{version}' AS model_version) FROM {table} WHERE id < {most}"
            lake.overwrite(session.con, table, sql, stamp=Stamp(asset=table, run="r"))
    assert [one.model_version for one in measure_outcomes(lake, CLASSES, run="r", now=now)] == ["3", "4"]
    has_happened(lake, now, ("4", 0, "promoted"), model="leaving")
    assert [one.model_version for one in measure_outcomes(lake, CLASSES, run="r", now=now)] == ["4", "3"]
