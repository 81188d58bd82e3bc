"""From typed columns to numbers: what each column becomes, decided by the contract and on the training rows alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING

from lakehouse.contracts import ColumnPreparation, PreparationSpec
from lakehouse.contracts.objects import Dates, Encode, Fences, Impute, Scale, Select
from lakehouse.errors import ModelError, TrainingDataError
from lakehouse.learning.schema import Feature, FeatureSchema, Kind

if TYPE_CHECKING:
    import pandas as pd

MAX_ONE_HOT = 50
MAX_CODES = 12
_LEAST_WORDS = 1.5
# Letter n-grams of longer texts cost more than they tell.
_MOST_LETTERS = 100
_MOST_GAPS = 0.5
# Fewer rows than this are different in a column by chance.
_LEAST_IDENTIFIED = 50
_THRESHOLDS: Mapping[str, float] = {"z_score": 3.0, "iqr": 1.5}


class Treatment(StrEnum):
    """What becomes of a column."""

    NUMBER = "number"
    CODE = "code"
    ONE_HOT = "one_hot"
    ORDINAL = "ordinal"
    TARGET_ENCODED = "target_encoded"
    DATE_PARTS = "date_parts"
    TEXT = "text"
    LONG_TEXT = "long_text"
    DROPPED = "dropped"


CATEGORIES = (Treatment.ONE_HOT, Treatment.ORDINAL, Treatment.TARGET_ENCODED)
_ENCODED: Mapping[Encode, Treatment] = {
    "one_hot": Treatment.ONE_HOT,
    "ordinal": Treatment.ORDINAL,
    "target": Treatment.TARGET_ENCODED,
}
# Which choices of a contract concern a column, by what it becomes.
_CONCERN: Mapping[Treatment, frozenset[str]] = {
    Treatment.NUMBER: frozenset({"impute", "scale", "outliers"}),
    Treatment.CODE: frozenset({"impute", "scale"}),
    Treatment.ONE_HOT: frozenset({"impute", "encode"}),
    Treatment.ORDINAL: frozenset({"impute", "encode", "scale"}),
    Treatment.TARGET_ENCODED: frozenset({"impute", "encode", "scale"}),
    Treatment.DATE_PARTS: frozenset({"impute", "scale", "dates"}),
    Treatment.TEXT: frozenset({"text"}),
    Treatment.LONG_TEXT: frozenset({"text"}),
}


class Style(StrEnum):
    """What a family of estimators wants to be given."""

    LINEAR = "linear"
    FOREST = "forest"
    BOOSTING = "boosting"
    COUNTS = "counts"


@dataclass(frozen=True, slots=True)
class ColumnSteps:
    """How a column becomes what it becomes, where the contract says so; columns with equal steps are prepared together.

    Attributes:
        order: of an ordinal's categories.
        fences: how its outliers are found, which are clipped.
        threshold: of the fences.
        of_numbers: categories that are numbers, whose gaps are NaN and not empty.
    """

    impute: Impute = "auto"
    order: tuple[str, ...] = ()
    fences: Fences = "none"
    threshold: float = 0.0
    scale: Scale = "auto"
    dates: Dates = "auto"
    of_numbers: bool = False

    def __str__(self) -> str:
        said = {
            "impute": self.impute if self.impute != "auto" else "",
            "order": ", ".join(self.order),
            "outliers": f"{self.fences} {self.threshold:g}" if self.fences != "none" else "",
            "scale": self.scale if self.scale != "auto" else "",
            "dates": self.dates if self.dates != "auto" else "",
        }
        return "; ".join(f"{name}: {value}" for name, value in said.items() if value)


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What a column becomes, and why.

    Attributes:
        warnings: what a person should know before using it, each a sentence without the column's name.
    """

    feature: str
    treatment: Treatment
    reason: str
    steps: ColumnSteps = ColumnSteps()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the columns that come out are kept: `keep` below 1 is a share, otherwise a number."""

    by: Select = "none"
    keep: float = 0.5


@dataclass(frozen=True, slots=True)
class Preparation:
    """What every column of a model becomes; the same for all its candidates.

    Attributes:
        finds_odd_rows: an isolation forest says how odd each row is.
        odd_share: of the training rows that it calls odd; None for what it finds itself.
        selection: which of the resulting columns are kept.
    """

    columns: tuple[ColumnPlan, ...]
    finds_odd_rows: bool = False
    odd_share: float | None = None
    selection: Selection = field(default_factory=Selection)

    def of(self, *treatments: Treatment) -> list[str]:
        """Columns that get one of these treatments."""
        return [one.feature for one in self.columns if one.treatment in treatments]

    def alike(self, *treatments: Treatment) -> dict[ColumnSteps, list[str]]:
        """Columns that get one of these treatments by the same steps, in model order."""
        groups: dict[ColumnSteps, list[str]] = {}
        for one in self.columns:
            if one.treatment in treatments:
                groups.setdefault(one.steps, []).append(one.feature)
        return groups

    @property
    def has_text(self) -> bool:
        """Whether free text is among the columns."""
        return bool(self.of(Treatment.TEXT, Treatment.LONG_TEXT))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the columns, each with the names of its columns."""
        told: dict[str, list[str]] = {}
        for one in self.columns:
            for warning in one.warnings:
                told.setdefault(warning, []).append(one.feature)
        return tuple(f"{', '.join(names)}{': each' if len(names) > 1 else ''} {warning}" for warning, names in told.items())

    def as_list(self) -> list[dict[str, str]]:
        """For records and people."""
        return [{"feature": one.feature, "treatment": one.treatment.value, "reason": one.reason} for one in self.columns]


