"""Fetch commits from repositories, and rows from tables, into a dataset's landing folder; from there they take the one path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lakehouse.contracts import DatasetContract
from lakehouse.errors import SourceError
from lakehouse.pipeline.events import Event, Progress, State, unwatched
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from lakehouse.contracts.databases import SourceTable
    from lakehouse.contracts.topics import SourceTopic
    from lakehouse.ingest import Arrived
    from lakehouse.ingest.sources import SourceReport, TableReport

_Source = TypeVar("_Source", "SourceTable", "SourceTopic")
_TELL_EVERY = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Repositories:
    """What to fetch from.

    Args:
        git: repositories on this machine.
        github: `owner/name` of repositories behind the GitHub API.
        with_details: ask GitHub for each commit's statistics and files too, one request each.
    """

    git: Sequence[Path] = ()
    github: Sequence[str] = ()
    with_details: bool = False

    def __bool__(self) -> bool:
        return bool(self.git or self.github)


def fetch_commits(
    workspace: Workspace, contract: DatasetContract, repositories: Repositories, *, now: datetime, progress: Progress = unwatched
) -> "list[Arrived]":
    """Write the commits that are new since the last look as pages into the dataset's landing folder.

    Returns:
        The pages to ingest: the new ones, and those that an earlier fetch left behind when it was stopped.

    Raises:
        SourceError: a repository can't be read; pages written so far stay.
    """
    if not repositories:
        return []
    from lakehouse.ingest.sources import git_history, github_commits

    landing = workspace.settings.landing_dir / contract.name
    pages: dict[Arrived, None] = {}

    def fetched(name: str, report: "SourceReport") -> None:
        state = State.FINISHED if report.files else State.SKIPPED
        progress(Event("fetch", name, state, f"{report.commits:,} commits"))
        pages.update(dict.fromkeys(report.files))

    for folder in repositories.git:
        progress(Event("fetch", str(folder), State.STARTED))
        fetched(str(folder), git_history(folder, landing))
    for name in repositories.github:
        progress(Event("fetch", name, State.STARTED))
        fetched(name, github_commits(name, landing, settings=workspace.settings, now=now, details=repositories.with_details))
    return with_waiting(workspace, contract, pages)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What looks at tables brought.

    Attributes:
        files: to ingest: what an earlier fetch left behind when it was stopped, and behind it the new pages.
        tables: a report of each look.
    """

    files: "list[Arrived]"
    tables: "tuple[TableReport, ...]"


def fetch_tables(workspace: Workspace, contract: DatasetContract, *, now: datetime, progress: Progress = unwatched) -> Fetched:
    """Write what is new in the databases that the contract names as pages into the dataset's landing folder.

    Raises:
        SourceError: a database can't be read; pages written so far stay.
    """
    from lakehouse.ingest.sources import postgres_rows

    landing = workspace.settings.landing_dir / contract.name
    reports: list[TableReport] = []
    for table in in_environment(contract.databases, workspace.settings):
        told = _Told(f"{table.name} of {table.server}", progress)
        progress(Event("fetch", told.name, State.STARTED))
        report = postgres_rows(contract, table, landing, settings=workspace.settings, now=now, progress=told)
        gone = f", {report.gone:,} gone" if report.gone else ""
        progress(Event("fetch", told.name, State.FINISHED if report.pages else State.SKIPPED, f"{report.rows:,} rows{gone}"))
        reports.append(report)
    pages = {page: None for report in reports for page in report.pages}
    # What an earlier look brought is older than what this one did.
    waiting = [file for file in with_waiting(workspace, contract, {}) if file not in pages]
    return Fetched([*waiting, *pages], tuple(reports))


def check_sources(contract: DatasetContract, settings: Settings) -> None:
    """Raise where there is nothing to fetch from.

    Raises:
        SourceError: the contract names no database and no topic for this environment.
    """
    if not has_sources(contract, settings):
        raise SourceError(
            f"dataset {contract.name}",
            "names no database or topic that it could be fetched from",
            expected=f"a server of type postgres or kafka in {contract.path or 'its contract'}, for {settings.environment} or for any",
        )


def has_sources(contract: DatasetContract, settings: Settings) -> bool:
    """The contract names something to fetch from in this environment."""
    return bool(in_environment(contract.databases, settings) or in_environment(contract.topics, settings))


def in_environment(sources: "Sequence[_Source]", settings: Settings) -> "tuple[_Source, ...]":
    """Those of this environment: its own, or those of any for a server that it has none of."""
    own = tuple(one for one in sources if one.environment == settings.environment)
    servers = {one.server for one in own}
    return own + tuple(one for one in sources if one.environment is None and one.server not in servers)


def looks(contract: DatasetContract, settings: Settings) -> dict[str, list[str]]:
    """When the dataset's sources are to be looked at, as nothing else tells that there is something new: places by cron, in UTC.

    A source says when by its own `lakehouse.schedule`, else the settings do.
    """
    found: dict[str, list[str]] = {}
    for table in in_environment(contract.databases, settings):
        found.setdefault(table.schedule or settings.schedule_fetch, []).append(f"{table.name} of {table.server}")
    for address in contract.landing.exports:
        found.setdefault(contract.landing.schedule or settings.schedule_exports, []).append(address)
    return found


@dataclass(slots=True)
class _Told:
    """Tells how much has come."""

    name: str
    progress: Progress
    bytes: int = 0
    said: int = 0

    def __call__(self, more: int) -> None:
        self.bytes += more
        if self.bytes - self.said >= _TELL_EVERY:
            self.said = self.bytes
            self.progress(Event("fetch", self.name, State.ADVANCED, f"{self.bytes / 1e6:,.0f} MB"))


def with_waiting(workspace: Workspace, contract: DatasetContract, pages: "Mapping[Arrived, None]") -> "list[Arrived]":
    """The pages, and what waits in the dataset's landing folder."""
    from lakehouse.ingest.landing import pending

    waiting = pending(workspace.lake, contract, settings=workspace.settings)
    # A page appears whole: nothing is gained by letting a new one rest.
    return list(dict.fromkeys([*pages, *(file.path for file in waiting.ready), *waiting.settling]))
