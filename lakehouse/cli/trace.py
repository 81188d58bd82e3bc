"""Commands that follow data backwards: lineage."""

from typing import Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import table_names
from lakehouse.cli.screen import Screen


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "lineage", panel="Tables")(lineage)


def lineage(
    screen: Screen,
    *,
    table: Annotated[str, typer.Argument(help="layer.name, or layer.name@version.", autocompletion=table_names)],
    key: Annotated[str | None, typer.Option("--key", help="Follow the rows of this key down to the lines of the files.")] = None,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="At most this many steps back.")] = None,
) -> None:
    """Show where a table came from: versions of every table on the way, files, and with --key the very rows."""
    from lakehouse.observability.lineage import trace
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    found = trace(workspace.lake, workspace.contracts, table, key=key, depth=depth, settings=workspace.settings)

    def show(out: Any) -> None:
        from lakehouse.cli.lineage_view import draw

        draw(out, found)

    screen.emit(found.as_dict(), show)
