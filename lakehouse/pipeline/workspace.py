"""One home, opened: its settings, lake and contracts, each made when first needed."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lakehouse.settings import Settings

if TYPE_CHECKING:
    from lakehouse.contracts import Contracts
    from lakehouse.tables import Lake


@dataclass(frozen=True)
class Workspace:
    """What nearly every command needs."""

    settings: Settings

    @classmethod
    def load(cls) -> "Workspace":
        """The workspace of this process.

        Raises:
            SettingsError: a setting is wrong, or this is not inside a project.
        """
        return cls(Settings.load())

    @cached_property
    def lake(self) -> "Lake":
        """The tables."""
        from lakehouse.tables import Lake

        return Lake.from_settings(self.settings)

    @cached_property
    def contracts(self) -> "Contracts":
        """The data and model contracts of the project and of this home."""
        from lakehouse.contracts import load_contracts

        return load_contracts(self.settings)
