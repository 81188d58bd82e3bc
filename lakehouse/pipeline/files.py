"""Paths as people give them: files, folders and globs."""

import difflib
import glob
from collections.abc import Sequence
from pathlib import Path

from lakehouse.errors import SourceError
from lakehouse.ingest.arrivals import Arrived, matching
from lakehouse.ingest.landing import is_finished
from lakehouse.settings import Settings

_MAGIC = frozenset("*?[")


def expand_paths(paths: Sequence[str | Path]) -> tuple[Path, ...]:
    """The files that the paths name, each once, sorted within a folder or glob, in the order given.

    Hidden and unfinished files in a folder are left out; a file that is named itself never is.

    Raises:
        SourceError: a path does not exist, or a folder or glob holds no file.
    """
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            files = sorted(one for one in path.rglob("*") if one.is_file() and is_finished(one.relative_to(path)))
            if not files:
                raise SourceError(str(given), "is a folder without files", fix="Give a folder that holds data files")
        elif path.exists():
            files = [path]
        elif _MAGIC & set(str(given)):
            files = sorted(Path(one) for one in glob.glob(str(path), recursive=True) if Path(one).is_file())
            if not files:
                raise SourceError(str(given), "matches no file", fix="Check the pattern; quote it if the shell should leave it alone")
        else:
            raise _missing(path, given)
        found.update(dict.fromkeys(file.absolute() for file in files))
    return tuple(found)


def arrived_files(settings: Settings, paths: Sequence[str | Path]) -> list[Arrived]:
    """The same, where a path may also be an `s3://` address of an object, of what is below it, or a glob.

    Raises:
        SourceError: a path does not exist, or holds no file.
        StorageError: a bucket can't be read.
    """
    found: dict[Arrived, None] = {}
    for given in paths:
        if not str(given).startswith("s3://"):
            found.update(dict.fromkeys(expand_paths([given])))
            continue
        objects = [file for file in matching(settings, str(given)) if str(given) == file.address or is_finished(Path(file.path))]
        if not objects:
            raise SourceError(str(given), "is no object, and there is none below it", fix="Check the address; a glob may use * ? [")
        found.update(dict.fromkeys(objects))
    return list(found)


def _missing(path: Path, given: str | Path) -> SourceError:
    siblings = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    fix = f"Did you mean {path.parent / close[0]}?" if close else "Check the path"
    return SourceError(str(given), "does not exist", expected="a file, folder or glob", fix=fix)
