"""Whether a replication slot can be read for a table, and tells all that happens to it; if not, the SQL that makes it so."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.errors import SourceError
from lakehouse.ingest.sources.postgres_reading import begun, refused, table_columns
from lakehouse.ingest.sources.postgres_slot import Slot
from lakehouse.ingest.sources.postgres_types import TableColumn

_OLDEST = 130_000
_SERVER = """
    SELECT current_setting('wal_level'), current_user::text, pg_is_in_recovery(), current_setting('server_version_num')::int,
           (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user)
           OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'MEMBER')),
           (SELECT system_identifier::text FROM pg_control_system()), current_database()::text
"""
_SLOT = """
    SELECT plugin::text, database::text, temporary, wal_status, (confirmed_flush_lsn - '0/0')::bigint, age(catalog_xmin)
    FROM pg_replication_slots WHERE slot_name = %s
"""
# Row filters and lists of columns are of version 15.
_PUBLICATION = """
    SELECT p.oid, r.oid, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, t.oid IS NOT NULL, t.listed ->> 'rowfilter',
           t.listed -> 'attnames', least(age(p.xmin), age(coalesce(r.xmin, p.xmin))), p.puballtables OR r.oid IS NOT NULL
    FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = %(table)s
    LEFT JOIN (
        SELECT c.oid, t.pubname, to_jsonb(t) AS listed FROM pg_publication_tables t
        JOIN pg_namespace n ON n.nspname = t.schemaname JOIN pg_class c ON c.relname = t.tablename AND c.relnamespace = n.oid
    ) t ON t.oid = %(table)s AND t.pubname = p.pubname
    WHERE p.pubname = %(name)s
"""
# A partitioned table's rows are in its partitions.
_PARTS = """
    SELECT c.oid::regclass::text, c.relreplident::text, c.reltoastrelid <> 0, ARRAY(
        SELECT a.attname::text FROM pg_index i JOIN pg_attribute a
        ON a.attrelid = i.indrelid AND array_position(i.indkey::int2[], a.attnum) < i.indnkeyatts
        WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
    )
    FROM pg_class c WHERE c.relkind = 'r' AND (c.oid = %(table)s OR c.oid IN (SELECT relid::oid FROM pg_partition_tree(%(table)s)))
    ORDER BY 1
"""
_ATTRIBUTES = """
    SELECT attname::text, attgenerated <> '', attlen = -1 AND attstorage <> 'p' FROM pg_attribute
    WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A slot that can be read for a table.

    Attributes:
        identity: what makes it another history when it changes.
        confirmed: what was committed before this place is not told any more.
        where: SQL that says which rows the publication tells of; None for all.
        columns: of the table, by name.
        is_published_before: the publication had the table when the slot was made.
    """

    identity: Mapping[str, Any]
    confirmed: int
    where: str | None
    columns: Mapping[str, TableColumn]
    is_published_before: bool

    @property
    def table(self) -> int:
        """The table's oid."""
        return int(self.identity["table"])


def prepared(
    slot: Slot, wanted: Callable[[Mapping[str, TableColumn]], Mapping[str, TableColumn]], key: Collection[str], *, again: str = ""
) -> Prepared:
    """Find out whether a slot tells all that happens to its table.

    Args:
        slot: it.
        wanted: given the table's columns, says which are to be read, by their names in the page.
        key: those of them that must be told of rows that are deleted.
        again: what to do where changes are lost.

    Raises:
        SourceError: it does not; the message has the SQL that an administrator is to run.
    """
    from psycopg import Error

    try:
        with slot.connection.transaction():
            return _Check(slot, again).run(wanted, key)
    except Error as error:
        raise refused(slot.source, error) from error


