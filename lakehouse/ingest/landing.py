"""A dataset's landing folder: which files wait there, complete and new by content."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.known import KnownFiles
from lakehouse.settings import Settings
from lakehouse.tables import Lake

UNFINISHED_ENDINGS = (".tmp", ".part", ".partial", ".crdownload", ".download", ".swp", "~")
# Only a file that changed this recently can still be open in the program that writes it.
_RECENT_S = 600.0
_PROCESSES = Path("/proc")


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A complete file whose content raw does not have."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits: `ready` to be ingested, `settling` still being written, `refused` by the contract as it is (path and error)."""

    ready: tuple[PendingFile, ...]
    settling: tuple[Path, ...]
    refused: tuple[tuple[Path, str], ...] = ()


def pending(lake: Lake, contract: DatasetContract, *, settings: Settings) -> Pending:
    """Look at the landing folder; the costs are those of listing it and of reading files that have changed."""
    settled, settling = split_settled(landing_files(contract, settings), settle_s=settings.settle_s, now_s=time.time())
    if not settled:
        return Pending((), tuple(settling))
    known = KnownFiles(lake, contract, settings)
    known.catch_up()
    digests = known.digests(settled)
    present = known.known(digests.values())
    errors = known.refused(digests.values())
    ready: dict[str, PendingFile] = {}
    refused: list[tuple[Path, str]] = []
    for path, digest in digests.items():
        if digest in errors:
            refused.append((path, errors[digest]))
        elif digest not in present and digest not in ready:
            ready[digest] = PendingFile(path, digest, path.stat().st_size)
    return Pending(tuple(ready.values()), tuple(settling), tuple(refused))


def pending_files(lake: Lake, contract: DatasetContract, *, settings: Settings) -> list[Path]:
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
