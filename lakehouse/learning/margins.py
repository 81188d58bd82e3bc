"""In which unit a fitted model's answers are explained, and the sums of columns and trees that they are in that unit, if they are.

A classifier that adds up before it squeezes the sum into a probability is explained before that, in log-odds; one that averages
probabilities in those; a number in its own unit. Calibration multiplies log-odds by its slope, so it leaves the first kind a sum; what it does
to the probabilities of a single tree it does to each leaf; an average of several it leaves no sum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from lakehouse.learning.fitted_trees import averaged_trees, boosted_trees, for_classes, is_binned
from lakehouse.learning.origins import prepared_columns
from lakehouse.learning.shapley import Question, Tree, of_sum, of_trees

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Values = np.ndarray[Any, np.dtype[np.float64]]


class Unit(StrEnum):
    """What a contribution is counted in.

    Log-odds are the natural logarithm of p / (1 - p); of more than two classes, of p over the geometric mean of all classes' p.
    """

    LOG_ODDS = "log_odds"
    PROBABILITY = "probability"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class _Sum:
    """Weights of the prepared columns, by answers."""

    weights: "Values"

    def shapley(self, asked: Question, _until: float | None) -> "Values | None":
        return of_sum(self.weights, asked)


@dataclass(frozen=True, slots=True)
class _Trees:
    """Trees on the prepared columns, which are compared as numbers of a type."""

    trees: tuple[Tree, ...]
    number: str

    def shapley(self, asked: Question, until: float | None) -> "Values | None":
        rows, background = (_dense(table, self.number) for table in (asked.rows, asked.background))
        return of_trees(self.trees, Question(rows, background, asked.owners, asked.features, asked.answers), until=until)


@dataclass(frozen=True, slots=True)
class _Part:
    """A share of the answer: a sum or trees on what the preparation gives.

    Attributes:
        prepare: from a frame to columns.
        owners: the feature of each.
    """

    share: float
    prepare: "Callable[[pd.DataFrame], Any]"
    owners: tuple[str, ...]
    found: _Sum | _Trees


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model's answers are explained.

    Attributes:
        unit: of the answers and their contributions.
        answers: rows by classes, or by the one number, in the unit.
        parts: whose sum the answers are; None if they are none, so that contributions can only be sampled.
    """

    unit: Unit
    answers: "Callable[[pd.DataFrame], Values]"
    parts: tuple[_Part, ...] | None

    def exact(
        self, frame: "pd.DataFrame", background: "pd.DataFrame", *, which: Any, features: Sequence[str], until: float | None
    ) -> "Values | None":
        """Rows by features: the Shapley values of the answers; None where there are none, or not in time.

        Args:
            frame: the rows.
            background: rows that they are told from.
            which: the place of the answer that each row asks about.
            features: the columns of the result; those that an answer depends on are among them.
            until: instant of `time.monotonic`.
        """
        import numpy as np

        if self.parts is None:
            return None
        places = {name: place for place, name in enumerate(features)}
        values = np.zeros((len(frame), len(features)))
        for part in self.parts:
            owners = np.asarray([places[name] for name in part.owners], dtype="int64")
            asked = Question(part.prepare(frame), part.prepare(background), owners, len(features), which)
            found = part.found.shapley(asked, until)
            if found is None:
                return None
            values += part.share * found
        return values


def reading_of(pipeline: Any) -> Reading:
    """Read a fitted pipeline of ours."""
    from lakehouse.learning.calibrated import Calibrated

    last = pipeline.steps[-1][1]
    estimator, slope, intercept = (last.estimator, last.slope, last.intercept) if isinstance(last, Calibrated) else (last, 1.0, 0.0)
    if not hasattr(pipeline, "predict_proba"):
        return Reading(Unit.TARGET, lambda rows: _column(pipeline.predict(rows)), _parts_of(pipeline, estimator))
    line = _line_of(estimator)
    if line is not None:
        scale, shift = slope * line[0], slope * line[1] + (intercept if len(pipeline.classes_) == 2 else 0.0)
        return Reading(
            Unit.LOG_ODDS,
            lambda rows: for_classes(scale * _decided(estimator, _prepared(pipeline, rows)) + shift),
            _parts_of(pipeline, estimator, scale=scale),
        )
    again = None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)
    return Reading(
        Unit.PROBABILITY,
        lambda rows: _as_floats(pipeline.predict_proba(rows)),
        _parts_of(pipeline, estimator, calibration=again),
    )


