"""The columns of a source table that a contract asks for."""

from collections.abc import Mapping
from contextlib import suppress

from lakehouse.contracts import Column, DatasetContract
from lakehouse.contracts.databases import SourceTable
from lakehouse.errors import SourceError
from lakehouse.ingest.sources.postgres_types import TableColumn


def wanted_columns(contract: DatasetContract, source: SourceTable, found: Mapping[str, TableColumn]) -> dict[str, TableColumn]:
    """The contract's columns as the table has them, by their names in the page.

    Raises:
        SourceError: the table lacks one, this user may not read one, or one is of a type that can't be kept.
    """
    where = f"table {source.name} of {source.address}"
    missing, forbidden, strange = [], [], []
    columns: dict[str, TableColumn] = {}
    for column in contract.columns:
        if column.name in {source.deleted_as, source.position_as}:
            continue
        name = name_in(column, found)
        if name is None:
            if not column.may_be_missing:
                missing.append(column.source)
        elif not found[name].is_readable:
            forbidden.append(name)
        elif found[name].kept is None:
            strange.append(f"{name} {found[name].declared}")
        else:
            columns[column.source] = found[name]
    if missing:
        fix = "Correct physicalName, or mark the column with lakehouse.mayBeMissing"
        raise SourceError(where, f"has no column {', '.join(missing)}", expected="the contract's columns", found=", ".join(found), fix=fix)
    if forbidden:
        fix = f"GRANT SELECT ({', '.join(forbidden)}) ON {source.name} to this user, or take it out of the contract"
        raise SourceError(where, f"has columns that this user may not read: {', '.join(forbidden)}", fix=fix)
    if strange:
        fix = "Make a view that casts it to text or numbers, and name the view in lakehouse.table"
        raise SourceError(where, "has a type that can't be kept", found=", ".join(strange), fix=fix)
    if not columns:
        raise SourceError(where, "has none of the contract's columns", found=", ".join(found))
    return columns


def name_in(column: Column, found: Mapping[str, TableColumn]) -> str | None:
    """The column's name in the table: PostgreSQL's own first, else one that differs in case alone."""
    for name in (column.source, *column.also_called):
        if name in found:
            return name
        with suppress(StopIteration):
            return next(one for one in found if one.lower() == name.lower())
    return None
