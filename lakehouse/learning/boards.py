"""The registry's versions, aliases and tags: through MLflow's client or, where they are in a file of this home, through its tables.

MLflow's client takes three to four seconds to import and to start, which is most of what a rollback would take. The tables of its
model registry are few and plain, so they are read and written directly where they are a SQLite file of a revision that is known here;
a server's registry, and a file of any other revision, are left to the client.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from lakehouse.errors import ModelError, ModelNotFound
from lakehouse.learning.lifecycle.board import Board, Posted

# Of MLflow's own migrations: those after which the four tables are as the statements below expect them.
KNOWN_REVISIONS = frozenset({"dc11669786a5"})
_WORKSPACE = "default"
_TAG_CHARACTERS = 5000
_WAIT_S = 60


class Shelf(Board, Protocol):
    """A board that also knows where the files of a version are."""

    def place(self, name: str, version: str) -> str:
        """The address of a version's files.

        Raises:
            ModelNotFound: there is no such version.
        """
        ...


class ClientBoard:
    """Through MLflow's client, which is made when something is asked."""

    def __init__(self, client: Callable[[], Any]) -> None:
        self._client = client

    def posted(self, name: str) -> dict[str, Posted]:
        """Every version of a model, with the run that made it and its tags."""
        found = self._client().search_model_versions(f"name = '{name}'")
        return {str(one.version): Posted(str(one.run_id or ""), dict(one.tags)) for one in found}

    def aliases(self, name: str) -> dict[str, str]:
        """The version that each alias of a model stands for."""
        client = self._client()
        from mlflow.exceptions import MlflowException

        try:
            return {str(alias): str(version) for alias, version in client.get_registered_model(name).aliases.items()}
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias stand for a version."""
        self._client().set_registered_model_alias(name, alias, version)

    def remove_alias(self, name: str, alias: str) -> None:
        """Let an alias stand for nothing."""
        self._client().delete_registered_model_alias(name, alias)

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Write tags onto a version."""
        client = self._client()
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value[:_TAG_CHARACTERS])

    def place(self, name: str, version: str) -> str:
        """The address of a version's files.

        Raises:
            ModelNotFound: there is no such version.
        """
        client = self._client()
        from mlflow.exceptions import MlflowException

        try:
            return str(client.get_model_version_download_uri(name, version))
        except MlflowException as error:
            raise _not_there(name, version) from error


class SqliteBoard:
    """Through the tables of the file: each change is one transaction.

    Args:
        path: of MLflow's database, which is there and of a known revision.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def posted(self, name: str) -> dict[str, Posted]:
        """Every version of a model, with the run that made it and its tags."""
        with self._opened() as con:
            versions = con.execute(
                "SELECT version, run_id FROM model_versions WHERE workspace = ? AND name = ? AND current_stage <> 'Deleted_Internal'",
                (_WORKSPACE, name),
            ).fetchall()
            tags: dict[int, dict[str, str]] = {version: {} for version, _ in versions}
            for version, key, value in con.execute(
                "SELECT version, key, value FROM model_version_tags WHERE workspace = ? AND name = ?", (_WORKSPACE, name)
            ):
                tags.setdefault(version, {})[key] = value
        return {str(version): Posted(run or "", tags[version]) for version, run in versions}

    def aliases(self, name: str) -> dict[str, str]:
        """The version that each alias of a model stands for."""
        with self._opened() as con:
            rows = con.execute("SELECT alias, version FROM registered_model_aliases WHERE workspace = ? AND name = ?", (_WORKSPACE, name))
            return {alias: str(version) for alias, version in rows}

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias stand for a version."""
        self._put("registered_model_aliases (workspace, name, alias, version)", "workspace, name, ?, version", (alias,), name, version)

    def remove_alias(self, name: str, alias: str) -> None:
        """Let an alias stand for nothing."""
        with self._opened() as con:
            con.execute("DELETE FROM registered_model_aliases WHERE workspace = ? AND name = ? AND alias = ?", (_WORKSPACE, name, alias))

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Write tags onto a version."""
        for key, value in tags.items():
            values = (key, value[:_TAG_CHARACTERS])
            self._put("model_version_tags (workspace, name, version, key, value)", "workspace, name, version, ?, ?", values, name, version)

    def place(self, name: str, version: str) -> str:
        """The address of a version's files.

        Raises:
            ModelNotFound: there is no such version.
        """
        with self._opened() as con:
            row = con.execute(
                "SELECT coalesce(nullif(storage_location, ''), source) FROM model_versions "
                "WHERE workspace = ? AND name = ? AND version = ? AND current_stage <> 'Deleted_Internal'",
                (_WORKSPACE, name, version),
            ).fetchone()
        if row is None:
            raise _not_there(name, version)
        return str(row[0])

    def _put(self, table: str, selected: str, values: tuple[str, ...], name: str, version: str) -> None:
        with self._opened() as con:
            # From the version's own row, so that nothing is ever said of a version that is not there.
            done = con.execute(
                f"INSERT OR REPLACE INTO {table} SELECT {selected} FROM model_versions "
                "WHERE workspace = ? AND name = ? AND version = ? AND current_stage <> 'Deleted_Internal'",
                (*values, _WORKSPACE, name, version),
            )
            if not done.rowcount:
                raise _not_there(name, version)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(_open(self._path)) as con, con:
                yield con
        except sqlite3.Error as error:
            raise ModelError(
                f"registry {self._path}", "can't be read or written", found=str(error), fix="End what else has the file open, and try again"
            ) from error


def has_known_tables(path: Path) -> bool:
    """Whether a file is MLflow's database, of a revision whose tables are known here."""
    if not path.is_file():
        return False
    try:
        with closing(_open(path)) as con:
            revisions = [revision for (revision,) in con.execute("SELECT version_num FROM alembic_version")]
            return len(revisions) == 1 and revisions[0] in KNOWN_REVISIONS
    except sqlite3.Error:
        # Not a database, or not MLflow's: its client says what is wrong with it.
        return False


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_WAIT_S)


def _not_there(name: str, version: str) -> ModelNotFound:
    return ModelNotFound(f"model {name}@{version}", "is not in the registry", fix=f"Show its versions: `lakehouse model history {name}`")
