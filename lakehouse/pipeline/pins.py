"""Versions of tables that something still points to, and what that is: vacuum leaves them alone.

A tag points to a version by name. A registered model points to its training set, and that to the versions it was made from, down to
raw. The newest predictions of each model version point to theirs: a prediction can be followed back to the lines of the files.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lakehouse.errors import LakehouseError
from lakehouse.learning.lifecycle.journal import EVENTS
from lakehouse.learning.records import EVALUATIONS
from lakehouse.settings import Settings
from lakehouse.tables import Lake, TableName

Pins = Mapping[str, Mapping[int, tuple[str, ...]]]
"""By `layer.name` and version: why it must stay."""

_PREDICTIONS = "_predictions"


@dataclass(frozen=True, slots=True)
class _Pin:
    table: str
    version: int
    reason: str


def pinned_versions(settings: Settings, lake: Lake) -> Pins:
    """Every version that is pointed to, with all that points to it, in the order of the versions.

    Args:
        settings: of the home.
        lake: its tables.
    """
    del settings  # The registry's events are a table of the lake: MLflow need not be asked.
    tables = {str(table) for table in lake.tables()}
    found: dict[str, dict[int, list[str]]] = {}
    waiting = deque([*_tags(lake), *_models(lake, tables), *_predictions(lake, tables)])
    while waiting:
        pin = waiting.popleft()
        if pin.table not in tables:
            continue
        reasons = found.setdefault(pin.table, {}).setdefault(pin.version, [])
        if pin.reason in reasons:
            continue
        reasons.append(pin.reason)
        # What a tag names is kept itself; where it came from is said by its stamp, and need not be read again.
        if not pin.reason.startswith("tag "):
            waiting.extend(_Pin(table, version, pin.reason) for table, version in _inputs(lake, pin).items())
    return {table: {version: tuple(reasons) for version, reasons in sorted(versions.items())} for table, versions in sorted(found.items())}


@dataclass(frozen=True, slots=True)
class TableVersions:
    """The versions of one table that matter.

    Attributes:
        newest: its version.
        changed: the version that last changed a row.
        kept: versions that something points to, and what that is.
        gone: those of them that can't be read any more, and why.
    """

    table: TableName
    newest: int
    changed: int
    kept: Mapping[int, tuple[str, ...]]
    gone: Mapping[int, str]


def version_overview(settings: Settings, lake: Lake) -> list[TableVersions]:
    """Every table, with the versions that something points to."""
    pins = pinned_versions(settings, lake)
    found: list[TableVersions] = []
    for table in lake.tables():
        newest, kept = lake.version(table), pins.get(str(table), {})
        if newest is not None:
            gone = {version: why for version in kept if (why := _why_gone(lake, table, version))}
            found.append(TableVersions(table, newest, lake.content_version(table) or 0, kept, gone))
    return found


def _why_gone(lake: Lake, table: TableName, version: int) -> str | None:
    try:
        lake.snapshot(table, version)
    except LakehouseError as error:
        return str(error)
    return None


def _inputs(lake: Lake, pin: _Pin) -> Mapping[str, int]:
    commit = lake.content_commit(pin.table, pin.version)
    return commit.stamp.inputs if commit is not None and commit.stamp is not None else {}


def _tags(lake: Lake) -> Iterator[_Pin]:
    for tag in lake.tags():
        yield _Pin(str(tag.table), tag.version, f"tag {tag.name}")


def _models(lake: Lake, tables: Iterable[str]) -> Iterator[_Pin]:
    """Training sets of all registered versions; of those that were evaluated also what they say they read."""
    if EVENTS in tables:
        with lake.connect([EVENTS]) as session:
            rows = session.con.execute(
                f"SELECT DISTINCT model, CAST(version AS VARCHAR), training_set_version FROM {EVENTS} "
                "WHERE training_set_version IS NOT NULL ORDER BY ALL"
            ).fetchall()
        for model, version, training_set in rows:
            yield _Pin(f"models.{model}_training_set", int(training_set), f"model {model} {version}")
    if EVALUATIONS in tables:
        with lake.connect([EVALUATIONS]) as session:
            rows = session.con.execute(
                f"SELECT DISTINCT model, CAST(version AS VARCHAR), inputs FROM {EVALUATIONS} ORDER BY ALL"
            ).fetchall()
        for model, version, inputs in rows:
            for table, read in json.loads(inputs or "{}").items():
                yield _Pin(table, int(read), f"model {model} {version}")


def _predictions(lake: Lake, tables: Iterable[str]) -> Iterator[_Pin]:
    """The newest predictions that each model version made."""
    for name in sorted(tables):
        table = TableName.parse(name)
        if table.layer != "models" or not table.name.endswith(_PREDICTIONS):
            continue
        seen: set[str] = set()
        for commit in lake.history(table):
            model = str(((commit.stamp.source if commit.stamp else None) or {}).get("model", ""))
            if commit.changes_rows and model not in seen:
                seen.add(model)
                yield _Pin(name, commit.version, f"predictions of {model.removeprefix('models.') or 'an unknown model'}")