def _parts_of(
    pipeline: Any, estimator: Any, *, scale: float = 1.0, calibration: tuple[float, float] | None = None
) -> tuple[_Part, ...] | None:
    """The sums that an estimator's answers are, with what its pipeline does before; None if they are none.

    Args:
        pipeline: the estimator's own.
        estimator: the last step, without its calibration.
        scale: of a margin.
        calibration: slope and intercept that probabilities were given.
    """
    from sklearn.ensemble import VotingClassifier, VotingRegressor

    if isinstance(estimator, VotingClassifier | VotingRegressor):
        if calibration is not None:
            return None
        found = [_member(one) for one in estimator.estimators_]
        return (
            None
            if any(one is None for one in found)
            else tuple(_Part(part.share / len(found), part.prepare, part.owners, part.found) for parts in found for part in parts or ())
        )
    owners = _owners(pipeline)
    found = _found(estimator, scale=scale, calibration=calibration) if owners is not None else None
    return None if owners is None or found is None else (_Part(1.0, partial(_prepared, pipeline), owners, found),)


def _member(pipeline: Any) -> tuple[_Part, ...] | None:
    """The parts of a blend's member; None too where it is a sum of something else than the blend averages."""
    return None if _line_of(pipeline.steps[-1][1]) is not None else _parts_of(pipeline, pipeline.steps[-1][1])


def _owners(pipeline: Any) -> tuple[str, ...] | None:
    """The feature of each column that the last step sees; None where one is of several features."""
    steps = pipeline.named_steps
    if "prepare" not in steps:
        return None
    columns = prepared_columns(steps["prepare"])
    if "select" in steps:
        columns = [one for one, kept in zip(columns, steps["select"].get_support(), strict=True) if kept]
    owners = [one.feature for one in columns if one.alone and one.feature is not None]
    return tuple(owners) if len(owners) == len(columns) else None


def _line_of(estimator: Any) -> tuple[float, float] | None:
    """From a classifier's decision to its log-odds: slope and intercept; None if there is no such line."""
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    if isinstance(estimator, LogisticRegression | GradientBoostingClassifier | HistGradientBoostingClassifier):
        return 1.0, 0.0
    inner = _sigmoid_of_one(estimator)
    if inner is None or not isinstance(inner.estimator, LinearSVC) or len(inner.classes) != 2:
        return None
    sigmoid = inner.calibrators[0]
    return -float(sigmoid.a_), -float(sigmoid.b_)


def _sigmoid_of_one(estimator: Any) -> Any:
    """Of a classifier that got its probabilities from one fitted on all rows, that one with its sigmoid; None of any other."""
    fitted = getattr(estimator, "calibrated_classifiers_", ())
    return fitted[0] if len(fitted) == 1 else None


def _decided(estimator: Any, columns: Any) -> "Values":
    """What a classifier decides by: one number per row of two classes, else one per class."""
    inner = _sigmoid_of_one(estimator)
    return _as_floats((estimator if inner is None else inner.estimator).decision_function(columns))


def _found(estimator: Any, *, scale: float, calibration: tuple[float, float] | None) -> _Sum | _Trees | None:
    """The sum that a single estimator is on its columns, in the unit of its answers; None if it is none."""
    if hasattr(estimator, "predict_proba"):
        weights = _class_weights(estimator, scale)
    else:
        weights = _number_weights(estimator)
    if weights is not None:
        return _Sum(weights)
    trees = averaged_trees(estimator, calibration) or boosted_trees(estimator, scale)
    return None if trees is None else _Trees(trees, "float64" if is_binned(estimator) else "float32")


def _number_weights(estimator: Any) -> "Values | None":
    """Columns by one: what a regression multiplies them by; None of one that does not."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge
    from sklearn.svm import LinearSVR

    if isinstance(estimator, TransformedTargetRegressor):
        # Of ours the target was scaled, so that what is a sum of the scaled is one of the target.
        weights, scaler = _number_weights(estimator.regressor_), vars(estimator)["transformer_"]
        return None if weights is None else weights * float(scaler.scale_[0])
    if isinstance(estimator, Ridge | LinearRegression | Lasso | ElasticNet | LinearSVR):
        return _column(estimator.coef_)
    return None


def _class_weights(estimator: Any, scale: float) -> "Values | None":
    """Columns by classes: what a linear classifier multiplies them by; None of any other."""
    from sklearn.linear_model import LogisticRegression

    inner = _sigmoid_of_one(estimator)
    line = estimator if inner is None else inner.estimator
    if _line_of(estimator) is None or not (isinstance(estimator, LogisticRegression) or inner is not None):
        return None
    weights = scale * _as_floats(line.coef_).T
    return for_classes(weights[:, 0] if weights.shape[1] == 1 else weights)


def _prepared(pipeline: Any, rows: "pd.DataFrame") -> Any:
    return pipeline[:-1].transform(rows)


def _dense(table: Any, number: str) -> Any:
    import numpy as np

    # Trees look at one column after the other.
    return np.asfortranarray(table.toarray() if hasattr(table, "toarray") else table, dtype=number)


def _column(values: Any) -> "Values":
    return _as_floats(values).reshape(-1, 1)


def _as_floats(values: Any) -> "Values":
    import numpy as np

    return np.asarray(values, dtype="float64")
