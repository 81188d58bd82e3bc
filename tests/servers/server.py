"""What is common to the servers: what they need, how they are started and stopped, and how to say why they are not there."""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PORTS = range(15_000, 32_000)


class ServerUnavailable(Exception):
    """A server can't be started here; the message says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Need:
    """A program, and the Debian package that brings it."""

    program: str
    package: str


class Server(ABC):
    """One kind of server. `start` is called at most once; `stop` always, whatever `start` came to.

    Attributes:
        name: as fixtures and messages call it.
        needs: what must be installed.
        stop_signal: ends it soonest; its data is thrown away.
    """

    name: str
    needs: tuple[Need, ...]
    stop_signal: signal.Signals = signal.SIGTERM

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    @classmethod
    def missing(cls) -> list[Need]:
        """What is not installed."""
        return [need for need in cls.needs if shutil.which(need.program, path=search_path()) is None]

    @classmethod  # noqa: B027 (most need nothing more)
    def fetch(cls) -> None:
        """Get what no Debian package brings; called when everything in `needs` is there.

        Raises:
            ServerUnavailable: it can't be had.
        """

    @abstractmethod
    def start(self, folder: Path) -> dict[str, str]:
        """Start it with everything in an empty folder; returns what a client needs to know.

        Raises:
            ServerUnavailable: it can't be started, or does not answer.
        """

    def stop(self) -> None:
        """Stop what was started, last first."""
        for process in reversed(self._processes):
            process.send_signal(self.stop_signal)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run_in_background(self, command: Sequence[str], log: Path, *, user: str | None = None) -> subprocess.Popen[bytes]:
        """A process of this server, as this user or another; it goes with the supervisor even if that is killed."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=clean_environment(),
                # It runs after the change of user, which would undo it.
                preexec_fn=_die_with_parent,  # noqa: PLW1509
                **_as_user(user),
            )
        self._processes.append(process)
        return process

    def wait_until(self, is_ready: Callable[[], bool], what: str, log: Path, *, seconds: float = 60) -> None:
        """Wait for it to answer.

        Raises:
            ServerUnavailable: one of its processes has ended, or it takes too long.
        """
        end = time.monotonic() + seconds
        while not is_ready():
            if any(process.poll() is not None for process in self._processes) or time.monotonic() > end:
                raise ServerUnavailable(f"{what} does not answer: {last_lines(log)}")
            time.sleep(0.05)


def run(command: Sequence[str], *, seconds: float = 30, user: str | None = None) -> str:
    """What a program prints.

    Raises:
        ServerUnavailable: it fails, or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            **_as_user(user),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerUnavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        raise ServerUnavailable(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr.strip() or done.stdout.strip())[-500:]}")
    return done.stdout


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, below those that the system gives to outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(_PORTS)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
    return list(dict.fromkeys(found)) if len(set(found)) == count else free_ports(count)


def search_path() -> str:
    """Where servers are looked for: Debian puts some where only root looks, and PostgreSQL where nobody does."""
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: folder.parent.name.zfill(3), reverse=True)
    return os.pathsep.join([*map(str, postgres[:1]), os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])


def clean_environment() -> dict[str, str]:
    """This environment without what would send a server to another installation of itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CEPH_", "PG", "REDIS", "KAFKA"))}
    return kept | {"PATH": search_path()}


def last_lines(log: Path) -> str:
    """The end of a log, on one line."""
    try:
        return " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-4:]) or "its log is empty"
    except OSError:
        return "it has no log"


def _as_user(user: str | None) -> dict[str, Any]:
    return {} if user is None else {"user": user, "group": user, "extra_groups": [], "cwd": "/"}


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
