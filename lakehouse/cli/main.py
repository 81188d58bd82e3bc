"""Entry point of the `lakehouse` command."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lakehouse.cli import (
    contract,
    data,
    drift,
    features,
    home,
    learn,
    maintain,
    model,
    privacy,
    profile,
    quarantine,
    recovery,
    run,
    sample,
    trace,
    versions,
)
from lakehouse.cli.command import usage_error_as_json
from lakehouse.errors import WRONG_USE

app = typer.Typer(
    name="lakehouse",
    help="Files in; versioned tables, features, a registered model and its predictions out.",
    epilog="Exit codes: 0 done, 1 the data or the model did not pass, 2 wrong use or set-up. Every command takes --json and --debug.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("lakehouse"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Files in; versioned tables, features, a registered model and its predictions out."""


for _group in (
    run,
    data,
    contract,
    profile,
    versions,
    maintain,
    quarantine,
    features,
    learn,
    model,
    drift,
    trace,
    recovery,
    sample,
    privacy,
    home,
):
    _group.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--json" not in arguments:
        app(arguments, prog_name="lakehouse")
        return
    # The JSON is an interface even when the command line itself is wrong.
    try:
        code = app(arguments, prog_name="lakehouse", standalone_mode=False)
    except typer.TyperException as error:
        usage_error_as_json(error)
        code = WRONG_USE
    sys.exit(code if isinstance(code, int) else 0)
