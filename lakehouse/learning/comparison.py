"""Two models judged by the same rows: whether one is better, by how much, and whether chance would explain it. Pure.

On the hold-out: a paired bootstrap over entities or groups (Efron and Tibshirani 1993, chapter 16), which holds for any metric. On the folds: the
t-test for resampled scores of Nadeau and Bengio (2003), which allows for training sets that overlap. Effect: Cohen's d of the paired
losses of the rows, and how often only one of the two was right (McNemar's pairs).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import Comparison
from lakehouse.contracts.metrics import LOWER_IS_BETTER
from lakehouse.learning.evaluation import Predictions, measure
from lakehouse.learning.resampling import drawn_weights, row_losses, weighted

if TYPE_CHECKING:
    import numpy as np

LEAST_ROWS = 30
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class OnHoldout:
    """Both models on rows that neither has learned from; gains are positive where the challenger is better.

    Attributes:
        rows: number of those rows.
        entities: what they are about, or the groups that the split is by; all rows of one are drawn together.
        gain: of the metric; a share of the champion's value where less is better.
        low: the lower end of where the gain lies with 95 % confidence; `high` the upper.
        p_value: how often chance alone would bring a difference as large, in either direction.
        effect: Cohen's d of what the rows lose less with the challenger.
        only_champion: rows that only the champion has right; None for numbers. `only_challenger` the other way.
    """

    rows: int
    entities: int
    champion: float
    challenger: float
    gain: float
    low: float
    high: float
    p_value: float
    effect: float
    only_champion: int | None = None
    only_challenger: int | None = None


@dataclass(frozen=True, slots=True)
class OnFolds:
    """The metric of both recipes on the same folds of the training rows; with the same recipe both are one."""

    champion: tuple[float, ...]
    challenger: tuple[float, ...]
    gain: float
    p_value: float
    same_recipe: bool = False

    @classmethod
    def from_dict(cls, recorded: Mapping[str, Any]) -> "OnFolds":
        """From what is recorded."""
        champion, challenger = (tuple(float(one) for one in recorded[name]) for name in ("champion", "challenger"))
        return cls(champion, challenger, recorded["gain"], recorded["p_value"], recorded["same_recipe"])


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """A challenger beside the version in production.

    Attributes:
        champion: the version in production; `challenger` the other, empty before it has a number.
        holdout: None where the champion can't be judged by these rows, for the `reason`.
        folds: None where the champion's recipe can't be fitted to them.
        free: the reason is one for which the challenger may take over: the champion answers no more, or another question.
        notes: what else a reader should know.
    """

    champion: str
    challenger: str
    metric: str
    holdout: OnHoldout | None = None
    folds: OnFolds | None = None
    reason: str = ""
    free: bool = False
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As recorded."""
        return asdict(self)

    @classmethod
    def from_dict(cls, recorded: dict[str, Any]) -> "ModelComparison":
        """What `as_dict` gave, from JSON or not."""
        holdout, folds = recorded["holdout"], recorded["folds"]
        parts: dict[str, Any] = {
            "holdout": None if holdout is None else OnHoldout(**holdout),
            "folds": None if folds is None else OnFolds.from_dict(folds),
            "notes": tuple(recorded["notes"]),
        }
        return cls(**{**recorded, **parts})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a challenger is better by a contract's measure, and the sentence that says so."""

    passed: bool
    sentence: str


def gain_of(metric: str, champion: float, challenger: float) -> float:
    """What the challenger gains: the difference; where less is better, the share of the champion's value that it saves."""
    if metric not in LOWER_IS_BETTER:
        return challenger - champion
    return (champion - challenger) / abs(champion) if champion else (0.0 if challenger == champion else -1.0)


def compare_on_rows(
    truth: "np.ndarray[Any, Any]",
    champion: Predictions,
    challenger: Predictions,
    *,
    metric: str,
    units: "np.ndarray[Any, Any]",
    seed: int,
    resamples: int = RESAMPLES,
) -> OnHoldout | None:
    """Both models on the same rows; None where the metric can't be measured of them.

    Args:
        truth: what was so.
        champion: what the one said.
        challenger: what the other said.
        metric: that judges.
        units: whom each row is about, or its group.
        seed: of the resamples.
        resamples: how many.
    """
    import numpy as np

    values = [measure(truth, one).get(metric) for one in (champion, challenger)]
    before, after = values
    if before is None or after is None:
        return None
    _, drawn = np.unique(units.astype(str), return_inverse=True)
    gains = np.concatenate(
        [
            _gains(metric, weighted(truth, champion, metric, weights), weighted(truth, challenger, metric, weights))
            for weights in drawn_weights(drawn, resamples=resamples, seed=seed)
        ]
    )
    gains = gains[~np.isnan(gains)]
    if len(gains) < resamples // 2:
        return None
    tails = [(1 + int(one.sum())) / (len(gains) + 1) for one in (gains <= 0, gains >= 0)]
    low, high = np.quantile(gains, [0.025, 0.975])
    saved = row_losses(truth, champion, metric) - row_losses(truth, challenger, metric)
    spread = float(saved.std(ddof=1)) if len(saved) > 1 else 0.0
    right = None if champion.probabilities is None else [one.predicted == truth for one in (champion, challenger)]
    return OnHoldout(
        rows=len(truth),
        entities=int(drawn.max()) + 1,
        champion=before,
        challenger=after,
        gain=gain_of(metric, before, after),
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2 * min(tails)),
        effect=float(saved.mean()) / spread if spread > 0 else 0.0,
        only_champion=None if right is None else int((right[0] & ~right[1]).sum()),
        only_challenger=None if right is None else int((right[1] & ~right[0]).sum()),
    )


