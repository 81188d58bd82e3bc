"""Taking data files out of a Delta log's past and putting others in their place, so that at every instant every version reads.

Readers may come, and the process may die, between any two steps. Three passes over the commits, each of which leaves the log valid:

1. a commit that removes an old file also removes the new one,
2. commits and checkpoints that add an old file add the new one instead (or none, where nothing is left of it),
3. no commit names the old file any more.

Only then are the old files deleted. A pass that was interrupted is done again: it finds less to do.
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from lakehouse.crashpoints import Point, reached
from lakehouse.errors import PrivacyError
from lakehouse.privacy.erasure.tree import Tree

if TYPE_CHECKING:
    import pyarrow as pa

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.[^/]*)?\.parquet")
_LAST = "_last_checkpoint"
Action = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Successor:
    """The file that takes another one's place: its name (in the same folder), size and statistics."""

    name: str
    size_bytes: int
    stats: str


@dataclass(frozen=True, slots=True)
class Log:
    """What is in a table's log folder."""

    commits: tuple[int, ...]
    checkpoints: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the commits alone make every version, so that checkpoints are only there for speed."""
        return bool(self.commits) and self.commits == tuple(range(len(self.commits)))


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What was changed: commits, and versions whose checkpoints were taken away and can be made anew."""

    commits: int
    checkpoints: tuple[int, ...]


def log_of(tree: Tree, folder: str) -> Log:
    """The log's files.

    Raises:
        PrivacyError: it has checkpoints of a kind that can't be rewritten.
    """
    commits: list[int] = []
    checkpoints: list[str] = []
    others: list[str] = []
    for file in tree.walk(f"{folder}/_delta_log"):
        name = file.path.removeprefix(f"{folder}/_delta_log/")
        if found := _COMMIT.fullmatch(name):
            commits.append(int(found[1]))
        elif _CHECKPOINT.fullmatch(name):
            checkpoints.append(name)
        else:
            others.append(name)
    if any(name.startswith("_sidecars/") for name in others):
        raise PrivacyError(folder, "has checkpoints with sidecars, which can't be rewritten", fix="Rewrite the table with overwrite first")
    return Log(tuple(sorted(commits)), tuple(sorted(checkpoints)), tuple(others))


def files_in(tree: Tree, folder: str, log: Log) -> dict[str, bool]:
    """Every file that some version has, decoded, and whether it has rows that are deleted by a deletion vector."""
    named: dict[str, bool] = {}
    for version in log.commits:
        for action in _actions(tree, folder, version):
            for kind in ("add", "cdc", "remove"):
                if body := action.get(kind):
                    path = unquote(body["path"])
                    named[path] = named.get(path, False) or bool(body.get("deletionVector"))
    if not log.is_complete:
        for name in log.checkpoints:
            for row in cast("list[Action]", _checkpoint(tree, folder, name).to_pylist()):
                for kind in ("add", "remove"):
                    if body := row.get(kind):
                        path = unquote(str(body["path"]))
                        named[path] = named.get(path, False) or bool(body.get("deletionVector"))
    return named


def files_added(tree: Tree, folder: str, versions: Iterable[int]) -> set[str]:
    """The files, decoded, that these commits add."""
    return {unquote(body["path"]) for version in versions for action in _actions(tree, folder, version) if (body := action.get("add"))}


def replace_files(tree: Tree, folder: str, successors: Mapping[str, Successor | None], masked: Callable[[str], str]) -> Rewritten:
    """Put successors in the place of files throughout the log, and mask what commits say of themselves.

    Args:
        tree: holds the table.
        folder: of the table.
        successors: by decoded path of the old file; None where nothing is left of it.
        masked: takes the subject out of a text.

    Raises:
        PrivacyError: a checkpoint can't be rewritten.
    """
    log = log_of(tree, folder)
    changed: set[int] = set()
    versions: tuple[int, ...] = ()
    for number in (1, 2, 3) if successors else (2,):
        for version in log_of(tree, folder).commits:
            if _rewrite_commit(tree, f"{folder}/_delta_log/{version:020d}.json", number, successors, masked):
                changed.add(version)
                reached(Point.MID_ERASE)
        if number == 2 and log.checkpoints and successors:
            versions = _rewrite_checkpoints(tree, folder, log, successors)
        reached(Point.MID_ERASE)
    # Checksums of other engines list files and sizes; they are optional.
    tree.delete(f"{folder}/_delta_log/{name}" for name in log.others if successors and name.endswith(".crc"))
    return Rewritten(len(changed), versions)


