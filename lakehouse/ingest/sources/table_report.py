"""What a look at a source table brought."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class SlotReport:
    """How far a replication slot was read.

    Attributes:
        slot: its name.
        lsn: what was committed before this place in the server's log has been read.
        lag_bytes: of the log, that were not.
        retained_bytes: of the log, that the server keeps on its disk for the slot.
        truncates: how often all rows were removed at once, and no page says which.
    """

    slot: str
    lsn: str
    lag_bytes: int
    retained_bytes: int
    truncates: int = 0


@dataclass(frozen=True, slots=True)
class TableReport:
    """What one look at a table brought.

    Attributes:
        pages: the pages with the rows, in the order of the changes; none because nothing is new.
        rows_read: that the server sent: new ones, and those of the overlap.
        rows: new or changed, all of them in the pages.
        gone: rows that an earlier look had; in the pages where the contract has a column for it.
        watermark: where the next look begins, less the overlap.
        replicated: how far the slot was read, of a table that has one.
    """

    table: str
    pages: tuple[Path, ...]
    rows_read: int
    rows: int
    gone: int
    watermark: str | None = None
    replicated: SlotReport | None = None

    @property
    def page(self) -> Path | None:
        """The newest page."""
        return self.pages[-1] if self.pages else None

    def as_dict(self) -> dict[str, Any]:
        """The look as the CLI prints it under --json, of a table that has a slot."""
        slot = self.replicated
        if slot is None:
            return {}
        return {
            "slot": slot.slot,
            "table": self.table,
            "rows": self.rows,
            "gone": self.gone,
            "truncates": slot.truncates,
            "lsn": slot.lsn,
            "lag_bytes": slot.lag_bytes,
            "retained_bytes": slot.retained_bytes,
        }
