"""One version of a Delta table, and the SELECT that reads exactly its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import duckdb
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from lakehouse.errors import TableError, TableNotFound
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables.damage import damaged_log, refuse_empty_commits
from lakehouse.tables.gone import check_there
from lakehouse.tables.names import TableName
from lakehouse.tables.sql import glob_escape
from lakehouse.tables.storage import Storage
from lakehouse.tables.types import TableColumn, columns_of

if TYPE_CHECKING:
    import pyarrow as pa

FILE_COLUMN = "__lakehouse_file"
_ROW_COLUMN = "file_row_number"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One data file of a version: its path in the log, its address, and what the log says of it."""

    path: str
    uri: str
    size: int
    rows: int | None
    partition: Mapping[str, str | None]
    facts: Mapping[str, Any]


class Snapshot:
    """One version of one table."""

    def __init__(self, table: TableName, uri: str, delta: DeltaTable) -> None:
        self.table = table
        self.uri = uri
        self.delta = delta
        self.version = delta.version()

    @classmethod
    def open(cls, storage: Storage, table: TableName, version: int | None = None, *, even_gone: bool = False) -> "Snapshot | None":
        """The newest version, or the given one; None if there is no such table.

        Raises:
            TableNotFound: the table exists, the version does not, or vacuum has removed it and it is not asked for `even_gone`.
        """
        uri = storage.address(table.layer, table.name)
        try:
            delta = DeltaTable(uri, storage_options=storage.options or None)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise damaged_log(storage, table, error) from error
        newest = cls(table, uri, delta)
        refuse_empty_commits(storage, table, newest.version, newest=newest.version)
        if version is None or version == newest.version:
            return newest
        # Asked for a version that is far off, delta-rs would search for minutes.
        if not 0 <= version < newest.version:
            raise _no_version(newest, version)
        if not even_gone:
            check_there(storage, newest, version)
        try:
            delta.load_as_version(version)
        except DeltaError as error:
            raise _no_version(newest, version) from error
        refuse_empty_commits(storage, table, version, newest=newest.version)
        return cls(table, uri, delta)

    @cached_property
    def columns(self) -> list[TableColumn]:
        """The columns in their order."""
        return columns_of(self.delta.schema())

    @cached_property
    def partition_by(self) -> tuple[str, ...]:
        """Names of the partition columns."""
        return tuple(self.delta.metadata().partition_columns)

    @cached_property
    def configuration(self) -> dict[str, str]:
        """Table properties."""
        return dict(self.delta.metadata().configuration)

    @cached_property
    def features(self) -> frozenset[str]:
        """Protocol features that a reader or writer must know."""
        protocol = self.delta.protocol()
        return frozenset([*(protocol.reader_features or []), *(protocol.writer_features or [])])

    def transaction(self, app_id: str) -> int | None:
        """The newest application transaction of `app_id`."""
        return self.delta.transaction_version(app_id)

    @cached_property
    def files(self) -> list[DataFile]:
        """The data files, with row counts, bounds and partition values as the log has them."""
        import pyarrow as pa

        # pa.table() of a foreign table would import pandas, which takes a second.
        actions = _as_dicts(pa.RecordBatchReader.from_stream(self.delta.get_add_actions(flatten=True)).read_all())
        return [
            DataFile(
                path=unquote(action["path"]),
                uri=self._address(action["path"]),
                size=action["size_bytes"],
                rows=action.get("num_records"),
                partition={name: partition_text(action.get(f"partition.{name}")) for name in self.partition_by},
                facts=action,
            )
            for action in actions
        ]

    def _address(self, path: str) -> str:
        return unquote(path).removeprefix("file://") if "://" in path or path.startswith("/") else f"{self.uri}/{unquote(path)}"

    def addresses(self) -> list[str]:
        """Addresses of the data files, as DuckDB reads them."""
        # file_uris() would give the root's own odd characters percent-encoded and the partitions' not.
        return [self._address(path) for path in self.delta.get_add_actions(flatten=True).column("path").to_pylist()]

    def scan_sql(self, con: duckdb.DuckDBPyConnection, *, files: Sequence[str] | None = None, with_file: bool = False) -> str:
        """A SELECT over exactly the files of this version, with the table's columns in their order.

        Args:
            con: asked which columns the files have, where files may lack some.
            files: only these of its files.
            with_file: adds the address of each row's file as FILE_COLUMN.

        Raises:
            TableError: the table uses column mapping.
        """
        if self.configuration.get("delta.columnMapping.mode", "none") != "none":
            raise TableError(str(self.table), "uses column mapping, which is not supported", fix="Rewrite it without column mapping")
        addresses = self.addresses() if files is None else list(files)
        file_column = [quote_identifier(FILE_COLUMN)] if with_file else []
        if not addresses:
            empty = [f"CAST(NULL AS {column.sql_type}) AS {quote_identifier(column.name)}" for column in self.columns]
            return f"SELECT {', '.join(empty + [f'CAST(NULL AS VARCHAR) AS {name}' for name in file_column])} WHERE false"
        dead = self._dead_rows() if "deletionVectors" in self.features else {}
        source = self._read_parquet(addresses, with_file=with_file or bool(dead), with_row=bool(dead))
        present = self._present(con, source)
        selected = [self._select(column, present) for column in self.columns]
        where = f" WHERE {' AND '.join(_alive(uri, rows) for uri, rows in dead.items())}" if dead else ""
        return f"SELECT {', '.join(selected + file_column)} FROM {source}{where}"

    def _read_parquet(self, addresses: Sequence[str], *, with_file: bool, with_row: bool) -> str:
        if self.partition_by and not all(f"/{name}=" in uri for uri in addresses for name in self.partition_by):
            raise TableError(str(self.table), "has partitions whose folders are not named column=value", fix="Rewrite it with overwrite")
        types = {column.name: column.sql_type for column in self.columns}
        options = [f"hive_partitioning={'true' if self.partition_by else 'false'}"]
        if self.partition_by:
            # hive_types takes only plain names of types: what has parameters is cast from text.
            pairs = [f"{quote_literal(name)}: {'VARCHAR' if '(' in types[name] else types[name]}" for name in self.partition_by]
            options.append(f"hive_types={{{', '.join(pairs)}}}")
        if with_file:
            options.append(f"filename={quote_literal(FILE_COLUMN)}")
        if with_row:
            options.append("file_row_number=true")
        if not self._is_uniform:
            options.append("union_by_name=true")
        paths = ", ".join(quote_literal(glob_escape(uri)) for uri in addresses)
        return f"read_parquet([{paths}], {', '.join(options)})"

    @property
    def _is_uniform(self) -> bool:
        """True if every file is known to have every column, so that one footer tells the types of all."""
        return all(column.is_everywhere for column in self.columns)

    def _present(self, con: duckdb.DuckDBPyConnection, source: str) -> set[str] | None:
        if self._is_uniform:
            return None
        return {str(row[0]).casefold() for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}

    @staticmethod
    def _select(column: TableColumn, present: set[str] | None) -> str:
        name = quote_identifier(column.name)
        value = name if present is None or column.key in present else "NULL"
        return f"CAST({value} AS {column.sql_type}) AS {name}"

    def _dead_rows(self) -> dict[str, list[int]]:
        """Row numbers that other engines have deleted without rewriting the file, by the file's address."""
        import pyarrow as pa

        vectors = pa.RecordBatchReader.from_stream(self.delta.deletion_vectors()).read_all().to_pylist()
        return {
            unquote(str(vector["filepath"])).removeprefix("file://"): [
                row for row, is_alive in enumerate(vector["selection_vector"]) if not is_alive
            ]
            for vector in vectors
        }

    def files_with_dead_rows(self) -> set[str]:
        """Addresses of files some of whose rows are deleted by deletion vectors."""
        return {uri for uri, rows in self._dead_rows().items() if rows} if "deletionVectors" in self.features else set()

    @property
    def has_dead_rows(self) -> bool:
        """True if some rows of its files are deleted by deletion vectors."""
        return "deletionVectors" in self.features and any(self._dead_rows().values())


