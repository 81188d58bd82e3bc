"""Quarantined rows as text again, and judged by the SELECT that judged them first.

A row's text comes from its record in the quarantine table, or from the archived file where the record is not the text that arrived:
its columns are protected there, or it is a line that was no row. What somebody changed by hand is laid over it.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.contracts.matching import match_columns
from lakehouse.errors import FileRefused, PrivacyError
from lakehouse.ingest.archive import ENCRYPTED
from lakehouse.ingest.known import KnownFile
from lakehouse.ingest.limits import SHAPE_RULE
from lakehouse.ingest.readers import Chunk, FileFormat, Reject, as_text, read_chunks, scratch_folder, sniff
from lakehouse.ingest.readers.chunks import FILE_SHIFT, drop, new_name, rejects_table
from lakehouse.ingest.readers.delimited import dialect_of
from lakehouse.ingest.readers.records import split_records
from lakehouse.ingest.reading import BatchReader
from lakehouse.ingest.sorting import BAD_TABLE
from lakehouse.ingest.waiting import IS_LINE, pointer
from lakehouse.privacy import Key, decrypted_copy, protect_sql
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake
from lakehouse.tables.sources import inner

CHOSEN_TABLE = "__chosen_rows"
"""The rows to judge: the columns of `current_rows_sql`, `__n` (their number, that of their file in the upper bits), `patch` and `line`."""
FILES_TABLE = "__chosen_files"
_TEXTS = "__chosen_texts"
_JSON = re.compile(r"\.(json|ndjson|jsonl)(\.[a-z0-9]+)?$")


class Rejudge:
    """Judges the rows of CHOSEN_TABLE into the two tables of a batch's reader.

    Args:
        lake: holds raw and the archived files.
        con: holds CHOSEN_TABLE.
        contract: judges.
        settings: where files are unpacked.
        key: protects columns; None where the contract protects none.
        reader: whose two tables are filled.
        files: the files of the rows, by digest.
    """

    def __init__(
        self,
        lake: Lake,
        con: duckdb.DuckDBPyConnection,
        contract: DatasetContract,
        *,
        settings: Settings,
        key: Key | None,
        reader: BatchReader,
        files: dict[str, KnownFile],
    ) -> None:
        self._lake = lake
        self._con = con
        self._contract = contract
        self._settings = settings
        self._key = key
        self._reader = reader
        self._files = files
        self._groups: list[tuple[tuple[str, ...], str]] = []
        self._left: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Judge every row that has a text; returns, by the file's digest, why the others were left as they are."""
        con = self._con
        # What is no object by its columns: a line that could not be split, or a record of another program.
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {_TEXTS} AS SELECT __n, _sha256, _row, line, patch, "
            f"CASE WHEN {IS_LINE} THEN CASE WHEN patch IS NOT NULL THEN '{{}}' END ELSE record END AS record, {IS_LINE} AS is_line "
            f"FROM {CHOSEN_TABLE}"
        )
        partial = [digest for digest, file in self._files.items() if (file.archive or "").endswith(ENCRYPTED)] + self._outgrown()
        is_partial = f"_sha256 IN ({', '.join(map(quote_literal, partial)) or 'NULL'})"
        from_original = f"CASE WHEN is_line THEN line IS NULL AND patch IS NULL ELSE coalesce({is_partial}, false) END"
        try:
            for digest, names in self._by_file("is_line AND line IS NOT NULL AND patch IS NULL"):
                self._lines(digest, names)
            for digest, _ in self._by_file(from_original):
                self._original(digest, from_original)
            self._records(f"record IS NOT NULL AND NOT ({from_original})")
            if self._groups:
                self._reader.judge_again(self._groups, FILES_TABLE, accepted_sql=self._accepted_sql())
        finally:
            drop(con, *(table for _, table in self._groups))
        return self._left

    def _outgrown(self) -> list[str]:
        """JSON files that may have values for columns that the contract has got since: only what it asked for is in their records."""
        nested = [digest for digest, file in self._files.items() if _JSON.search(file.archive or "")]
        if not nested:
            return []
        found = self._con.execute(
            f"SELECT _sha256, any_value(json_keys(record)) FROM {_TEXTS} "
            f"WHERE NOT is_line AND _sha256 IN ({', '.join(map(quote_literal, nested))}) GROUP BY _sha256"
        ).fetchall()
        return [str(digest) for digest, names in found if match_columns(self._contract, names).missing]

    def _by_file(self, condition: str) -> list[tuple[str, list[int]]]:
        """Files that have such rows, and the numbers of these rows."""
        found = self._con.execute(f"SELECT _sha256, list(_row) FROM {_TEXTS} WHERE {condition} GROUP BY _sha256 ORDER BY 1").fetchall()
        return [(str(digest), list(rows)) for digest, rows in found]

    # ---- from the quarantine table

    def _records(self, condition: str) -> None:
        """Rows whose record is their text, one group for each set of columns that a file had."""
        con = self._con
        table = new_name("records")
        con.execute(
            f"CREATE TEMP TABLE {quote_identifier(table)} AS SELECT __n, record, json_keys(record) AS names FROM ("
            f"SELECT __n, CASE WHEN patch IS NULL THEN record ELSE json_merge_patch(record, patch) END AS record "
            f"FROM {_TEXTS} WHERE {condition})"
        )
        layouts = con.execute(f"SELECT DISTINCT names FROM {quote_identifier(table)}").fetchall()
        for (names,) in layouts:
            given = tuple(names)
            if not given:
                given = (self._contract.columns[0].source,)
            paths = ", ".join(quote_literal(pointer(name)) for name in given)
            columns = ", ".join(f"__v[{number}] AS {quote_identifier(name)}" for number, name in enumerate(given, start=1))
            wanted = ", ".join(quote_literal(name) for name in names)
            self._group(
                given,
                f"SELECT {columns}, __n AS _row FROM (SELECT __n, json_extract_string(record, [{paths}]) AS __v "
                f"FROM {quote_identifier(table)} WHERE names = [{wanted}]::VARCHAR[])",
            )
        drop(con, table)

    def _group(self, names: Sequence[str], sql: str) -> None:
        table = new_name("again")
        self._con.execute(f"CREATE TEMP TABLE {quote_identifier(table)} AS {sql}")
        self._groups.append((tuple(names), table))

    # ---- from the archived file

    def _original(self, digest: str, wanted: str) -> None:
        """Rows as the archived file has them, what the record or a person says otherwise laid over the columns that are not protected."""
        file = self._files[digest]
        rows = 0
        groups, rejects = len(self._groups), []
        try:
            with self._opened(file) as copy:
                for chunk in self._chunks(copy, self._shape(copy)):
                    rows += chunk.rows + len(chunk.rejects)
                    self._overlaid(digest, chunk, wanted)
                    rejects += chunk.rejects
        except (FileRefused, PrivacyError, OSError) as error:
            self._leave(digest, groups, str(error))
            return
        if rows != file.rows_read:
            self._leave(
                digest,
                groups,
                f"{file.file}: is read as {rows:,} records now and was read as {file.rows_read:,}, so that their numbers mean others. "
                "Undo the change under servers in the contract, or edit the rows",
            )
            return
        asked = {row for _, found in self._by_file(f"_sha256 = {quote_literal(digest)} AND ({wanted})") for row in found}
        self._reject(digest, [reject for reject in rejects if reject.row in asked])

    def _leave(self, digest: str, groups: int, why: str) -> None:
        """Judge nothing of a file that was read up to here."""
        drop(self._con, *(table for _, table in self._groups[groups:]))
        del self._groups[groups:]
        self._left[digest] = why

    def _overlaid(self, digest: str, chunk: Chunk, wanted: str) -> None:
        protected = {
            name for column, name in match_columns(self._contract, chunk.names).found.items() if self._contract.column(column).protected
        }
        columns: list[str] = []
        for name in chunk.names:
            path, text = quote_literal(pointer(name)), f"c.{quote_identifier(name)}"
            kept = "" if name in protected else f"WHEN json_exists(t.record, {path}) THEN json_extract_string(t.record, {path}) "
            changed = f"WHEN json_exists(t.patch, {path}) THEN json_extract_string(t.patch, {path}) "
            columns.append(f"CASE {changed}{kept}ELSE {text} END AS {quote_identifier(name)}")
        self._group(
            chunk.names,
            f"SELECT {', '.join(columns)}, t.__n AS _row FROM {chunk.rows_sql} c JOIN (SELECT * FROM {_TEXTS} "
            f"WHERE _sha256 = {quote_literal(digest)} AND {wanted}) t ON t._row = c._row",
        )

    def _reject(self, digest: str, rejects: Sequence[Reject]) -> None:
        """Lines that are no rows still: quarantined again as they are, sealed where the contract protects columns."""
        if not rejects:
            return
        with scratch_folder(self._settings.spill_dir) as scratch:
            table = rejects_table(self._con, rejects, scratch)
        record = protect_sql("r.record", "encrypt", self._key) if self._key is not None else "r.record"
        self._con.execute(
            f"INSERT INTO {BAD_TABLE} (_sha256, _row, record, level, rules, reasons, status) "
            f"SELECT {quote_literal(digest)}, _row, {record}, 'structural', [{quote_literal(SHAPE_RULE)}], ['the record ' || reason], "
            f"'waiting' FROM {quote_identifier(table)} r"
        )
        drop(self._con, table)

    # ---- lines that a person has corrected

    def _lines(self, digest: str, rows: Sequence[int]) -> None:
        """Corrected lines, each read as the only record of a file like the one it came from."""
        file = self._files[digest]
        listed = self._con.execute(
            f"SELECT _row, line FROM {_TEXTS} WHERE _sha256 = {quote_literal(digest)} AND line IS NOT NULL AND patch IS NULL ORDER BY _row"
        ).fetchall()
        try:
            with self._opened(file) as copy:
                shape = self._shape(copy)
                names = () if shape.format in {"json", "ndjson"} else self._names(copy, shape)
        except (FileRefused, PrivacyError, OSError) as error:
            self._left[digest] = str(error)
            return
        if not names:
            self._json_lines(digest, listed)
            return
        dialect = dialect_of(Path(file.file), shape)
        good: list[Reject] = []
        bad: list[Reject] = []
        for row, line in listed:
            found = list(split_records(line.encode("utf-8", "surrogatepass"), dialect, width=len(names)))
            fields = found[0].fields if len(found) == 1 else None
            if fields is None:
                reason = (found[0].reason or "is no row") if len(found) == 1 else f"holds {len(found)} records"
                bad.append(Reject(row, line, reason))
            else:
                # Reject is what rejects_table writes exactly: a number and a text.
                good.append(Reject(row, json.dumps({name: text or None for name, text in zip(names, fields, strict=True)}), ""))
        self._reject(digest, bad)
        self._take(digest, good, names)

    def _take(self, digest: str, good: Sequence[Reject], names: Sequence[str]) -> None:
        with scratch_folder(self._settings.spill_dir) as scratch:
            table = rejects_table(self._con, good, scratch)
        columns = ", ".join(f"json_extract_string(g.record, {quote_literal(pointer(name))}) AS {quote_identifier(name)}" for name in names)
        self._group(
            names,
            f"SELECT {columns}, t.__n AS _row FROM {quote_identifier(table)} g JOIN {_TEXTS} t "
            f"ON t._row = g._row AND t._sha256 = {quote_literal(digest)}",
        )
        drop(self._con, table)

    def _json_lines(self, digest: str, listed: Sequence[tuple[int, str]]) -> None:
        numbers = [row for row, _ in listed]
        with scratch_folder(self._settings.spill_dir) as scratch:
            file = scratch / "lines.ndjson"
            file.write_text("".join(" ".join(line.splitlines()) + "\n" for _, line in listed), encoding="utf-8")
            of_row = ", ".join(str(row) for row in numbers)
            for chunk in self._chunks(file, FileFormat("ndjson")):
                columns = ", ".join(f"c.{quote_identifier(name)}" for name in chunk.names)
                self._group(
                    chunk.names,
                    f"SELECT {columns}, t.__n AS _row FROM {chunk.rows_sql} c JOIN {_TEXTS} t "
                    f"ON t._row = ([{of_row}])[c._row] AND t._sha256 = {quote_literal(digest)}",
                )
                self._reject(digest, [Reject(numbers[one.row - 1], one.record, one.reason) for one in chunk.rejects])

    # ---- files

    @contextmanager
    def _opened(self, file: KnownFile) -> Iterator[Path]:
        """The archived bytes as a file of the name it arrived under."""
        if file.archive is None:
            raise FileRefused(file.file, "was not archived", fix="Edit the rows instead")
        with scratch_folder(self._settings.spill_dir) as scratch:
            place = file.archive
            storage = self._lake.storage
            local = Path(storage.address(place)) if storage.is_local else scratch / "fetched"
            if not storage.is_local and storage.size(place) is not None:
                storage.get(place, local)
            if not local.is_file():
                raise FileRefused(file.file, "is not in the archive any more", found=place, fix="Edit the rows instead, or discard them")
            if place.endswith(ENCRYPTED):
                if self._key is None:
                    raise FileRefused(file.file, "is encrypted and the contract protects no column any more", fix="Edit the rows instead")
                with decrypted_copy(local, self._key, folder=scratch, suffix=Path(file.file).suffix) as plain:
                    yield plain
            else:
                yield local

    def _shape(self, copy: Path) -> FileFormat:
        return sniff(copy, landing=self._contract.landing, names=[column.source for column in self._contract.columns])

    def _chunks(self, copy: Path, shape: FileFormat) -> Iterator[Chunk]:
        policy = self._contract.schema_changes.new_columns
        return read_chunks(
            self._con,
            copy,
            select=as_text,
            file_format=shape,
            landing=self._contract.landing,
            columns=self._contract.columns,
            others="read" if policy == "rescue" else "ignore",
            spill_dir=self._settings.spill_dir,
        )

    def _names(self, copy: Path, shape: FileFormat) -> tuple[str, ...]:
        chunks = self._chunks(copy, shape)
        try:
            return next(chunks).names
        except StopIteration:
            return ()
        finally:
            chunks.close()  # pyright: ignore[reportAttributeAccessIssue]

    # ---- what raw has of these files

    def _accepted_sql(self) -> str | None:
        """Rows of these files that raw has: the first good row of a key stays, however late another one is repaired."""
        if not self._contract.primary_key and not any(column.unique for column in self._contract.columns):
            return None
        if not self._lake.exists(self._contract.raw):
            return None
        snapshot = self._lake.snapshot(self._contract.raw)
        digests = sorted(self._files)
        may_hold = [
            file.uri
            for file in snapshot.files
            if any((file.facts.get("min._sha256") or "") <= digest <= (file.facts.get("max._sha256") or "g") for digest in digests)
        ]
        if not may_hold:
            return None
        scan = snapshot.scan_sql(self._con, files=may_hold)
        return (
            f"(SELECT r.* EXCLUDE (_row), (f.__number << {FILE_SHIFT}) + r._row AS _row, NULL AS __bad "
            f"FROM {inner(scan)} r JOIN {FILES_TABLE} f ON f.__digest = r._sha256)"
        )
