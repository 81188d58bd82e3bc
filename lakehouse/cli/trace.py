"""Commands that follow data backwards and forwards: lineage."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import table_names
from lakehouse.cli.screen import Screen

if TYPE_CHECKING:
    from lakehouse.observability.graph import Graph
    from lakehouse.observability.rows import RowTrail
    from lakehouse.pipeline.workspace import Workspace


class _Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    BOTH = "both"


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "lineage", panel="Tables")(lineage)


def lineage(
    screen: Screen,
    *,
    asked: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="layer.name[@version], a file's name or SHA-256, a run's id, or model[@version].",
            autocompletion=table_names,
        ),
    ],
    key: Annotated[str | None, typer.Option("--key", help="Follow the rows of this key down to the lines of the files.")] = None,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="At most this many steps back.")] = None,
    direction: Annotated[_Direction | None, typer.Option("--direction", help="Of a table up by default, of anything else both.")] = None,
    columns: Annotated[bool, typer.Option("--columns", help="Of a dbt model's table: which columns each column is computed from.")] = False,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw it into a .html or .svg file.")] = None,
) -> None:
    """Show where something came from, and what came of it: tables, files, models, and with --key the very rows."""
    from lakehouse.errors import LakehouseError
    from lakehouse.observability.graph import follow
    from lakehouse.observability.lineage import trace
    from lakehouse.pipeline.workspace import Workspace

    if picture is not None and picture.suffix.lower() not in {".html", ".svg"}:
        raise LakehouseError(str(picture), "is no picture that can be drawn", expected=".html or .svg", fix="Rename it")
    if depth is not None and (direction not in {None, _Direction.UP} or picture is not None):
        raise LakehouseError(
            "--depth", "is for a table's way back in text alone", fix="Leave it out, or leave out --direction and --picture"
        )
    workspace = Workspace.load()
    if columns:
        _show_columns(screen, workspace, asked)
        return
    is_table = asked.partition("@")[0] in {str(name) for name in workspace.lake.tables()}
    looks_like_one = "." in asked and asked.partition(".")[0] in {"raw", "staging", "analytics", "features", "models", "monitoring"}
    if direction in {None, _Direction.UP} and picture is None and (is_table or looks_like_one):
        found = trace(workspace.lake, workspace.contracts, asked, key=key, depth=depth, settings=workspace.settings)

        def show(out: Any) -> None:
            from lakehouse.cli.lineage_view import draw

            draw(out, found)

        screen.emit(found.as_dict(), show)
        return
    way = direction or (_Direction.UP if is_table else _Direction.BOTH)
    graph = follow(workspace.lake, asked, direction=way.value)
    trail = _rows(workspace, graph, key) if key is not None else None
    if picture is not None:
        _draw(graph, picture)
    document = {**graph.as_dict(), "picture": str(picture) if picture is not None else None}
    if trail is not None:
        document |= {"key": key, **trail.as_dict()}
    screen.emit(document, lambda out: _show(out, graph, trail, picture))


def _show_columns(screen: Screen, workspace: "Workspace", table: str) -> None:
    from lakehouse.pipeline.columns import column_lineage

    found = column_lineage(workspace, table)
    document = {
        "table": table,
        "columns": [
            {"column": column, "sources": [{"table": source, "column": name} for source, name in sources]}
            for column, sources in found.items()
        ],
    }

    def show(out: Any) -> None:
        for column, sources in found.items():
            came = ", ".join(f"{source}.{name}" for source, name in sources) or "no column"
            out.print(f"{column}  from {came}", markup=False, soft_wrap=True)

    screen.emit(document, show)


def _rows(workspace: "Workspace", graph: "Graph", key: str) -> "RowTrail":
    from lakehouse.observability.rows import follow_key

    tables = [node for node in graph.nodes if node.kind == "table"]
    ordered = sorted(tables, key=lambda node: not node.is_start)
    return follow_key(
        workspace.lake, workspace.contracts, [(node.name, node.versions[-1]) for node in ordered], key=key, settings=workspace.settings
    )


def _draw(graph: "Graph", picture: Path) -> None:
    from lakehouse.errors import LakehouseError
    from lakehouse.observability.picture import page, svg

    try:
        picture.write_text(svg(graph) if picture.suffix.lower() == ".svg" else page(graph), encoding="utf-8")
    except OSError as error:
        raise LakehouseError(str(picture), f"can't be written: {error.strerror}", fix="Choose another place") from error


def _show(out: Any, graph: "Graph", trail: "RowTrail | None", picture: Path | None) -> None:
    from lakehouse.cli.lineage_view import draw_graph, draw_trail

    draw_graph(out, graph)
    if trail is not None:
        draw_trail(out, trail)
    if picture is not None:
        out.print(f"The picture is in {picture}", markup=False, soft_wrap=True)