class _Check:
    """Collects all that is missing, and the SQL that brings it about, in the order in which it is to be run."""

    def __init__(self, slot: Slot, again: str) -> None:
        from psycopg import sql

        self._slot, self._source, self._again = slot, slot.source, again
        self._table = sql.Identifier(slot.source.schema, slot.source.table)
        self._publication = sql.Identifier(str(slot.source.publication))
        self._problems: list[str] = []
        self._fixes: list[str] = []
        self._is_lost = False

    def run(self, wanted: Callable[[Mapping[str, TableColumn]], Mapping[str, TableColumn]], key: Collection[str]) -> Prepared:
        source, connection = self._source, self._slot.connection
        oid, _ = begun(connection, source)
        columns = table_columns(connection, oid)
        chosen = wanted(columns)
        names, key = [column.name for column in chosen.values()], [chosen[name].name for name in key if name in chosen]
        server = self._row(_SERVER, ())
        self._server(server)
        self._identities(oid, names, key)
        publication = self._row(_PUBLICATION, {"table": oid, "name": source.publication})
        self._published(publication, names, key)
        slot = self._row(_SLOT, (source.slot,))
        self._made(slot, str(server[6]))
        if self._problems:
            then = f". {self._again}" if self._is_lost and self._again else ""
            raise SourceError(
                self._slot.name,
                f"can't be read for {source.name}: {', '.join(self._problems)}",
                fix=f"As an administrator of the database: {'; '.join(self._fixes)}{then}",
            )
        identity = {"server": str(server[5]), "table": oid, "publication": publication[0], "member": publication[1]}
        was_before = bool(publication[10]) and int(str(publication[9])) > int(str(slot[5] or 0))
        return Prepared(identity, int(str(slot[4])), str(publication[7]) if publication[7] else None, columns, was_before)

    def _server(self, server: tuple[Any, ...]) -> None:
        from psycopg import sql

        level, user, is_standby, version, may_replicate = server[:5]
        if version < _OLDEST:
            raise SourceError(
                f"server {self._source.address}", "is too old to be read by a slot", expected="PostgreSQL 13", found=str(version)
            )
        if is_standby:
            raise SourceError(f"server {self._source.address}", "is a standby", fix="Name the primary: slots are read there")
        if level != "logical":
            self._add(f"wal_level is {level}", "ALTER SYSTEM SET wal_level = 'logical' (and restart the server)")
        if not may_replicate:
            self._add("this user may not read slots", self._slot.sql("ALTER ROLE {} REPLICATION", sql.Identifier(str(user))))

    def _identities(self, oid: int, names: Collection[str], key: Collection[str]) -> None:
        parts = self._rows(_PARTS, {"table": oid})
        if not parts:
            raise SourceError(
                f"{self._source.name} of {self._source.address}", "is no table", fix="A view can't be read by a slot: leave it out"
            )
        attributes = self._rows(_ATTRIBUTES, (oid,))
        generated = [name for name, is_generated, _ in attributes if is_generated and name in names]
        if generated:
            what = f"{self._source.name} of {self._source.address}"
            found = ", ".join(generated)
            raise SourceError(
                what, "has columns that a slot does not tell: the server computes them", found=found, fix="Take them out of the contract"
            )
        long = {name for name, _, is_long in attributes if is_long and name in names}
        for part, way, has_long_values, identifies in parts:
            if way == "f":
                continue
            problem = ""
            if not identifies:
                problem = f"{part} has nothing that identifies a row, and its updates and deletes fail"
            elif missing := [name for name in key if name not in identifies]:
                problem = f"deletes of {part} don't tell {', '.join(missing)}"
            elif has_long_values and (unsent := sorted(long - set(identifies))):
                problem = f"updates of {part} don't tell long values that stay as they are, of {', '.join(unsent)}"
            if problem:
                # regclass has quoted it already.
                self._add(problem, f"ALTER TABLE {part} REPLICA IDENTITY FULL")

    def _published(self, publication: tuple[Any, ...], names: Collection[str], key: Collection[str]) -> None:
        slot, source = self._slot, self._source
        if not publication:
            self._add(
                f"there is no publication {source.publication}",
                slot.sql("CREATE PUBLICATION {} FOR TABLE {}", self._publication, self._table),
            )
            return
        needed = {
            "insert": publication[2],
            "update": publication[3],
            "delete": publication[4] or not key,
            "truncate": publication[5] or not key,
        }
        if left_out := [name for name, is_there in needed.items() if not is_there]:
            every = "SET (publish = 'insert, update, delete, truncate')"
            self._add(
                f"publication {source.publication} does not tell {', '.join(left_out)}",
                slot.sql(f"ALTER PUBLICATION {{}} {every}", self._publication),
            )
        if not publication[6]:
            # It has the table, and tells of its partitions under their own names.
            change = "SET (publish_via_partition_root = true)" if publication[1] is not None or publication[10] else "ADD TABLE {}"
            parts = (self._publication, self._table) if "{}" in change else (self._publication,)
            self._add(f"publication {source.publication} does not have the table", slot.sql(f"ALTER PUBLICATION {{}} {change}", *parts))
        elif isinstance(publication[8], list) and (missing := [name for name in names if name not in publication[8]]):
            self._add(
                f"publication {source.publication} leaves out {', '.join(missing)}",
                slot.sql("ALTER PUBLICATION {} DROP TABLE {}; ALTER PUBLICATION {} ADD TABLE {}", *(self._publication, self._table) * 2),
            )

    def _made(self, found: tuple[Any, ...], database: str) -> None:
        slot, source = self._slot, self._source
        if not found:
            self._is_lost = True
            self._add(f"there is no slot {source.slot}", slot.making())
            return
        plugin, of_database, is_temporary, status, confirmed, _ = found
        if plugin != "pgoutput" or of_database != database or is_temporary:
            kind = f"{'temporary, ' if is_temporary else ''}{plugin or 'physical'}, of {of_database or 'no database'}"
            self._add(f"slot {source.slot} is of another kind ({kind})", slot.made_anew())
        elif status == "lost" or confirmed is None:
            self._is_lost = True
            self._add(f"slot {source.slot} has lost changes: the server has removed its log", slot.made_anew())

    def _add(self, problem: str, fix: str) -> None:
        self._problems.append(problem)
        self._fixes.append(fix)

    def _row(self, query: str, values: Any) -> tuple[Any, ...]:
        rows = self._rows(query, values)
        return rows[0] if rows else ()

    def _rows(self, query: str, values: Any) -> list[tuple[Any, ...]]:
        return self._slot.connection.execute(query, values).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue]
