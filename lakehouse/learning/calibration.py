"""Probabilities that mean what they say, and the threshold that answers best: learned from what was predicted out of fold."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from lakehouse.learning.evaluation import Predictions, answers, measure
from lakehouse.pictures import GOOD, QUIET, png

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from lakehouse.learning.candidates import Candidate, Fold

_LEAST_ROWS = 100
_MOST_ROWS = 20_000
_BINS = 10
# So many standard errors must the log loss of rows that the calibration was not fitted on become less.
_SURE = 2.0
_THRESHOLD_METRICS = frozenset({"f1", "balanced_accuracy"})


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is done to a classifier's probabilities, and why.

    Attributes:
        slope: of the log-probabilities; 1 leaves them.
        intercept: of the log odds of the second of two classes; 0 leaves them.
        threshold: of two classes the second is answered from this probability on.
        notes: what was found out of fold, for people.
    """

    slope: float = 1.0
    intercept: float = 0.0
    threshold: float = 0.5
    notes: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return (self.slope, self.intercept, self.threshold) != (1.0, 0.0, 0.5)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Rows by what was said of them: for each range of probability its mean, the share that came true, and the rows.

    Of more than two classes it is about the class that was answered.
    """

    said: tuple[float, ...]
    observed: tuple[float, ...]
    rows: tuple[int, ...]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance between said and observed."""
        total = sum(self.rows)
        return (
            sum(abs(said - seen) * rows for said, seen, rows in zip(self.said, self.observed, self.rows, strict=True)) / total
            if total
            else 0.0
        )

    def as_dict(self) -> dict[str, Any]:
        """As recorded."""
        return asdict(self)

    @classmethod
    def from_dict(cls, recorded: dict[str, Any] | None) -> "Reliability | None":
        """What `as_dict` gave; None for a report from before this was kept."""
        return cls(**{name: tuple(values) for name, values in recorded.items()}) if recorded else None

    def picture(self) -> bytes:
        """On the line a probability means what it says; the larger a point, the more rows."""

        def draw(axes: "Axes") -> None:
            most = max(self.rows, default=1)
            axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1)
            axes.plot(self.said, self.observed, color=GOOD, linewidth=1)
            axes.scatter(self.said, self.observed, s=[8 + 72 * rows / most for rows in self.rows], color=GOOD, linewidths=0)
            axes.set_xlabel("probability that was said")
            axes.set_ylabel("share that came true")

        return png("Test rows: what a probability meant", draw)


def reliability(truth: "np.ndarray[Any, Any]", given: Predictions) -> Reliability | None:
    """The ranges of probability with what came of them; None for numbers."""
    import numpy as np

    if given.probabilities is None:
        return None
    if given.positive in given.classes:
        said, came = given.probabilities[:, given.classes.index(given.positive)], truth == given.positive
    else:
        said, came = given.probabilities.max(axis=1), truth == given.predicted
    place = np.minimum((said * _BINS).astype(int), _BINS - 1)
    filled = [bin_ for bin_ in range(_BINS) if (place == bin_).any()]
    return Reliability(
        tuple(round(float(said[place == bin_].mean()), 6) for bin_ in filled),
        tuple(round(float(came[place == bin_].mean()), 6) for bin_ in filled),
        tuple(int((place == bin_).sum()) for bin_ in filled),
    )


