"""Where a table came from, read from the tables' own commit stamps: versions, models, files, and the lines of the files.

Nothing else is consulted, so lineage survives the loss of every other store.
"""

import difflib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from lakehouse.contracts import Contracts
from lakehouse.errors import TableNotFound
from lakehouse.observability.rows import RowTrail, follow_key
from lakehouse.settings import Settings
from lakehouse.tables import CommitInfo, Lake, TableName, in_force
from lakehouse.tables.tags import parse_point


@dataclass(frozen=True, slots=True, order=True)
class TableVersion:
    """One version of one table."""

    table: str
    version: int

    def __str__(self) -> str:
        return f"{self.table}@{self.version}"


@dataclass(frozen=True, slots=True)
class Step:
    """How one table version came to be.

    Args:
        at: the table version.
        depth: how many steps before the table that was asked for.
        committed: when.
        asset: who wrote it.
        run: in which run.
        code: of which revision.
        inputs: the table versions it was made from.
    """

    at: TableVersion
    depth: int
    committed: datetime
    asset: str | None
    run: str | None
    code: str | None
    inputs: tuple[TableVersion, ...]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that raw rows came from."""

    dataset: str
    file: str
    sha256: str
    rows_accepted: int | None
    raw_version: int
    archive: str


@dataclass(frozen=True, slots=True)
class ModelUsed:
    """A registered model that made predictions, and the training set it learned from, where that is on record."""

    name: str
    version: str
    training_set: TableVersion | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Everything one table version came from; steps are in breadth-first order from it."""

    root: TableVersion
    steps: tuple[Step, ...]
    files: tuple[SourceFile, ...]
    models: tuple[ModelUsed, ...]
    key: str | None = None
    trail: RowTrail | None = None

    def as_dict(self) -> dict[str, Any]:
        """The document that the command line prints."""
        document: dict[str, Any] = {
            "table": self.root.table,
            "version": self.root.version,
            "versions": _versions(self.steps),
            "steps": [
                {
                    "table": step.at.table,
                    "version": step.at.version,
                    "depth": step.depth,
                    "committed": step.committed,
                    "asset": step.asset,
                    "run": step.run,
                    "code": step.code,
                    "inputs": {one.table: one.version for one in step.inputs},
                }
                for step in self.steps
            ],
            "models": [
                {"name": one.name, "version": one.version, "training_set": str(one.training_set) if one.training_set else None}
                for one in self.models
            ],
            "files": [
                {
                    "dataset": one.dataset,
                    "file": one.file,
                    "sha256": one.sha256,
                    "rows_accepted": one.rows_accepted,
                    "raw_version": one.raw_version,
                    "archive": one.archive,
                }
                for one in self.files
            ],
        }
        if self.trail is not None:
            document |= {"key": self.key, **self.trail.as_dict()}
        return document


@dataclass
class _Walk:
    """State of one breadth-first walk backwards."""

    lake: Lake
    depth: int | None
    steps: dict[TableVersion, Step] = field(default_factory=dict)
    logs: dict[str, list[CommitInfo]] = field(default_factory=dict)

    def run(self, start: TableVersion, depth: int = 0) -> None:
        queue = deque([(start, depth)])
        while queue:
            at, distance = queue.popleft()
            if at in self.steps:
                continue
            made = self._made(at)
            if made is None:
                continue
            stamp = made.stamp
            inputs = tuple(TableVersion(name, version) for name, version in sorted(stamp.inputs.items())) if stamp else ()
            self.steps[at] = Step(
                at=at,
                depth=distance,
                committed=made.timestamp,
                asset=stamp.asset if stamp else None,
                run=stamp.run if stamp else None,
                code=(stamp.code or None) if stamp else None,
                inputs=inputs,
            )
            if self.depth is None or distance < self.depth:
                queue.extend((one, distance + 1) for one in inputs)

    def log(self, table: str) -> list[CommitInfo]:
        if table not in self.logs:
            self.logs[table] = list(self.lake.history(table)) if self.lake.exists(table) else []
        return self.logs[table]

    def _made(self, at: TableVersion) -> CommitInfo | None:
        """The commit that gave this version its rows: maintenance rewrites files and has no inputs, so look before it."""
        earlier = [one for one in in_force(self.log(at.table), at.version) if one.restored is None]
        stamped = (one for one in earlier if one.changes_rows and one.stamp and (one.stamp.inputs or one.stamp.source))
        return next(stamped, earlier[0] if earlier else None)


