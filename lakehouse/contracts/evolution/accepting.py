"""The contract that accepts what arrived: its text with the changes made, under the version that they ask for."""

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.contracts.dataset import parse_dataset
from lakehouse.contracts.evolution.compatibility import Compatibility, checked_next_version, compare
from lakehouse.contracts.evolution.drift import Drift
from lakehouse.contracts.evolution.edits import apply_all, set_version
from lakehouse.contracts.evolution.yaml_edits import ContractText
from lakehouse.contracts.objects import DatasetContract
from lakehouse.errors import ContractError


@dataclass(frozen=True, slots=True)
class Accepted:
    """A changed contract, not written yet."""

    text: str
    contract: DatasetContract
    compatibility: Compatibility


def accept(contract: DatasetContract, text: str, drifts: Sequence[Drift]) -> Accepted:
    """The contract in which nothing of the drift is one any more.

    Args:
        contract: as it is.
        text: its document.
        drifts: what is to be accepted; none leaves it as it is.

    Raises:
        ContractError: no change can accept one of them, or the document can't be changed safely.
    """
    path = contract.path
    if path is None:
        raise ContractError(f"dataset {contract.name}", "has a contract that is in no file", fix="Write it to a file first")
    hopeless = next((drift for drift in drifts if not drift.edits), None)
    if hopeless is not None:
        raise ContractError(
            f"{contract.name}.{hopeless.column}",
            "can't be accepted by a change of the contract",
            found=hopeless.detail,
            fix=hopeless.consequence,
        )
    if not drifts:
        return Accepted(text, contract, compare(contract, contract))
    changed = apply_all(ContractText(text, path), [edit for drift in drifts for edit in drift.edits])
    found = compare(contract, parse_dataset(changed.text, path=path))
    if found.changes:
        version = checked_next_version(contract.version, found.changes[0].impact, subject=f"dataset {contract.name}")
        changed = set_version(changed, version)
    accepted = parse_dataset(changed.text, path=path)
    return Accepted(changed.text, accepted, compare(contract, accepted))
