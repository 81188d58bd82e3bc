"""What every algorithm owes: it learns from every kind of column, meets what it never saw, and survives storage."""

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from lakehouse.errors import ModelError
from lakehouse.learning.algorithms import ALGORITHMS, Task, build_pipeline, choose_candidates
from lakehouse.learning.candidates import BOOSTED_ON_THREADS, best_candidate, cross_validate, fit, make_folds, with_blend
from lakehouse.learning.evaluation import average, measure, predict
from lakehouse.learning.fingerprint import model_digest
from lakehouse.learning.preparation import Preparation, Treatment, plan_columns
from lakehouse.learning.registry import TRUSTED_TYPES, ModelSpec, load_model, save_model
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.tuning import with_parameters

ROWS = 240
TYPES = {
    "amount": "DECIMAL(10,2)",
    "stars": "INTEGER",
    "member": "BOOLEAN",
    "opened": "TIMESTAMP WITH TIME ZONE",
    "colour": "VARCHAR",
    "shop": "VARCHAR",
    "remark": "VARCHAR",
    "empty": "DOUBLE",
    "code": "VARCHAR",
}


@pytest.fixture(scope="module")
def schema() -> FeatureSchema:
    return FeatureSchema.of(TYPES | {"nested": "STRUCT(a INTEGER)"})


@pytest.fixture(scope="module")
def frame(schema: FeatureSchema) -> pd.DataFrame:
    random = np.random.default_rng(0)
    words = np.array("quick brown fox jumps over lazy dogs again and".split())
    return schema.frame(
        {
            "amount": np.where(random.random(ROWS) < 0.1, np.nan, random.normal(size=ROWS)),
            "stars": random.integers(0, 6, ROWS),
            "member": [None if value < 0.1 else value > 0.5 for value in random.random(ROWS)],
            "opened": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(random.integers(0, 10**6, ROWS), unit="s"),
            "colour": random.choice(["red", "green", "blue"], ROWS),
            "shop": [f"shop{number}" for number in random.integers(0, 70, ROWS)],
            "remark": [" ".join(random.choice(words, 5)) for _ in range(ROWS)],
            "empty": [None] * ROWS,
            "code": [f"C{number:05}" for number in range(ROWS)],
        }
    )


@pytest.fixture(scope="module")
def preparation(frame: pd.DataFrame, schema: FeatureSchema) -> Preparation:
    return plan_columns(frame, schema)


def labels(problem: str, frame: pd.DataFrame, classes: int = 2) -> np.ndarray:
    signal = frame["stars"] + (frame["colour"] == "red") * 2
    if problem == "regression":
        return signal.to_numpy(dtype=float)
    return np.asarray([f"class {int(value) % classes}" for value in signal], dtype=object)


def task(problem: str, classes: int = 2) -> Task:
    return Task(problem, classes if problem == "classification" else 0, ROWS, has_text=True, seed=7)


def test_each_column_becomes_what_its_type_and_values_say(preparation):
    assert {one.feature: one.treatment for one in preparation.columns} == {
        "amount": Treatment.NUMBER,
        "stars": Treatment.CODE,
        "member": Treatment.NUMBER,
        "opened": Treatment.DATE_PARTS,
        "colour": Treatment.ONE_HOT,
        "shop": Treatment.TARGET_ENCODED,
        "remark": Treatment.TEXT,
        "empty": Treatment.DROPPED,
        "code": Treatment.DROPPED,
    }


CASES = [
    (problem, classes, name)
    for problem, classes in (("classification", 2), ("classification", 3), ("regression", 0))
    for name, algorithm in ALGORITHMS.items()
    if problem in algorithm.problems and (name not in {"gradient_boosting", "knn", "decision_tree"} or classes != 3)
]


@pytest.mark.parametrize(("problem", "classes", "name"), CASES)
def test_every_algorithm_learns_meets_the_unknown_and_survives_storage(problem, classes, name, frame, schema, preparation):
    truth = labels(problem, frame, classes)
    fitted = [build_pipeline((ALGORITHMS[name],), preparation, task(problem, classes)) for _ in range(2)]
    for pipeline, threads in zip(fitted, (1, 2), strict=True):
        fit(pipeline, frame, truth, threads=threads)
    strange = schema.frame(
        pd.DataFrame({"colour": ["purple", None], "remark": ["", "words never heard"], "stars": [99, None], "opened": [None, "2031-05-05"]})
    )
    stored = skops.io.dumps(fitted[0])
    assert set(skops.io.get_untrusted_types(data=stored)) <= set(TRUSTED_TYPES)
    loaded = skops.io.loads(stored, trusted=list(TRUSTED_TYPES))
    before, after = (predict(one, strange, positive=None) for one in (fitted[0], loaded))
    assert before.predicted.tolist() == after.predicted.tolist()
    assert len({model_digest(one) for one in (*fitted, loaded)}) == 1


