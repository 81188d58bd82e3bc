"""A challenger beside the champion, through training: who takes over, who stays, and who can't be compared."""

from datetime import UTC, datetime

import pytest

from lakehouse.contracts import Comparison, Split
from lakehouse.learning import CHAMPION, Registry, train
from lakehouse.learning.challenge import compare_versions
from lakehouse.learning.lifecycle import Author, TransitionRefused
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.lifecycle.rollout import COMPARED
from lakehouse.learning.records import last_comparison, record_comparison
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.learning.conftest import model, write

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PERSON = Author("ann", NOW, "because", by_hand=True)
BY_TIME = Split("time", 0.25)


def rows(lake: Lake, name: str, count: int, *, turn: int = 10**9, more: str = "") -> None:
    """`label` follows from `x`; from row `turn` on it is the other way round. `y` says little."""
    is_high = f"(hash(range) % 10 > 4) <> (range >= {turn})"
    write(
        lake,
        f"staging.{name}",
        f"SELECT range AS id, TIMESTAMP '2026-01-01' + INTERVAL 1 hour * range AS seen, hash(range) % 10 AS x, hash(range + 7) % 11 AS y{more},"
        f" if(if(hash(range + 3) % 12 = 0, NOT ({is_high}), {is_high}), 'hi', 'lo') AS label FROM range({count})",
    )


def contract(name: str, **changes: object):
    asked: dict[str, object] = {"comparison": Comparison(), "algorithms": ("decision_tree",), "folds": 2, "metric": "f1_macro"}
    return model(name, **(asked | changes))


def learn(settings: Settings, lake: Lake, name: str, **changes: object):
    return train(settings, lake, contract(name, **changes), run="test", now=NOW, force=True)


def test_a_refit_that_gains_nothing_leaves_the_champion_and_says_why(shared, lake) -> None:
    rows(lake, "refit", 400)
    first = learn(shared, lake, "refit")
    assert (first.comparison, first.alias) == (None, CHAMPION)
    rows(lake, "refit", 420)
    second = learn(shared, lake, "refit")
    assert (second.alias, second.state) == ("challenger", "validated")
    assert second.comparison is not None
    assert (second.comparison.champion, second.comparison.challenger) == ("1", "2")
    assert second.comparison.folds is not None
    assert second.comparison.folds.same_recipe
    # It is recorded with the version, and read back.
    again = train(shared, lake, contract("refit"), run="test", now=NOW)
    assert again.skipped
    assert again.comparison == second.comparison
    lifecycle = Lifecycle(Registry(shared), lake)
    held = lifecycle.history("refit")[-1]
    assert (held.kind, [one.id for one in held.guards]) == ("held", [COMPARED])
    with pytest.raises(TransitionRefused, match="the contract asks for a gain"):
        lifecycle.promote(contract("refit"), None, PERSON)
    # What the contract asks today counts, not what it asked when they were compared.
    assert lifecycle.promote(contract("refit", comparison=Comparison(required=False)), None, PERSON).ledger.production == "2"


def test_after_a_turn_the_version_that_has_learned_it_wins_on_the_newest_rows(shared, lake) -> None:
    by_time = {"split": BY_TIME, "event_timestamp": "seen"}
    rows(lake, "turned", 400)
    learn(shared, lake, "turned", **by_time)
    rows(lake, "turned", 1200, turn=500)
    second = learn(shared, lake, "turned", **by_time)
    assert second.alias == CHAMPION
    assert second.comparison is not None
    found = second.comparison.holdout
    assert found is not None
    assert found.rows == second.rows_test
    assert found.gain > 0.2
    assert found.p_value < 0.01


@pytest.mark.slow
def test_rows_that_the_champion_has_learned_from_do_not_judge(shared, lake) -> None:
    rows(lake, "learned", 400)
    learn(shared, lake, "learned", seed=7)
    second = learn(shared, lake, "learned", seed=8)
    assert second.comparison is not None
    assert second.comparison.holdout is not None
    # The other seed deals other rows to the test: a fifth of them was a test row before as well.
    assert 0 < second.comparison.holdout.rows < second.rows_test / 2


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("lost", {"exclude_features": ("x",)}, "uses x, which the model's features no longer have"),
        pytest.param("other", {"target_column": None, "target_sql": "y > 5"}, "predicts another target", marks=pytest.mark.slow),
    ],
)
def test_a_champion_that_can_not_be_asked_any_more_gives_way_and_it_is_said_why(name, changes, reason, shared, lake) -> None:
    rows(lake, name, 300)
    learn(shared, lake, name)
    second = learn(shared, lake, name, **changes)
    assert second.alias == CHAMPION
    [guard] = [one for event in Lifecycle(Registry(shared), lake).history(name) for one in event.guards if one.id == COMPARED]
    assert guard.passed
    assert reason in guard.detail


def test_both_are_asked_about_the_same_class_and_groups_are_drawn_together(shared, lake) -> None:
    """Of two classes the rarer one is another in the second training; both trainings find the same rule."""
    asked = {"metric": "f1", "split": Split("group", 0.25, "shop"), "include_features": ("x",)}
    select = (
        "SELECT range AS id, range // 10 AS shop, hash(range) % 10 AS x,"
        " if((hash(range) % 10 > {}) <> (hash(range + 3) % 12 = 0), 'hi', 'lo') AS label FROM range({})"
    )
    write(lake, "staging.rarer", select.format(5, 400))
    learn(shared, lake, "rarer", **asked)
    more = "SELECT range + 400 AS id, 40 + range // 10 AS shop, 6 + range % 4 AS x, if(range % 12 = 0, 'lo', 'hi') AS label FROM range(400)"
    write(lake, "staging.rarer", f"{select.format(5, 400)} UNION ALL {more}")
    second = learn(shared, lake, "rarer", **asked)
    assert second.comparison is not None
    found = second.comparison.holdout
    assert found is not None
    assert (found.gain, found.only_champion, found.only_challenger) == (0.0, 0, 0)
    assert found.rows == 10 * found.entities
    assert second.comparison.folds is not None
    assert second.comparison.folds.gain == 0


@pytest.mark.slow
def test_another_recipe_is_judged_on_the_folds_too_with_new_features_or_without(shared, lake) -> None:
    rows(lake, "recipes", 400)
    learn(shared, lake, "recipes", algorithms=("logistic_regression",))
    rows(lake, "recipes", 400, more=", hash(range + 9) % 5 AS z")
    second = learn(shared, lake, "recipes")
    assert second.comparison is not None
    assert second.comparison.holdout is not None
    assert second.comparison.folds is not None
    assert not second.comparison.folds.same_recipe
    assert len(second.comparison.folds.champion) == 2


@pytest.mark.slow
def test_a_version_is_compared_anew_with_the_one_that_is_in_production_now(shared, lake) -> None:
    rows(lake, "anew", 300)
    free = {"comparison": Comparison(required=False)}
    for _ in range(2):
        learn(shared, lake, "anew", **free)
    learn(shared, lake, "anew")
    lifecycle = Lifecycle(Registry(shared), lake)
    lifecycle.roll_back("anew", None, PERSON)
    with pytest.raises(TransitionRefused, match="lakehouse model compare anew@1 anew@3"):
        lifecycle.promote(contract("anew"), "3", PERSON)
    found = compare_versions(lake, Registry(shared), contract("anew"), champion="1", challenger="3")
    record_comparison(lake, "anew", found, run="test", now=NOW)
    assert last_comparison(lake, "anew", champion="1", challenger="3") == found
    with pytest.raises(TransitionRefused, match="chance may explain it"):
        lifecycle.promote(contract("anew"), "3", PERSON)