def _gains(metric: str, champion: "np.ndarray[Any, Any]", challenger: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    import numpy as np

    if metric not in LOWER_IS_BETTER:
        return challenger - champion
    saved = champion - challenger
    return np.divide(saved, np.abs(champion), out=np.where(saved < 0, -1.0, saved), where=champion != 0)


def compare_on_folds(
    champion: Sequence[float], challenger: Sequence[float], *, metric: str, judged_share: float, same_recipe: bool = False
) -> OnFolds:
    """The corrected resampled t-test over folds.

    Args:
        champion: the metric of each fold.
        challenger: the same of the other.
        metric: that judges.
        judged_share: rows that judge a fold, by rows that it is fitted on.
        same_recipe: both are the same algorithm with the same parameters: nothing is tested.
    """
    from statistics import fmean, variance

    from scipy.stats import t as student

    gains = [gain_of(metric, before, after) for before, after in zip(champion, challenger, strict=True)]
    mean, count = fmean(gains), len(gains)
    p_value = 1.0
    if count > 1 and mean != 0:
        error = ((1 / count + judged_share) * variance(gains)) ** 0.5
        p_value = float(2 * student.sf(abs(mean) / error, count - 1)) if error > 0 else 0.0
    return OnFolds(tuple(champion), tuple(challenger), mean, p_value, same_recipe)


def verdict(comparison: ModelComparison, demand: Comparison) -> Verdict:
    """Whether the challenger is better by what a contract demands: both the gain and its significance."""
    beside = f"version {comparison.champion} in production"
    if comparison.holdout is None:
        may = "so it is not asked to beat it" if comparison.free else "so nothing shows that it is better"
        return Verdict(comparison.free, f"it can't be compared with {beside}: {comparison.reason}; {may}")
    found, metric = comparison.holdout, comparison.metric
    numbers = (
        f"{metric} {found.challenger:.4f} beside {found.champion:.4f} of {beside}, on {found.rows:,} test rows that neither has learned from: "
        f"{_gain_text(found.gain, metric)} (95 % between {found.low:+.4f} and {found.high:+.4f}; p = {found.p_value:.3f}; effect {effect_word(found.effect)})"
    )
    if found.rows < LEAST_ROWS:
        return Verdict(passed=False, sentence=f"{numbers}; of fewer than {LEAST_ROWS} rows nothing is concluded")
    missing = list(_missing(comparison, found, demand))
    if missing:
        return Verdict(passed=False, sentence=f"{numbers}; {' and '.join(missing)}")
    return Verdict(passed=True, sentence=f"{numbers}; the contract asks for {demand.minimum_gain:g}")


def _missing(comparison: ModelComparison, found: OnHoldout, demand: Comparison) -> "Sequence[str]":
    missing: list[str] = []
    if found.gain < demand.minimum_gain:
        missing.append(f"the contract asks for a gain of {demand.minimum_gain:g}")
    if found.gain <= 0 or found.p_value > demand.significance:
        missing.append("chance may explain it")
    folds = comparison.folds
    if folds is not None and folds.gain < 0 and folds.p_value <= demand.significance:
        missing.append(f"on the folds of the training rows it is worse (p = {folds.p_value:.3f})")
    return missing


def _gain_text(gain: float, metric: str) -> str:
    return f"a gain of {gain:+.2%}" if metric in LOWER_IS_BETTER else f"a gain of {gain:+.4f}"


def effect_word(effect: float) -> str:
    """Cohen's words for how large a standardised difference is (1988), and which way it goes."""
    size = abs(effect)
    word = next((word for limit, word in ((0.2, "negligible"), (0.5, "small"), (0.8, "medium")) if size < limit), "large")
    return word if word == "negligible" else f"{word}, {'for the better' if effect > 0 else 'for the worse'}"
