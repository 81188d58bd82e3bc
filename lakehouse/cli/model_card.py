"""The command that writes a model version's card: model card."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.model_version import Version, opened
from lakehouse.cli.screen import Screen
from lakehouse.cli.written import write_page


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(group, "card")(card)


def card(
    screen: Screen,
    *,
    name: Version,
    html: Annotated[Path | None, typer.Option("--html", help="Write it as a page that needs no other file.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write it as Markdown.")] = None,
) -> None:
    """Show what a version is for, what it learned from, how good it is, its limits and its history, as Markdown.

    NAME alone is the version in production, or else the newest.
    """
    from lakehouse.errors import ModelError
    from lakehouse.learning.card import model_card
    from lakehouse.learning.recipe import recipe_of
    from lakehouse.learning.records import evaluated
    from lakehouse.learning.registration import standing_of
    from lakehouse.learning.registry import Registry
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    model, lifecycle, named = opened(screen, workspace, name)
    contract, ledger = workspace.contracts.model(model), lifecycle.recorded(model)
    version = named or ledger.production or max(ledger.standings, key=int, default="1")
    known = evaluated(workspace.lake, model, version)
    if known is None:
        raise ModelError(f"model {model}@{version}", "was never evaluated here", fix=f"Run `lakehouse train {model}`")
    recipe = recipe_of(Registry(workspace.settings), model, version)
    found = model_card(contract, standing_of(known.report, ledger), recipe, lifecycle.history(model))
    text = found.as_markdown()
    for path, written in ((html, found.as_html), (markdown, found.as_markdown)):
        if path is not None:
            write_page(path, written())
    document = {**found.as_dict(), "html": None if html is None else str(html), "markdown": None if markdown is None else str(markdown)}

    def show(out: Any) -> None:
        for path in (html, markdown):
            if path is not None:
                out.print(f"Written: {path}", markup=False, soft_wrap=True)
        if html is None and markdown is None:
            out.print(text, markup=False, soft_wrap=True)

    screen.emit(document, show)
