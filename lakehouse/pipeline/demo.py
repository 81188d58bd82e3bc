"""The demo: samples into the landing folder, the whole way, and a summary made from the tables alone."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.pipeline.events import Event, Progress, State, counted, unwatched
from lakehouse.pipeline.overview import TableOverview, list_tables
from lakehouse.pipeline.rejected import QuarantineCount, count_by_rule
from lakehouse.pipeline.report import RunReport
from lakehouse.pipeline.start import start_run
from lakehouse.pipeline.workspace import Workspace
from lakehouse.tables.spill import own_folder

if TYPE_CHECKING:
    from lakehouse.sampling import SampleReport

BAD_RATE = 0.02
SEED = 7


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo shows at its end."""

    run: RunReport
    tables: Sequence[TableOverview]
    quarantine: Mapping[str, QuarantineCount]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The document that `lakehouse demo --json` prints."""
        return {
            **self.run.as_dict(),
            "tables": [{"table": f"{one.layer}.{one.name}", "rows": one.rows, "version": one.version} for one in self.tables],
            "quarantine": {
                dataset: {"rows": count.rows, "rules": {rule.rule: rule.rows for rule in count.rules}}
                for dataset, count in self.quarantine.items()
            },
            "seconds": round(self.seconds, 1),
        }


def run_demo(
    workspace: Workspace, *, households: int, commits: int, direct: bool, now: datetime, progress: Progress = unwatched
) -> DemoResult:
    """Generate the samples where they are missing, bring everything up to date, and look at the result.

    The samples are the same bytes every time, so running it again changes no raw table.
    """
    started = time.monotonic()
    from lakehouse.sampling import commits as write_commits
    from lakehouse.sampling import households as write_households

    _sample(
        workspace,
        "household_survey",
        households,
        lambda out, advance: write_households(rows=households, out=out, seed=SEED, bad_rate=BAD_RATE, progress=advance),
        progress,
    )
    _sample(
        workspace,
        "commits",
        commits,
        lambda out, advance: write_commits(rows=commits, out=out, seed=SEED, progress=advance),
        progress,
    )
    report = start_run(workspace, now=now, direct=direct, progress=progress)
    return DemoResult(
        run=report,
        tables=list_tables(workspace.lake),
        quarantine=count_by_rule(workspace.lake),
        seconds=time.monotonic() - started,
    )


def _sample(
    workspace: Workspace,
    dataset: str,
    rows: int,
    write: "Callable[[Path, Callable[[int], None]], SampleReport]",
    progress: Progress,
) -> None:
    """Write a sample into the landing folder, all of its files at once, unless it is there."""
    folder = workspace.settings.landing_dir / dataset
    # Hidden, so that no reader takes it for data; it stays when the user moves ingested files away.
    mark = folder / f".demo-{rows}-{SEED}"
    if mark.exists():
        progress(Event("sample", dataset, State.SKIPPED))
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="demo-", dir=own_folder(workspace.settings.spill_dir)) as scratch:
        with counted(progress, "sample", dataset, total=rows) as advance:
            write(Path(scratch), advance)
        _arrive(Path(scratch), folder, settled_s=workspace.settings.settle_s)
    mark.touch()


def _arrive(scratch: Path, folder: Path, *, settled_s: float) -> None:
    """Move finished files into the landing folder; each appears whole, and nobody has to wait for it to come to rest."""
    rested = time.time() - settled_s - 1
    for file in sorted(one for one in scratch.rglob("*") if one.is_file()):
        target = folder / file.relative_to(scratch)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.utime(file, (rested, rested))
        try:
            file.replace(target)
        except OSError:
            # The landing folder may be on another disk.
            draft = target.with_name(f".{target.name}.tmp")
            shutil.copy2(file, draft)
            draft.replace(target)
