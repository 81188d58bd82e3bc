"""The secret key of a home: made once, readable by its owner only, never part of queries, logs or commits."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lakehouse.durable import PRIVATE, finish, new_file, sync, write_whole
from lakehouse.errors import PrivacyError
from lakehouse.locks import exclusive
from lakehouse.settings import Settings

PRODUCTION = "production"
_SECRET_BYTES = 32
_ID_LABEL = b"lakehouse key id"


@dataclass(frozen=True, slots=True)
class Key:
    """A secret and the short name that says which secret protected a value or file.

    The name is derived from the secret and doesn't give it away; the secret is not in the representation.

    The first secret of an environment stays: pseudonyms, keyed hashes and signatures are made with it, so that they can be compared
    for ever. What is encrypted is encrypted under the newest one.

    Attributes:
        rotated: later secrets, oldest first.
        environment: which values are masked depends on it.
        folder: where the keys of subjects are; None for a key that is not from a file.
    """

    id: str
    secret: bytes = field(repr=False)
    rotated: "tuple[Key, ...]" = field(default=(), repr=False)
    environment: str = PRODUCTION
    folder: Path | None = field(default=None, repr=False)

    @classmethod
    def from_secret(cls, secret: bytes) -> "Key":
        """The key of these 32 bytes.

        Raises:
            PrivacyError: the secret has another length.
        """
        if len(secret) != _SECRET_BYTES:
            raise PrivacyError("secret key", "has the wrong length", expected=f"{_SECRET_BYTES} bytes", found=f"{len(secret)} bytes")
        return cls(id=hmac.new(secret, _ID_LABEL, hashlib.sha256).hexdigest()[:16], secret=secret)

    @property
    def newest(self) -> "Key":
        """The one that encrypts."""
        return self.rotated[-1] if self.rotated else self

    def named(self, key_id: str) -> "Key | None":
        """The secret of this name, of all that the environment has had."""
        return next((one for one in (self, *self.rotated) if one.id == key_id), None)

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose, so that no two uses share key material (HMAC-SHA256 as a key derivation, RFC 5869's expand)."""
        return hmac.new(self.secret, b"lakehouse " + purpose.encode() + b"\x01", hashlib.sha256).digest()


def key(settings: Settings) -> Key:
    """The key of this home; made on first use, and the same one for every process that asks at the same time.

    The file holds 64 hexadecimal digits, and as many in a line more for each rotation. Whoever has it can link pseudonyms to people
    and read the originals; whoever loses it can do neither.

    Raises:
        PrivacyError: the file can't be made or read, or holds something else.
    """
    path = settings.key_file
    try:
        if not path.exists():
            _create(path)
        found = [bytes.fromhex(line) for line in path.read_text(encoding="ascii").split()]
        first, *later = found or [b""]
    except (OSError, ValueError) as error:
        raise PrivacyError(
            f"key file {path}",
            "can't be used",
            expected="64 hexadecimal digits",
            found=type(error).__name__,
            fix="Restore it from your backup; pseudonyms and originals made with it can't be matched or read without it",
        ) from error
    rotated = tuple(Key.from_secret(one) for one in later)
    return replace(Key.from_secret(first), rotated=rotated, environment=settings.environment, folder=path.parent)


def rotate_key(settings: Settings) -> Key:
    """Add a secret that encrypts from now on; returns the key with it. Whoever rotates at the same time adds another.

    Raises:
        PrivacyError: the file can't be read or written.
    """
    key(settings)
    path = settings.key_file
    with exclusive(path.with_name(f"{path.name}.lock"), waiting=lambda: None):
        try:
            lines = path.read_text(encoding="ascii").split()
            write_whole(path, "\n".join([*lines, secrets.token_hex(_SECRET_BYTES)]) + "\n", mode=PRIVATE)
        except (OSError, ValueError) as error:
            raise PrivacyError(f"key file {path}", "can't be rotated", found=type(error).__name__, fix="Make it writable") from error
    return key(settings)


def _create(path: Path) -> None:
    """Write a new key whole and durable, then give it its name; the first process to do so wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with new_file(path, mode=PRIVATE) as (file, draft):
        file.write(secrets.token_hex(_SECRET_BYTES).encode() + b"\n")
        finish(file)
        # A hard link never replaces: whoever comes second keeps the first one's key.
        with suppress(FileExistsError):
            os.link(draft, path)
    sync(path.parent)
