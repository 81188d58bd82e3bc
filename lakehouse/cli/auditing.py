"""What a command tells the audit: itself, the tables that its result is about, and how it ended."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?")
# They read and change nothing of anybody's.
_OF_NOBODY = frozenset({"sample", "doctor", "dev", "audit list", "audit verify"})
# Arguments that may name a table; one that does not (a file, a query) is not written down.
_TABLES = ("table", "tables", "subject", "reference")
_NAMES = ("name", "names", "dataset", "model", "table")


class Auditor:
    """Writes one entry for one command, before its result is shown or when it ends, whichever comes first."""

    def __init__(self, command: str, arguments: Mapping[str, Any]) -> None:
        self._command = command
        self._arguments = arguments
        self._is_done = command.split(" ", maxsplit=1)[0] in _OF_NOBODY or command in _OF_NOBODY

    def tell(self, document: Any = None, *, outcome: str = "done") -> None:
        """Record the command, once.

        Raises:
            PrivacyError: the audit can't be written.
        """
        if self._is_done:
            return
        self._is_done = True
        from lakehouse.errors import SettingsError
        from lakehouse.settings import Settings

        try:
            settings = Settings.load()
        except SettingsError:
            return
        # Where there is no home yet, there is nothing that anybody could have seen.
        if not settings.audit or not settings.home_dir.is_dir():
            return
        from lakehouse.privacy.audit import Audit
        from lakehouse.tables.stamp import machine_user

        facts = _facts(document, self._arguments)
        tables = _asked(self._command, self._arguments) | _tables(document)
        Audit(settings).record(who=machine_user(), action=self._command, tables=tables, outcome=outcome, now=datetime.now(UTC), facts=facts)


def _asked(command: str, arguments: Mapping[str, Any]) -> dict[str, int | None]:
    """The tables that the command was given, whatever its result says."""
    given = [one for key in _TABLES for one in _as_list(arguments.get(key))]
    tables: dict[str, int | None] = {}
    for one in given:
        name, _, version = one.partition("@") if isinstance(one, str) else ("", "", "")
        if _NAME.fullmatch(name) and "." in name:
            tables[name] = int(version) if version.isdecimal() else None
    if command.startswith("quarantine"):
        tables |= {f"quarantine.{name}": None for name in _as_list(arguments.get("dataset")) if isinstance(name, str)}
    return {table: version for table, version in tables.items() if _NAME.fullmatch(table)}


def _as_list(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]


def _tables(document: Any) -> dict[str, int | None]:
    if not isinstance(document, Mapping):
        return {}
    found = cast("Mapping[str, Any]", document)
    tables: dict[str, int | None] = {}
    versions = found.get("versions")
    if isinstance(versions, Mapping):
        for table, version in cast("Mapping[str, Any]", versions).items():
            numbers = [one for one in (version if isinstance(version, list) else [version]) if isinstance(one, int)]
            tables[table] = max(numbers, default=None)
    if isinstance(found.get("table"), str):
        tables.setdefault(found["table"], found["version"] if isinstance(found.get("version"), int) else None)
    listed = found.get("tables")
    # Some documents list tables, others only count them.
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("table"), str):
            tables[one["table"]] = one.get("version")
    return {table: version for table, version in tables.items() if _NAME.fullmatch(table)}


def _facts(document: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Names and numbers only: a value that was asked for could be somebody's."""
    facts: dict[str, Any] = {}
    for key in _NAMES:
        given = arguments.get(key)
        names = [one for one in (given if isinstance(given, list | tuple) else [given]) if isinstance(one, str) and _NAME.fullmatch(one)]
        if names:
            facts[key] = names
    if isinstance(document, Mapping):
        found = cast("Mapping[str, Any]", document)
        if isinstance(found.get("rows"), list):
            facts["rows"] = len(found["rows"])
        facts |= {key: found[key] for key in ("rows_predicted", "rows_read", "erasure", "run") if isinstance(found.get(key), int | str)}
    return facts
