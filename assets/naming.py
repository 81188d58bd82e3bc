"""How contracts and tables are named in Dagster: keys, groups, owners, and the words of a check."""

import re

import dagster as dg

_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_]+")


def asset_key(table: object) -> dg.AssetKey:
    """The key `[layer, table]` of a table written `layer.table`."""
    return dg.AssetKey(str(table).split(".", maxsplit=1))


def slug(text: str) -> str:
    """The text as Dagster allows it in the name of a group, an op or a sensor."""
    return _NOT_IN_A_NAME.sub("_", text.lower()).strip("_") or "default"


def owners(owner: str | None) -> list[str]:
    """A contract's owner as Dagster writes it: an e-mail as it is, anything else as a team."""
    if not owner:
        return []
    return [owner] if _EMAIL.match(owner) else [f"team:{slug(owner.removeprefix('team:'))}"]
