"""What lies across tables and beside them: rows of files, originals, databases, registered models."""

import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from lakehouse.errors import LakehouseError
from lakehouse.ingest.known import files_of, replaced_of
from lakehouse.ingest.waiting import current_rows_sql
from lakehouse.privacy.erasure.suppression import rows_gone
from lakehouse.recovery.databases import is_sqlite, sqlite_problem
from lakehouse.recovery.findings import Advice, Failure
from lakehouse.settings import Settings
from lakehouse.tables import Lake, in_force
from lakehouse.tables.stored import StoredFile
from lakehouse.tables.tiers import spanning_sql

# What comes of reading a zip of JSON and arrays in which any byte may have changed.
_WHAT_DAMAGE_RAISES = (
    ArithmeticError, AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_ERASED_ORIGINALS = "monitoring.erased_originals"
# What moves to the archive is counted there.
_LOSING_NOTHING = {"append", "add_columns", "add_feature", "archive", "unarchive"}


def check_conservation(tiers: Sequence[Lake], dataset: str) -> list[Failure]:
    """For every file that was ingested: rows read = rows in raw and its archive + rows that wait in quarantine or were discarded there.

    Rows of people who were erased are counted where erasure counts them. Where rows of raw were deleted by hand, or a file's rows
    were replaced by those of another, only more rows than were read are a failure.

    Args:
        tiers: the tables, then the archive's tiers.
        dataset: whose rows are counted.
    """
    lake = tiers[0]
    raw, refused = f"raw.{dataset}", f"quarantine.{dataset}"
    commits = list(in_force(lake.history(raw)))
    read = {
        str(file["sha256"]): _Read(str(file.get("file", file["sha256"])), int(file["rows_read"]) - int(file.get("rows_erased", 0)))
        for commit in reversed(commits)
        for file in files_of(commit)
        if "rows_read" in file
    }
    if not read:
        return []
    con = lake.open_connection()
    try:
        held = _counts(con, f"SELECT _sha256, count(*) FROM ({spanning_sql(tiers, raw, con=con)}) GROUP BY 1") if _has(lake, raw) else {}
        waiting: dict[str, int] = {}
        if _has(lake, refused):
            rows = current_rows_sql(lake, dataset, con=con)
            waiting = _counts(con, f"SELECT _sha256, count(*) FROM ({rows}) WHERE status IS DISTINCT FROM 'replayed' GROUP BY 1")
    finally:
        con.close()
    gone = rows_gone(lake, dataset)
    may_lack = any(commit.changes_rows and commit.restored is None and commit.operation not in _LOSING_NOTHING for commit in commits)
    replaced = {str(file["sha256"]) for commit in commits for file in replaced_of(commit)}
    lacking = {sha256: one.rows - held.get(sha256, 0) - waiting.get(sha256, 0) for sha256, one in read.items()}
    short = sum(rows for sha256, rows in lacking.items() if rows > 0 and sha256 not in replaced)
    is_explained = may_lack or short <= gone.raw + gone.quarantine
    failures: list[Failure] = []
    for sha256, rows in lacking.items():
        if rows == 0 or (rows > 0 and (is_explained or sha256 in replaced)):
            continue
        problem = (
            f"{read[sha256].file} ({sha256[:12]}) had {read[sha256].rows} rows: {held.get(sha256, 0)} are in raw and "
            f"{waiting.get(sha256, 0)} in quarantine"
        )
        fix = f"Look at lakehouse history {raw}, and restore the version before (lakehouse restore {raw} --to VERSION), or from a backup"
        failures.append(Failure("rows_are_conserved", raw, problem, fix))
    return failures


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as raw's log tells it: its name, and how many of its rows must be somewhere."""

    file: str
    rows: int


def _has(lake: Lake, table: str) -> bool:
    return lake.exists(table) and "_sha256" in lake.schema(table)


def _counts(con: duckdb.DuckDBPyConnection, sql: str) -> dict[str, int]:
    return {str(sha256): int(count) for sha256, count in con.execute(sql).fetchall()}


def check_originals(lake: Lake, listed: Mapping[str, StoredFile], datasets: Iterable[str], advice: Advice) -> list[Failure]:
    """Every original that raw's log names is there; those that erasure has written anew are known by it."""
    failures: list[Failure] = []
    rewritten = erased_originals(lake)
    for dataset in datasets:
        for commit in lake.history(f"raw.{dataset}"):
            for file in files_of(commit):
                place = str(file.get("archive") or "")
                if place and place not in listed and str(file["sha256"]) not in rewritten:
                    path = f"tables/{place}"
                    problem = f"the original of {file.get('file')} is gone"
                    failures.append(Failure("originals_are_there", "originals", problem, advice.for_file(path), path, str(commit.version)))
    return failures


def erased_originals(lake: Lake) -> set[str]:
    """Digests that originals had before a person was erased from them: by these they are named, and in raw's log."""
    if not lake.exists(_ERASED_ORIGINALS):
        return set()
    with lake.connect([_ERASED_ORIGINALS]) as session:
        return {str(row[0]) for row in session.con.execute(f"SELECT DISTINCT sha256_before FROM {_ERASED_ORIGINALS}").fetchall()}


def check_databases(files: Iterable[tuple[str, Path]]) -> list[Failure]:
    """Every SQLite database of the home is in order."""
    failures: list[Failure] = []
    for path, place in files:
        problem = sqlite_problem(place) if is_sqlite(place) else ("is no SQLite database" if place.stat().st_size else None)
        if problem is not None:
            fix = f"Restore it from a backup: lakehouse restore-backup PLACE --only {path.split('/')[1]}"
            failures.append(Failure("databases_are_in_order", path.split("/")[1], problem, fix, path))
    return failures


def check_models(settings: Settings, database: Path | None) -> list[Failure]:
    """Every registered model loads, and is the one that was registered."""
    from lakehouse.learning.fingerprint import model_digest
    from lakehouse.learning.registry import Registry

    versions = _model_versions(database) if database is not None and database.is_file() else []
    failures: list[Failure] = []
    registry = Registry(settings)
    for name, version, noted in versions:
        subject = f"model {name}@{version}"
        fix = f"Restore the registry from a backup (lakehouse restore-backup PLACE --only registry), or lakehouse train {name} --force"
        try:
            model = registry.load(name, version)
            digest = model_digest(model.pipeline)
        except LakehouseError as error:
            failures.append(Failure("models_load", "registry", f"{subject} {error.problem}: {error.found}", fix))
            continue
        except _WHAT_DAMAGE_RAISES as error:
            failures.append(Failure("models_load", "registry", f"{subject} can't be loaded: {type(error).__name__}: {error}", fix))
            continue
        if digest != model.spec.digest or (noted and digest != noted):
            failures.append(Failure("models_are_those_registered", "registry", f"{subject} is another model than was registered", fix))
    return failures


def _model_versions(database: Path) -> list[tuple[str, str, str]]:
    """Name, version and noted digest of every model that this project registered."""
    sql = """
        SELECT v.name, v.version, t.value FROM model_versions v
        JOIN model_version_tags t ON t.name = v.name AND t.version = v.version AND t.key = 'lakehouse.model_digest'
        WHERE v.current_stage IS NULL OR v.current_stage <> 'Deleted_Internal' ORDER BY v.name, v.version
    """
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as con:
            found: list[Any] = con.execute(sql).fetchall()
    except sqlite3.Error:
        # The database check has said so.
        return []
    return [(str(name), str(version), str(noted)) for name, version, noted in found]
