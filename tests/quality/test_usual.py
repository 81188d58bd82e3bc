"""What is usual is learned: silent at first, not misled by one odd batch, and seldom wrong about batches in which nothing happened."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.quality.usual import MIN_HISTORY, usual

FINITE = st.floats(-1e6, 1e6)


@given(numbers=st.lists(FINITE, max_size=MIN_HISTORY - 1))
def test_too_few_batches_teach_nothing(numbers: list[float]) -> None:
    assert usual(numbers, least_spread=0.1) is None


@given(numbers=st.lists(FINITE, min_size=MIN_HISTORY, max_size=40), moved=FINITE, least=st.floats(0.01, 10))
def test_what_was_usual_moves_with_the_numbers(numbers: list[float], moved: float, least: float) -> None:
    here, there = usual(numbers, least_spread=least), usual([one + moved for one in numbers], least_spread=least)
    assert here is not None
    assert there is not None
    assert here.holds(here.middle)
    assert there.middle == pytest.approx(here.middle + moved, abs=1e-3)
    assert there.high - there.low == pytest.approx(here.high - here.low, rel=1e-3, abs=1e-3)


def test_one_odd_batch_among_them_hides_nothing() -> None:
    quiet = [10.0, 10.2, 9.9, 10.1, 10.0, 9.8, 10.1, 10.0, 9.9, 10.1, 10.0]
    found = usual([*quiet, 1e6], least_spread=0.05)
    assert found is not None
    assert found.holds(10.3)
    assert not found.holds(13)


@pytest.mark.parametrize(
    ("name", "draw", "least", "at_most"),
    [
        ("normal", lambda r, i: r.gauss(100, 5), 1.0, 0.002),
        ("drifting", lambda r, i: r.gauss(100 + i / 2, 5), 1.0, 0.002),
        ("laplace", lambda r, i: r.expovariate(1) - r.expovariate(1), 0.05, 0.01),
        ("rare", lambda r, i: sum(r.random() < 0.05 for _ in range(200)) / 200, 0.015, 0.002),
        ("weekly", lambda r, i: r.gauss(100 if i % 7 < 5 else 60, 5), 1.0, 0.04),
    ],
)
def test_quiet_series_seldom_raise_an_alarm(name: str, draw: Callable[[random.Random, int], float], least: float, at_most: float) -> None:
    generator = random.Random(name)
    judged = alarms = 0
    for _ in range(60):
        history: list[float] = []
        for number in range(50):
            value = draw(generator, number)
            found = usual(history, least_spread=least)
            judged += found is not None
            alarms += found is not None and not found.holds(value)
            history.append(value)
    assert alarms / judged <= at_most
