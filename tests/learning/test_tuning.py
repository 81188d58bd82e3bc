"""The search for settings: within its budget, the same every time, never judged by what it was made with, and not begun twice."""

import time
from collections.abc import Callable
from dataclasses import replace
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contracts import Budget
from lakehouse.learning import train, tuning
from lakehouse.learning.algorithms import ALGORITHMS, Task
from lakehouse.learning.candidates import dealt_anew, make_folds
from lakehouse.learning.preparation import plan_columns
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.trials import TrialFile
from lakehouse.learning.tuning import Material, Scope, Tuned, sampled_parameters, tune
from tests.learning.conftest import model, write

ROWS = 300
TASK = Task("classification", 2, ROWS, False, 7)
ALGORITHM = ALGORITHMS["decision_tree"]


def material(seed: int = 0, *, signal: float = 1.0) -> Material:
    random = np.random.default_rng(seed)
    schema = FeatureSchema.of({"x": "DOUBLE", "z": "DOUBLE"})
    frame = schema.frame(pd.DataFrame({"x": random.normal(size=ROWS), "z": random.normal(size=ROWS)}))
    yes = random.random(ROWS) < 1 / (1 + np.exp(-3 * signal * np.sin(3 * frame["x"].to_numpy())))
    labels = np.where(yes, "yes", "no").astype(object)
    return Material(plan_columns(frame, schema), TASK, frame, labels, "yes", "roc_auc")


def scopes(given: Material, count: int = 3) -> list[Scope]:
    dealt = np.arange(ROWS) % count
    found = [Scope("all", tuple(make_folds(dealt, given.labels, by_time=False, is_classification=True)))]
    for number in range(count):
        inside = np.where(dealt == number, -1, dealt)
        found.append(Scope(f"without {number}", tuple(make_folds(inside, given.labels, by_time=False, is_classification=True))))
    return found


def searched(budget: Budget, trials: TrialFile | None = None, clock: Callable[[], float] = time.monotonic) -> Tuned:
    given = material()
    listed = [ALGORITHMS["baseline"], ALGORITHM]
    return tune(listed, given, scopes(given), budget, trials or TrialFile(), seed=7, clock=clock)["decision_tree"]


class Slow:
    """Trials that take as long as they are said to, by a clock of their own; which settings are good follows from their names."""

    def __init__(self, first_s: float, later_s: float) -> None:
        self.now, self.begun = 0.0, list[float]()
        self._first_s, self._later_s = first_s, later_s

    def clock(self) -> float:
        return self.now

    def judge(self, trial: tuning._Trial, _: Material) -> tuple[float, float]:
        self.begun.append(self.now)
        took = self._later_s if trial.number else self._first_s
        self.now += took
        return crc32(trial.name.encode()) % 1000 / 1000, took


def test_no_search_sees_the_rows_of_the_fold_that_judges_it():
    given = material()
    [everything, *inner] = scopes(given)
    for outer, scope in zip(everything.folds, inner, strict=True):
        for fold in scope.folds:
            assert not set(outer.judge) & (set(fold.fit) | set(fold.judge))


def test_settings_are_different_not_the_algorithms_own_and_the_same_every_time():
    listed = sampled_parameters(ALGORITHM, TASK, 100, seed=7)
    own = ALGORITHM.build(TASK).get_params()
    assert len({str(one) for one in listed}) == len(listed) == 8
    assert all(any(own[key] != value for key, value in one.items()) for one in listed)
    assert sampled_parameters(ALGORITHM, TASK, 3, seed=7) == listed[:3]
    assert sampled_parameters(ALGORITHM, TASK, 8, seed=8) != listed


def test_a_search_is_the_same_on_one_process_and_on_two():
    alone, together = searched(Budget(trials=4)), searched(Budget(trials=4, workers=2))
    assert (alone.parameters, alone.trials) == (together.parameters, together.trials) == (together.parameters, 4)


