"""The dbt-duckdb plugin: dbt reads and writes Delta tables through `lakehouse.tables`, and nothing else.

A dbt process has a DuckDB in memory. Tables are views in it, each over exactly the files of one version, so that every
model of a run that reads a table reads the same version of it. The macros in dbt/macros/lakehouse call `store`, the
one method of a plugin that Jinja can reach; `request` is a dict that carries the answer back.
"""

import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import TargetConfig
from dbt_common.exceptions import DbtDatabaseError, DbtRuntimeError

from lakehouse.contracts import Contracts, load_contracts
from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ConcurrentWrite, LakehouseError, SettingsError, TableNotFound
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier
from lakehouse.tables import RESTORED, ROWS_REMOVED, Commit, Lake, Stamp, TableName
from lakehouse.tables.damage import explained as told_by_files
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.session import register_view
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.spill import own_folder
from lakehouse.transform.codes import BuildCodes, definition_in, is_build, mixed
from lakehouse.transform.definitions import Definitions, digest_of
from lakehouse.transform.increments import changes_since_built
from lakehouse.transform.sources import PROVENANCE, raw_columns
from lakehouse.transform.strategies import fitting_columns, write_of

# These commands run the on-run-start hook, which registers what their selection needs; any other (show, compile, docs)
# finds every table.
_HOOKED_COMMANDS = frozenset({"build", "run", "test", "seed", "snapshot"})
# A run of the lakehouse names itself here; a dbt command typed by hand does not.
RUN_VARIABLE = "LAKEHOUSE_RUN_ID"

_Request = dict[str, Any]


