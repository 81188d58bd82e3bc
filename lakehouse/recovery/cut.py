"""Which version of every table a backup holds, so that no version points at another that is not there.

A table's versions only ever go up. If all versions, looked at twice, are the same, they were all there at one instant between the
two looks: a backup of them is what a power cut at that instant would have left. Where writers never pause that long, the stamps
decide: a version that another one was made from is taken as well.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lakehouse.tables import Lake, TableName
from lakehouse.tables.log import CommitLog

_LOOKS = 3
_ROUNDS = 50
_PARALLEL = 16
_ORDER = ("monitoring", "models", "features", "analytics", "staging", "raw", "quarantine")


@dataclass(frozen=True, slots=True)
class Cut:
    """Versions of all tables that belong together.

    Attributes:
        versions: by `layer.name`.
        at_one_instant: all of them were there at one instant; otherwise the stamps brought them together.
    """

    versions: Mapping[str, int]
    at_one_instant: bool


def take_cut(lake: Lake, copy_registry: Callable[[], Path | None], *, since: Mapping[str, int]) -> Cut:
    """Versions that belong together, and with the registry.

    Args:
        lake: the tables.
        copy_registry: copies the registry's database and gives the copy; it may be called several times.
        since: versions whose own origin was looked at by an earlier backup.
    """
    for _ in range(_LOOKS):
        before = newest_versions(lake)
        copy_registry()
        if newest_versions(lake) == before:
            return Cut(before, at_one_instant=True)
    return Cut(_by_stamps(lake, copy_registry, since), at_one_instant=False)


def newest_versions(lake: Lake) -> dict[str, int]:
    """The newest version of every table, what is made from others first."""
    tables = lake.tables()
    # What is made from others is looked at before them, so that mostly nothing is missing.
    tables.sort(key=lambda one: (_ORDER.index(one.layer) if one.layer in _ORDER else -1, one.name))
    with ThreadPoolExecutor(_PARALLEL) as pool:
        found = zip(tables, pool.map(lambda table: _newest(lake, table), tables), strict=True)
        return {str(table): version for table, version in found if version is not None}


def _newest(lake: Lake, table: TableName) -> int | None:
    versions = CommitLog(lake.storage, table).versions()
    return versions[-1] if versions else lake.version(table)


def _by_stamps(lake: Lake, copy_registry: Callable[[], Path | None], since: Mapping[str, int]) -> dict[str, int]:
    versions = newest_versions(lake)
    looked = dict(since)
    for _ in range(_ROUNDS):
        _close(lake, versions, looked)
        models = copy_registry()
        before = dict(versions)
        for table, version in registry_references(models) if models else ():
            _raise_to(lake, versions, table, version)
        _close(lake, versions, looked)
        if before == versions:
            break
    return versions


def _close(lake: Lake, versions: dict[str, int], looked: dict[str, int]) -> None:
    """Raise versions until every commit's inputs are there; each commit is read once."""
    waiting = list(versions)
    while waiting:
        name = waiting.pop()
        low, high = looked.get(name, -1) + 1, versions[name]
        if low > high:
            continue
        looked[name] = high
        table = TableName.parse(name)
        for commit in CommitLog(lake.storage, table).commits(list(range(low, high + 1))):
            for source, version in (commit.stamp.inputs if commit.stamp else {}).items():
                if _raise_to(lake, versions, source, version):
                    waiting.append(source)
        # Refused rows are committed before those that were accepted with them, and marked after they were replayed.
        if table.layer == "raw":
            refused = f"quarantine.{table.name}"
            newest = _newest(lake, TableName.parse(refused)) if refused in versions else None
            if newest is not None and newest > versions[refused]:
                versions[refused] = newest
                waiting.append(refused)


def _raise_to(lake: Lake, versions: dict[str, int], table: str, version: int) -> bool:
    """Take at least this version of a table, if it is there: a table that was made anew counts from 0 again."""
    if versions.get(table, -1) >= version:
        return False
    newest = _newest(lake, TableName.parse(table))
    if newest is None or newest < version:
        return False
    versions[table] = version
    return True


def registry_references(database: Path) -> Iterator[tuple[str, int]]:
    """The table versions that registered models were made from, as (`layer.name`, version)."""
    try:
        with closing(sqlite3.connect(database)) as con:
            tags = con.execute("SELECT key, value FROM model_version_tags WHERE key IN ('lakehouse.training_set', 'lakehouse.inputs')")
            stored = [(str(key), str(value)) for key, value in tags.fetchall()]
    except sqlite3.Error:
        # No model was ever registered in it.
        return
    for key, value in stored:
        if key == "lakehouse.inputs":
            inputs: dict[str, int] = json.loads(value)
            yield from inputs.items()
        else:
            table, _, version = value.partition("@")
            if version.isdigit():
                yield table, int(version)
