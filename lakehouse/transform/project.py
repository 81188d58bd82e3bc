"""The dbt project of a home, parsed once for each state of its files."""

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts import Contracts, load_contracts
from lakehouse.settings import Settings
from lakehouse.transform.generated import packages_dir, write_generated
from lakehouse.transform.invocation import invoked

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

_SUFFIXES = {".sql", ".yml", ".yaml", ".py", ".csv", ".md"}
_KEPT_STATES = 4
# The settings of this project are none of them: they say where things are, and reach dbt by its profile.
_ENVIRONMENT = re.compile(rb"""\benv_var\s*\(\s*['"](?!LAKEHOUSE_)(\w+)""")


def prepare(settings: Settings, contracts: Contracts | None = None) -> Path:
    """Write the generated files, parse the project if anything has changed, and return the path of its manifest.

    The manifest is named by a digest of all that it depends on and appears whole, so several processes may prepare at once.

    Raises:
        TransformError: dbt can't parse the project.
    """
    contracts = load_contracts(settings) if contracts is None else contracts
    write_generated(settings, contracts)
    state = settings.dbt_home / "parsed" / _digest(settings, contracts)
    if not (state / "manifest.json").is_file():
        _parse(settings, state)
    return state / "manifest.json"


def parsed(manifest: Path) -> "Manifest":
    """The manifest that `prepare` returned, as dbt's own object: 0.15 s, and nothing is parsed."""
    from dbt.contracts.graph.manifest import Manifest

    project = Manifest.from_msgpack((manifest.parent / "manifest.msgpack").read_bytes())
    # The `graph` that macros see is not part of the file.
    project.build_flat_graph()
    return project


def _parse(settings: Settings, state: Path) -> None:
    older = _states(state.parent)
    options = ["--partial-parse-file-path", str(older[0] / "manifest.msgpack")] if older else []
    with invoked(settings, ["parse", *options]) as invocation:
        draft = state.with_name(f".{state.name[:12]}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
        draft.mkdir(parents=True)
        shutil.copyfile(invocation.target / "manifest.json", draft / "manifest.json")
        parsed_now = invocation.target / "partial_parse.msgpack"
        # dbt writes none if it finds the older state as good as new.
        shutil.copyfile(parsed_now if parsed_now.is_file() else older[0] / "manifest.msgpack", draft / "manifest.msgpack")
    try:
        draft.rename(state)
    except OSError:
        # Another process has parsed the same files meanwhile.
        shutil.rmtree(draft, ignore_errors=True)
        if not (state / "manifest.json").is_file():
            raise
    for old in _states(state.parent)[_KEPT_STATES:]:
        if old != state:
            shutil.rmtree(old, ignore_errors=True)


def _states(folder: Path) -> list[Path]:
    """Parsed states, newest first."""
    if not folder.is_dir():
        return []
    found = [(path / "manifest.msgpack", path) for path in folder.iterdir() if not path.name.startswith(".")]
    return [path for _, path in sorted(((file.stat().st_mtime, path) for file, path in found if file.is_file()), reverse=True)]


def _digest(settings: Settings, contracts: Contracts) -> str:
    digest = hashlib.sha256(_versions().encode())
    # Seeds are found by where the project is; nothing in a manifest depends on the home.
    digest.update(str(settings.project).encode())
    for name, contract in sorted(contracts.datasets.items()):
        digest.update(f"{name}={contract.digest}\n".encode())
    for root in (settings.project / "dbt", packages_dir(settings)):
        for path in _project_files(root):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root)}\n".encode())
            digest.update(hashlib.sha256(content).digest())
            for name in sorted({found.decode() for found in _ENVIRONMENT.findall(content)}):
                digest.update(f"{name}={os.environ.get(name)}\n".encode())
    return digest.hexdigest()


def _project_files(root: Path) -> Iterator[Path]:
    """Every file that dbt reads, in a fixed order."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in {"target", "logs", "dbt_packages"} and not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix in _SUFFIXES and not name.startswith("."):
                yield path


@lru_cache
def _versions() -> str:
    return " ".join(f"{name}={version(name)}" for name in ("dbt-core", "dbt-duckdb", "lakehouse"))
