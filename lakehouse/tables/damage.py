"""What is wrong with a table's files, said by name, with the way back.

DuckDB and delta-rs report a damaged file, a missing one and a full disk in words of their own, some without the file's name. Here they
become one kind of error, which says which table and which file, what was expected and what to do.
"""

import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import duckdb

from lakehouse.errors import LakehouseError, MachineError, TableDamaged, TableError
from lakehouse.tables.names import TableName
from lakehouse.tables.storage import Storage

P = ParamSpec("P")
R = TypeVar("R")

_COLOUR = re.compile(r"\x1b\[[0-9;]*m|\\x1b\[[0-9;]*m")
_QUOTED = re.compile(r"""["']((?:/|s3://)[^"']+)["']""")
_BARE = re.compile(r"(?:Unable to open file|Unable to \w+ file|file) (/\S+)")
_TABLE_FILE = re.compile(r".*?/([^/]+)/([^/]+)/((?:[^/]+=[^/]*/)*[^/]+\.parquet)")
_MACHINE = {
    "No space left on device": "Free some space",
    "Disk quota exceeded": "Free some of the quota",
    "File too large": "Raise the limit on the size of files (ulimit -f)",
    "Permission denied": "Give this user the right to read and write the file and its folder",
    "Operation not permitted": "Give this user the right to read and write the file and its folder",
    "Read-only file system": "Make the file system writable, or set LAKEHOUSE_HOME to another folder",
    "Too many open files": "Raise the limit of open files (ulimit -n), or lower LAKEHOUSE_THREADS",
    "Input/output error": "Check the disk",
}
_SPILL = "Free some space where LAKEHOUSE_HOME is, or lower LAKEHOUSE_THREADS or raise LAKEHOUSE_MEMORY_LIMIT so that less is spilled"
_GONE = ("No files found that match", "No such file or directory", "HTTP 404", "does not exist", "404 (Not Found)")
_UNREADABLE = (
    "No magic bytes", "too small to be a Parquet file", "Failed to read file", "Decompression failure", "TProtocolException", "Corrupt",
    "corrupt", "Invalid Parquet", "not a Parquet file", "Failed to read Parquet", "don't read past", "Couldn't deserialize thrift",
    "Not enough bytes", "Out of buffer", "footer length", "Footer",
)  # fmt: skip
_AGAIN = "then run the command again: no version has what was half written"


def way_back(table: str, *, is_log: bool = False) -> str:
    """How to get a file of a table, or of its log, back."""
    if table.partition(".")[0] in {"staging", "analytics", "features"}:
        last = "or move the table's folder away and build it anew: lakehouse run --full"
    elif is_log:
        last = "or move the table's folder away and run again what writes it"
    else:
        last = f"or go back to a version without it: lakehouse history {table}, lakehouse restore {table} --to VERSION"
    return (
        f"Bring it back from a backup: lakehouse restore-backup --only {table}; {last}. lakehouse verify {table} lists all that is damaged"
    )


def explained(error: BaseException) -> LakehouseError | None:
    """What DuckDB or delta-rs say about files and the machine, as an error of ours; None for anything else."""
    text = _COLOUR.sub("", str(error))
    found = _QUOTED.search(text) or _BARE.search(text)
    path = found.group(1) if found else ""
    for says, fix in _MACHINE.items():
        if says in text:
            return MachineError(path or "the disk", "can't be read or written", found=says, fix=f"{fix}; {_AGAIN}")
    if "failed to offload" in text or "max_temp_directory_size" in text:
        return MachineError("what does not fit into memory", "can't be spilled to disk", found=_first_line(text), fix=_SPILL)
    file = _TABLE_FILE.fullmatch(path)
    if file is None:
        return None
    table, name = f"{file[1]}.{file[2]}", file[3]
    if any(sign in text for sign in _GONE):
        return TableDamaged(
            f"{table}, file {name}", "is gone", expected="a data file of this version", found="no file", fix=way_back(table)
        )
    if any(sign in text for sign in _UNREADABLE):
        size = f", {os.path.getsize(path):,} bytes" if os.path.exists(path) else ""
        reason = _first_line(text).replace(path, name).replace("Invalid Input Error: ", "")
        return TableDamaged(
            f"{table}, file {name}", "can't be read", expected="the Parquet file that was written", found=reason + size, fix=way_back(table)
        )
    return None


