"""One person out of one file of any kind, through whatever it is wrapped in: compressed, zipped, encrypted, a database."""

import bz2
import gzip
import hashlib
import io
import shutil
import sqlite3
import uuid
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from lakehouse.errors import PrivacyError
from lakehouse.privacy.erasure.records import blank_records, blank_workbook
from lakehouse.privacy.erasure.rows import Manner, clean_file, find_rows
from lakehouse.privacy.erasure.subject import Identifiers
from lakehouse.privacy.keys import Key
from lakehouse.privacy.vault import decrypt_file, encrypt_file

_BLOCK = 1 << 22
_SQLITE = b"SQLite format 3\0"
_VAULT = b"LAKEVLT1"
_ZSTD = b"\x28\xb5\x2f\xfd"
_DEEPEST = 5
_ANYTHING = Manner(whole_cells=False, any_mention=True)


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a file: `records` of the subject emptied, or mentions masked.

    Attributes:
        sha256: of what an encrypted file now holds.
    """

    records: int = 0
    masked: bool = False
    sha256: str | None = None


class Files:
    """Looks into files, and takes a subject out of them.

    Args:
        con: reads and writes Parquet.
        who: the subject.
        keys: open encrypted files; a file is encrypted again under the first of them.
        scratch: a private folder.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, who: Identifiers, *, keys: Iterable[Key], scratch: Path) -> None:
        self._con = con
        self._who = who
        self._keys = {one.id: key for key in keys for one in (key, *key.rotated)}
        self._scratch = scratch

    # ---- searching

    def has(self, path: Path, depth: int = 0) -> bool:
        """Whether a file has one of the subject's words anywhere: in its bytes, or in what they stand for.

        Raises:
            PrivacyError: it is encrypted with another key, or wrapped too often.
        """
        if not self._who.words or self.has_bytes(path):
            return bool(self._who.words)
        kind = kind_of(path)
        match kind:
            case "plain":
                return False
            case "parquet":
                return any(find_rows(self._con, [str(path)], self._who, _ANYTHING))
            case "sqlite":
                return self._has_cells(path)
            case _:
                return self._has_inside(path, kind, depth)

    def _has_inside(self, path: Path, kind: str, depth: int) -> bool:
        if depth >= _DEEPEST:
            raise PrivacyError(path.name, "is wrapped too often to be looked into", expected=f"at most {_DEEPEST} times")
        if kind == "zip":
            return self._has_member(path, depth)
        inner = self._new()
        try:
            self._unwrap(path, kind, inner)
            return self.has(inner, depth + 1)
        finally:
            inner.unlink(missing_ok=True)

    def tables_with(self, paths: Sequence[Path]) -> set[Path]:
        """Those of many Parquet files that have one of the words in a column: asked together, which is much cheaper than one by one."""
        by_name = {str(path): path for path in paths}
        return {by_name[one.address] for one in find_rows(self._con, list(by_name), self._who, _ANYTHING)} if by_name else set()

    def has_bytes(self, path: Path) -> bool:
        """Whether a file has one of the words as it stands there."""
        longest = max(map(len, self._who.forms), default=1)
        kept = b""
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                window = kept + block
                if any(form in window for form in self._who.forms) and self._who.in_bytes.search(window):
                    return True
                kept = window[-longest - 1 :]
        return False

    def _has_member(self, path: Path, depth: int) -> bool:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if self._who.in_bytes.search(info.filename.encode()):
                    return True
                inner = self._new()
                try:
                    with archive.open(info) as reader, inner.open("wb") as writer:
                        shutil.copyfileobj(reader, writer, _BLOCK)
                    if self.has(inner, depth + 1):
                        return True
                finally:
                    inner.unlink(missing_ok=True)
        return False

    def _has_cells(self, path: Path) -> bool:
        """A long text goes over several pages of a database, where its bytes don't stand together."""
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as database:
                return any(_matching(database, table, column, self._who) for table, column in _columns(database))
        except sqlite3.DatabaseError as error:
            raise PrivacyError(path.name, "is no sound database", found=str(error)) from error

    # ---- changing

    def clean(self, path: Path, *, records: bool, depth: int = 0) -> Change:
        """Take the subject out of a local file, in place.

        Args:
            path: of the file, which has something of the subject.
            records: it holds records: the subject's are emptied. Otherwise mentions are overwritten.
            depth: how often it was unwrapped.

        Raises:
            PrivacyError: it is encrypted with another key, or can't be read as what it is.
        """
        kind = kind_of(path)
        if kind == "plain":
            return self._clean_plain(path, records=records)
        if kind == "parquet":
            return self._clean_parquet(path, records=records)
        if kind == "sqlite":
            return Change(clean_database(path, self._who), masked=True)
        if kind == "zip":
            return self._clean_zip(path, records=records, depth=depth)
        inner = self._new()
        try:
            wrap = self._unwrap(path, kind, inner)
            change = self.clean(inner, records=records, depth=depth + 1)
            if kind == "vault":
                change = replace(change, sha256=digest_of(inner))
            wrap(inner, path)
        finally:
            inner.unlink(missing_ok=True)
        return change

    def _clean_plain(self, path: Path, *, records: bool) -> Change:
        content = path.read_bytes()
        if records:
            made = blank_records(content, self._who)
            path.write_bytes(made.content)
            return Change(made.records, masked=made.records == 0)
        path.write_bytes(self._who.masked_bytes(content))
        return Change(masked=True)

    def _clean_parquet(self, path: Path, *, records: bool) -> Change:
        manner = Manner(shares_columns=True, whole_cells=True, any_mention=True) if records else _ANYTHING
        count = sum(one.theirs for one in find_rows(self._con, [str(path)], self._who, manner))
        draft = self._new()
        if records:
            clean_file(self._con, str(path), draft, self._who, manner, blank=True)
        else:
            clean_file(self._con, str(path), draft, self._who, Manner(whole_cells=False))
        shutil.copyfile(draft, path)
        draft.unlink()
        return Change(count if records else 0, masked=not records)

    def _clean_zip(self, path: Path, *, records: bool, depth: int) -> Change:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if "[Content_Types].xml" in names and any(name.startswith("xl/") for name in names):
            made = blank_workbook(path.read_bytes(), self._who)
            path.write_bytes(made.content)
            return Change(made.records, masked=made.records == 0)
        total = 0
        buffer = io.BytesIO()
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
            for info in archive.infolist():
                inner = self._new()
                inner.write_bytes(archive.read(info))
                if self.has(inner, depth + 1):
                    total += self.clean(inner, records=records, depth=depth + 1).records
                # With the time it had: the same content gives the same bytes.
                new.writestr(zipfile.ZipInfo(self._who.masked(info.filename), info.date_time), inner.read_bytes(), zipfile.ZIP_DEFLATED)
                inner.unlink()
        path.write_bytes(buffer.getvalue())
        return Change(total, masked=total == 0)

    # ---- wrappings

    def _unwrap(self, path: Path, kind: str, inner: Path) -> Callable[[Path, Path], object]:
        """Write what a file is wrapped around; returns what wraps it again."""
        if kind == "vault":
            key = self._key(path)
            decrypt_file(path, inner, key)
            return lambda source, target: encrypt_file(source, target, next(iter(self._keys.values())))
        try:
            if kind == "gzip":
                with gzip.open(path, "rb") as reader, inner.open("wb") as writer:
                    shutil.copyfileobj(reader, writer, _BLOCK)
                return lambda source, target: target.write_bytes(gzip.compress(source.read_bytes(), mtime=0))
            if kind == "bz2":
                with bz2.open(path, "rb") as reader, inner.open("wb") as writer:
                    shutil.copyfileobj(reader, writer, _BLOCK)
                return lambda source, target: target.write_bytes(bz2.compress(source.read_bytes()))
            import pyarrow as pa

            with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as reader, inner.open("wb") as writer:
                while block := reader.read(_BLOCK):
                    writer.write(block)
            return lambda source, target: target.write_bytes(pa.compress(source.read_bytes(), codec="zstd", asbytes=True))
        except (OSError, EOFError) as error:
            raise PrivacyError(path.name, f"is no sound {kind} file", found=str(error), fix="Remove or repair it") from error

    def _key(self, path: Path) -> Key:
        with path.open("rb") as file:
            wanted = file.read(16)[8:].hex()
        if wanted not in self._keys:
            raise PrivacyError(path.name, "is encrypted with a key that is not here", expected=", ".join(self._keys), found=wanted)
        return self._keys[wanted]

    def _new(self) -> Path:
        return self._scratch / uuid.uuid4().hex


