"""Which versions of a table vacuum has taken away: the newest vacuum's commit says so of all of them."""

import json
from typing import TYPE_CHECKING, Any

from lakehouse.errors import VersionGone
from lakehouse.tables.log import CommitLog
from lakehouse.tables.ranges import Ranges, joined, spoken, without
from lakehouse.tables.storage import Storage

if TYPE_CHECKING:
    from lakehouse.tables.snapshot import Snapshot

VACUUMED = "lakehouse.vacuumed"
"""Application transaction whose version is that of the table's newest vacuum."""


def gone_versions(storage: Storage, newest: "Snapshot") -> Ranges:
    """The versions that can't be read any more; none if the table was never vacuumed."""
    made = newest.transaction(VACUUMED)
    if made is None:
        return ()
    info = CommitLog(storage, newest.table).commit_metadata(made) or {}
    source: dict[str, Any] = json.loads(str(info.get("lakehouse.source") or "{}"))
    return joined((int(first), int(last)) for first, last in source.get("vacuum", {}).get("gone", []))


def check_there(storage: Storage, newest: "Snapshot", version: int) -> None:
    """Raise VersionGone if vacuum has taken this version away."""
    gone = gone_versions(storage, newest)
    if any(first <= version <= last for first, last in gone):
        raise VersionGone(
            f"{newest.table}@{version}",
            "was removed by vacuum, and its rows can't be read any more",
            expected=f"one of the versions that are kept: {spoken(without(gone, newest=newest.version))}",
            found=f"version {version}",
            fix="Choose one of those, or bring it back from a backup; a tag keeps a version (lakehouse tag)",
        )
