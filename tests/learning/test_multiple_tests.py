"""Holm's method: what many tests at once have to show."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.learning.multiple_tests import holm


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_never_makes_a_p_value_smaller_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    assert sorted(range(len(p_values)), key=lambda place: (p_values[place], adjusted[place])) == sorted(
        range(len(p_values)), key=lambda place: (adjusted[place], p_values[place])
    )


def test_of_many_tests_of_nothing_one_comes_out_no_more_often_than_the_level_says() -> None:
    random = np.random.default_rng(7)
    found = [min(holm(random.random(20).tolist())) <= 0.05 for _ in range(2000)]
    assert 0.03 < np.mean(found) < 0.065
