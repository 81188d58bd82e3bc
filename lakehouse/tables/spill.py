"""Where a process puts what does not fit into memory and what it must copy: a private folder that goes with the process.

The folder belongs to whoever holds the lock on the file beside it. The kernel lets go of a lock when its process ends, however it
ends, so what a killed one left is told from what a live one needs, also where two containers share the folder and not their
process numbers.
"""

import atexit
import fcntl
import os
import shutil
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LOCK = ".lock"
# One open file for each; a process has one home, tests have many.
_MOST_FOLDERS = 16
_owned: "dict[Path, _Owned]" = {}
_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Spill:
    """What dead processes have left: files and their size."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Owned:
    """A folder of this process, and the lock that says so."""

    folder: Path
    lock: IO[str]
    process: int

    def give_up(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        Path(self.lock.name).unlink(missing_ok=True)
        self.lock.close()


def own_folder(spill_dir: Path) -> Path:
    """The folder of this process under `spill_dir`, readable by its user alone; what dead processes left there is removed first."""
    with _guard:
        owned = _owned.get(spill_dir)
        if owned is not None and owned.process == os.getpid() and owned.folder.is_dir():
            return owned.folder
        if owned is not None and owned.process == os.getpid():
            # Somebody has removed the whole home under it.
            owned.give_up()
        remove_stale_spill(spill_dir)
        _forget_idle()
        _owned[spill_dir] = _make(spill_dir)
        return _owned[spill_dir].folder


def _make(spill_dir: Path) -> _Owned:
    spill_dir.mkdir(parents=True, exist_ok=True)
    while True:
        name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        lock = (spill_dir / (name + _LOCK)).open("w", encoding="utf-8")
        # The lock comes before the folder: a folder whose lock is free has lost its process.
        if _take(lock):
            folder = spill_dir / name
            folder.mkdir(mode=0o700)
            return _Owned(folder, lock, os.getpid())
        lock.close()


def _take(lock: IO[str]) -> bool:
    """Whether the lock is now ours; not if it was removed while we reached for it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(lock.fileno()).st_ino == os.stat(lock.name).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _forget_idle() -> None:
    """Let go of folders of other homes that nothing is in."""
    for spill_dir, owned in list(_owned.items()):
        if owned.process != os.getpid():
            # Of the process this one was forked from: it is still in use there.
            del _owned[spill_dir]
        elif len(_owned) >= _MOST_FOLDERS and not (owned.folder.is_dir() and any(owned.folder.iterdir())):
            _owned.pop(spill_dir).give_up()


@atexit.register
def _give_up_all() -> None:
    for owned in _owned.values():
        if owned.process == os.getpid():
            owned.give_up()
    _owned.clear()


def stale_spill(spill_dir: Path) -> Spill:
    """What `remove_stale_spill` would remove."""
    sizes: list[int] = []
    for folder in [path for path in spill_dir.iterdir() if path.is_dir()] if spill_dir.is_dir() else []:
        if folder.name.partition("-")[0].isdigit() and not _is_locked(folder.with_name(folder.name + _LOCK)):
            sizes += [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return Spill(len(sizes), sum(sizes))


def _is_locked(lock: Path) -> bool:
    try:
        with lock.open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def remove_stale_spill(spill_dir: Path) -> None:
    """Remove the folders of processes that no longer live."""
    if not spill_dir.is_dir():
        return
    for path in list(spill_dir.glob("*" + _LOCK)):
        try:
            lock = path.open("r+", encoding="utf-8")
        except FileNotFoundError:
            continue
        with lock:
            if _take(lock):
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                path.unlink(missing_ok=True)
    for folder in list(spill_dir.iterdir()):
        # A folder without a lock: its owner removed the lock and was killed before it removed the folder.
        is_owned = folder.name.partition("-")[0].isdigit() and folder.is_dir() and not folder.with_name(folder.name + _LOCK).exists()
        if is_owned:
            shutil.rmtree(folder, ignore_errors=True)