def kind_of(path: Path) -> str:
    """What a file is, by its first bytes: plain, gzip, bz2, zstd, zip, vault, parquet or sqlite."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PAR1"):
        return "parquet" if path.stat().st_size > 12 and _ends_in(path, b"PAR1") else "plain"
    if head.startswith(b"PK\x03\x04"):
        return "zip" if zipfile.is_zipfile(path) else "plain"
    marks = {b"\x1f\x8b": "gzip", b"BZh": "bz2", _ZSTD: "zstd", _VAULT: "vault", _SQLITE: "sqlite"}
    return next((kind for mark, kind in marks.items() if head.startswith(mark)), "plain")


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ends_in(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(-len(mark), io.SEEK_END)
        return file.read() == mark


# ---- databases


def clean_database(path: Path, who: Identifiers) -> int:
    """Take a subject out of an SQLite database: rows with a cell that is one of the words go, other mentions are overwritten.

    What was deleted is overwritten and the file written anew, so that no free page keeps it. Returns the rows that went.

    Raises:
        PrivacyError: it is no sound database, or another process would not let go of it.
    """
    gone = 0
    try:
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as database:
            database.execute("PRAGMA secure_delete=ON")
            database.create_function("erase_mask", 1, partial(_masked_cell, who=who), deterministic=True)
            for table, column in _columns(database):
                if not _matching(database, table, column, who):
                    continue
                marks = ", ".join("?" for _ in who.words)
                gone += database.execute(f"DELETE FROM {_quoted(table)} WHERE {_quoted(column)} IN ({marks})", who.words).rowcount
                for form in who.forms:
                    database.execute(
                        f"UPDATE OR REPLACE {_quoted(table)} SET {_quoted(column)} = erase_mask({_quoted(column)}) "
                        f"WHERE instr(CAST({_quoted(column)} AS BLOB), ?) > 0",
                        (form,),
                    )
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise PrivacyError(
            path.name, "can't be cleaned", found=str(error), fix="Stop what uses it (lakehouse dev), then erase again"
        ) from error
    return gone


def _columns(database: sqlite3.Connection) -> list[tuple[str, str]]:
    tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    return [(table, str(row[1])) for table in tables for row in database.execute(f"PRAGMA table_info({_quoted(table)})")]


def _matching(database: sqlite3.Connection, table: str, column: str, who: Identifiers) -> bool:
    condition = " OR ".join(f"instr(CAST({_quoted(column)} AS BLOB), ?) > 0" for _ in who.forms)
    found = database.execute(f"SELECT {_quoted(column)} FROM {_quoted(table)} WHERE {condition}", who.forms)
    return any(
        who.in_bytes.search(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)) for (value,) in found
    )


def _masked_cell(value: Any, who: Identifiers) -> Any:
    if isinstance(value, str):
        return who.masked_bytes(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
    return who.masked_bytes(value) if isinstance(value, bytes) else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
