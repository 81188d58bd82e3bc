"""What scikit-learn's fitted trees have learned, as arrays: of one tree, of forests, of boosted trees."""

from typing import TYPE_CHECKING, Any

from lakehouse.learning.shapley import Tree

if TYPE_CHECKING:
    import numpy as np

    Values = np.ndarray[Any, np.dtype[np.float64]]


def averaged_trees(estimator: Any, calibration: tuple[float, float] | None) -> tuple[Tree, ...] | None:
    """The trees of a tree or a forest; None of any other, and of a forest whose average is calibrated."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    from lakehouse.learning.calibrated import calibrated

    if isinstance(estimator, DecisionTreeClassifier | DecisionTreeRegressor):
        says = _leaves(estimator)
        return (_plain_tree(estimator, says if calibration is None else calibrated(says, *calibration)),)
    if isinstance(estimator, RandomForestClassifier | RandomForestRegressor) and calibration is None:
        trees: Any = estimator.estimators_
        return tuple(_plain_tree(one, _leaves(one) / len(trees)) for one in trees)
    return None


def boosted_trees(estimator: Any, scale: float) -> tuple[Tree, ...] | None:
    """The trees of a boosted estimator; None of any other, and of one that splits by sets of categories."""
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        GradientBoostingRegressor,
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
    )

    if isinstance(estimator, GradientBoostingClassifier | GradientBoostingRegressor):
        rounds: Any = estimator.estimators_
        rate = scale * float(estimator.learning_rate)
        number = isinstance(estimator, GradientBoostingRegressor)
        return tuple(
            _plain_tree(one, _for_class(rate * _leaves(one)[:, 0], place, len(trees), number=number))
            for trees in rounds
            for place, one in enumerate(trees)
        )
    if isinstance(estimator, HistGradientBoostingClassifier | HistGradientBoostingRegressor) and estimator.is_categorical_ is None:
        # scikit-learn shows what it has learned nowhere else.
        binned: Any = estimator._predictors  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        number = isinstance(estimator, HistGradientBoostingRegressor)
        return tuple(
            _binned_tree(one.nodes, _for_class(scale * one.nodes["value"], place, len(trees), number=number))
            for trees in binned
            for place, one in enumerate(trees)
        )
    return None


def _for_class(values: "Values", place: int, trees: int, *, number: bool) -> "Values":
    """Nodes by answers: what a tree that is about one class adds to all of them."""
    import numpy as np

    if number:
        return values[:, None]
    if trees == 1:
        return for_classes(values)
    return for_classes(values[:, None] * np.eye(trees)[place])


def _leaves(tree: Any) -> "Values":
    """Nodes by answers: of a classifier each class's share."""
    values = _as_floats(tree.tree_.value)[:, 0, :]
    return values / values.sum(axis=1, keepdims=True) if hasattr(tree, "classes_") else values


def _plain_tree(tree: Any, says: "Values") -> Tree:
    nodes = tree.tree_
    return Tree(nodes.children_left, nodes.children_right, nodes.feature, nodes.threshold, nodes.missing_go_to_left.astype(bool), says)


def _binned_tree(nodes: Any, says: "Values") -> Tree:
    import numpy as np

    is_leaf = nodes["is_leaf"].astype(bool)
    children = [np.where(is_leaf, -1, nodes[side].astype("int64")) for side in ("left", "right")]
    gaps_left = nodes["missing_go_to_left"].astype(bool)
    return Tree(children[0], children[1], nodes["feature_idx"].astype("int64"), nodes["num_threshold"], gaps_left, says)


def for_classes(decided: "Values") -> "Values":
    """Log-odds of each class: of two, of one against the other; of more, each beside their mean."""
    import numpy as np

    if decided.ndim == 1:
        return np.column_stack([-decided, decided])
    return decided - decided.mean(axis=1, keepdims=True)


def is_binned(estimator: Any) -> bool:
    """Whether it compares numbers as they are; the others round them to single precision first."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    return isinstance(estimator, HistGradientBoostingClassifier | HistGradientBoostingRegressor)


def _as_floats(values: Any) -> "Values":
    import numpy as np

    return np.asarray(values, dtype="float64")
