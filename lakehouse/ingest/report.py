"""What ingestion says it did."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.quality import CheckResult

if TYPE_CHECKING:
    from lakehouse.ingest.sources import TableReport, TopicReport

Status = Literal["ingested", "already", "refused"]


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file that was asked for.

    Attributes:
        path: as it was given.
        sha256: of its content; None if it could not be read.
        status: `ingested`; `already`, its content is in raw, nothing was read; `refused`, nothing of it counts.
        error: why it was refused.
        rows_erased: rows of people who were erased; they are kept nowhere.
        replaced: digests of the files whose place it has taken.
        warnings: what is odd about it and lost no row: columns that it lacks, columns that the contract does not know.
    """

    path: str
    sha256: str | None
    status: Status
    rows_read: int = 0
    rows_accepted: int = 0
    rows_quarantined: int = 0
    error: str | None = None
    warnings: tuple[str, ...] = ()
    rows_erased: int = 0
    replaced: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The file as the CLI prints it under --json."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "status": self.status,
            "rows_read": self.rows_read,
            "rows_accepted": self.rows_accepted,
            "rows_quarantined": self.rows_quarantined,
            "rows_erased": self.rows_erased,
            "error": self.error,
            "warnings": list(self.warnings),
            "replaced": list(self.replaced),
        }


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of every file, in the order they were given; `version` is raw's newest, None where there is no raw yet.

    `topics` and `slots` are the looks at topics, and at tables by their replication slot, that brought some of them.
    """

    dataset: str
    table: str
    version: int | None
    files: tuple[FileReport, ...]
    checks: tuple[CheckResult, ...] = ()
    topics: "tuple[TopicReport, ...]" = ()
    slots: "tuple[TableReport, ...]" = ()

    @property
    def rows_read(self) -> int:
        """Rows of the files ingested by this call."""
        return sum(file.rows_read for file in self.files)

    @property
    def rows_accepted(self) -> int:
        """Of them, those in raw."""
        return sum(file.rows_accepted for file in self.files)

    @property
    def rows_quarantined(self) -> int:
        """Of them, those in quarantine."""
        return sum(file.rows_quarantined for file in self.files)

    def counts(self) -> Mapping[str, int]:
        """Files by status."""
        return {status: sum(file.status == status for file in self.files) for status in ("ingested", "already", "refused")}

    def as_dict(self) -> dict[str, Any]:
        """The report as the CLI prints it under --json."""
        looks: dict[str, Any] = {"topics": [look.as_dict() for look in self.topics]} if self.topics else {}
        looks |= {"slots": [look.as_dict() for look in self.slots]} if self.slots else {}
        files = [file.as_dict() for file in self.files]
        return {"dataset": self.dataset, "table": self.table, "version": self.version, "files": files, **looks}


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far a call is: told after every piece of a file."""

    file: str
    bytes_done: int
    bytes_total: int
    rows_read: int
