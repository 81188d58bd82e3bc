"""Pages of commits and the state of the source that writes them: each file is whole or not there."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lakehouse.durable import write_whole
from lakehouse.errors import SourceError
from lakehouse.locks import LockHeld, exclusive

PAGE_ROWS = 100
MOST_FILES = 300
_FILE_FIELDS = ("sha", "filename", "previous_filename", "status", "additions", "deletions", "changes", "binary")


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What one look at a source brought: pages in the landing folder, or nothing because nothing is new."""

    repository: str
    files: tuple[Path, ...]
    commits: int
    requests: int = 0

    @property
    def is_unchanged(self) -> bool:
        """Nothing new was there."""
        return not self.files

    def as_dict(self) -> dict[str, object]:
        """The report as JSON types."""
        return {
            "repository": self.repository,
            "files": [str(file) for file in self.files],
            "commits": self.commits,
            "requests": self.requests,
        }


def slug(repository: str) -> str:
    """The repository's name as a part of a file's name."""
    return repository.replace("/", "__")


def write_json(path: Path, value: object) -> Path:
    """Write the value as this file, whole and durable; until then it has a name that ingestion ignores.

    Raises:
        SourceError: the folder can't be written.
    """
    try:
        write_whole(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        raise SourceError(f"file {path}", "can't be written", found=error.strerror or str(error)) from error
    return path


def read_state(path: Path) -> dict[str, Any]:
    """What the source remembered; empty on the first look.

    Raises:
        SourceError: the file is there and is no state.
    """
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SourceError(
            f"state file {path}", "can't be read", found=str(error), fix="Delete it: the source is read from its beginning, no row is lost"
        ) from error
    if not isinstance(state, dict):
        raise SourceError(f"state file {path}", "holds something else", expected="an object", fix="Delete it")
    return state


@contextmanager
def only_reader(state: Path, repository: str) -> Iterator[None]:
    """Let one process at a time read this source into this folder; the lock goes with the process.

    Raises:
        SourceError: another process has it.
    """
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(state.with_name(f"{state.name}.lock")))
        except LockHeld as error:
            raise SourceError(f"source {repository}", "is being read by another process", fix="Wait for it to end") from error
        yield


def shaped(raw: dict[str, Any]) -> dict[str, Any]:
    """A commit of the API with the fields that the contract knows, and nothing more of its people than that.

    Raises:
        SourceError: it is no commit.
    """
    if not isinstance(raw.get("sha"), str) or not isinstance(raw.get("commit"), dict):
        raise SourceError("commit", "has another shape than the API describes", found=json.dumps(raw)[:200])
    commit = raw["commit"]
    record: dict[str, Any] = {
        "sha": raw["sha"],
        "commit": {
            "author": _fields(commit.get("author"), ("name", "email", "date")),
            "committer": _fields(commit.get("committer"), ("name", "email", "date")),
            "message": commit.get("message"),
            "tree": _fields(commit.get("tree"), ("sha",)),
            "comment_count": commit.get("comment_count"),
        },
        "url": raw.get("url"),
        "html_url": raw.get("html_url"),
        "author": _fields(raw.get("author"), ("login", "type", "site_admin")),
        "committer": _fields(raw.get("committer"), ("login", "type", "site_admin")),
        "parents": [_fields(parent, ("sha", "url")) for parent in raw.get("parents") or ()],
    }
    if raw.get("stats") is not None:
        record["stats"] = _fields(raw["stats"], ("total", "additions", "deletions"))
    if raw.get("files") is not None:
        files = raw["files"]
        record["files"] = [_fields(file, _FILE_FIELDS) for file in files[:MOST_FILES]]
        if len(files) > MOST_FILES:
            record["files_truncated_from"] = len(files)
    return record


def _fields(value: object, names: tuple[str, ...]) -> dict[str, Any] | None:
    if not isinstance(value, dict) or not value:
        return None
    return {name: value[name] for name in names if name in value}


def iso(when: datetime) -> str:
    """The instant as the API writes it: UTC, to the second."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
