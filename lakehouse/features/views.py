"""Feature views: which dbt models are features of what, and how old a value may be."""

import json
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lakehouse.contracts import Contracts
from lakehouse.errors import FeatureError, FeatureViewNotFound

Default = str | int | float | bool

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
# Instants so far before now can still be written.
_LONGEST_S = 100 * 365.25 * 86_400
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+?)s?\s*", re.IGNORECASE)
_KNOWN_KEYS = {
    *("entity", "event_timestamp", "known_timestamp", "ttl", "online", "owner", "description"),
    *("defaults", "source", "source_priority"),
}
SOURCE = "_source"
"""Column that says which source a row came from, unless a view names another."""


@dataclass(frozen=True, slots=True)
class FeatureView:
    """One dbt model of features.

    Attributes:
        name: the dbt model's name; of a model with versions, that of one of them (`customer_activity_v2`).
        table: its Delta table, `layer.name`.
        entity: columns that say whose features a row holds.
        event_timestamp: column of the instant from which a row's values were true; None for values that do not change.
        known_timestamp: column of the instant from which they could be known; None means from the event on.
        ttl_s: a value older than this is as good as none; None means that it never ages.
        online: whether it is meant for the online store.
        defaults: what a feature is where it has no value, by its name.
        source: column that says which source a row came from.
        source_priority: sources, the most trusted first; of rows of one entity and instant theirs win in this order.
        model: the dbt model's name without a version.
        version: of the dbt model, where it has several side by side.
        is_latest: whether the model's name alone means this version.
        tables_above: tables that the model reads, as `layer.name`.
        datasets: raw tables that it is made from in the end, as `layer.name`.
        described: what its columns mean, by name.
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
    defaults: Mapping[str, Default] = field(default_factory=dict[str, Default])
    source: str = SOURCE
    source_priority: tuple[str, ...] = ()
    model: str = ""
    version: str | None = None
    is_latest: bool = True
    tables_above: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    described: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that are not features and have to be there: entity and times."""
        return (*self.entity, *(column for column in (self.event_timestamp, self.known_timestamp) if column))

    @property
    def names(self) -> tuple[str, ...]:
        """What it can be called by."""
        if self.version is None:
            return (self.name, self.table)
        versioned = tuple(f"{self.model}{mark}{self.version}" for mark in ("@", "@v", ".v"))
        return (self.name, self.table, *versioned, *([self.model] if self.is_latest else []))

    def features(self, columns: Iterable[str]) -> tuple[str, ...]:
        """The features among a table's columns: neither key, nor time, nor provenance (a leading underscore)."""
        keys = {*self.keys, self.source}
        return tuple(column for column in columns if column not in keys and not column.startswith("_"))


def feature_views(manifest: Path | Mapping[str, Any], contracts: Contracts | None = None) -> dict[str, FeatureView]:
    """Every feature view a dbt manifest declares (`meta.feature_view` of a model), by name.

    Args:
        manifest: the parsed manifest, or the path of its JSON.
        contracts: of the datasets: a view that names no priority of sources has that of the contract it is made from.

    Raises:
        FeatureError: a declaration is incomplete or has a key that means nothing.
    """
    document: Mapping[str, Any] = json.loads(manifest.read_text("utf-8")) if isinstance(manifest, Path) else manifest
    views: dict[str, FeatureView] = {}
    for unique_id, node in document.get("nodes", {}).items():
        if node.get("resource_type") != "model":
            continue
        declared = _declaration(node)
        if declared is not None:
            datasets = _datasets(document, unique_id)
            view = replace(_view(node, declared), tables_above=_tables_above(document, node), datasets=datasets)
            if not view.source_priority and contracts is not None:
                view = replace(view, source_priority=_priority(datasets, contracts))
            views[view.name] = view
    return dict(sorted(views.items()))


def declared_view(name: str, declared: Mapping[str, Any], *, described: Mapping[str, str], description: str = "") -> FeatureView:
    """The view that a model of this name would be with such a `meta.feature_view`.

    Raises:
        FeatureError: the declaration is incomplete or has a key that means nothing.
    """
    columns = {column: {"description": text} for column, text in described.items()}
    return _view({"name": name, "schema": "features", "description": description, "columns": columns}, declared)


