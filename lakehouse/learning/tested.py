"""What a model said of its test rows, small enough to keep with its report, and as a picture."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.learning.evaluation import Predictions
from lakehouse.pictures import GOOD, QUIET, png

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

_MOST_CLASSES = 15
_MOST_POINTS = 400
_OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class Confusion:
    """Test rows by true class (a row of `counts`) and predicted class (a column); rare classes beyond the first ones are one."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        """As recorded."""
        return asdict(self)

    def picture(self) -> bytes:
        """Shaded by the share of the true class."""

        def draw(axes: "Axes") -> None:
            shares = [[count / (sum(row) or 1) for count in row] for row in self.counts]
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            size = 8 if len(self.labels) <= 8 else 5
            for i, row in enumerate(self.counts):
                for j, count in enumerate(row):
                    color = "white" if shares[i][j] > 0.5 else "black"
                    axes.text(j, i, f"{count:,}", ha="center", va="center", color=color, fontsize=size)
            places = list(range(len(self.labels)))
            names = [label if len(label) <= 20 else f"{label[:19]}…" for label in self.labels]
            axes.set_xticks(places, names, rotation=45 if len(places) > 3 else 0, ha="right" if len(places) > 3 else "center")
            axes.set_yticks(places, names)
            axes.set_xlabel("predicted")
            axes.set_ylabel("true")

        return png("Test rows: true against predicted", draw)


@dataclass(frozen=True, slots=True)
class Pairs:
    """True and predicted numbers of test rows: all, or as many as a picture can show, evenly over the true ones."""

    actual: tuple[float, ...]
    predicted: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """As recorded."""
        return asdict(self)

    def picture(self) -> bytes:
        """One point per row; on the line the prediction is right."""

        def draw(axes: "Axes") -> None:
            low, high = min(*self.actual, *self.predicted), max(*self.actual, *self.predicted)
            axes.plot([low, high], [low, high], color=QUIET, linewidth=1)
            axes.scatter(self.actual, self.predicted, s=6, alpha=0.4, color=GOOD, linewidths=0)
            axes.set_xlabel("actual")
            axes.set_ylabel("predicted")

        return png("Test rows: predicted against actual", draw)


def outcome_of(truth: "np.ndarray[Any, Any]", given: Predictions) -> Confusion | Pairs:
    """What was so and what was said, of classes as counts, of numbers as pairs."""
    return _pairs(truth, given) if given.probabilities is None else _confusion(truth, given)


def outcome_from(recorded: Mapping[str, Any] | None) -> Confusion | Pairs | None:
    """What `as_dict` gave; None for a report from before it was recorded."""
    if not recorded:
        return None
    if "labels" in recorded:
        return Confusion(tuple(recorded["labels"]), tuple(tuple(row) for row in recorded["counts"]))
    return Pairs(tuple(recorded["actual"]), tuple(recorded["predicted"]))


def _confusion(truth: "np.ndarray[Any, Any]", given: Predictions) -> Confusion:
    from collections import Counter

    frequent = Counter(str(one) for one in truth)
    # Every class the model knows or the rows have, the most frequent first, then as sorted.
    known = sorted({*given.classes, *frequent}, key=lambda one: (-frequent[one], one))
    folded = len(known) > _MOST_CLASSES
    kept = known[: _MOST_CLASSES - 1] if folded else known
    labels = (*sorted(kept), _OTHERS) if folded else tuple(sorted(kept))
    place = {label: number for number, label in enumerate(labels)}
    last = len(labels) - 1
    counts = [[0] * len(labels) for _ in labels]
    for (true, said), rows in Counter(zip(map(str, truth), map(str, given.predicted), strict=True)).items():
        counts[place.get(true, last)][place.get(said, last)] += rows
    return Confusion(labels, tuple(tuple(row) for row in counts))


def _pairs(truth: "np.ndarray[Any, Any]", given: Predictions) -> Pairs:
    import numpy as np

    order = np.argsort(truth, kind="stable")
    if len(order) > _MOST_POINTS:
        order = order[np.linspace(0, len(order) - 1, _MOST_POINTS).round().astype(int)]
    # Six digits are more than can be seen.
    actual, predicted = (tuple(float(f"{value:.6g}") for value in values[order]) for values in (truth, given.predicted))
    return Pairs(actual, predicted)
