"""Whether a file has what a model needs: a column that its features are computed from must be there, even if it is empty."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lakehouse.contracts import Column, Contracts, ModelContract
from lakehouse.errors import FileRefused
from lakehouse.features import FeatureSource
from lakehouse.learning.ancestry import columns_behind
from lakehouse.transform import CompiledTable, raw_columns

_SHOWN_FEATURES = 5


def require_columns(
    file: Path,
    missing: Sequence[Column],
    *,
    contracts: Contracts,
    source: FeatureSource,
    steps: Sequence[CompiledTable],
    used: Iterable[str],
) -> None:
    """Refuse a file that lacks a column from which the model's features are computed.

    Args:
        file: for the error.
        missing: columns of the dataset that the file does not have.
        contracts: those of the home.
        source: of the model.
        steps: how the model's tables are made.
        used: the features that the model uses.

    Raises:
        FileRefused: it does; each column is named with the features it is for.
    """
    model = source.contract
    needed = _needed(contracts, source, steps, used)
    lacking = {column.source: needed[column.name] for column in missing if column.name in needed}
    if not lacking:
        return
    shown = "; ".join(name if features == [name] else f"{name} (for {_listed(features)})" for name, features in lacking.items())
    raise FileRefused(
        file.name,
        f"lacks {'a column' if len(lacking) == 1 else 'columns'} that model {model.name} needs: {shown}",
        fix="Add it to the file, empty where a value is not known" if len(lacking) == 1 else "Add them, empty where a value is not known",
    )


def _listed(features: Sequence[str]) -> str:
    others = len(features) - _SHOWN_FEATURES
    return ", ".join(features[:_SHOWN_FEATURES]) + (f" and {others} more" if others > 0 else "")


def _needed(contracts: Contracts, source: FeatureSource, steps: Sequence[CompiledTable], used: Iterable[str]) -> Mapping[str, list[str]]:
    """Raw column -> what the model needs it for."""
    model = source.contract
    dataset = contracts.dataset(model.dataset)
    asked = {(model.label_table, column): column for column in (*model.entity, model.event_timestamp) if column}
    for feature in used:
        places = _places(model, source, feature)
        asked |= dict.fromkeys(places, feature)
    made = [(str(step.table), step.sql) for step in steps]
    needed: dict[str, list[str]] = {}
    for table in dict.fromkeys(table for table, _ in asked):
        columns = [column for of, column in asked if of == table]
        behind = columns_behind(columns, table=table, steps=made, raw=dataset.raw, raw_types=raw_columns(dataset))
        for column, raws in behind.items():
            for raw in raws:
                needed.setdefault(raw, []).append(asked[(table, column)])
    return {raw: list(dict.fromkeys(features)) for raw, features in needed.items()}


def _places(model: ModelContract, source: FeatureSource, feature: str) -> list[tuple[str, str]]:
    """The table and column of a feature; of the same column of two views each is named after its view."""
    if not source.views:
        return [(model.label_table, feature)]
    return [(view.table, column) for view in source.views for column in (feature, feature.removeprefix(f"{view.name}__")) if column]
