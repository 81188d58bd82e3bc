"""What a contract says of the columns' preparation happens, in fold, for every kind of column and whatever comes later."""

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from lakehouse.contracts import ColumnPreparation, PreparationSpec
from lakehouse.errors import ModelError
from lakehouse.learning.algorithms import ALGORITHMS, Task, build_pipeline
from lakehouse.learning.candidates import fit
from lakehouse.learning.column_steps import build_preparation, build_selection
from lakehouse.learning.evaluation import predict
from lakehouse.learning.fingerprint import model_digest
from lakehouse.learning.preparation import Style, Treatment, plan_columns
from lakehouse.learning.registry import TRUSTED_TYPES
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.transformers import ClippedToFences, CyclicDates, NearestRows, Oddness, Strongest

ROWS = 300
SCHEMA = FeatureSchema.of(
    {
        "amount": "DOUBLE",
        "late": "DOUBLE",
        "stars": "INTEGER",
        "member": "BOOLEAN",
        "opened": "TIMESTAMP",
        "size": "VARCHAR",
        "shop": "VARCHAR",
        "remark": "VARCHAR",
    }
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    random = np.random.default_rng(3)
    words = np.array("quick brown fox jumps over lazy dogs again and".split())
    return SCHEMA.frame(
        {
            "amount": np.where(random.random(ROWS) < 0.1, np.nan, random.normal(50, 5, ROWS)),
            # Known for the newest rows only: early folds hold nothing of it.
            "late": [None] * (ROWS - 50) + list(range(50)),
            "stars": random.integers(0, 6, ROWS),
            "member": random.random(ROWS) > 0.9,
            "opened": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(random.integers(0, 10**7, ROWS), unit="s"),
            "size": random.choice(["small", "medium", "large", ""], ROWS),
            "shop": [f"shop{number}" for number in random.integers(0, 70, ROWS)],
            "remark": [" ".join(random.choice(words, 5)) for _ in range(ROWS)],
        }
    )


@pytest.fixture(scope="module")
def labels(frame: pd.DataFrame) -> np.ndarray:
    return np.where(frame["stars"] + (frame["size"] == "large") * 2 > 3, "yes", "no").astype(object)


def strange() -> pd.DataFrame:
    nothing = {name: [None] for name in SCHEMA.names}
    unheard = {"amount": [1e9], "late": [-5.0], "stars": [99], "size": ["huge"], "shop": ["new"], "remark": ["unheard words"]}
    return pd.concat([SCHEMA.frame(nothing), SCHEMA.frame(unheard)], ignore_index=True)


# Every choice is there; those that do not touch each other are tried together.
CHOICES = [
    {"impute": "mean", "encode": "one_hot", "scale": "standard", "outliers": "z_score", "dates": "cyclic"},
    {"impute": "median", "encode": "ordinal", "scale": "min_max", "outliers": "iqr", "dates": "elapsed"},
    {"impute": "mode", "encode": "target", "scale": "robust", "outliers": "isolation_forest", "dates": "none"},
    {"impute": "knn", "scale": "none"},
    {"text": "words"},
    {"text": "letters"},
    {"text": "none"},
    {"select": "statistical", "keep": 0.3},
    {"select": "model", "keep": 5.0},
    {
        "columns": {
            "size": ColumnPreparation(encode="ordinal", order=("small", "medium", "large"), impute="mode"),
            "stars": ColumnPreparation(encode="target", impute="mode"),
            "amount": ColumnPreparation(impute="knn", outliers="iqr", outlier_threshold=3.0, scale="robust"),
            "remark": ColumnPreparation(encode="one_hot"),
            "shop": ColumnPreparation(text="words"),
        }
    },
]


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("said", CHOICES, ids=lambda said: "-".join(map(str, said.values() if "columns" not in said else said)))
def test_every_choice_meets_gaps_the_unknown_and_storage(said: dict, style: Style, frame: pd.DataFrame, labels: np.ndarray) -> None:
    # Words take most of the time, and say nothing of the other choices.
    schema = SCHEMA if {"text", "columns"} & set(said) else FeatureSchema(SCHEMA.features[:-1])
    preparation = plan_columns(frame, schema, PreparationSpec(**said))
    # The first rows hold nothing of a column that starts late, and one value of another.
    early = frame.iloc[:200].assign(member=0.0)

    def fitted() -> tuple:
        step = build_preparation(preparation, style, problem="classification", seed=7)
        values = step.fit_transform(early, labels[:200])
        chosen = build_selection(preparation, problem="classification", seed=7)
        return (step,) if chosen is None else (step, chosen.fit(values, labels[:200]))

    def given(steps: tuple, rows: pd.DataFrame) -> np.ndarray:
        values = rows
        for step in steps:
            values = step.transform(values)
        return np.asarray(values.toarray() if hasattr(values, "toarray") else values)

    steps = fitted()
    out = given(steps, pd.concat([frame, strange()], ignore_index=True))
    names = steps[0].get_feature_names_out()
    assert out.shape == (ROWS + 2, len(names if len(steps) == 1 else steps[1].get_feature_names_out(names)))
    assert np.isfinite(out).all()
    assert style is not Style.COUNTS or out.min() >= 0
    stored = [skops.io.dumps(step) for step in steps]
    assert all(set(skops.io.get_untrusted_types(data=one)) <= set(TRUSTED_TYPES) for one in stored)
    loaded = tuple(skops.io.loads(one, trusted=list(TRUSTED_TYPES)) for one in stored)
    np.testing.assert_array_equal(given(loaded, strange()), given(steps, strange()))
    assert model_digest(list(fitted())) == model_digest(list(steps)) == model_digest(list(loaded))


def test_what_is_not_said_is_as_ever(frame: pd.DataFrame, labels: np.ndarray) -> None:
    task = Task("classification", 2, ROWS, has_text=True, seed=7)
    spelled_out = PreparationSpec(columns={name: ColumnPreparation() for name in SCHEMA.names})
    found = []
    for spec in (None, PreparationSpec(), spelled_out):
        pipeline = build_pipeline((ALGORITHMS["logistic_regression"],), plan_columns(frame, SCHEMA, spec), task)
        fit(pipeline, frame, labels)
        found.append(model_digest(pipeline))
    assert len(set(found)) == 1


def test_the_digest_does_not_depend_on_where_words_lay_in_memory() -> None:
    one, other = (TfidfVectorizer().fit(["some words", "other words"]) for _ in range(2))
    other._stop_words_id = 1
    assert model_digest(one) == model_digest(other)


def test_single_columns_differ_from_the_others_and_the_plan_says_so(frame: pd.DataFrame) -> None:
    spec = PreparationSpec(
        scale="robust", columns={"amount": ColumnPreparation(impute="mean"), "stars": ColumnPreparation(encode="target")}
    )
    plans = {one.feature: one for one in plan_columns(frame, SCHEMA, spec).columns}
    assert plans["amount"].reason == "number; as the contract says impute: mean; scale: robust"
    assert plans["late"].reason == "number; as the contract says scale: robust"
    assert plans["stars"].treatment is Treatment.TARGET_ENCODED
    assert "scale" not in plans["size"].reason


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("amuont", ColumnPreparation(impute="mean"), r"preparation\.columns\.amuont: is no feature of the model\. Did you mean amount\?"),
        ("nothing_like_it", ColumnPreparation(), "expected one of amount, late"),
        (
            "size",
            ColumnPreparation(impute="mean"),
            "can't have impute: mean .*expected impute: auto or mode; found VARCHAR, which becomes one hot",
        ),
        ("remark", ColumnPreparation(scale="robust"), "can't have scale"),
        ("member", ColumnPreparation(outliers="iqr"), "can't have outliers"),
        ("amount", ColumnPreparation(dates="cyclic"), "can't have dates"),
        ("amount", ColumnPreparation(text="words"), "can't have text"),
        ("opened", ColumnPreparation(encode="target"), "can't have encode"),
        ("stars", ColumnPreparation(encode="ordinal", order=("1", "2")), "numbers have one"),
    ],
)
def test_what_a_column_can_not_become_is_refused(name: str, own: ColumnPreparation, message: str, frame: pd.DataFrame) -> None:
    with pytest.raises(ModelError, match=message):
        plan_columns(frame, SCHEMA, PreparationSpec(columns={name: own}))


