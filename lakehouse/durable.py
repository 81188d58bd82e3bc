"""Files whose bytes and names survive a power cut."""

import os
import threading
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PARALLEL = 16
_FEW = 8
_FLUSH_EVERY_S = 0.2
_LONGEST_NAME = 120

PRIVATE = 0o600
"""The mode of a file that its owner alone may read."""


def write_whole(target: Path, content: bytes | str, *, mode: int | None = None) -> None:
    """Make or replace a file: at any instant, and after a power cut, it is what it was or all that was written (text as UTF-8)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with new_file(target, mode=mode) as (file, draft):
        file.write(content.encode() if isinstance(content, str) else content)
        finish(file)
        draft.replace(target)
    sync(target.parent)


@contextmanager
def new_file(target: Path, *, mode: int | None = None) -> Iterator[tuple[BinaryIO, Path]]:
    """A hidden file beside the target, open, and its place; it is gone afterwards if it was not given the target's name.

    Args:
        target: where it is to go.
        mode: of the new file, which nobody can open with more from its first byte on; by default what the umask leaves.
    """
    draft = target.with_name(f".{target.name[:_LONGEST_NAME]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode), "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file, draft
    finally:
        draft.unlink(missing_ok=True)


def finish(file: BinaryIO) -> None:
    """Wait until what was written to the open file is on disk."""
    file.flush()
    os.fsync(file.fileno())


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until a file's bytes, or a folder's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        os.close(descriptor)


def sync_all(paths: Iterable[str]) -> None:
    """Wait until all of them are on disk; many at once, because most of the time goes into waiting for the same journal."""
    wanted = list(dict.fromkeys(paths))
    if len(wanted) <= _FEW:
        # What the first wait wrote of the journal mostly covers the others: threads would cost more than they save.
        for path in wanted:
            sync(path)
        return
    with ThreadPoolExecutor(min(_PARALLEL, len(wanted))) as pool:
        list(pool.map(sync, wanted))


def folders_above(path: str, root: str) -> list[str]:
    """The folders from the one that holds `path` up to `root`, which is the last."""
    folders: list[str] = []
    while path != root and path.startswith(f"{root}/"):
        path = os.path.dirname(path)
        folders.append(path)
    return folders


@contextmanager
def flushing(folder: str, prefix: str) -> Iterator[None]:
    """While the block writes large files whose names begin with `prefix`, have what it has written so far go to disk.

    The wait at the end is then short: the disk has worked while the processor did.
    """
    is_over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(_flush_until, is_over, folder, prefix)
        try:
            yield
        finally:
            is_over.set()
        # A failed write is told once: to whoever asks first.
        done.result()


def _flush_until(is_over: threading.Event, folder: str, prefix: str) -> None:
    while not is_over.wait(_FLUSH_EVERY_S):
        for name in [entry.name for entry in os.scandir(folder) if entry.name.startswith(prefix) and entry.is_file()]:
            with suppress(FileNotFoundError):
                sync(f"{folder}/{name}")
