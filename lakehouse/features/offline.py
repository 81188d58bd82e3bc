"""Features out of the tables: of any entities, at any instant, of several views at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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


@dataclass(frozen=True, slots=True)
class Historical:
    """Features of entities at an instant.

    Attributes:
        columns: the entities', then the features'.
        types: their DuckDB types.
        rows: in the order of the entities.
        versions: the version each table was read at.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    versions: Mapping[str, int]


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
        return Historical(columns, types, tuple(cursor.fetchall()), dict(session.versions))


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
