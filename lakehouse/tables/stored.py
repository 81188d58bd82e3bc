"""What a root tells of a file in it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it was listed.

    Attributes:
        path: relative to the root, its parts divided by slashes.
        size_bytes: of its content.
        modified: when it was last written, UTC.
        etag: what a bucket names this content by; None on disk.
    """

    path: str
    size_bytes: int
    modified: datetime
    etag: str | None = None
