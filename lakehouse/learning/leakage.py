"""Features that give the target away, and test rows that were learned from: found in the rows, before anybody trusts a score."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.contracts.inference.association import known_afterwards
from lakehouse.learning.encoded_labels import computed_from_labels
from lakehouse.learning.schema import FeatureSchema, Kind

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_MOST_ROWS = 20_000
_LEAST_ROWS = 30
_MOST_BINS = 100
_ROWS_PER_BIN = 10
# A column that alone tells so much is the target under another name far more often than it is a lucky find.
_SUSPECT_AUC = 0.96
_SUSPECT_R2 = 0.96
# What leaving a column out costs, where its name already says that it is known too late.
_COSTLY = 0.02
_TWIN_SHARE = 0.01
_TWIN_LIKENESS = 0.95


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that makes a score better than the model is.

    Attributes:
        subject: the feature, or the column or view that it is about.
        reason: what was found, in numbers, and what it means.
    """

    subject: str
    reason: str

    def __str__(self) -> str:
        return f"{self.subject} {self.reason}"


@dataclass(frozen=True, slots=True)
class Answers:
    """The labels as numbers: of two classes 0 and 1; of many one column per class; numbers as their ranks between 0 and 1."""

    columns: "np.ndarray[Any, Any]"
    is_classification: bool

    @classmethod
    def of(cls, labels: "np.ndarray[Any, Any]", *, is_classification: bool) -> "Answers":
        """Ranks, so that a few large numbers do not decide alone."""
        import numpy as np
        import pandas as pd

        if not is_classification:
            ranks = pd.Series(labels).rank(pct=True).to_numpy(dtype="float64")
            return cls(ranks[:, None], is_classification)
        codes, classes = pd.factorize(pd.Series(labels).astype(str), sort=True)
        shown = np.eye(len(classes))[codes]
        return cls(shown[:, 1:] if len(classes) == 2 else shown, is_classification)

    def score(self, said: "np.ndarray[Any, Any]") -> float:
        """ROC AUC (of many classes the mean over classes, each against the rest), or R2 of the ranks."""
        import numpy as np
        from sklearn.metrics import roc_auc_score

        if self.is_classification:
            truth = self.columns
            known = [place for place in range(truth.shape[1]) if 0 < truth[:, place].sum() < len(truth)]
            return float(np.mean([roc_auc_score(truth[:, place], said[:, place]) for place in known])) if known else 0.5
        spread = float(((self.columns - self.columns.mean()) ** 2).sum())
        return 1.0 - float(((self.columns - said) ** 2).sum()) / spread if spread else 0.0

    @property
    def metric(self) -> str:
        """What `score` is called."""
        return "ROC AUC" if self.is_classification else "R2 of the ranks"

    @property
    def limit(self) -> float:
        """From which score on one column alone is suspected."""
        return _SUSPECT_AUC if self.is_classification else _SUSPECT_R2


def leaking_features(
    frame: "pd.DataFrame", labels: "np.ndarray[Any, Any]", schema: FeatureSchema, *, is_classification: bool, seed: int
) -> tuple[Leak, ...]:
    """Features that alone nearly decide the target, that were computed from the labels, or that are known only afterwards.

    Args:
        frame: training rows.
        labels: of them.
        schema: of the frame.
        is_classification: labels are classes.
        seed: of the sample that is looked at where rows are many.
    """
    import numpy as np

    rows = np.random.default_rng(seed).permutation(len(frame))[:_MOST_ROWS]
    if len(rows) < _LEAST_ROWS:
        return ()
    sample, answers = frame.iloc[rows], Answers.of(labels[rows], is_classification=is_classification)
    codes = {feature.name: _codes(sample[feature.name], feature.kind) for feature in schema.features}
    targets = Answers.of(labels, is_classification=True).columns if is_classification else labels[:, None]
    found: list[Leak] = []
    for feature in schema.features:
        reason = _alone(codes[feature.name], answers)
        if reason is None and feature.kind is Kind.NUMBER:
            reason = computed_from_labels(frame[feature.name], targets)
        if reason is not None:
            found.append(Leak(feature.name, reason))
    named = {name: why for name in codes if (why := known_afterwards(name)) and name not in {leak.subject for leak in found}}
    return (*found, *_known_too_late(named, codes, answers, seed=seed))


