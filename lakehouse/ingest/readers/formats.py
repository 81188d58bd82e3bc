"""What a file turned out to be, and the limits no file may pass."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lakehouse.errors import FileRefused

Format = Literal["csv", "json", "ndjson", "parquet", "excel", "pdf"]
Compression = Literal["none", "gzip", "bz2", "zip", "zstd"]

# DuckDB keeps at least two records in a read buffer per thread: a longer one would need gigabytes for a single value.
MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
# Column lists this long are binary junk or a transposed table; binding them takes minutes.
MAX_COLUMNS: Final = 10_000
# Deflate can't do better than 1032:1, text never does better than about 200:1: beyond this it's a bomb.
MAX_INFLATION: Final = 250
# Small files are allowed any ratio: a megabyte of spaces harms nobody.
FREE_INFLATED_BYTES: Final = 64 * 1024 * 1024
# What one compressed file may become on disk, whatever its ratio.
MAX_INFLATED_BYTES: Final = 64 * 1024 * 1024 * 1024
# A JSON document and a workbook must be held in memory as a whole; NDJSON, CSV and Parquet are read in pieces.
MAX_DOCUMENT_BYTES: Final = 1024 * 1024 * 1024
# The part of a file that decides what the file is.
SAMPLE_BYTES: Final = 256 * 1024
# A piece of a large text file that is held in memory at once.
SLICE_BYTES: Final = 128 * 1024 * 1024
_EXCERPT: Final = 60


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How one file is read; every field can be fixed by the contract's server entry.

    `header` says whether the first record names the columns; `skip_lines` are lines before it (comments, blank lines).
    """

    format: Format
    compression: Compression = "none"
    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    header: bool = True
    skip_lines: int = 0
    comment: str | None = None
    sheet: str | None = None


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One file as a table of text.

    `relation` has the file's columns as VARCHAR and `_row`, the 1-based number of the record (not of the line: a quoted
    line break does not count, a blank line is no record, a rejected record keeps its number). `rejects_relation` has
    (`_row`, `record`, `reason`) of what is no record of this file. rows_read = rows of both.
    """

    relation: str
    columns: tuple[str, ...]
    rows_read: int
    rejects_relation: str
    file_format: FileFormat


def excerpt(text: str) -> str:
    """The beginning of what a file holds."""
    return text[:_EXCERPT] + ("..." if len(text) > _EXCERPT else "")


def refused(
    path: Path | str, problem: str, *, expected: str | None = None, found: str | None = None, fix: str | None = None
) -> FileRefused:
    """The error that names the file and why nothing of it was read."""
    name = path.name if isinstance(path, Path) else path
    return FileRefused(name, problem, expected=expected, found=found, fix=fix)
