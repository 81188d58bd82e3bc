"""One table looked at from its log up: the log is whole, every file it names is there, and holds what the log says."""

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import duckdb

from lakehouse.errors import TableError
from lakehouse.recovery.contents import paths_in_commit
from lakehouse.recovery.findings import Advice, Failure, subject_of, version_range
from lakehouse.recovery.manifest import TABLES
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, TableName
from lakehouse.tables.feed import CHANGE_FOLDER
from lakehouse.tables.gone import gone_versions
from lakehouse.tables.ranges import Ranges
from lakehouse.tables.snapshot import DataFile, Snapshot
from lakehouse.tables.sql import glob_escape
from lakehouse.tables.stored import StoredFile

_COMMIT = re.compile(r"_delta_log/(\d{20})\.json")
_CHECKPOINT = re.compile(r"_delta_log/(\d{20})\.checkpoint\..*parquet|_delta_log/(\d{20})\.checkpoint\..*json")
_NOT_COMPARED = ("STRUCT", "MAP", "BLOB")


@dataclass(slots=True)
class Life:
    """When a data file is part of the table: from its first version until before another; None is until now."""

    size: int | None
    first: int
    gone: int | None = None


@dataclass(slots=True)
class Inspected:
    """A table as its log tells it.

    Attributes:
        snapshot: its newest version; None where it can't be opened.
        lives: every file of rows, or of changed rows, that some version of the log names.
        listed: the files in its folder.
        failures: what is wrong.
        vacuumed: versions that can't be read any more, on purpose.
        prefix: of the root that it is under, in the paths of a backup.
    """

    table: TableName
    version: int
    listed: Mapping[str, StoredFile]
    snapshot: Snapshot | None = None
    lives: dict[str, Life] = field(default_factory=dict[str, Life])
    failures: list[Failure] = field(default_factory=list[Failure])
    vacuumed: Ranges = ()
    prefix: str = TABLES

    @property
    def folder(self) -> str:
        """Its folder in the paths of a backup."""
        return f"{self.prefix}{self.table.layer}/{self.table.name}/"

    @property
    def name(self) -> str:
        """As people write it: `layer.name`, of an archived table `tier/layer.name`."""
        return subject_of(self.folder)

    def fail(self, check: str, problem: str, fix: str, *, path: str | None = None) -> None:
        """Note something that is wrong with a file of the table, or all of it."""
        whole = None if path is None else self.folder + path
        self.failures.append(Failure(check, self.name, problem, fix, whole, self.versions_of(path)))

    def versions_of(self, path: str | None) -> str | None:
        """The versions that need a file."""
        if path is None:
            return None
        found = _COMMIT.fullmatch(path)
        if found:
            return version_range(int(found[1]), self.version)
        life = self.lives.get(path)
        return None if life is None else version_range(life.first, self.version if life.gone is None else life.gone - 1)

    def is_needed(self, path: str) -> bool:
        """Whether a file must be there: those of the newest version, and the changed rows of all versions that vacuum has left."""
        life = self.lives[path]
        is_left = not any(first <= life.first <= last for first, last in self.vacuumed)
        return life.gone is None or (path.startswith(f"{CHANGE_FOLDER}/") and is_left)

    def files(self) -> Iterator[tuple[StoredFile, bool]]:
        """Every file that belongs to some version and is there, and whether nobody may ever write to it again."""
        for path, stored in self.listed.items():
            found = _COMMIT.fullmatch(path)
            if (found and int(found[1]) <= self.version) or path in self.lives:
                yield stored, True
            elif _CHECKPOINT.fullmatch(path):
                # It may be made a second time, by another process, of other bytes.
                yield stored, False


