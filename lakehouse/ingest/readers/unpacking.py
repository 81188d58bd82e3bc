"""Compressed files: what they really are by their first bytes, and unpacking them within limits."""

import bz2
import errno
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lakehouse.ingest.readers.formats import (
    FREE_INFLATED_BYTES,
    MAX_INFLATED_BYTES,
    MAX_INFLATION,
    Compression,
    refused,
)

_BLOCK = 1024 * 1024
_DAMAGED = (
    EOFError,
    zlib.error,
    struct.error,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    UnicodeDecodeError,
    NotImplementedError,
    RuntimeError,
)
_OFFICE_MEMBERS = ("xl/workbook.xml", "xl/workbook.bin", "mimetype")


def compression_of(path: Path) -> Compression:
    """The compression by magic bytes; the extension is not asked because it lies too often."""
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    if start.startswith(b"BZh") and start[3:4].isdigit():
        return "bz2"
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if start.startswith(b"PK\x03\x04") and not _is_office(path):
        return "zip"
    return "none"


def _is_office(path: Path) -> bool:
    """Whether a zip is a spreadsheet, which its reader opens itself."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        # A damaged directory: the extension is the only hint left.
        return path.suffix.lower() in {".xlsx", ".xlsm", ".xlsb", ".ods"}
    return "[Content_Types].xml" in names or any(name in names for name in _OFFICE_MEMBERS)


@contextmanager
def opened(path: Path, compression: Compression) -> Iterator[IO[bytes]]:
    """The file's plain bytes as a stream.

    Raises:
        FileRefused: the compressed stream is damaged, encrypted, or holds more than one file.
    """
    try:
        if compression == "gzip":
            with gzip.open(path, "rb") as stream:
                yield stream  # pyright: ignore[reportReturnType]
        elif compression == "bz2":
            with bz2.open(path, "rb") as stream:
                yield stream
        elif compression == "zip":
            with zipfile.ZipFile(path) as archive, archive.open(_only_member(path, archive)) as stream:
                yield stream
        elif compression == "zstd":
            import pyarrow as pa

            with pa.input_stream(str(path), compression="zstd") as stream:
                yield io.BufferedReader(stream)  # pyright: ignore[reportArgumentType]
        else:
            with path.open("rb") as stream:
                yield stream
    except _DAMAGED as error:
        raise refused(path, f"the {compression} stream can't be unpacked: {error}", fix="Deliver the file again") from error
    except OSError as error:
        # A place in the archive that lies before its beginning is an invalid argument to the system.
        if error.errno not in {None, errno.EINVAL}:
            raise
        raise refused(path, f"the {compression} stream can't be unpacked: {error}", fix="Deliver the file again") from error


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [
        info
        for info in archive.infolist()
        if not info.is_dir() and not info.filename.startswith("__MACOSX/") and not Path(info.filename).name.startswith(".")
    ]
    if len(members) != 1:
        raise refused(path, "a zip must hold exactly one file", found=f"{len(members)} files", fix="Unpack it and deliver its files")
    if members[0].flag_bits & 0x1:
        raise refused(path, "the zip is protected by a password", fix="Deliver it without one")
    return members[0]


def unpack(path: Path, compression: Compression, target: Path) -> None:
    """Write the plain bytes to `target`, streamed.

    Raises:
        FileRefused: damaged, or it grows beyond what honest data does (a decompression bomb).
    """
    packed_bytes = max(path.stat().st_size, 1)
    written = 0
    with opened(path, compression) as stream, target.open("wb") as out:
        while block := stream.read(_BLOCK):
            written += len(block)
            if written > MAX_INFLATED_BYTES or (written > FREE_INFLATED_BYTES and written / packed_bytes > MAX_INFLATION):
                raise refused(
                    path,
                    "it unpacks to far more than honest data would",
                    expected=f"at most {MAX_INFLATION} times its size",
                    found=f"over {written // (1024 * 1024)} MB from {packed_bytes} bytes",
                    fix="Unpack it yourself and deliver the plain file if it is what you expect",
                )
            out.write(block)


def sample(path: Path, compression: Compression, size: int) -> bytes:
    """The first `size` plain bytes.

    Raises:
        FileRefused: the stream is damaged right there.
    """
    parts: list[bytes] = []
    missing = size
    with opened(path, compression) as stream:
        while missing > 0 and (block := stream.read(missing)):
            parts.append(block)
            missing -= len(block)
    return b"".join(parts)
