"""One job of the lakehouse, told while it happens: START when it begins, COMPLETE or FAIL when it ends.

What it read and wrote is not reported by the job: it is read from the stamps of the commits that it made, so an event can't say
anything else than the tables do.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from lakehouse.errors import LakehouseError
from lakehouse.openlineage.facets import (
    Assertion,
    ColumnSources,
    Facet,
    event,
    facet,
    file_input,
    job_of,
    judged_input,
    run_id,
    table_input,
    table_output,
)
from lakehouse.openlineage.transport import Transport, transport_of
from lakehouse.settings import Settings
from lakehouse.tables import CommitInfo, Lake

_LOG = logging.getLogger(__name__)
Kind = Literal["ingest", "replay", "discard", "restore", "dbt", "train", "predict", "maintain", "unarchive", "erase", "expire"]
_INTEGRATION = {"dbt": "DBT"}


@dataclass
class Job:
    """What a job may say about itself beyond its commits."""

    columns: dict[str, ColumnSources] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    judged: dict[str, dict[str, Assertion]] = field(default_factory=dict)
    is_told: bool = False

    def failed(self, subject: str, problem: str) -> None:
        """A part of it did not work: a file, a table, a test."""
        self.problems[subject] = problem

    def found(self, table: str, assertions: Iterable[Assertion]) -> None:
        """What checks found in a table; of several answers to one question, as from batch to batch, all count."""
        known = self.judged.setdefault(table, {})
        for one in assertions:
            before = known.get(one.name, one)
            failed = one.failed if before is one else one.failed + before.failed
            known[one.name] = replace(one, passed=one.passed and before.passed, blocks=one.blocks or before.blocks, failed=failed)

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
        written = self._written()
        checks = [one for table, answers in told.judged.items() for one in self._checks(table, answers.values())]
        if self.kind == "dbt":
            parts = [one for commits in written for one in self._part(commits, told)]
            parts += [one for table, text in told.problems.items() for one in self._failed_part(table, text)]
            return [*parts, *checks, self._event("FAIL" if problem else "COMPLETE", problem=problem)]
        read = [*self._judged_again(), *(one for commits in written for one in self._inputs(commits))]
        inputs = {f"{one['namespace']} {one['name']}": one for one in read}
        outputs = [table_output(self.lake, self.namespace, commits, told.columns.get(str(commits[0].table))) for commits in written]
        end = self._event("FAIL" if problem else "COMPLETE", problem=problem, inputs=list(inputs.values()), outputs=outputs)
        return [*checks, end]

    def _written(self) -> list[list[CommitInfo]]:
        """What this run has committed since the job began, newest first, table by table."""
        found: list[list[CommitInfo]] = []
        for table in self.lake.tables():
            new = (self.lake.version(table) or 0) - self.before.get(str(table), -1)
            mine = [
                one
                for one in (self.lake.history(table, limit=new) if new > 0 else [])
                if one.stamp is not None and one.stamp.run == self.run and not one.is_preparation
            ]
            if mine:
                found.append(mine)
        return found

    def _inputs(self, commits: Sequence[CommitInfo]) -> list[Facet]:
        """What all commits to a table read; oldest first, so that of two versions of one table the newer one is told."""
        found: list[Facet] = []
        for stamp in (commit.stamp for commit in reversed(commits) if commit.stamp is not None):
            found += [table_input(self.lake, self.namespace, table, version) for table, version in stamp.inputs.items()]
            listed: Any = (stamp.source or {}).get("files")
            found += [file_input(self.lake, entry) for entry in (listed if isinstance(listed, list) else [])]
        return found

    def _judged_again(self) -> list[Facet]:
        """What a replay reads: rows of its own dataset, which the stamp of a dataset's batch does not name as an input."""
        quarantine = f"quarantine.{self.name}"
        if self.kind != "replay" or quarantine not in self.before:
            return []
        return [table_input(self.lake, self.namespace, quarantine, self.before[quarantine])]

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

    def _part(self, commits: Sequence[CommitInfo], told: Job) -> list[Facet]:
        """The events of one dbt node."""
        table = str(commits[0].table)
        output = table_output(self.lake, self.namespace, commits, told.columns.get(table))
        at = commits[0].timestamp.astimezone(UTC).isoformat()
        return self._within(table, "MODEL", at=at, inputs=self._inputs(commits), outputs=[output])

    def _failed_part(self, subject: str, problem: str) -> list[Facet]:
        return self._within(subject, "MODEL", at=_now(), problem=problem)

    def _checks(self, table: str, answers: Iterable[Assertion]) -> list[Facet]:
        """The events of a table's checks: they were asked, so the run is complete, and its facet says what they found."""
        version = self.lake.version(table)
        if version is None:
            return []
        judged = judged_input(self.lake, self.namespace, table, version, answers)
        return self._within(f"{table}.checks", "TEST", at=_now(), inputs=[judged])

    def _within(
        self, name: str, kind: str, *, at: str, problem: str = "", inputs: list[Facet] | None = None, outputs: list[Facet] | None = None
    ) -> list[Facet]:
        """The events of a part of the job: a run of its own, within the job's."""
        facets: Mapping[str, Facet] = {"parent": self._parent(self.id, f"{self.kind}.{self.name}")}
        run, job = str(uuid4()), self._job(f"{self.kind}.{name}", kind)
        end = {"runId": run, "facets": {**facets, **_error(problem)}}
        return [
            event("START", at=at, run={"runId": run, "facets": dict(facets)}, job=job),
            event("FAIL" if problem else "COMPLETE", at=at, run=end, job=job, inputs=inputs, outputs=outputs),
        ]


def _said(error: BaseException) -> str:
    """The error without what it found: that may be somebody's value."""
    return f"{error.subject}: {error.problem}" if isinstance(error, LakehouseError) else type(error).__name__


def _error(problem: str) -> dict[str, Facet]:
    return {"errorMessage": facet("ErrorMessageRunFacet", message=problem[:2000], programmingLanguage="PYTHON")} if problem else {}


def _now() -> str:
    return datetime.now(UTC).isoformat()