def inspect_table(lake: Lake, table: TableName, listed: Mapping[str, StoredFile], advice: Advice, *, prefix: str = TABLES) -> Inspected:
    """Read the whole log of a table, and compare it with what is there."""
    numbers = sorted(int(found[1]) for path in listed if (found := _COMMIT.fullmatch(path)))
    checkpoints = sorted({int(found[1] or found[2]) for path in listed if (found := _CHECKPOINT.fullmatch(path))})
    newest = max([*numbers[-1:], *checkpoints[-1:]], default=-1)
    seen = Inspected(table, newest, listed, prefix=prefix)
    folder = f"{table.layer}/{table.name}"
    log_fix = advice.for_file(f"{seen.folder}_delta_log/{newest:020d}.json")
    if not numbers:
        seen.fail("log_has_no_gaps", "its log has no commit", log_fix)
        return seen
    gaps = [one for one in range(numbers[0], newest + 1) if one not in set(numbers)]
    for gap in gaps:
        seen.fail("log_has_no_gaps", f"the log has no version {gap}", log_fix, path=f"_delta_log/{gap:020d}.json")
    if numbers[0] > 0 and not any(one >= numbers[0] - 1 for one in checkpoints):
        seen.fail("log_has_no_gaps", f"the log begins with version {numbers[0]}, and no checkpoint has what came before", log_fix)
    names = [f"_delta_log/{number:020d}.json" for number in numbers]
    for number, name, content in zip(numbers, names, lake.storage.read_all([f"{folder}/{name}" for name in names]), strict=True):
        problem = _replay(seen.lives, number, content)
        if problem is not None:
            seen.fail("log_can_be_read", f"version {number} of the log {problem}", log_fix, path=name)
    _open(seen, lake, is_whole=numbers[0] == 0 and not seen.failures, fix=log_fix)
    seen.vacuumed = () if seen.snapshot is None else gone_versions(lake.storage, seen.snapshot)
    _check_presence(seen, advice)
    return seen


def _replay(lives: dict[str, Life], version: int, content: bytes | None) -> str | None:
    """Take one commit into account; what is wrong with it, if anything."""
    if content is None:
        return "is gone"
    try:
        actions: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines() if line.strip()]
        if not actions:
            return "is empty"
        for action in actions:
            kind, body = next(iter(action.items()))
            if kind == "remove" and (life := lives.get(unquote(body["path"]))) is not None:
                life.gone = version
            elif kind == "add":
                path = unquote(body["path"])
                lives[path] = Life(int(body["size"]), lives[path].first if path in lives else version)
            elif kind == "cdc":
                lives[unquote(body["path"])] = Life(int(body["size"]), version, version + 1)
        for path in paths_in_commit(content):
            lives.setdefault(path, Life(None, version))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        return f"can't be read ({type(error).__name__}: {str(error)[:100]})"
    return None


def _open(seen: Inspected, lake: Lake, *, is_whole: bool, fix: str) -> None:
    try:
        snapshot = lake.snapshot(seen.table)
        files = {file.path: file for file in snapshot.files}
    except TableError as error:
        seen.fail("table_can_be_opened", error.problem[:300], fix)
        return
    seen.snapshot = snapshot
    for path, file in files.items():
        seen.lives.setdefault(path, Life(file.size, snapshot.version))
    if not is_whole:
        return
    told = {path for path, life in seen.lives.items() if life.gone is None and life.size is not None}
    if snapshot.version != seen.version or told != set(files) or any(seen.lives[path].size != file.size for path, file in files.items()):
        problem = "its checkpoint does not say what its log says"
        seen.fail(
            "checkpoint_agrees_with_log",
            problem,
            f"Remove the checkpoints and _last_checkpoint in {seen.folder}_delta_log: the log has all",
        )


def _check_presence(seen: Inspected, advice: Advice) -> None:
    """Files that are needed must be there; those that are there must have the size that the log says."""
    for path, life in seen.lives.items():
        if "://" in path or path.startswith("/"):
            continue
        stored = seen.listed.get(path)
        fix = advice.for_file(seen.folder + path)
        if stored is None:
            if seen.is_needed(path):
                seen.fail("data_files_are_there", "the file is gone", fix, path=path)
        elif life.size is not None and stored.size_bytes != life.size:
            problem = f"the file has {stored.size_bytes} bytes, the log says {life.size}"
            seen.fail("data_files_are_there", problem, fix, path=path)


# ---- rows


def check_rows(seen: Inspected, lake: Lake, advice: Advice, *, damaged: frozenset[str]) -> None:
    """Count the rows of every file of the newest version and compare its values with the bounds that the log gives.

    Args:
        seen: the table; failures are added.
        lake: reads it.
        advice: what to do about them.
        damaged: files that are known to be damaged already.
    """
    if seen.snapshot is None:
        return
    known = {failure.path for failure in seen.failures} | damaged
    files = [file for file in seen.snapshot.files if seen.folder + file.path not in known]
    con = lake.open_connection()
    try:
        for start in range(0, len(files), 200):
            chunk = files[start : start + 200]
            for path, problem in _compare(con, seen.snapshot, chunk):
                seen.fail("rows_are_those_of_the_log", problem, advice.for_file(seen.folder + path), path=path)
    finally:
        con.close()


