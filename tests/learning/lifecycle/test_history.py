"""The real history and the real registry: Delta and MLflow, killed at every named instant, two at once, and from before there were states."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.contracts import Rollout
from lakehouse.crashpoints import VARIABLE
from lakehouse.errors import ModelError, ModelNotFound
from lakehouse.learning import CHAMPION, Registry, predict_batch, train, watch_rollout
from lakehouse.learning.boards import ClientBoard, SqliteBoard, has_known_tables
from lakehouse.learning.lifecycle import Author, Event, Ledger, State, Traffic, TransitionRefused, assigned
from lakehouse.learning.lifecycle.board import wanted_aliases
from lakehouse.learning.lifecycle.journal import EVENTS, DeltaJournal
from lakehouse.learning.lifecycle.observing import SERVICE, Answers, record_answers
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.learning.conftest import PROJECT, model, write
from tests.learning.lifecycle.worlds import Fuse, Killed, World

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CANARY = Rollout("canary", steps=(20.0,))
PERSON = Author("ann", NOW, "because", by_hand=True)
SETTLER = """
import sys
from pathlib import Path
from datetime import UTC, datetime
from lakehouse.learning import Registry
from lakehouse.learning.lifecycle import Author
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.settings import Settings
from lakehouse.tables import Lake
settings = Settings(project=Path(sys.argv[1]), home=Path(sys.argv[2]), threads=1)
Lifecycle(Registry(settings), Lake.from_settings(settings)).roll_back(sys.argv[3], None, Author("ann", datetime.now(UTC), "because"))
"""


def rows(name: str, lake: Lake, count: int = 200) -> None:
    write(lake, f"staging.{name}", f"SELECT range AS id, range % 7 AS x, if(range % 7 > 3, 'hi', 'lo') AS label FROM range({count})")


def contract(name: str, **changes: object):
    return model(name, algorithms=("decision_tree",), folds=2, **changes)


def learn(settings: Settings, lake: Lake, name: str, **changes: object):
    return train(settings, lake, contract(name, **changes), run="test", now=NOW, force=True)


def asked(lake: Lake, table: str, sql: str) -> list[tuple]:
    with lake.connect([table]) as session:
        return session.con.execute(sql.format(table=table)).fetchall()


@pytest.fixture(scope="module")
def two(shared: Settings, lake: Lake) -> str:
    """A model with a version in production and one before it."""
    rows("two", lake)
    assert [learn(shared, lake, "two").semantic_version for _ in range(2)] == ["1.0.0", "1.0.1"]
    return "two"


def test_every_transition_is_a_row_and_the_registry_shows_it(shared, lake, two) -> None:
    told = asked(lake, EVENTS, "SELECT version, event, from_state, to_state, actor, run FROM {table} WHERE model = 'two' ORDER BY number")
    assert told[:6] == [
        ("1", "drafted", None, "draft", "train", "test"),
        ("1", "training", "draft", "training", "train", "test"),
        ("1", "registered", "training", "trained", "train", "test"),
        ("1", "validated", "trained", "validated", "train", "test"),
        ("1", "staged", "validated", "staged", "train", "test"),
        ("1", "promoted", "staged", "production", "train", "test"),
    ]
    registry = Registry(shared)
    assert registry.aliases(two) == {"champion": "2"}
    tags = {version: posted.tags for version, posted in registry.posted(two).items()}
    assert {version: (one["lakehouse.state"], one["lakehouse.semantic_version"]) for version, one in tags.items()} == {
        "1": ("archived", "1.0.0"),
        "2": ("production", "1.0.1"),
    }
    assert DeltaJournal(lake).events(two)[5].guards[0].passed


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before_transition", "transition_committed", "mid_aliases", "mid_aliases:2"])
def test_a_killed_rollback_has_not_happened_or_is_completed_by_whoever_looks(point, shared, lake) -> None:
    name = "killed_" + point.replace(":", "_")
    rows(name, lake)
    for _ in range(2):
        learn(shared, lake, name)
    environment = {**os.environ, VARIABLE: point, "PYTHONPATH": str(PROJECT)}
    program = [sys.executable, "-c", SETTLER, str(PROJECT), str(shared.home_dir), name]
    assert subprocess.run(program, env=environment, cwd=PROJECT, check=False).returncode == -signal.SIGKILL
    expected = "2" if point == "before_transition" else "1"
    assert predict_batch(shared, lake, contract(name), run="test", now=NOW).rows == 200
    assert Registry(shared).aliases(name) == {"champion": expected}
    assert asked(lake, f"models.{name}_predictions", "SELECT DISTINCT model_version FROM {table}") == [(expected,)]


def test_of_two_that_decide_at_once_one_is_written(lake) -> None:
    journal = DeltaJournal(lake)
    event = Event("raced", "1", "drafted", None, State.DRAFT, NOW, "ann")
    mine, other = (Ledger("raced").numbered([event]) for _ in range(2))
    assert [journal.add(one) for one in (mine, other)] == [True, False]
    assert len(journal.events("raced")) == 1
    # Two models do not meet.
    assert journal.add(Ledger("other").numbered([Event("other", "1", "drafted", None, State.DRAFT, NOW, "ann")]))


def test_numbers_of_decisions_are_not_used_again_after_the_table_was_restored(lake) -> None:
    journal = DeltaJournal(lake)
    first = Event("undone", "1", "drafted", None, State.DRAFT, NOW, "ann")
    journal.add(journal.ledger("undone").numbered([first]))
    version = lake.version(EVENTS)
    second = Event("undone", "1", "training", State.DRAFT, State.TRAINING, NOW, "ann")
    journal.add(journal.ledger("undone").numbered([second]))
    from lakehouse.tables import Stamp

    lake.restore(EVENTS, version, stamp=Stamp(asset=EVENTS, run="test"))
    ledger = journal.ledger("undone")
    assert (ledger.decision, ledger.standing("1").state) == (2, State.DRAFT)
    assert journal.add(ledger.numbered([second]))
    assert journal.ledger("undone").standing("1").state is State.TRAINING


def test_a_history_from_before_there_were_states_is_understood(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    old = "'old' AS model, 'd' AS model_digest, 'train' AS actor, 'r' AS run, '' AS reason, NULL::VARCHAR AS previous_version"
    old += ", 0::BIGINT AS training_set_version"
    told = [
        ("1", "registered", 0),
        ("1", "promoted", 0),
        ("2", "registered", 1),
        ("2", "rejected", 1),
        ("3", "registered", 2),
        ("3", "promoted", 2),
    ]
    selects = [
        f"SELECT TIMESTAMPTZ '2026-01-01 00:00:0{second}+00' AS happened_at, '{version}' AS version, '{event}' AS event, NULL::VARCHAR AS alias, {old}"
        for version, event, second in told
    ]
    write(lake, EVENTS, " UNION ALL ".join(selects))
    ledger = DeltaJournal(lake).ledger("old")
    assert ledger.line == ("1", "3")
    assert {version: str(one.state) for version, one in ledger.standings.items()} == {"1": "archived", "2": "trained", "3": "production"}
    assert wanted_aliases(ledger) == {"champion": "3"}


def test_an_alias_that_was_moved_by_hand_is_moved_back(shared, lake, two) -> None:
    registry = Registry(shared)
    registry.set_alias(two, CHAMPION, "1")
    registry.set_alias(two, "staged", "1")
    lifecycle = Lifecycle(registry, lake)
    assert lifecycle.production(two) == "2"
    assert registry.aliases(two) == {"champion": "2"}


def test_the_tables_of_the_registry_say_and_do_what_its_client_does(shared, two) -> None:
    database = shared.home_dir / "registry" / "mlflow.db"
    # After a change of MLflow's version: see whether the tables in boards.py are as they were, and add the revision there.
    assert has_known_tables(database)
    client, tables = ClientBoard(lambda: Registry(shared)._client), SqliteBoard(database)
    changes = [
        lambda board: board.set_alias(two, "first", "1"),
        lambda board: board.set_alias(two, "first", "2"),
        lambda board: board.tag(two, "1", {"said": "it's \u00e4 \" tag", "long": "x" * 6000}),
        lambda board: board.tag(two, "1", {"said": "", "long": ""}),
        lambda board: board.remove_alias(two, "first"),
        lambda board: board.remove_alias(two, "first"),
    ]
    for change in changes:
        shown = []
        for board in (client, tables):
            change(board)
            shown += [(reader.posted(two), reader.aliases(two), reader.place(two, "1")) for reader in (client, tables)]
        assert all(one == shown[0] for one in shown)
    assert client.posted("nobody") == tables.posted("nobody") == client.aliases("nobody") == tables.aliases("nobody") == {}
    for board in (client, tables):
        with pytest.raises(ModelNotFound, match=r"two@9.*not in the registry"):
            board.place(two, "9")
    for missing in (lambda: tables.set_alias(two, "first", "9"), lambda: tables.tag(two, "9", {"a": "b"})):
        with pytest.raises(ModelNotFound, match="two@9"):
            missing()


def test_an_unknown_revision_of_the_registry_is_left_to_its_client(shared, two, tmp_path: Path) -> None:
    database = shutil.copy(shared.home_dir / "registry" / "mlflow.db", tmp_path / "mlflow.db")
    assert has_known_tables(database)
    with contextlib.closing(sqlite3.connect(database)) as con, con:
        con.execute("UPDATE alembic_version SET version_num = 'later'")
    assert not has_known_tables(database)
    with contextlib.closing(sqlite3.connect(database)) as con, con:
        con.execute("DELETE FROM alembic_version")
    assert not has_known_tables(database)
    database.write_bytes(b"not a database" * 100)
    assert not has_known_tables(database)
    assert not has_known_tables(tmp_path / "gone.db")


def test_a_rollback_does_not_wait_for_mlflow(shared, lake, two) -> None:
    light = SETTLER + "\nassert not {'mlflow', 'pandas', 'sklearn', 'sqlalchemy'} & set(sys.modules), 'these take seconds to import'"
    program = [sys.executable, "-c", light, str(PROJECT), str(shared.home_dir), two]
    subprocess.run(program, cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=True)
    client = ClientBoard(lambda: Registry(shared)._client)
    assert client.aliases(two) == {"champion": "1"}
    Lifecycle(Registry(shared), lake).roll_back(two, "2", PERSON)
    assert client.aliases(two) == {"champion": "2"}
    assert [client.posted(two)[version].tags["lakehouse.state"] for version in "12"] == ["archived", "production"]


def test_a_canary_answers_for_its_entities_and_is_promoted_or_taken_back(shared, lake) -> None:
    rows("canary", lake, 1000)
    for _ in range(2):
        report = learn(shared, lake, "canary", rollout=CANARY)
    assert (report.alias, report.state) == ("canary", "staged")
    rolled = contract("canary", rollout=CANARY)
    predict_batch(shared, lake, rolled, run="test", now=NOW)
    table = "models.canary_predictions"
    traffic = Traffic("canary", "1", "2", 20.0)
    said = asked(lake, table, "SELECT id, model_version FROM {table} ORDER BY id")
    assert said == [(entity, assigned(traffic, [entity])) for entity in range(1000)]
    assert asked(lake, SERVICE, "SELECT version, errors FROM {table} WHERE model = 'canary' ORDER BY version") == [("1", 0), ("2", 0)]
    assert predict_batch(shared, lake, rolled, run="again", now=NOW).skipped

    record_answers(lake, [Answers("canary", "2", 500, 100, NOW, NOW, source="test")], run="test")
    assert [one.kind for one in watch_rollout(shared, lake, rolled, run="test", now=NOW).events] == ["rolled_back"]
    predict_batch(shared, lake, rolled, run="test", now=NOW)
    assert asked(lake, table, "SELECT DISTINCT model_version FROM {table}") == [("1",)]

    learn(shared, lake, "canary", rollout=CANARY)
    outcome = watch_rollout(shared, lake, rolled, run="test", now=NOW + timedelta(hours=25))
    assert [(one.version, one.kind) for one in outcome.events] == [("1", "archived"), ("3", "promoted")]
    assert Registry(shared).load("canary").version == "3"


def test_where_the_new_version_fails_the_champion_answers_and_it_counts(shared, lake) -> None:
    write(lake, "staging.gone", "SELECT range AS id, range % 7 AS x, if(range % 7 > 3, 'hi', 'lo') AS label FROM range(300)")
    learn(shared, lake, "gone", rollout=CANARY)
    write(
        lake, "staging.gone", "SELECT range AS id, range % 7 AS x, range % 5 AS y, if(range % 7 > 3, 'hi', 'lo') AS label FROM range(300)"
    )
    assert learn(shared, lake, "gone", rollout=CANARY).semantic_version == "1.1.0"
    write(lake, "staging.gone", "SELECT range AS id, range % 7 AS x, if(range % 7 > 3, 'hi', 'lo') AS label FROM range(300)")
    rolled = contract("gone", rollout=CANARY)
    predict_batch(shared, lake, rolled, run="test", now=NOW)
    assert asked(lake, "models.gone_predictions", "SELECT count(*), min(model_version), max(model_version) FROM {table}") == [
        (300, "1", "1")
    ]
    assert [one.kind for one in watch_rollout(shared, lake, rolled, run="test", now=NOW).events] == ["rolled_back"]


def test_a_version_that_took_over_at_once_is_taken_back_for_answers_that_fail_or_are_slow(shared, lake) -> None:
    rows("direct", lake)
    for _ in range(3):
        learn(shared, lake, "direct")
    predict_batch(shared, lake, contract("direct"), run="test", now=NOW)
    (told,) = asked(lake, SERVICE, "SELECT version, requests, errors, latency_ms FROM {table} WHERE model = 'direct'")
    assert told[:3] == ("3", 200, 0)
    assert 0 < told[3] < 1000
    assert not watch_rollout(shared, lake, contract("direct", rollout=Rollout(max_latency_ms=1000.0)), run="test", now=NOW).events
    slow = watch_rollout(shared, lake, contract("direct", rollout=Rollout(max_latency_ms=told[3] / 2)), run="test", now=NOW)
    assert [(one.version, one.kind) for one in slow.events] == [("3", "rolled_back"), ("2", "restored")]
    write(lake, "staging.direct", "SELECT range AS id, range % 5 AS y, if(range % 2 = 0, 'hi', 'lo') AS label FROM range(300)")
    with pytest.raises(ModelError, match="features that are gone"):
        predict_batch(shared, lake, contract("direct"), run="test", now=NOW + timedelta(hours=1))
    failed = watch_rollout(shared, lake, contract("direct"), run="test", now=NOW + timedelta(hours=1))
    assert [(one.version, one.kind) for one in failed.events] == [("2", "rolled_back"), ("1", "restored")]


def test_a_shadow_is_recorded_and_answers_for_nobody(shared, lake) -> None:
    rows("shadow", lake)
    shadow = Rollout("shadow")
    for _ in range(2):
        learn(shared, lake, "shadow", rollout=shadow)
    predict_batch(shared, lake, contract("shadow", rollout=shadow), run="test", now=NOW)
    for table, version in (("models.shadow_predictions", "1"), ("models.shadow_shadow_predictions", "2")):
        assert asked(lake, table, "SELECT count(*), min(model_version), max(model_version) FROM {table}") == [(200, version, version)]


def test_without_an_approval_nobody_answers_and_that_is_said(shared, lake) -> None:
    rows("unapproved", lake)
    asks = Rollout(approval=True)
    report = learn(shared, lake, "unapproved", rollout=asks)
    assert (report.passed, report.state, report.alias) == (True, "staged", "staged")
    careful = contract("unapproved", rollout=asks)
    with pytest.raises(ModelNotFound, match=r"version 1 is staged; is_approved did not hold"):
        predict_batch(shared, lake, careful, run="test", now=NOW)
    lifecycle = Lifecycle(Registry(shared), lake)
    with pytest.raises(TransitionRefused, match="lakehouse model approve unapproved@1"):
        lifecycle.promote(careful, None, PERSON)
    lifecycle.approve("unapproved", None, PERSON)
    watch_rollout(shared, lake, careful, run="test", now=NOW)
    assert predict_batch(shared, lake, careful, run="test", now=NOW).rows == 200


def test_what_was_registered_is_concluded_though_another_home_registered_one_since(shared, lake, monkeypatch) -> None:
    rows("served", lake)
    register = Registry.register

    def overtaken(self: Registry, name: str, *given: object) -> str:
        made = register(self, name, *given)  # pyright: ignore[reportArgumentType]
        other = self._client.create_run(self._client.get_experiment_by_name(name).experiment_id).info.run_id
        self._client.create_model_version(name, source="elsewhere", run_id=other)
        return made

    monkeypatch.setattr(Registry, "register", overtaken)
    assert learn(shared, lake, "served").version == "1"
    assert set(DeltaJournal(lake).ledger("served").standings) == {"1"}
    assert Registry(shared).aliases("served") == {"champion": "1"}


class Fused:
    """A registry whose process can be killed at any step."""

    def __init__(self, registry: Registry, fuse: Fuse) -> None:
        self._registry, self._fuse = registry, fuse

    def __getattr__(self, name: str):
        what = getattr(self._registry, name)

        def burnt(*arguments: object) -> object:
            if name in {"set_alias", "remove_alias", "tag"}:
                self._fuse.burn()
            return what(*arguments)

        return burnt


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_walks_over_the_real_history_and_registry_end_as_those_in_memory_do(seed, shared, lake) -> None:
    draw = random.Random(seed)
    registry, fuse = Registry(shared), Fuse()
    name = f"walked_{seed}"
    client = registry._client
    client.create_registered_model(name)
    experiment = client.create_experiment(name)

    def post() -> tuple[str, str]:
        run = client.create_run(experiment).info.run_id
        return str(client.create_model_version(name, source="nowhere", run_id=run).version), run

    world = World(draw.choice([Rollout(), CANARY, Rollout(approval=True)]), DeltaJournal(lake), Fused(registry, fuse), post)
    world.model = name
    for _ in range(15):
        version = draw.choice([None, "1", "2", "3"])
        steps = [
            lambda: world.train(reaches=draw.random() < 0.8, beats=True, algorithm=draw.choice("ab"), features="x"),
            lambda: world.promote(version),  # noqa: B023 - called in this turn of the loop
            lambda: world.roll_back(version),  # noqa: B023
            lambda: world.approve(version),  # noqa: B023
            lambda: world.watch(world.facts(errors=draw.choice([0, 150])), world.facts()),
            lambda: world.pass_time(30),
        ]
        fuse.left = draw.choice([None, 0, 1, 2, 3])
        with contextlib.suppress(TransitionRefused, Killed):
            draw.choices(steps, [3, 1, 1, 1, 1, 1])[0]()
        fuse.left = None
        world.require_sound()
    world.require_shown()
