"""Quarantined rows as a file that a person can correct, and what they changed when it comes back.

Each row carries its identity (`lakehouse_file`, `lakehouse_sha256`, `lakehouse_row`), its reasons, and its columns under the names that
the file gave them. A line that was no row is in `lakehouse_line`: correct it there, or fill in its columns. Protected values are written
as they are stored; one that is left alone is taken from the archived original when the row is judged again.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import duckdb

from lakehouse.contracts import Column, DatasetContract
from lakehouse.errors import FileRefused, SourceError
from lakehouse.ingest.readers import StagedFile, sniff, stage
from lakehouse.ingest.waiting import IS_LINE, Selection, current_rows_sql, pointer
from lakehouse.privacy import Key, install, protect_sql
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake

EDITS_TABLE = "__edits"
"""What was changed: _sha256, _row, patch (new values by column), line, before and after (for the history), kept (protected values)."""
FILE, DIGEST, ROW, RULES, REASONS, LINE = (f"lakehouse_{name}" for name in ("file", "sha256", "row", "rules", "reasons", "line"))
_IDENTITY = (FILE, DIGEST, ROW, RULES, REASONS, LINE)
_FORMATS = {".csv": "FORMAT csv, HEADER true", ".ndjson": "FORMAT json", ".jsonl": "FORMAT json"}
_STAGED = "__edited"
_SHOWN = 3


def export_rows(lake: Lake, contract: DatasetContract, *, selection: Selection, to: Path) -> int:
    """Write quarantined rows to a CSV or NDJSON file for correction; returns their number, and writes nothing if there is none.

    Raises:
        SourceError: the file is there already, can't be written, or its ending says another format.
    """
    if to.suffix.lower() not in _FORMATS:
        raise SourceError(str(to), "can't hold rows for editing", expected=" or ".join(_FORMATS), found=to.suffix or "no ending")
    if to.exists():
        raise SourceError(str(to), "is there already, perhaps with corrections in it", fix="Name another file, or remove it")
    if not to.parent.is_dir():
        raise SourceError(str(to), "is in a folder that does not exist", found=str(to.parent), fix="Make the folder, or name another file")
    if not lake.exists(contract.quarantine):
        return 0
    con = lake.open_connection()
    draft = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    try:
        con.execute(
            f"CREATE TEMP TABLE {_STAGED} AS SELECT *, {IS_LINE} AS __is_line FROM ({current_rows_sql(lake, contract.name, con=con)}) "
            f"WHERE {selection.condition}"
        )
        names = _record_names(con, contract, _STAGED)
        columns = ", ".join(f"__values[{number}] AS {quote_identifier(name)}" for number, name in enumerate(names, start=1))
        paths = ", ".join(quote_literal(pointer(name)) for name in names)
        record = f"CASE WHEN __is_line THEN NULL ELSE json_extract_string(record, [{paths}]::VARCHAR[]) END AS __values"
        # Readable by this user alone from its first byte on.
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        made = con.execute(
            f"COPY (SELECT {FILE}, {DIGEST}, {ROW}, {RULES}, {REASONS}, {columns + ', ' if names else ''}{LINE} FROM ("
            f"SELECT _file AS {FILE}, _sha256 AS {DIGEST}, _row AS {ROW}, array_to_string(rules, ', ') AS {RULES}, "
            f"array_to_string(reasons, '; ') AS {REASONS}, {record}, CASE WHEN __is_line THEN record END AS {LINE}, _arrival "
            f"FROM {_STAGED}) ORDER BY _arrival, {FILE}, {DIGEST}, {ROW}) TO {quote_literal(str(draft))} ({_FORMATS[to.suffix.lower()]})"
        ).fetchone()
        rows = int(made[0]) if made else 0
        if rows:
            draft.replace(to)
        return rows
    except OSError as error:
        raise SourceError(str(to), "can't be written", found=error.strerror or str(error), fix="Name a file that can") from error
    finally:
        con.close()
        draft.unlink(missing_ok=True)


def read_edits(
    con: duckdb.DuckDBPyConnection, path: Path, contract: DatasetContract, *, chosen: str, key: Key | None, settings: Settings
) -> None:
    """Fill EDITS_TABLE with the rows of an edited file.

    Args:
        con: holds `chosen`.
        path: what `export_rows` wrote, changed by somebody; any format that can be ingested.
        contract: says which columns are protected.
        chosen: a table of all quarantined rows as they are.
        key: protects what is written to the history.
        settings: of the home.

    Raises:
        FileRefused: it can't be read, lacks the identity, names a row twice, one that is not in quarantine, or an unknown column.
    """
    shape = sniff(path, names=_IDENTITY)
    staged = stage(con, path, file_format=shape, spill_dir=settings.spill_dir)
    _check_records(con, path, staged.rejects_relation)
    missing = [name for name in (DIGEST, ROW) if name not in staged.columns]
    if missing:
        raise _refused(path, f"lacks {', '.join(missing)}: its rows can't be told", "Start from what `lakehouse quarantine edit` writes")
    known = _record_names(con, contract, chosen)
    names = [name for name in staged.columns if name not in _IDENTITY]
    _check_names(path, names, known, contract)
    _check_rows(con, path, staged.relation, chosen)
    if key is not None:
        install(con, key)
    con.execute(f"CREATE OR REPLACE TEMP TABLE {EDITS_TABLE} AS {_changes_sql(staged, names, chosen=chosen, contract=contract, key=key)}")


def _changes_sql(staged: StagedFile, names: Sequence[str], *, chosen: str, contract: DatasetContract, key: Key | None) -> str:
    protected = {folded: column for column in contract.columns if column.protected for folded in _spellings(column)}
    entries: list[str] = []
    for name in names:
        new = f"nullif(s.{quote_identifier(name)}, '')"
        old = f"CASE WHEN NOT __is_line THEN json_extract_string(c.record, {quote_literal(pointer(name))}) END"
        column = protected.get(name.strip().casefold())
        shown = protect_sql(new, column.protection, key) if column is not None and key is not None else new
        entries.append(
            f"{{'name': {quote_literal(name)}, 'new': {new}, 'old': {old}, 'shown': {shown}, 'is_protected': {column is not None}}}"
        )
    kinds = "STRUCT(name VARCHAR, new VARCHAR, old VARCHAR, shown VARCHAR, is_protected BOOLEAN)[]"
    changed = f"list_filter([{', '.join(entries)}]::{kinds}, lambda e: e.new IS DISTINCT FROM nullif(e.old, ''))"
    line = f"nullif(s.{quote_identifier(LINE)}, '')" if LINE in staged.columns else "NULL::VARCHAR"
    sealed = protect_sql("line", "encrypt", key) if key is not None else "line"
    return (
        "SELECT _sha256, _row, patch, CASE WHEN patch IS NULL THEN line END AS line, "
        f"CASE WHEN patch IS NOT NULL THEN {_object('changed', 'old')} WHEN line IS NOT NULL THEN json_object('line', record) END::VARCHAR "
        f"AS before, CASE WHEN patch IS NOT NULL THEN {_object('changed', 'shown')} WHEN line IS NOT NULL "
        f"THEN json_object('line', {sealed}) END::VARCHAR AS after, "
        f"CASE WHEN len(hidden) > 0 THEN {_object('hidden', 'old')} END::VARCHAR AS kept FROM ("
        f"SELECT *, CASE WHEN len(changed) > 0 THEN {_object('changed', 'new')}::VARCHAR END AS patch, "
        "list_filter(changed, lambda e: e.is_protected) AS hidden FROM ("
        f"SELECT c._sha256, c._row, c.record, {changed} AS changed, "
        f"CASE WHEN __is_line AND rtrim({line}, chr(13) || chr(10)) <> rtrim(c.record, chr(13) || chr(10)) THEN {line} END AS line "
        f"FROM {quote_identifier(staged.relation)} s JOIN (SELECT *, {IS_LINE} AS __is_line FROM {chosen}) c "
        f"ON c._sha256 = s.{DIGEST} AND c._row = try_cast(s.{ROW} AS BIGINT)))"
    )


def _object(entries: str, value: str) -> str:
    return f"to_json(map_from_entries(list_transform({entries}, lambda e: {{'k': e.name, 'v': e.{value}}})))"


def _record_names(con: duckdb.DuckDBPyConnection, contract: DatasetContract, table: str) -> list[str]:
    """The columns that records have: the contract's in its order, then the others."""
    found = con.execute(
        f"SELECT name FROM (SELECT unnest(names) AS name FROM (SELECT DISTINCT json_keys(record) AS names FROM {table} WHERE NOT {IS_LINE})) "
        "GROUP BY name ORDER BY name"
    ).fetchall()
    order = {spelling: number for number, column in enumerate(contract.columns) for spelling in _spellings(column)}
    names = sorted((str(row[0]) for row in found), key=lambda name: (order.get(name.strip().casefold(), len(order)), name))
    # A line that was no row has all columns to fill in.
    have = {name.strip().casefold() for name in names}
    return names + [column.source for column in contract.columns if not have.intersection(_spellings(column))]


