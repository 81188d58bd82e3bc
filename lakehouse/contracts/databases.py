"""The databases among a contract's `servers`: which table of which one a dataset's rows are fetched from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.contracts.objects import Column
from lakehouse.contracts.references import Blame, Place
from lakehouse.contracts.schedules import EXPECTED, is_cron
from lakehouse.contracts.servers import check_apart, is_port, servers_of, text_of

_TYPES = frozenset({"postgres", "postgresql"})
_SECRETS = "Passwords are no part of a contract: LAKEHOUSE_POSTGRES_PASSWORD or ~/.pgpass"
_KNOWN = ("table", "watermark", "overlap", "slot", "publication", "deletedAs", "positionAs", "user", "sslmode", "schedule")
# PostgreSQL's rule for the names of slots.
_SLOT = re.compile(r"^[a-z0-9_]{1,63}$")


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table, or a view, of a PostgreSQL database.

    Attributes:
        server: as the contract calls it.
        environment: the only one in which it is read; None is any for which there is no other.
        user: who reads it; None leaves it to the settings and to libpq.
        sslmode: libpq's; None leaves it to libpq.
        watermark: the contract's column that grows with every change of a row; without it and a slot whole snapshots are compared.
        overlap: how far behind the newest watermark a later look begins, in seconds or, of whole numbers, in their unit.
        deleted_as: the contract's column that is true for a row that is gone; None tells how many there are and adds no row.
        schedule: cron, in UTC, of looks at it; None leaves it to the settings.
        slot: the replication slot, this table's own, that changes are read from; None reads the table.
        publication: which says what the slot tells.
        position_as: the contract's column for where in the server's log a change was committed.
    """

    server: str
    host: str
    port: int
    database: str
    schema: str
    table: str
    environment: str | None = None
    user: str | None = None
    sslmode: str | None = None
    watermark: str | None = None
    overlap: float | None = None
    deleted_as: str | None = None
    schedule: str | None = None
    slot: str | None = None
    publication: str | None = None
    position_as: str | None = None

    @property
    def address(self) -> str:
        """For people: `server: host:port/database`."""
        return f"{self.server}: {self.host}:{self.port}/{self.database}"

    @property
    def name(self) -> str:
        """For people: `schema.table`."""
        return f"{self.schema}.{self.table}"

    @property
    def slug(self) -> str:
        """As a part of the names of its state and pages: another table or server of the contract has another."""
        return re.sub(r"[^A-Za-z0-9_-]+", "_", f"{self.server}__{self.database}__{self.schema}__{self.table}")[:100]


def source_tables(
    parsed: Mapping[str, Any], schema: Mapping[str, Any], columns: Mapping[str, Column], *, blame: Blame
) -> tuple[SourceTable, ...]:
    """Every table of a database that the contract names as a source.

    Raises:
        ContractError: a property is not known, names no column, or has a value that it can't take.
    """
    found: list[SourceTable] = []
    for place, server, custom in servers_of(parsed, _TYPES, known=_KNOWN, secrets=_SECRETS, blame=blame):
        named = {name: text_of(custom, name) for name in ("watermark", "deletedAs", "positionAs")}
        for label, name in named.items():
            if name is not None and name not in columns:
                raise blame(place, f"{label} names no column", expected=f"one of {', '.join(columns)}", found=name)
        if not is_port(server["port"]):
            fix = "Write the port that the database listens on, usually 5432"
            raise blame((*place, "port"), "can't be a port", expected="a number from 1 to 65535", found=str(server["port"]), fix=fix)
        found.append(
            SourceTable(
                server=str(server["server"]),
                host=str(server["host"]),
                port=int(server["port"]),
                database=str(server["database"]),
                schema=str(server["schema"]),
                table=str(custom.get("table") or schema.get("physicalName") or schema["name"]),
                environment=text_of(server, "environment"),
                user=text_of(custom, "user"),
                sslmode=text_of(custom, "sslmode"),
                watermark=named["watermark"],
                overlap=_overlap(custom.get("overlap"), place, blame),
                deleted_as=named["deletedAs"],
                schedule=cron_of(custom.get("schedule"), place, blame),
                slot=text_of(custom, "slot"),
                publication=text_of(custom, "publication"),
                position_as=named["positionAs"],
            )
        )
        _check_slot(found[-1], columns, place, blame)
        _check_deleted(found[-1], columns, place, blame)
        if found[-1].overlap is not None and found[-1].watermark is None:
            fix = "Name the column that grows in lakehouse.watermark, or leave lakehouse.overlap out"
            raise blame(place, "has an overlap and no watermark", found=f"{found[-1].overlap:g}", fix=fix)
        check_apart(found[-1], found[:-1], place=place, blame=blame)
    return tuple(found)


def _check_deleted(table: SourceTable, columns: Mapping[str, Column], place: Place, blame: Blame) -> None:
    name = table.deleted_as
    if name is None:
        return
    if table.watermark is not None:
        raise blame(place, "can't tell by a watermark which rows are gone", found=f"watermark and deletedAs: {name}", fix="Leave one out")
    if columns[name].sql_type != "BOOLEAN":
        raise blame(place, "deletedAs names no boolean", expected="a column of logicalType boolean", found=columns[name].sql_type)
    if not any(column.primary_key for column in columns.values()):
        raise blame(
            place, "can't say which rows are gone", expected="a primaryKey", found="none", fix="Mark the columns that tell rows apart"
        )
    needed = [column.name for column in columns.values() if column.required and not column.primary_key and column.name != name]
    if needed:
        raise blame(
            place, "has rows that are gone and required columns", expected="required columns of the key alone", found=", ".join(needed)
        )


def _check_slot(table: SourceTable, columns: Mapping[str, Column], place: Place, blame: Blame) -> None:
    if table.slot is None:
        alone = {"publication": table.publication, "positionAs": table.position_as}
        for label, name in alone.items():
            if name is not None:
                raise blame(place, f"has {label} and no slot", found=name, fix="Name the replication slot in lakehouse.slot")
        return
    if not _SLOT.match(table.slot):
        raise blame(place, "slot can't be the name of one", expected="at most 63 lower-case letters, digits and _", found=table.slot)
    if table.publication is None:
        raise blame(place, "has a slot and no publication", found=table.slot, fix="Name the publication in lakehouse.publication")
    if table.watermark is not None or table.overlap is not None:
        raise blame(
            place, "can be read by a slot or by a watermark", found=f"slot {table.slot} and watermark or overlap", fix="Leave one out"
        )
    position = table.position_as
    if position is not None and columns[position].sql_type != "BIGINT":
        raise blame(place, "positionAs names no whole number", expected="a column of BIGINT", found=columns[position].sql_type)


def _overlap(value: Any, place: Place, blame: Blame) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise blame(place, "overlap is no number", expected="seconds, or for whole numbers their unit, from 0", found=str(value))
    return float(value)


def cron_of(value: Any, place: Place, blame: Blame) -> str | None:
    """When a server is looked at, as its contract says.

    Raises:
        ContractError: it is no cron expression.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not is_cron(value):
        raise blame(place, "has a schedule that can't be understood", expected=EXPECTED, found=str(value))
    return value
