"""What each batch brought, read from the raw table's log: the log is the truth, and reading it scans no data."""

from dataclasses import dataclass
from datetime import datetime

from lakehouse.ingest.known import batch_of, changes_of, files_of, replaced_of
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
    rows_erased: int = 0

    @property
    def conserved(self) -> bool:
        """Whether every row that was read is accepted, quarantined, or of somebody who was erased."""
        return self.rows_read == self.rows_accepted + self.rows_quarantined + self.rows_erased


def batch_volumes(lake: Lake, dataset: str, *, limit: int | None = None, version: int | None = None) -> list[BatchVolume]:
    """The newest batches of a dataset, or of a version of its raw table, oldest first; none if it was never ingested."""
    table = f"raw.{dataset}"
    if not lake.exists(table):
        return []
    volumes: list[BatchVolume] = []
    for commit in in_force(lake.history(table, limit=limit), version):
        listed = files_of(commit)
        # Decisions on quarantined rows are batches, too, but bring nothing.
        if not listed:
            continue
        batch = batch_of(commit)
        volumes.append(
            BatchVolume(
                version=commit.version,
                batch=commit.version if batch is None else batch,
                committed_at=commit.timestamp,
                files=len(listed),
                rows_read=sum(int(entry["rows_read"]) for entry in listed),
                rows_accepted=sum(int(entry["rows_accepted"]) for entry in listed),
                rows_quarantined=sum(int(entry["rows_quarantined"]) for entry in listed),
                rows_erased=sum(int(entry.get("rows_erased", 0)) for entry in listed),
            )
        )
    return volumes[::-1]


@dataclass(frozen=True, slots=True)
class DatasetVolume:
    """All that was ever ingested into a dataset and decided since, as raw's log tells it.

    Attributes:
        rows_accepted: in raw, those that were replayed included and those of replaced files not.
        rows_quarantined: not in raw: they wait, were discarded, or their file was replaced.
        rows_replaced: of these, those that are in no table: they were in raw, and never in quarantine, until their file was replaced.
        rows_erased: of people who had been erased when they came; they are kept nowhere.
    """

    rows_read: int = 0
    rows_accepted: int = 0
    rows_quarantined: int = 0
    rows_replaced: int = 0
    rows_erased: int = 0


def dataset_volume(lake: Lake, dataset: str, *, version: int | None = None) -> DatasetVolume:
    """The sums over a dataset's log, or up to a version of its raw table; nothing but zeros if it was never ingested."""
    table = f"raw.{dataset}"
    commits = list(in_force(lake.history(table), version)) if lake.exists(table) else []
    files = [entry for commit in commits for entry in files_of(commit)]
    replayed = sum(int(entry.get("accepted", 0)) for commit in commits for entry in changes_of(commit))
    replaced = sum(int(entry["rows_accepted"]) for commit in commits for entry in replaced_of(commit))
    returned = sum(int(entry.get("rows_returned", 0)) for commit in commits for entry in replaced_of(commit))
    return DatasetVolume(
        rows_read=sum(int(entry["rows_read"]) for entry in files),
        rows_accepted=sum(int(entry["rows_accepted"]) for entry in files) + replayed - replaced,
        rows_quarantined=sum(int(entry["rows_quarantined"]) for entry in files) - replayed + replaced,
        rows_replaced=replaced - returned,
        rows_erased=sum(int(entry.get("rows_erased", 0)) for entry in files),
    )