def _no_version(newest: Snapshot, version: int) -> TableNotFound:
    return TableNotFound(
        str(newest.table),
        f"has no version {version}" if not 0 <= version <= newest.version else f"can't be read at version {version}: its log is gone",
        expected=f"one of the versions 0 to {newest.version}",
        found=str(version),
        fix=f"Look them up with: lakehouse history {newest.table}",
    )


def _alive(uri: str, rows: Sequence[int]) -> str:
    numbers = ", ".join(str(row) for row in rows)
    return f"NOT ({quote_identifier(FILE_COLUMN)} = {quote_literal(uri)} AND {_ROW_COLUMN} IN ({numbers or 'NULL'}))"


def partition_text(value: object) -> str | None:
    """A partition value as Delta's log and DuckDB's COPY write it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S" + (".%f" if value.microsecond else ""))
    return str(value)


def _as_dicts(table: "pa.Table") -> list[dict[str, Any]]:
    """The rows. Arrow would import pandas, which takes a second, to make an instant with a zone."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {}
    for field in table.schema:
        column = table.column(field.name)
        if pa.types.is_timestamp(field.type) and field.type.tz:
            naive = column.cast(pa.int64()).cast(pa.timestamp(field.type.unit)).to_pylist()
            columns[field.name] = [None if one is None else one.replace(tzinfo=UTC) for one in naive]
        else:
            columns[field.name] = column.to_pylist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
