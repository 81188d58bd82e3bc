"""Replay: quarantined rows judged again, by a new contract or as somebody corrected them; and discarding those that nobody wants."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.archive import Original
from lakehouse.ingest.contract_versions import note_contract
from lakehouse.ingest.decisions import Decided, choose_rows, decide
from lakehouse.ingest.edits import EDITS_TABLE, read_edits
from lakehouse.ingest.erased import ErasedRows
from lakehouse.ingest.events import EVENTS_TABLE, Author, discard_chosen, event_sql, history_sql
from lakehouse.ingest.known import KnownFile, KnownFiles
from lakehouse.ingest.pieces import PiecewiseAppend
from lakehouse.ingest.readers.chunks import FILE_SHIFT
from lakehouse.ingest.reading import BatchReader
from lakehouse.ingest.rejudging import CHOSEN_TABLE, FILES_TABLE, Rejudge
from lakehouse.ingest.sorting import BAD_TABLE, GOOD_TABLE
from lakehouse.ingest.waiting import Selection
from lakehouse.openlineage import job
from lakehouse.privacy import Key
from lakehouse.privacy import key as secret_key
from lakehouse.settings import Settings
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What became of the rows that were chosen.

    Attributes:
        batch: of the decision; None where there was nothing to decide.
        version: raw's version with it.
        chosen: rows that were judged again; each is `accepted` or still `waiting`.
        edited: of them, those that somebody had changed.
        left: rows that could not be judged, and `problems` says why, by file.
        done_before: rows of an edited file that have another status than the one asked for, as after a run that was killed; nothing was
            done to them.
        rules: what the rows that still wait break, most frequent first.
    """

    dataset: str
    batch: int | None = None
    version: int | None = None
    chosen: int = 0
    accepted: int = 0
    waiting: int = 0
    edited: int = 0
    left: int = 0
    done_before: int = 0
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    rules: Mapping[str, int] = field(default_factory=dict[str, int])

    def as_dict(self) -> dict[str, Any]:
        """The report as the CLI prints it under --json."""
        return {
            "dataset": self.dataset,
            "batch": self.batch,
            "version": self.version,
            "rows": self.chosen,
            "accepted": self.accepted,
            "waiting": self.waiting,
            "edited": self.edited,
            "left": self.left,
            "done_before": self.done_before,
            "problems": [{"file": file, "problem": problem} for file, problem in self.problems.items()],
            "rules": [{"rule": rule, "rows": rows} for rule, rows in self.rules.items()],
        }


