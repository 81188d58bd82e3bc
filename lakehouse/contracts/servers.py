"""The entries of a contract's `servers` that rows are fetched from, and what each says beyond the standard."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from lakehouse.contracts.document import custom_properties
from lakehouse.contracts.references import Blame, Place
from lakehouse.settings import ENVIRONMENT_PATTERN


class Source(Protocol):
    """What rows are fetched from."""

    @property
    def server(self) -> str:
        """As the contract calls it."""
        ...

    @property
    def environment(self) -> str | None:
        """The only one in which it is read; None is any for which the server has no other."""
        ...

    @property
    def slug(self) -> str:
        """What files that tell how far it was read are called by."""
        ...


_SECRET_WORDS = ("pass", "secret", "token", "sasl", "key", "option")


def servers_of(
    parsed: Mapping[str, Any], types: Collection[str], *, known: Sequence[str], secrets: str, blame: Blame
) -> Iterator[tuple[Place, Mapping[str, Any], dict[str, Any]]]:
    """Each server of these types: its place in the document, itself, and its custom properties.

    Args:
        parsed: the contract.
        types: of servers.
        known: names of custom properties that it may have.
        secrets: where what must not stand in a contract belongs.
        blame: makes the error.

    Raises:
        ContractError: it has another custom property, or an environment that can't be.
    """
    servers: list[dict[str, Any]] = list(parsed.get("servers") or ())
    for position, server in enumerate(servers):
        if server.get("type") not in types:
            continue
        place: Place = ("servers", position)
        environment = text_of(server, "environment")
        if environment is not None and not re.fullmatch(ENVIRONMENT_PATTERN, environment):
            raise blame(
                (*place, "environment"),
                "can't be what LAKEHOUSE_ENVIRONMENT is anywhere: it would never be read",
                expected="a lower-case letter, then lower-case letters, digits, _ and -",
                found=environment,
                fix="Correct it, or leave it out: the server is the one of every environment then",
            )
        custom = custom_properties(server)
        strange = next((name for name in custom if name not in known), None)
        if strange is not None:
            fix = secrets if any(word in strange.casefold() for word in _SECRET_WORDS) else None
            raise blame(place, "has a property that is not known", expected=f"one of {', '.join(known)}", found=strange, fix=fix)
        yield place, server, custom


def check_apart(source: Source, others: Collection[Source], *, place: Place, blame: Blame) -> None:
    """Refuse a source that would be read beside another and take it for itself: what one has read, the other would never read.

    Raises:
        ContractError: there is such another one.
    """
    for other in others:
        are_read_at_once = source.environment == other.environment or (
            None in {source.environment, other.environment} and source.server != other.server
        )
        if source.slug == other.slug and are_read_at_once:
            raise blame(
                place,
                "can't be told from another one",
                expected="names that differ in letters, digits or -, within the first 100",
                found=f"{other.server} and {source.server}, both of them {source.slug}",
                fix="Rename one of the servers; it is read from its beginning then",
            )


def is_port(value: object) -> bool:
    """A number that a server can listen on, or the digits of one."""
    text = str(value)
    return not isinstance(value, bool) and text.isascii() and text.isdecimal() and 0 < int(text) < 65_536


def text_of(entry: Mapping[str, Any], name: str) -> str | None:
    """A value as text; None where it is not said."""
    value = entry.get(name)
    return None if value is None else str(value)