def test_warnings_say_what_many_values_and_many_gaps_mean(frame: pd.DataFrame) -> None:
    plain = plan_columns(frame.assign(stars=np.arange(ROWS, dtype=float)), SCHEMA)
    told = {warning.split(maxsplit=1)[0]: warning for warning in plain.warnings}
    assert set(told) == {"late", "shop", "stars"}
    assert "69 values, more than 50: a column for each would be too many, so each value becomes the mean target" in told["shop"]
    assert "is missing in 83% of the training rows" in told["late"]
    assert "is different in every row" in told["stars"]
    ranked = plan_columns(frame, SCHEMA, PreparationSpec(encode="ordinal"))
    # What is to be said of several columns is said once.
    assert any(warning.startswith("size, shop: each has no order in the contract") for warning in ranked.warnings)


# ---- the steps


numbers = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=1, max_size=40)


@given(train=numbers, later=numbers, method=st.sampled_from(["z_score", "iqr"]))
@settings(max_examples=60, deadline=None)
def test_fences_are_learned_once_keep_gaps_and_clip_twice_like_once(train: list[float], later: list[float], method: str) -> None:
    step = ClippedToFences(method, threshold=1.5).fit(np.asarray([train]).T)
    values = np.asarray([later]).T
    once = step.transform(values)
    np.testing.assert_array_equal(step.transform(once), once)
    np.testing.assert_array_equal(np.isnan(once), np.isnan(values))
    inside = (values >= step.low_) & (values <= step.high_)
    np.testing.assert_array_equal(once[inside], values[inside])