def telling(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function raise what `explained` says where DuckDB or the system fail over a file."""

    @functools.wraps(function)
    def told(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return function(*arguments, **named)
        except (duckdb.Error, OSError) as error:
            better = explained(error) if not isinstance(error, OSError) or error.filename is None else None
            if better is None:
                raise
            raise better from error

    return told


@contextmanager
def half_written_removed(storage: Storage, folder: str, prefix: str) -> Iterator[None]:
    """On a full disk the files that did not come to their end give their space back."""
    try:
        yield
    except BaseException:
        if storage.is_local:
            storage.delete([file.path for file in storage.walk(folder) if file.path.rpartition("/")[2].startswith(prefix)])
        raise


def _first_line(text: str) -> str:
    return " ".join(text.split("\n\n", maxsplit=1)[0].split("LINE ", maxsplit=1)[0].split())[:200]


def refuse_empty_commits(storage: Storage, table: TableName, version: int, *, newest: int) -> None:
    """Look at the commits of a version since the last checkpoint: delta-rs takes an empty file for a commit without rows.

    On disk only: in a bucket a file is there as a whole or not at all.

    Raises:
        TableDamaged: one is empty.
    """
    if not storage.is_local:
        return
    folder = storage.address(table.layer, table.name, "_delta_log")
    for one in range(version, -1, -1):
        try:
            size = os.stat(f"{folder}/{one:020d}.json").st_size
        except FileNotFoundError:
            return
        if size == 0:
            raise _bad_commit(table, one, newest, "0 bytes")
        if os.path.exists(f"{folder}/{one:020d}.checkpoint.parquet"):
            return


def damaged_log(storage: Storage, table: TableName, error: Exception) -> LakehouseError:
    """Why a table can't be opened: which file of its log is missing or damaged."""
    machine = explained(error)
    if isinstance(machine, MachineError):
        return machine
    folder = f"{table.layer}/{table.name}/_delta_log"
    names = storage.files(folder)
    versions = [int(name[:20]) for name in names if re.fullmatch(r"\d{20}\.json", name)]
    checkpoints = sorted(name for name in names if re.fullmatch(r"\d{20}\.checkpoint(\.[\w.-]+)?\.parquet", name))
    readable = [name for name in checkpoints if _is_parquet(storage.read(f"{folder}/{name}"))]
    begin = int(readable[-1][:20]) + 1 if readable else 0
    newest = versions[-1] if versions else -1
    for version in (version for version in versions if version >= begin):
        problem = _unparsable(storage.read(f"{folder}/{version:020d}.json"))
        if problem:
            return _bad_commit(table, version, newest, problem)
    missing = sorted(set(range(begin, newest + 1)) - set(versions))
    hinted = _hinted(storage.read(f"{folder}/_last_checkpoint"))
    bad = [name for name in checkpoints if name not in readable]
    if not bad and hinted is not None and not any(int(name[:20]) == hinted for name in checkpoints):
        bad = [f"{hinted:020d}.checkpoint.parquet"]
    if bad:
        return _bad_checkpoint(table, bad[-1], is_complete=not missing, is_there=bad[-1] in checkpoints)
    if missing:
        return TableDamaged(
            f"{table}, file _delta_log/{missing[0]:020d}.json",
            "is gone, and what the table holds can't be told without it",
            expected=f"every commit from {begin} to {newest}",
            found=f"{len(missing)} missing",
            fix=way_back(str(table), is_log=True),
        )
    return TableError(str(table), f"can't be opened: {_first_line(str(error))}", fix=f"Look at {storage.address(folder)}")


def _is_parquet(content: bytes | None) -> bool:
    return content is not None and len(content) > 12 and content[:4] == content[-4:] == b"PAR1"


def _unparsable(content: bytes | None) -> str | None:
    if not content:
        return "0 bytes"
    for number, line in enumerate(content.splitlines(), 1):
        try:
            json.loads(line)
        except ValueError:
            return f"{len(content):,} bytes, of which line {number} is no JSON"
    return None


def _hinted(content: bytes | None) -> int | None:
    try:
        return int(json.loads(content or b"")["version"])
    except (ValueError, KeyError, TypeError):
        return None


def _bad_commit(table: TableName, version: int, newest: int, found: str) -> TableDamaged:
    name = f"_delta_log/{version:020d}.json"
    fix = way_back(str(table), is_log=True)
    if version == newest and version > 0:
        fix = (
            f"Bring it back from a backup: lakehouse restore-backup --only {table}. If none has it, its writer was cut off before it could "
            f"say that it was done: remove the file, which leaves the table at version {version - 1}, and run again what wrote it"
        )
    return TableDamaged(f"{table}, file {name}", "is damaged", expected="a commit", found=found, fix=fix)


def _bad_checkpoint(table: TableName, name: str, *, is_complete: bool, is_there: bool) -> TableDamaged:
    fix = way_back(str(table), is_log=True)
    if is_complete:
        both = f"{name} and _last_checkpoint" if is_there else "_last_checkpoint"
        fix = f"Remove {both} from the table's _delta_log: every commit is still there, and the next checkpoint is made from them"
    return TableDamaged(
        f"{table}, file _delta_log/{name}",
        "is damaged" if is_there else "is gone",
        expected="the checkpoint that _last_checkpoint names",
        found="no Parquet file" if is_there else "no file",
        fix=fix,
    )


def readable_lines(table: TableName, version: int, content: bytes, wanted: Sequence[bytes]) -> list[dict[str, Any]]:
    """Those actions of a commit that begin as wanted.

    Raises:
        TableDamaged: one can't be read.
    """
    lines = [line for line in content.splitlines() if line.startswith(tuple(wanted))]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise _bad_commit(table, version, -1, f"{len(content):,} bytes that are no JSON") from error