def _compare(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, files: list[DataFile]) -> Iterator[tuple[str, str]]:
    try:
        yield from _compare_together(con, snapshot, files)
    except duckdb.Error as error:
        if len(files) == 1:
            yield files[0].path, f"can't be read: {str(error).splitlines()[0][:200]}"
            return
        for file in files:
            yield from _compare(con, snapshot, [file])


def _compare_together(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, files: list[DataFile]) -> list[tuple[str, str]]:
    by_address = {file.uri.removeprefix("file://"): file for file in files}
    if not by_address:
        return []
    addresses = ", ".join(quote_literal(glob_escape(one)) for one in by_address)
    source = f"read_parquet([{addresses}], union_by_name=true, filename='__file', hive_partitioning=false)"
    present = {str(row[0]) for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    kinds = {column.name: column.sql_type for column in snapshot.columns}
    columns = [name for name, kind in kinds.items() if name in present and name not in snapshot.partition_by and _is_compared(kind)]
    inner, outer = ["__file", "count(*) AS rows"], ["__file", "rows"]
    for number, name in enumerate(columns):
        quoted = quote_identifier(name)
        real = f" FILTER (WHERE NOT isnan({quoted}))" if kinds[name] in ("DOUBLE", "FLOAT") else ""
        inner += [
            f"count(*) - count({quoted}) AS nulls{number}",
            f"min({quoted}){real} AS low{number}",
            f"max({quoted}){real} AS high{number}",
        ]
        outer += [f"nulls{number}", _outside(files, name, number)]
    found = con.execute(f"SELECT {', '.join(outer)} FROM (SELECT {', '.join(inner)} FROM {source} GROUP BY __file)").fetchall()
    problems: list[tuple[str, str]] = []
    rows = {str(row[0]): row for row in found}
    for address, file in by_address.items():
        row = rows.get(address, (address, 0, *[0] * (2 * len(columns))))
        if file.rows is not None and row[1] != file.rows:
            problems.append((file.path, f"holds {row[1]} rows, the log says {file.rows}"))
        for position, name in enumerate(columns):
            nulls, is_outside = row[2 + 2 * position], row[3 + 2 * position]
            noted = file.facts.get(f"null_count.{name}")
            if noted is not None and row[1] and nulls != noted:
                problems.append((file.path, f"has {nulls} nulls in {name}, the log says {noted}"))
            if is_outside:
                problems.append((file.path, f"has values of {name} outside the bounds in the log: readers would miss them"))
    return problems


def _is_compared(kind: str) -> bool:
    return not kind.startswith(_NOT_COMPARED) and "[" not in kind


def _literal(bound: str | float | datetime) -> str:
    """As SQL; a number with a point would be a decimal there, which has not every double."""
    return f"'{bound!r}'::DOUBLE" if isinstance(bound, float) else quote_literal(bound)


def _outside(files: list[DataFile], name: str, number: int) -> str:
    """SQL: whether a file's lowest or highest value lies outside its bounds."""
    cases: list[str] = []
    for file in files:
        low, high = file.facts.get(f"min.{name}"), file.facts.get(f"max.{name}")
        if low is None or high is None or isinstance(low, bytes | dict | list) or isinstance(high, bytes | dict | list):
            continue
        lower, upper = _literal(low), _literal(high)
        if isinstance(high, datetime):
            # Statistics have milliseconds, values may have more.
            upper += " + INTERVAL 1 MILLISECOND"
        cases.append(f"WHEN {quote_literal(file.uri.removeprefix('file://'))} THEN low{number} < {lower} OR high{number} > {upper}")
    return f"CASE __file {' '.join(cases)} ELSE false END" if cases else "false"


def inspect_all(
    lake: Lake, tables: list[TableName], listed: Mapping[TableName, Mapping[str, StoredFile]], advice: Advice, *, prefix: str = TABLES
) -> list[Inspected]:
    """Every table's log, several at a time."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda table: inspect_table(lake, table, listed[table], advice, prefix=prefix), tables))
