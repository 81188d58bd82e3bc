"""How a command names a version of a model: NAME, NAME@3, NAME@1.2.0, NAME@champion."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.completion import model_names
from lakehouse.cli.screen import Screen

if TYPE_CHECKING:
    from lakehouse.learning.lifecycle.operations import Lifecycle

Version = Annotated[
    str,
    typer.Argument(metavar="NAME[@VERSION]", help="The model; with @3, @1.2.0 or @champion a version.", autocompletion=model_names),
]


def opened(screen: Screen, workspace: Any, name: str) -> "tuple[str, Lifecycle, str | None]":
    """The model, its life, and the version that was named."""
    from lakehouse.errors import SettingsError
    from lakehouse.learning.lifecycle.board import wanted_aliases
    from lakehouse.learning.lifecycle.operations import Lifecycle
    from lakehouse.learning.registry import Registry

    model, at, wanted = name.partition("@")
    if not model or (at and not wanted):
        raise SettingsError(f"name {name!r}", "names no version of a model", expected="MODEL or MODEL@VERSION", fix="Give both parts")
    lifecycle = Lifecycle(Registry(workspace.settings), workspace.lake, waiting=screen.say)
    if not wanted:
        return model, lifecycle, None
    ledger = lifecycle.recorded(model)
    return model, lifecycle, wanted_aliases(ledger).get(wanted) or ledger.named(wanted)