def calibrate(
    candidate: "Candidate",
    labels: "np.ndarray[Any, Any]",
    folds: "Sequence[Fold]",
    *,
    threshold_for: str | None,
    is_weighted: bool = False,
) -> Calibration:
    """What the candidate's own out-of-fold predictions say of its probabilities, kept only where it holds for the folds it was not fitted on.

    Args:
        candidate: cross-validated on `folds`.
        labels: of the training rows.
        folds: those that it was judged by.
        threshold_for: of two classes the metric that the threshold is chosen by; None leaves it at one half.
        is_weighted: rare classes counted for more, so that probabilities of two classes have to be put back.
    """
    if not candidate.judged or any(said.probabilities is None for said in candidate.judged):
        return Calibration()
    parts = [_thinned(labels[fold.judge], said, _MOST_ROWS // len(folds)) for fold, said in zip(folds, candidate.judged, strict=True)]
    # A class that one fold did not know has no column there.
    if len({said.classes for _, said in parts}) > 1:
        return Calibration()
    undone = _undone(parts) if is_weighted and len(parts[0][1].classes) == 2 else Calibration()
    if len(parts) < 2 or sum(len(truth) for truth, _ in parts) < _LEAST_ROWS:
        # Too few to choose a threshold by: the weighted model's own answers stay.
        return replace(undone, threshold=round(1 / (1 + math.exp(-undone.intercept)), 4))
    mapped = _mapping([_mapped(part, undone) for part in parts])
    intercept = round(mapped.slope * undone.intercept + mapped.intercept, 4)
    found = replace(mapped, intercept=intercept, notes=(*undone.notes, *mapped.notes))
    return _threshold(found, parts, threshold_for) if threshold_for is not None and len(parts[0][1].classes) == 2 else found


def _thinned(truth: "np.ndarray[Any, Any]", said: Predictions, most: int) -> "tuple[np.ndarray[Any, Any], Predictions]":
    """Rows of a fold, evenly over its order: three numbers need no more."""
    import numpy as np

    if len(truth) <= most:
        return truth, said
    rows = np.linspace(0, len(truth) - 1, most).astype(int)
    return truth[rows], said.take(rows)


def _undone(parts: "list[tuple[np.ndarray[Any, Any], Predictions]]") -> Calibration:
    """The intercept that takes back the weights of two classes: what is said is on average what came true.

    It lies between nothing, for an algorithm that takes no weights, and the log of the classes' odds, which is what weights that make
    them count the same have added (Elkan 2001, "The Foundations of Cost-Sensitive Learning").
    """
    import numpy as np
    from scipy.optimize import brentq

    from lakehouse.learning.calibrated import calibrated

    said = np.concatenate([np.asarray(one.probabilities) for _, one in parts])
    second = parts[0][1].classes[1]
    share = float(np.concatenate([truth == second for truth, _ in parts]).mean())
    if not 0 < share < 1:
        return Calibration()
    whole = math.log(share / (1 - share))

    def excess(part: float) -> float:
        return float(calibrated(said, 1.0, part * whole)[:, 1].mean()) - share

    before, after = excess(0.0), excess(1.0)
    if before * after < 0:
        solve: Callable[..., Any] = brentq
        part = float(solve(excess, 0.0, 1.0, xtol=1e-6))
    else:
        part = 0.0 if abs(before) <= abs(after) else 1.0
    intercept = round(part * whole, 4)
    if not intercept:
        return Calibration()
    note = (
        f"the weights of rare classes are taken back from the probabilities: out of fold that of {second} is {before + share:.2f} on average "
        f"with them, {share:.2f} of the rows have it"
    )
    return Calibration(intercept=intercept, notes=(note,))


def _mapping(parts: "list[tuple[np.ndarray[Any, Any], Predictions]]") -> Calibration:
    """The slope and intercept, if those of the other folds make the log loss of each fold less by more than chance."""
    import numpy as np

    gains = np.concatenate(
        [_losses(*part) - _losses(*_mapped(part, _fitted([other for other in parts if other is not part]))) for part in parts]
    )
    before = float(np.concatenate([_losses(*part) for part in parts]).mean())
    gain, error = float(gains.mean()), float(gains.std() / len(gains) ** 0.5)
    if not gain > _SURE * error:
        return Calibration()
    note = f"probabilities are calibrated: out of fold the log loss is {before - gain:.4f}, without it {before:.4f}"
    return replace(_fitted(parts), notes=(note,))


def _fitted(parts: "list[tuple[np.ndarray[Any, Any], Predictions]]") -> Calibration:
    """The slope and intercept with the least log loss."""
    import numpy as np
    from scipy.optimize import minimize

    from lakehouse.learning.calibrated import calibrated

    two = len(parts[0][1].classes) == 2
    probabilities = np.concatenate([np.asarray(said.probabilities) for _, said in parts])
    columns = np.concatenate([_columns(*part) for part in parts])

    def loss(values: "np.ndarray[Any, Any]") -> float:
        mapped = calibrated(probabilities, float(np.exp(values[0])), float(values[1]) if two else 0.0)
        return float(_of_columns(mapped, columns).mean())

    # The logarithm of the slope: it stays above 0, so that the order of the rows does.
    best = minimize(loss, np.zeros(2 if two else 1), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6, "maxiter": 120}).x
    return Calibration(round(float(np.exp(best[0])), 4), round(float(best[1]), 4) if two else 0.0)


def _mapped(part: "tuple[np.ndarray[Any, Any], Predictions]", calibration: Calibration) -> "tuple[np.ndarray[Any, Any], Predictions]":
    """The same rows as the calibrated model would have answered."""
    import numpy as np

    from lakehouse.learning.calibrated import calibrated

    truth, said = part
    probabilities = calibrated(np.asarray(said.probabilities), calibration.slope, calibration.intercept)
    predicted = np.asarray(said.classes, dtype=object)[answers(probabilities, calibration.threshold)]
    return truth, replace(said, probabilities=probabilities, predicted=predicted)


def _losses(truth: "np.ndarray[Any, Any]", said: Predictions) -> "np.ndarray[Any, Any]":
    """Each row's log loss."""
    import numpy as np

    return _of_columns(np.asarray(said.probabilities), _columns(truth, said))


def _columns(truth: "np.ndarray[Any, Any]", said: Predictions) -> "np.ndarray[Any, Any]":
    """The place of each row's true class; -1 for one that the model does not know."""
    import numpy as np

    place = {one: column for column, one in enumerate(said.classes)}
    return np.asarray([place.get(one, -1) for one in truth])


def _of_columns(probabilities: "np.ndarray[Any, Any]", columns: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    import numpy as np

    given = np.where(columns >= 0, probabilities[np.arange(len(columns)), columns], 0.0)
    return -np.log(np.clip(given, 1e-12, 1.0))


def _threshold(calibration: Calibration, parts: "list[tuple[np.ndarray[Any, Any], Predictions]]", metric: str) -> Calibration:
    """The threshold with the best metric over all out-of-fold rows; the one nearest to one half among equals."""
    import numpy as np

    truth = np.concatenate([one for one, _ in parts])
    together = replace(parts[0][1], probabilities=np.concatenate([np.asarray(said.probabilities) for _, said in parts]))
    reached: dict[float, float] = {}
    for tried in sorted((step / 50 for step in range(2, 49)), key=lambda value: abs(value - 0.5)):
        mapped = _mapped((truth, together), replace(calibration, threshold=tried))
        reached[tried] = measure(*mapped, areas=False).get(metric, 0.0)
    best = max(reached, key=lambda tried: reached[tried])
    if best == 0.5:
        return calibration
    second = parts[0][1].classes[1]
    note = (
        f"answers {second} from a probability of {best:.2f} on: out of fold {metric} is {reached[best]:.4f}, at one half {reached[0.5]:.4f}"
    )
    return replace(calibration, threshold=best, notes=(*calibration.notes, note))


def threshold_metric(metric: str, minimums: Sequence[str], imbalance: str) -> str | None:
    """The metric that decides the threshold: one that a contract asks for and that has one, or F1 where it asks for balance."""
    if imbalance == "none":
        return None
    asked = next((one for one in (metric, *minimums) if one in _THRESHOLD_METRICS), None)
    return asked or ("f1" if imbalance == "balanced" else None)


def with_calibration(pipeline: Any, calibration: Calibration) -> Any:
    """The unfitted pipeline with its last step calibrated; the same where there is nothing to do."""
    from sklearn.pipeline import Pipeline

    if not calibration.changes:
        return pipeline
    from lakehouse.learning.calibrated import Calibrated

    *before, (name, last) = pipeline.steps
    wrapped = Calibrated(last, slope=calibration.slope, intercept=calibration.intercept, threshold=calibration.threshold)
    return Pipeline([*before, (name, wrapped)])
