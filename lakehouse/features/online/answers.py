"""What is answered about entities: the features of several views side by side, under the names that training has them by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from lakehouse.errors import FeatureError
from lakehouse.features.online.rows import EPOCH, microseconds
from lakehouse.features.online.serving import OnlineFeatures, Served
from lakehouse.features.online.state import ViewState
from lakehouse.features.point_in_time import names_side_by_side
from lakehouse.features.views import FeatureView

_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """The features of entities, as they are served at an instant.

    Attributes:
        views: that were asked, in their order.
        as_of: the instant.
        rows: an entity's columns and features each, in the order of the entities.
        served: for each of them where the features of each view are from.
        states: what the store has of each view.
    """

    views: tuple[FeatureView, ...]
    as_of: datetime
    rows: list[dict[str, Any]]
    served: list[dict[str, Served]]
    states: tuple[ViewState, ...]

    def as_dict(self) -> dict[str, Any]:
        """The document that the command line prints and the Feature API sends."""
        return {**self.about(), **self.of(0, len(self.rows))}

    def about(self) -> dict[str, Any]:
        """The document without its rows, which are empty."""
        now_us = microseconds(self.as_of)
        return {
            "views": [view.name for view in self.views],
            "as_of": self.as_of,
            "rows": [],
            "served": [],
            "versions": {state.table: state.version for state in self.states},
            "confirmed": {
                view.name: {"at": _instant(state.synced_us), "staleness_s": max(0, now_us - state.synced_us) / _SECOND_US}
                for view, state in zip(self.views, self.states, strict=True)
            },
        }

    def of(self, start: int, end: int) -> dict[str, Any]:
        """The document's fields of these entities alone, by their places."""
        return {
            "rows": self.rows[start:end],
            "served": [
                {
                    view: {"origin": origin, "event_time": event_time, "written_at": written_at}
                    for view, (_, origin, event_time, written_at) in each.items()
                }
                for each in self.served[start:end]
            ],
        }


@dataclass(frozen=True, slots=True)
class _Part:
    """What one view has to tell.

    Attributes:
        entity: its columns.
        features: which of its features, in its order.
        names: what each is called in a row.
        is_whole: whether these are all that it has.
    """

    view: str
    entity: tuple[str, ...]
    features: tuple[str, ...]
    names: tuple[str, ...]
    is_whole: bool


def answer(
    online: OnlineFeatures,
    views: Sequence[FeatureView],
    entities: Sequence[Mapping[str, Any]],
    *,
    now: datetime,
    features: Sequence[str] = (),
) -> Answer:
    """The features of entities now.

    Args:
        online: serves them.
        views: together they say which columns an entity needs.
        entities: values of these columns, by name.
        now: the instant.
        features: only these, as `feature` or `view.feature`; empty means all.

    Raises:
        ViewNotOnline: the store does not have a view.
        ServingBlocked: what the store has of a view is not what training sees.
        FeatureError: a feature that no view has, or an entity that is none of theirs.
        StorageError: the store can't be reached.
    """
    views = list({view.name: view for view in views}.values()) if len(views) > 1 else views
    states = tuple([online.state(view.name, now=now) for view in views])
    parts, columns = _parts(tuple([view.name for view in views]), states, tuple(features))
    for entity in entities:
        if not columns.issuperset(entity):
            raise FeatureError(
                "entity",
                f"has no {', '.join(name for name in entity if name not in columns)}",
                expected=", ".join(sorted(columns)),
                found=", ".join(entity),
            )
    rows: list[dict[str, Any]] = [dict(entity) for entity in entities]
    served: list[dict[str, Served]] = [{} for _ in entities]
    for part in parts:
        found = online.get(part.view, entities, now=now, features=None if part.is_whole else part.features)
        if part.is_whole and any(tuple(one.values) != part.features for one in found):
            # The store has the view with other features by now.
            found = online.get(part.view, entities, now=now, features=part.features)
        for row, origins, one in zip(rows, served, found, strict=True):
            row.update(zip(part.names, one.values.values(), strict=True))
            origins[part.view] = one
    return Answer(tuple(views), now, rows, served, states)


@lru_cache(maxsize=1_000)
def _parts(views: tuple[str, ...], states: tuple[ViewState, ...], wanted: tuple[str, ...]) -> tuple[tuple[_Part, ...], frozenset[str]]:
    """What views tell when these features are wanted, and every column of their entities; most callers ask the same again and again."""
    own = {view: tuple(feature.name for feature in state.features) for view, state in zip(views, states, strict=True)}
    meant = {one for view, names in own.items() for name in names for one in (name, f"{view}.{name}")}
    if unknown := [name for name in dict.fromkeys(wanted) if name not in meant]:
        listed = ", ".join(name for names in own.values() for name in names)
        raise FeatureError(f"feature {', '.join(unknown)}", "is in none of these views", expected=listed, fix="lakehouse features search")
    chosen = {
        view: tuple(name for name in names if not wanted or name in wanted or f"{view}.{name}" in wanted) for view, names in own.items()
    }
    entities = {view: tuple(column.name for column in state.entity) for view, state in zip(views, states, strict=True)}
    columns = dict.fromkeys(column for entity in entities.values() for column in entity)
    called = names_side_by_side(list(chosen.items()), taken=list(columns))
    parts = [
        _Part(view, entities[view], names, tuple(called[(view, name)] for name in names), is_whole=names == own[view])
        for view, names in chosen.items()
    ]
    return tuple(parts), frozenset(columns)


def _instant(microsecond: int) -> datetime:
    return EPOCH + timedelta(microseconds=microsecond)
