"""One job of the lakehouse, told while it happens: START when it begins, COMPLETE or FAIL when it ends.

What it read and wrote is not reported by the job: it is read from the stamps of the commits that it made, so an event can't say
anything else than the tables do.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from lakehouse.errors import LakehouseError
from lakehouse.openlineage.facets import (
    ColumnSources,
    Facet,
    event,
    facet,
    file_input,
    job_of,
    run_id,
    table_input,
    table_output,
)
from lakehouse.openlineage.transport import Transport, transport_of
from lakehouse.settings import Settings
from lakehouse.tables import CommitInfo, Lake

_LOG = logging.getLogger(__name__)
Kind = Literal["ingest", "dbt", "train", "predict", "maintain"]
_INTEGRATION = {"dbt": "DBT"}


@dataclass
class Job:
    """What a job may say about itself beyond its commits."""

    columns: dict[str, ColumnSources] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    is_told: bool = False

    def failed(self, subject: str, problem: str) -> None:
        """A part of it did not work: a file, a table, a test."""
        self.problems[subject] = problem

    def came_from(self, table: str, columns: ColumnSources) -> None:
        """Where the columns of a table come from."""
        self.columns[table] = columns


@contextmanager
def job(settings: Settings, lake: Lake, kind: Kind, name: str, *, run: str) -> Iterator[Job]:
    """Tell what the block does, if the settings say to whom; its errors pass through.

    Args:
        settings: of the home.
        lake: the tables it writes to.
        kind: what it does.
        name: to what.
        run: in which run: its commits carry it in their stamp.

    Raises:
        SettingsError: the endpoint is no HTTP address.
    """
    transport = transport_of(settings)
    if transport is None:
        yield Job()
        return
    telling = _Telling(transport, lake, settings.openlineage_namespace, kind, name, run)
    with telling.told() as told:
        yield told


@dataclass
class _Telling:
    transport: Transport
    lake: Lake
    namespace: str
    kind: Kind
    name: str
    run: str
    id: str = field(default_factory=lambda: str(uuid4()))
    before: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def told(self) -> Iterator[Job]:
        self._send(self._begin)
        told = Job(is_told=True)
        try:
            yield told
        except BaseException as error:
            said = _said(error)
            self._send(lambda: self._end(told, said))
            raise
        problem = "; ".join(f"{subject}: {text}" for subject, text in list(told.problems.items())[:10])
        self._send(lambda: self._end(told, problem))

    def _send(self, make: Callable[[], list[Facet]]) -> None:
        """Make events and send them; a table that can't be read for them is not what the run is about."""
        try:
            self.transport.send(make())
        except (LakehouseError, OSError) as error:
            _LOG.warning("OpenLineage events of %s %s could not be made (%s); the run goes on without them", self.kind, self.name, error)

    def _begin(self) -> list[Facet]:
        self.before = {str(table): self.lake.version(table) or 0 for table in self.lake.tables()}
        return [self._event("START")]

    def _end(self, told: Job, problem: str) -> list[Facet]:
        commits = self._commits()
        if self.kind == "dbt":
            parts = [one for commit in commits for one in self._part(commit, told)]
            parts += [one for table, text in told.problems.items() for one in self._failed_part(table, text)]
            return [*parts, self._event("FAIL" if problem else "COMPLETE", problem=problem)]
        inputs = {f"{one['namespace']} {one['name']}": one for commit in commits for one in self._inputs(commit)}
        outputs = [table_output(self.lake, self.namespace, commit, told.columns.get(str(commit.table))) for commit in commits]
        return [self._event("FAIL" if problem else "COMPLETE", problem=problem, inputs=list(inputs.values()), outputs=outputs)]

    def _commits(self) -> list[CommitInfo]:
        """What this job has committed: the newest commit of each table, if this run made it since the job began."""
        found: list[CommitInfo] = []
        for table in self.lake.tables():
            since = self.before.get(str(table), -1)
            mine = [
                one
                for one in self.lake.history(table, limit=50)
                if one.version > since and one.stamp is not None and one.stamp.run == self.run and one.operation not in _PREPARING
            ]
            found += mine[:1]
        return found

    def _inputs(self, commit: CommitInfo) -> list[Facet]:
        if commit.stamp is None:
            return []
        tables = [table_input(self.lake, self.namespace, table, version) for table, version in commit.stamp.inputs.items()]
        listed: Any = (commit.stamp.source or {}).get("files")
        return tables + [file_input(self.lake, entry) for entry in (listed if isinstance(listed, list) else [])]

    # ---- events

    def _event(self, kind: str, *, problem: str = "", inputs: list[Facet] | None = None, outputs: list[Facet] | None = None) -> Facet:
        facets = {"parent": self._parent(run_id(self.run), "run")}
        return event(
            kind,
            at=_now(),
            run={"runId": self.id, "facets": facets | _error(problem)},
            job=self._job(f"{self.kind}.{self.name}"),
            inputs=inputs,
            outputs=outputs,
        )

    def _job(self, name: str, kind: str = "JOB") -> Facet:
        return job_of(self.namespace, name, integration=_INTEGRATION.get(self.kind, "LAKEHOUSE"), kind=kind)

    def _parent(self, run: str, name: str) -> Facet:
        return facet("ParentRunFacet", run={"runId": run}, job={"namespace": self.namespace, "name": name})

    def _part(self, commit: CommitInfo, told: Job) -> list[Facet]:
        """The events of one dbt node: a run of its own, within the job's."""
        table = str(commit.table)
        run = {"runId": str(uuid4()), "facets": {"parent": self._parent(self.id, f"{self.kind}.{self.name}")}}
        job = self._job(f"{self.kind}.{table}", "MODEL")
        output = table_output(self.lake, self.namespace, commit, told.columns.get(table))
        at = commit.timestamp.astimezone(UTC).isoformat()
        return [
            event("START", at=at, run=run, job=job),
            event("COMPLETE", at=at, run=run, job=job, inputs=self._inputs(commit), outputs=[output]),
        ]

    def _failed_part(self, subject: str, problem: str) -> list[Facet]:
        facets: Mapping[str, Facet] = {"parent": self._parent(self.id, f"{self.kind}.{self.name}")}
        run = {"runId": str(uuid4()), "facets": dict(facets)}
        job = self._job(f"{self.kind}.{subject}", "MODEL")
        return [
            event("START", at=_now(), run=run, job=job),
            event("FAIL", at=_now(), run={**run, "facets": {**facets, **_error(problem)}}, job=job),
        ]


_PREPARING = frozenset({"add_columns", "add_feature"})


def _said(error: BaseException) -> str:
    """The error without what it found: that may be somebody's value."""
    return f"{error.subject}: {error.problem}" if isinstance(error, LakehouseError) else type(error).__name__


def _error(problem: str) -> dict[str, Facet]:
    return {"errorMessage": facet("ErrorMessageRunFacet", message=problem[:2000], programmingLanguage="PYTHON")} if problem else {}


def _now() -> str:
    return datetime.now(UTC).isoformat()