@pytest.mark.parametrize("later_s", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("seconds", [0.5, 7.0, 30.0, 45.0, 60.0, 1000.0])
def test_no_trial_is_begun_after_the_time_and_as_many_trials_repeat_the_search(monkeypatch, seconds, later_s):
    part = Slow(1.0, later_s)
    monkeypatch.setattr(tuning, "_judge", part.judge)
    found = searched(Budget(trials=8, seconds=seconds), clock=part.clock)
    assert all(begun < seconds for begun in part.begun)
    whole = Slow(1.0, 0.0)
    monkeypatch.setattr(tuning, "_judge", whole.judge)
    same = searched(Budget(trials=found.trials), clock=whole.clock)
    assert (same.parameters, [str(one.build(TASK)) for one in same.per_fold]) == (
        found.parameters,
        [str(one.build(TASK)) for one in found.per_fold],
    )
    # Time for the best settings' other folds is set aside: they are judged where they take no longer than the first.
    if seconds >= 30 and later_s <= 1:
        assert found.trials > 0
    assert found.trials == 8 or seconds < 1000


def test_a_search_that_time_ended_finds_the_same_when_it_is_begun_again(monkeypatch, tmp_path):
    part = Slow(1.0, 1.0)
    monkeypatch.setattr(tuning, "_judge", part.judge)
    trials = TrialFile(tmp_path / "trials.ndjson")
    found = searched(Budget(trials=8, seconds=45), trials, clock=part.clock)
    made = len(part.begun)
    again = searched(Budget(trials=8, seconds=45), TrialFile(tmp_path / "trials.ndjson"), clock=part.clock)
    assert (again.parameters, again.trials, len(part.begun)) == (found.parameters, found.trials, made)


def test_a_search_that_was_killed_goes_on_where_it_stopped(tmp_path, monkeypatch):
    whole = searched(Budget(trials=6))
    path = tmp_path / "trials.ndjson"
    made = 0

    def killed(*_: object) -> tuple[float, float]:
        nonlocal made
        made += 1
        if made > 9:
            raise KeyboardInterrupt
        return real(*_)

    real = tuning._judge
    monkeypatch.setattr(tuning, "_judge", killed)
    with pytest.raises(KeyboardInterrupt):
        searched(Budget(trials=6), TrialFile(path))
    assert len(path.read_text().splitlines()) == 9
    with path.open("a") as file:
        file.write('{"trial": "cut o')
    again = 0

    def counted(*_: object) -> tuple[float, float]:
        nonlocal again
        again += 1
        return real(*_)

    monkeypatch.setattr(tuning, "_judge", counted)
    resumed = searched(Budget(trials=6), TrialFile(path))
    assert (resumed.parameters, resumed.trials) == (whole.parameters, whole.trials)
    once = again
    again = 0
    searched(Budget(trials=6))
    assert once == again - 9


def test_a_line_that_was_cut_off_spoils_no_later_one(tmp_path):
    path = tmp_path / "trials.ndjson"
    TrialFile(path).add("a", 0.5, seconds=1.0)
    with path.open("a") as file:
        file.write('{"trial": "b", "sco')
    second = TrialFile(path)
    assert (second.get("a"), second.get("b")) == (0.5, None)
    second.add("b", 0.6, seconds=1.0)
    second.add("c", float("nan"), seconds=1.0)
    third = TrialFile(path)
    assert (third.get("a"), third.get("b"), str(third.get("c")), third.seconds) == (0.5, 0.6, "nan", 3.0)


def test_memory_limits_the_workers():
    from lakehouse.learning.tuning import _workers

    given = material()
    assert _workers(given, Budget(workers=8)) == 8
    assert _workers(given, Budget(workers=8, memory_gb=1.0)) == 2
    assert _workers(given, Budget(workers=8, memory_gb=0.01)) == 1


def test_folds_that_are_dealt_anew_keep_units_together():
    units = np.repeat(np.arange(40), 3)
    folds = units % 5
    other = dealt_anew(folds, units, None, seed=1)
    assert (other.reshape(40, 3) == other.reshape(40, 3)[:, :1]).all()
    assert sorted(np.bincount(other)) == [24] * 5
    assert (other != folds).any()


@given(st.integers(0, 2**16), st.lists(st.integers(1, 3), min_size=12, max_size=60), st.data())
def test_folds_that_are_dealt_anew_have_as_many_units_of_each_class(seed, sizes, data):
    """However rare a class is, no fold has two units of it more than another: with as many units as folds, none goes without."""
    units = np.repeat(np.arange(len(sizes)), sizes)
    classes = np.asarray(data.draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=len(sizes), max_size=len(sizes))), dtype=object)
    other = dealt_anew(units % 4, units, classes[units], seed=seed)
    of_units = other[np.unique(units, return_index=True)[1]]
    assert (of_units[units] == other).all()
    for rows in (classes == one for one in (*set(classes), classes)):
        counts = np.bincount(of_units[np.broadcast_to(rows, len(sizes))], minlength=4)
        assert counts.max() - counts.min() <= 1


@pytest.mark.slow
def test_a_training_with_a_budget_is_recorded_repeated_and_leaves_no_trials(shared, lake, now):
    write(
        lake,
        "staging.waves",
        "SELECT range AS id, (hash(range) % 1000) / 100 AS x, if(sin((hash(range) % 1000) / 100 * 4) + (hash(range + 3) % 100) / 150 > 0.33,"
        " 'yes', 'no') AS label FROM range(900)",
    )
    contract = model("waves", algorithms=("decision_tree", "knn"), folds=3, positive_class="yes", budget=Budget(trials=6, repeats=2))
    report = train(shared, lake, contract, run="r", now=now)
    tuned = {one.algorithm: one for one in report.candidates}
    assert any(one.parameters for one in tuned.values())
    assert any(note.startswith("tried 6 settings") for note in report.notes)
    assert not list((shared.home_dir / "tmp" / "trials").glob("waves-*"))
    plain = train(shared, lake, replace(contract, budget=Budget(), digest="plain"), run="r", now=now)
    assert report.metrics["roc_auc"] > plain.metrics["roc_auc"] - 0.02
    again = train(shared, lake, contract, run="r", now=now, force=True)
    assert (again.model_digest, again.notes) == (report.model_digest, report.notes)


@pytest.mark.slow
def test_where_there_is_nothing_to_learn_a_search_does_not_find_it():
    scores: list[float] = []
    for seed in range(20):
        given = material(seed, signal=0.0)
        found = tune([ALGORITHM], given, scopes(given), Budget(trials=8), TrialFile(), seed=7)["decision_tree"]
        from lakehouse.learning.candidates import cross_validate

        judged = cross_validate(
            found.final,
            given.preparation,
            TASK,
            frame=given.frame,
            labels=given.labels,
            folds=scopes(given)[0].folds,
            positive="yes",
            per_fold=found.per_fold,
        )
        scores.append(judged.metrics["roc_auc"])
    # The mean of twenty areas of 300 rows without signal lies within 0.03 of chance.
    assert abs(float(np.mean(scores)) - 0.5) < 0.03
