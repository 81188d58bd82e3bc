"""How predictions turned out, beyond one number: calibration, confidence, segments, and what another threshold would do. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from lakehouse.learning.multiple_tests import holm

# A segment is worse only if that is no chance, and its errors are more by this share.
_LEVEL = 0.01
_MUCH_WORSE = 1.25
_LEAST_ROWS = 20
# A calibration error that is no chance, and matters.
_MISCALIBRATED = 0.05
# Less is no reason to move a threshold; nor is what chance brings where the best of many is chosen and judged by the same labels.
_LEAST_GAIN = 0.02
_STANDARD_ERRORS = 3.0


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of about the same probability.

    Attributes:
        predicted: their mean probability.
        observed: how many of them were so, as a share.
    """

    low: float
    high: float
    rows: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whether what is said to be so with 80 % is so in 80 of 100 cases.

    Attributes:
        error: mean distance of probability and share, weighted by rows (expected calibration error).
        brier: mean squared distance of probability and outcome.
        p_value: of the distances under the claim that the probabilities are right (Hosmer and Lemeshow).
    """

    bins: tuple[Bin, ...]
    error: float
    brier: float
    p_value: float

    @property
    def is_well(self) -> bool:
        """Whether the distances are small, or may be chance."""
        return self.error <= _MISCALIBRATED or self.p_value >= _LEVEL


@dataclass(frozen=True, slots=True)
class SegmentSums:
    """What is counted of the rows that share a value: how many, their errors, and the squares of these."""

    column: str
    value: str
    rows: int
    errors: float
    squares: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that share a value, beside all others.

    Attributes:
        error: share of wrong answers, or mean distance of numbers.
        others: the same of all other rows.
        p_value: adjusted for the number of segments.
    """

    column: str
    value: str
    rows: int
    error: float
    others: float
    p_value: float

    @property
    def is_worse(self) -> bool:
        """Whether the model errs more here, beyond chance and by much."""
        return self.p_value < _LEVEL and self.error >= _MUCH_WORSE * self.others


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which probability on to say yes until the model is trained again, and what that would bring.

    Attributes:
        balanced_accuracy: with it, on the labels that came.
        now: the same with the threshold that is used now.
        standard_error: of the gain, from the rows that would be answered otherwise.
    """

    value: float
    balanced_accuracy: float
    now: float
    standard_error: float

    @property
    def is_worth_it(self) -> bool:
        """Whether it is better by more than a little, and more than chance."""
        gain = self.balanced_accuracy - self.now
        return gain >= _LEAST_GAIN and gain > _STANDARD_ERRORS * self.standard_error


@dataclass(frozen=True, slots=True)
class Moved:
    """Rows of a class that another threshold would answer rightly, and no more so, out of all."""

    rows: int
    won: int
    lost: int

    @property
    def variance(self) -> float:
        """Of their mean, where a row that is won counts one and one that is lost minus one.

        One more of each is counted: that none of a few rows moved does not say that none would.
        """
        rows, won, lost = self.rows + 2, self.won + 1, self.lost + 1
        return ((won + lost) / rows - ((won - lost) / rows) ** 2) / rows


def error_of_gain(positives: Moved, negatives: Moved) -> float:
    """The standard error of the difference of two balanced accuracies on the same rows."""
    return math.sqrt(positives.variance + negatives.variance) / 2


def calibration(bins: Sequence[Bin], *, squared: float) -> Calibration | None:
    """Put bins together; `squared` is the sum of squared distances over all rows. None without rows."""
    filled = [one for one in bins if one.rows]
    rows = sum(one.rows for one in filled)
    if not rows:
        return None
    error = sum(one.rows * abs(one.predicted - one.observed) for one in filled) / rows
    statistic = sum(
        one.rows * (one.observed - one.predicted) ** 2 / max(one.predicted * (1 - one.predicted), 1 / (4 * one.rows)) for one in filled
    )
    from scipy.special import gammaincc

    return Calibration(tuple(filled), error, squared / rows, float(gammaincc(len(filled) / 2, statistic / 2)))


def segments(sums: Sequence[SegmentSums], total: SegmentSums) -> tuple[Segment, ...]:
    """Each segment of enough rows beside the rest, the worst first."""
    asked = [one for one in sums if one.rows >= _LEAST_ROWS and total.rows - one.rows >= _LEAST_ROWS]
    tested = [_beside(one, total) for one in asked]
    adjusted = holm([one.p_value for one in tested])
    found = [Segment(one.column, one.value, one.rows, one.error, one.others, p) for one, p in zip(tested, adjusted, strict=True)]
    return tuple(sorted(found, key=lambda one: (not one.is_worse, -one.error, one.column, one.value)))


def _beside(one: SegmentSums, total: SegmentSums) -> Segment:
    rest = SegmentSums("", "", total.rows - one.rows, total.errors - one.errors, total.squares - one.squares)
    means = [part.errors / part.rows for part in (one, rest)]
    spread = sum(max(part.squares / part.rows - mean**2, 0.0) / part.rows for part, mean in zip((one, rest), means, strict=True))
    difference = means[0] - means[1]
    p_value = (1.0 if difference <= 0 else 0.0) if spread <= 0 else 1 - NormalDist().cdf(difference / math.sqrt(spread))
    return Segment(one.column, one.value, one.rows, means[0], means[1], p_value)


def best_threshold(positives: Sequence[int], negatives: Sequence[int]) -> Threshold | None:
    """The threshold with the greatest balanced accuracy; of equal ones the nearest to 0.5. None if one class is missing.

    Args:
        positives: rows of the positive class by probability, in as many equal intervals from 0 to 1 as there are counts; even in number.
        negatives: the same of the other class.
    """
    size, yes, no = len(positives), sum(positives), sum(negatives)
    if not yes or not no:
        return None
    reached: dict[int, float] = {}
    found, kept = yes, 0
    for place in range(size + 1):
        reached[place] = (found / yes + kept / no) / 2
        if place < size:
            found -= positives[place]
            kept += negatives[place]
    middle = size // 2
    best = max(reached, key=lambda place: (round(reached[place], 12), -abs(place - middle)))
    low, high = sorted((best, middle))
    between_yes, between_no = sum(positives[low:high]), sum(negatives[low:high])
    more = best < middle
    moved = (
        Moved(yes, between_yes if more else 0, 0 if more else between_yes),
        Moved(no, 0 if more else between_no, between_no if more else 0),
    )
    return Threshold(best / size, reached[best], reached[middle], error_of_gain(*moved))
