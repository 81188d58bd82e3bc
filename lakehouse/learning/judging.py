"""How good answers were by labels that came later, and how much of that may be chance. Pure."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import ModelContract
from lakehouse.learning.evaluation import Predictions, measure
from lakehouse.learning.resampling import drawn_weights, weighted

if TYPE_CHECKING:
    import numpy as np

# Of a normal distribution one-sided, 1 %: a rollout and a model are judged again with each measurement.
BEYOND_CHANCE = 2.326
_OF_PROBABILITIES = frozenset({"roc_auc", "average_precision", "log_loss", "brier"})
_OF_POSITIVE = frozenset({"precision", "recall", "f1", "average_precision", "brier"})
_RESAMPLES = 400
_MOST_UNITS = 5_000
# Of fewer rows of a class what a metric says about that class is chance.
_LEAST_OF_CLASS = 10


@dataclass(frozen=True, slots=True)
class Said:
    """Answers of one version beside what was so, one per row.

    Attributes:
        units: what the rows are about, as numbers from 0: rows of one unit resemble each other.
        has_probabilities: the probabilities are the model's, not made up from its answers.
    """

    truth: "np.ndarray[Any, Any]"
    given: Predictions
    units: "np.ndarray[Any, Any]"
    has_probabilities: bool = True

    def __len__(self) -> int:
        """The rows."""
        return len(self.truth)

    def take(self, rows: "np.ndarray[Any, Any]") -> "Said":
        """Some of the rows."""
        return Said(self.truth[rows], self.given.take(rows), self.units[rows], self.has_probabilities)


def usual_metric(contract: ModelContract) -> str:
    """What is measured of every model: accuracy of classes, R2 of numbers."""
    return "r2" if contract.problem == "regression" else "accuracy"


def judged_metric(contract: ModelContract) -> str:
    """The metric that later labels are judged by: the contract's.

    Which of two classes is the positive one is only known where the contract says so: else it is the usual metric for those about it.
    """
    if contract.positive_class is None and contract.metric in _OF_POSITIVE:
        return usual_metric(contract)
    return contract.metric or usual_metric(contract)


def value_of(said: Said, metric: str) -> float | None:
    """The metric over all rows; None where it has no meaning, as where a class that it is about has hardly any row."""
    import numpy as np

    if not len(said) or (metric in _OF_PROBABILITIES and not said.has_probabilities):
        return None
    if said.given.probabilities is not None and metric != "accuracy":
        about = [said.given.positive] if said.given.positive is not None else sorted(set(said.truth))
        is_one = [said.truth == one for one in about]
        if any(min(rows.sum(), (~rows).sum()) < _LEAST_OF_CLASS for rows in is_one):
            return None
    value = measure(said.truth, said.given, areas=metric in {"roc_auc", "average_precision"}).get(metric)
    return None if value is None or not np.isfinite(value) else float(value)


def standard_error(metric: str, one: Said, other: Said | None = None, *, seed: int = 7) -> float | None:
    """How far a metric, or the difference of it between two versions, lies from sample to sample: a bootstrap over units.

    What both versions said of one unit is drawn together, so that it does not count as chance that a unit is hard for both. Where
    there are many units some are drawn: with fewer it differs by more, as the square root of their number.

    Args:
        metric: as `lakehouse.learning.evaluation.measure` names it.
        one: answers.
        other: of the version beside it, its units numbered alike.
        seed: same seed, same resamples.
    """
    import numpy as np

    sides = [one] if other is None else [one, other]
    known = np.unique(np.concatenate([side.units for side in sides]))
    if len(known) < 2:
        return None
    kept = known
    if len(known) > _MOST_UNITS:
        kept = np.sort(np.random.default_rng(seed).choice(known, _MOST_UNITS, replace=False))
    drawn = [side.take(np.flatnonzero(np.isin(side.units, kept))) for side in sides]
    if not all(len(side) for side in drawn):
        return None
    places = [np.searchsorted(kept, side.units) for side in drawn]
    with np.errstate(divide="ignore", invalid="ignore"):
        measured = [
            [weighted(side.truth, side.given, metric, weights[:, at]) for side, at in zip(drawn, places, strict=True)]
            for weights in drawn_weights(np.arange(len(kept)), resamples=_RESAMPLES, seed=seed)
        ]
    values = np.concatenate([piece[0] - piece[1] if len(piece) > 1 else piece[0] for piece in measured])
    values = values[np.isfinite(values)]
    if len(values) < _RESAMPLES // 2:
        return None
    return float(values.std(ddof=1)) * math.sqrt(len(kept) / len(known))
