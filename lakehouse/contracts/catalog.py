"""Every contract of a project and its home, loaded together and checked against each other."""

from collections.abc import Iterable
from pathlib import Path

from lakehouse.contracts.dataset import load_dataset
from lakehouse.contracts.model import load_model
from lakehouse.contracts.objects import Contracts, DatasetContract, ModelContract
from lakehouse.errors import ContractError
from lakehouse.settings import Settings


def load_contracts(settings: Settings) -> Contracts:
    """Every contract in the project's and the home's folders.

    Raises:
        ContractError: a contract is not valid, two have one name, or a model names a dataset that has no contract.
    """
    return load_folders(settings.contract_dirs)


def load_folders(folders: Iterable[Path]) -> Contracts:
    """Every contract in `datasets/*.odcs.yaml` and `models/*.yaml` of the folders.

    Raises:
        ContractError: as `load_contracts`.
    """
    places = tuple(folders)
    datasets = _datasets([path for folder in places for path in _yaml(folder / "datasets")])
    models: dict[str, ModelContract] = {}
    for path in (path for folder in places for path in _yaml(folder / "models")):
        model = load_model(path)
        other = models.get(model.name)
        if other is not None:
            raise _twice("model", model.name, path, other.path)
        if model.dataset not in datasets:
            raise ContractError(
                f"{path}: dataset",
                "has no contract",
                expected=f"one of {', '.join(sorted(datasets)) or 'none: there is no dataset contract'}",
                found=model.dataset,
                fix="Correct the name, or add the dataset's contract",
            )
        models[model.name] = model
    return Contracts(datasets=datasets, models=models)


def _datasets(paths: list[Path]) -> dict[str, DatasetContract]:
    if not paths:
        return {}
    import duckdb

    datasets: dict[str, DatasetContract] = {}
    with duckdb.connect(config={"enable_external_access": "false"}) as scratch:
        for path in paths:
            contract = load_dataset(path, con=scratch)
            other = datasets.get(contract.name)
            if other is not None:
                raise _twice("dataset", contract.name, path, other.path)
            datasets[contract.name] = contract
    return datasets


def _yaml(folder: Path) -> list[Path]:
    return sorted(path for pattern in ("*.yaml", "*.yml") for path in folder.glob(pattern) if not path.name.startswith("."))


def _twice(kind: str, name: str, path: Path, other: Path | None) -> ContractError:
    return ContractError(
        f"{path}: {kind} {name}", "is already the name of another contract", found=str(other), fix="Rename or remove one of them"
    )
