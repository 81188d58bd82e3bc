"""Feature views: which dbt models are features of what, and how old a value may be."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lakehouse.errors import FeatureError

_UNIT_S = {
    "s": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
    "w": 604800,
    "week": 604800,
}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+?)s?\s*", re.IGNORECASE)
_KNOWN_KEYS = {"entity", "event_timestamp", "known_timestamp", "ttl", "online", "owner", "description"}


@dataclass(frozen=True, slots=True)
class FeatureView:
    """One dbt model of features.

    Attributes:
        name: the dbt model's name.
        table: its Delta table, `layer.name`.
        entity: columns that say whose features a row holds.
        event_timestamp: column of the instant from which a row's values were true; None for values that do not change.
        known_timestamp: column of the instant from which they could be known; None means from the event on.
        ttl_s: a value older than this is as good as none; None means that it never ages.
        online: whether it is meant for the online store.
    """

    name: str
    table: str
    entity: tuple[str, ...]
    event_timestamp: str | None = None
    known_timestamp: str | None = None
    ttl_s: float | None = None
    online: bool = False
    owner: str | None = None
    description: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that are not features: entity and times."""
        return (*self.entity, *(column for column in (self.event_timestamp, self.known_timestamp) if column))

    def features(self, columns: Iterable[str]) -> tuple[str, ...]:
        """The features among a table's columns: neither key, nor time, nor provenance (a leading underscore)."""
        keys = set(self.keys)
        return tuple(column for column in columns if column not in keys and not column.startswith("_"))


def feature_views(manifest: Path | Mapping[str, Any]) -> dict[str, FeatureView]:
    """Every feature view a dbt manifest declares (`meta.feature_view` of a model), by name.

    Args:
        manifest: the parsed manifest, or the path of its JSON.

    Raises:
        FeatureError: a declaration is incomplete or has a key that means nothing.
    """
    document: Mapping[str, Any] = json.loads(manifest.read_text("utf-8")) if isinstance(manifest, Path) else manifest
    views: dict[str, FeatureView] = {}
    for node in document.get("nodes", {}).values():
        if node.get("resource_type") != "model":
            continue
        declared = _declaration(node)
        if declared is not None:
            views[str(node["name"])] = _view(node, declared)
    return dict(sorted(views.items()))


def find_view(views: Mapping[str, FeatureView], name: str) -> FeatureView:
    """The view of that name; `features.name` is understood too.

    Raises:
        FeatureError: there is none; the message names the closest.
    """
    for view in views.values():
        if name in (view.name, view.table):
            return view
    close = get_close_matches(name, views, n=3, cutoff=0.5)
    raise FeatureError(
        f"feature view {name}",
        "does not exist",
        expected=f"one of {', '.join(views) or 'none: no dbt model declares meta.feature_view'}",
        fix=f"Did you mean {' or '.join(close)}?" if close else "Declare meta.feature_view in a model under dbt/models/features",
    )


def _declaration(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for meta in (node.get("config", {}).get("meta"), node.get("meta")):
        if meta and meta.get("feature_view"):
            return meta["feature_view"]
    return None


def _view(node: Mapping[str, Any], declared: Mapping[str, Any]) -> FeatureView:
    name = str(node["name"])
    subject = f"feature view {name}"
    unknown = sorted(set(declared) - _KNOWN_KEYS)
    if unknown:
        raise FeatureError(subject, "has keys that mean nothing", expected=", ".join(sorted(_KNOWN_KEYS)), found=", ".join(unknown))
    entity = declared.get("entity")
    columns = (entity,) if isinstance(entity, str) else tuple(str(column) for column in entity or ())
    if not columns:
        raise FeatureError(
            subject, "names no entity", expected="meta.feature_view.entity: [column, ...]", fix="Say whose features these are"
        )
    event, known = declared.get("event_timestamp"), declared.get("known_timestamp")
    return FeatureView(
        name=name,
        table=f"{node['schema']}.{node.get('alias') or name}",
        entity=columns,
        event_timestamp=event,
        known_timestamp=known,
        ttl_s=_seconds(declared.get("ttl"), subject),
        online=bool(declared.get("online", False)),
        owner=declared.get("owner"),
        description=str(node.get("description") or declared.get("description") or ""),
    )


def _seconds(ttl: object, subject: str) -> float | None:
    if ttl is None:
        return None
    if isinstance(ttl, int | float) and not isinstance(ttl, bool) and ttl > 0:
        return float(ttl)
    match = _DURATION.fullmatch(str(ttl))
    unit = _UNIT_S.get(match.group(2).lower()) if match else None
    if match is None or unit is None or float(match.group(1)) <= 0:
        raise FeatureError(f"{subject}: ttl", "is not a duration", expected="a number of seconds, or such as 90 days, 24h", found=repr(ttl))
    return float(match.group(1)) * unit
