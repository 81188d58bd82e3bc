"""Lineage in both directions, from a table version, a file, a run or a model: what it came from, and what came of it.

Nothing but the tables' own logs, the registry's events and the predictions' rows is consulted. A table is one node, with the versions
that are concerned: of a table that only grows, the rows of a version are in every later one, until a restore takes them away.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from lakehouse.errors import LakehouseError, TableNotFound
from lakehouse.sql import quote_identifier
from lakehouse.tables import CommitInfo, Lake, TableName, in_force
from lakehouse.tables.tags import parse_point

Direction = Literal["up", "down", "both"]
Kind = Literal["table", "file", "model"]
EVENTS = "models.registry_events"
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Node:
    """A table with its versions, a file, or a model version.

    Attributes:
        id: `table:layer.name`, `file:<sha256>` or `model:name@version`.
        name: as people call it.
        versions: of a table, those that are concerned, ascending.
        runs: that made them.
        detail: what else is known, in one line.
        is_start: it is what was asked about.
    """

    id: str
    kind: Kind
    name: str
    versions: tuple[int, ...] = ()
    runs: tuple[str, ...] = ()
    detail: str = ""
    is_start: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """`target` was made from `source`."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Graph:
    """What was found, in the order of the data's flow: every edge points to a later node where there is no cycle."""

    asked: str
    direction: Direction
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def as_dict(self) -> dict[str, Any]:
        """The document that the command line prints."""
        return {
            "asked": self.asked,
            "direction": self.direction,
            "nodes": [
                {
                    "id": node.id,
                    "kind": node.kind,
                    "name": node.name,
                    "versions": list(node.versions),
                    "runs": list(node.runs),
                    "detail": node.detail,
                    "is_start": node.is_start,
                }
                for node in self.nodes
            ],
            "edges": [{"source": edge.source, "target": edge.target} for edge in self.edges],
        }


@dataclass(frozen=True, slots=True)
class _Training:
    model: str
    version: str
    training_set: int


@dataclass
class _World:
    """Every log of a lake, read when it is needed."""

    lake: Lake
    logs: dict[str, list[CommitInfo]] = field(default_factory=dict)
    _restored: set[str] = field(default_factory=set)
    _looked_at: set[str] = field(default_factory=set)
    _tables: list[str] | None = None
    _trainings: list[_Training] | None = None

    def tables(self) -> list[str]:
        if self._tables is None:
            self._tables = [str(name) for name in self.lake.tables()]
        return self._tables

    def log(self, table: str) -> list[CommitInfo]:
        """Newest first; none for a table that is not there any more."""
        if table not in self.logs:
            self.logs[table] = self.lake.history(table) if table in self.tables() else []
        return self.logs[table]

    def made(self, table: str, version: int) -> CommitInfo | None:
        """The commit that gave a version its rows."""
        commits = (one for one in in_force(self.log(table), version) if one.changes_rows and one.restored is None)
        first = None
        for commit in commits:
            first = first or commit
            if commit.stamp is not None and (commit.stamp.inputs or commit.stamp.source):
                return commit
        return first

    def holds(self, table: str, version: int, since: int) -> bool:
        """Whether a version has what an earlier one brought: a restore may have taken it away."""
        if version < since or table not in self.restored():
            return version >= since
        return any(_until(in_force(self.log(table), version), since))

    def restored(self) -> set[str]:
        """The tables that were ever restored, of those whose log was read."""
        for table in self.logs.keys() - self._looked_at:
            self._looked_at.add(table)
            if any(one.restored is not None for one in self.logs[table]):
                self._restored.add(table)
        return self._restored

    def trainings(self) -> list[_Training]:
        """Every registered model version with the version of its training set."""
        if self._trainings is None:
            self._trainings = []
            if EVENTS in self.tables() and "training_set_version" in self.lake.schema(EVENTS):
                with self.lake.connect([EVENTS]) as session:
                    rows = session.con.execute(
                        f"SELECT model, CAST(version AS VARCHAR), max(training_set_version) FROM {EVENTS} "
                        "WHERE training_set_version IS NOT NULL GROUP BY ALL ORDER BY ALL"
                    ).fetchall()
                self._trainings = [_Training(*row) for row in rows]
        return self._trainings

    def predicting(self, table: str) -> list[tuple[str, str]]:
        """The model versions whose predictions a table holds."""
        if not table.startswith("models.") or not table.endswith("_predictions") or "model_version" not in self.lake.schema(table):
            return []
        with self.lake.connect([table]) as session:
            name = quote_identifier(TableName.parse(table).name)
            return session.con.execute(
                f"SELECT DISTINCT model_name, CAST(model_version AS VARCHAR) FROM models.{name} ORDER BY ALL"
            ).fetchall()


