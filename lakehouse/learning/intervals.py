"""Where a model's scores will lie on rows that are yet to come, as long as they are like the test rows."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.contracts.metrics import LOWER_IS_BETTER
from lakehouse.learning.evaluation import Interval, Predictions, measure
from lakehouse.learning.resampling import drawn_weights, weighted

if TYPE_CHECKING:
    import numpy as np

_RESAMPLES = 300
_MOST_ROWS = 5_000
_LEAST_UNITS = 8


@dataclass(frozen=True, slots=True)
class _Scale:
    """A scale on which a metric can go as far as it likes in both directions."""

    to: Callable[[Any], Any]
    back: Callable[[Any], Any]


def metric_intervals(
    truth: "np.ndarray[Any, Any]", given: Predictions, units: "np.ndarray[Any, Any]", *, seed: int, metrics: Iterable[str] | None = None
) -> dict[str, Interval]:
    """For each metric the range that holds its value on as many new rows with 95 % probability.

    A bootstrap says how much the metric differs between samples of this size. The rows to come are one more such sample: between
    these and those lies the square root of two times as much. Rows of one unit (an entity, a group, a stretch of time) are drawn
    together, because they resemble each other. A metric with an end (1, or 0) is stretched on a scale without one (log odds, log).

    Args:
        truth: of the test rows.
        given: what was predicted of them.
        units: each row's unit, as a number from 0.
        seed: of the resamples.
        metrics: default all that can be measured. One that has no meaning in too many resamples is left out.
    """
    import numpy as np

    measured = measure(truth, given)
    wanted = [name for name in (metrics or measured) if name in measured]
    if not wanted or len(np.unique(units)) < _LEAST_UNITS:
        return {}
    chosen = _some(units, seed)
    places = np.unique(units[chosen], return_inverse=True)[1]
    # A resample of fewer rows differs by more: as the square root of their number.
    stretch = math.sqrt(2.0 * len(chosen) / len(truth))
    drawn: dict[str, list[Any]] = {name: [] for name in wanted}
    for weights in drawn_weights(places, resamples=_RESAMPLES, seed=seed):
        for name in wanted:
            drawn[name].append(weighted(truth[chosen], given.take(chosen), name, weights))
    found: dict[str, Interval] = {}
    for name in wanted:
        values = np.concatenate(drawn[name])
        values = values[np.isfinite(values)]
        if len(values) >= _RESAMPLES // 2:
            found[name] = _stretched(name, measured[name], values, stretch, rows=len(truth))
    return found


def _some(units: "np.ndarray[Any, Any]", seed: int) -> "np.ndarray[Any, Any]":
    """All rows, or where they are many those of some units."""
    import numpy as np

    if len(units) <= _MOST_ROWS:
        return np.arange(len(units))
    order = np.random.default_rng(seed).permutation(int(units.max()) + 1)
    sizes = np.bincount(units, minlength=len(order))[order]
    kept = order[: max(_LEAST_UNITS, int(np.searchsorted(sizes.cumsum(), _MOST_ROWS)))]
    return np.flatnonzero(np.isin(units, kept))


def _stretched(name: str, value: float, values: "np.ndarray[Any, Any]", stretch: float, *, rows: int) -> Interval:
    import numpy as np

    scale = _scale(name, rows)
    around = scale.to(values)
    low, high = np.quantile(around - np.median(around), [0.025, 0.975]) * stretch
    ends = sorted(float(scale.back(scale.to(value) + end)) for end in (low, high))
    return Interval(min(ends[0], value), max(ends[1], value))


def _scale(name: str, rows: int) -> _Scale:
    import numpy as np

    if name == "r2":
        return _Scale(lambda value: -np.log(np.maximum(1.0 - value, 1e-12)), lambda value: 1.0 - np.exp(-value))
    if name in LOWER_IS_BETTER:
        return _Scale(lambda value: np.log(np.maximum(value, 1e-12)), np.exp)
    edge = 0.5 / rows

    def odds(value: Any) -> Any:
        inside = np.clip(value, edge, 1.0 - edge)
        return np.log(inside / (1.0 - inside))

    return _Scale(odds, lambda value: 1.0 / (1.0 + np.exp(-value)))
