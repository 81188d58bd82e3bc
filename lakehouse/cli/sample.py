"""Commands that generate data: sample households, sample commits, sample commerce."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.screen import Screen, human_size

if TYPE_CHECKING:
    from lakehouse.sampling import SampleReport

_Rows = Annotated[int, typer.Option("--rows", min=1, help="How many rows; written as a stream, so as many as the disk holds.")]
_Seed = Annotated[int, typer.Option("--seed", help="Same seed, same bytes.")]
_Out = Annotated[Path, typer.Option("--out", file_okay=False, help="Folder to write to; made when missing.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(name="sample", help="Write data from documented generative models.", no_args_is_help=True)
    app.add_typer(group, rich_help_panel="Data")
    command(group, "households")(households)
    command(group, "commits")(commits)
    command(group, "commerce")(commerce)


def households(
    screen: Screen,
    *,
    out: _Out,
    rows: _Rows = 20_000,
    seed: _Seed = 0,
    bad_rate: Annotated[float, typer.Option("--bad-rate", min=0.0, max=1.0, help="Share of rows that break a rule.")] = 0.0,
    shift: Annotated[float, typer.Option("--shift", help="How far the population has drifted; 0 is none.")] = 0.0,
) -> None:
    """Write household survey files: correlated answers, a learnable label, dirty rows of every kind."""
    from lakehouse.pipeline.events import counted
    from lakehouse.sampling import households as write_households

    with screen.progress() as progress, counted(progress, "sample", "households", total=rows) as advance:
        report = write_households(rows=rows, seed=seed, bad_rate=bad_rate, shift=shift, out=out, progress=advance)
    _report(screen, "household_survey", seed, out, report)


def commits(screen: Screen, *, out: _Out, rows: _Rows = 3_000, seed: _Seed = 0) -> None:
    """Write pages of commits as the GitHub API gives them."""
    from lakehouse.pipeline.events import counted
    from lakehouse.sampling import commits as write_commits

    with screen.progress() as progress, counted(progress, "sample", "commits", total=rows) as advance:
        report = write_commits(rows=rows, seed=seed, out=out, progress=advance)
    _report(screen, "commits", seed, out, report)


def commerce(
    screen: Screen,
    *,
    out: _Out,
    customers: Annotated[int, typer.Option("--customers", min=1, help="How many customers the shop has.")] = 500,
    days: Annotated[int, typer.Option("--days", min=1, help="How many days are watched; a file a day.")] = 365,
    seed: _Seed = 0,
) -> None:
    """Write a shop's customers, orders, payments and web events: a folder for each, with copies, bots, late events and bad rows."""
    from lakehouse.pipeline.events import counted
    from lakehouse.sampling import commerce as write_commerce

    with screen.progress() as progress, counted(progress, "sample", "commerce", total=customers) as advance:
        reports = write_commerce(customers=customers, days=days, seed=seed, out=out, progress=advance)
    document = {"seed": seed, "datasets": {dataset: report.as_dict() for dataset, report in reports.items()}}

    def show(console: Any) -> None:
        for dataset, report in reports.items():
            _tell(console, report, out / dataset)
            console.print(f"Next: lakehouse ingest {dataset} {out / dataset}", markup=False, soft_wrap=True)

    screen.emit(document, show)


def _report(screen: Screen, dataset: str, seed: int, out: Path, report: "SampleReport") -> None:
    document = {"dataset": dataset, "seed": seed, **report.as_dict()}

    def show(console: Any) -> None:
        _tell(console, report, out)
        console.print(f"Next: lakehouse ingest {dataset} {out}", markup=False, soft_wrap=True)

    screen.emit(document, show)


def _tell(console: Any, report: "SampleReport", folder: Path) -> None:
    size = sum(file.size_bytes for file in report.files)
    bad = f", {report.bad_rows:,} of them bad on purpose" if report.bad_rows else ""
    console.print(
        f"{report.rows:,} rows{bad} in {len(report.files):,} files, {human_size(size)}, under {folder}", markup=False, soft_wrap=True
    )