def trace(
    lake: Lake,
    contracts: Contracts,
    table: str,
    *,
    settings: Settings,
    key: str | None = None,
    depth: int | None = None,
) -> Lineage:
    """Follow a table (`layer.name`, or `layer.name@version`) back to the files it came from, at most `depth` steps.

    With `key` (the value of the entity, or `column=value[,column=value]`) the rows of that key are followed as well.

    Raises:
        TableNotFound: no such table or version.
        LakehouseError: no table on the way has the key's columns or a row of it.
    """
    root = _parse(lake, table)
    walk = _Walk(lake, depth)
    walk.run(root)
    models = tuple(_models(lake, walk, root, key))
    for model in models:
        if model.training_set is not None and (depth is None or depth > 1):
            walk.run(model.training_set, depth=1)
    steps = tuple(sorted(walk.steps.values(), key=lambda step: step.depth))
    files = tuple(_files(lake, settings, walk, steps))
    trail = None
    if key is not None:
        reached = [(one.table, one.version) for one in (root, *(step.at for step in steps))]
        trail = follow_key(lake, contracts, reached, key=key, settings=settings)
    return Lineage(root=root, steps=steps, files=files, models=models, key=key, trail=trail)


def _parse(lake: Lake, text: str) -> TableVersion:
    name, _, version = text.partition("@")
    names = [str(one) for one in lake.tables()]
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        raise TableNotFound(name, "does not exist", fix=f"Did you mean {close[0]}?" if close else "lakehouse tables lists what there is")
    newest = lake.version(name) or 0
    if not version:
        return TableVersion(name, newest)
    at = parse_point(version)
    if isinstance(at, int) and at > newest:
        raise TableNotFound(text, "is not a version of the table", expected=f"0 to {newest}", found=version)
    return TableVersion(name, lake.resolve(name, at))


def _models(lake: Lake, walk: _Walk, root: TableVersion, key: str | None) -> Iterator[ModelUsed]:
    """The models whose predictions the root holds, from the predictions' own rows."""
    if TableName.parse(root.table).layer != "models" or not root.table.endswith("_predictions"):
        return
    with lake.connect([root.table], as_of={root.table: root.version}) as session:
        rows = session.con.execute(f"SELECT DISTINCT model_name, CAST(model_version AS VARCHAR) FROM {root.table} ORDER BY ALL").fetchall()
    for name, version in rows:
        yield ModelUsed(name=name, version=version, training_set=_training_set(lake, walk, name, version))


def _training_set(lake: Lake, walk: _Walk, model: str, version: str) -> TableVersion | None:
    """The training set version on record for a model version, else the one its table's stamps point to."""
    table = f"models.{model}_training_set"
    events = "models.registry_events"
    if lake.exists(events) and "training_set_version" in lake.schema(events):
        with lake.connect([events]) as session:
            row = session.con.execute(
                f"SELECT max(training_set_version) FROM {events} WHERE model = ? AND CAST(version AS VARCHAR) = ?", [model, version]
            ).fetchone()
        if row and row[0] is not None:
            return TableVersion(table, int(row[0]))
    log = walk.log(table)
    return TableVersion(table, log[0].version) if log else None


def _files(lake: Lake, settings: Settings, walk: _Walk, steps: tuple[Step, ...]) -> Iterator[SourceFile]:
    """Every file whose rows are in the raw versions on the way, oldest first."""
    newest: dict[str, int] = {}
    for step in steps:
        if TableName.parse(step.at.table).layer == "raw":
            newest[step.at.table] = max(step.at.version, newest.get(step.at.table, 0))
    for table, version in sorted(newest.items()):
        dataset = TableName.parse(table).name
        for commit in reversed(list(in_force(walk.log(table), version))):
            if commit.stamp is None or not commit.stamp.source:
                continue
            listed = cast("list[dict[str, Any]]", commit.stamp.source.get("files") or [])
            for entry in listed:
                yield _file(settings, dataset, commit.version, entry)


def _file(settings: Settings, dataset: str, version: int, entry: Mapping[str, Any]) -> SourceFile:
    return SourceFile(
        dataset=dataset,
        file=str(entry["file"]),
        sha256=str(entry["sha256"]),
        rows_accepted=entry.get("rows_accepted"),
        raw_version=version,
        archive=str(entry.get("archive") or ""),
    )


def _versions(steps: tuple[Step, ...]) -> dict[str, list[int]]:
    versions: dict[str, set[int]] = {}
    for step in steps:
        versions.setdefault(step.at.table, set()).add(step.at.version)
    return {table: sorted(found) for table, found in versions.items()}
