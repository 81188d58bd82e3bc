"""What every command shares: --json, --debug, exit codes, and one line instead of a traceback."""

import errno
import functools
import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from lakehouse.cli.auditing import Auditor
from lakehouse.cli.screen import Screen
from lakehouse.errors import WRONG_USE, LakehouseError, MachineError

INTERRUPTED = 130
BROKEN_PIPE = 141
# Whose errors may be about a file or the machine: DuckDB, delta-rs, the system.
_ENGINES = ("_duckdb", "_internal", "builtins")

_JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout (see docs/cli.md).")]
_DEBUG = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the log of libraries.")]


def command(app: typer.Typer, name: str, *, panel: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command that has --json and --debug and never shows a traceback without the latter.

    The function takes the `Screen` first; its other parameters are the command's arguments and options. It returns
    normally (exit code 0), raises `typer.Exit`, or raises a `LakehouseError`, which carries its own exit code.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*, json: bool, debug: bool, **arguments: Any) -> None:
            _quieten(debug=debug)
            auditor = Auditor(
                f"{app.info.name} {name}" if isinstance(app.info.name, str) and app.info.name != "lakehouse" else name, arguments
            )
            screen = Screen(json=json, debug=debug, before_output=auditor.tell)
            with _errors_as_exit_codes(screen), screen.reserved_stdout():
                try:
                    function(screen, **arguments)
                except BaseException as error:
                    auditor.tell(outcome=type(error).__name__)
                    raise
                auditor.tell()

        signature = inspect.signature(function)
        own = list(signature.parameters.values())[1:]
        shared = [
            inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_JSON),
            inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_DEBUG),
        ]
        parameters = [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *shared]
        run.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        app.command(name, rich_help_panel=panel)(run)
        return function

    return register


class _errors_as_exit_codes:
    """Turns what a command raises into a message and an exit code."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, SystemExit | typer.Exit | typer.TyperException):
            return
        if isinstance(error, BrokenPipeError):
            # The reader has gone. Python would complain once more when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
            raise typer.Exit(BROKEN_PIPE) from error
        if _is_interrupt(error):
            self.screen.say("Interrupted. Tables hold whole commits only; run the command again to go on.")
            raise typer.Exit(INTERRUPTED) from error
        if isinstance(error, LakehouseError):
            self.screen.fail(str(error), error.as_dict(), error)
            raise typer.Exit(error.exit_code) from error
        if isinstance(error, OSError) and (refusal := refused_by_the_machine(error)) is not None:
            self.screen.fail(str(refusal), refusal.as_dict(), error)
            raise typer.Exit(refusal.exit_code) from error
        if type(error).__module__ in _ENGINES:
            # Imported where it is needed: most commands never open a table.
            from lakehouse.tables.damage import explained

            if (damage := explained(error)) is not None:
                self.screen.fail(str(damage), damage.as_dict(), error)
                raise typer.Exit(damage.exit_code) from error
        if isinstance(error, Exception):
            line = " ".join(str(error).split()) or "no message"
            message = f"unexpected {type(error).__name__}: {line[:500]}"
            hint = "This is a bug: run again with --debug and report what it prints"
            self.screen.fail(f"{message}. {hint}", _document("Unexpected", "lakehouse", message, fix=hint), error)
            raise typer.Exit(WRONG_USE) from error


_MACHINE_SAYS = {
    errno.ENOSPC: "Free some space, or set LAKEHOUSE_HOME to a larger disk; then run the command again to go on",
    errno.EDQUOT: "Free some of the quota, or set LAKEHOUSE_HOME to another disk; then run the command again to go on",
    errno.EACCES: "Give this user the right to it, or set LAKEHOUSE_HOME to a folder that it may write to",
    errno.EPERM: "Give this user the right to it, or set LAKEHOUSE_HOME to a folder that it may write to",
    errno.EROFS: "Set LAKEHOUSE_HOME to a folder that can be written to",
    errno.ENOENT: "Check that LAKEHOUSE_HOME names a place where a folder can be made",
    errno.ENOTDIR: "Check that LAKEHOUSE_HOME names a folder, not something below a file",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or lower LAKEHOUSE_THREADS",
}


def refused_by_the_machine(error: OSError) -> MachineError | None:
    """What the operating system did not allow, as one of our errors; None for what looks like a mistake of ours."""
    fix = _MACHINE_SAYS.get(error.errno or 0)
    if fix is None or error.filename is None:
        return None
    return MachineError(str(error.filename), "can't be read or written", found=error.strerror, fix=fix)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind it: DuckDB reports it as an error of its own, which may have been wrapped."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "InterruptException" or str(error) == "Query interrupted":
            return True
        error = error.__cause__
    return False


def _quieten(*, debug: bool) -> None:
    """Keep libraries' own chatter off the screen: what matters reaches the user as a result or an error."""
    if debug:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)
        return
    warnings.simplefilter("ignore")
    for name in ("mlflow", "alembic", "dbt", "matplotlib", "py4j", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)


def usage_error_as_json(error: typer.TyperException) -> None:
    """Print a wrong command line the way --json promises errors."""
    message = error.format_message()
    # What kind of usage error it is says which of these it has.
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "lakehouse"
    usage = " ".join(context.get_usage().split()).removeprefix("Usage: ") if context is not None else None
    possible = ", ".join(sorted(getattr(error, "possibilities", None) or ()))
    document = _document(
        "UsageError",
        command,
        message,
        expected=possible or usage,
        found=getattr(error, "option_name", None),
        fix=f"See {command} --help",
    )
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stderr.write(message + "\n")


def _document(
    error: str, subject: str, message: str, *, expected: str | None = None, found: str | None = None, fix: str
) -> dict[str, str | None]:
    """An error that is none of the library's own, with the same fields."""
    return {
        "error": error,
        "subject": subject,
        "problem": message,
        "expected": expected,
        "found": found,
        "fix": fix,
        "message": message,
    }
