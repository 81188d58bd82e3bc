"""dbt as a function: no output of its own, its own folder for what it writes, and errors of one line.

dbt runs inside this process. Measured on the shipped project: a process of its own costs 5 s for each command, this one
2.5 s of imports once and then 0.3 to 2.4 s.
"""

import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import TransformError
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

_QUIET = ("--quiet", "--log-level", "none", "--no-print", "--no-use-colors", "--no-send-anonymous-usage-stats")
# dbt keeps flags, adapters and the log in globals: one command at a time.
_ONE_AT_A_TIME = threading.Lock()
_HEADING = re.compile(r"^(Runtime|Database|Compilation|Parsing|dbt found|Env var|Dependency|Validation|Internal) .*(Error|issue).*$")


@dataclass(frozen=True, slots=True)
class Invocation:
    """What one dbt command gave, and the folder it wrote to, which is removed when the context ends."""

    result: Any
    success: bool
    target: Path


@contextmanager
def invoked(
    settings: Settings,
    arguments: Sequence[str],
    *,
    run: str | None = None,
    manifest: "Manifest | None" = None,
    on_event: Callable[[Any], None] | None = None,
) -> Iterator[Invocation]:
    """Run one dbt command on the project.

    Args:
        settings: of the home.
        arguments: the command and its options.
        run: what the commits of this command are stamped with.
        manifest: the parsed project, if it is at hand.
        on_event: called with each of dbt's events.

    Raises:
        TransformError: dbt could not begin: the project can't be parsed, or a selection is not one.
    """
    from dbt.cli.main import dbtRunner

    target = settings.dbt_home / "runs" / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    project = str(settings.project / "dbt")
    common = ["--project-dir", project, "--profiles-dir", project, "--target-path", str(target)]
    # What dbt has to say is in the result; its log file would stay open in this process.
    log = ["--log-path", str(settings.dbt_home / "logs"), "--log-level-file", "none"]
    _remove_abandoned(target.parent)
    target.mkdir(parents=True, exist_ok=True)
    try:
        with _ONE_AT_A_TIME, _environment(settings, run):
            outcome = dbtRunner(manifest=manifest, callbacks=[on_event] if on_event else []).invoke([*_QUIET, *log, *arguments, *common])
            _forget_connection()
        if outcome.exception is not None:
            raise _refused(arguments[0], outcome.exception)
        yield Invocation(outcome.result, outcome.success, target)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def one_line(message: str) -> str:
    """The cause in a dbt message, without headings, SQL positions and advice on where to look."""
    lines = [line.strip() for line in message.replace("\r", "").splitlines()]
    kept = [line for line in lines if line and not _HEADING.match(line) and not line.startswith(("LINE ", "^", ">", "compiled code at"))]
    return " ".join(kept[:3]) if kept else " ".join(line for line in lines if line)


def _refused(command: str, error: BaseException) -> TransformError:
    if isinstance(error, KeyboardInterrupt):
        raise error
    return TransformError(
        f"dbt {command}", one_line(str(error)), fix="Correct the model or macro it names, then run `lakehouse doctor` to parse again"
    )


@contextmanager
def _environment(settings: Settings, run: str | None) -> Iterator[None]:
    """What dbt_project.yml, profiles.yml and the plugin read, for the time of one command."""
    wanted = {"LAKEHOUSE_PROJECT": str(settings.project), "LAKEHOUSE_HOME": str(settings.home_dir)}
    if run is not None:
        wanted["LAKEHOUSE_RUN_ID"] = run
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _forget_connection() -> None:
    """Close dbt's DuckDB: the next command of this process may be for another home, and reads newer versions."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()


def _remove_abandoned(runs: Path) -> None:
    """Folders of processes that were killed."""
    if not runs.is_dir() or not Path("/proc/self").exists():
        return
    for folder in runs.iterdir():
        process = folder.name.partition("-")[0]
        if process.isdigit() and not Path("/proc", process).exists():
            shutil.rmtree(folder, ignore_errors=True)
