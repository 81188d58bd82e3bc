"""Is this batch like the earlier ones? One judgement per statistic, from profiles alone, with limits learned or pinned in the contract.

Findings are warnings. A limit that the contract gives replaces what was learned, also where nothing was learned yet.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, pstdev

from lakehouse.contracts import Column, DatasetContract, Level, Pin, Severity
from lakehouse.quality.batches import BatchProfile, ColumnProfile
from lakehouse.quality.measures import MIN_BATCHES, is_measured
from lakehouse.quality.novelty import new_categories, shifted_share, vanished_categories
from lakehouse.quality.results import CheckResult
from lakehouse.quality.usual import usual

PINNED = "pinned in the contract"
MIN_BATCHES_MEAN = 5
MAX_SIGMA = 6.0
# With fewer than eight batches nothing is learned: only changes as gross as these are told.
_VOLUME_FACTOR = 5.0
_NULL_RATE_CHANGE = 0.2
_SPREAD_FACTOR = 3.0
_OUTLIERS_MORE = 0.03
# Less than this is no news, however alike the batches were.
_LEAST_LOG_SPREAD = 0.1
_LEAST_RATE_SPREAD = 0.01
_LEAST_MEAN_SPREAD = 0.01
_LEAST_DEVIATION_SPREAD = 0.04
_LEAST_OUTLIER_SPREAD = 0.002
_MOST_LOG = 700.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Between what a number should lie, and who says so."""

    low: float
    high: float
    how: str

    def __str__(self) -> str:
        word = PINNED if self.how == "pinned" else "usually"
        if math.isinf(self.low):
            return f"{word} at most {self.high:.6g}"
        return f"{word} at least {self.low:.6g}" if math.isinf(self.high) else f"{word} {self.low:.6g} to {self.high:.6g}"


@dataclass
class _Findings:
    """What is said of the columns for one statistic."""

    strange: list[str] = field(default_factory=list[str])
    pinned: list[str] = field(default_factory=list[str])
    off: list[str] = field(default_factory=list[str])
    numbers: dict[str, object] = field(default_factory=dict[str, object])

    def judge(self, name: str, now: float, limits: Limits | None, *, says: str, tolerance: float = 0.0) -> None:
        """Compare a number with its limits; without limits nothing is judged yet."""
        if limits is None:
            return
        self.numbers[name] = {"found": now, "low": limits.low, "high": limits.high, "limits": limits.how}
        if limits.how == "pinned":
            self.pinned.append(name)
        if not limits.low - tolerance <= now <= limits.high + tolerance:
            self.strange.append(f"{says}, {limits}")

    def result(self, contract: DatasetContract, check_id: str, *, quiet: str) -> CheckResult:
        """One answer for all columns."""
        more = [f"{words}: {', '.join(dict.fromkeys(names))}" for words, names in ((PINNED, self.pinned), (f"{_OFF}", self.off)) if names]
        detail = "; ".join([*(self.strange or [quiet]), *more])
        return batch_result(contract, check_id, Severity.WARNING, passed=not self.strange, detail=detail, metadata=self.numbers)


_OFF = "switched off in the contract"


def batch_result(
    contract: DatasetContract, check_id: str, severity: Severity, *, passed: bool, detail: str, metadata: Mapping[str, object] | None = None
) -> CheckResult:
    """An answer about a batch as a whole."""
    return CheckResult(
        check_id, contract.name, contract.raw, Level.STATISTICAL, severity, passed, 0 if passed else 1, detail, metadata or {}
    )


def pinned_limits(pin: Pin | None) -> Limits | None:
    """The limits that the contract gives."""
    return None if pin is None or pin.is_off else Limits(pin.low, pin.high, "pinned")