class Plugin(BasePlugin):
    """Tables as views when dbt connects or starts; commits when it materializes."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Find the lake from the settings of this process."""
        try:
            settings = Settings.load()
            _check_same_home(settings, plugin_config.get("exported_home", "data"))
        except LakehouseError as error:
            # The one kind of error that dbt tells in one line while it connects.
            raise DbtRuntimeError(str(error)) from error
        self._settings = settings
        self._lake = Lake.from_settings(settings)
        self._versions: dict[TableName, int] = {}
        self._restored: dict[TableName, int | str | None] = {}
        self._lock = threading.RLock()
        self._contracts: Contracts | None = None
        self._codes = BuildCodes(self._lake)
        self._definitions: Definitions | None = None
        # Of this run, by node: what is wanted must not change between rendering a model's SQL and writing its table.
        self._wanted: dict[str, str] = {}
        self._outdated: dict[str, bool] = {}
        self._con: duckdb.DuckDBPyConnection | None = None
        self._borrowed = False

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Limits from the settings; and undo what dagster-dbt does to count rows: it makes ':memory:' a read-only file."""
        config.update(memory_limit=self._settings.memory_limit, threads=self._settings.threads, preserve_insertion_order=False)
        config["temp_directory"] = str(own_folder(self._settings.spill_dir) / uuid.uuid4().hex[:8])
        if Path(creds.path).name == ":memory:" and creds.path != ":memory:":
            creds.path = ":memory:"
            config.pop("access_mode", None)
            self._borrowed = True

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Give dbt's connection the lake's limits and storage, and every table if no hook will register the needed ones."""
        self._con = conn
        self._lake.configure(conn)
        if self._borrowed or _command() not in _HOOKED_COMMANDS:
            self._register_all(conn, self._lake.tables())

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """The time zone belongs to a session, and each cursor is one."""
        cursor.execute("SET TimeZone = 'UTC'")

    def store(self, target_config: TargetConfig) -> None:
        """Run one operation that a macro asked for; what goes wrong reaches the user as one line."""
        if self._con is None or target_config.location is None:
            raise DbtRuntimeError("lakehouse: dbt asked for a table before it connected")
        operations: dict[str, Callable[[duckdb.DuckDBPyConnection, TargetConfig], None]] = {
            "register": self._op_register,
            "register_all": self._op_register_all,
            "as_of": self._op_as_of,
            "changes": self._op_changes,
            "contract": self._op_contract,
            "plan": self._op_plan,
            "compare": self._op_compare,
            "write": self._op_write,
        }
        cursor = self._con.cursor()
        try:
            cursor.execute("SET TimeZone = 'UTC'")
            self._lake.erasures.follow(cursor, self._con)
            operations[target_config.location.format](cursor, target_config)
        except LakehouseError as error:
            raise DbtRuntimeError(str(error)) from error
        except duckdb.Error as error:
            better = told_by_files(error)
            raise (DbtDatabaseError(str(error)) if better is None else DbtRuntimeError(str(better))) from error
        finally:
            cursor.close()

    # Registration

    def _op_register(self, con: duckdb.DuckDBPyConnection, target: TargetConfig) -> None:
        target.config["version"] = self._register(con, _table_of(target))

    def _op_register_all(self, con: duckdb.DuckDBPyConnection, target: TargetConfig) -> None:
        names = {TableName(layer, name) for layer, name in target.config["names"]}
        # A process may run dbt more than once: each run reads what is newest when it begins.
        with self._lock:
            self._versions.clear()
            self._wanted.clear()
            self._outdated.clear()
            if self._con is not None:
                self._lake.erasures.begin(self._con, again=True)
                self._lake.erasures.follow(con, self._con)
        target.config["registered"] = [[table.layer, table.name] for table in self._register_all(con, names)]

    def _register_all(self, con: duckdb.DuckDBPyConnection, tables: Iterable[TableName]) -> list[TableName]:
        """Views over the newest versions; returns the tables that have one now."""
        wanted = sorted(set(tables))
        with ThreadPoolExecutor(8) as pool:
            newest = dict(zip(wanted, pool.map(self._lake.version, wanted), strict=True))
        found = []
        for table, version in newest.items():
            if version is not None:
                self._view(con, table, version)
                found.append(table)
            elif self._empty_view(con, table):
                found.append(table)
        return found

    def _register(self, con: duckdb.DuckDBPyConnection, table: TableName) -> int | None:
        """The version that this run reads the table at; None if there is no such table."""
        with self._lock:
            if table in self._versions:
                return self._versions[table]
        version = self._lake.version(table)
        if version is not None:
            self._view(con, table, version)
        return version

    def _view(self, con: duckdb.DuckDBPyConnection, table: TableName, version: int) -> None:
        snapshot = self._lake.snapshot(table, version)
        present = {column.name.casefold() for column in snapshot.columns}
        missing = [column for name, column in self._contract_columns(table).items() if name.casefold() not in present]
        # DuckDB refuses two catalogue changes at once instead of queueing them.
        with self._lock:
            register_view(con, snapshot)
            if missing:
                # The contract has got columns since the last batch arrived: models may name them already.
                self._make_view(con, table, f"SELECT *, {', '.join(missing)} FROM ({snapshot.scan_sql(con)})")
            self._versions[table] = version
            self._restored[table] = _lost_rows(snapshot)

    def _empty_view(self, con: duckdb.DuckDBPyConnection, table: TableName) -> bool:
        """Let models be built over a dataset that has no data yet: its contract says what columns it will have."""
        columns = self._contract_columns(table)
        if not columns:
            return False
        with self._lock:
            self._make_view(con, table, f"SELECT {', '.join(columns.values())} WHERE false")
        return True

    @staticmethod
    def _make_view(con: duckdb.DuckDBPyConnection, table: TableName, sql: str) -> None:
        schema, name = quote_identifier(table.layer), quote_identifier(table.name)
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        con.execute(f"CREATE OR REPLACE VIEW {schema}.{name} AS {sql}")

    def _contract_columns(self, table: TableName) -> dict[str, str]:
        """The columns that a contract gives a raw table, each as a NULL of its type; none for any other table."""
        contract = self._known_contracts().datasets.get(table.name) if table.layer == "raw" else None
        if contract is None:
            return {}
        return {name: f"CAST(NULL AS {kind}) AS {quote_identifier(name)}" for name, kind in raw_columns(contract).items()}

    def _known_contracts(self) -> Contracts:
        with self._lock:
            if self._contracts is None:
                self._contracts = load_contracts(self._settings)
            return self._contracts

    def _op_contract(self, con: duckdb.DuckDBPyConnection, target: TargetConfig) -> None:
        """What the staging macro builds a dataset's SQL from."""
        del con
        contract = self._known_contracts().dataset(_table_of(target).name)
        own = [name for name in raw_columns(contract) if name not in PROVENANCE]
        target.config["columns"] = [{"name": name, "text": raw_columns(contract)[name] == "VARCHAR"} for name in own]
        target.config["provenance"] = list(PROVENANCE)
        target.config["primary_key"] = list(contract.primary_key)
        target.config["event_timestamp"] = contract.event_timestamp

    def _op_as_of(self, con: duckdb.DuckDBPyConnection, target: TargetConfig) -> None:
        table, version = _table_of(target), target.config["version"]
        if isinstance(version, str):
            instant = datetime.fromisoformat(version)
            version = self._lake.version_at(table, instant if instant.tzinfo else instant.replace(tzinfo=UTC))
        target.config["sql"] = self._lake.scan_sql(table, version=int(version), con=con)

    def _op_changes(self, con: duckdb.DuckDBPyConnection, target: TargetConfig) -> None:
        model, source = _table_of(target), TableName(*target.config["source"])
        until, built = self._register(con, source), self._register(con, model)
        target.config["sql"] = changes_since_built(self._lake, con, source, until, model=model, built=built)

    # Definitions

    def _op_plan(self, con: duckdb.DuckDBPyConnection, target: TargetConfig) -> None:
        """Whether a model's table exists, and whether a run has to make it anew because another definition made its rows."""
        table, request = _table_of(target), target.config
        version, node = self._register(con, table), str(request["node"])
        request["version"] = version
        if node not in self._outdated:
            may_rebuild = bool(request["may_rebuild"]) and _is_run()
            self._outdated[node] = version is not None and may_rebuild and self._codes.at(table, version) != self._definition(node)
        request["is_outdated"] = self._outdated[node]

    def _definition(self, node: str) -> str:
        """The model's definition with those of the versions that it reads."""
        if node not in self._wanted:
            own = self._project().of(node)
            read = {str(table): self._versions[table] for table in own.parents if table in self._versions}
            above = {table: definition_in(self._codes.at(TableName.parse(table), version)) for table, version in read.items()}
            # Rows that a restore took away are still in what was made of them before: an increment would not find out.
            tables = (*own.parents, *own.sources)
            restored = {str(table): mark for table in tables if (mark := self._restored.get(table)) is not None}
            self._wanted[node] = digest_of(own.digest, above, restored) if restored else digest_of(own.digest, above)
        return self._wanted[node]

    def _project(self) -> Definitions:
        from dbt.adapters.factory import get_adapter_by_type

        with self._lock:
            if self._definitions is None:
                adapter: Any = get_adapter_by_type("duckdb")
                self._definitions = Definitions(adapter.get_macro_resolver(), self._known_contracts(), partial(_variable, adapter.config))
            return self._definitions

    def _wanted_code(self, request: _Request) -> str:
        """What the stamp of a build says that it was built by."""
        if request["resource_type"] == "model":
            definition = self._definition(request["node"])
            return definition if request["is_incremental"] else f"{definition}.{digest_of(request['code'])}"
        digest = hashlib.sha256(request["code"].encode())
        if "code_file" in request:
            digest.update(Path(request["code_file"]).read_bytes())
        digest.update(repr((request["partition_by"], request["unique_key"])).encode())
        return digest.hexdigest()

    def _is_mixing(self, table: TableName, request: _Request, version: int | None) -> bool:
        """Whether this build leaves rows in the table that another definition made.

        Raises:
            ConcurrentWrite: it would in a run, which found the table to be of its own definition a moment ago.
        """
        if version is None or request["strategy"] == "overwrite" or request["resource_type"] != "model" or not request["may_rebuild"]:
            return False
        if self._codes.at(table, version) == self._wanted_code(request):
            return False
        if _is_run():
            raise ConcurrentWrite(
                str(table),
                "was built by another definition of its model while this run built it; nothing was written",
                fix="Run again, with one state of the project in all processes",
            )
        return True

    # Writing

    def _op_compare(self, con: duckdb.DuckDBPyConnection, target: TargetConfig) -> None:
        """Whether the table's newest commit was made by this code from these versions."""
        table, request = _table_of(target), target.config
        request["current"] = False
        # Who types `dbt build` asks for a build, as anywhere; a run of the lakehouse asks for the tables to be current.
        if not _is_run() or request["full_refresh"] or request["always_build"]:
            return
        version = self._lake.version(table)
        made = None if version is None else self._lake.content_commit(table, version)
        if version is None or made is None or not is_build(made):
            return
        stamp, wanted = made.stamp, self._stamp(table, request)
        if stamp and stamp.code == wanted.code and dict(stamp.inputs) == dict(wanted.inputs):
            self._view(con, table, version)
            request["current"] = True
            self._tell_unchanged(request, version)

    def _op_write(self, con: duckdb.DuckDBPyConnection, target: TargetConfig) -> None:
        table, request = _table_of(target), target.config
        self._check_inputs(table, request)
        sql = target.location.path if target.location else ""
        commit = self._commit_on_newest(con, table, sql, request)
        if commit is None or commit.skipped:
            self._tell_unchanged(request, self._versions[table] if commit is None else commit.version)
            return
        reached(Point.MODEL_COMMITTED)
        self._view(con, table, commit.version)
        self._codes.remember(table, commit.version, self._stamp(table, request).code)
        request.update(outcome=f"written {commit.version}", rows=commit.rows, message=f"{commit.rows} rows, version {commit.version}")

    def _commit_on_newest(self, con: duckdb.DuckDBPyConnection, table: TableName, sql: str, request: _Request) -> Commit | None:
        """The commit; None if another process has made it meanwhile."""
        attempt = 1
        while True:
            expected = self._register(con, table)
            request["is_mixed"] = self._is_mixing(table, request, expected)
            try:
                return self._commit(con, table, sql, request, expect_version=-1 if expected is None else expected)
            except ConcurrentWrite:
                newest = self._lake.version(table)
                if newest is None:
                    raise
                wait_after_conflict(table, attempt)
                newest = self._lake.version(table) or newest
                # The statement may read the table itself through its view: see what the other writer left, then ask again.
                self._view(con, table, newest)
                if self._is_superseded(table, request):
                    return None
                attempt += 1

    def _commit(self, con: duckdb.DuckDBPyConnection, table: TableName, sql: str, request: _Request, *, expect_version: int) -> Commit:
        stamp = self._stamp(table, request)
        if request["strategy"] == "overwrite":
            partition_by = tuple(request["partition_by"])
            return self._lake.overwrite(con, table, sql, stamp=stamp, partition_by=partition_by, expect_version=expect_version)
        sql, evolve = fitting_columns(self._lake, con, table, sql, request)
        return write_of(self._lake, request)(con, table, sql, stamp=stamp, evolve=evolve, expect_version=expect_version)

    def _is_superseded(self, table: TableName, request: _Request) -> bool:
        """Whether another process has just built the same from the same or newer inputs: then there is nothing left to do."""
        if request["full_refresh"] or request["always_build"]:
            return False
        newest = self._lake.content_commit(table)
        if newest is None:
            return False
        theirs, mine = newest.stamp, self._stamp(table, request)
        if theirs is None or not is_build(newest) or theirs.code != mine.code or set(theirs.inputs) != set(mine.inputs):
            return False
        return all(theirs.inputs[name] >= version for name, version in mine.inputs.items())

    @staticmethod
    def _tell_unchanged(request: _Request, version: int) -> None:
        request.update(outcome=f"unchanged {version}", rows=0, message=f"unchanged at version {version}")

    def _stamp(self, table: TableName, request: _Request) -> Stamp:
        inputs = {TableName(layer, name) for layer, name in request["inputs"]} - {table}
        code = self._wanted_code(request)
        return Stamp(
            asset=str(table),
            run=os.environ.get(RUN_VARIABLE) or request["invocation_id"],
            inputs={str(name): self._content_version(name) for name in sorted(inputs) if name in self._versions},
            code=mixed(code) if request.get("is_mixed") else code,
        )

    def _content_version(self, table: TableName) -> int:
        """What this run has read of a table, named so that its maintenance makes nothing new of it."""
        version = self._versions[table]
        found = self._lake.content_version(table, version)
        return version if found is None else found

    def _check_inputs(self, table: TableName, request: _Request) -> None:
        """Say which table is missing, before DuckDB says that some view is."""
        for layer, name in request["inputs"]:
            upstream = TableName(layer, name)
            if upstream == table or upstream in self._versions:
                continue
            if upstream.layer == "raw" and upstream.name in self._known_contracts().datasets:
                continue
            raise TableNotFound(
                str(upstream),
                f"does not exist, and {table} is made from it",
                fix=f"Build it too: dbt build --select +{request['node'].split('.')[-1]}",
            )


