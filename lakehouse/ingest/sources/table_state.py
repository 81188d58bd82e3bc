"""What is remembered of a source table between two looks, so that every change arrives once.

One file, replaced as a whole, is the moment a look counts: it names the watermark, the rows that the next look will see again, and the
page that is to appear in the landing folder. A page is written under a hidden name before that moment and gets its own after it; a
process that is killed in between leaves the second half to the next look.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from lakehouse.crashpoints import Point, reached
from lakehouse.durable import PRIVATE, sync, write_whole
from lakehouse.errors import SourceError
from lakehouse.ingest.sources.pages import read_state
from lakehouse.ingest.table_pages import page_name


@dataclass(frozen=True, slots=True)
class Remembered:
    """The state after a look.

    Attributes:
        source: what was looked at; anything else is another history.
        number: of looks that brought something.
        watermark: as PostgreSQL writes it; None before the first row.
        known: name of the Parquet file of the rows that were seen and will be seen again.
        page: name of the page that the last look brought.
        replicated: how far the replication slot was read, and since when; None unless there is one.
    """

    source: Mapping[str, Any]
    number: int = 0
    watermark: str | None = None
    known: str | None = None
    page: str | None = None
    replicated: Mapping[str, Any] | None = None


@dataclass(slots=True)
class TableState:
    """The state file of one source table, and the files beside it.

    Attributes:
        folder: of the pages.
        name: of the source, as a part of file names.
    """

    folder: Path
    name: str
    remembered: Remembered = field(init=False)

    def open(self, source: Mapping[str, Any]) -> Remembered:
        """What is known; finishes what a killed process began and removes what it left.

        Raises:
            SourceError: the state can't be read, or the folder can't be written.
        """
        saved = read_state(self.path)
        try:
            before = Remembered(**saved) if saved else Remembered(source)
        except TypeError as error:
            raise SourceError(f"state file {self.path}", "holds something else", found=str(error), fix="Delete it") from error
        try:
            self._appear(before)
            self._tidy(before)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        # Another table, or the same one looked at in another way: its rows are not known, and no page of it is called like an earlier one.
        same = all(before.source.get(name) == value for name, value in source.items())
        self.remembered = before if same else Remembered(source, number=before.number)
        return self.remembered

    @property
    def path(self) -> Path:
        """The state file."""
        return self.folder / f".{self.name}.postgres.json"

    @property
    def known(self) -> Path | None:
        """The rows that were seen and may come again."""
        return self.folder / self.remembered.known if self.remembered.known else None

    def draft(self, kind: str) -> Path:
        """A hidden file for the next look's page or known rows."""
        return self.folder / f".{self.name}.{self.remembered.number + 1:08d}.{kind}.tmp"

    def page_name(self, now: datetime) -> str:
        """What the next look's page is to be called."""
        return page_name(self.name, now, self.remembered.number + 1)

    def advance(
        self,
        *,
        watermark: str | None = None,
        replicated: Mapping[str, Any] | None = None,
        page: str | None,
        is_known_new: bool = True,
    ) -> Path | None:
        """Make the look count: the drafts `known` (if it is new) and, if there is a `page`, `page` are there and whole.

        Raises:
            SourceError: the folder can't be written.
        """
        before = self.remembered
        known = self.draft("known").name if is_known_new else before.known
        after = replace(before, number=before.number + 1, watermark=watermark, known=known, page=page, replicated=replicated)
        drafts = [kind for kind, is_there in (("known", is_known_new), ("page", page is not None)) if is_there]
        try:
            for kind in drafts:
                sync(self.draft(kind))
            if drafts:
                sync(self.folder)
            reached(Point.BEFORE_CURSOR)
            document = {name: getattr(after, name) for name in Remembered.__slots__}
            write_whole(self.path, json.dumps(document, ensure_ascii=False, indent=1) + "\n", mode=PRIVATE)
            reached(Point.AFTER_CURSOR)
            self.remembered = after
            self._appear(after)
            self._tidy(after)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        return self.folder / page if page else None

    def _appear(self, state: Remembered) -> None:
        """Give the page its name; it has it already unless a process died here."""
        if state.page is None:
            return
        draft = self.folder / f".{self.name}.{state.number:08d}.page.tmp"
        if draft.exists():
            draft.replace(self.folder / state.page)
            sync(self.folder)

    def _tidy(self, state: Remembered) -> None:
        """Remove drafts that the state does not name: they are of looks that did not count."""
        for path in self.folder.glob(f".{self.name}.*.tmp"):
            if path.name != state.known:
                path.unlink(missing_ok=True)


def _unwritable(folder: Path, error: OSError) -> SourceError:
    return SourceError(f"folder {folder}", "can't be written", found=error.strerror or str(error), fix="Check its permissions and its room")
