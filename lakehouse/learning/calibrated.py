"""A classifier whose probabilities are what was observed of rows it had not learned from. A stored model may name this class."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: TID253  an estimator is a subclass; only training and prediction import this

from lakehouse.learning.evaluation import answers


class Calibrated(ClassifierMixin, BaseEstimator):
    """Log-probabilities times a slope, plus an intercept for the second of two classes, brought back to a sum of 1.

    For two classes this is Platt's sigmoid on the log odds, for more Guo's temperature. The order of the rows never changes, nor, as long
    as the threshold is one half, which of more than two classes is the likeliest.

    Args:
        estimator: the classifier.
        slope: below 1 for one that is too sure of itself.
        intercept: of the log odds of the second class of two.
        threshold: of the first of two classes' rival: the second is answered from this probability on.
    """

    def __init__(self, estimator: Any, *, slope: float = 1.0, intercept: float = 0.0, threshold: float = 0.5) -> None:
        self.estimator = estimator
        self.slope = slope
        self.intercept = intercept
        self.threshold = threshold

    def fit(self, values: Any, labels: Any) -> "Calibrated":
        """Fit the classifier; the calibration is given."""
        self.estimator.fit(values, labels)
        self.classes_ = self.estimator.classes_
        return self

    def predict_proba(self, values: Any) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """One column per class."""
        return calibrated(np.asarray(self.estimator.predict_proba(values), dtype="float64"), self.slope, self.intercept)

    def predict(self, values: Any) -> "np.ndarray[Any, Any]":
        """The likeliest class; of two the second from the threshold on."""
        return np.asarray(self.classes_)[answers(self.predict_proba(values), self.threshold)]


def calibrated(probabilities: "np.ndarray[Any, Any]", slope: float, intercept: float) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Probabilities as `Calibrated` gives them."""
    if (slope, intercept) == (1.0, 0.0):
        return probabilities
    scores = slope * np.log(np.clip(probabilities, 1e-12, 1.0))
    scores[:, -1] += intercept
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)
