"""The secret key of a home: made once, readable by its owner only, never part of queries, logs or commits."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse.errors import PrivacyError
from lakehouse.settings import Settings

_SECRET_BYTES = 32
_ID_LABEL = b"lakehouse key id"


@dataclass(frozen=True, slots=True)
class Key:
    """A secret and the short name that says which secret protected a value or file.

    The name is derived from the secret and doesn't give it away; the secret is not in the representation.
    """

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def from_secret(cls, secret: bytes) -> "Key":
        """The key of these 32 bytes.

        Raises:
            PrivacyError: the secret has another length.
        """
        if len(secret) != _SECRET_BYTES:
            raise PrivacyError("secret key", "has the wrong length", expected=f"{_SECRET_BYTES} bytes", found=f"{len(secret)} bytes")
        return cls(id=hmac.new(secret, _ID_LABEL, hashlib.sha256).hexdigest()[:16], secret=secret)

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose, so that no two uses share key material (HMAC-SHA256 as a key derivation, RFC 5869's expand)."""
        return hmac.new(self.secret, b"lakehouse " + purpose.encode() + b"\x01", hashlib.sha256).digest()


def key(settings: Settings) -> Key:
    """The key of this home; made on first use, and the same one for every process that asks at the same time.

    The file holds 64 hexadecimal digits. Whoever has it can link pseudonyms to people and read the originals; whoever
    loses it can do neither.

    Raises:
        PrivacyError: the file can't be made or read, or holds something else.
    """
    path = settings.key_file
    try:
        if not path.exists():
            _create(path)
        text = path.read_text(encoding="ascii").strip()
        secret = bytes.fromhex(text)
    except (OSError, ValueError) as error:
        raise PrivacyError(
            f"key file {path}",
            "can't be used",
            expected="64 hexadecimal digits",
            found=type(error).__name__,
            fix="Restore it from your backup; pseudonyms and originals made with it can't be matched or read without it",
        ) from error
    return Key.from_secret(secret)


def _create(path: Path) -> None:
    """Write a new key whole and durable, then give it its name; the first process to do so wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(_SECRET_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        # A hard link never replaces: whoever comes second keeps the first one's key.
        with suppress(FileExistsError):
            os.link(draft, path)
        sync_folder(path.parent)
    finally:
        draft.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in this folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