@dataclass(frozen=True, slots=True)
class DiscardReport:
    """How many rows were discarded, by which batch."""

    dataset: str
    batch: int | None = None
    rows: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The report as the CLI prints it under --json."""
        return {"dataset": self.dataset, "batch": self.batch, "rows": self.rows}


def replay(
    lake: Lake,
    contract: DatasetContract,
    *,
    selection: Selection | None = None,
    edits: Path | None = None,
    settings: Settings,
    author: Author,
) -> ReplayReport:
    """Judge quarantined rows again, as they are or as an edited file has them: those that pass are in raw, with their origin, exactly once.

    A row that fails again stays waiting, with its new reasons and one attempt more. Killed and called again, it goes on.

    Args:
        lake: the tables.
        contract: of the dataset, as it is now.
        selection: which rows; default all that wait.
        edits: a file that `export_rows` wrote and somebody has changed; only its rows are replayed.
        settings: of the home.
        author: recorded with every row and in the commits.

    Raises:
        FileRefused: the edited file can't be read, names a row twice, or one that is not in quarantine.
        ConcurrentWrite: other processes wrote to the dataset without pause.
        ContractError: the contract breaks promises without a new major version, and its `breakingChange` says reject.
        PrivacyError: the contract protects columns and the home's key can't be used.
    """
    if not lake.exists(contract.quarantine):
        return ReplayReport(contract.name)
    work = _Replay(lake, contract, selection=selection or Selection(), edits=edits, settings=settings, author=author)
    with job(settings, lake, "replay", contract.name, run=author.run):
        made = decide(lake, contract, work.known, work.decide, author=author)
    return work.found if made is None else replace(work.found, batch=made.batch, version=made.version)


def discard(lake: Lake, contract: DatasetContract, *, selection: Selection, settings: Settings, author: Author) -> DiscardReport:
    """Decide that quarantined rows will not be replayed: they stay where they are, with who said so and why, and wait no more.

    Raises:
        ConcurrentWrite: other processes wrote to the dataset without pause.
    """
    if not lake.exists(contract.quarantine):
        return DiscardReport(contract.name)
    rows = 0

    def discard_rows(con: duckdb.DuckDBPyConnection, number: int, pieces: PiecewiseAppend) -> Decided | None:
        nonlocal rows
        del pieces
        rows = choose_rows(con, CHOSEN_TABLE, selection)
        return Decided([], discard_chosen(con, CHOSEN_TABLE, number=number, author=author)) if rows else None

    known = KnownFiles(lake, contract, settings)
    with job(settings, lake, "discard", contract.name, run=author.run):
        made = decide(lake, contract, known, discard_rows, author=author)
    return DiscardReport(contract.name, made.batch if made else None, rows)


class _Replay:
    """One call of replay; `decide` may be asked more than once."""

    def __init__(
        self, lake: Lake, contract: DatasetContract, *, selection: Selection, edits: Path | None, settings: Settings, author: Author
    ) -> None:
        self._lake = lake
        self._contract = contract
        self._selection = selection
        self._edits = edits
        self._settings = settings
        self._author = author
        self._key: Key | None = secret_key(settings) if contract.protected_columns else None
        self.known = KnownFiles(lake, contract, settings)
        self.found = ReplayReport(contract.name)

    def decide(self, con: duckdb.DuckDBPyConnection, number: int, pieces: PiecewiseAppend) -> Decided | None:
        """Judge what is chosen; rows that nothing can be said about stay as they are."""
        done_before = self._choose(con)
        files = self._number_files(con)
        if files:
            # The next ingestion tells of a new version; here it must be known, and raw as wide as it says.
            note_contract(self._lake, self._contract, run=self._author.run, now=self._author.now)
        reader = BatchReader(
            con,
            self._contract,
            settings=self._settings,
            key=self._key,
            number=number,
            now=self._author.now,
            pieces=pieces,
            told=_nobody,
            erased=ErasedRows.of(self._lake, con, self._contract, self._settings),
        )
        reader.prepare()
        left = Rejudge(self._lake, con, self._contract, settings=self._settings, key=self._key, reader=reader, files=files).run()
        self._make_events(con, number)
        counts = con.execute(
            f"SELECT _file, _sha256, count_if(status = 'replayed'), count_if(status = 'waiting') FROM {EVENTS_TABLE} GROUP BY ALL ORDER BY 2"
        ).fetchall()
        chosen, edited = _one(con, f"SELECT count(*), count(coalesce(patch, line)) FROM {CHOSEN_TABLE}")
        accepted, waiting = sum(row[2] for row in counts), sum(row[3] for row in counts)
        self.found = ReplayReport(
            self._contract.name,
            chosen=accepted + waiting,
            accepted=accepted,
            waiting=waiting,
            edited=edited,
            left=chosen - accepted - waiting,
            done_before=done_before,
            problems={files[digest].file or digest: why for digest, why in left.items()},
            rules=self._rules(con),
        )
        if not counts:
            return None
        rows = (
            f"SELECT g.*, f.__arrival AS _arrival FROM {GOOD_TABLE} g JOIN {FILES_TABLE} f ON f.__digest = g._sha256" if accepted else None
        )
        written = [pieces.write(con, rows)] if rows else []
        changes = [{"file": file, "sha256": digest, "accepted": good, "waiting": bad} for file, digest, good, bad in counts]
        return Decided(written, changes)

    def _choose(self, con: duckdb.DuckDBPyConnection) -> int:
        """Fill CHOSEN_TABLE; returns how many rows of the edited file need nothing any more."""
        chosen = "__chosen"
        done_before = 0
        if self._edits is None:
            choose_rows(con, chosen, self._selection, also=self._not_replaced())
            edited = "SELECT NULL::VARCHAR AS _sha256, NULL::BIGINT AS _row, NULL::VARCHAR AS patch, NULL::VARCHAR AS line, "
            edited += "NULL::VARCHAR AS before, NULL::VARCHAR AS after, NULL::VARCHAR AS kept WHERE false"
        else:
            choose_rows(con, chosen, Selection(status=None))
            read_edits(con, self._edits, self._contract, chosen=chosen, key=self._key, settings=self._settings)
            (done_before,) = _one(
                con,
                f"SELECT count(*) FROM {EDITS_TABLE} e JOIN {chosen} c ON e._sha256 = c._sha256 AND e._row = c._row "
                f"WHERE c.status <> {quote_literal(self._selection.status)}",
            )
            edited = f"SELECT * FROM {EDITS_TABLE}"
            con.execute(
                f"DELETE FROM {chosen} c WHERE NOT ({self._selection.condition} AND {self._not_replaced()}) "
                f"OR NOT EXISTS (SELECT 1 FROM {EDITS_TABLE} e WHERE e._sha256 = c._sha256 AND e._row = c._row)"
            )
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {FILES_TABLE} AS SELECT row_number() OVER (ORDER BY _sha256) AS __number, any_value(_file) AS __name, "
            f"_sha256 AS __digest, min(_arrival) AS __arrival FROM {chosen} GROUP BY _sha256"
        )
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {CHOSEN_TABLE} AS SELECT c.*, (f.__number << {FILE_SHIFT}) + c._row AS __n, "
            f"e.patch, e.line, e.before, e.after, e.kept FROM {chosen} c JOIN {FILES_TABLE} f ON f.__digest = c._sha256 "
            f"LEFT JOIN ({edited}) e ON e._sha256 = c._sha256 AND e._row = c._row"
        )
        con.execute(f"DROP TABLE {chosen}")
        return done_before

    def _not_replaced(self) -> str:
        """SQL: the row's file was not replaced by another, which has its rows already."""
        gone = [file.sha256 for file in self.known.replaced_files()]
        return f"_sha256 NOT IN ({', '.join(map(quote_literal, gone))})" if gone else "true"

    def _number_files(self, con: duckdb.DuckDBPyConnection) -> dict[str, KnownFile]:
        found = con.execute(f"SELECT __digest, __name FROM {FILES_TABLE} ORDER BY 1").fetchall()
        known = self.known.known(digest for digest, _ in found)
        return {digest: known.get(digest) or KnownFile(digest, 0, -1, 0, 0, name) for digest, name in found}

    def _make_events(self, con: duckdb.DuckDBPyConnection, number: int) -> None:
        author = self._author
        action = "CASE WHEN before IS NULL THEN 'replayed' ELSE 'edited and replayed' END"
        accepted = history_sql(author, batch=number, action=action, before="before", after="after")
        failed = history_sql(author, batch=number, action="'edited'", before="before", after="after", history="w.history")
        # A protected value that somebody typed can't be read again: until the row passes, it has the one that arrived.
        record = "CASE WHEN w.kept IS NULL THEN b.record ELSE json_merge_patch(b.record, w.kept)::VARCHAR END"
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {EVENTS_TABLE} AS "
            f"{event_sql(author, number, status='replayed', attempts='attempts + 1', history=accepted)} FROM {CHOSEN_TABLE} "
            f"SEMI JOIN {GOOD_TABLE} USING (_sha256, _row) UNION ALL "
            f"{event_sql(author, number, status='waiting', attempts='w.attempts + 1', judged='b', record=record, history=_if_edited(failed))} "
            f"FROM {CHOSEN_TABLE} w JOIN {BAD_TABLE} b USING (_sha256, _row)"
        )

    def _rules(self, con: duckdb.DuckDBPyConnection) -> dict[str, int]:
        found = con.execute(
            f"SELECT rule, count(*) FROM (SELECT unnest(rules) AS rule FROM {EVENTS_TABLE} WHERE status = 'waiting') GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        return {str(rule): int(rows) for rule, rows in found}


def _if_edited(history: str) -> str:
    """A failure alone is no entry: `attempts` counts it; what somebody changed is one."""
    return f"CASE WHEN w.before IS NULL THEN w.history ELSE ({history}) END"


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    found = con.execute(sql).fetchone()
    return found if found is not None else ()


def _nobody(original: Original, rows: int) -> None:
    del original, rows