def _table_of(target: TargetConfig) -> TableName:
    return TableName(str(target.relation.schema), str(target.relation.identifier))


def _lost_rows(snapshot: Snapshot) -> int | str | None:
    """What tells a table that has lost rows from the one that it was; None for one that never did."""
    restored, removed = snapshot.transaction(RESTORED), snapshot.transaction(ROWS_REMOVED)
    return restored if removed is None else f"{restored}.{removed}"


def _is_run() -> bool:
    return RUN_VARIABLE in os.environ


def _variable(config: Any, node: Any, name: str) -> Any:
    """What `var(name)` gives a node."""
    from dbt.context.providers import ModelConfiguredVar

    variables: Any = ModelConfiguredVar({}, config, node)
    return variables(name, "")


def _command() -> str:
    """The dbt command that this process runs; empty where dbt is used as a library."""
    from dbt.flags import get_flags

    return str(getattr(get_flags(), "WHICH", ""))


def _check_same_home(settings: Settings, exported: str) -> None:
    """dbt_project.yml sees the environment but not .env: both must name one home.

    Raises:
        SettingsError: they don't, so generated models and tables would come from two homes.
    """
    seen_by_dbt = (settings.project / exported).resolve()
    if seen_by_dbt != settings.home_dir:
        raise SettingsError(
            "LAKEHOUSE_HOME",
            "is set in .env, which dbt itself does not read",
            expected=str(settings.home_dir),
            found=str(seen_by_dbt),
            fix=f"Run dbt with LAKEHOUSE_HOME={settings.home_dir} in its environment, or use `lakehouse run`",
        )
