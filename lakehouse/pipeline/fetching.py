"""Fetch commits from repositories into a dataset's landing folder; from there they take the one path."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts import DatasetContract
from lakehouse.pipeline.events import Event, Progress, State, unwatched
from lakehouse.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from lakehouse.ingest import Arrived
    from lakehouse.ingest.sources import SourceReport


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
    from lakehouse.ingest.landing import pending
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
    waiting = pending(workspace.lake, contract, settings=workspace.settings)
    # A page appears whole: nothing is gained by letting a new one rest.
    pages.update(dict.fromkeys([*(file.path for file in waiting.ready), *waiting.settling]))
    return list(pages)
