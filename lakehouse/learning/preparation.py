"""From typed columns to numbers: what each column becomes, decided on the training rows alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lakehouse.errors import TrainingDataError
from lakehouse.learning.schema import Feature, FeatureSchema, Kind

if TYPE_CHECKING:
    import pandas as pd

MAX_ONE_HOT = 50
MAX_CODES = 12
_LEAST_WORDS = 1.5
# Letter n-grams of longer texts cost more than they tell.
_MOST_LETTERS = 100
_TEXT_DIMENSIONS = 60


class Treatment(StrEnum):
    """What becomes of a column."""

    NUMBER = "number"
    CODE = "code"
    ONE_HOT = "one_hot"
    TARGET_ENCODED = "target_encoded"
    DATE_PARTS = "date_parts"
    TEXT = "text"
    LONG_TEXT = "long_text"
    DROPPED = "dropped"


class Style(StrEnum):
    """What a family of estimators wants to be given."""

    LINEAR = "linear"
    FOREST = "forest"
    BOOSTING = "boosting"
    COUNTS = "counts"


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What a column becomes, and why."""

    feature: str
    treatment: Treatment
    reason: str


@dataclass(frozen=True, slots=True)
class Preparation:
    """What every column of a model becomes; the same for all its candidates."""

    columns: tuple[ColumnPlan, ...]

    def of(self, *treatments: Treatment) -> list[str]:
        """Columns that get one of these treatments."""
        return [one.feature for one in self.columns if one.treatment in treatments]

    @property
    def has_text(self) -> bool:
        """Whether free text is among the columns."""
        return bool(self.of(Treatment.TEXT, Treatment.LONG_TEXT))

    def as_list(self) -> list[dict[str, str]]:
        """For records and people."""
        return [{"feature": one.feature, "treatment": one.treatment.value, "reason": one.reason} for one in self.columns]


def plan_columns(frame: "pd.DataFrame", schema: FeatureSchema) -> Preparation:
    """Decide from the training rows what each column becomes.

    Raises:
        TrainingDataError: no column says anything.
    """
    plans = tuple(_plan(feature, frame[feature.name]) for feature in schema.features)
    if all(plan.treatment is Treatment.DROPPED for plan in plans):
        reasons = "; ".join(f"{plan.feature} {plan.reason}" for plan in plans)
        raise TrainingDataError("features", "say nothing of the target", found=reasons, fix="Ingest columns that differ between rows")
    return Preparation(plans)


def _plan(feature: Feature, values: "pd.Series") -> ColumnPlan:
    present = values[values != ""] if feature.kind is Kind.STRING else values.dropna()
    distinct = int(values.nunique(dropna=False))
    if len(present) == 0:
        return ColumnPlan(feature.name, Treatment.DROPPED, "has no value in the training rows")
    if distinct <= 1:
        return ColumnPlan(feature.name, Treatment.DROPPED, "has one value in the training rows")
    if feature.kind is Kind.TIME:
        return ColumnPlan(feature.name, Treatment.DATE_PARTS, "a time: days, month, weekday, hour")
    if feature.kind is Kind.STRING:
        return _plan_string(feature, present, distinct)
    if feature.is_integer and 2 < present.nunique() <= MAX_CODES:
        return ColumnPlan(feature.name, Treatment.CODE, f"{present.nunique()} whole numbers: a quantity and a code")
    return ColumnPlan(feature.name, Treatment.NUMBER, feature.kind.value)


def _plan_string(feature: Feature, present: "pd.Series", distinct: int) -> ColumnPlan:
    if distinct <= MAX_ONE_HOT:
        return ColumnPlan(feature.name, Treatment.ONE_HOT, f"{distinct} values")
    words = float(present.str.count(r"\S+").mean())
    if words >= _LEAST_WORDS and distinct > 0.05 * len(present):
        is_long = float(present.str.len().mean()) > _MOST_LETTERS
        return ColumnPlan(feature.name, Treatment.LONG_TEXT if is_long else Treatment.TEXT, f"free text of {words:.1f} words on average")
    if distinct > 0.9 * len(present):
        return ColumnPlan(
            feature.name, Treatment.DROPPED, f"{distinct} values in {len(present)} rows: it names rows and says nothing of others"
        )
    return ColumnPlan(feature.name, Treatment.TARGET_ENCODED, f"{distinct} values, more than {MAX_ONE_HOT}: their mean target, out of fold")


