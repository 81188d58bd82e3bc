"""What an online store has to be able to do, and which one a home has.

A store knows nothing of features. It keeps values by key in lanes, and one text per view. A lane is written by whoever fills it and
named by the view's text; so a view is replaced as a whole by filling another lane and then naming that.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lakehouse.settings import Settings


@dataclass(frozen=True, slots=True)
class LaneSize:
    """How much a lane holds; bytes are those of keys and values, about."""

    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Read:
    """What was read at once.

    Attributes:
        state: the view's text; None where it has none.
        values: for each lane that was asked, a value for each key, None where it has none.
    """

    state: str | None
    values: tuple[tuple[bytes | None, ...], ...]


class OnlineStore(Protocol):
    """Values by key. Every method may be called by several threads and processes at once.

    Each raises StorageError where the store can't be reached.
    """

    @property
    def address(self) -> str:
        """Where it is, without credentials."""
        ...

    def read(self, view: str, lanes: Sequence[str], keys: Sequence[bytes]) -> Read:
        """A view's text, and the values of keys; a lane that is not there holds none."""
        ...

    def put(self, lane: str, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """Keep each value whose key has none or one whose bytes are less; returns how many. Each row is put whole or not at all."""
        ...

    def remove(self, lane: str, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """Remove keys that still have exactly these values; returns how many."""
        ...

    def scan(self, lane: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key with its value; what is written meanwhile may be there or not."""
        ...

    def drop(self, lane: str) -> None:
        """Remove a lane with all that it holds."""
        ...

    def lanes(self) -> Mapping[str, LaneSize]:
        """Every lane there is."""
        ...

    def states(self) -> Mapping[str, str]:
        """The text of every view that has one."""
        ...

    def replace_state(self, view: str, new: str | None, *, expected: str | None) -> bool:
        """Set a view's text (None removes it) if it still is what is expected (None: it has none); whether it was."""
        ...

    def size_bytes(self) -> int:
        """What the whole store takes, of disk or of memory."""
        ...

    def capacity_bytes(self) -> int | None:
        """What it can take by its own set-up; None where nothing limits it."""
        ...

    def shrink(self) -> None:
        """Give back what removed rows took."""
        ...

    def purge(self) -> None:
        """See that no file of the store keeps what was removed: no free page, no log."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def open_store(settings: Settings) -> OnlineStore:
    """The online store of a home: SQLite in a file below it, or Redis where the settings name one.

    Raises:
        MissingExtra: Redis is set, and its client is not installed.
        SettingsError: the address is none.
    """
    if settings.online_url is None:
        from lakehouse.features.online.sqlite_store import SqliteStore

        return SqliteStore(settings.home_dir / "online" / "features.db")
    from lakehouse.features.online.redis_store import RedisStore

    return RedisStore(settings.online_url.get_secret_value(), home=settings.tables_uri)
