"""Ingest named files, or what there is to bring in, watched."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.contracts import DatasetContract
from lakehouse.pipeline.events import Event, Progress, State, unwatched
from lakehouse.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from lakehouse.ingest import Arrived, IngestProgress, IngestReport


def ingest_files(
    workspace: Workspace,
    contract: DatasetContract,
    files: "Sequence[Arrived]",
    *,
    run: str,
    now: datetime,
    progress: Progress = unwatched,
    replaces: Sequence[str] = (),
    repaired: bool = False,
) -> "IngestReport":
    """Ingest files into a dataset, exactly once each; the report has one entry per file."""
    from lakehouse.ingest import ingest

    def told(at: "IngestProgress") -> None:
        progress(Event("ingest", contract.name, State.ADVANCED, f"{at.rows_read:,} rows", done=at.bytes_done, total=at.bytes_total))

    progress(Event("ingest", contract.name, State.STARTED))
    report = ingest(
        workspace.lake, contract, files, settings=workspace.settings, run=run, now=now, progress=told, replaces=replaces, repaired=repaired
    )
    counts = report.counts()
    detail = f"{counts['ingested']:,} files, {report.rows_read:,} rows, {report.rows_quarantined:,} quarantined"
    if counts["refused"]:
        progress(Event("ingest", contract.name, State.FAILED, f"{detail}, {counts['refused']:,} files refused"))
    else:
        progress(Event("ingest", contract.name, State.FINISHED if counts["ingested"] else State.SKIPPED, detail))
    return report


def ingest_arrived(workspace: Workspace, contract: DatasetContract, *, run: str, now: datetime) -> "IngestReport":
    """Fetch what is new where the contract names databases or topics, and ingest it with what waits in the landing folder.

    Raises:
        SourceError: one can't be read.
    """
    from lakehouse.ingest import ingest_landing
    from lakehouse.pipeline.fetching import has_sources

    if has_sources(contract, workspace.settings):
        return ingest_sources(workspace, contract, (), run=run, now=now)
    return ingest_landing(workspace.lake, contract, settings=workspace.settings, run=run, now=now)


def ingest_sources(
    workspace: Workspace,
    contract: DatasetContract,
    files: "Sequence[Arrived]",
    *,
    run: str,
    now: datetime,
    progress: Progress = unwatched,
) -> "IngestReport":
    """Ingest files, and what is new in the databases and topics that the contract names.

    Raises:
        SourceError: the contract names none, or one can't be read; what was ingested stays.
    """
    from lakehouse.pipeline.fetching import check_sources, fetch_tables
    from lakehouse.pipeline.topics import ingest_topics, joined, topics_of

    check_sources(contract, workspace.settings)
    fetched = fetch_tables(workspace, contract, now=now, progress=progress)
    arrived = list(dict.fromkeys([*files, *fetched.files]))
    slots = tuple(table for table in fetched.tables if table.replicated is not None)
    if not topics_of(workspace, contract):
        return replace(ingest_files(workspace, contract, arrived, run=run, now=now, progress=progress), slots=slots)
    given = [ingest_files(workspace, contract, list(files), run=run, now=now, progress=progress)] if files else []
    return replace(joined([*given, ingest_topics(workspace, contract, run=run, now=now, progress=progress)]), slots=slots)
