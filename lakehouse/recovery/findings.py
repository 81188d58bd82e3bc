"""What a verification found wrong, and what to do about each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lakehouse.recovery.manifest import ARCHIVE, TABLES, Entry


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that is not as it should be.

    Attributes:
        check: what was asked, as a claim.
        subject: a table, `originals`, `registry`, `home` or a backup.
        path: the file, where it is about one.
        versions: versions of the table that need the file; a range as `3-7`.
        problem: what is wrong.
        fix: what to do next.
    """

    check: str
    subject: str
    problem: str
    fix: str
    path: str | None = None
    versions: str | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """Knows where a file can be had again.

    Attributes:
        backup: the place of the backups that were asked; None if none was.
        files: the newest backup's entries.
    """

    backup: str | None = None
    files: Mapping[str, Entry] = field(default_factory=dict[str, Entry], repr=False)

    def for_file(self, path: str) -> str:
        """How to get a file of the tables, the originals or the registry back."""
        if self.backup is not None and path in self.files:
            return f"lakehouse restore-backup {self.backup} --only {subject_of(path)}"
        if path.startswith(ARCHIVE):
            return f"Restore it from a backup: lakehouse restore-backup PLACE --only {subject_of(path)}"
        if not path.startswith(TABLES):
            return "Restore it from a backup (lakehouse restore-backup), or train its model again (lakehouse train NAME --force)"
        layer = path.removeprefix(TABLES).split("/")[0]
        if layer in {"staging", "analytics", "features"}:
            return "Restore it from a backup, or move the table's folder away and build it again: lakehouse run --full"
        if layer == "raw":
            name = subject_of(path).partition(".")[2]
            return (
                f"Restore it from a backup (lakehouse restore-backup PLACE --only raw.{name}), or move raw/{name} and quarantine/{name} away "
                f"and ingest the originals under files/{name} again"
            )
        return f"Restore it from a backup: lakehouse restore-backup PLACE --only {subject_of(path)}"


def subject_of(path: str) -> str:
    """What a path belongs to: a table, an archived one (`tier/layer.name`), `originals`, or a part of the home."""
    if path.startswith(ARCHIVE):
        tier, layer, name = path.removeprefix(ARCHIVE).split("/")[:3]
        return f"{tier}/{layer}.{name}"
    if not path.startswith(TABLES):
        return path.split("/", 2)[1]
    parts = path.removeprefix(TABLES).split("/")
    return "originals" if parts[0] == "files" else ".".join(parts[:2])


def version_range(first: int, last: int) -> str:
    """Versions as people write them."""
    return str(first) if first == last else f"{first}-{last}"
