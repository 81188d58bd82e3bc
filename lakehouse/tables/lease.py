"""One at a time, across machines: a lease in the storage that all of them see.

A lease is a chain of small files `locks/<name>/<number>`. Whoever creates the next number holds it; creating is the put that only one
of many succeeds with. The holder writes its file again every few seconds. A file that says it was released, or that was not written
for LIFETIME by the storage's own clock, may be followed by the next number, so that a machine that died keeps nobody waiting for ever
and a wrong clock lets nobody in. Numbers never come back: a holder that was taken for dead can see that it was.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from lakehouse.errors import StorageError
from lakehouse.locks import LockError, exclusive
from lakehouse.tables.storage import Storage

LIFETIME = timedelta(seconds=45)
_BEAT_S = 8.0
_LOOK_S = 1.0
_FOLDER = "locks"

_log = logging.getLogger(__name__)


@contextmanager
def one_at_a_time(storage: Storage, name: str, *, lock: Path, waiting: Callable[[], None]) -> Generator[Callable[[], None]]:
    """Hold a name while the block runs, against every process that sees the same lock file or the same bucket.

    On a disk the lock file is all there is, for the disk is what the processes share. The block gets a function that it calls right
    before it writes what only the holder may: that raises LockError where another process has followed, because this one was silent
    for longer than a lease lives (a laptop that slept, a network that was gone).

    Args:
        storage: the root that the work is about.
        name: of the work; letters, digits and `-_.`.
        lock: a lock file of this home.
        waiting: called once if another holds it, which is then waited for.

    Raises:
        LockError: the lock file can't be made.
        StorageError: the bucket can't be read or written.
    """
    told = threading.Event()

    def tell() -> None:
        if not told.is_set():
            told.set()
            waiting()

    with exclusive(lock, waiting=tell):
        if storage.is_local:
            yield lambda: None
            return
        lease = Lease(storage, name, owner=f"{socket.gethostname()}:{lock.absolute()}")
        lease.take(waiting=tell)
        try:
            yield lease.check
        finally:
            lease.release()


class Lease:
    """One process's part in the chain of a name.

    Args:
        storage: holds the chain.
        name: of what is leased.
        owner: who this is. Of one owner only one process at a time may use a lease: it follows an earlier one of its own at once.
    """

    def __init__(self, storage: Storage, name: str, *, owner: str) -> None:
        self._storage = storage
        self._folder = f"{_FOLDER}/{name}"
        self._owner = owner
        self._number = -1
        self._stop = threading.Event()
        self._beating: threading.Thread | None = None

    def take(self, *, waiting: Callable[[], None]) -> int:
        """Wait for the lease, and hold it until `release`; returns its number, which is higher than any before."""
        while True:
            newest = self._newest()
            if newest >= 0 and not self._is_over(newest):
                waiting()
                time.sleep(_LOOK_S)
                continue
            if self._storage.create(self._path(newest + 1), self._content(released=False)):
                self._number = newest + 1
                break
        self._storage.delete(self._path(number) for number in self._numbers() if number < self._number)
        self._beating = threading.Thread(target=self._beat, name=f"lease {self._folder}", daemon=True)
        self._beating.start()
        return self._number

    def release(self) -> None:
        """Let the next one in; where the storage does not answer, the lease ends by itself, and what was done stays done."""
        self._stop.set()
        if self._beating is not None:
            self._beating.join()
        try:
            if self.is_held():
                self._storage.write(self._path(self._number), self._content(released=True))
        except StorageError as error:
            _log.warning("the lease %s could not be released, and ends in %d s: %s", self._folder, LIFETIME.total_seconds(), error)

    def is_held(self) -> bool:
        """Whether nobody has followed: false once this process was silent for so long that it was taken for dead."""
        return self._newest() == self._number

    def check(self) -> None:
        """Raise LockError if another has followed."""
        if not self.is_held():
            raise LockError(
                f"lease {self._storage.address(self._folder)}",
                f"went to another process, after this one was silent for over {LIFETIME.total_seconds():.0f} s; nothing more was done",
                fix="Run it again: what the other process has done counts",
            )

    def _beat(self) -> None:
        while not self._stop.wait(_BEAT_S):
            try:
                if not self.is_held():
                    return
                self._storage.write(self._path(self._number), self._content(released=False))
            except StorageError as error:
                # The next beat may get through; if none does, the lease ends, and who follows does the work again.
                _log.warning("the lease %s could not be renewed: %s", self._folder, error)

    def _is_over(self, number: int) -> bool:
        path = self._path(number)
        content, listed = self._storage.read(path), self._storage.look(path)
        if content is None or listed is None:
            # Removed by somebody who has followed it.
            return False
        said = json.loads(content)
        return bool(said["released"]) or said["owner"] == self._owner or self._now() - listed.modified > LIFETIME

    def _now(self) -> datetime:
        """What the storage's clock says, which is the one that dates its files."""
        probe = f"{self._folder}/.clock-{uuid.uuid4().hex}"
        self._storage.write(probe, b"")
        found = self._storage.look(probe)
        self._storage.delete([probe])
        if found is None:
            raise StorageError(self._storage.address(probe), "was written and is not there", fix="Look at what else deletes below locks/")
        return found.modified

    def _numbers(self) -> list[int]:
        return [int(name) for name in self._storage.files(self._folder) if name.isdecimal()]

    def _newest(self) -> int:
        return max(self._numbers(), default=-1)

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:010d}"

    def _content(self, *, released: bool) -> bytes:
        return json.dumps({"owner": self._owner, "process": os.getpid(), "released": released}).encode()
