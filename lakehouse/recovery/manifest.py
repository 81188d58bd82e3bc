"""A manifest: everything that one backup holds, as paths and the objects that have their bytes.

It is the commit of a backup: written last, whole, and found damaged if one byte of it is not as it was written.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from lakehouse.errors import BackupDamaged
from lakehouse.privacy import Key

FORMAT = 1
TABLES = "tables/"
"""What is below the root of the tables."""
ARCHIVE = "archive/"
"""What is below the root of the archive: its tiers, each a root of tables."""
HOME = "home/"
"""What else is below the home."""
KEYS = "keys/"
"""What is below the folder of keys; only in a backup of keys."""
_PURPOSE = "backup manifests"
_INSTANT = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a backup.

    Attributes:
        sha256: names the object that holds its bytes.
        size_bytes: of the file.
        modified: when the file was last changed; with the size it tells whether it has to be read again.
        mode: permissions, where they are not the usual ones.
    """

    sha256: str
    size_bytes: int
    modified: datetime | None = None
    mode: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """As stored."""
        stored: dict[str, Any] = {"sha256": self.sha256, "size": self.size_bytes}
        if self.modified is not None:
            stored["modified"] = self.modified.isoformat()
        if self.mode is not None:
            stored["mode"] = self.mode
        return stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Entry":
        """From what is stored."""
        modified = stored.get("modified")
        return cls(str(stored["sha256"]), int(stored["size"]), datetime.fromisoformat(modified) if modified else None, stored.get("mode"))


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup.

    Attributes:
        id: its instant as a name: `20260131T120000.000000Z`; ids sort by time.
        created_at: the instant it shows.
        home: the home it was made of; absolute paths inside the registry begin with it.
        tables_uri: the root of the tables it was made of.
        tables: version of every table by `layer.name`.
        files: entries by path: `tables/...`, `home/...` or `keys/...`.
        left_out: what a reader might miss, and why it is not there.
        made_by: version of the program.
        archive: version of every archived table by `tier/layer.name`.
    """

    id: str
    created_at: datetime
    home: str
    tables_uri: str
    tables: Mapping[str, int]
    files: Mapping[str, Entry] = field(repr=False)
    left_out: tuple[str, ...] = ()
    made_by: str = ""
    archive: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(entry.size_bytes for entry in self.files.values())

    def below(self, prefix: str) -> dict[str, Entry]:
        """The entries whose path begins with the prefix."""
        return {path: entry for path, entry in self.files.items() if path.startswith(prefix)}

    def roots(self) -> dict[str, dict[str, int]]:
        """Versions of all tables, by the prefix of the root that they are under: `tables/`, `archive/warm/`, `archive/cold/`."""
        found = {TABLES: dict(self.tables)}
        for name, version in self.archive.items():
            tier, _, table = name.partition("/")
            found.setdefault(f"{ARCHIVE}{tier}/", {})[table] = version
        return found

    def with_files(self, files: Mapping[str, Entry]) -> "Manifest":
        """The same with other files."""
        return replace(self, files=dict(files))

    def to_bytes(self, key: Key | None) -> bytes:
        """As it is stored, with its digest, and signed where there is a key."""
        content = _canonical(
            {
                "id": self.id,
                "created_at": self.created_at.isoformat(),
                "home": self.home,
                "tables_uri": self.tables_uri,
                "tables": dict(self.tables),
                "files": {path: entry.as_dict() for path, entry in self.files.items()},
                "left_out": list(self.left_out),
                "made_by": self.made_by,
                **({"archive": dict(self.archive)} if self.archive else {}),
            }
        )
        seal: dict[str, Any] = {"format": FORMAT, "sha256": hashlib.sha256(content).hexdigest()}
        if key is not None:
            seal["signature"] = {"key": key.id, "hmac": _signature(content, key)}
        return b'{"backup":' + content + b',"seal":' + _canonical(seal) + b"}\n"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A manifest as it was read, and what its seal says.

    Attributes:
        signed_by: id of the key that signed it; None if nobody did.
        is_genuine: the signature holds; None where it was made with a key that is not at hand, or there is none.
    """

    manifest: Manifest
    signed_by: str | None
    is_genuine: bool | None


def read_manifest(data: bytes, *, name: str, key: Key | None) -> Sealed:
    """Read a manifest and check its seal.

    Raises:
        BackupDamaged: a byte of it has changed, or it is of another kind.
    """
    try:
        document = json.loads(data)
        content, seal = document["backup"], document["seal"]
        plain = _canonical(content)
        is_whole = seal["sha256"] == hashlib.sha256(plain).hexdigest() and seal["format"] == FORMAT
        signature = seal.get("signature")
        # Whatever the text was before it was parsed: written again it must be the same.
        is_whole = is_whole and data == b'{"backup":' + plain + b',"seal":' + _canonical(seal) + b"}\n"
        manifest = _manifest(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    if not is_whole:
        raise _damaged(name, "its digest does not match its content")
    if signature is None:
        return Sealed(manifest, None, is_genuine=None)
    is_ours = key is not None and signature["key"] == key.id
    is_genuine = hmac.compare_digest(signature["hmac"], _signature(plain, key)) if is_ours and key else None
    return Sealed(manifest, str(signature["key"]), is_genuine)


def _manifest(content: Mapping[str, Any]) -> Manifest:
    return Manifest(
        id=str(content["id"]),
        created_at=datetime.fromisoformat(content["created_at"]),
        home=str(content["home"]),
        tables_uri=str(content["tables_uri"]),
        tables=cast("Mapping[str, int]", content["tables"]),
        files={path: Entry.from_dict(entry) for path, entry in content["files"].items()},
        left_out=tuple(content["left_out"]),
        made_by=str(content["made_by"]),
        archive=cast("Mapping[str, int]", content.get("archive", {})),
    )


def id_of(instant: datetime) -> str:
    """The name of a backup of this instant."""
    return instant.astimezone(UTC).strftime(_INSTANT)


def instant_of(backup_id: str) -> datetime | None:
    """The instant that an id names; None if it is none."""
    try:
        return datetime.strptime(backup_id, _INSTANT).replace(tzinfo=UTC)
    except ValueError:
        return None


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _signature(content: bytes, key: Key) -> str:
    return hmac.new(key.derive(_PURPOSE), content, hashlib.sha256).hexdigest()


def _damaged(name: str, found: str) -> BackupDamaged:
    return BackupDamaged(
        f"manifest {name}",
        "was changed or damaged after it was written",
        found=found,
        fix="Use another backup (lakehouse backups lists them), or a copy of this one",
    )