def _until(commits: Iterable[CommitInfo], version: int) -> Iterator[bool]:
    """Whether each commit down to a version is that very one: it is not among those in force if a restore has undone it."""
    for commit in commits:
        yield commit.version == version
        if commit.version <= version:
            return


@dataclass
class _Builder:
    world: _World
    versions: dict[str, set[int]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    edges: set[Edge] = field(default_factory=set)
    starts: set[str] = field(default_factory=set)

    def table(self, table: str, version: int) -> str:
        self.versions.setdefault(f"table:{table}", set()).add(version)
        return f"table:{table}"

    def file(self, entry: dict[str, Any]) -> str:
        node = f"file:{entry['sha256']}"
        self.names[node] = str(entry.get("file", ""))
        counts = [f"{entry[name]:,} rows {what}" for name, what in _COUNTS if isinstance(entry.get(name), int)]
        self.details[node] = ", ".join(counts)
        return node

    def model(self, model: str, version: str) -> str:
        node = f"model:{model}@{version}"
        self.names[node] = f"{model} version {version}"
        return node

    # ---- backwards

    def up(self, start: Sequence[tuple[str, int]]) -> None:
        queue, seen = deque(start), set(start)
        while queue:
            table, version = queue.popleft()
            node = self.table(table, version)
            for source in self._sources(node, table, version):
                if source not in seen:
                    seen.add(source)
                    queue.append(source)

    def _sources(self, node: str, table: str, version: int) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        commit = self.world.made(table, version)
        for name, at in (commit.stamp.inputs if commit is not None and commit.stamp is not None else {}).items():
            self.edges.add(Edge(self.table(name, at), node))
            found.append((name, at))
        if TableName.parse(table).layer == "raw":
            for one in in_force(self.world.log(table), version):
                for entry in _files(one):
                    self.edges.add(Edge(self.file(entry), node))
        for model, number in self.world.predicting(table):
            self.edges.add(Edge(self.model(model, number), node))
            found += self.up_model(model, number)
        return found

    def up_model(self, model: str, version: str) -> list[tuple[str, int]]:
        """The training set of a model version."""
        found: list[tuple[str, int]] = []
        for one in self.world.trainings():
            if (one.model, one.version) == (model, version):
                training_set = f"models.{model}_training_set"
                self.edges.add(Edge(self.table(training_set, one.training_set), self.model(model, version)))
                found.append((training_set, one.training_set))
        return found

    # ---- forwards

    def down(self, start: Sequence[tuple[str, int]]) -> None:
        """What was made from these versions, or from later ones that still hold what they brought."""
        since: dict[str, int] = {}
        queue = deque(start)
        while queue:
            table, version = queue.popleft()
            if since.get(table, version + 1) <= version:
                continue
            since[table] = version
            node = self.table(table, version)
            queue.extend(self._made_from(node, table, version))
            queue.extend(self.down_trainings(table, version))

    def _made_from(self, node: str, table: str, since: int) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for other in self.world.tables():
            first = None
            for commit in self.world.log(other):
                at = (commit.stamp.inputs if commit.stamp is not None else {}).get(table)
                if other != table and at is not None and commit.restored is None and self.world.holds(table, at, since):
                    first = commit.version
                    self.edges.add(Edge(node, self.table(other, commit.version)))
                    self.table(table, at)
            if first is not None:
                found.append((other, first))
        return found

    def down_trainings(self, table: str, since: int) -> list[tuple[str, int]]:
        """The models trained on a training set, and their predictions."""
        found: list[tuple[str, int]] = []
        for one in self.world.trainings():
            if table == f"models.{one.model}_training_set" and self.world.holds(table, one.training_set, since):
                self.edges.add(Edge(self.table(table, one.training_set), self.model(one.model, one.version)))
                found += self.down_model(one.model, one.version)
        return found

    def down_model(self, model: str, version: str) -> list[tuple[str, int]]:
        """The tables that hold predictions of a model version."""
        found: list[tuple[str, int]] = []
        for table in self.world.tables():
            if (model, version) in self.world.predicting(table):
                newest = self.world.log(table)[0].version
                self.edges.add(Edge(self.model(model, version), self.table(table, newest)))
                found.append((table, newest))
        return found

    # ---- the whole

    def graph(self, asked: str, direction: Direction) -> Graph:
        ids = {*self.versions, *self.starts, *(end for edge in self.edges for end in (edge.source, edge.target))}
        nodes = [self._node(one) for one in _in_order(ids, self.edges)]
        return Graph(asked, direction, tuple(nodes), tuple(sorted(self.edges)))

    def _node(self, node: str) -> Node:
        kind, _, name = node.partition(":")
        is_start = node in self.starts
        if kind != "table":
            return Node(node, cast("Kind", kind), self.names.get(node, name), detail=self.details.get(node, ""), is_start=is_start)
        versions = tuple(sorted(self.versions.get(node, ())))
        runs = {one.version: one.stamp.run for one in self.world.log(name) if one.stamp is not None}
        made = tuple(dict.fromkeys(runs[version] for version in versions if version in runs))
        newest = next((one for one in self.world.log(name) if versions and one.version == versions[-1]), None)
        detail = f"{newest.timestamp:%Y-%m-%d %H:%M:%S} {newest.operation}" if newest is not None else ""
        return Node(node, "table", name, versions, made, detail, is_start)


_COUNTS = (("rows_accepted", "accepted"), ("rows_quarantined", "quarantined"))


def _files(commit: CommitInfo) -> list[dict[str, Any]]:
    listed: Any = (commit.stamp.source or {}).get("files") if commit.stamp is not None else None
    return [one for one in listed if "sha256" in one] if isinstance(listed, list) else []


def _in_order(ids: Iterable[str], edges: Iterable[Edge]) -> list[str]:
    """The nodes, each after those that it is made from; what is in a cycle comes last."""
    targets: dict[str, list[str]] = {}
    waiting = dict.fromkeys(sorted(ids), 0)
    for edge in edges:
        targets.setdefault(edge.source, []).append(edge.target)
        waiting[edge.target] += 1
    ready = deque(one for one, count in waiting.items() if count == 0)
    ordered: list[str] = []
    while ready:
        one = ready.popleft()
        ordered.append(one)
        for target in sorted(targets.get(one, ())):
            waiting[target] -= 1
            if waiting[target] == 0:
                ready.append(target)
    return ordered + [one for one in waiting if one not in set(ordered)]


def follow(lake: Lake, asked: str, *, direction: Direction = "both") -> Graph:
    """The lineage of a table (`layer.name`, with `@version`, `@instant` or `@tag`), a file (name or sha256), a run, or a model.

    Raises:
        TableNotFound: no table, file, run or model is called so.
    """
    builder = _Builder(_World(lake))
    versions, models = _resolve(builder, asked)
    if direction != "down":
        builder.up([one for one in versions if not _is_file(builder)])
        for model, version in models:
            builder.up(builder.up_model(model, version))
    if direction != "up":
        builder.down(versions)
        for model, version in models:
            builder.down(builder.down_model(model, version))
    return builder.graph(asked, direction)


def _is_file(builder: _Builder) -> bool:
    """Whether a file was asked about: nothing comes before it, and its table's other files don't belong to it."""
    return any(one.startswith("file:") for one in builder.starts)


def _resolve(builder: _Builder, asked: str) -> tuple[list[tuple[str, int]], list[tuple[str, str]]]:
    """The table versions and the model versions that are meant."""
    world = builder.world
    name, _, point = asked.partition("@")
    if name in world.tables():
        lake = world.lake
        version = lake.snapshot(name, lake.resolve(name, parse_point(point))).version if point else world.log(name)[0].version
        builder.starts.add(builder.table(name, version))
        return [(name, version)], []
    models = [one for one in world.trainings() if one.model == name and point in {"", one.version}]
    if models:
        builder.starts.update(builder.model(one.model, one.version) for one in models)
        return [], [(one.model, one.version) for one in models]
    found = _files_called(builder, asked)
    if not found:
        found = [
            (table, commit.version)
            for table in world.tables()
            for commit in world.log(table)
            if commit.stamp is not None and commit.stamp.run == asked and commit.changes_rows
        ]
        builder.starts.update(builder.table(table, version) for table, version in found)
    if not found:
        raise TableNotFound(
            asked,
            "is no table, file, run or model",
            expected="layer.name[@version], a file's name or SHA-256 (at least 8 digits), a run's id, or model[@version]",
            fix="lakehouse tables lists the tables, lakehouse history TABLE its files and runs",
        )
    return found, []


def _files_called(builder: _Builder, asked: str) -> list[tuple[str, int]]:
    """The raw versions that brought a file."""
    found: list[tuple[str, int]] = []
    digests: dict[str, str] = {}
    for table in builder.world.tables():
        if not table.startswith("raw."):
            continue
        current = {one.version for one in in_force(builder.world.log(table))}
        for commit in builder.world.log(table):
            for entry in _files(commit):
                is_it = entry.get("file") == asked or (_DIGEST.fullmatch(asked) and str(entry["sha256"]).startswith(asked))
                if not is_it:
                    continue
                node = builder.file(entry)
                digests[node] = str(entry["sha256"])
                builder.starts.add(node)
                builder.edges.add(Edge(node, builder.table(table, commit.version)))
                if commit.version not in current:
                    builder.details[node] += " (undone by a restore)"
                found.append((table, commit.version))
    if _DIGEST.fullmatch(asked) and len(set(digests.values())) > 1:
        raise LakehouseError(f"file {asked}", "is more than one", found=", ".join(digests.values()), fix="Give more digits of the SHA-256")
    return found
