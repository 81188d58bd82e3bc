"""A dataset's landing folder: which files wait there, complete and new by content."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.arrivals import Arrived, BucketFile, in_bucket, looks_of
from lakehouse.ingest.known import KnownFiles
from lakehouse.settings import Settings
from lakehouse.tables import Lake

UNFINISHED_ENDINGS = (".tmp", ".part", ".partial", ".crdownload", ".download", ".swp", "~")
# Only a file that changed this recently can still be open in the program that writes it.
_RECENT_S = 600.0
_PROCESSES = Path("/proc")


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A complete file whose content raw does not have.

    Attributes:
        sha256: of its content; None for an object in a bucket that nobody has fetched yet.
    """

    path: Arrived
    sha256: str | None
    size_bytes: int

    @property
    def content(self) -> str:
        """Names the content: by its digest, else as its bucket does."""
        if self.sha256 is not None or not isinstance(self.path, BucketFile):
            return self.sha256 or ""
        return f"{self.path.address}@{self.path.etag}"


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits: `ready` to be ingested, `settling` still being written, `refused` by the contract as it is (path and error)."""

    ready: tuple[PendingFile, ...]
    settling: tuple[Arrived, ...]
    refused: tuple[tuple[Arrived, str], ...] = ()


def pending(lake: Lake, contract: DatasetContract, *, settings: Settings, exports: bool = True) -> Pending:
    """Look at the landing folder; the costs are those of listing it and of reading files that have changed.

    Objects in a bucket are only listed: one that raw may have under another name is fetched when it is ingested.

    Args:
        lake: has the raw table.
        contract: of the dataset.
        settings: of the home.
        exports: look at the `s3://` places of the contract too.

    Raises:
        StorageError: a bucket of the dataset can't be listed.
    """
    now_s = time.time()
    in_folder, settling_in_folder = split_settled(landing_files(contract, settings), settle_s=settings.settle_s, now_s=now_s)
    objects = landing_objects(contract, settings, exports=exports)
    # An object appears whole. It rests like a file, for those who deliver in parts under one name.
    resting = [one for one in objects if not 0 <= now_s - one.modified.timestamp() < settings.settle_s]
    settled: list[Arrived] = [*in_folder, *resting]
    settling: list[Arrived] = [*settling_in_folder, *(one for one in objects if one not in resting)]
    if not settled:
        return Pending((), tuple(settling))
    known = KnownFiles(lake, contract, settings)
    known.catch_up()
    digests = known.digests(settled)
    present = known.known(digests.values())
    errors = known.refused(digests.values())
    ready: dict[str, PendingFile] = {}
    refused: list[tuple[Arrived, str]] = []
    for path in settled:
        digest = digests.get(path)
        looks = looks_of(path)
        if looks is None or (digest is None and isinstance(path, Path)):
            continue
        if digest in errors:
            refused.append((path, errors[digest]))
        elif digest not in present:
            file = PendingFile(path, digest, looks.size_bytes)
            ready.setdefault(file.content, file)
    return Pending(tuple(ready.values()), tuple(settling), tuple(refused))


def pending_files(lake: Lake, contract: DatasetContract, *, settings: Settings) -> list[Arrived]:
    """Complete files in landing whose content is new, in the order of their names."""
    return [file.path for file in pending(lake, contract, settings=settings).ready]


def landing_files(contract: DatasetContract, settings: Settings) -> list[Path]:
    """Every file that has arrived for the dataset, by name: its landing folder, and absolute globs of its contract.

    Relative globs of the contract say which names in the folder count.
    """
    folder = settings.landing_dir / contract.name
    wanted = [Path(glob).name for glob in contract.landing.paths if not Path(glob).is_absolute() and "://" not in glob]
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
    files = [
        path for path in found if is_finished(path.relative_to(folder)) and (not wanted or any(fnmatch(path.name, name) for name in wanted))
    ]
    for glob in contract.landing.paths:
        place = Path(glob)
        if place.is_absolute():
            base = Path(place.anchor)
            files += [path for path in sorted(base.glob(str(place.relative_to(base)))) if path.is_file() and is_finished(Path(path.name))]
    return list(dict.fromkeys(files))


def landing_objects(contract: DatasetContract, settings: Settings, *, exports: bool = True) -> list[BucketFile]:
    """Every object that has arrived for the dataset in a bucket, by key; relative globs of the contract say which names count.

    Raises:
        StorageError: a bucket can't be listed.
    """
    wanted = [Path(glob).name for glob in contract.landing.paths if not Path(glob).is_absolute() and "://" not in glob]
    found = {
        file.address: file
        for file in in_bucket(settings, contract.name, contract.landing.exports if exports else ())
        if is_finished(Path(file.path)) and (not wanted or any(fnmatch(Path(file.path).name, name) for name in wanted))
    }
    return [found[address] for address in sorted(found)]


def is_finished(path: Path) -> bool:
    """Whether the name says that the file is complete: no hidden part, no ending of a download or an editor."""
    return not any(part.startswith(".") for part in path.parts) and not path.name.lower().endswith(UNFINISHED_ENDINGS)


def split_settled(paths: Iterable[Path], *, settle_s: float, now_s: float) -> tuple[list[Path], list[Path]]:
    """Files at rest, and files still being written: changed a moment ago, or open for writing."""
    settled: list[Path] = []
    settling: list[Path] = []
    recent: list[Path] = []
    for path in paths:
        try:
            age = now_s - path.stat().st_mtime
        except OSError:
            continue
        # A time of change in the future says nothing about rest: clocks differ.
        if 0 <= age < settle_s:
            settling.append(path)
        else:
            (recent if 0 <= age < _RECENT_S else settled).append(path)
    open_files = _open_for_writing(recent) if recent else set()
    for path in recent:
        (settling if path.resolve() in open_files else settled).append(path)
    return sorted(settled), settling


def _open_for_writing(paths: Iterable[Path]) -> set[Path]:
    """Which of the files a process has open for writing, as far as this user may know; nothing where there is no /proc."""
    wanted = {str(path.resolve()): path.resolve() for path in paths}
    found: set[Path] = set()
    try:
        processes = [entry for entry in os.scandir(_PROCESSES) if entry.name.isdigit()]
    except OSError:
        return found
    for process in processes:
        try:
            descriptors = list(os.scandir(f"{process.path}/fd"))
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                target = os.readlink(descriptor.path)
                if target in wanted and _is_writing(f"{process.path}/fdinfo/{descriptor.name}"):
                    found.add(wanted[target])
            except OSError:
                continue
    return found


def _is_writing(info: str) -> bool:
    with open(info, encoding="ascii") as file:
        for line in file:
            if line.startswith("flags:"):
                return int(line.split()[1], 8) & (os.O_WRONLY | os.O_RDWR) != 0
    return False