@pytest.mark.parametrize("names", [("hist_gradient_boosting",), ("logistic_regression", "hist_gradient_boosting")])
def test_boosting_is_the_same_model_in_the_same_file_on_any_number_of_threads(names, tmp_path):
    random = np.random.default_rng(3)
    schema = FeatureSchema.of({f"x{place}": "DOUBLE" for place in range(6)})
    values = random.normal(size=(BOOSTED_ON_THREADS, 6))
    frame = schema.frame({f"x{place}": values[:, place] for place in range(6)})
    truth = np.where(values[:, 0] + values[:, 1] * values[:, 2] + random.normal(size=len(values)) > 0, "yes", "no").astype(object)
    asked = Task("classification", 2, BOOSTED_ON_THREADS, has_text=False, seed=7)
    spec = ModelSpec(schema, "classification", ("no", "yes"), "yes", "VARCHAR", "")
    made = set()
    for threads in (1, 2):
        members = [with_parameters(ALGORITHMS[name], {"max_iter": 4}) for name in names]
        pipeline = build_pipeline(members, plan_columns(frame, schema), asked)
        fit(pipeline, frame, truth, threads=threads)
        save_model(pipeline, spec, tmp_path / str(threads))
        with zipfile.ZipFile(tmp_path / str(threads) / "model.skops") as stored:
            # Each object has its place in memory for a name.
            described_as = re.sub(r"\d{9,}", "", stored.read("schema.json").decode())
        said = predict(pipeline, frame, positive="yes").probabilities
        made.add((model_digest(pipeline), said.tobytes(), described_as))
    assert len(made) == 1


@pytest.mark.parametrize(("problem", "name"), [(problem, name) for problem, classes, name in CASES if classes != 3 and name != "baseline"])
def test_every_algorithm_learns_from_numbers_categories_and_gaps(problem, name):
    random = np.random.default_rng(5)
    schema = FeatureSchema.of({"x": "DOUBLE", "z": "DOUBLE", "kind": "VARCHAR"})
    x, kind = random.normal(size=500), random.choice(["a", "b", "c"], 500)
    signal = x + 2 * (kind == "a") + random.normal(0, 0.2, 500)
    frame = schema.frame({"x": np.where(random.random(500) < 0.05, np.nan, x), "z": random.normal(size=500), "kind": kind})
    # A target in the thousands is learned as well as one in units.
    truth = signal * 5000 if problem == "regression" else np.where(signal > 0.7, "yes", "no").astype(object)
    pipeline = build_pipeline((ALGORITHMS[name],), plan_columns(frame, schema), Task(problem, 2, 400, has_text=False, seed=7))
    fit(pipeline, frame[:400], truth[:400])
    reached = measure(truth[400:], predict(pipeline, frame[400:], positive="yes"))
    assert reached["r2" if problem == "regression" else "roc_auc"] > 0.75


@pytest.mark.parametrize(("problem", "name"), [(problem, name) for problem, classes, name in CASES if classes != 3])
def test_a_search_space_is_of_the_estimator_and_a_cost_grows_with_the_table(problem, name):
    algorithm = ALGORITHMS[name]
    estimator = algorithm.build(task(problem))
    for parameter, values in algorithm.space(estimator).items():
        for value in values:
            changed = estimator.set_params(**{parameter: value})
            inner = changed.get_params().get(parameter.rpartition("__")[0], changed)
            inner._validate_params()
    cost = algorithm.cost[problem]
    assert 0 < cost.estimate_s(1000, 10) < cost.estimate_s(100_000, 10) <= cost.estimate_s(100_000, 40, classes=5)
    assert algorithm.max_rows is None or cost.estimate_s(algorithm.max_rows, 30) < 300


def test_the_digest_notices_one_changed_label(frame, preparation):
    truth = labels("classification", frame)
    other = truth.copy()
    other[0] = "class 1" if other[0] == "class 0" else "class 0"
    pipelines = [build_pipeline((ALGORITHMS["logistic_regression"],), preparation, task("classification")) for _ in range(2)]
    for pipeline, answer in zip(pipelines, (truth, other), strict=True):
        fit(pipeline, frame, answer)
    assert model_digest(pipelines[0]) != model_digest(pipelines[1])


def test_a_frame_is_the_same_from_records_text_and_columns_in_any_order(schema):
    typed = schema.frame(pd.DataFrame([{"amount": 1.5, "member": True, "opened": "2026-01-01T00:00:00Z", "colour": "red"}]))
    text = schema.frame(pd.DataFrame([{"colour": "red", "opened": "2026-01-01 00:00:00+00:00", "member": 1, "amount": "1.5", "more": 3}]))
    pd.testing.assert_frame_equal(typed, text)
    assert list(typed.columns) == [name for name in TYPES]
    with pytest.raises(ModelError, match="amount"):
        schema.frame({"amount": ["a lot"]})