def _spellings(column: Column) -> tuple[str, str]:
    return column.source.strip().casefold(), column.name.strip().casefold()


def _check_records(con: duckdb.DuckDBPyConnection, path: Path, rejects: str) -> None:
    bad = con.execute(f"SELECT _row, reason FROM {quote_identifier(rejects)} ORDER BY _row LIMIT {_SHOWN}").fetchall()
    if bad:
        shown = "; ".join(f"record {row:,} {reason}" for row, reason in bad)
        raise _refused(path, f"has records that are none: {shown}", "Correct the file; nothing was replayed")


def _check_names(path: Path, names: Sequence[str], known: Sequence[str], contract: DatasetContract) -> None:
    allowed = {*known, *(name for column in contract.columns for name in (column.source, column.name))}
    for name in names:
        if name not in allowed:
            close = difflib.get_close_matches(name, sorted(allowed), n=1)
            raise _refused(
                path,
                f"has a column {name} that no quarantined row of {contract.name} has",
                f"Did you mean {close[0]}?" if close else "Remove it, or add it to the contract",
            )


def _check_rows(con: duckdb.DuckDBPyConnection, path: Path, staged: str, chosen: str) -> None:
    rows = f"(SELECT _row AS record, {DIGEST} AS digest, {ROW} AS given, try_cast({ROW} AS BIGINT) AS row FROM {quote_identifier(staged)})"
    twice = con.execute(
        f"SELECT digest, row, list(record ORDER BY record) FROM {rows} GROUP BY ALL HAVING count(*) > 1 ORDER BY 3 LIMIT 1"
    ).fetchone()
    if twice is not None:
        records = " and ".join(str(one) for one in twice[2][:2])
        raise _refused(path, f"names row {twice[1]} of file {str(twice[0])[:12]} twice, in its records {records}", "Leave one of them")
    lost = con.execute(
        f"SELECT record, digest, given, count(*) OVER () FROM {rows} r WHERE NOT EXISTS "
        f"(SELECT 1 FROM {chosen} c WHERE c._sha256 = r.digest AND c._row = r.row) ORDER BY record LIMIT 1"
    ).fetchone()
    if lost is not None:
        raise _refused(
            path,
            f"names {lost[3]:,} rows that are not in quarantine, such as row {lost[2]} of file {str(lost[1])[:12]} in its record {lost[0]}",
            f"Leave {DIGEST} and {ROW} as they were exported",
        )


def _refused(path: Path, problem: str, fix: str) -> FileRefused:
    return FileRefused(str(path), problem, fix=fix)
