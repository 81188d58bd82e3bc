"""Our own scikit-learn transformers. A stored model may name these classes and no others outside scikit-learn."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin  # noqa: TID253  a transformer is a subclass; only training and prediction import this
from sklearn.decomposition import TruncatedSVD  # noqa: TID253  see above

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


class Projection(TransformerMixin, BaseEstimator):
    """The columns' first principal directions (truncated SVD): as many as asked for, or as there are columns.

    scikit-learn's refuses to give more directions than there are columns, which few different words have.
    """

    def __init__(self, dimensions: int = 60, *, random_state: int | None = None) -> None:
        self.dimensions = dimensions
        self.random_state = random_state

    def fit(self, values: Any, _labels: Any = None) -> "Projection":
        """Find the directions."""
        self.n_features_in_ = int(values.shape[1])
        self.directions_ = None
        self.n_directions_ = 1
        if self.n_features_in_ > 1:
            found = TruncatedSVD(min(self.dimensions, self.n_features_in_), random_state=self.random_state).fit(values)
            self.directions_, self.n_directions_ = found, len(np.asarray(found.components_))
        return self

    def transform(self, values: Any) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """Where each row lies along them; a single column is itself."""
        if self.directions_ is None:
            return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype="float64")
        return np.asarray(self.directions_.transform(values), dtype="float64")

    def get_feature_names_out(self, _input_features: Any = None) -> "np.ndarray[Any, np.dtype[np.object_]]":
        """`direction_<number>`."""
        return np.asarray([f"direction_{number}" for number in range(self.n_directions_)], dtype=object)
