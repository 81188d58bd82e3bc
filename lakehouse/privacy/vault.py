"""Encrypted files: archived originals of datasets with protected columns.

Format (all integers big-endian), read and written in chunks so that size does not matter:

    header  b"LAKEVLT1" | key id, 8 bytes | salt, 16 random bytes | chunk size, uint32
    chunk   AES-256-GCM of at most `chunk size` bytes, then its tag of 16 bytes

Every file has a key of its own: HMAC-SHA256(vault key, salt). Chunk i has the nonce `i` (11 bytes) and one byte that is 1
for the last chunk and 0 before, and the header as associated data: no chunk can be moved, repeated, left out or taken
from another file, and a file that ends early has no last chunk (the STREAM construction, Hoang et al. 2015).
"""

import hashlib
import hmac
import io
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lakehouse.durable import PRIVATE, finish, new_file, sync
from lakehouse.errors import PrivacyError
from lakehouse.privacy.keys import Key

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MAGIC = b"LAKEVLT1"
_HEADER = struct.Struct(">8s8s16sI")
_TAG_BYTES = 16
_CHUNK_BYTES = 1 << 20
_LARGEST_CHUNK_BYTES = 1 << 26


def encrypt_file(source: Path, target: Path, key: Key) -> int:
    """Write `source` encrypted as `target`, whole or not at all; gives the number of plain bytes.

    An existing target is replaced in one step. The source is left as it is.

    Raises:
        PrivacyError: the source can't be read or the target can't be written.
    """
    with _clear_io(target), source.open("rb") as reader, _atomic(target) as writer:
        return encrypt_stream(reader, writer, key)


def encrypt_stream(reader: BinaryIO, writer: BinaryIO, key: Key) -> int:
    """Encrypt all of `reader` into `writer`; gives the number of plain bytes."""
    key = key.newest
    header = _HEADER.pack(_MAGIC, bytes.fromhex(key.id), secrets.token_bytes(16), _CHUNK_BYTES)
    cipher = _cipher(header, key)
    writer.write(header)
    size, number, chunk = 0, 0, _read_full(reader, _CHUNK_BYTES)
    while True:
        following = _read_full(reader, _CHUNK_BYTES) if len(chunk) == _CHUNK_BYTES else b""
        writer.write(cipher.encrypt(_nonce(number, last=not following), chunk, header))
        size += len(chunk)
        if not following:
            return size
        number, chunk = number + 1, following


def key_of(head: bytes) -> str | None:
    """The id of the key that a vault file was made with, from its first bytes; None for another file."""
    return head[8:16].hex() if head.startswith(_MAGIC) and len(head) >= 16 else None


def decrypt_file(source: Path, target: Path, key: Key) -> int:
    """Write what `source` holds as `target`, whole and verified or not at all; gives the number of plain bytes.

    Raises:
        PrivacyError: the file is no vault file, was made with another key, or was changed or cut.
    """
    with open_decrypted(source, key) as reader, _clear_io(target), _atomic(target) as writer:
        size = 0
        while chunk := reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            size += len(chunk)
        return size


@contextmanager
def open_decrypted(path: Path, key: Key) -> Iterator[BinaryIO]:
    """A reader of the plain bytes; every byte it gives was verified, and the end too.

    Raises:
        PrivacyError: on opening or reading, as for `decrypt_file`.
    """
    with _clear_io(path):
        file = path.open("rb")
    with file, io.BufferedReader(_Decrypting(file, key, name=str(path)), _CHUNK_BYTES) as reader:
        yield reader


@contextmanager
def decrypted_copy(path: Path, key: Key, *, folder: Path, suffix: str = "") -> Iterator[Path]:
    """A plain copy that only this user can read, for readers that need a path; gone when the block ends.

    Args:
        path: the encrypted file.
        key: the key it was made with.
        folder: where the copy lives meanwhile, such as the spill folder.
        suffix: ending of the copy's name, for readers that look at it.

    Raises:
        PrivacyError: as for `decrypt_file`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{secrets.token_hex(8)}{suffix}"
    try:
        decrypt_file(path, copy, key)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


class _Decrypting(io.RawIOBase):
    """Gives verified plain bytes, one chunk at a time."""

    def __init__(self, file: BinaryIO, key: Key, *, name: str) -> None:
        super().__init__()
        self._file = file
        self._name = name
        self._header = _read_full(file, _HEADER.size)
        self._chunk_bytes = self._check_header(key) + _TAG_BYTES
        _, key_id, _, _ = _HEADER.unpack(self._header)
        self._cipher = _cipher(self._header, key.named(key_id.hex()) or key)
        self._number = 0
        self._plain = memoryview(b"")
        self._following = _read_full(file, self._chunk_bytes)
        self._ended = False

    def _check_header(self, key: Key) -> int:
        if len(self._header) < _HEADER.size or not self._header.startswith(_MAGIC):
            raise PrivacyError(self._name, "is not an encrypted file of this project", expected=_MAGIC.decode())
        _, key_id, _, chunk_bytes = _HEADER.unpack(self._header)
        if key.named(key_id.hex()) is None:
            fix = "Point LAKEHOUSE_SECRET_KEY_FILE to the key it was made with"
            raise PrivacyError(self._name, "was encrypted with another key", expected=key.id, found=key_id.hex(), fix=fix)
        # The size is not verified yet, so it may not make us reserve what memory there is.
        if not 0 < chunk_bytes <= _LARGEST_CHUNK_BYTES:
            raise PrivacyError(self._name, "was changed after it was encrypted", expected=f"chunks of at most {_LARGEST_CHUNK_BYTES} bytes")
        return chunk_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        while not self._plain and not self._ended:
            self._next_chunk()
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._plain))
        target[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def _next_chunk(self) -> None:
        from cryptography.exceptions import InvalidTag

        chunk = self._following
        self._following = _read_full(self._file, self._chunk_bytes) if len(chunk) == self._chunk_bytes else b""
        self._ended = not self._following
        try:
            plain = self._cipher.decrypt(_nonce(self._number, last=self._ended), chunk, self._header)
        except InvalidTag as error:
            problem = "was cut or changed after it was encrypted"
            raise PrivacyError(self._name, problem, found=f"chunk {self._number} is not authentic", fix="Restore it") from error
        self._plain = memoryview(plain)
        self._number += 1


def _cipher(header: bytes, key: Key) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt = header[16:32]
    return AESGCM(hmac.new(key.derive("vault"), salt, hashlib.sha256).digest())


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _read_full(reader: BinaryIO, size: int) -> bytes:
    """Exactly `size` bytes, or what is left: a raw reader may give less at a time."""
    parts: list[bytes] = []
    while size and (part := reader.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


@contextmanager
def _atomic(target: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is complete and durable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with new_file(target, mode=PRIVATE) as (file, draft):
        yield file
        finish(file)
        draft.replace(target)
    sync(target.parent)


@contextmanager
def _clear_io(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PrivacyError(str(error.filename or path), "can't be read or written", found=error.strerror or type(error).__name__) from error
