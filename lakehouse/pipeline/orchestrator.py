"""Dagster as a child process: its home, its web interface, its jobs. This library never imports it."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from lakehouse.durable import write_whole
from lakehouse.errors import MissingExtra, SettingsError
from lakehouse.pipeline.tethered import tethered
from lakehouse.settings import Settings

_INSTANCE = """\
# Written by lakehouse where it is missing; yours to change. https://docs.dagster.io/deployment/oss/dagster-yaml
nux:
  # Its dialog would cover the interface on the first visit.
  enabled: false
telemetry:
  enabled: false
retention:
  schedule:
    purge_after_days: 30
  sensor:
    purge_after_days:
      skipped: 3
      failure: 30
      success: 30
run_monitoring:
  enabled: true
"""


def is_installed() -> bool:
    """Whether Dagster can be started in a child process."""
    return importlib.util.find_spec("dagster") is not None


def prepare_instance(settings: Settings) -> Path:
    """Make Dagster's home with its configuration; what is there already stays.

    Raises:
        SettingsError: the folder can't be written.
    """
    target = settings.dagster_home / "dagster.yaml"
    try:
        if not target.exists():
            write_whole(target, _INSTANCE)
    except OSError as error:
        raise SettingsError(str(target), f"can't be written: {error.strerror}", fix="Make LAKEHOUSE_HOME writable") from error
    return target


def dev_command(*, host: str, port: int) -> list[str]:
    """The command line of the web interface with its daemon."""
    return [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", host, "-p", str(port)]


def start_instead(settings: Settings, command: Sequence[str]) -> NoReturn:
    """Replace this process by the command, in the project and with this home's environment.

    Raises:
        MissingExtra: Dagster is not installed.
    """
    require_dagster()
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(settings.project)
    os.execve(command[0], list(command), child_environment(settings))  # noqa: S606


def require_dagster() -> None:
    """Raise MissingExtra where Dagster is not installed."""
    if not is_installed():
        raise MissingExtra("dagster", "is not installed", fix="make install, or: pip install dagster dagster-webserver dagster-dbt")


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of a Dagster process of this home."""
    return {**settings.child_environment(), "DAGSTER_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}


@contextmanager
def output_lines(settings: Settings, command: Sequence[str]) -> Generator["Child"]:
    """Run a command in the project; the child is stopped when the block is left early, and on Linux when this process is killed."""
    child = Child(
        subprocess.Popen(
            tethered(command),
            cwd=settings.project,
            env=child_environment(settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    )
    try:
        yield child
    finally:
        child.stop()


class Child:
    """A running command: its lines as they come, then its exit code."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def lines(self) -> Iterator[str]:
        """Lines of its output, stdout and stderr together, until it ends."""
        assert self._process.stdout is not None  # noqa: S101
        for line in self._process.stdout:
            yield line.rstrip("\n")

    def exit_code(self) -> int:
        """Wait for its end."""
        return self._process.wait()

    def stop(self, patience_s: float = 10) -> None:
        """End it if it still runs, politely first."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
