"""Where output goes: results to stdout as text or JSON, progress and messages to stderr."""

import contextlib
import io
import json as json_format
import math
import os
import sys
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from lakehouse.pipeline.events import Progress


def json_value(value: Any) -> Any:
    """The value as JSON types: instants in ISO 8601 with Z, decimals as numbers, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): json_value(one) for key, one in value.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (str, bytes)):
        return [json_value(one) for one in value]
    return _json_scalar(value)


def _json_scalar(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int)) or type(value) is str:
        return value
    if isinstance(value, (float, Decimal)):
        is_whole = isinstance(value, Decimal) and value.is_finite() and value.as_tuple().exponent == 0
        return int(value) if is_whole else (float(value) if math.isfinite(value) else None)
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)


def cell(value: Any) -> Any:
    """The value as a cell of a grid or a CSV file: nested ones as JSON text."""
    plain = json_value(value)
    return json_format.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else plain


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 file, 2 files."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def human_size(size_bytes: float) -> str:
    """The size with a binary unit, as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def _show_what_is_no_text(stream: IO[str]) -> None:
    r"""Have halves of characters, which records in quarantine may hold, printed as \ud800, which is what JSON calls them, too."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


class Screen:
    """One command's view of the terminal.

    Args:
        json: results are JSON documents.
        debug: errors come with their traceback.
        before_output: told the result before it is shown.
    """

    def __init__(self, *, json: bool, debug: bool, before_output: Callable[[Any], None] | None = None) -> None:
        self.json = json
        self.debug = debug
        self._before_output = before_output
        self._stdout: IO[str] = sys.stdout

    @contextlib.contextmanager
    def reserved_stdout(self) -> Generator[None]:
        """Send what libraries print to stderr, so that stdout holds the result and nothing else."""
        self._stdout = sys.stdout
        _show_what_is_no_text(sys.stdout)
        _show_what_is_no_text(sys.stderr)
        with contextlib.redirect_stdout(sys.stderr):
            yield

    @cached_property
    def out(self) -> "Console":
        """For results. Rich itself respects NO_COLOR, TERM and pipes."""
        from rich.console import Console

        # Piped text must not be cut to a terminal's width: somebody greps it.
        width = None if self._stdout.isatty() or "COLUMNS" in os.environ else 200
        return Console(file=self._stdout, width=width, highlight=False, soft_wrap=False)

    @cached_property
    def err(self) -> "Console":
        """For progress and messages."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    def emit(self, document: Any, show: "Callable[[Console], None]") -> None:
        """Print the result: the document under --json, otherwise what `show` draws."""
        self.show_to_auditor(document)
        if self.json:
            self.write(json_format.dumps(json_value(document), indent=2, ensure_ascii=False) + "\n")
        else:
            show(self.out)
            self._stdout.flush()

    def show_to_auditor(self, document: Any) -> None:
        """Have the result recorded, if it is printed by other means than `emit`."""
        if self._before_output is not None:
            self._before_output(document)

    def write(self, text: str) -> None:
        """Write text as it is to stdout."""
        self._stdout.write(text)
        self._stdout.flush()

    def say(self, message: str) -> None:
        """Write one line for people to stderr."""
        self.err.print(message, markup=False, soft_wrap=True)

    def fail(self, message: str, document: Mapping[str, Any], error: BaseException) -> None:
        """Report what stopped the command."""
        if self.debug:
            sys.stderr.write("".join(traceback.format_exception(error)))
        if self.json:
            self.write(json_format.dumps(json_value(document), ensure_ascii=False) + "\n")
        # Plain text: a message may hold square brackets, and is searched for by scripts.
        sys.stderr.write(f"lakehouse: {message}\n")

    @contextlib.contextmanager
    def progress(self) -> "Generator[Progress]":
        """Show long work on stderr while it runs: live on a terminal, one line per finished step elsewhere."""
        from lakehouse.cli.progress import live_progress, plain_progress

        if self.err.is_terminal and not self.debug:
            with live_progress(self.err) as report:
                yield report
        else:
            yield plain_progress(self.err, quiet=self.json)
