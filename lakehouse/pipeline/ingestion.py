"""Ingest named files, watched."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts import DatasetContract
from lakehouse.pipeline.events import Event, Progress, State, unwatched
from lakehouse.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from lakehouse.ingest import IngestReport


def ingest_files(
    workspace: Workspace,
    contract: DatasetContract,
    files: Sequence[Path],
    *,
    run: str,
    now: datetime,
    progress: Progress = unwatched,
) -> "IngestReport":
    """Ingest files into a dataset, exactly once each; the report has one entry per file."""
    from lakehouse.ingest import ingest

    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        progress(Event("ingest", contract.name, State.ADVANCED, done=done, total=len(files)))

    progress(Event("ingest", contract.name, State.STARTED, done=0, total=len(files)))
    report = ingest(workspace.lake, contract, files, settings=workspace.settings, run=run, now=now, progress=count)
    refused = sum(file.status == "refused" for file in report.files)
    rows = sum(file.rows_read for file in report.files if file.status == "ingested")
    state = State.FAILED if refused else State.FINISHED
    progress(Event("ingest", contract.name, state, f"{rows:,} rows read" + (f", {refused:,} files refused" if refused else "")))
    return report
