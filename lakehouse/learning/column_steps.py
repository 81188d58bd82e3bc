"""The scikit-learn steps that carry out a plan of the columns, for each family of estimators."""

from typing import Any

from lakehouse.learning.preparation import ColumnSteps, Preparation, Style, Treatment

_TEXT_DIMENSIONS = 60
_NUMBERS = (Treatment.NUMBER, Treatment.CODE)
_STRATEGIES = {"auto": "median", "median": "median", "mean": "mean", "mode": "most_frequent", "knn": "median"}


def build_preparation(preparation: Preparation, style: Style, *, problem: str, seed: int) -> Any:
    """The unfitted ColumnTransformer for one family of estimators.

    Args:
        preparation: what each column becomes.
        style: linear models get scaled columns and one-hot codes; forests and boosting plain ones; counts only what is not negative.
        problem: classification or regression, for the target encoding.
        seed: of the target encoding's folds, the isolation forest and the text's projection.
    """
    from sklearn.compose import ColumnTransformer

    numbers = preparation.of(*_NUMBERS)
    found: list[tuple[str, Any, list[str] | str]] = []
    for steps, columns in preparation.alike(*_NUMBERS).items():
        # The most similar rows are found by all numbers.
        beside = [column for column in numbers if column not in columns] if steps.impute == "knn" else []
        found.append((_name("numbers", steps), _numbers(style, steps, wanted=len(columns)), [*columns, *beside]))
    for steps, columns in preparation.alike(Treatment.DATE_PARTS).items():
        found.append((_name("dates", steps), _dates(style, steps), columns))
    for steps, columns in preparation.alike(Treatment.ONE_HOT).items():
        found.append((_name("categories", steps), _filled(steps, _one_hot(style)), columns))
    for steps, columns in preparation.alike(Treatment.TARGET_ENCODED).items():
        found.append((_name("encoded", steps), _filled(steps, _target_encoder(style, steps, problem=problem, seed=seed)), columns))
    for steps, columns in preparation.alike(Treatment.ORDINAL).items():
        found.append((_name("ranked", steps), _filled(steps, _ordinal(style, steps, columns=len(columns))), columns))
    codes = preparation.of(Treatment.CODE)
    if codes and style in (Style.LINEAR, Style.COUNTS):
        found.append(("codes", _one_hot(style), codes))
    if preparation.finds_odd_rows and numbers:
        found.append(("rows", _oddness(style, share=preparation.odd_share, seed=seed), numbers))
    # A text step takes one column as a series, so each text has its own.
    short = set(preparation.of(Treatment.TEXT))
    for place, column in enumerate(preparation.of(Treatment.TEXT, Treatment.LONG_TEXT)):
        found.append((f"text_{place}", _text(style, letters=column in short, seed=seed), column))
    return ColumnTransformer(found, sparse_threshold=0.0 if style is Style.BOOSTING else 0.3, verbose_feature_names_out=True)


def build_selection(preparation: Preparation, *, problem: str, seed: int) -> Any | None:
    """The unfitted step that keeps the strongest columns; None where all are kept."""
    from lakehouse.learning.transformers import Strongest

    chosen = preparation.selection
    return None if chosen.by == "none" else Strongest(chosen.by, keep=chosen.keep, problem=problem, random_state=seed)


def _name(kind: str, steps: ColumnSteps) -> str:
    """A step's name: the kind of its columns, and what the contract wants with them."""
    order = "_".join("".join(letter for letter in value if letter.isalnum()) for value in steps.order)
    fences = f"{steps.fences}_{steps.threshold:g}" if steps.fences != "none" else ""
    said = [
        steps.impute,
        order,
        fences,
        steps.scale if steps.scale != "none" else "unscaled",
        steps.dates,
        "codes" if steps.of_numbers else "",
    ]
    return "_".join([kind, *(one for one in said if one not in {"", "auto"})])


def _numbers(style: Style, steps: ColumnSteps, *, wanted: int) -> Any:
    from lakehouse.learning.transformers import ClippedToFences, NearestRows

    clip = [] if steps.fences == "none" else [ClippedToFences(steps.fences, threshold=steps.threshold)]
    impute = NearestRows(wanted) if steps.impute == "knn" else _imputer(steps)
    return _joined(*clip, impute, *_scalers(style, steps))


def _joined(*steps: Any) -> Any:
    from sklearn.pipeline import make_pipeline

    return steps[0] if len(steps) == 1 else make_pipeline(*steps)


def _imputer(steps: ColumnSteps) -> Any:
    from sklearn.impute import SimpleImputer

    return SimpleImputer(strategy=_STRATEGIES[steps.impute], add_indicator=True, keep_empty_features=True)


def _scalers(style: Style, steps: ColumnSteps) -> list[Any]:
    """What scales: as the contract says, or as the family needs it; counts are never negative, whatever came before."""
    from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

    if style is Style.COUNTS:
        # Where nothing or this very scaling was asked for, one is enough.
        before = [] if steps.scale in {"auto", "none", "min_max"} else _scalers(Style.FOREST, steps)
        return [*before, MinMaxScaler(clip=True)]
    if steps.scale == "auto":
        return [StandardScaler()] if style is Style.LINEAR else []
    return {"standard": [StandardScaler()], "min_max": [MinMaxScaler(clip=True)], "robust": [RobustScaler()], "none": []}[steps.scale]


def _dates(style: Style, steps: ColumnSteps) -> Any:
    from lakehouse.learning.transformers import CyclicDates, DateParts, ElapsedDays

    parts = {"auto": DateParts, "cyclic": CyclicDates, "elapsed": ElapsedDays}[steps.dates]
    return _joined(parts(), _imputer(steps), *_scalers(style, steps))


def _filled(steps: ColumnSteps, encoder: Any) -> Any:
    """The encoder, behind what replaces missing categories by the most frequent one if the contract wants that."""
    from sklearn.impute import SimpleImputer

    if steps.impute != "mode":
        return encoder
    # A column without any value in an early fold is the category "missing" throughout.
    missing: dict[str, Any] = {} if steps.of_numbers else {"missing_values": "", "fill_value": "missing"}
    return _joined(SimpleImputer(strategy="most_frequent", keep_empty_features=True, **missing), encoder)


def _one_hot(style: Style) -> Any:
    from sklearn.preprocessing import OneHotEncoder

    # What was rare or never seen shares one column, so that an unknown value has a place and not an error.
    return OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=10, sparse_output=style is not Style.BOOSTING, drop=None)


def _ordinal(style: Style, steps: ColumnSteps, *, columns: int) -> Any:
    import numpy as np
    from sklearn.preprocessing import OrdinalEncoder

    order: Any = [np.asarray(steps.order, dtype=object)] * columns if steps.order else "auto"
    encoder = OrdinalEncoder(categories=order, handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    return _joined(encoder, *_scalers(style, steps))


def _target_encoder(style: Style, steps: ColumnSteps, *, problem: str, seed: int) -> Any:
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.preprocessing import TargetEncoder

    folds: Any = (StratifiedKFold if problem == "classification" else KFold)(5, shuffle=True, random_state=seed)
    encoder = TargetEncoder(target_type="auto" if problem == "classification" else "continuous", cv=folds)
    return _joined(encoder, *_scalers(style, steps))


def _oddness(style: Style, *, share: float | None, seed: int) -> Any:
    from sklearn.impute import SimpleImputer

    from lakehouse.learning.transformers import Oddness

    impute = SimpleImputer(strategy="median", keep_empty_features=True)
    return _joined(impute, Oddness(share=share, random_state=seed), *_scalers(style, ColumnSteps()))


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
