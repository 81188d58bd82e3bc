"""Whether everything is in place, and how to fix what is not."""

import importlib.util
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version

from lakehouse.errors import LakehouseError
from lakehouse.pipeline.workspace import Workspace

_ENOUGH_DISK_BYTES = 2 * 1024**3
_DAGSTER_PORT = 3000


class Health(StrEnum):
    """How one thing is."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and what to do where it is not as it should be."""

    check: str
    health: Health
    detail: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at everything a run needs; what is broken never stops the looking."""
    findings = [*_python(), *_packages()]
    try:
        workspace = Workspace.load()
    except LakehouseError as error:
        return [*findings, Finding("settings", Health.BROKEN, error.problem, str(error))]
    settings = workspace.settings
    findings.append(Finding("settings", Health.OK, f"project {settings.project}, home {settings.home_dir}"))
    looks: tuple[tuple[str, Callable[[Workspace], Iterator[Finding]]], ...] = (
        ("home", _home),
        ("disk", _disk),
        ("key", _key),
        ("contracts", _contracts),
        ("dbt", _dbt),
        ("storage", _storage),
        ("tables", _tables),
        ("dagster", _dagster),
    )
    for check, look in looks:
        try:
            findings.extend(look(workspace))
        except LakehouseError as error:
            findings.append(Finding(check, Health.BROKEN, str(error), error.fix or ""))
        except OSError as error:
            findings.append(
                Finding(check, Health.BROKEN, f"{error.filename or settings.home_dir}: {error.strerror}", "Check the permissions")
            )
    return findings


def _python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    # An older one could not have imported this module.
    yield Finding("python", Health.OK, f"{found} at {sys.executable}")


def _packages() -> Iterator[Finding]:
    missing: list[str] = []
    count = 0
    try:
        demands = requires("lakehouse") or []
    except PackageNotFoundError:
        yield Finding("packages", Health.WARNING, "lakehouse runs from a checkout that is not installed", "Run make install")
        return
    for demand in demands:
        if "extra ==" in demand:
            continue
        name = re.split(r"[\s\[<>=!~;]", demand, maxsplit=1)[0]
        count += 1
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding("packages", Health.BROKEN, f"missing: {', '.join(missing)}", "Run make install")
    else:
        yield Finding("packages", Health.OK, f"{count} required packages are installed")


def _home(workspace: Workspace) -> Iterator[Finding]:
    home = workspace.settings.home_dir
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=home, prefix=".doctor-"):
        pass
    yield Finding("home", Health.OK, f"{home} can be written")


def _disk(workspace: Workspace) -> Iterator[Finding]:
    free = shutil.disk_usage(workspace.settings.home_dir).free
    detail = f"{free / 1024**3:.1f} GiB free under {workspace.settings.home_dir}"
    if free < _ENOUGH_DISK_BYTES:
        yield Finding("disk", Health.WARNING, detail, "Free some space, or set LAKEHOUSE_HOME to a larger disk")
    else:
        yield Finding("disk", Health.OK, detail)


def _key(workspace: Workspace) -> Iterator[Finding]:
    key = workspace.settings.key_file
    if not key.exists():
        yield Finding("key", Health.OK, f"{key} is made when the first protected column is ingested")
        return
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & 0o077:
        yield Finding("key", Health.BROKEN, f"{key} can be read by others (mode {mode:04o})", f"Run chmod 600 {key}")
    elif not os.access(key, os.R_OK):
        yield Finding("key", Health.BROKEN, f"{key} can't be read by this user", f"Run chown to make {key} yours")
    else:
        yield Finding("key", Health.OK, f"{key} is private; back it up: pseudonyms and archived files depend on it")


def _contracts(workspace: Workspace) -> Iterator[Finding]:
    from lakehouse.quality import checks_not_made

    contracts = workspace.contracts
    yield Finding("contracts", Health.OK, f"{len(contracts.datasets)} datasets and {len(contracts.models)} models are valid")
    for contract in contracts.datasets.values():
        not_made = checks_not_made(contract)
        if not_made:
            detail = f"{contract.name}: not made: {'; '.join(f'{check} {reason}' for check, reason in not_made.items())}"
            yield Finding("contracts", Health.WARNING, detail, f"Write them as sql or library checks in {contract.path}, or remove them")


def _dbt(workspace: Workspace) -> Iterator[Finding]:
    from lakehouse.transform import prepare

    manifest = prepare(workspace.settings, workspace.contracts)
    yield Finding("dbt", Health.OK, f"the project parses: {manifest}")


def _storage(workspace: Workspace) -> Iterator[Finding]:
    storage = workspace.lake.storage
    if not storage.is_local:
        if not storage.creates_once():
            yield Finding(
                "storage",
                Health.BROKEN,
                f"{storage.root}: two that create the same object both succeed (the server ignores If-None-Match): commits would get lost",
                "Use a server with conditional writes, such as S3, Ceph or MinIO of a recent version",
            )
            return
        server = storage.access.endpoint or f"AWS, region {storage.access.region}"
        yield Finding("storage", Health.OK, f"{storage.root} on {server} can be written, and of many that create an object one succeeds")
    if workspace.settings.landing_bucket is not None:
        from lakehouse.tables.storage import Storage

        landing = Storage(workspace.settings.landing_bucket, workspace.settings.storage_options)
        yield Finding("landing", Health.OK, f"{landing.root} can be listed: files have arrived for {len(landing.folders())} datasets")


def _tables(workspace: Workspace) -> Iterator[Finding]:
    lake = workspace.lake
    unreadable: list[str] = []
    names = lake.tables()
    for table in names:
        try:
            lake.detail(table)
        except LakehouseError as error:
            unreadable.append(f"{table} ({error.problem})")
    if unreadable:
        yield Finding("tables", Health.BROKEN, f"can't be read: {', '.join(unreadable)}", "Restore their _delta_log folders from a backup")
    else:
        yield Finding("tables", Health.OK, f"{len(names)} tables can be read under {workspace.settings.tables_uri}")


def _dagster(workspace: Workspace) -> Iterator[Finding]:
    if importlib.util.find_spec("dagster") is None:
        yield Finding("dagster", Health.WARNING, "is not installed: no web interface, sensors or schedules", "Run make install")
        return
    yield Finding("dagster", Health.OK, f"{version('dagster')}; home {workspace.settings.dagster_home}")
    yield _port(_DAGSTER_PORT)


def _port(port: int) -> Finding:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return Finding(
                "port", Health.WARNING, f"{port} is in use", f"Perhaps lakehouse dev runs already; else lakehouse dev --port {port + 1}"
            )
    return Finding("port", Health.OK, f"{port} is free for lakehouse dev")
