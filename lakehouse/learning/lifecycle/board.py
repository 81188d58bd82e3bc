"""What others read of the history, in the registry: aliases and tags. It follows from the ledger, and whoever looks sets it right."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lakehouse.crashpoints import Point, reached
from lakehouse.learning.lifecycle.states import Ledger

CHAMPION = "champion"
CHALLENGER = "challenger"
STAGED = "staged"
CANARY = "canary"
ALIASES = (CHAMPION, CHALLENGER, STAGED, CANARY)
STATE_TAG = "lakehouse.state"
SEMANTIC_TAG = "lakehouse.semantic_version"


@dataclass(frozen=True, slots=True)
class Posted:
    """A version as the registry has it: the run that made it, and its tags."""

    run: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


class Board(Protocol):
    """The part of a model registry that shows where versions stand."""

    def posted(self, name: str) -> Mapping[str, Posted]:
        """Every version of a model that is there."""
        ...

    def aliases(self, name: str) -> Mapping[str, str]:
        """The version that each alias of a model stands for."""
        ...

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias stand for a version."""
        ...

    def remove_alias(self, name: str, alias: str) -> None:
        """Let an alias stand for nothing."""
        ...

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Write tags onto a version."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that has to be set right: an alias (None: it goes), or a version's tags."""

    alias: str | None = None
    version: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


def wanted_aliases(ledger: Ledger) -> dict[str, str]:
    """The version that each alias is to stand for."""
    staged, challenger = ledger.staged, ledger.challenger
    found = {CHAMPION: ledger.production, CHALLENGER: challenger.version if challenger else None}
    if staged is not None:
        found |= {STAGED: staged.version, CANARY: staged.version if staged.share > 0 else None}
    return {alias: version for alias, version in found.items() if version is not None}


def outstanding(ledger: Ledger, posted: Mapping[str, Posted], aliases: Mapping[str, str]) -> Iterator[Change]:
    """What the registry does not show yet, the champion first; a version that is not there, or is another than the ledger's, is left alone."""
    here = {
        version: standing
        for version, standing in ledger.standings.items()
        if version in posted and standing.made_by in {None, posted[version].run}
    }
    wanted = wanted_aliases(ledger)
    for alias in ALIASES:
        version = wanted.get(alias)
        if version is None:
            # An older registry may have been restored, and the ledger may be that of a newer one: what it knows nothing of stays.
            if alias in aliases and (aliases[alias] in here or aliases[alias] not in posted):
                yield Change(alias=alias)
        elif version in here and aliases.get(alias) != version:
            yield Change(alias=alias, version=version)
    for version, standing in here.items():
        tags = {STATE_TAG: str(standing.state)} | ({SEMANTIC_TAG: standing.semantic} if standing.semantic else {})
        if any(posted[version].tags.get(key) != value for key, value in tags.items()):
            yield Change(version=version, tags=tags)


def is_settled(board: Board, ledger: Ledger) -> bool:
    """Whether the registry shows what the ledger says."""
    return not _changes(board, ledger)


def settle(board: Board, ledger: Ledger) -> None:
    """Let the registry show what the ledger says, in one's turn. Each step may have been done before."""
    for change in _changes(board, ledger):
        if change.alias is None and change.version is not None:
            board.tag(ledger.model, change.version, change.tags)
        elif change.alias is not None and change.version is not None:
            board.set_alias(ledger.model, change.alias, change.version)
        elif change.alias is not None:
            board.remove_alias(ledger.model, change.alias)
        reached(Point.MID_ALIASES)


def _changes(board: Board, ledger: Ledger) -> tuple[Change, ...]:
    posted = board.posted(ledger.model)
    return tuple(outstanding(ledger, posted, board.aliases(ledger.model))) if posted else ()
