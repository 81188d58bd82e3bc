"""Who is at work on a backup: any number that add to it, or one that removes from it.

A lease is a small file in the backup, so that it works in a bucket and between machines. Whoever wants one writes it first and
looks at the others afterwards: of two that come at the same time at least one sees the other. One that a killed process left
behind counts for nothing: at once on its own machine, elsewhere after an hour without a sign of life.
"""

import json
import os
import random
import secrets
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from lakehouse.errors import BackupBusy
from lakehouse.tables.storage import Storage

_FOLDER = "leases"
_GRACE = timedelta(hours=1)
_SIGN_OF_LIFE_S = 60.0
_LONGEST_PAUSE_S = 2.0


class Work(StrEnum):
    """What somebody does with a backup."""

    ADDING = "adding"
    REMOVING = "removing"


@dataclass(slots=True)
class Lease:
    """The right to work on a backup, kept alive by whoever has it."""

    storage: Storage
    path: str
    content: bytes
    seen: float = field(default_factory=time.monotonic)

    def keep(self) -> None:
        """Give a sign of life where the last one is a while ago.

        Raises:
            BackupBusy: the lease was taken away, for there was none for too long.
        """
        if time.monotonic() - self.seen < _SIGN_OF_LIFE_S:
            return
        self.check()
        self.storage.write(self.path, self.content)
        self.seen = time.monotonic()

    def check(self) -> None:
        """Raise BackupBusy if the lease was taken away."""
        if self.storage.read(self.path) is None:
            raise BackupBusy(
                f"backup {self.storage.root}",
                "was worked on by somebody else while this process stood still; nothing was added to it",
                fix="Run the command again",
            )


@contextmanager
def lease(storage: Storage, work: Work, *, patience_s: float) -> Generator[Lease]:
    """Hold the right to add or to remove while the block runs.

    Raises:
        BackupBusy: somebody else is at work, and still is after `patience_s` seconds.
    """
    until = time.monotonic() + patience_s
    while True:
        mine = _write(storage, work)
        other = _in_the_way(storage, work, mine)
        if other is None:
            break
        storage.delete([mine.path])
        if time.monotonic() >= until:
            raise BackupBusy(
                f"backup {storage.root}", f"is in use: {other}", fix="Wait for it to end; a lease of a dead machine expires after an hour"
            )
        # Two that want to remove at once both step back; chance lets one of them come first.
        time.sleep(random.uniform(0.05, _LONGEST_PAUSE_S))  # noqa: S311 - not for secrets.
    try:
        yield mine
    finally:
        storage.delete([mine.path])


def _write(storage: Storage, work: Work) -> Lease:
    content = json.dumps({"work": work.value, "host": socket.gethostname(), "boot": _boot(), "pid": os.getpid()}).encode()
    mine = Lease(storage, f"{_FOLDER}/{work.value}-{secrets.token_hex(8)}.json", content)
    storage.write(mine.path, content)
    return mine


def _in_the_way(storage: Storage, work: Work, mine: Lease) -> str | None:
    """A live lease of somebody who can't be at work at the same time, in words."""
    listed = list(storage.walk(_FOLDER))
    # All times are the storage's own, so that no two machines' clocks are compared.
    now = next((file.modified for file in listed if file.path == mine.path), None)
    for file in listed:
        name = file.path.rpartition("/")[2]
        other = name.partition("-")[0]
        if file.path == mine.path or other not in list(Work) or not name.endswith(".json"):
            continue
        if work is Work.ADDING and other == Work.ADDING:
            continue
        holder = _holder(storage.read(file.path))
        if holder is None or holder.is_dead or (now is not None and now - file.modified > _GRACE):
            storage.delete([file.path])
            continue
        return f"{other}, by process {holder.pid} on {holder.host}"
    return None


@dataclass(frozen=True, slots=True)
class _Holder:
    """A process that holds a lease."""

    host: str
    boot: str
    pid: int

    @property
    def is_dead(self) -> bool:
        """Whether it is certain that it has ended."""
        if self.host != socket.gethostname():
            return False
        if self.boot != _boot():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def _holder(content: bytes | None) -> _Holder | None:
    if content is None:
        return None
    try:
        told = json.loads(content)
        return _Holder(str(told["host"]), str(told["boot"]), int(told["pid"]))
    except (ValueError, KeyError, TypeError):
        return None


def _boot() -> str:
    """Names this start of the machine, where the system tells: process numbers are used again after the next."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