def plan_columns(frame: "pd.DataFrame", schema: FeatureSchema, spec: PreparationSpec | None = None) -> Preparation:
    """Decide what each column becomes: as the contract says, and where it says nothing from the training rows.

    Raises:
        ModelError: the contract names a column that is no feature, or asks for what a column can't become.
        TrainingDataError: no column says anything.
    """
    spec = spec or PreparationSpec()
    _require_known(spec, schema)
    plans = tuple(_plan(feature, frame[feature.name], spec) for feature in schema.features)
    if all(plan.treatment is Treatment.DROPPED for plan in plans):
        reasons = "; ".join(f"{plan.feature} {plan.reason}" for plan in plans)
        raise TrainingDataError("features", "say nothing of the target", found=reasons, fix="Ingest columns that differ between rows")
    finds_odd_rows = spec.outliers == "isolation_forest"
    share = spec.outlier_threshold if finds_odd_rows else None
    return Preparation(plans, finds_odd_rows, share, Selection(spec.select, spec.keep))


def _require_known(spec: PreparationSpec, schema: FeatureSchema) -> None:
    for name in spec.columns:
        if name not in schema.names:
            close = get_close_matches(name, schema.names, n=1)
            raise ModelError(
                f"preparation.columns.{name}",
                "is no feature of the model",
                expected=None if close else f"one of {', '.join(schema.names[:20])}",
                fix=f"Did you mean {close[0]}?" if close else "Correct the name, or take it out of preparation",
            )


def _plan(feature: Feature, values: "pd.Series", spec: PreparationSpec) -> ColumnPlan:
    present = values[values != ""] if feature.kind is Kind.STRING else values.dropna()
    distinct = int(values.nunique(dropna=False))
    if len(present) == 0:
        return ColumnPlan(feature.name, Treatment.DROPPED, "has no value in the training rows")
    if distinct <= 1:
        return ColumnPlan(feature.name, Treatment.DROPPED, "has one value in the training rows")
    own = spec.columns.get(feature.name, ColumnPreparation())
    treatment, reason = _treatment(feature, present, distinct, spec=spec, own=own)
    steps = _steps(feature, treatment, int(present.nunique()), spec=spec, own=own)
    declared = f"; as the contract says {steps}" if str(steps) else ""
    warnings = _warnings(feature, treatment, present, rows=len(values), ordered=bool(own.order))
    return ColumnPlan(feature.name, treatment, reason + declared, steps, warnings)


def _treatment(
    feature: Feature, present: "pd.Series", distinct: int, *, spec: PreparationSpec, own: ColumnPreparation
) -> tuple[Treatment, str]:
    if feature.kind is Kind.TIME:
        if (own.dates or spec.dates) == "none":
            return Treatment.DROPPED, "is a time, which the contract leaves out"
        return Treatment.DATE_PARTS, "a time: days, month, weekday, hour"
    if own.encode is not None and own.encode != "auto":
        return _ENCODED[own.encode], f"{distinct} values, encoded as the contract says"
    if feature.kind is Kind.STRING:
        return _treatment_of_text(present, distinct, spec=spec, own=own)
    if feature.is_integer and 2 < present.nunique() <= MAX_CODES:
        return Treatment.CODE, f"{present.nunique()} whole numbers: a quantity and a code"
    return Treatment.NUMBER, feature.kind.value


