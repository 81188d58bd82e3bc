"""A metric of many weightings of the same rows at once: what a bootstrap needs, in a few passes over a matrix.

The definitions are those of `lakehouse.learning.evaluation.measure`: with whole numbers as weights the value is that of rows which are
there so many times. NaN stands for what has no meaning with these weights, such as an area without a positive row.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lakehouse.learning.evaluation import Predictions

if TYPE_CHECKING:
    import numpy as np

    Values = np.ndarray[Any, np.dtype[np.float64]]

_CELLS = 2_000_000
_AREAS = frozenset({"roc_auc", "average_precision"})
_OF_CLASSES = frozenset({"balanced_accuracy", "f1", "f1_macro", "f1_weighted", "precision", "recall"})


def drawn_weights(units: "np.ndarray[Any, Any]", *, resamples: int, seed: int) -> "Iterator[Values]":
    """How often each row is in each resample, piece by piece; rows of one unit are drawn together.

    Args:
        units: number of each row's unit, from 0.
        resamples: how many.
        seed: same seed, same resamples.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    count = int(units.max()) + 1
    piece = max(1, _CELLS // max(count, len(units)))
    for start in range(0, resamples, piece):
        size = min(piece, resamples - start)
        drawn = random.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        counted = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield counted[:, units].astype("float64")


def weighted(truth: "np.ndarray[Any, Any]", given: Predictions, metric: str, weights: "Values") -> "Values":
    """The metric with each row of `weights`, a matrix of resamples by rows."""
    if given.probabilities is None:
        return _of_numbers(truth.astype("float64"), given.predicted, metric, weights)
    if metric in _AREAS:
        return _areas(truth, given, metric, weights)
    if metric in _OF_CLASSES:
        return _of_classes(truth, given, metric, weights)
    return weights @ _row_scores(truth, given, metric) / weights.sum(axis=1)


def row_losses(truth: "np.ndarray[Any, Any]", given: Predictions, metric: str) -> "Values":
    """How wrong each row's answer is, whatever the metric counts: for effect sizes.

    Classes: the squared distance between probabilities and truth. Numbers: the squared error for `rmse` and `r2`, else the absolute one.
    """
    import numpy as np

    if given.probabilities is None:
        error = np.abs(truth.astype("float64") - given.predicted)
        return error**2 if metric in {"rmse", "r2"} else error
    said, is_known = _said_of_truth(truth, given)
    return (given.probabilities**2).sum(axis=1) - np.where(is_known, said**2, 0.0) + np.where(is_known, (1.0 - said) ** 2, 1.0)


def _said_of_truth(truth: "np.ndarray[Any, Any]", given: Predictions) -> "tuple[Values, np.ndarray[Any, Any]]":
    """The probability of each row's true class, and whether the model knows that class."""
    import numpy as np

    place = {one: index for index, one in enumerate(given.classes)}
    columns = np.asarray([place.get(one, -1) for one in truth])
    probabilities = given.probabilities if given.probabilities is not None else np.zeros((len(truth), 1))
    return probabilities[np.arange(len(truth)), columns], columns >= 0


def _row_scores(truth: "np.ndarray[Any, Any]", given: Predictions, metric: str) -> "Values":
    """What each row adds to a metric that is a mean over rows."""
    import numpy as np

    if metric == "accuracy":
        return (truth == given.predicted).astype("float64")
    if metric == "log_loss":
        said, is_known = _said_of_truth(truth, given)
        return -np.log(np.clip(np.where(is_known, said, 0.0), 1e-15, 1.0))
    if metric == "brier" and given.probabilities is not None and given.positive in given.classes:
        return (given.probabilities[:, given.classes.index(given.positive)] - (truth == given.positive)) ** 2
    return np.full(len(truth), np.nan)


def _of_classes(truth: "np.ndarray[Any, Any]", given: Predictions, metric: str, weights: "Values") -> "Values":
    import numpy as np

    of_positive = given.positive in given.classes and metric in {"precision", "recall", "f1"}
    classes = [given.positive] if of_positive else sorted(set(truth))
    is_one = np.column_stack([truth == one for one in classes]).astype("float64")
    said_one = np.column_stack([given.predicted == one for one in classes]).astype("float64")
    hits, said, there = weights @ (is_one * said_one), weights @ said_one, weights @ is_one
    precision, recall = _share(hits, said), _share(hits, there)
    scores = {"precision": precision, "recall": recall, "balanced_accuracy": recall}.get(metric)
    if scores is None:
        scores = _share(2 * precision * recall, precision + recall)
    if of_positive:
        return scores[:, 0]
    # Averages are over the classes that are there, as in `measure`.
    counted = there if metric == "f1_weighted" else (there > 0).astype("float64")
    return (scores * counted).sum(axis=1) / counted.sum(axis=1)


def _share(part: "Values", whole: "Values") -> "Values":
    import numpy as np

    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _areas(truth: "np.ndarray[Any, Any]", given: Predictions, metric: str, weights: "Values") -> "Values":
    import numpy as np

    wanted = [one for one in given.classes if one == given.positive] or list(given.classes)
    columns = given.probabilities if given.probabilities is not None else np.zeros((len(truth), 0))
    total, known = np.zeros(len(weights)), np.zeros(len(weights))
    for one in wanted:
        area = _area(truth == one, columns[:, given.classes.index(one)], weights, of_precision=metric == "average_precision")
        is_known = ~np.isnan(area)
        total[is_known] += area[is_known]
        known += is_known
    return np.divide(total, known, out=np.full(len(weights), np.nan), where=known > 0)


def _area(is_one: "np.ndarray[Any, Any]", score: "Values", weights: "Values", *, of_precision: bool) -> "Values":
    """The area under the ROC curve (ties count half), or the average precision, of one class against the rest."""
    import numpy as np

    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, dtype="int64")
    hits = np.add.reduceat(weights[:, order] * is_one[order], starts, axis=1)
    rest = np.add.reduceat(weights[:, order] * ~is_one[order], starts, axis=1)
    all_hits, all_rest = hits.sum(axis=1), rest.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if of_precision:
            found = hits.cumsum(axis=1)
            precision = _share(found, found + rest.cumsum(axis=1))
            area = (hits * precision).sum(axis=1) / all_hits
        else:
            # Of each group of equal scores: the rest that is ranked below, and half of the rest among its equals.
            below = all_rest[:, None] - rest.cumsum(axis=1)
            area = (hits * (below + rest / 2)).sum(axis=1) / (all_hits * all_rest)
    area[(all_hits == 0) | (all_rest == 0)] = np.nan
    return area


def _of_numbers(truth: "Values", predicted: "Values", metric: str, weights: "Values") -> "Values":
    import numpy as np

    error, size = truth - predicted, weights.sum(axis=1)
    if metric == "rmse":
        return np.sqrt(weights @ error**2 / size)
    if metric == "mae":
        return weights @ np.abs(error) / size
    if metric == "median_ae":
        return _median(np.abs(error), weights)
    if metric == "mape":
        return weights @ np.abs(error / truth) / size if not np.any(np.abs(truth) < 1e-12) else np.full(len(weights), np.nan)
    # Around the mean of all rows: sums of squares lose no digits.
    around = truth - truth.mean()
    spread = weights @ around**2 - (weights @ around) ** 2 / size
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 1.0 - weights @ error**2 / spread, np.nan)


def _median(values: "Values", weights: "Values") -> "Values":
    import numpy as np

    order = np.argsort(values, kind="stable")
    reached = weights[:, order].cumsum(axis=1)
    size = reached[:, -1]
    middle = [(reached > np.floor((size - one) / 2)[:, None]).argmax(axis=1) for one in (0, 1)]
    return (values[order][middle[0]] + values[order][middle[1]]) / 2