def judge_usual(contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> list[CheckResult]:
    """Every judgement that the history, or a pin, allows.

    Args:
        contract: the dataset's.
        profile: the batch, which has rows.
        earlier: the batches before that count, oldest first, each with rows.
    """
    asked: tuple[tuple[int, tuple[str, ...], Callable[[], CheckResult]], ...] = (
        (MIN_BATCHES, ("volume",), lambda: _volume(contract, profile, earlier)),
        (MIN_BATCHES, ("nullRate",), lambda: _null_rates(contract, profile, earlier)),
        (MIN_BATCHES_MEAN, ("mean",), lambda: _means(contract, profile, earlier)),
        (MIN_BATCHES_MEAN, ("deviation", "iqr"), lambda: _spread(contract, profile, earlier)),
        (MIN_BATCHES, ("newCategories", "vanishedCategories", "categoryShift"), lambda: _categories(contract, profile, earlier)),
        (MIN_BATCHES, ("outliersZ", "outliersIqr"), lambda: _outliers(contract, profile, earlier)),
    )
    return [make() for least, statistics, make in asked if len(earlier) >= least or _is_pinned(contract, statistics)]


def _is_pinned(contract: DatasetContract, statistics: Sequence[str]) -> bool:
    return any(name in where for where in (contract.usual, *(column.usual for column in contract.columns)) for name in statistics)


def _volume(contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> CheckResult:
    sizes = [one.rows / max(one.files, 1) for one in earlier]
    found = profile.rows / max(profile.files, 1)
    pin = contract.usual.get("volume")
    if pin is not None and pin.is_off:
        return batch_result(contract, "batch.volume", Severity.WARNING, passed=True, detail=f"{found:,.0f} rows per file; {_OFF}")
    pinned = pinned_limits(pin)
    if pinned is not None:
        metadata = {"found": found, "low": pinned.low, "high": pinned.high, "limits": "pinned"}
        passed = pinned.low <= found <= pinned.high
        return batch_result(
            contract, "batch.volume", Severity.WARNING, passed=passed, detail=f"{found:,.0f} rows per file, {pinned}", metadata=metadata
        )
    middle = median(sizes)
    low, high = middle / _VOLUME_FACTOR, middle * _VOLUME_FACTOR
    # Half as much is as unusual as twice as much.
    learned = usual([math.log(size) for size in sizes], least_spread=_LEAST_LOG_SPREAD)
    if learned is not None:
        low, high = math.exp(learned.low), math.exp(min(learned.high, _MOST_LOG))
    detail = (
        f"{found:,.0f} rows per file; the median of {len(earlier)} earlier batches is {middle:,.0f}, usual is {low:,.0f} to {high:,.0f}"
    )
    metadata = {"found": found, "usual": middle, "low": low, "high": high, "learned": learned is not None}
    return batch_result(contract, "batch.volume", Severity.WARNING, passed=low <= found <= high, detail=detail, metadata=metadata)


def _columns(
    contract: DatasetContract, profile: BatchProfile, statistic: str, findings: _Findings
) -> Iterable[tuple[Column | None, str, ColumnProfile, Pin | None]]:
    """The columns to be judged by a statistic, with their pins; those switched off are noted."""
    known = {column.name: column for column in contract.columns}
    for name, column in profile.columns.items():
        pin = known[name].usual.get(statistic) if name in known else None
        if pin is not None and pin.is_off:
            findings.off.append(name)
        else:
            yield known.get(name), name, column, pin


def _null_rates(contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> CheckResult:
    findings = _Findings()
    for _, name, _, pin in _columns(contract, profile, "nullRate", findings):
        rates = [rate for one in earlier if (rate := one.null_rate(name)) is not None]
        now = profile.null_rate(name)
        limits = pinned_limits(pin)
        if now is None or (limits is None and len(rates) < MIN_BATCHES):
            continue
        says = f"{name}: {now:.0%} without a value"
        if limits is None:
            middle = median(rates)
            # A rate measured on few rows is uncertain by itself.
            least = max(_LEAST_RATE_SPREAD, math.sqrt(middle * (1 - middle) / profile.rows))
            learned = usual(rates, least_spread=least)
            low, high = (learned.low, learned.high) if learned else (middle - _NULL_RATE_CHANGE, middle + _NULL_RATE_CHANGE)
            limits = Limits(low, high, "learned" if learned else "gross")
            if not limits.low <= now <= limits.high:
                findings.strange.append(f"{says}, usually {middle:.0%}")
            continue
        findings.judge(name, now, limits, says=says)
    return findings.result(contract, "batch.null_rate", quiet="no column has unusually many or few missing values")


def _means(contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> CheckResult:
    findings = _Findings()
    for _, name, column, pin in _columns(contract, profile, "mean", findings):
        if column.mean is None:
            continue
        says, limits = f"{name}: the mean is {column.mean:g}", pinned_limits(pin)
        if limits is None:
            means = _numbers(earlier, name, lambda one: one.mean)
            learned = usual(means, least_spread=max(_LEAST_MEAN_SPREAD * abs(median(means)), 1e-12)) if means else None
            limits = Limits(learned.low, learned.high, "learned") if learned is not None else None
        if limits is not None:
            findings.judge(name, column.mean, limits, says=says)
            continue
        sigma = sigma_of(name, profile, earlier)
        if len(earlier) >= MIN_BATCHES_MEAN and sigma is not None and sigma > MAX_SIGMA:
            findings.strange.append(f"{says}, {sigma:.0f} standard deviations from the earlier batches'")
    return findings.result(contract, "batch.mean", quiet="no column's mean is unusual")


def sigma_of(column: str, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> float | None:
    """Distance of the batch's mean from the earlier ones' in their standard deviations."""
    now = profile.columns.get(column)
    known = _numbers(earlier, column, lambda one: one.mean)
    if now is None or now.mean is None or len(known) < MIN_BATCHES:
        return None
    spread = max(pstdev(known), 0.01 * abs(fmean(known)), 1e-12)
    return abs(now.mean - fmean(known)) / spread


def _numbers(earlier: Sequence[BatchProfile], name: str, pick: Callable[[ColumnProfile], float | None]) -> list[float]:
    found = [pick(one.columns[name]) for one in earlier if name in one.columns]
    return [value for value in found if value is not None and math.isfinite(value)]


def _spread(contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> CheckResult:
    """Standard deviation and interquartile range, each by ratio: half of it is as unusual as twice."""
    findings = _Findings()
    asked: tuple[tuple[str, str, Callable[[ColumnProfile], float | None]], ...] = (
        ("deviation", "the standard deviation", lambda one: one.deviation),
        ("iqr", "the interquartile range", lambda one: one.iqr),
    )
    for statistic, words, pick in asked:
        for described, name, column, pin in _columns(contract, profile, statistic, findings):
            now = pick(column)
            if now is None:
                continue
            is_whole = described is not None and "INT" in described.sql_type
            # The quartiles of whole numbers jump by one although nothing has happened.
            tolerance = 1.0 if statistic == "iqr" and is_whole and pin is None else 0.0
            limits = pinned_limits(pin) or _spread_limits(_numbers(earlier, name, pick), rows=profile.rows - column.nulls)
            findings.judge(f"{name}.{statistic}", now, limits, says=f"{name}: {words} is {now:.6g}", tolerance=tolerance)
    return findings.result(contract, "batch.spread", quiet="no column's values are spread unusually wide or narrow")


def _spread_limits(numbers: Sequence[float], *, rows: int) -> Limits | None:
    if len(numbers) < MIN_BATCHES_MEAN:
        return None
    middle = median(numbers)
    if middle <= 0:
        # Mostly one and the same value: any spread was possible before, or none was.
        return Limits(0.0, max(numbers), "learned")
    # Below a thousandth of the usual all is the same: nothing.
    logs = [math.log(max(number, middle / 1000)) for number in numbers]
    learned = usual(logs, least_spread=max(_LEAST_DEVIATION_SPREAD, 1 / math.sqrt(2 * max(rows, 1))))
    if learned is None:
        return Limits(middle / _SPREAD_FACTOR, middle * _SPREAD_FACTOR, "gross")
    return Limits(math.exp(learned.low), math.exp(min(learned.high, _MOST_LOG)), "learned")


def _categories(contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> CheckResult:
    findings = _Findings()
    known = {column.name: column for column in contract.columns}
    for name, column in profile.columns.items():
        pins = known[name].usual if name in known else {}
        statistics = ("newCategories", "vanishedCategories", "categoryShift")
        findings.off += [f"{name}.{one}" for one in statistics if one in pins and pins[one].is_off]
        history = [counts for one in earlier if name in one.columns and (counts := one.columns[name].categories)]
        if len(history) < MIN_BATCHES or len(history) < len(earlier) / 2:
            continue
        if column.categories is None:
            most = max(one.columns[name].distinct or 0 for one in earlier if name in one.columns)
            if (column.distinct or 0) > 2 * most and not _is_off(pins, "newCategories"):
                findings.strange.append(f"{name}: about {column.distinct:,} different values, usually at most {most:,}")
            continue
        for statistic, judge in (
            ("newCategories", new_categories),
            ("vanishedCategories", vanished_categories),
            ("categoryShift", shifted_share),
        ):
            if _is_off(pins, statistic):
                continue
            found = judge(column.categories, history)
            limits = pinned_limits(pins.get(statistic))
            if limits is not None:
                findings.judge(f"{name}.{statistic}", found.measured, limits, says=f"{name}: {found.text}")
            elif found.is_strange:
                findings.strange.append(f"{name}: {found.text}")
    return findings.result(contract, "batch.categories", quiet="every category is as usual: none new, none gone, no share moved")


def _is_off(pins: Mapping[str, Pin], statistic: str) -> bool:
    return statistic in pins and pins[statistic].is_off


def _outliers(contract: DatasetContract, profile: BatchProfile, earlier: Sequence[BatchProfile]) -> CheckResult:
    findings = _Findings()
    asked: tuple[tuple[str, str, Callable[[ColumnProfile], float | None]], ...] = (
        ("outliersZ", "of the numbers are over 3 standard deviations from the earlier mean", lambda one: one.outliers_z),
        ("outliersIqr", "of the numbers are over 1.5 interquartile ranges from the earlier quartiles", lambda one: one.outliers_iqr),
    )
    for statistic, words, pick in asked:
        for described, name, column, pin in _columns(contract, profile, statistic, findings):
            now = pick(column)
            if now is None or (described is not None and not is_measured(contract, described)):
                continue
            limits = pinned_limits(pin) or _outlier_limits(_numbers(earlier, name, pick), rows=profile.rows - column.nulls)
            findings.judge(f"{name}.{statistic}", now, limits, says=f"{name}: {now:.2%} {words}")
    return findings.result(contract, "batch.outliers", quiet="no column has unusually many outliers")


def _outlier_limits(shares: Sequence[float], *, rows: int) -> Limits | None:
    """Only more than usual is news."""
    if not shares:
        return None
    middle = median(shares)
    # Some outliers come even where none has come yet.
    likely = max(middle, 1 / max(rows, 1))
    learned = usual(shares, least_spread=max(_LEAST_OUTLIER_SPREAD, math.sqrt(likely * (1 - likely) / max(rows, 1))))
    if learned is None:
        few = 6 * math.sqrt(likely / max(rows, 1))
        return Limits(-math.inf, 2 * max(shares) + _OUTLIERS_MORE + few, "gross")
    return Limits(-math.inf, learned.high, "learned")
