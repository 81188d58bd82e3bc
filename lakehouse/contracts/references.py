"""The `relationships` of a contract: foreign keys, each as one rule between two datasets."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from lakehouse.contracts.document import custom_properties
from lakehouse.contracts.objects import Column, Reference, Severity
from lakehouse.contracts.rules import severity_of
from lakehouse.errors import ContractError

Place = tuple[str | int, ...]


class Blame(Protocol):
    """Makes an error that names the place in the document."""

    def __call__(self, parts: Place, problem: str, **details: str | None) -> ContractError:
        """The error."""
        ...


def references(
    parsed: Mapping[str, Any], schema: Mapping[str, Any], columns: Mapping[str, Column], *, blame: Blame
) -> tuple[Reference, ...]:
    """Every relationship of a dataset, of its columns and of itself.

    Raises:
        ContractError: one names no column, or is not written as `dataset.column`.
    """
    found: list[Reference] = []
    for place, own, entry in _entries(schema):
        here = own or tuple(_split(one, place, blame)[1] for one in _listed(entry["from"]))
        there = [_split(one, place, blame) for one in _listed(entry["to"])]
        parents = {dataset for dataset, _ in there}
        if len(parents) != 1 or len(here) != len(there):
            raise blame(place, "does not refer to as many columns of one dataset as it has", found=", ".join(_listed(entry["to"])))
        strange = next((name for name in here if name not in columns), None)
        if strange is not None:
            raise blame(place, "names no column", expected=f"one of {', '.join(columns)}", found=strange)
        custom = custom_properties(entry)
        name = str(entry.get("id") or f"{'_and_'.join(here)}_is_known_in_{there[0][0]}")
        severity = severity_of(custom.get("severity"), Severity.WARNING)
        found.append(Reference(name, here, there[0][0], tuple(column for _, column in there), severity))
    twice = next((one.id for one in found if [other.id for other in found].count(one.id) > 1), None)
    if twice is not None:
        raise blame(("schema", 0), "has two relationships of one name", found=twice, fix="Give one an id")
    return tuple(found)


def _entries(schema: Mapping[str, Any]) -> Iterator[tuple[Place, tuple[str, ...], Mapping[str, Any]]]:
    for position, column in enumerate(schema["properties"]):
        for number, entry in enumerate(column.get("relationships") or ()):
            yield ("schema", 0, "properties", position, "relationships", number), (str(column["name"]),), entry
    for number, entry in enumerate(schema.get("relationships") or ()):
        yield ("schema", 0, "relationships", number), (), entry


def _split(reference: str, place: Place, blame: Blame) -> tuple[str, str]:
    dataset, _, column = reference.partition(".")
    if not column or "." in column or "/" in reference:
        raise blame(place, "is no reference this lakehouse reads", expected="dataset.column", found=reference, fix="Write it so")
    return dataset, column


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]
