"""Files into a dataset's landing folder: whole or not at all, equal contents once."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lakehouse.errors import SourceError
from lakehouse.ingest.landing import is_finished
from lakehouse.settings import Settings

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Landed:
    """One file in the landing folder; `copied` is false where equal content was there already."""

    source: Path
    path: Path
    sha256: str
    copied: bool


def land(settings: Settings, dataset: str, files: Iterable[Path]) -> list[Landed]:
    """Copy files into the landing folder of a dataset.

    Two files of one name and different content both arrive, the second under its name with part of its digest.

    Raises:
        SourceError: a file can't be read or the folder can't be written.
    """
    folder = settings.landing_dir / dataset
    try:
        folder.mkdir(parents=True, exist_ok=True)
        by_size: dict[int, list[Path]] = {}
        for present in folder.rglob("*"):
            if present.is_file() and is_finished(present.relative_to(folder)):
                by_size.setdefault(present.stat().st_size, []).append(present)
        landed: list[Landed] = []
        for file in files:
            one = _land_one(settings, folder, file, by_size)
            by_size.setdefault(file.stat().st_size, []).append(one.path)
            landed.append(one)
    except OSError as error:
        raise SourceError(
            str(error.filename or folder), f"can't be copied into {folder}: {error.strerror}", fix="Check the permissions"
        ) from error
    return landed


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _land_one(settings: Settings, folder: Path, file: Path, by_size: dict[int, list[Path]]) -> Landed:
    digest = sha256_of(file)
    for present in by_size.get(file.stat().st_size, []):
        if sha256_of(present) == digest:
            return Landed(source=file, path=present, sha256=digest, copied=False)
    target = folder / file.name.lstrip(".")
    if target.exists():
        target = folder / f"{target.stem}-{digest[:8]}{target.suffix}"
    draft = folder / f".{target.name}.{os.getpid()}.tmp"
    try:
        shutil.copyfile(file, draft)
        # It arrives whole, so nobody needs to wait for it to come to rest.
        rested = min(file.stat().st_mtime, time.time() - settings.settle_s - 1)
        os.utime(draft, (rested, rested))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return Landed(source=file, path=target, sha256=digest, copied=True)
