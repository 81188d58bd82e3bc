"""Our own scikit-learn transformers. A stored model may name these classes and no others outside scikit-learn."""

import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin  # noqa: TID253  a transformer is a subclass; only training and prediction import this
from sklearn.decomposition import TruncatedSVD  # noqa: TID253  see above
from sklearn.feature_selection import SelectorMixin  # noqa: TID253  see above

if TYPE_CHECKING:
    import pandas as pd

    Numbers = np.ndarray[Any, np.dtype[np.float64]]
    Names = np.ndarray[Any, np.dtype[np.object_]]

_DAY_US = 86_400_000_000


class DateParts(TransformerMixin, BaseEstimator):
    """Times as numbers: days since 1970, month, weekday and hour (UTC); a missing time is NaN in all of them."""

    parts: ClassVar[tuple[str, ...]] = ("days", "month", "weekday", "hour")

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
        return np.asarray([f"{column}_{part}" for column in self.feature_names_in_ for part in self.parts], dtype=object)

    @staticmethod
    def _parts(values: "pd.Series") -> "np.ndarray[Any, np.dtype[np.float64]]":
        times = values.astype("datetime64[us]")
        elapsed = times.to_numpy().view("int64").astype("float64") / _DAY_US
        columns = [elapsed, times.dt.month.to_numpy(), times.dt.weekday.to_numpy(), times.dt.hour.to_numpy()]
        parts = np.column_stack([np.asarray(column, dtype="float64") for column in columns])
        parts[times.isna().to_numpy()] = np.nan
        return parts


class CyclicDates(DateParts):
    """Times as numbers, with month, weekday and hour as points on a circle, so that December is beside January."""

    parts: ClassVar[tuple[str, ...]] = ("days", "month_sin", "month_cos", "weekday_sin", "weekday_cos", "hour_sin", "hour_cos")

    @staticmethod
    def _parts(values: "pd.Series") -> "Numbers":
        plain = DateParts._parts(values)  # noqa: SLF001  its base's
        angles = 2 * np.pi * (plain[:, 1:] - [1.0, 0.0, 0.0]) / [12.0, 7.0, 24.0]
        circles = np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(len(plain), -1)
        return np.column_stack([plain[:, :1], circles])


class ElapsedDays(DateParts):
    """Times as days since 1970 and nothing else."""

    parts: ClassVar[tuple[str, ...]] = ("days",)

    @staticmethod
    def _parts(values: "pd.Series") -> "Numbers":
        return DateParts._parts(values)[:, :1]  # noqa: SLF001  its base's


class ClippedToFences(TransformerMixin, BaseEstimator):
    """Numbers, none further out than the fences that were learned when it was fitted; gaps stay gaps.

    Args:
        method: z_score, so many standard deviations from the mean; iqr, so many interquartile ranges from the quartiles
            (Tukey, Exploratory Data Analysis, 1977).
        threshold: how many. A column that does not spread by the method's measure has no fences: most of its values are
            one, and the others are what it has to say.
    """

    def __init__(self, method: Literal["z_score", "iqr"] = "iqr", *, threshold: float = 1.5) -> None:
        self.method = method
        self.threshold = threshold

    def fit(self, values: Any, _labels: Any = None) -> "ClippedToFences":
        """Learn the fences."""
        numbers = np.asarray(values, dtype="float64")
        self.n_features_in_ = numbers.shape[1]
        fences = [self._fences(column[~np.isnan(column)]) for column in numbers.T]
        self.low_, self.high_ = (np.asarray(side, dtype="float64") for side in zip(*fences, strict=True))
        return self

    def transform(self, values: Any) -> "Numbers":
        """The numbers within the fences."""
        return np.clip(np.asarray(values, dtype="float64"), self.low_, self.high_)

    def get_feature_names_out(self, input_features: Any = None) -> "Names":
        """The columns' own names."""
        return np.asarray(input_features, dtype=object)

    def _fences(self, present: "Numbers") -> tuple[float, float]:
        if len(present) == 0:
            return -np.inf, np.inf
        if self.method == "z_score":
            low = high = float(present.mean())
            spread = float(present.std())
        else:
            low, high = (float(edge) for edge in np.quantile(present, [0.25, 0.75]))
            spread = high - low
        return (low - self.threshold * spread, high + self.threshold * spread) if spread > 0 else (-np.inf, np.inf)


