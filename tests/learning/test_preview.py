"""A preview shows what training would do, by the Pipeline that training would fit, and writes nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lakehouse.contracts import Budget, ColumnPreparation, FeatureWarning, PreparationSpec
from lakehouse.errors import ModelError, TableNotFound
from lakehouse.features import described, feature_source
from lakehouse.learning.algorithms import ALGORITHMS, Task, build_pipeline
from lakehouse.learning.column_steps import build_preparation
from lakehouse.learning.origins import prepared_columns
from lakehouse.learning.preparation import Style, plan_columns
from lakehouse.learning.preview import preview_model
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.training_rows import rebuild_training_rows
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.learning.conftest import model, write

TABLE = """
    SELECT range AS id, range % 7 AS x, if(range % 9 = 0, NULL, hash(range) % 1000 / 10.0) AS pay,
    ['red', 'green', 'blue'][range % 3 + 1] AS colour, 'shop' || hash(range) % 80 AS shop, 1 AS same,
    TIMESTAMP '2026-01-01' + to_hours(range::INTEGER) AS opened, if(range % 7 > 3, 'hi', 'lo') AS label FROM range(400)
"""


def snapshot(settings: Settings) -> dict[str, bytes]:
    root = settings.home_dir
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_preview_is_of_the_pipeline_that_training_fits_and_writes_nothing(shared: Settings, lake: Lake) -> None:
    write(lake, "staging.previewed", TABLE)
    contract = model(
        "previewed",
        algorithms=("logistic_regression", "hist_gradient_boosting", "svm"),
        preparation=PreparationSpec(outliers="isolation_forest", columns={"pay": ColumnPreparation(impute="mean")}),
        warnings=(FeatureWarning("x", "tells too much"),),
    )
    before = snapshot(shared)
    found = preview_model(shared, lake, contract, rows=3)
    assert snapshot(shared) == before

    source = feature_source(contract, {})
    with lake.connect(source.tables) as session:
        data = rebuild_training_rows(session, described(source, session.con), version=0)
    preparation = plan_columns(data.train, data.schema, contract.preparation)
    task = Task("classification", 2, len(data.train), preparation.has_text, contract.seed)
    steps = build_pipeline((ALGORITHMS["logistic_regression"],), preparation, task)[:-1]
    expected = steps.fit_transform(data.train, data.train_labels)
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    names = [name.partition("__")[2] for name in steps.get_feature_names_out()]
    assert (found.shown, found.rows_train, found.rows_test) == ("logistic_regression", len(data.train), len(data.test))
    listed = [name for column in found.columns for name in column.outputs] + list(found.row_columns)
    assert sorted(listed) == sorted(names)
    # The first and the last row are among the samples; the target encoding is that of the folds, as training sees it.
    for row, place in ((found.rows[0], 0), (found.rows[-1], -1)):
        for name, value in zip(names, expected[place], strict=True):
            assert [after[name] for after in row.after.values() if name in after] in ([], [pytest.approx(value)])
    plans = {one.feature: one for one in found.columns}
    assert plans["colour"].outputs == ("colour_blue", "colour_green", "colour_red")
    assert plans["pay"].outputs == ("pay", "missingindicator_pay")
    assert set(plans["x"].outputs) == {"x", *(f"x_{value}.0" for value in range(7))}
    assert (plans["same"].outputs, plans["same"].reason) == ((), "has one value in the training rows")
    assert "78 values, more than 50" in plans["shop"].warnings[0]
    assert "is suspected by the contract: tells too much" in plans["x"].warnings
    assert found.row_columns == ("oddness", "is_odd")
    assert [one.algorithm for one in found.candidates] == list(contract.algorithms)
    assert all(one.columns > 8 and one.seconds > 0 for one in found.candidates)


def test_another_candidate_is_shown_by_name_and_selection_leaves_columns_out(shared: Settings, lake: Lake) -> None:
    write(lake, "staging.chosen", TABLE)
    contract = model("chosen", preparation=PreparationSpec(select="statistical", keep=3))
    found = preview_model(shared, lake, contract, rows=0, algorithm="hist_gradient_boosting")
    assert sum(len(one.outputs) for one in found.columns) == 3
    assert found.rows == ()
    with pytest.raises(ModelError, match=r"algorithm knn: is none of its candidates .*one of logistic_regression"):
        preview_model(shared, lake, contract, algorithm="knn")
    with pytest.raises(TableNotFound, match=r"lakehouse run nowhere"):
        preview_model(shared, lake, model("nowhere"))


def test_the_time_that_is_foretold_has_the_search_in_it_and_no_more_than_its_budget(shared: Settings, lake: Lake) -> None:
    write(lake, "staging.searched", TABLE)

    def seconds(budget: Budget) -> list[float]:
        contract = model("searched", algorithms=("logistic_regression", "decision_tree"), budget=budget)
        return [one.seconds for one in preview_model(shared, lake, contract, rows=0).candidates]

    plain, searched = seconds(Budget()), seconds(Budget(trials=6))
    # Four settings each, its own among them: by the first folds of six scopes, three of them by all others.
    fits = 4 * 6 + 3 * (4 + 5 * 3)
    assert searched == pytest.approx([one / 6 * (6 + fits) for one in plain])
    assert sum(seconds(Budget(trials=6, seconds=1e-3))) == pytest.approx(sum(plain) + 1e-3)


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("impute", ["auto", "knn", "mode"])
def test_every_column_has_its_feature_however_the_names_begin(style: Style, impute: str) -> None:
    schema = FeatureSchema.of({"a": "VARCHAR", "a_b": "VARCHAR", "n": "DOUBLE", "n_x": "DOUBLE", "at": "TIMESTAMP", "at_day": "TIMESTAMP"})
    random = np.random.default_rng(0)
    frame = schema.frame(
        {
            "a": random.choice(["b_x", "c", ""], 200),
            "a_b": random.choice(["x", "y"], 200),
            "n": np.where(random.random(200) < 0.2, np.nan, random.normal(size=200)),
            "n_x": random.normal(size=200),
            "at": [None if place % 9 == 0 else pd.Timestamp("2026-01-01") + pd.Timedelta(place, "h") for place in range(200)],
            "at_day": [pd.Timestamp("2026-01-01") + pd.Timedelta(place, "D") for place in range(200)],
        }
    )
    labels = random.choice(["p", "q", "r"], 200).astype(object)
    step = build_preparation(plan_columns(frame, schema, PreparationSpec(impute=impute)), style, problem="classification", seed=7)
    step.fit(frame, labels)
    columns = prepared_columns(step)
    assert [one.name for one in columns] == [name.partition("__")[2] for name in step.get_feature_names_out()]
    owned = {feature: [one.name for one in columns if one.feature == feature] for feature in schema.names}
    assert owned["a"] == ["a_", "a_b_x", "a_c"] if impute != "mode" else owned["a"] == ["a_b_x", "a_c"]
    assert owned["a_b"] == ["a_b_x", "a_b_y"]
    assert owned["n"] == ["n", "missingindicator_n"]
    assert owned["n_x"] == ["n_x"]
    assert owned["at"][:4] == ["at_days", "at_month", "at_weekday", "at_hour"]
    assert "missingindicator_at_days" in owned["at"]
    assert owned["at_day"] == ["at_day_days", "at_day_month", "at_day_weekday", "at_day_hour"]
    # The changed column of a feature is among those that are said to be its.
    for feature in schema.names:
        other = frame.copy()
        other[feature] = frame[feature].to_numpy()[::-1]
        changed = _dense(step.transform(other)) != _dense(step.transform(frame))
        moved = {columns[place].feature for place in np.flatnonzero(changed.any(axis=0))}
        # The most similar rows fill one number's gaps by the others.
        assert moved <= {feature, *(["n"] if impute == "knn" else [])}


def _dense(values: object) -> np.ndarray:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"algorithms": ("logistc_regression",)},
            r"model typos: algorithms: logistc_regression: is unknown.*Did you mean logistic_regression\?",
        ),
        ({"positive_class": "Hi"}, r"model typos: positive_class: is not a value of the target.*found Hi.*Did you mean hi\?"),
        (
            {"preparation": PreparationSpec(columns={"payy": ColumnPreparation(impute="mean")})},
            r"typos\.yaml: preparation\.columns\.payy: is no feature.*Did you mean pay\?",
        ),
    ],
)
def test_what_the_contract_gets_wrong_is_named_with_its_place(shared: Settings, lake: Lake, changes: dict[str, object], said: str) -> None:
    write(lake, "staging.typos", TABLE)
    path = Path("contracts/models/typos.yaml") if "preparation" in changes else None
    with pytest.raises(ModelError, match=said):
        preview_model(shared, lake, replace(model("typos"), path=path, **changes), rows=3)
