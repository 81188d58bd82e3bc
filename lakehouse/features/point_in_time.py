"""The point-in-time join: for every row of the spine, what was true and known of its entities at its instant."""

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.errors import FeatureError
from lakehouse.features.views import FeatureView
from lakehouse.sql import quote_identifier, quote_literal

# What ingestion leaves in a row; of two rows with the same entity and times, the one that arrived last wins.
ARRIVAL = ("_ingested_at", "_batch", "_sha256", "_row")


@dataclass(frozen=True, slots=True)
class JoinedView:
    """A view as it takes part in a join.

    Attributes:
        relation: SQL that can stand after FROM.
        columns: every column the relation has.
        features: which of them to deliver, in this order.
    """

    view: FeatureView
    relation: str
    columns: tuple[str, ...]
    features: tuple[str, ...]


def output_names(views: Sequence[JoinedView], *, taken: Sequence[str] = ()) -> dict[tuple[str, str], str]:
    """What each (view, feature) is called in the result: its own name, or `view__feature` where two things share it."""
    uses: dict[str, int] = {}
    for name in taken:
        uses[name.lower()] = uses.get(name.lower(), 0) + 1
    for joined in views:
        for feature in joined.features:
            uses[feature.lower()] = uses.get(feature.lower(), 0) + 1
    return {
        (joined.view.name, feature): feature if uses[feature.lower()] == 1 else f"{joined.view.name}__{feature}"
        for joined in views
        for feature in joined.features
    }


def point_in_time_sql(
    spine: str,
    views: Sequence[JoinedView],
    *,
    spine_columns: Sequence[str],
    event_timestamp: str | None,
    known_timestamp: str | None = None,
) -> str:
    """SQL that gives every spine row once, followed by the features of each view.

    For each view the newest row wins whose event time is not after the spine's, which is not older than the view's ttl, and
    which was known by then; features are NULL where there is none. Equal event times are decided by known time, then by the
    order of arrival, then by the values themselves: the same on every run. A view without event time joins on its entity, to the
    row that arrived last of those known by then.

    Args:
        spine: SQL that can stand after FROM; it has `spine_columns`.
        views: what to join, in the order of the result's columns.
        spine_columns: the spine's columns to deliver.
        event_timestamp: the spine's column of the instant to look from; needed as soon as a view has times.
        known_timestamp: the spine's column of the instant by which a value must have been known; default `event_timestamp`.

    Raises:
        FeatureError: a view's entity is not among the spine's columns, or the spine has no time for a view that has.
    """
    for joined in views:
        _require_joinable(joined, spine_columns, event_timestamp)
    names = output_names(views, taken=spine_columns)
    spine_list = ", ".join(quote_identifier(column) for column in spine_columns)
    event = f"CAST({quote_identifier(event_timestamp)} AS TIMESTAMPTZ)" if event_timestamp else "NULL::TIMESTAMPTZ"
    known = f"coalesce(CAST({quote_identifier(known_timestamp)} AS TIMESTAMPTZ), {event})" if known_timestamp else event
    numbered = f"row_number() OVER () AS __id, {event} AS __at, {known} AS __known"
    parts = [f"spine AS MATERIALIZED (SELECT {numbered}, {spine_list} FROM {spine} AS given)"]
    delivered = [f"spine.{quote_identifier(column)}" for column in spine_columns]
    joins: list[str] = []
    for number, joined in enumerate(views):
        alias = f"view_{number}"
        parts.append(f"{alias} AS ({_one_view(joined)})")
        joins.append(f"LEFT JOIN {alias} ON spine.__id = {alias}.__id")
        delivered += [
            f"{alias}.{quote_identifier(f'f{position}')} AS {quote_identifier(names[(joined.view.name, feature)])}"
            for position, feature in enumerate(joined.features)
        ]
    return f"WITH {', '.join(parts)} SELECT {', '.join(delivered)} FROM spine {' '.join(joins)}"