def _rewrite_commit(tree: Tree, path: str, number: int, successors: Mapping[str, Successor | None], masked: Callable[[str], str]) -> bool:
    content = tree.read(path)
    if content is None:
        return False
    lines = content.decode().splitlines()
    actions = [cast("Action", json.loads(line)) for line in lines if line.strip()]
    kept = [line for line in lines if line.strip()]
    added = {unquote(body["path"]) for action in actions if (body := action.get("add"))}
    removed = {unquote(body["path"]) for action in actions if (body := action.get("remove"))}
    out: list[str] = []
    for line, action in zip(kept, actions, strict=True):
        made = _changed(action, number, successors, masked, named=added | removed)
        out += [line] if made is None else [json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in made]
    if out == kept:
        return False
    tree.write(path, ("\n".join(out) + "\n").encode())
    return True


def _changed(
    action: Action, number: int, successors: Mapping[str, Successor | None], masked: Callable[[str], str], *, named: set[str]
) -> list[Action] | None:
    """What stands in an action's place after a pass; None if it stays as it is."""
    kind, body = next(iter(action.items()))
    if kind == "commitInfo":
        told = _masked(body, masked) if number == 2 else body
        return None if told == body else [{kind: told}]
    old = unquote(body["path"]) if kind in ("add", "remove", "cdc") else None
    if old is None or old not in successors:
        return None
    new = successors[old]
    if kind == "remove":
        if number == 1 and new is not None and _beside(old, new.name) not in named:
            return [action, {kind: _removal(body, new)}]
        return [] if number == 3 else None
    if number != 2:
        return None
    return [] if new is None else [{kind: _addition(body, new, has_stats=kind == "add")}]


def _addition(body: Action, new: Successor, *, has_stats: bool) -> Action:
    changed = {**body, "path": _beside(body["path"], new.name), "size": new.size_bytes}
    changed.pop("stats_parsed", None)
    return {**changed, "stats": new.stats} if has_stats else changed


def _removal(body: Action, new: Successor) -> Action:
    changed = {**body, "path": _beside(body["path"], new.name), "size": new.size_bytes}
    if "stats" in changed:
        changed["stats"] = new.stats
    return changed


def _beside(path: str, name: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}{name}"


def _masked(value: Any, masked: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {masked(str(key)): _masked(one, masked) for key, one in cast("Action", value).items()}
    if isinstance(value, list):
        return [_masked(one, masked) for one in cast("list[Any]", value)]
    return value


def _actions(tree: Tree, folder: str, version: int) -> list[Action]:
    content = tree.read(f"{folder}/_delta_log/{version:020d}.json") or b""
    return [json.loads(line) for line in content.splitlines() if line.strip()]


# ---- checkpoints


def _rewrite_checkpoints(tree: Tree, folder: str, log: Log, successors: Mapping[str, Successor | None]) -> tuple[int, ...]:
    """Where the commits are complete checkpoints are only for speed: they go, to be made anew at the end. Otherwise they are rewritten."""
    base = f"{folder}/_delta_log"
    if log.is_complete:
        tree.delete([f"{base}/{_LAST}"])
        tree.delete(f"{base}/{name}" for name in log.checkpoints)
        return tuple(sorted({int(name[:20]) for name in log.checkpoints}))
    for name in log.checkpoints:
        _rewrite_checkpoint(tree, folder, name, successors)
    return ()


def _checkpoint(tree: Tree, folder: str, name: str) -> "pa.Table":
    import pyarrow.parquet as pq

    content = tree.read(f"{folder}/_delta_log/{name}") or b""
    return pq.read_table(io.BytesIO(content))


def _rewrite_checkpoint(tree: Tree, folder: str, name: str, successors: Mapping[str, Successor | None]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = _checkpoint(tree, folder, name)
    rows = cast("list[Action]", table.to_pylist())
    kept: list[Action] = []
    for row in rows:
        kind = next((kind for kind in ("add", "remove") if row.get(kind)), None)
        old = unquote(row[kind]["path"]) if kind else None
        if kind is None or old not in successors:
            kept.append(row)
            continue
        new = successors[old or ""]
        if new is not None:
            body = row[kind]
            changed = _addition(body, new, has_stats="stats" in body) | ({"stats_parsed": None} if "stats_parsed" in body else {})
            kept.append({**row, kind: changed})
    if kept == rows:
        return
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(kept, schema=table.schema), buffer, compression="snappy")
    tree.write(f"{folder}/_delta_log/{name}", buffer.getvalue())
