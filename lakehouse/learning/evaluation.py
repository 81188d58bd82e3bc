"""How good predictions are: every metric a contract can name, its direction, and how sure one can be of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.contracts.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    import numpy as np

_CLOSE_TO_ZERO = 1e-12


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model said of some rows.

    Attributes:
        predicted: the class as text, or the number.
        probabilities: one column per class in the order of `classes`; None for regression.
        classes: every class the model knows, sorted; empty for regression.
        positive: of two classes the one that precision, recall and F1 are about.
    """

    predicted: "np.ndarray[Any, Any]"
    probabilities: "np.ndarray[Any, Any] | None" = None
    classes: tuple[str, ...] = ()
    positive: str | None = None

    def take(self, rows: "np.ndarray[Any, Any]") -> "Predictions":
        """The same of some of the rows."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return Predictions(self.predicted[rows], probabilities, self.classes, self.positive)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a metric will lie on as many rows as it was measured on, with 95 % probability."""

    low: float
    high: float


def predict(pipeline: Any, frame: Any, *, positive: str | None, threshold: float | None = None) -> Predictions:
    """Ask a fitted pipeline about a frame's rows.

    Args:
        pipeline: fitted.
        frame: its features.
        positive: of two classes the one that the threshold and some metrics are about.
        threshold: the positive class is answered from this probability on; None for the pipeline's own.
    """
    import numpy as np

    if not hasattr(pipeline, "predict_proba"):
        return Predictions(np.asarray(pipeline.predict(frame), dtype="float64"))
    probabilities = np.asarray(pipeline.predict_proba(frame), dtype="float64")
    classes = tuple(str(one) for one in pipeline.classes_)
    if not len(probabilities):
        return Predictions(np.asarray([], dtype=object), probabilities, classes, positive)
    if threshold is None or positive is None:
        places = answers(probabilities, _last_threshold(pipeline))
    else:
        place = classes.index(positive)
        places = np.where(probabilities[:, place] >= threshold, place, 1 - place)
    return Predictions(np.asarray(classes, dtype=object)[places], probabilities, classes, positive)


def own_threshold(pipeline: Any, positive: str) -> float:
    """The probability from which a fitted pipeline of two classes answers the positive one by itself."""
    last = float(_last_threshold(pipeline))
    return last if str(pipeline.classes_[1]) == positive else 1 - last


def _last_threshold(pipeline: Any) -> float:
    """Of the second of two classes; only a calibrated last step has one of its own."""
    return getattr(pipeline.steps[-1][1] if hasattr(pipeline, "steps") else pipeline, "threshold", 0.5)


def answers(probabilities: "np.ndarray[Any, Any]", threshold: float) -> "np.ndarray[Any, Any]":
    """The place of each row's answer among the classes: the likeliest; of two the second from the threshold on."""
    if probabilities.shape[1] == 2 and threshold != 0.5:
        return (probabilities[:, 1] >= threshold).astype("int64")
    return probabilities.argmax(axis=1)


def average(one: Predictions, other: Predictions) -> Predictions:
    """What two models say together: the mean of their probabilities, or of their numbers."""
    import numpy as np

    if one.probabilities is None or other.probabilities is None:
        return Predictions((one.predicted + other.predicted) / 2)
    probabilities = (one.probabilities + other.probabilities) / 2
    predicted = np.asarray(one.classes, dtype=object)[probabilities.argmax(axis=1)]
    return Predictions(predicted, probabilities, one.classes, one.positive)


def measure(truth: "np.ndarray[Any, Any]", given: Predictions, *, areas: bool = True) -> dict[str, float]:
    """Every metric that can be computed; one that has no meaning here (no positive row, one class) is left out.

    Args:
        truth: what was so.
        given: what was predicted.
        areas: whether to compute the areas under curves too, which cost more than all the rest.
    """
    if given.probabilities is None:
        return _regression(truth, given.predicted)
    return _classification(truth, given) | (_areas_of(truth, given) if areas else {})


def _regression(truth: "np.ndarray[Any, Any]", predicted: "np.ndarray[Any, Any]") -> dict[str, float]:
    import numpy as np

    error = truth - predicted
    spread = float(((truth - truth.mean()) ** 2).sum()) if len(truth) else 0.0
    measured = {
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
        "median_ae": float(np.median(np.abs(error))),
    }
    if spread > 0:
        measured["r2"] = 1.0 - float((error**2).sum()) / spread
    if not np.any(np.abs(truth) < _CLOSE_TO_ZERO):
        measured["mape"] = float(np.abs(error / truth).mean())
    return measured


