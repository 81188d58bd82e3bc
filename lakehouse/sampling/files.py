"""Sample files: written whole or not at all, with what was put into them."""

import gzip
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class SampleFile:
    """One file of a sample."""

    path: Path
    rows: int
    bad_rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SampleReport:
    """What a sample consists of; `bad_by_kind` counts the rows that were made bad on purpose."""

    files: tuple[SampleFile, ...]
    rows: int
    bad_rows: int
    bad_by_kind: Mapping[str, int]

    def __iter__(self) -> Iterator[Path]:
        """The paths of the files."""
        return (file.path for file in self.files)

    def as_dict(self) -> dict[str, object]:
        """The report as JSON types."""
        return {
            "rows": self.rows,
            "bad_rows": self.bad_rows,
            "bad_by_kind": dict(self.bad_by_kind),
            "files": [
                {"path": str(f.path), "rows": f.rows, "bad_rows": f.bad_rows, "size_bytes": f.size_bytes, "sha256": f.sha256}
                for f in self.files
            ],
        }


class SampleWriter:
    """A file that gets its name when it is complete; until then it has a name that ingestion ignores.

    Use as a context manager; an exception inside leaves nothing behind.
    """

    def __init__(self, path: Path, *, compressed: bool = False) -> None:
        self.path = path
        self.rows = 0
        self.bad: Counter[str] = Counter()
        self._compressed = compressed
        self._draft = path.with_name(f".{path.name}.tmp")
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._raw: IO[bytes] | None = None
        self._out: gzip.GzipFile | None = None

    def __enter__(self) -> "SampleWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._raw = self._draft.open("wb")
        # Neither a name nor a time in the archive's header: the same rows are the same bytes.
        self._out = gzip.GzipFile("", "wb", 6, _Tee(self), mtime=0) if self._compressed else None
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        raw = self._raw
        if raw is None:
            return
        if kind is None:
            if self._out is not None:
                self._out.close()
            raw.flush()
            os.fsync(raw.fileno())
        raw.close()
        if kind is None:
            self._draft.replace(self.path)
        else:
            self._draft.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append bytes."""
        if self._out is not None:
            self._out.write(data)
        else:
            self.write_raw(data)

    def write_raw(self, data: bytes) -> None:
        """Append bytes as they are in the file, behind any compression."""
        if self._raw is None:
            raise ValueError("the writer is not open")
        self._raw.write(data)
        self._digest.update(data)
        self._size_bytes += len(data)

    def finished(self) -> SampleFile:
        """What was written."""
        return SampleFile(self.path, self.rows, self.bad.total(), self._size_bytes, self._digest.hexdigest())


class _Tee:
    """What gzip writes to."""

    def __init__(self, writer: SampleWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> int:
        self._writer.write_raw(bytes(data))
        return len(data)

    def flush(self) -> None:
        return None


def report(writers: list[SampleWriter]) -> SampleReport:
    """The files of a sample put together; empty ones count too."""
    bad: Counter[str] = Counter()
    for writer in writers:
        bad.update(writer.bad)
    files = tuple(writer.finished() for writer in writers)
    return SampleReport(files, sum(f.rows for f in files), bad.total(), dict(sorted(bad.items())))
