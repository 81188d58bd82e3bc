"""Single changes of a dataset contract: as words, and made in its text."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.contracts.evolution.yaml_edits import ContractText, Place, flow

_PROPERTIES: Place = ("schema", 0, "properties")


@dataclass(frozen=True, slots=True)
class AddColumn:
    """One more column, at the end."""

    entry: Mapping[str, Any]

    def apply(self, text: ContractText) -> ContractText:
        """The contract with it."""
        return text.append(_PROPERTIES, dict(self.entry))

    def __str__(self) -> str:
        return f"schema.properties: add {flow(self.entry)}"


@dataclass(frozen=True, slots=True)
class SetKey:
    """Another value for a key of a column."""

    column: str
    key: str
    value: Any

    def apply(self, text: ContractText) -> ContractText:
        """The contract with it."""
        return text.set(_column(text, self.column), self.key, self.value)

    def __str__(self) -> str:
        return f"schema.properties.{self.column}: {self.key}: {flow(self.value)}"


@dataclass(frozen=True, slots=True)
class AddCustom:
    """A custom property of a column; a list takes the values that it lacks."""

    column: str
    name: str
    value: Any

    def apply(self, text: ContractText) -> ContractText:
        """The contract with it."""
        return text.set_custom(_column(text, self.column), self.name, self.value)

    def __str__(self) -> str:
        return f"schema.properties.{self.column}.customProperties: {flow({'property': f'lakehouse.{self.name}', 'value': self.value})}"


Edit = AddColumn | SetKey | AddCustom


def apply_all(text: ContractText, edits: Iterable[Edit]) -> ContractText:
    """The contract with every change.

    Raises:
        ContractError: the text is written in a way that can't be changed safely.
    """
    for edit in edits:
        text = edit.apply(text)
    return text


def set_version(text: ContractText, version: str) -> ContractText:
    """The contract as another version.

    Raises:
        ContractError: as `apply_all`.
    """
    return text.set((), "version", version)


def _column(text: ContractText, name: str) -> Place:
    properties = text.document["schema"][0]["properties"]
    position = next(number for number, one in enumerate(properties) if one["name"] == name)
    return (*_PROPERTIES, position)