def _classification(truth: "np.ndarray[Any, Any]", given: Predictions) -> dict[str, float]:
    import numpy as np

    # Macro averages are over the classes that are there: one the model knows but the rows lack can't be missed.
    present = sorted(set(truth))
    parts = [_of_class(truth == one, given.predicted == one) for one in present]
    support = np.asarray([(truth == one).sum() for one in present], dtype="float64")
    scores = np.asarray([part.f1 for part in parts])
    measured = {
        "accuracy": float((truth == given.predicted).mean()),
        "balanced_accuracy": float(np.mean([part.recall for part in parts])),
        "f1_macro": float(scores.mean()),
        "f1_weighted": float(np.average(scores, weights=support)),
        "log_loss": _log_loss(truth, given),
    }
    if given.positive is None or given.positive not in given.classes or given.probabilities is None:
        precision, recall = (float(np.mean(values)) for values in ([part.precision for part in parts], [part.recall for part in parts]))
        return measured | {"precision": precision, "recall": recall, "f1": measured["f1_macro"]}
    score = given.probabilities[:, given.classes.index(given.positive)]
    is_positive = truth == given.positive
    part = _of_class(is_positive, given.predicted == given.positive)
    brier = float(((score - is_positive) ** 2).mean())
    return measured | {"precision": part.precision, "recall": part.recall, "f1": part.f1, "brier": brier}


@dataclass(frozen=True, slots=True)
class _ClassScore:
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def _of_class(is_one: "np.ndarray[Any, Any]", said_one: "np.ndarray[Any, Any]") -> _ClassScore:
    """Precision and recall of one class; 0 where nothing was said or nothing was there."""
    hits, said, there = (float(values.sum()) for values in (is_one & said_one, said_one, is_one))
    return _ClassScore(hits / said if said else 0.0, hits / there if there else 0.0)


def _areas(is_one: "np.ndarray[Any, Any]", score: "np.ndarray[Any, Any]") -> dict[str, float]:
    """Areas under the ROC and the precision-recall curve, where both kinds of rows are there."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    if not 0 < is_one.sum() < len(is_one):
        return {}
    return {"roc_auc": float(roc_auc_score(is_one, score)), "average_precision": float(average_precision_score(is_one, score))}


def _log_loss(truth: "np.ndarray[Any, Any]", given: Predictions) -> float:
    import numpy as np

    place = {one: index for index, one in enumerate(given.classes)}
    columns = np.asarray([place.get(one, -1) for one in truth])
    probabilities = given.probabilities if given.probabilities is not None else np.zeros((len(truth), 1))
    # A class that training never saw had no chance: it counts as the smallest probability there is.
    said = np.where(columns >= 0, probabilities[np.arange(len(truth)), columns], 0.0)
    return float(-np.log(np.clip(said, 1e-15, 1.0)).mean())


def _areas_of(truth: "np.ndarray[Any, Any]", given: Predictions) -> dict[str, float]:
    """The areas for the positive class; without one, their mean over classes, each against the rest."""
    if given.probabilities is None:
        return {}
    wanted = [one for one in given.classes if one == given.positive] or list(given.classes)
    areas = [_areas(truth == one, given.probabilities[:, given.classes.index(one)]) for one in wanted]
    return mean_metrics([area for area in areas if area])


@dataclass(frozen=True, slots=True)
class MinimumCheck:
    """What a contract demands of one metric, and what was reached."""

    metric: str
    demanded: float
    reached: float | None

    @property
    def passed(self) -> bool:
        """Whether it was reached; for a metric where less is better the demand is an upper limit."""
        if self.reached is None:
            return False
        return self.reached <= self.demanded if self.metric in LOWER_IS_BETTER else self.reached >= self.demanded

    def __str__(self) -> str:
        word = "at most" if self.metric in LOWER_IS_BETTER else "at least"
        reached = "not measurable" if self.reached is None else f"{self.reached:.4f}"
        return f"{self.metric} {reached}, demanded {word} {self.demanded:g}"


def check_minimums(minimums: Mapping[str, float], metrics: Mapping[str, float]) -> tuple[MinimumCheck, ...]:
    """Every demand of the contract against the test metrics."""
    return tuple(MinimumCheck(name, demanded, metrics.get(name)) for name, demanded in sorted(minimums.items()))


def mean_metrics(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over folds of every metric that all of them have."""
    if not folds:
        return {}
    shared = set(folds[0]).intersection(*folds)
    return {name: sum(fold[name] for fold in folds) / len(folds) for name in sorted(shared)}
