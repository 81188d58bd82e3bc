"""What an online store knows of a view: where its rows lie, what they are, and up to what they are right."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lakehouse.errors import FeatureError
from lakehouse.features.online.rows import Typed
from lakehouse.features.views import FeatureView

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ViewState:
    """The text that a store keeps of a view. Instants are microseconds since 1970.

    Attributes:
        lane: holds the rows of the table.
        pushed: holds rows that came by themselves; they win where they are newer, until the table has them.
        digest: of what the rows are made of; rows of another one can't be updated.
        table: the view's table, with its identity and the version of it that the rows are from.
        as_of_us: the instant they are seen from.
        synced_us: when they were last found to be those of the table.
        next_us: when the next row of that version becomes true or known; None where none will.
        ttl_s: of the view; a row whose features were true before is as good as none.
        defaults: what features are where there is no row, as their JSON.
        blocked: why the view is not served; None while it is.
    """

    lane: str
    pushed: str
    digest: str
    table: str
    identity: str
    version: int
    as_of_us: int
    synced_us: int
    entity: tuple[Typed, ...]
    features: tuple[Typed, ...]
    defaults: tuple[Any, ...]
    has_event: bool
    has_known: bool
    ttl_s: float | None = None
    next_us: int | None = None
    blocked: str | None = None

    def __hash__(self) -> int:
        # Equal states have equal ones of these; all of the columns would be hashed again for every row that is served.
        return hash((self.lane, self.version, self.synced_us))

    def as_text(self) -> str:
        """The state as a store keeps it."""
        return json.dumps(asdict(self) | {"format": _FORMAT}, separators=(",", ":"), sort_keys=True)

    @classmethod
    def of(cls, text: str | None) -> "ViewState | None":
        """The state in a text; None where there is none, or where another release wrote it in another way."""
        if text is None:
            return None
        found: dict[str, Any] = json.loads(text)
        if found.pop("format", None) != _FORMAT:
            return None
        for name in ("entity", "features"):
            found[name] = tuple(Typed(**one) for one in found[name])
        found["defaults"] = tuple(found["defaults"])
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a view its rows depend on."""

    entity: tuple[Typed, ...]
    features: tuple[Typed, ...]
    digest: str

    @classmethod
    def of(cls, view: FeatureView, columns: Mapping[str, str]) -> "Shape":
        """The shape of a view over a table of these columns.

        Raises:
            FeatureError: the table lacks columns that the view names.
        """
        missing = [column for column in view.keys if column not in columns]
        if missing:
            raise FeatureError(
                f"feature view {view.name}", f"has no column {', '.join(missing)}", expected=", ".join(columns), found=view.table
            )
        entity = tuple(Typed(name, columns[name]) for name in view.entity)
        features = tuple(Typed(name, columns[name]) for name in view.features(columns))
        source = view.source if view.source in columns else None
        parts = [
            _FORMAT,
            [asdict(one) for one in (*entity, *features)],
            [view.table, view.event_timestamp, view.known_timestamp, dict(view.defaults), source, source and view.source_priority],
        ]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return cls(entity, features, digest)
