"""How far two sets of counts over the same bins are apart, and whether chance explains it. Pure: counts in, numbers out."""

import math
from collections.abc import Sequence
from itertools import accumulate

# So that a bin that one side lacks counts for much, not for infinity.
FLOOR = 1e-4

Counts = Sequence[int]


def psi(reference: Counts, current: Counts) -> float:
    """The population stability index: sum of (q - p) ln(q / p) over the shares, each at least `FLOOR`; 0 if a side has no rows."""
    n, m = sum(reference), sum(current)
    if not n or not m:
        return 0.0
    pairs = ((max(one / n, FLOOR), max(other / m, FLOOR)) for one, other in zip(reference, current, strict=True))
    return math.fsum((q - p) * math.log(q / p) for p, q in pairs)


def expected_psi(reference: Counts, current: Counts) -> float:
    """What PSI comes to on average if nothing has drifted: (bins - 1) (1/n + 1/m), of bins that hold anything.

    B. Yurdakul, "Statistical Properties of Population Stability Index", 2018: without drift PSI is (1/n + 1/m) times a chi-square
    with bins - 1 degrees of freedom.
    """
    n, m = sum(reference), sum(current)
    return (_filled(reference, current) - 1) * (1 / n + 1 / m) if n and m else 0.0


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """The Jensen-Shannon distance with logarithms of base 2: 0 for equal shares, 1 if no bin is shared."""
    n, m = sum(reference), sum(current)
    if not n or not m:
        return 0.0
    divergence = 0.0
    for one, other in zip(reference, current, strict=True):
        p, q = one / n, other / m
        middle = (p + q) / 2
        divergence += sum(share * math.log2(share / middle) for share in (p, q) if share) / 2
    return math.sqrt(min(max(divergence, 0.0), 1.0))


def chi_square(reference: Counts, current: Counts) -> tuple[float, float]:
    """The statistic of the test that both come from one distribution, and its p-value."""
    n, m = sum(reference), sum(current)
    freedom = _filled(reference, current) - 1
    if not n or not m or freedom < 1:
        return 0.0, 1.0
    from scipy.special import gammaincc

    statistic = 0.0
    for one, other in zip(reference, current, strict=True):
        if one or other:
            expected = n * (one + other) / (n + m)
            statistic += (one - expected) ** 2 * (1 / expected + n / (m * expected))
    return statistic, float(gammaincc(freedom / 2, statistic / 2))


def cramers_v(reference: Counts, current: Counts) -> float:
    """The effect size of `chi_square`: from 0 to 1, however many rows there are."""
    rows = sum(reference) + sum(current)
    return math.sqrt(min(chi_square(reference, current)[0] / rows, 1.0)) if rows else 0.0


def kolmogorov_smirnov(reference: Counts, current: Counts) -> tuple[float, float]:
    """The largest distance of the two distribution functions at the bins' edges, which is its own effect size, and its p-value.

    Between the edges the distance may be larger: the p-value is never too small.
    """
    n, m = sum(reference), sum(current)
    if not n or not m:
        return 0.0, 1.0
    from scipy.special import kolmogorov

    steps = zip(accumulate(reference), accumulate(current), strict=True)
    distance = max(abs(one / n - other / m) for one, other in steps)
    return distance, float(kolmogorov(math.sqrt(n * m / (n + m)) * distance))


def _filled(reference: Counts, current: Counts) -> int:
    return sum(1 for one, other in zip(reference, current, strict=True) if one or other)
