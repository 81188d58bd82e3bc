"""Which datasets and models a run is about, from the names it was given."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.contracts import Contracts, DatasetContract, ModelContract
from lakehouse.errors import ContractNotFound


@dataclass(frozen=True, slots=True)
class Selection:
    """Datasets to ingest and build from, and models to train, in a fixed order.

    Args:
        datasets: with those that a named model needs.
        models: with those that a named dataset brings.
        only_for_models: datasets that are here for a named model alone: their other models stay as they are.
        is_everything: no name was given.
    """

    datasets: tuple[DatasetContract, ...]
    models: tuple[ModelContract, ...]
    only_for_models: frozenset[str] = frozenset()
    is_everything: bool = False


def select(contracts: Contracts, names: Sequence[str]) -> Selection:
    """A dataset brings the models trained from it; a model brings its dataset but not that dataset's other models.

    Raises:
        ContractNotFound: a name is neither; the error names the closest ones.
    """
    if not names:
        return Selection(tuple(contracts.datasets.values()), tuple(contracts.models.values()), is_everything=True)
    datasets: dict[str, DatasetContract] = {}
    models: dict[str, ModelContract] = {}
    for name in names:
        if name in contracts.datasets:
            datasets[name] = contracts.datasets[name]
            models |= {model.name: model for model in contracts.models_of(name)}
        elif name in contracts.models:
            model = contracts.models[name]
            models[name] = model
            datasets[model.dataset] = contracts.dataset(model.dataset)
        else:
            raise _unknown(contracts, name)
    only_for_models = frozenset(name for name in datasets if name not in names)
    return Selection(tuple(datasets.values()), tuple(models.values()), only_for_models=only_for_models)


def _unknown(contracts: Contracts, name: str) -> ContractNotFound:
    known = sorted({*contracts.datasets, *contracts.models})
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]}?" if close else "lakehouse add FILE --name NAME makes one"
    return ContractNotFound(name, "is neither a dataset nor a model", expected=f"one of {', '.join(known)}" if known else None, fix=hint)
