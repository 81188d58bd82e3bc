"""The estimators behind the algorithms' names, unfitted, with the settings that suit most tables."""

from dataclasses import dataclass
from typing import Any, Literal

Problem = Literal["classification", "regression"]
# Of an SVM's margins, whose signs alone it learns, probabilities are learned in as many folds.
_CALIBRATED_IN = 3


@dataclass(frozen=True, slots=True)
class Task:
    """What an estimator is built for."""

    problem: Problem
    classes: int
    rows: int
    has_text: bool
    seed: int
    imbalance: Literal["auto", "none", "balanced"] = "auto"

    @property
    def class_weight(self) -> str | None:
        """What rare classes count for: `balanced` is as much as frequent ones.

        Of more than two classes they do, unless nobody wants it; two keep their rates, so that probabilities stay honest.
        """
        is_balanced = self.imbalance == "balanced" or (self.imbalance == "auto" and self.classes > 2)
        return "balanced" if is_balanced else None


def linear(task: Task) -> Any:
    """Logistic regression, or ridge for numbers."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if task.problem == "regression":
        return Ridge(alpha=1.0, random_state=task.seed)
    # Rare classes of a text count as much as frequent ones; two classes keep their rates, so that probabilities stay honest.
    weight = task.class_weight
    return LogisticRegression(C=4.0 if task.has_text else 1.0, class_weight=weight, max_iter=2000, tol=1e-3, random_state=task.seed)


def random_forest(task: Task) -> Any:
    """A forest of trees that each see a sample of the rows."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    trees = 200 if task.rows <= 20_000 else 100
    if task.problem == "regression":
        return RandomForestRegressor(trees, min_samples_leaf=5, max_features=0.4, random_state=task.seed)
    weight = "balanced_subsample" if task.class_weight else None
    leaf = 5 if task.classes == 2 else 2
    return RandomForestClassifier(trees, min_samples_leaf=leaf, class_weight=weight, random_state=task.seed)


def hist_gradient_boosting(task: Task) -> Any:
    """Boosted trees on binned columns."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    # Every class has its own trees: many classes take smaller steps' worth of time with fewer of them.
    rounds = 150 if task.classes <= 2 else max(40, 300 // task.classes)
    shared: dict[str, Any] = {
        "learning_rate": 0.06 if task.classes <= 2 else 0.12,
        "max_iter": rounds,
        "max_leaf_nodes": 15 if task.rows < 10_000 else 31,
        "l2_regularization": 1.0,
        "early_stopping": False,
        "random_state": task.seed,
    }
    if task.problem == "regression":
        return HistGradientBoostingRegressor(**shared)
    return HistGradientBoostingClassifier(class_weight=task.class_weight, **shared)


def gradient_boosting(task: Task) -> Any:
    """Boosted trees on exact values."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    build = GradientBoostingRegressor if task.problem == "regression" else GradientBoostingClassifier
    return build(n_estimators=100, learning_rate=0.1, max_depth=3, subsample=0.8, random_state=task.seed)


def decision_tree(task: Task) -> Any:
    """One shallow tree."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    build = DecisionTreeRegressor if task.problem == "regression" else DecisionTreeClassifier
    return build(max_depth=8, min_samples_leaf=20, random_state=task.seed)


def neighbours(task: Task) -> Any:
    """The nearest rows, weighted by distance."""
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    build = KNeighborsRegressor if task.problem == "regression" else KNeighborsClassifier
    # A tree of the rows, which scikit-learn takes for few columns, can't be stored without code, nor is it the same bytes twice.
    return build(n_neighbors=25, weights="distance", algorithm="brute")


def counts_naive_bayes(task: Task) -> Any:
    """Naive Bayes for counts and weights of words."""
    from sklearn.naive_bayes import ComplementNB, MultinomialNB

    return ComplementNB(alpha=0.3) if task.classes > 2 else MultinomialNB(alpha=0.3)


def baseline(task: Task) -> Any:
    """The same answer for every row."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    return DummyRegressor(strategy="mean") if task.problem == "regression" else DummyClassifier(strategy="prior")


def linear_regression(_task: Task) -> Any:
    """Least squares, without a penalty."""
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def lasso(task: Task) -> Any:
    """Least squares with a penalty that lets weak columns go."""
    from sklearn.linear_model import Lasso

    return _of_scaled_target(Lasso(alpha=0.005, max_iter=5000, random_state=task.seed))


def elastic_net(task: Task) -> Any:
    """Half lasso, half ridge: of columns that say the same, it keeps all."""
    from sklearn.linear_model import ElasticNet

    return _of_scaled_target(ElasticNet(alpha=0.005, l1_ratio=0.5, max_iter=5000, random_state=task.seed))


def gaussian_naive_bayes(_task: Task) -> Any:
    """Naive Bayes for numbers, each normally distributed within a class."""
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB(var_smoothing=1e-6)


def svm(task: Task) -> Any:
    """A support vector machine with a radial kernel, in a time that grows with the square of the rows and more."""
    from sklearn.svm import SVC, SVR

    if task.problem == "regression":
        return _of_scaled_target(SVR(C=1.0, epsilon=0.1, cache_size=500))
    return _calibrated(SVC(C=1.0, class_weight=_weight(task), cache_size=500, random_state=task.seed))


def linear_svm(task: Task) -> Any:
    """A support vector machine without a kernel, in a time that grows with the rows."""
    from sklearn.svm import LinearSVC, LinearSVR

    if task.problem == "regression":
        regressor = LinearSVR(C=1.0, loss="squared_epsilon_insensitive", max_iter=5000, random_state=task.seed)
        return _of_scaled_target(regressor.set_params(dual=False))
    classifier = LinearSVC(C=0.1, class_weight=_weight(task), max_iter=5000, random_state=task.seed)
    return _calibrated(classifier.set_params(dual=False))


def _weight(task: Task) -> str | None:
    return task.class_weight


def _calibrated(estimator: Any) -> Any:
    """The estimator with probabilities: a sigmoid of its margins, learned out of fold (Platt, 1999)."""
    from sklearn.calibration import CalibratedClassifierCV

    return CalibratedClassifierCV(estimator, cv=_CALIBRATED_IN).set_params(ensemble=False)


def _of_scaled_target(estimator: Any) -> Any:
    """The estimator of the target in standard deviations: its penalty and its margin mean the same in every unit."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    return TransformedTargetRegressor(estimator, transformer=StandardScaler(), check_inverse=False)