def _codes(values: "pd.Series", kind: Kind) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """A number for every value, or for every range of values; what is missing has its own."""
    import numpy as np
    import pandas as pd

    numbers = values.astype("int64") if kind is Kind.TIME else values
    if kind is Kind.STRING:
        numbers = pd.to_numeric(values, errors="coerce")
        if numbers.notna().sum() < 0.9 * (values != "").sum():
            return pd.factorize(values)[0].astype("int64")
    given = numbers.to_numpy(dtype="float64")
    if kind is Kind.TIME:
        given = np.where(values.isna().to_numpy(), np.nan, given)
    present = given[np.isfinite(given)]
    edges = np.unique(present)
    bins = min(_MOST_BINS, max(4, len(given) // _ROWS_PER_BIN))
    if len(edges) > bins:
        edges = np.unique(np.quantile(present, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.where(np.isfinite(given), 1 + np.searchsorted(edges, given, side="right"), 0).astype("int64")


def _alone(codes: "np.ndarray[Any, Any]", answers: Answers) -> str | None:
    """Each half of the rows is predicted from the means of the other half's: a name that never comes again tells nothing."""
    import numpy as np

    half = np.arange(len(codes)) % 2 == 0
    said = np.zeros_like(answers.columns)
    for learned in (half, ~half):
        said[~learned] = _means(codes, answers.columns, learned)[codes[~learned]]
    reached = answers.score(said)
    if reached < answers.limit:
        return None
    return f"alone tells the target ({answers.metric} {reached:.3f}): it holds the answer, or was made from it"


def _means(codes: "np.ndarray[Any, Any]", columns: "np.ndarray[Any, Any]", rows: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """The mean answer per code over some rows; the mean of all where a code has none."""
    import numpy as np

    size = int(codes.max()) + 1
    overall = columns[rows].mean(axis=0)
    counts = np.bincount(codes[rows], minlength=size)
    sums = np.column_stack([np.bincount(codes[rows], weights=column[rows], minlength=size) for column in columns.T])
    return (sums + overall / 2) / (counts + 0.5)[:, None]


def _known_too_late(named: dict[str, str], codes: dict[str, "np.ndarray[Any, Any]"], answers: Answers, *, seed: int) -> Iterator[Leak]:
    """Of the columns whose name says that they are known afterwards, those that the score leans on."""
    if not named:
        return
    everything = _quick_score(codes, answers, seed=seed)
    # Of few rows the score itself differs by more than that.
    costly = max(_COSTLY, 1.5 / len(answers.columns) ** 0.5)
    for name, why in named.items():
        without = _quick_score({other: values for other, values in codes.items() if other != name}, answers, seed=seed)
        if everything - without >= costly:
            yield Leak(name, f"is leaned on ({answers.metric} {everything:.3f}, without it {without:.3f}), and {why}")


def _quick_score(codes: dict[str, "np.ndarray[Any, Any]"], answers: Answers, *, seed: int) -> float:
    """How well boosted trees tell one half of the rows from the other."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    if not codes:
        return 0.5 if answers.is_classification else 0.0
    # Trees cut at most 255 bins: rare texts of a long list share the last one.
    table = np.column_stack([np.minimum(values, 254) for values in codes.values()]).astype("float64")
    half = np.arange(len(table)) % 2 == 0
    said = np.zeros_like(answers.columns)
    options: dict[str, Any] = {"max_iter": 40, "max_leaf_nodes": 15, "early_stopping": False, "random_state": seed}
    # One thread: waiting for each other costs the short loops of small trees more than they gain.
    with threadpool_limits(limits=1):
        for learned in (half, ~half):
            for place, column in enumerate(answers.columns.T):
                model = HistGradientBoostingRegressor(**options)
                said[~learned, place] = model.fit(table[learned], column[learned]).predict(table[~learned])
    return answers.score(said)


def learned_test_rows(
    train: "pd.DataFrame",
    train_labels: "np.ndarray[Any, Any]",
    test: "pd.DataFrame",
    test_labels: "np.ndarray[Any, Any]",
    *,
    is_classification: bool,
) -> tuple[Leak, ...]:
    """Whether test rows come again among the training rows, with their answers.

    Rows that merely look alike, because they have few columns, disagree as often as the model errs; copies agree.
    """
    import numpy as np
    import pandas as pd

    known = pd.Series(train_labels, index=pd.util.hash_pandas_object(train, index=False).to_numpy())
    said = known[~known.index.duplicated()].reindex(pd.util.hash_pandas_object(test, index=False).to_numpy())
    is_twin = said.notna().to_numpy()
    if is_twin.sum() < max(5, _TWIN_SHARE * len(test)):
        return ()
    truth, twins = test_labels[is_twin], said[is_twin].to_numpy()
    likeness = _agreement(truth, twins) if is_classification else float(np.corrcoef(truth.astype(float), twins.astype(float))[0, 1])
    if not likeness >= _TWIN_LIKENESS:
        return ()
    share = is_twin.mean()
    return (
        Leak(
            f"{int(is_twin.sum()):,} of {len(test):,} test rows ({share:.1%})",
            "come again among the training rows, with the same answer: the score says how well they were remembered;"
            " remove the copies, or name the column that they share as split.column with strategy group",
        ),
    )


def _agreement(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> float:
    """Cohen's kappa: 1 where both always agree, 0 where as often as by chance; NaN where there is one class only."""
    import numpy as np

    classes = sorted({*one, *other})
    by_chance = sum(float((one == each).mean() * (other == each).mean()) for each in classes)
    return float(((one == other).mean() - by_chance) / (1 - by_chance)) if by_chance < 1 else float(np.nan)


def detail_of(leaks: Sequence[Leak], nothing: str) -> str:
    """What a check says of them."""
    return "; ".join(str(leak) for leak in leaks) or nothing
