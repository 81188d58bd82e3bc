"""Files as erasure needs them: a folder, a bucket, or what one backup holds."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from lakehouse.tables.storage import StoredFile


class Tree(Protocol):
    """Files by path; `Storage` is one."""

    def walk(self, prefix: str = "") -> Iterator[StoredFile]:
        """Every file below a folder, hidden ones too."""
        ...

    def read(self, path: str) -> bytes | None:
        """The bytes of one file, or None."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file at one instant."""
        ...

    def get(self, path: str, to: Path) -> None:
        """Fetch a file to a local path."""
        ...

    def put(self, source: Path, path: str) -> None:
        """Store a local file."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; one that is gone already is no error."""
        ...

    def address(self, *parts: str) -> str:
        """Where DuckDB reads a file."""
        ...
