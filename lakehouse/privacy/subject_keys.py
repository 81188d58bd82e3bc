"""A data key for each person: what is sealed under it can't be read any more once it is destroyed, wherever copies are.

Keys are random, wrapped (AES-256-GCM) under the newest key of the environment, in an SQLite file beside that key. Whose a key is stands
there as a keyed hash. A rotation wraps them anew; what they have sealed stays as it is.
"""

import base64
import binascii
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import PrivacyError
from lakehouse.privacy.keys import Key
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

PREFIX = "sealed2"
_SCHEMA = "CREATE TABLE IF NOT EXISTS keys (subject TEXT PRIMARY KEY, wrapped BLOB NOT NULL, wrapped_by TEXT NOT NULL) WITHOUT ROWID"
_KEY_BYTES = 64
_NONCE_BYTES = 12
_MARK = b"t"
_PURPOSE = "subject keys"
_BATCH = 500


def subject_name(column: str, value: str) -> str:
    """A subject as keys know them: the same value of another column is somebody else."""
    return f"{column}={value}"


def subject_sql(column: str) -> str:
    """The same for the rows of a query; NULL for a row that is nobody's."""
    return f"{quote_literal(f'{column}=')} || CAST({quote_identifier(column)} AS VARCHAR)"


class SubjectKeys:
    """The data keys of one environment."""

    def __init__(self, key: Key) -> None:
        if key.folder is None:
            raise PrivacyError("subject keys", "have no place", fix="Open the key by its settings")
        self._key = key
        self._path: Path = key.folder / f"{key.environment}.subjects.sqlite"

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            is_new = not self._path.exists()
            with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as database:
                if is_new:
                    self._path.chmod(0o600)
                # A key must be on disk before anything that was sealed with it.
                database.execute("PRAGMA synchronous=FULL")
                database.execute("PRAGMA secure_delete=ON")
                database.execute(_SCHEMA)
                yield database
        except (sqlite3.Error, OSError) as error:
            raise PrivacyError(
                f"subject keys {self._path}", "can't be used", found=str(error), fix="Restore them from a backup of the keys"
            ) from error

    def hash_of(self, subject: str) -> str:
        """What a subject is called here."""
        import hashlib
        import hmac

        return hmac.new(self._key.derive(_PURPOSE), subject.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]

    def obtain(self, hashes: Sequence[str]) -> dict[str, bytes]:
        """The keys of subjects; those that have none get one. All processes get the same."""
        found: dict[str, bytes] = {}
        with self._database() as database:
            for start in range(0, len(hashes), _BATCH):
                part = hashes[start : start + _BATCH]
                found |= self._known(database, part)
                missing = [one for one in part if one not in found]
                if missing:
                    database.execute("BEGIN IMMEDIATE")
                    rows = [(one, self._wrap(one, secrets.token_bytes(_KEY_BYTES)), self._key.newest.id) for one in missing]
                    database.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", rows)
                    database.execute("COMMIT")
                    found |= self._known(database, missing)
        return found

    def known(self, hashes: Sequence[str]) -> dict[str, bytes]:
        """The keys of those subjects that have one."""
        with self._database() as database:
            return self._known(database, hashes)

    def _known(self, database: sqlite3.Connection, hashes: Sequence[str]) -> dict[str, bytes]:
        marks = ", ".join("?" for _ in hashes)
        rows = database.execute(f"SELECT subject, wrapped, wrapped_by FROM keys WHERE subject IN ({marks})", list(hashes)).fetchall()
        return {subject: self._unwrap(subject, wrapped, by) for subject, wrapped, by in rows}

    def destroy(self, subjects: Iterable[str]) -> int:
        """Destroy the keys of subjects, beyond recovery from this file; returns how many there were."""
        hashes = [self.hash_of(one) for one in subjects]
        if not self._path.exists():
            return 0
        with self._database() as database:
            gone = sum(database.execute("DELETE FROM keys WHERE subject = ?", (one,)).rowcount for one in hashes)
            if gone:
                database.execute("VACUUM")
        _cipher.cache_clear()
        return gone

    def rewrap(self) -> int:
        """Wrap every key under the newest key of the environment; returns how many were wrapped under an older one."""
        if not self._path.exists():
            return 0
        newest = self._key.newest.id
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            rows = database.execute("SELECT subject, wrapped, wrapped_by FROM keys WHERE wrapped_by <> ?", (newest,)).fetchall()
            again = [(self._wrap(one, self._unwrap(one, wrapped, by)), newest, one) for one, wrapped, by in rows]
            database.executemany("UPDATE keys SET wrapped = ?, wrapped_by = ? WHERE subject = ?", again)
            database.execute("COMMIT")
            if again:
                database.execute("VACUUM")
        return len(again)

    def _wrap(self, subject: str, data_key: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._key.newest.derive(_PURPOSE)).encrypt(nonce, data_key, subject.encode())

    def _unwrap(self, subject: str, wrapped: bytes, by: str) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        wrapper = self._key.named(by)
        if wrapper is None:
            raise PrivacyError("subject key", "was wrapped with a key that is not here", found=by, fix="Restore the key file from a backup")
        try:
            return AESGCM(wrapper.derive(_PURPOSE)).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], subject.encode())
        except InvalidTag as error:
            raise PrivacyError("subject key", "was changed", fix="Restore the keys from a backup") from error

    # ---- texts

    def seal(self, texts: Sequence[str | None], subjects: Sequence[str | None]) -> list[str | None]:
        """Texts sealed under their subjects' keys: the same text of the same subject is sealed the same. Both must be given."""
        hashes = {subject: self.hash_of(subject) for subject in set(subjects) if subject is not None}
        data_keys = self.obtain(sorted(hashes.values()))
        sealed: list[str | None] = []
        for text, subject in zip(texts, subjects, strict=True):
            if text is None or subject is None:
                sealed.append(None)
                continue
            name = hashes[subject]
            body = _cipher(data_keys[name]).encrypt(_MARK + text.encode("utf-8", "surrogatepass"), [f"{PREFIX}:{name}".encode()])
            sealed.append(f"{PREFIX}:{name}:{base64.b64encode(body).decode()}")
        return sealed

    def unseal(self, sealed: str) -> str:
        """The text that was sealed.

        Raises:
            PrivacyError: its key was destroyed, or it was changed.
        """
        from cryptography.exceptions import InvalidTag

        prefix, _, rest = sealed.partition(":")
        name, _, body = rest.partition(":")
        if prefix != PREFIX:
            raise PrivacyError("sealed text", "is not sealed for a subject", expected=f"{PREFIX}:<subject>:<base64>")
        data_key = self.known([name]).get(name)
        if data_key is None:
            raise PrivacyError("sealed text", "can't be read any more: its subject's key was destroyed")
        try:
            plain = _cipher(data_key).decrypt(base64.b64decode(body, validate=True), [f"{PREFIX}:{name}".encode()])
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise PrivacyError(
                "sealed text", "was changed after it was sealed", fix="Read it from the archived original instead"
            ) from error
        return plain.removeprefix(_MARK).decode("utf-8", "surrogatepass")

    def seal_column(self, texts: Any, subjects: Any) -> Any:
        """The same for two Arrow columns, as DuckDB hands them over."""
        import pyarrow as pa

        return pa.array(self.seal(texts.to_pylist(), subjects.to_pylist()), pa.string())


@lru_cache(maxsize=4096)
def _cipher(data_key: bytes) -> "AESSIV":
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(data_key)