def build_preparation(preparation: Preparation, style: Style, *, problem: str, seed: int) -> Any:
    """The unfitted ColumnTransformer for one family of estimators.

    Args:
        preparation: what each column becomes.
        style: linear models get scaled columns and one-hot codes; forests and boosting plain ones; counts only what is not negative.
        problem: classification or regression, for the target encoding.
        seed: of the target encoding's folds and the text's projection.
    """
    from sklearn.compose import ColumnTransformer

    steps = [
        ("numbers", _numbers(style), preparation.of(Treatment.NUMBER, Treatment.CODE)),
        ("dates", _dates(style), preparation.of(Treatment.DATE_PARTS)),
        ("categories", _one_hot(style), preparation.of(Treatment.ONE_HOT)),
        ("encoded", _target_encoder(style, problem=problem, seed=seed), preparation.of(Treatment.TARGET_ENCODED)),
    ]
    if style in (Style.LINEAR, Style.COUNTS):
        steps.append(("codes", _one_hot(style), preparation.of(Treatment.CODE)))
    # A text step takes one column as a series, so each text has its own.
    short = set(preparation.of(Treatment.TEXT))
    columns_of_text = preparation.of(Treatment.TEXT, Treatment.LONG_TEXT)
    texts = [(f"text_{place}", _text(style, letters=column in short, seed=seed), column) for place, column in enumerate(columns_of_text)]
    used: list[tuple[str, Any, list[str] | str]] = [(name, step, columns) for name, step, columns in steps if columns]
    return ColumnTransformer([*used, *texts], sparse_threshold=0.0 if style is Style.BOOSTING else 0.3, verbose_feature_names_out=True)


def _numbers(style: Style) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(impute, _scaler(style)) if _is_scaled(style) else impute


def _is_scaled(style: Style) -> bool:
    return style in (Style.LINEAR, Style.COUNTS)


def _scaler(style: Style) -> Any:
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    return MinMaxScaler(clip=True) if style is Style.COUNTS else StandardScaler()


def _dates(style: Style) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    from lakehouse.learning.transformers import DateParts

    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(DateParts(), impute, _scaler(style)) if _is_scaled(style) else make_pipeline(DateParts(), impute)


def _one_hot(style: Style) -> Any:
    from sklearn.preprocessing import OneHotEncoder

    # What was rare or never seen shares one column, so that an unknown value has a place and not an error.
    return OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=10, sparse_output=style is not Style.BOOSTING, drop=None)


def _target_encoder(style: Style, *, problem: str, seed: int) -> Any:
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import TargetEncoder

    folds: Any = (StratifiedKFold if problem == "classification" else KFold)(5, shuffle=True, random_state=seed)
    encoder = TargetEncoder(target_type="auto" if problem == "classification" else "continuous", cv=folds)
    return make_pipeline(encoder, _scaler(style)) if _is_scaled(style) else encoder


def _text(style: Style, *, letters: bool, seed: int) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion, make_pipeline

    from lakehouse.learning.transformers import Projection

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=20_000, sublinear_tf=True)
    parts = [("words", words)]
    if letters:
        parts.append(("letters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=3, max_features=20_000, sublinear_tf=True)))
    weighted = FeatureUnion(parts)
    if style in (Style.LINEAR, Style.COUNTS):
        return weighted
    return make_pipeline(weighted, Projection(_TEXT_DIMENSIONS, random_state=seed))


def dropped(preparation: Preparation) -> Sequence[ColumnPlan]:
    """Columns that are not used, with the reason."""
    return [one for one in preparation.columns if one.treatment is Treatment.DROPPED]
