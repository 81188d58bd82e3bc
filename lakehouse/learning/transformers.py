"""Our own scikit-learn transformers. A stored model may name these classes and no others outside scikit-learn."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin  # noqa: TID253  a transformer is a subclass; only training and prediction import this

if TYPE_CHECKING:
    import pandas as pd

_PARTS = ("days", "month", "weekday", "hour")
_DAY_US = 86_400_000_000


class DateParts(TransformerMixin, BaseEstimator):
    """Times as numbers: days since 1970, month, weekday and hour (UTC); a missing time is NaN in all of them."""

    def fit(self, frame: "pd.DataFrame", _labels: Any = None) -> "DateParts":
        """Remember the columns; nothing is learned."""
        self.feature_names_in_ = np.asarray(frame.columns, dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        return self

    def transform(self, frame: "pd.DataFrame") -> "np.ndarray[Any, np.dtype[np.float64]]":
        """One block of parts per column."""
        return np.column_stack([self._parts(frame[column]) for column in self.feature_names_in_])

    def get_feature_names_out(self, _input_features: Any = None) -> "np.ndarray[Any, np.dtype[np.object_]]":
        """`<column>_<part>`."""
        return np.asarray([f"{column}_{part}" for column in self.feature_names_in_ for part in _PARTS], dtype=object)

    @staticmethod
    def _parts(values: "pd.Series") -> "np.ndarray[Any, np.dtype[np.float64]]":
        times = values.astype("datetime64[us]")
        elapsed = times.to_numpy().view("int64").astype("float64") / _DAY_US
        columns = [elapsed, times.dt.month.to_numpy(), times.dt.weekday.to_numpy(), times.dt.hour.to_numpy()]
        parts = np.column_stack([np.asarray(column, dtype="float64") for column in columns])
        parts[times.isna().to_numpy()] = np.nan
        return parts


class GapsKept(TransformerMixin, BaseEstimator):
    """Numbers with their gaps as they are, except that a column without any value when it was fitted is zero throughout.

    Boosting learns on which side of a split a gap belongs, but scikit-learn's can't cut a column of gaps alone into bins
    (`window shape cannot be larger than input array shape`), and in an early fold a lagged feature is one.
    """

    def fit(self, values: Any, _labels: Any = None) -> "GapsKept":
        """Remember which columns are empty."""
        numbers = np.asarray(values, dtype="float64")
        self.n_features_in_ = numbers.shape[1]
        self.is_empty_ = np.isnan(numbers).all(axis=0)
        return self

    def transform(self, values: Any) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """The numbers."""
        numbers = np.array(values, dtype="float64")
        numbers[:, self.is_empty_] = 0.0
        return numbers

    def get_feature_names_out(self, input_features: Any = None) -> "np.ndarray[Any, np.dtype[np.object_]]":
        """The columns' own names."""
        return np.asarray(input_features, dtype=object)