def test_an_outlier_is_clipped_but_the_rare_values_of_a_column_that_is_mostly_one_are_kept() -> None:
    usual = np.r_[np.arange(100.0), 1e6]
    mostly_zero = np.r_[np.zeros(99), 5.0, 7.0]
    out = ClippedToFences("iqr", threshold=1.5).fit_transform(np.column_stack([usual, mostly_zero]))
    assert out[-1, 0] == pytest.approx(75 + 1.5 * 50)
    assert out[-2:, 1].tolist() == [5.0, 7.0]


def test_a_gap_is_filled_by_the_most_similar_rows_whatever_the_unit() -> None:
    random = np.random.default_rng(0)
    kind = np.repeat([0.0, 1.0], 500)
    values = np.column_stack([10 + 90 * kind, kind + random.normal(0, 0.01, 1000), random.normal(0, 1, 1000) * 0.0])
    values[:, 0] += random.normal(0, 1, 1000)
    holes = values.copy()
    holes[::10, 0] = np.nan
    step = NearestRows(1, max_rows=200).fit(holes)
    filled = step.transform(holes)
    assert np.abs(filled[::10, 0] - values[::10, 0]).max() < 8
    assert filled[:, 1].tolist() == np.isnan(holes[:, 0]).astype(float).tolist()
    assert step.get_feature_names_out(["pay", "kind", "same"]).tolist() == ["pay", "missingindicator_pay"]


def test_odd_rows_are_told_and_none_is_left_out() -> None:
    values = np.r_[np.random.default_rng(0).normal(size=(500, 2)), [[12.0, -12.0]]]
    out = Oddness(share=0.01, random_state=1).fit_transform(values)
    assert (len(out), out[-1, 1]) == (501, 1.0)
    assert 4 <= out[:, 1].sum() <= 7
    assert out[-1, 0] == out[:, 0].max()


@pytest.mark.parametrize("by", ["statistical", "model"])
@pytest.mark.parametrize("problem", ["classification", "regression"])
def test_the_columns_that_say_something_are_kept(by: str, problem: str) -> None:
    random = np.random.default_rng(0)
    values = np.c_[random.normal(size=(400, 3)), np.ones(400), random.normal(size=(400, 2))]
    target = values[:, 1] + values[:, 4]
    answer = target if problem == "regression" else np.where(target > 0, "b", "a").astype(object)
    step = Strongest(by, keep=2, problem=problem, random_state=1).fit(values, answer)
    assert step.get_support(indices=True).tolist() == [1, 4]
    assert len(Strongest(by, keep=0.01, problem=problem, random_state=1).fit(values, answer).get_support(indices=True)) == 1
    assert Strongest(by, keep=99, problem=problem, random_state=1).fit(values, answer).get_support().all()


def test_december_is_beside_january() -> None:
    days = pd.DataFrame({"at": pd.to_datetime(["2026-01-05", "2026-12-07", "2026-07-06", None]).astype("datetime64[us]")})
    out = CyclicDates().fit(days).transform(days)
    january, december, july = out[:3, 1:3]
    assert np.linalg.norm(january - december) < np.linalg.norm(january - july)
    assert np.isnan(out[3]).all()
    assert len(CyclicDates().fit(days).get_feature_names_out()) == out.shape[1]


def test_a_choice_reaches_the_model(frame: pd.DataFrame, labels: np.ndarray) -> None:
    task = Task("classification", 2, ROWS, has_text=True, seed=7)
    spec = PreparationSpec(outliers="isolation_forest", select="model", keep=8, impute="knn")
    pipeline = build_pipeline((ALGORITHMS["logistic_regression"],), plan_columns(frame, SCHEMA, spec), task)
    fit(pipeline, frame, labels)
    assert list(pipeline.named_steps) == ["prepare", "select", "estimate"]
    assert pipeline.named_steps["estimate"].n_features_in_ == 8
    assert len(predict(pipeline, strange(), positive="yes").predicted) == 2


def test_the_warning_about_a_class_that_is_too_rare_says_which_and_what_it_means() -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import TargetEncoder

    labels = np.asarray(["often"] * 40 + ["seldom"] * 3, dtype=object)
    values = pd.DataFrame({"x": ["a", "b"] * 21 + ["a"]})
    told = fit(make_pipeline(TargetEncoder(random_state=0), DummyClassifier()), values, labels)
    assert any(one.startswith("class seldom has only 3 of the rows that one fit learns from, fewer than the 5 parts") for one in told), told
    assert not any("least populated" in one for one in told)