class NearestRows(TransformerMixin, BaseEstimator):
    """Numbers whose gaps hold the mean of the most similar rows, and a flag for each column that had gaps when it was fitted.

    Rows are compared by all columns, each divided by its standard deviation, for otherwise the one with the largest numbers would
    decide alone. scikit-learn's KNNImputer compares with every row it was fitted on, in a time that grows with their square: it
    gets at most `max_rows` of them, evenly spaced.

    Args:
        wanted: only the first so many columns are given back; the others are there to compare by.
    """

    def __init__(self, wanted: int, *, neighbours: int = 5, max_rows: int = 2000) -> None:
        self.wanted = wanted
        self.neighbours = neighbours
        self.max_rows = max_rows

    def fit(self, values: Any, _labels: Any = None) -> "NearestRows":
        """Remember the rows to compare with."""
        from sklearn.impute import KNNImputer

        numbers = np.asarray(values, dtype="float64")
        self.n_features_in_ = numbers.shape[1]
        columns = [column[~np.isnan(column)] for column in numbers.T]
        self.center_ = np.asarray([column.mean() if len(column) else 0.0 for column in columns])
        spread = np.asarray([column.std() if len(column) else 0.0 for column in columns])
        self.scale_ = np.where(spread > 0, spread, 1.0)
        self.flagged_ = np.flatnonzero(np.isnan(numbers[:, : self.wanted]).any(axis=0))
        chosen = np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), self.max_rows)).astype("int64"))
        self.nearest_ = KNNImputer(n_neighbors=self.neighbours, keep_empty_features=True)
        self.nearest_.fit((numbers[chosen] - self.center_) / self.scale_)
        return self

    def transform(self, values: Any) -> "Numbers":
        """The wanted columns without gaps, then the flags."""
        numbers = np.array(values, dtype="float64")
        gaps = np.isnan(numbers[:, : self.wanted])
        rows = np.flatnonzero(gaps.any(axis=1))
        if len(rows):
            known = numbers[rows]
            filled = np.asarray(self.nearest_.transform((known - self.center_) / self.scale_)) * self.scale_ + self.center_
            # What is known stays to the last bit, which scaling there and back would not leave alone.
            numbers[rows] = np.where(np.isnan(known), filled, known)
        return np.column_stack([numbers[:, : self.wanted], gaps[:, self.flagged_].astype("float64")])

    def get_feature_names_out(self, input_features: Any = None) -> "Names":
        """The columns' own names, and `missingindicator_<column>`."""
        names = list(input_features)[: self.wanted]
        return np.asarray([*names, *(f"missingindicator_{names[place]}" for place in self.flagged_)], dtype=object)


class Oddness(TransformerMixin, BaseEstimator):
    """How odd a row is among those it was fitted on, and whether an isolation forest calls it odd (Liu, Ting, Zhou, 2008).

    No row is left out for it, neither in training nor later: what an odd row means is left to the estimator.

    Args:
        share: of the rows that are odd; None for what the forest finds.
    """

    def __init__(self, *, share: float | None = None, random_state: int | None = None) -> None:
        self.share = share
        self.random_state = random_state

    def fit(self, values: Any, _labels: Any = None) -> "Oddness":
        """Grow the forest."""
        from sklearn.ensemble import IsolationForest

        self.n_features_in_ = int(values.shape[1])
        share: Any = self.share or "auto"
        # Threads would add up the depths in another order each time.
        self.forest_ = IsolationForest(contamination=share, random_state=self.random_state, n_jobs=1).fit(values)
        return self

    def transform(self, values: Any) -> "Numbers":
        """A score from 0 to 1, and 1 for an odd row."""
        odd = -np.asarray(self.forest_.score_samples(values), dtype="float64")
        return np.column_stack([odd, (odd > -float(self.forest_.offset_)).astype("float64")])

    def get_feature_names_out(self, _input_features: Any = None) -> "Names":
        """`oddness` and `is_odd`."""
        return np.asarray(["oddness", "is_odd"], dtype=object)


class Strongest(SelectorMixin, BaseEstimator):
    """Those columns that say most of the target, learned from the rows it is fitted on.

    Args:
        by: statistical, the F test of each column alone; model, its importance in a forest of 100 trees on at most `max_rows` rows.
        keep: below 1 a share of the columns, otherwise their number; at least one is kept, and of equals the first.
    """

    def __init__(
        self,
        by: Literal["statistical", "model"],
        *,
        keep: float,
        problem: str,
        random_state: int | None = None,
        max_rows: int = 20_000,
    ) -> None:
        self.by = by
        self.keep = keep
        self.problem = problem
        self.random_state = random_state
        self.max_rows = max_rows

    def fit(self, values: Any, labels: Any) -> "Strongest":
        """Judge every column."""
        self.n_features_in_ = int(values.shape[1])
        scores = self._tested(values, labels) if self.by == "statistical" else self._important(values, labels)
        number = int(self.keep) if self.keep >= 1 else max(1, round(self.keep * len(scores)))
        self.kept_ = np.zeros(len(scores), dtype=bool)
        self.kept_[np.argsort(-scores, kind="stable")[:number]] = True
        return self

    def _get_support_mask(self) -> Any:
        """What scikit-learn's selectors are asked for."""
        return self.kept_

    def _tested(self, values: Any, labels: Any) -> "Numbers":
        from sklearn.feature_selection import f_classif, f_regression

        test: Any = f_regression if self.problem == "regression" else f_classif
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # A constant column has no F, which is what is wanted here: it comes last.
            warnings.simplefilter("ignore")
            found = np.asarray(test(values, labels)[0], dtype="float64")
        return np.where(np.isnan(found), -1.0, found)

    def _important(self, values: Any, labels: Any) -> "Numbers":
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        build: Any = ExtraTreesRegressor if self.problem == "regression" else ExtraTreesClassifier
        rows = np.unique(np.linspace(0, values.shape[0] - 1, min(values.shape[0], self.max_rows)).astype("int64"))
        forest = build(100, min_samples_leaf=5, max_features=0.5, random_state=self.random_state)
        return np.asarray(forest.fit(values[rows], np.asarray(labels)[rows]).feature_importances_, dtype="float64")


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
