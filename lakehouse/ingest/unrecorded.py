"""What is known of a batch only while it is read, kept until it is in the monitoring tables.

It is noted beside the index before the commit that makes the batch count, and recorded after it. A process that dies in between
leaves the note; whoever ingests next in this home records it, or drops it where the batch never came to count.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.known import KnownFiles, app_id
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp, Transaction


@dataclass(frozen=True, slots=True)
class Addition:
    """Rows for a monitoring table: a SELECT of their values, and the transaction that numbers them."""

    table: str
    app_id: str
    sql: str


@dataclass(frozen=True, slots=True)
class Note:
    """A batch that is about to count.

    Attributes:
        number: of the batch.
        digests: of its files: two processes may choose the same number.
        run: which reads it.
        additions: what is to be recorded.
    """

    number: int
    digests: tuple[str, ...]
    run: str
    additions: tuple[Addition, ...]


class Unrecorded:
    """The notes of one dataset."""

    def __init__(self, lake: Lake, contract: DatasetContract, settings: Settings) -> None:
        self._lake = lake
        self._contract = contract
        place = hashlib.sha256(lake.storage.address(*contract.raw.split(".")).encode()).hexdigest()[:16]
        self._folder = settings.home_dir / "index" / "unrecorded" / place

    def note(self, note: Note) -> None:
        """Keep it until the batch is decided."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{note.number:012d}-{uuid.uuid4().hex[:8]}.json"
        draft = path.with_suffix(".tmp")
        with draft.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(asdict(note), file)
        draft.replace(path)

    def settle(self, con: duckdb.DuckDBPyConnection, known: KnownFiles) -> None:
        """Record the batches that count, in their order, and drop those that never will; others are still under way.

        Args:
            con: writes the rows.
            known: up to date with every batch of this process.
        """
        notes = sorted(self._notes(), key=lambda found: found[0].name)
        decided = self._lake.transaction(self._contract.raw, app_id(self._contract)) if notes else None
        if decided is None:
            return
        known.catch_up()
        for path, note in notes:
            if note.number > decided:
                continue
            present = known.known(note.digests)
            if all(digest in present and present[digest].batch == note.number for digest in note.digests):
                self._record(con, note)
            path.unlink(missing_ok=True)

    def _notes(self) -> Iterator[tuple[Path, Note]]:
        for path in self._folder.glob("*.json") if self._folder.is_dir() else ():
            try:
                told = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                # Another process has settled it.
                continue
            yield path, Note(told["number"], tuple(told["digests"]), told["run"], tuple(Addition(**one) for one in told["additions"]))

    def _record(self, con: duckdb.DuckDBPyConnection, note: Note) -> None:
        for one in note.additions:
            stamp = Stamp(asset=one.table, run=note.run, code=self._contract.digest)
            self._lake.append(con, one.table, one.sql, stamp=stamp, transaction=Transaction(one.app_id, note.number))