def test_a_blend_is_used_when_it_earns_its_cost(frame, preparation):
    truth = labels("classification", frame)
    folds = make_folds(np.arange(ROWS) % 3, truth, by_time=False, is_classification=True)
    names = ("baseline", "logistic_regression", "naive_bayes")
    candidates = [
        cross_validate(ALGORITHMS[name], preparation, task("classification"), frame=frame, labels=truth, folds=folds, positive="class 1")
        for name in names
    ]
    assert best_candidate(candidates, "roc_auc").name != "baseline"
    assert best_candidate(candidates, "log_loss").metrics["log_loss"] == min(one.metrics["log_loss"] for one in candidates)
    with_all = with_blend(candidates, "roc_auc", truth, folds)
    assert [one.name for one in with_all[:3]] == list(names)
    # The blend that is fitted says what the blend that was judged said.
    members = (ALGORITHMS["logistic_regression"], ALGORITHMS["naive_bayes"])
    blended = build_pipeline(members, preparation, task("classification"))
    parts = [build_pipeline((member,), preparation, task("classification")) for member in members]
    for one in (blended, *parts):
        fit(one, frame, truth)
    mean = average(*(predict(part, frame, positive="class 1") for part in parts))
    np.testing.assert_allclose(predict(blended, frame, positive="class 1").probabilities, mean.probabilities)


def test_folds_by_time_never_learn_from_the_future():
    fold = np.asarray([2, 0, 1, 0, 2, 1])
    folds = make_folds(fold, np.asarray([0.0] * 6), by_time=True, is_classification=False)
    assert [(fold[one.fit].max(), set(fold[one.judge])) for one in folds] == [(0, {1}), (1, {2})]
    times = np.asarray([50.0, 10.0, 30.0, 20.0, 60.0, 40.0])
    apart = make_folds(fold, np.asarray([0.0] * 6), by_time=True, is_classification=False, times=times, gap_s=10)
    assert [sorted(times[one.fit]) for one in apart] == [[10.0], [10.0, 20.0, 30.0]]


@pytest.mark.parametrize(
    ("names", "rows", "chosen"),
    [
        ((), 1000, ["baseline", "logistic_regression", "random_forest", "hist_gradient_boosting"]),
        (("knn",), 1000, ["baseline", "knn"]),
        (("knn",), 60_000, ["baseline", "random_forest"]),
        (("knn", "random_forest"), 300_000, ["baseline", "hist_gradient_boosting"]),
        (("svm",), 200_000, ["baseline", "linear_svm"]),
    ],
)
def test_what_does_not_scale_is_replaced_and_said_so(names, rows, chosen):
    choice = choose_candidates(names, Task("classification", 2, rows, has_text=False, seed=7))
    assert [one.name for one in choice.algorithms] == chosen
    assert bool(choice.notes) == (rows > 50_000)


@pytest.mark.parametrize(("name", "problem"), [("deep_thought", "is unknown"), ("ridge", "not one for classification")])
def test_an_algorithm_that_does_not_fit_is_refused(name, problem):
    with pytest.raises(ModelError, match=problem):
        choose_candidates([name], Task("classification", 2, 100, has_text=False, seed=7))


def test_a_stored_model_can_not_bring_its_own_types(tmp_path: Path):
    schema = FeatureSchema.of({"x": "DOUBLE"})
    spec = ModelSpec(schema, "classification", ("a", "b"), "b", "VARCHAR", "digest")
    pipeline = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], ["a", "a", "b", "b"])
    save_model(pipeline, spec, tmp_path / "good")
    assert load_model(tmp_path / "good", name="m", version="1").spec == spec

    # A file that names another type, in a folder that calls it trusted.
    folder = tmp_path / "bad"
    save_model(pipeline, spec, folder)
    source = zipfile.ZipFile(io.BytesIO((folder / "model.skops").read_bytes()))
    document = json.loads(source.read("schema.json"))
    document["__module__"], document["__class__"] = "os", "system"
    with zipfile.ZipFile(folder / "model.skops", "w") as target:
        for name in source.namelist():
            target.writestr(name, json.dumps(document) if name == "schema.json" else source.read(name))
    with pytest.raises(ModelError, match=r"not trusted.*os\.system"):
        load_model(folder, name="m", version="1")
    (folder / "MLmodel").write_text("flavors: {}")
    with pytest.raises(ModelError, match="can't be read"):
        load_model(folder, name="m", version="1")
