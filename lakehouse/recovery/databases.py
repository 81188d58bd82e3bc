"""Databases, copied while others write to them: SQLite through its own backup, PostgreSQL through pg_dump."""

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

from lakehouse.errors import RecoveryError
from lakehouse.settings import Settings

_MAGIC = b"SQLite format 3\x00"
_PATIENCE_S = 60.0
SIDECARS = ("-wal", "-shm", "-journal")


def is_sqlite(path: Path) -> bool:
    """Whether a file is a SQLite database."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database as it is between two transactions, whoever writes to it.

    Raises:
        RecoveryError: it can't be read.
    """
    target.unlink(missing_ok=True)
    try:
        with closing(_read_only(source)) as reader, closing(sqlite3.connect(target)) as writer:
            reader.backup(writer)
            # Of a database in WAL mode the copy would be, too: reading it would leave files beside it.
            writer.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise RecoveryError(
            f"database {source}", "can't be copied", found=str(error), fix="Repair it, or move it away if it can be made again"
        ) from error


def sqlite_problem(path: Path) -> str | None:
    """What SQLite finds wrong with a database; None if nothing."""
    try:
        with closing(_read_only(path)) as con:
            found = [str(row[0]) for row in con.execute("PRAGMA integrity_check(5)").fetchall()]
    except sqlite3.Error as error:
        return str(error)
    return None if found == ["ok"] else "; ".join(found)


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_PATIENCE_S)


def move_paths(database: Path, old: str, new: str) -> int:
    """Let every text of a database that begins with one path begin with another; gives how many there were.

    It must be a path up to a slash: `file:///old/home` is not the beginning of `file:///old/homes/x`.
    """
    changed = 0
    with closing(sqlite3.connect(database)) as con, con:
        tables = [row[0] for row in con.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
        for table in tables:
            for _, column, kind, *_ in con.execute(f"PRAGMA table_info({_quoted(table)})").fetchall():
                if not re.search("CHAR|TEXT", str(kind), re.IGNORECASE):
                    continue
                name = _quoted(column)
                done = con.execute(
                    f"UPDATE {_quoted(table)} SET {name} = ? || substr({name}, ?) WHERE {name} = ? OR substr({name}, 1, ?) = ?",
                    [new, len(old) + 1, old, len(old) + 1, f"{old}/"],
                )
                changed += done.rowcount
    return changed


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL database that belongs to a home.

    Attributes:
        name: what it holds, in one word.
        uri: `postgresql://user:password@host:port/database`.
        path: of its dump in a backup.
    """

    name: str
    uri: str
    path: str

    def __repr__(self) -> str:
        """Without the password."""
        return f"Postgres({self.name} at {urlsplit(self.uri).hostname})"


def postgres_databases(settings: Settings) -> list[Postgres]:
    """The PostgreSQL databases that the settings and Dagster's configuration name."""
    found: list[Postgres] = []
    if settings.mlflow_tracking_uri.startswith("postgres"):
        found.append(Postgres("registry", _plain(settings.mlflow_tracking_uri), "home/registry/mlflow.pgdump"))
    config = settings.dagster_home / "dagster.yaml"
    try:
        document = yaml.safe_load(config.read_text("utf-8")) if config.is_file() else None
    except (OSError, yaml.YAMLError) as error:
        raise RecoveryError(f"file {config}", "can't be read", found=str(error).splitlines()[0], fix="Correct it") from error
    stored = ((document or {}).get("storage") or {}).get("postgres") if isinstance(document, dict) else None
    if isinstance(stored, dict):
        found.append(Postgres("dagster", _dagster_uri(stored, config), "home/dagster/storage.pgdump"))
    return found


def _dagster_uri(stored: Mapping[str, Any], config: Path) -> str:
    if "postgres_url" in stored:
        return _plain(_value(stored["postgres_url"], config))
    parts: Any = stored.get("postgres_db") or {}
    user, password, host, database = (_value(parts.get(name, ""), config) for name in ("username", "password", "hostname", "db_name"))
    port = _value(parts.get("port", 5432), config)
    return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{quote(database, safe='')}"


def _value(stored: object, config: Path) -> str:
    """A value of Dagster's configuration, which may be the name of an environment variable."""
    if isinstance(stored, dict):
        name = str(stored.get("env", ""))
        if name not in os.environ:
            raise RecoveryError(f"file {config}", "names a variable that is not set", found=name, fix=f"Set {name} for the backup as well")
        return os.environ[name]
    return str(stored)


def _plain(uri: str) -> str:
    """The address without SQLAlchemy's name of a driver."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", uri)


def dump_postgres(database: Postgres, target: Path) -> None:
    """Write a PostgreSQL database as a file that pg_restore reads.

    Raises:
        RecoveryError: pg_dump is not installed, or could not read the database.
    """
    program = shutil.which("pg_dump")
    if program is None:
        raise RecoveryError(
            f"{database.name}'s PostgreSQL database",
            "can't be backed up: pg_dump is not installed",
            fix="Install PostgreSQL's client programs (Debian: postgresql-client), of the server's version or newer",
        )
    password = urlsplit(database.uri).password
    # A command line can be read by every user of the machine.
    environment = {**os.environ, "PGPASSWORD": password} if password else dict(os.environ)
    bare = database.uri.replace(f":{quote(password, safe='')}@", "@").replace(f":{password}@", "@") if password else database.uri
    done = subprocess.run(
        [program, "--format=custom", "--no-owner", "--no-privileges", f"--file={target}", "--no-password", bare],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise RecoveryError(
            f"{database.name}'s PostgreSQL database",
            "can't be dumped",
            found=lines[-1] if lines else "",
            fix="Check that it can be reached",
        )
