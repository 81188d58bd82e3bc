"""One process at a time: a lock on a file, which goes with the process that holds it, however that ends."""

import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from lakehouse.errors import LakehouseError


class LockError(LakehouseError):
    """A lock can't be made."""


class LockHeld(LockError):
    """Another process holds the lock."""


@contextmanager
def exclusive(path: Path, *, waiting: Callable[[], None] | None = None) -> Generator[None]:
    """Hold a file's lock while the block runs.

    It keeps apart the processes of one machine, and the threads of one process. The file stays: were it removed, a process that
    waits for the old one and a process that makes a new one would both be let in.

    Args:
        path: of the lock file; it is made, with its folder, where it is missing.
        waiting: called once if another holds the lock, which is then waited for; None gives up instead.

    Raises:
        LockHeld: another holds it, and nobody wants to wait.
        LockError: the file can't be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise LockError(f"lock {path}", "can't be made", found=error.strerror or str(error), fix="Make its folder writable") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if waiting is None:
                raise LockHeld(f"lock {path}", "is held by another process", fix="Wait for it to end") from error
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
