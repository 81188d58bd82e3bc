"""A DuckDB session over tables pinned to exact versions."""

import hashlib
import importlib.resources
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import duckdb

from lakehouse.errors import MissingExtra
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables.damage import telling
from lakehouse.tables.names import TableName
from lakehouse.tables.snapshot import Snapshot
from lakehouse.tables.spill import own_folder
from lakehouse.tables.storage import Storage


def open_connection(*, memory_limit: str, threads: int | None, spill_dir: Path | None) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB in UTC that spills under `spill_dir`.

    Insertion order is not kept: a table has no order of rows, and writes are a sixth faster (files are written in row groups
    by several threads, which loses the order anyway). A query that needs an order says ORDER BY.

    DuckDB makes the folder when it first spills and removes it when it closes; each session has its own, because two processes
    in one folder would overwrite each other's files.
    """
    config: dict[str, str | bool | int | float | list[str]] = {"memory_limit": memory_limit, "preserve_insertion_order": False}
    if threads is not None:
        config["threads"] = threads
    if spill_dir is not None:
        config["temp_directory"] = str(own_folder(spill_dir) / uuid.uuid4().hex[:8])
    con = duckdb.connect(":memory:", config=config)
    prepare_connection(con)
    return con


def prepare_connection(con: duckdb.DuckDBPyConnection) -> None:
    """What every connection that reads or writes tables needs, whoever opened it."""
    con.execute("SET TimeZone = 'UTC'")
    # A table name in a query must never mean a variable of the program that runs it.
    con.execute("SET python_enable_replacements = false")
    con.execute("SET enable_progress_bar = false")
    # Data files never change, so their footers can be kept.
    con.execute("SET parquet_metadata_cache = true")


def reach_storage(con: duckdb.DuckDBPyConnection, storage: Storage) -> None:
    """Give the connection what it needs to read and write the root itself; nothing for a local folder.

    Raises:
        MissingExtra: the root is on S3 and DuckDB's httpfs can't be loaded.
    """
    if storage.is_local:
        return
    _load_httpfs(con)
    options = {name.upper(): value for name, value in storage.options.items()}
    endpoint = options.get("AWS_ENDPOINT_URL", "")
    parts = ["TYPE s3", f"REGION {quote_literal(options.get('AWS_REGION', 'us-east-1'))}", f"SCOPE {quote_literal(storage.root)}"]
    if "AWS_ACCESS_KEY_ID" in options:
        parts += [
            f"KEY_ID {quote_literal(options['AWS_ACCESS_KEY_ID'])}",
            f"SECRET {quote_literal(options.get('AWS_SECRET_ACCESS_KEY', ''))}",
        ]
    if options.get("AWS_SESSION_TOKEN"):
        parts.append(f"SESSION_TOKEN {quote_literal(options['AWS_SESSION_TOKEN'])}")
    if endpoint:
        is_plain = endpoint.startswith("http://")
        parts += [
            f"ENDPOINT {quote_literal(endpoint.split('://')[-1].rstrip('/'))}",
            f"USE_SSL {str(not is_plain).lower()}",
            "URL_STYLE 'path'",
        ]
    # Each root has its own: a connection may read tables here and their archive there.
    name = f"lakehouse_{hashlib.sha256(storage.root.encode()).hexdigest()[:16]}"
    con.execute(f"CREATE OR REPLACE SECRET {name} ({', '.join(parts)})")


def _load_httpfs(con: duckdb.DuckDBPyConnection) -> None:
    """From the wheel, which writes nothing into the user's home; else what the user has installed for DuckDB."""
    version = con.execute("SELECT library_version FROM pragma_version()").fetchall()[0][0]
    try:
        wheel = importlib.resources.files("duckdb_extension_httpfs") / "extensions" / version / "httpfs.duckdb_extension"
        is_there = wheel.is_file()
    except ModuleNotFoundError:
        wheel, is_there = None, False
    try:
        con.execute(f"LOAD {quote_literal(str(wheel)) if is_there else 'httpfs'}")
    except duckdb.Error as error:
        raise MissingExtra(
            "tables on S3", f"need DuckDB's httpfs extension: {error}", fix="Install it with: pip install 'lakehouse[s3]'"
        ) from error


class Session:
    """An in-memory DuckDB with a view `layer.name` per table, each over exactly the files of one version.

    Attributes:
        con: the connection; what it holds of its own ends with the session.
        versions: the version each view is pinned to, by `layer.name`.
    """

    def __init__(
        self, con: duckdb.DuckDBPyConnection, look_up: Callable[[TableName], Snapshot], content_of: Callable[[Snapshot], int]
    ) -> None:
        self.con = con
        self.versions: dict[str, int] = {}
        self._contents: dict[str, int] = {}
        self._look_up = look_up
        self._content_of = content_of

    def register(self, snapshot: Snapshot) -> int:
        """Make or replace the view of a table, over this version of it."""
        register_view(self.con, snapshot)
        self.versions[str(snapshot.table)] = snapshot.version
        self._contents[str(snapshot.table)] = self._content_of(snapshot)
        return snapshot.version

    def refresh(self, table: TableName | str) -> int:
        """Pin a table's view to its newest version, which is returned; registers the table if it is new here.

        Raises:
            TableNotFound: there is no such table.
        """
        return self.register(self._look_up(TableName.parse(table)))

    def inputs(self, *tables: TableName | str) -> Mapping[str, int]:
        """The versions of the given tables (of all, if none is given) as a Stamp wants them.

        They are those that last changed a row: what was made from a table need not be made again after it was compacted.
        """
        names = [str(TableName.parse(table)) for table in tables] or list(self._contents)
        return {name: self._contents[name] for name in names}

    def close(self) -> None:
        """Close the connection and remove what it spilled."""
        self.con.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@telling
def register_view(con: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Make or replace the view `layer.name` over the snapshot's files."""
    schema, name = quote_identifier(snapshot.table.layer), quote_identifier(snapshot.table.name)
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    con.execute(f"CREATE OR REPLACE VIEW {schema}.{name} AS {snapshot.scan_sql(con)}")
