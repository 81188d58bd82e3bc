"""The laws of the statistics: over any counts, and against independent implementations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from lakehouse.monitoring.drift.statistics import (
    FLOOR,
    chi_square,
    cramers_v,
    expected_psi,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
)

PAIRS = st.integers(1, 30).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(0, 10_000), min_size=size, max_size=size).filter(any) for _ in range(2)])
)


@given(PAIRS)
def test_psi_is_never_negative_symmetric_and_what_numpy_says(pair: tuple[list[int], list[int]]) -> None:
    reference, current = pair
    p, q = (np.maximum(np.array(one) / sum(one), FLOOR) for one in pair)
    assert psi(reference, current) == pytest.approx(float(((q - p) * np.log(q / p)).sum()), abs=1e-12)
    assert psi(reference, current) >= 0
    assert psi(reference, current) == pytest.approx(psi(current, reference), abs=1e-12)


@given(PAIRS)
def test_distances_lie_between_0_and_1(pair: tuple[list[int], list[int]]) -> None:
    for distance in (jensen_shannon(*pair), cramers_v(*pair), kolmogorov_smirnov(*pair)[0]):
        assert 0 <= distance <= 1
    assert jensen_shannon(*pair) == pytest.approx(float(jensenshannon(*pair, base=2)), abs=1e-7)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=30).filter(any), st.integers(1, 5))
def test_equal_shares_have_not_drifted_however_many_rows(counts: list[int], times: int) -> None:
    more = [one * times for one in counts]
    assert psi(counts, more) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(counts, more) == pytest.approx(0, abs=1e-6)
    assert chi_square(counts, more)[1] == pytest.approx(1)
    assert kolmogorov_smirnov(counts, more)[0] == pytest.approx(0, abs=1e-12)


@given(PAIRS, st.randoms())
def test_the_order_of_bins_matters_to_ks_alone(pair: tuple[list[int], list[int]], random: "st.random.Random") -> None:
    order = list(range(len(pair[0])))
    random.shuffle(order)
    shuffled = [[one[place] for place in order] for one in pair]
    for statistic in (psi, jensen_shannon, cramers_v, expected_psi):
        assert statistic(*pair) == pytest.approx(statistic(*shuffled), abs=1e-9)


@given(PAIRS)
def test_chi_square_is_scipys(pair: tuple[list[int], list[int]]) -> None:
    table = np.array([[one, other] for one, other in zip(*pair, strict=True) if one or other]).T
    if table.shape[1] < 2:
        assert chi_square(*pair) == (0.0, 1.0)
        return
    found = stats.chi2_contingency(table, correction=False)
    assert chi_square(*pair) == (pytest.approx(found.statistic, rel=1e-9, abs=1e-9), pytest.approx(found.pvalue, rel=1e-9, abs=1e-300))


def test_ks_is_scipys_where_every_value_has_a_bin() -> None:
    random = np.random.default_rng(7)
    one, other = random.integers(0, 50, 4000), random.integers(3, 52, 3000)
    counts = [np.bincount(values, minlength=60).tolist() for values in (one, other)]
    distance, p_value = kolmogorov_smirnov(*counts)
    found = stats.ks_2samp(one, other, method="asymp")
    assert distance == pytest.approx(found.statistic)
    assert p_value == pytest.approx(found.pvalue, rel=0.1)


def test_expected_psi_is_what_psi_comes_to_without_drift() -> None:
    random = np.random.default_rng(7)
    shares = [0.1] * 10
    pairs = [(random.multinomial(2000, shares).tolist(), random.multinomial(500, shares).tolist()) for _ in range(400)]
    assert np.mean([psi(*pair) for pair in pairs]) == pytest.approx(expected_psi(*pairs[0]), rel=0.05)


def test_nothing_to_compare_is_no_drift() -> None:
    empty, some = [0, 0], [1, 2]
    assert (psi(empty, some), expected_psi(empty, some), jensen_shannon(some, empty), cramers_v(empty, empty)) == (0, 0, 0, 0)
    assert chi_square(empty, some)[1] == kolmogorov_smirnov(some, empty)[1] == 1
    assert math.isfinite(psi([1, 0], [0, 1]))
