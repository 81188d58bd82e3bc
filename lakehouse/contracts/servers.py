"""The entries of a contract's `servers` that rows are fetched from, and what each says beyond the standard."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from lakehouse.contracts.document import custom_properties
from lakehouse.contracts.references import Blame, Place

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
        ContractError: it has another custom property.
    """
    servers: list[dict[str, Any]] = list(parsed.get("servers") or ())
    for position, server in enumerate(servers):
        if server.get("type") not in types:
            continue
        place: Place = ("servers", position)
        custom = custom_properties(server)
        strange = next((name for name in custom if name not in known), None)
        if strange is not None:
            fix = secrets if any(word in strange.casefold() for word in _SECRET_WORDS) else None
            raise blame(place, "has a property that is not known", expected=f"one of {', '.join(known)}", found=strange, fix=fix)
        yield place, server, custom


def text_of(entry: Mapping[str, Any], name: str) -> str | None:
    """A value as text; None where it is not said."""
    value = entry.get(name)
    return None if value is None else str(value)
