"""Where a model errs: the kinds of test rows whose error differs from that of all others by more than chance."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.learning.evaluation import Interval, Predictions, measure
from lakehouse.learning.intervals import metric_intervals
from lakehouse.learning.multiple_tests import holm
from lakehouse.learning.schema import FeatureSchema, Kind

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_MOST_VALUES = 12
_RANGES = 4
_LEAST_ROWS = 30
_MOST_SEGMENTS = 12
_CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Segment:
    """Test rows that share a value, or a range of values.

    Attributes:
        feature: the column.
        value: what they share, for people: a value, `missing`, or a range with its lower end outside and its upper end inside.
        rows: how many.
        error: share of wrong answers; of numbers the mean distance from the truth.
        elsewhere: the same of all other test rows.
        metric: value of the choosing metric on these rows; None where it has no meaning for them.
        interval: where the metric lies on as many new rows like these.
    """

    feature: str
    value: str
    rows: int
    error: float
    elsewhere: float
    metric: float | None
    interval: Interval | None

    def __str__(self) -> str:
        return f"{self.feature} {self.value} ({self.rows:,} rows): error {self.error:.4g}, elsewhere {self.elsewhere:.4g}"

    def as_dict(self) -> dict[str, Any]:
        """As recorded."""
        return {**asdict(self), "interval": [self.interval.low, self.interval.high] if self.interval else None}


def segment_from(recorded: dict[str, Any]) -> Segment:
    """What `as_dict` gave."""
    rest = {name: value for name, value in recorded.items() if name != "interval"}
    return Segment(**rest, interval=Interval(*recorded["interval"]) if recorded["interval"] else None)


def find_segments(
    frame: "pd.DataFrame",
    schema: FeatureSchema,
    truth: "np.ndarray[Any, Any]",
    given: Predictions,
    units: "np.ndarray[Any, Any]",
    *,
    metric: str,
    seed: int,
) -> tuple[Segment, ...]:
    """The segments that differ, the worst first.

    Every value of a column with few values and every quarter of a number's range is asked about. The error of its rows is compared with
    that of all others (a z-test of the difference of both means whose standard error is robust to units: rows that resemble each other
    count once), and Holm's correction keeps the chance of any false finding at 5 %.
    """
    import numpy as np

    wrong = np.abs(truth - given.predicted) if given.probabilities is None else (truth != given.predicted).astype("float64")
    asked: list[tuple[str, str, np.ndarray[Any, Any], float]] = []
    for feature in schema.features:
        for value, rows in _parts(frame[feature.name], feature.kind):
            if min(rows.sum(), (~rows).sum()) >= _LEAST_ROWS:
                asked.append((feature.name, value, rows, _p_value(wrong, rows, units)))
    adjusted = holm([one[3] for one in asked])
    found = [one for one, p_value in zip(asked, adjusted, strict=True) if p_value <= _CHANCE]
    found.sort(key=lambda one: (-float(wrong[one[2]].mean()), one[0], one[1]))
    return tuple(
        Segment(
            feature,
            value,
            int(rows.sum()),
            float(wrong[rows].mean()),
            float(wrong[~rows].mean()),
            measure(truth[rows], given.take(np.flatnonzero(rows))).get(metric),
            _interval(truth, given, units, rows, metric=metric, seed=seed),
        )
        for feature, value, rows, _ in found[:_MOST_SEGMENTS]
    )


def _interval(
    truth: "np.ndarray[Any, Any]",
    given: Predictions,
    units: "np.ndarray[Any, Any]",
    rows: "np.ndarray[Any, Any]",
    *,
    metric: str,
    seed: int,
) -> Interval | None:
    import numpy as np

    places = np.unique(units[rows], return_inverse=True)[1]
    return metric_intervals(truth[rows], given.take(np.flatnonzero(rows)), places, seed=seed, metrics=[metric]).get(metric)


def _parts(values: "pd.Series", kind: Kind) -> Iterator[tuple[str, "np.ndarray[Any, Any]"]]:
    """What the rows of a column can be told apart by: its values if they are few, else ranges that hold as many rows each."""
    import numpy as np

    missing = ((values == "") if kind is Kind.STRING else values.isna()).to_numpy()
    if missing.any():
        yield "is missing", missing
    present = values[~missing]
    if present.nunique() <= _MOST_VALUES:
        for value in sorted(present.unique()):
            shown = f"{value:g}" if kind in {Kind.NUMBER, Kind.BOOLEAN} else str(value)
            yield f"= {shown}", (values == value).to_numpy()
        return
    if kind is Kind.STRING:
        return
    edges = np.unique(present.quantile(np.linspace(0, 1, _RANGES + 1)[1:-1]).to_numpy())
    place = np.where(missing, -1, np.searchsorted(edges, values.to_numpy()))
    names = [f"{edge:.4g}" if kind is Kind.NUMBER else str(edge)[:19] for edge in edges]
    for number in range(len(edges) + 1):
        ends = [f"> {names[number - 1]}"] if number else []
        ends += [f"<= {names[number]}"] if number < len(edges) else []
        yield " and ".join(ends), place == number


def _p_value(wrong: "np.ndarray[Any, Any]", rows: "np.ndarray[Any, Any]", units: "np.ndarray[Any, Any]") -> float:
    """Of the difference between the mean errors inside and outside; 1 where nothing can be said."""
    import numpy as np
    from scipy.stats import norm

    spread = 0.0
    for side in (rows, ~rows):
        # What the units of a side add to the error of its mean: sums of their rows' deviations.
        deviations = np.bincount(units[side], weights=wrong[side] - wrong[side].mean())
        count = len(np.unique(units[side]))
        if count < _LEAST_ROWS // 2:
            return 1.0
        spread += float((deviations**2).sum()) * count / (count - 1) / side.sum() ** 2
    difference = float(wrong[rows].mean() - wrong[~rows].mean())
    return float(2 * norm.sf(abs(difference) / spread**0.5)) if spread > 0 else 1.0
