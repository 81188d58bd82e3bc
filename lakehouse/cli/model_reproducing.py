"""The command that makes a registered model again: model reproduce."""

from typing import Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.model_version import Version, opened
from lakehouse.cli.screen import Screen
from lakehouse.errors import DATA_DID_NOT_PASS


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(group, "reproduce")(reproduce)


def reproduce(screen: Screen, *, name: Version) -> None:
    """Make a version again from the recorded table versions, contract and seed, in memory, and compare data, parameters and predictions.

    NAME alone is the version in production, or else the newest.
    """
    from lakehouse.learning.reproduction import reproduce as make_again
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    model, lifecycle, version = opened(screen, workspace, name)
    if version is None:
        ledger = lifecycle.recorded(model)
        version = ledger.production or max(ledger.standings, key=int, default="1")
    found = make_again(workspace.settings, workspace.lake, model, version)
    document = {
        "model": found.model,
        "version": found.version,
        "equal": found.is_equal,
        "inputs": dict(found.inputs),
        "digests": [
            {
                "what": one.what,
                "equal": one.is_equal,
                "recorded": one.recorded,
                "found": one.found,
                "detail": "" if one.is_equal else one.detail,
            }
            for one in found.digests
        ],
        "environment": [{"name": key, "recorded": then, "found": now} for key, (then, now) in found.environment.items()],
    }

    def show(out: Any) -> None:
        word, style = ("made again: it is the same", "bold green") if found.is_equal else ("made again: it is NOT the same", "bold red")
        out.print(f"{found.model}@{found.version} {word}", markup=False, style=style)
        for one in found.digests:
            told = "equal" if one.is_equal else f"DIFFERENT: {one.detail}"
            out.print(f"  {one.what:<12} {one.recorded[:12]}  {told}", markup=False, soft_wrap=True)
        for key, (then, now) in found.environment.items():
            out.print(f"  {key} was {then}, is {now}", markup=False, soft_wrap=True, style="yellow")

    screen.emit(document, show)
    if not found.is_equal:
        raise typer.Exit(DATA_DID_NOT_PASS)
