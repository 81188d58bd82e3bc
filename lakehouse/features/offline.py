"""Features out of the tables: of any entities, at any instant, of several views at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import duckdb

from lakehouse.errors import FeatureError
from lakehouse.features.point_in_time import JoinedView, default_literals, point_in_time_sql
from lakehouse.features.training_set import relation
from lakehouse.features.views import FeatureView
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake

if TYPE_CHECKING:
    from lakehouse.tables import Session

_AT, _KNOWN = "__asked_at", "__asked_known"


class Absence(StrEnum):
    """Why a view has nothing to say of an entity at an instant."""

    NO_ROW = "no row"
    NOT_THEN = "not then"
    TOO_OLD = "too old"


@dataclass(frozen=True, slots=True)
class Missing:
    """An entity of which a view has nothing to say: its features have their defaults, or are NULL.

    Attributes:
        view: the view's name.
        entity: as it was asked for.
        why: the view has no row of it at all, none that was true and known then, or none that is within the ttl.
    """

    view: str
    entity: Mapping[str, Any]
    why: Absence


@dataclass(frozen=True, slots=True)
class Historical:
    """Features of entities at an instant.

    Attributes:
        columns: the entities', then the features'.
        types: their DuckDB types.
        rows: in the order of the entities.
        versions: the version each table was read at.
        missing: which views have nothing to say of which entities, and why.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    versions: Mapping[str, int]
    missing: tuple[Missing, ...] = ()


def joined_views(session: "Session", views: Sequence[FeatureView], features: Sequence[str] = ()) -> tuple[list[JoinedView], dict[str, str]]:
    """Views as they take part in a join in this session, and the type of every entity column.

    Args:
        session: has the views' tables.
        views: the views.
        features: only these, as `feature` or `view.feature`; empty means all.

    Raises:
        FeatureError: a feature that no view has, or a declaration that does not fit its table.
    """
    joined: list[JoinedView] = []
    entity: dict[str, str] = {}
    unknown = set(features)
    for view in views:
        described = session.con.execute(f"DESCRIBE SELECT * FROM {relation(view.table)}").fetchall()
        types = {str(name): str(kind) for name, kind, *_ in described}
        own = view.features(types)
        chosen = [name for name in own if not features or {name, f"{view.name}.{name}"} & set(features)]
        unknown -= {one for name in own for one in (name, f"{view.name}.{name}")}
        for column in view.entity:
            entity.setdefault(column, types.get(column, "VARCHAR"))
        joined.append(JoinedView(view, relation(view.table), tuple(types), tuple(chosen), default_literals(view, types)))
    if unknown:
        known = ", ".join(name for one in joined for name in one.view.features(one.columns))
        raise FeatureError(
            f"feature {', '.join(sorted(unknown))}", "is in none of these views", expected=known, fix="lakehouse features search"
        )
    return joined, entity


def historical_features(
    lake: Lake,
    views: Sequence[FeatureView],
    entities: Sequence[Mapping[str, Any]],
    *,
    at: datetime,
    known_at: datetime | None = None,
    features: Sequence[str] = (),
    as_of: Mapping[str, int] | None = None,
) -> Historical:
    """What was true and known of entities at an instant.

    Args:
        lake: has the views' tables.
        views: to join; together they say which columns an entity needs.
        entities: values of these columns, by name; text is taken as the column's type.
        at: the instant to look from.
        known_at: the instant by which a value must have been known; default `at`.
        features: only these, as `feature` or `view.feature`; empty means all.
        as_of: versions of tables that are not to be read at their newest.

    Raises:
        FeatureError: an entity lacks a column, or has a value that is none of its type.
        TableNotFound: a view's table has not been built.
    """
    with lake.connect(dict.fromkeys(view.table for view in views), as_of=as_of) as session:
        joined, entity = joined_views(session, views, features)
        for one in entities:
            _require_columns(one, entity)
        spine = _spine(entities, entity, at=at, known_at=known_at or at)
        sql = point_in_time_sql(spine, joined, spine_columns=("__place", *entity, _AT, _KNOWN), event_timestamp=_AT, known_timestamp=_KNOWN)
        try:
            cursor = session.con.execute(f"SELECT * EXCLUDE (__place, {_AT}, {_KNOWN}) FROM ({sql}) ORDER BY __place")
        except duckdb.ConversionException as error:
            listed = ", ".join(f"{name} {kind}" for name, kind in entity.items())
            raise FeatureError("entity", "has a value of another type", expected=listed, found=str(error).splitlines()[0]) from error
        columns = tuple(str(column[0]) for column in cursor.description)
        types = tuple(str(column[1]) for column in cursor.description)
        rows = tuple(cursor.fetchall())
        missing = [one for view in views for one in _missing(session, view, entities, spine)]
        return Historical(columns, types, rows, dict(session.versions), tuple(missing))