def _one_view(joined: JoinedView) -> str:
    """Spine ids with the features that this view has for them; ids without a match may be missing."""
    view = joined.view
    features = ", ".join(f"{quote_identifier(feature)} AS f{position}" for position, feature in enumerate(joined.features))
    entity = ", ".join(f"{quote_identifier(column)} AS e{position}" for position, column in enumerate(view.entity))
    order = ", ".join(f"{quote_identifier(column)} DESC NULLS LAST" for column in _tie_breakers(joined))
    same_entity = " AND ".join(f"spine.{quote_identifier(column)} = rows_of.e{position}" for position, column in enumerate(view.entity))
    wanted = ", ".join(["spine.__id", *(f"rows_of.f{position}" for position in range(len(joined.features)))])
    keys = ", ".join(quote_identifier(column) for column in view.entity)
    if view.event_timestamp is None and view.known_timestamp is None:
        newest = f"QUALIFY row_number() OVER (PARTITION BY {keys}{f' ORDER BY {order}' if order else ''}) = 1"
        rows = f"SELECT {entity}{', ' + features if features else ''} FROM {joined.relation} {newest}"
        return f"SELECT {wanted} FROM spine JOIN ({rows}) AS rows_of ON {same_entity}"
    # What has no event time was always true: it only has to be known.
    at = f"CAST({quote_identifier(view.event_timestamp)} AS TIMESTAMPTZ)" if view.event_timestamp else "TIMESTAMPTZ '-infinity'"
    known = f"CAST({quote_identifier(view.known_timestamp)} AS TIMESTAMPTZ)" if view.known_timestamp else "NULL::TIMESTAMPTZ"
    source = f"SELECT {entity}, {at} AS __at, {known} AS __known{', ' + features if features else ''}"
    fresh = f" AND rows_of.__at >= spine.__at - {_interval(view.ttl_s)}" if view.ttl_s is not None else ""
    if view.known_timestamp is None:
        # One row per entity and instant is left, so that the ASOF join has nothing to choose.
        once = f"QUALIFY row_number() OVER (PARTITION BY {keys}, {at} ORDER BY {order or '1'}) = 1"
        rows = f"{source} FROM {joined.relation} WHERE {at} IS NOT NULL {once}"
        found = f"SELECT {wanted}, rows_of.__at AS __found, spine.__at AS __asked FROM spine ASOF JOIN ({rows}) AS rows_of"
        matched = f"{found} ON {same_entity} AND spine.__at >= rows_of.__at"
        limit = f" WHERE __found >= __asked - {_interval(view.ttl_s)}" if view.ttl_s is not None else ""
        return f"SELECT * EXCLUDE (__found, __asked) FROM ({matched}){limit}"
    # Two inequalities: ASOF knows one. Candidates are ranked once, so that only a number is compared per spine row.
    ranked = f"row_number() OVER (ORDER BY {at}, {_ascending(joined)}) AS __rank"
    rows = f"{source}, {ranked} FROM {joined.relation} WHERE {at} IS NOT NULL AND {known} IS NOT NULL"
    happened = "rows_of.__at <= spine.__at AND " if view.event_timestamp else ""
    # A spine without any time asks for what is known now.
    known_by_then = "(spine.__known IS NULL OR rows_of.__known <= spine.__known)"
    return (
        f"SELECT {wanted} FROM spine JOIN ({rows}) AS rows_of"
        f" ON {same_entity} AND {happened}{known_by_then}{fresh}"
        " QUALIFY row_number() OVER (PARTITION BY spine.__id ORDER BY rows_of.__rank DESC) = 1"
    )


def _tie_breakers(joined: JoinedView) -> list[str]:
    """Columns that decide between rows of one entity and instant, the strongest first."""
    strongest = [joined.view.known_timestamp] if joined.view.known_timestamp else []
    strongest += [column for column in ARRIVAL if column in joined.columns]
    return strongest + [feature for feature in joined.features if feature not in strongest]


def _ascending(joined: JoinedView) -> str:
    return ", ".join(f"{quote_identifier(column)} ASC NULLS FIRST" for column in _tie_breakers(joined))


def _interval(seconds: float | None) -> str:
    return f"INTERVAL {quote_literal(f'{seconds:.6f} seconds')}"


def _require_joinable(joined: JoinedView, spine_columns: Sequence[str], event_timestamp: str | None) -> None:
    view = joined.view
    missing = [column for column in view.entity if column not in spine_columns]
    if missing:
        raise FeatureError(
            f"feature view {view.name}",
            "can't be joined",
            expected=f"its entity {', '.join(view.entity)} among the columns of the labels",
            found=", ".join(spine_columns),
            fix=f"Add {', '.join(missing)} to the model contract's entity",
        )
    if view.event_timestamp and not event_timestamp:
        raise FeatureError(
            f"feature view {view.name}",
            "has an event time, but the labels have none: values of the future would be used",
            fix="Name the label's event_timestamp in the model contract",
        )
    absent = [column for column in (*view.keys, *joined.features) if column not in joined.columns]
    if absent:
        raise FeatureError(
            f"feature view {view.name}", f"has no column {', '.join(absent)}", expected=", ".join(joined.columns), found=view.table
        )
