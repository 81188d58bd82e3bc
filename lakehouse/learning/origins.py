"""Which feature each column that an estimator sees comes from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

_FLAG = "missingindicator_"


@dataclass(frozen=True, slots=True)
class PreparedColumn:
    """A column that the fitted preparation gives.

    Attributes:
        name: of the column, without that of the step that made it.
        feature: what it was made of; None where it says something of the whole row.
        alone: whether other features have no part in it, as they have where gaps are filled from similar rows.
    """

    name: str
    feature: str | None
    alone: bool = True


def prepared_columns(prepare: Any) -> list[PreparedColumn]:
    """The columns that a fitted ColumnTransformer of ours gives, in their order."""
    found: list[PreparedColumn | None] = [None] * len(prepare.get_feature_names_out())
    names = [str(name) for name in prepare.get_feature_names_out()]
    for step, transformer, columns in prepare.transformers_:
        place = prepare.output_indices_[step]
        own = [name.removeprefix(f"{step}__") for name in names[place]]
        features = [columns] if isinstance(columns, str) else [str(column) for column in columns]
        found[place] = _owned(own, transformer, features)
    return [one for one in found if one is not None]


def _owned(names: Sequence[str], transformer: Any, features: Sequence[str]) -> list[PreparedColumn]:
    from sklearn.preprocessing import OneHotEncoder

    from lakehouse.learning.transformers import NearestRows, Oddness

    if not names:
        return []
    steps = list(_parts(transformer))
    if any(isinstance(one, Oddness) for one in steps):
        return [PreparedColumn(name, None, alone=False) for name in names]
    nearest = next((one for one in steps if isinstance(one, NearestRows)), None)
    if nearest is not None:
        features = features[: nearest.wanted]
    encoder = next((one for one in steps if isinstance(one, OneHotEncoder)), None)
    if encoder is not None:
        return _in_blocks(names, features, [_width(encoder, place) for place in range(len(features))])
    # Flags of gaps come last, each with the name of the column that it is about.
    flags = [name for name in names[len(features) :] if name.startswith(_FLAG)]
    plain = names[: len(names) - len(flags)]
    owned = _in_blocks(plain, features, [len(plain) // len(features)] * len(features))
    origin = {one.name: one.feature for one in owned}
    if nearest is not None:
        owned = [replace(one, alone=False) for one in owned]
    return [*owned, *(PreparedColumn(name, origin[name.removeprefix(_FLAG)]) for name in flags)]


def _in_blocks(names: Sequence[str], features: Sequence[str], widths: Sequence[int]) -> list[PreparedColumn]:
    owners = [feature for feature, width in zip(features, widths, strict=True) for _ in range(width)]
    return [PreparedColumn(name, owner) for name, owner in zip(names, owners, strict=True)]


def _width(encoder: Any, place: int) -> int:
    """How many columns a one-hot encoder makes of one: one for each frequent category, one for all others together."""
    rare = encoder.infrequent_categories_[place]
    return len(encoder.categories_[place]) - (len(rare) - 1 if rare is not None else 0)


def _parts(transformer: Any) -> Iterator[Any]:
    """A transformer, or those of a pipeline, however nested."""
    if hasattr(transformer, "steps"):
        for _, inner in cast("list[tuple[str, Any]]", transformer.steps):
            yield from _parts(inner)
    else:
        yield transformer