def _missing(session: "Session", view: FeatureView, entities: Sequence[Mapping[str, Any]], spine: str) -> list[Missing]:
    """The entities for which the join finds no row of a view."""
    same = " AND ".join(f"asked.{quote_identifier(column)} = told.{quote_identifier(column)}" for column in view.entity)
    limits = ((view.event_timestamp, _AT), (view.known_timestamp, _KNOWN))
    then = [
        f"CAST(told.{quote_identifier(column)} AS TIMESTAMPTZ) <= CAST(asked.{asked} AS TIMESTAMPTZ)" for column, asked in limits if column
    ]
    fresh = list(then)
    if view.event_timestamp and view.ttl_s is not None:
        oldest = f"CAST(asked.{_AT} AS TIMESTAMPTZ) - INTERVAL {quote_literal(f'{view.ttl_s:.6f} seconds')}"
        fresh.append(f"CAST(told.{quote_identifier(view.event_timestamp)} AS TIMESTAMPTZ) >= {oldest}")
    there = f"told.{quote_identifier(view.entity[0])} IS NOT NULL"
    counts = [" AND ".join([there, *conditions]) for conditions in ([], then, fresh)]
    found = session.con.execute(
        f"SELECT asked.__place, {', '.join(f'count_if({one})' for one in counts)} FROM {spine} AS asked"
        f" LEFT JOIN {relation(view.table)} AS told ON {same} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    whys = {
        place: Absence.NO_ROW if not rows else Absence.NOT_THEN if not known else Absence.TOO_OLD
        for place, rows, known, young in found
        if not young
    }
    return [Missing(view.name, entities[place], why) for place, why in whys.items()]


def _require_columns(given: Mapping[str, Any], entity: Mapping[str, str]) -> None:
    missing = [column for column in entity if given.get(column) is None]
    unknown = [column for column in given if column not in entity]
    if missing or unknown:
        raise FeatureError(
            "entity",
            f"is given without {', '.join(missing)}" if missing else f"has no {', '.join(unknown)}",
            expected=", ".join(f"{name}=..." for name in entity),
            found=", ".join(f"{name}={value}" for name, value in given.items()) or "nothing",
        )


def _spine(entities: Sequence[Mapping[str, Any]], entity: Mapping[str, str], *, at: datetime, known_at: datetime) -> str:
    names = ", ".join(["__place", *map(quote_identifier, entity)])
    rows = [
        f"({place}, {', '.join(f'CAST({_literal(given[name])} AS {kind})' for name, kind in entity.items())})"
        for place, given in enumerate(entities)
    ]
    times = f"{quote_literal(at)} AS {_AT}, {quote_literal(known_at)} AS {_KNOWN}"
    return f"(SELECT *, {times} FROM (VALUES {', '.join(rows)}) AS asked({names}))"


def _literal(value: Any) -> str:
    # Text with a NUL is in no table.
    return quote_literal(value.replace("\0", "\ufffd") if isinstance(value, str) else value)
