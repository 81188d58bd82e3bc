"""What each batch brought, read from the raw table's log: the log is the truth, and reading it scans no data."""

from dataclasses import dataclass
from datetime import datetime

from lakehouse.tables import Lake, in_force


@dataclass(frozen=True, slots=True)
class BatchVolume:
    """One batch as its commit tells it."""

    version: int
    batch: int
    committed_at: datetime
    files: int
    rows_read: int
    rows_accepted: int
    rows_quarantined: int

    @property
    def conserved(self) -> bool:
        """Whether every row that was read is either accepted or quarantined."""
        return self.rows_read == self.rows_accepted + self.rows_quarantined


def batch_volumes(lake: Lake, dataset: str, *, limit: int | None = None) -> list[BatchVolume]:
    """The newest batches of a dataset, oldest first; none if it was never ingested."""
    table = f"raw.{dataset}"
    if not lake.exists(table):
        return []
    volumes: list[BatchVolume] = []
    for commit in in_force(lake.history(table, limit=limit)):
        source = (commit.stamp.source if commit.stamp else None) or {}
        listed = source.get("files")
        if not isinstance(listed, list):
            continue
        volumes.append(
            BatchVolume(
                version=commit.version,
                batch=int(str(source.get("batch", commit.version))),
                committed_at=commit.timestamp,
                files=len(listed),
                rows_read=sum(int(entry["rows_read"]) for entry in listed),
                rows_accepted=sum(int(entry["rows_accepted"]) for entry in listed),
                rows_quarantined=sum(int(entry["rows_quarantined"]) for entry in listed),
            )
        )
    return volumes[::-1]
