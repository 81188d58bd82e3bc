"""Commands that do the whole way: demo, add, run."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import dataset_and_model_names
from lakehouse.cli.screen import Screen
from lakehouse.errors import DATA_DID_NOT_PASS

if TYPE_CHECKING:
    from lakehouse.pipeline.report import RunReport


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "demo", panel="Start here")(demo)
    command(app, "add", panel="Start here")(add)
    command(app, "run", panel="Start here")(run)


def demo(
    screen: Screen,
    *,
    households: Annotated[int, typer.Option("--households", min=100, help="Survey rows to generate.")] = 20_000,
    commits: Annotated[int, typer.Option("--commits", min=100, help="Commits to generate.")] = 3_000,
    direct: Annotated[bool, typer.Option("--direct", help="Without Dagster, in this process.")] = False,
) -> None:
    """Generate samples and take them the whole way: files, tables, features, models, predictions."""
    from lakehouse.pipeline.demo import run_demo
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    with screen.progress() as progress:
        result = run_demo(workspace, households=households, commits=commits, direct=direct, now=datetime.now(UTC), progress=progress)

    def show(out: Any) -> None:
        from lakehouse.cli.summary import show_demo

        show_demo(out, result, workspace.settings)

    screen.emit(result.as_dict(), show)
    _leave(screen, result.run)


def add(
    screen: Screen,
    *,
    paths: Annotated[list[str], typer.Argument(help="Files of one dataset, folders or globs.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the dataset (and model); default from the file's name.")] = None,
    target: Annotated[str | None, typer.Option("--target", help='What to predict: a column, or SQL such as "POVPIP < 100".')] = None,
    key: Annotated[str | None, typer.Option("--key", help="Primary key: column or columns, separated by commas.")] = None,
    entity: Annotated[str | None, typer.Option("--entity", help="Who or what a row is about: column or columns.")] = None,
    event_time: Annotated[str | None, typer.Option("--event-time", help="When it happened: a column.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write an added contract of this name again.")] = False,
) -> None:
    """Infer contracts from your files, and with --target a model; then `lakehouse run NAME`."""
    from lakehouse.pipeline.add import AddRequest
    from lakehouse.pipeline.add import add as add_dataset
    from lakehouse.pipeline.workspace import Workspace

    request = AddRequest(
        paths=tuple(paths),
        name=name,
        target=target,
        key=_columns(key),
        entity=_columns(entity),
        event_time=event_time,
        replace=replace,
    )
    workspace = Workspace.load()
    with screen.progress() as progress:
        report = add_dataset(workspace, request, progress=progress)

    def show(out: Any) -> None:
        from lakehouse.cli.summary import show_added

        show_added(out, report)

    screen.emit(report.as_dict(), show)


def run(
    screen: Screen,
    *,
    names: Annotated[
        list[str] | None, typer.Argument(help="Datasets or models; default all.", autocompletion=dataset_and_model_names)
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Build and train again although nothing changed.")] = False,
    direct: Annotated[bool, typer.Option("--direct", help="Without Dagster, in this process; its UI does not show the run.")] = False,
) -> None:
    """Bring everything up to date: ingest what has landed, build, train, predict, check."""
    from lakehouse.pipeline.start import start_run
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    with screen.progress() as progress:
        report = start_run(workspace, names or [], full=full, direct=direct, now=datetime.now(UTC), progress=progress)

    def show(out: Any) -> None:
        from lakehouse.cli.summary import show_run

        show_run(out, report)

    screen.emit(report.as_dict(), show)
    _leave(screen, report)


def _columns(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def _leave(screen: Screen, report: "RunReport") -> None:
    """Exit 1 when a check that matters failed."""
    if not report.passed:
        for line in report.reasons():
            screen.say(f"lakehouse: {line}")
        raise typer.Exit(DATA_DID_NOT_PASS)