def find_view(views: Mapping[str, FeatureView], name: str) -> FeatureView:
    """The view of that name; `features.name` is understood too, and `name@2` for a version of a model that has several.

    Raises:
        FeatureViewNotFound: there is none; the message names the closest.
    """
    for view in views.values():
        if name in view.names:
            return view
    close = get_close_matches(name, views, n=3, cutoff=0.5)
    raise FeatureViewNotFound(
        f"feature view {name}",
        "does not exist",
        expected=f"one of {', '.join(views) or 'none: no dbt model declares meta.feature_view'}",
        fix=f"Did you mean {' or '.join(close)}?" if close else "Declare meta.feature_view in a model under dbt/models/features",
    )


def _tables_above(document: Mapping[str, Any], node: Mapping[str, Any]) -> tuple[str, ...]:
    everything = {**document.get("sources", {}), **document.get("nodes", {})}
    above = [everything[parent] for parent in (node.get("depends_on") or {}).get("nodes", ()) if parent in everything]
    return tuple(sorted({f"{one['schema']}.{one.get('identifier') or one.get('alias') or one['name']}" for one in above}))


def _datasets(document: Mapping[str, Any], unique_id: str) -> tuple[str, ...]:
    waiting, seen = [unique_id], {unique_id}
    while waiting:
        node = document.get("nodes", {}).get(waiting.pop(), {})
        parents = (node.get("depends_on") or {}).get("nodes", ())
        waiting += [parent for parent in parents if parent not in seen]
        seen.update(parents)
    sources = [document["sources"][one] for one in seen if one in document.get("sources", {})]
    return tuple(sorted({f"{one['schema']}.{one['identifier']}" for one in sources if one["schema"] == "raw"}))


def _priority(datasets: Iterable[str], contracts: Contracts) -> tuple[str, ...]:
    """What the contracts above a model say, if they say one thing: of two that differ neither is about the other's sources."""
    names = [table.removeprefix("raw.") for table in datasets]
    said = {contracts.datasets[name].source_priority for name in names if name in contracts.datasets}
    found = {priority for priority in said if len(priority) > 1}
    return found.pop() if len(found) == 1 else ()


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
    version = node.get("version")
    priority = declared.get("source_priority") or ()
    if isinstance(priority, str) or not all(isinstance(one, str) for one in priority):
        raise FeatureError(f"{subject}: source_priority", "is not a list of sources", expected="[source, ...]", found=repr(priority))
    alias = str(node.get("alias") or name)
    return FeatureView(
        name=name if version is None else f"{name}_v{version}",
        table=f"{node['schema']}.{alias}",
        entity=columns,
        event_timestamp=event,
        known_timestamp=known,
        ttl_s=_seconds(declared.get("ttl"), subject),
        online=bool(declared.get("online", False)),
        owner=declared.get("owner"),
        description=str(node.get("description") or declared.get("description") or ""),
        defaults=_defaults(declared.get("defaults"), (*columns, event, known), subject),
        source=str(declared.get("source") or SOURCE),
        source_priority=tuple(priority),
        model=name,
        version=None if version is None else str(version),
        is_latest=version is None or str(version) == str(node.get("latest_version")),
        described={column: str(one.get("description") or "") for column, one in (node.get("columns") or {}).items()},
    )


def _defaults(given: Any, keys: Iterable[str | None], subject: str) -> dict[str, Default]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise FeatureError(f"{subject}: defaults", "are not written so", expected="{feature: value, ...}", found=repr(given))
    for feature, value in given.items():
        if feature in set(keys) or not isinstance(value, Default):
            problem = "is no feature, and can't have a default" if feature in set(keys) else "has a default that is no single value"
            raise FeatureError(f"{subject}: {feature}", problem, found=repr(value), fix="Correct meta.feature_view.defaults")
    return {str(feature): value for feature, value in given.items()}


def _seconds(ttl: object, subject: str) -> float | None:
    if ttl is None:
        return None
    seconds: float = 0
    if isinstance(ttl, int | float):
        seconds = 0 if isinstance(ttl, bool) else ttl
    elif match := _DURATION.fullmatch(str(ttl)):
        seconds = float(match.group(1)) * _UNIT_S.get(match.group(2).lower(), 0)
    if not 0 < seconds <= _LONGEST_S:
        expected = "a number of seconds, or such as 90 days, 24h; at most 100 years"
        raise FeatureError(f"{subject}: ttl", "is not a duration", expected=expected, found=reprlib.repr(ttl))
    return float(seconds)