def _treatment_of_text(present: "pd.Series", distinct: int, *, spec: PreparationSpec, own: ColumnPreparation) -> tuple[Treatment, str]:
    has_many = distinct > MAX_ONE_HOT
    words = float(present.str.count(r"\S+").mean()) if has_many or own.text else 0.0
    if own.text is not None or (has_many and words >= _LEAST_WORDS and distinct > 0.05 * len(present)):
        wanted = own.text or spec.text
        if wanted == "none":
            return Treatment.DROPPED, "is text, which the contract leaves out"
        is_long = float(present.str.len().mean()) > _MOST_LETTERS if wanted == "auto" else wanted == "words"
        return Treatment.LONG_TEXT if is_long else Treatment.TEXT, f"free text of {words:.1f} words on average"
    if has_many and distinct > 0.9 * len(present):
        return Treatment.DROPPED, f"{distinct} values in {len(present)} rows: it names rows and says nothing of others"
    if spec.encode != "auto":
        return _ENCODED[spec.encode], f"{distinct} values, encoded as the contract says"
    if not has_many:
        return Treatment.ONE_HOT, f"{distinct} values"
    return Treatment.TARGET_ENCODED, f"{distinct} values, more than {MAX_ONE_HOT}: their mean target, out of fold"


def _steps(feature: Feature, treatment: Treatment, values: int, *, spec: PreparationSpec, own: ColumnPreparation) -> ColumnSteps:
    """The steps to a treatment; what the contract says of all columns holds for those that it concerns."""
    if treatment is Treatment.DROPPED:
        return ColumnSteps()
    concern = _CONCERN[treatment]
    if treatment is Treatment.NUMBER and (feature.kind is Kind.BOOLEAN or values <= 2):
        # The rarer of two values is no outlier.
        concern -= {"outliers"}
    said = [name for name in ("impute", "encode", "scale", "outliers", "dates", "text") if getattr(own, name) not in {None, "auto"}]
    wrong = next((name for name in said if name not in concern), None)
    if wrong is not None:
        raise _not_for(feature, treatment, wrong, expected=f"some of {', '.join(sorted(concern))}")
    is_category = treatment in CATEGORIES
    if is_category and own.impute not in {None, "auto", "mode"}:
        raise _not_for(feature, treatment, f"impute: {own.impute}", expected="impute: auto or mode")
    if own.order and feature.kind is not Kind.STRING:
        raise _not_for(feature, treatment, "order", expected="no order: numbers have one")
    impute = own.impute or spec.impute
    if is_category and impute != "mode":
        impute = "auto"
    fences: Fences = own.outliers or (spec.outliers if spec.outliers != "isolation_forest" else "none")
    if "outliers" not in concern:
        fences = "none"
    threshold = own.outlier_threshold or (spec.outlier_threshold if own.outliers is None else None) or _THRESHOLDS.get(fences, 0.0)
    return ColumnSteps(
        impute=impute if "impute" in concern else "auto",
        order=own.order,
        fences=fences,
        threshold=threshold if fences != "none" else 0.0,
        scale=(own.scale or spec.scale) if "scale" in concern else "auto",
        dates=(own.dates or spec.dates) if "dates" in concern else "auto",
        of_numbers=is_category and feature.kind is not Kind.STRING,
    )


def _not_for(feature: Feature, treatment: Treatment, what: str, *, expected: str) -> ModelError:
    found = f"{feature.sql_type}, which becomes {treatment.value.replace('_', ' ')}"
    fix = "Correct the model contract"
    return ModelError(f"preparation.columns.{feature.name}", f"can't have {what}", expected=expected, found=found, fix=fix)


def _warnings(feature: Feature, treatment: Treatment, present: "pd.Series", *, rows: int, ordered: bool) -> tuple[str, ...]:
    """What a person should know, in plain words."""
    found: list[str] = []
    distinct, missing = int(present.nunique()), 1 - len(present) / rows
    if treatment in CATEGORIES and distinct > MAX_ONE_HOT:
        found.append(f"has {distinct:,} values, more than {MAX_ONE_HOT}: {_MANY_VALUES[treatment]}")
    if treatment is Treatment.ORDINAL and not ordered and feature.kind is Kind.STRING and distinct > 2:
        found.append("has no order in the contract: its values are numbered by the alphabet, which a linear model takes for a quantity")
    if missing > _MOST_GAPS:
        found.append(f"is missing in {missing:.0%} of the training rows: most of what is learned of it is that it is missing")
    is_unique = rows >= _LEAST_IDENTIFIED and distinct == len(present) == rows
    if is_unique and (feature.is_integer or treatment in CATEGORIES):
        found.append("is different in every row: if it only numbers or names the rows, exclude it (exclude_features)")
    return tuple(found)


_MANY_VALUES: Mapping[Treatment, str] = {
    Treatment.TARGET_ENCODED: "a column for each would be too many, so each value becomes the mean target of its rows, learned out of fold; "
    "a value with few rows is drawn to the mean of all, and one that was never seen gets that mean",
    Treatment.ONE_HOT: "each with at least 10 rows gets a column, the others share one; so many columns are slow, and easily learned by heart",
    Treatment.ORDINAL: "each becomes a number, one that was never seen -1",
}
