"""A model made again from what was recorded: the same after many versions, compaction and vacuum; what is otherwise is named."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.errors import ModelError, ModelNotFound, TableNotFound
from lakehouse.learning import Registry, algorithms, train
from lakehouse.learning.recipe import RECIPE_FILE, Environment, Recipe, rows_digest
from lakehouse.learning.reproduction import reproduce
from lakehouse.pipeline.pins import pinned_versions
from lakehouse.tables import Lake, Stamp
from tests.learning.conftest import model, write

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# Commits bear the time of the machine.
LATER = datetime.now(UTC) + timedelta(days=1)


def rows(lake: Lake, name: str, count: int, *, shift: int = 0) -> None:
    write(
        lake,
        f"staging.{name}",
        f"SELECT range AS id, hash(range + {shift}) % 10 AS x, if(hash(range) % 3 = 0, NULL, 'k' || range % 4) AS kind,"
        f" TIMESTAMPTZ '2026-01-01 00:00:00Z' + INTERVAL 1 hour * range AS seen, if(hash(range + {shift}) % 10 > 4, 'hi', 'lo') AS label"
        f" FROM range({count})",
    )


def clean(settings, lake: Lake) -> None:
    """What maintenance does: fewer files, and none that nothing points to."""
    pins = pinned_versions(settings, lake)
    for table in lake.tables():
        lake.compact(table, stamp=Stamp(asset=str(table), run="upkeep"))
        lake.vacuum(table, keep=tuple(pins.get(str(table), {})), retention=timedelta(0), now=LATER, force=True)


def test_a_model_is_the_same_many_versions_later_after_compaction_and_vacuum(shared, lake) -> None:
    contract = model("again", algorithms=("decision_tree", "logistic_regression"), folds=2)
    rows(lake, "again", 200)
    with lake.connect(["staging.again"]) as session:
        more = "SELECT * REPLACE (id + 1000 AS id) FROM staging.again WHERE id < 20"
        lake.append(session.con, "staging.again", more, stamp=Stamp(asset="staging.again", run="test"))
    first = train(shared, lake, contract, run="r", now=NOW)
    clean(shared, lake)
    for day in range(1, 11):
        rows(lake, "again", 200 + day, shift=day)
    train(shared, lake, contract, run="r", now=NOW)
    clean(shared, lake)
    with pytest.raises(TableNotFound):
        lake.snapshot("staging.again", 7)
    before = {str(table): lake.version(table) for table in lake.tables()}
    found = reproduce(shared, lake, "again", "1")
    assert found.is_equal, found
    assert [one.what for one in found.digests] == ["data", "parameters", "predictions"]
    assert found.inputs == first.inputs == {"staging.again": 1}
    assert found.environment == {}
    assert reproduce(shared, lake, "again", "2").is_equal
    # It is made in memory.
    assert {str(table): lake.version(table) for table in lake.tables()} == before


def test_what_is_otherwise_is_named(shared, lake, monkeypatch) -> None:
    rows(lake, "otherwise", 200)
    train(shared, lake, model("otherwise", algorithms=("decision_tree",), folds=2), run="r", now=NOW)
    recorded = algorithms.ALGORITHMS["decision_tree"]
    monkeypatch.setitem(algorithms.ALGORITHMS, "decision_tree", replace(recorded, build=_root_only))
    monkeypatch.setattr(
        "lakehouse.learning.reproduction.environment_of",
        lambda threads: Environment("c" * 64, "3.0", "a machine", threads, {"numpy": "0.1"}),
    )
    found = reproduce(shared, lake, "otherwise", "1")
    assert [one.is_equal for one in found.digests] == [True, False, False]
    assert found.environment["numpy"][1] == "0.1"
    assert found.environment["python"][1] == "3.0"
    assert found.environment["code"][1] == "c" * 12
    assert found.environment["pandas"][1] == "none"


def _root_only(task: algorithms.Task):
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(min_samples_leaf=10**6, random_state=task.seed)


def test_a_version_that_can_not_be_made_again_says_why(shared, lake) -> None:
    with pytest.raises(ModelNotFound, match="not in the registry"):
        reproduce(shared, lake, "nobody", "1")
    rows(lake, "lost", 200)
    train(shared, lake, model("lost", algorithms=("decision_tree",), folds=2), run="r", now=NOW)
    rows(lake, "lost", 210)
    lake.vacuum("staging.lost", retention=timedelta(0), now=LATER, force=True)
    with pytest.raises(ModelError, match=r"staging\.lost@0"):
        reproduce(shared, lake, "lost", "1")


def test_the_recipe_is_kept_with_the_version_and_read_back(shared, lake) -> None:
    rows(lake, "kept", 200)
    contract = model("kept", algorithms=("decision_tree",), folds=2, minimums={"accuracy": 0.1})
    train(shared, lake, contract, run="r", now=NOW)
    registry = Registry(shared)
    version = registry.registered("kept", "1")
    assert version is not None
    text = registry.text_of(version, RECIPE_FILE)
    assert text is not None
    recipe = Recipe.from_json(text)
    assert recipe.contract == contract
    assert json.loads(recipe.as_json()) == json.loads(text)
    assert registry.text_of(version, "nothing.json") is None


def test_the_digest_of_rows_is_of_their_values_whatever_their_order(lake) -> None:
    con = lake.open_connection()
    try:
        one = "(SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS t(x, y))"
        turned = "(SELECT y, x FROM (VALUES (2, NULL), (1, 'a')) AS t(x, y))"
        assert rows_digest(con, one) == rows_digest(con, turned)
        for other in (
            "(SELECT * FROM (VALUES (1, 'a'), (2, '')) AS t(x, y))",
            "(SELECT * FROM (VALUES (1, 'a'), (1, 'a'), (2, NULL)) AS t(x, y))",
            "(SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS t(x, z))",
        ):
            assert rows_digest(con, other) != rows_digest(con, one)
    finally:
        con.close()
