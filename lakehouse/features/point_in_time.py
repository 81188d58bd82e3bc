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
            f"{alias}.{quote_identifier(f'__f{position}')} AS {quote_identifier(names[(joined.view.name, feature)])}"
            for position, feature in enumerate(joined.features)
        ]
    return f"WITH {', '.join(parts)} SELECT {', '.join(delivered)} FROM spine {' '.join(joins)}"


def _one_view(joined: JoinedView) -> str:
    """Spine ids with the features that this view has for them; ids without a match may be missing."""
    view, parts = joined.view, _Parts.of(joined)
    if view.event_timestamp is None and view.known_timestamp is None:
        rows = f"SELECT {parts.columns} FROM {joined.relation} {parts.first_of('')}"
        return f"SELECT {parts.wanted('spine')} FROM spine JOIN ({rows}) AS rows_of ON {parts.same_entity('spine')}"
    if view.event_timestamp is None:
        # What has no event time was always true: it only has to be known. A spine without any time asks for what is known now.
        known = _instant(view.known_timestamp)
        rows = f"SELECT {parts.columns}, {known} AS __known FROM {joined.relation} WHERE {known} IS NOT NULL {parts.first_of(known)}"
        asked = "coalesce(spine.__known, TIMESTAMPTZ 'infinity')"
        return f"SELECT {parts.wanted('spine')} FROM spine ASOF JOIN ({rows}) AS rows_of ON {parts.same_entity('spine')} AND {asked} >= rows_of.__known"
    at = _instant(view.event_timestamp)
    known = _instant(view.known_timestamp) if view.known_timestamp else "NULL::TIMESTAMPTZ"
    source = f"SELECT {parts.columns}, {at} AS __at, {known} AS __known FROM {joined.relation} WHERE {at} IS NOT NULL"
    if view.known_timestamp:
        source += f" AND {known} IS NOT NULL"

    def fresh(side: str) -> str:
        return f" AND rows_of.__at >= {side}.__at - {_interval(view.ttl_s)}" if view.ttl_s is not None else ""

    # The instant first, from keys and times alone; then the rows of that instant, of which there are few, and the best of them.
    asked = ", ".join(f"spine.{quote_identifier(column)}" for column in ("__id", "__at", "__known", *dict.fromkeys(view.entity)))
    found = (
        f"SELECT {asked}, rows_of.__at AS __found FROM spine ASOF JOIN ({source}) AS rows_of"
        f" ON {parts.same_entity('spine')} AND spine.__at >= rows_of.__at WHERE true{fresh('spine')}"
    )
    in_time = " AND rows_of.__known <= found.__known" if view.known_timestamp else ""
    newest = (
        f"SELECT {parts.wanted('found')} FROM found JOIN ({source}) AS rows_of"
        f" ON {parts.same_entity('found')} AND rows_of.__at = found.__found{in_time}"
        f" QUALIFY row_number() OVER (PARTITION BY found.__id ORDER BY {parts.order}) = 1"
    )
    if view.known_timestamp is None:
        return f"WITH found AS ({found}) {newest}"
    # Where no row of the newest instant was known in time, one of an earlier instant may be: only for those is every row looked
    # at, because an ASOF join knows one inequality and here are two.
    return (
        f"WITH found AS MATERIALIZED ({found}), newest AS MATERIALIZED ({newest}),"
        " late AS (SELECT * FROM found ANTI JOIN newest ON found.__id = newest.__id),"
        f" earlier AS (SELECT {parts.wanted('late')} FROM late JOIN ({source}) AS rows_of ON {parts.same_entity('late')}"
        f"   AND rows_of.__at <= late.__at AND rows_of.__known <= late.__known{fresh('late')}"
        f"  QUALIFY row_number() OVER (PARTITION BY late.__id ORDER BY rows_of.__at DESC, {parts.order}) = 1)"
        f" SELECT {parts.delivered} FROM newest UNION ALL SELECT {parts.delivered} FROM earlier"
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """Pieces of SQL that every way to join a view is made of.

    Attributes:
        columns: entity as __e0..., features as __f0..., what decides between equals as __t0...: names that no column of a view or
            a spine has, because DuckDB takes a column before the alias of its name.
        order: decides between rows of one entity and instant, the strongest first.
    """

    entity: tuple[str, ...]
    features: tuple[str, ...]
    columns: str
    order: str

    @classmethod
    def of(cls, joined: JoinedView) -> "_Parts":
        breakers = [joined.view.known_timestamp] if joined.view.known_timestamp else []
        breakers += [column for column in ARRIVAL if column in joined.columns]
        named = [("__e", joined.view.entity), ("__f", joined.features), ("__t", tuple(breakers))]
        columns = [f"{quote_identifier(column)} AS {mark}{place}" for mark, group in named for place, column in enumerate(group)]
        features = [f"__f{place}" for place in range(len(joined.features))]
        order = [*(f"__t{place}" for place in range(len(breakers))), *features]
        return cls(
            entity=joined.view.entity,
            features=tuple(features),
            columns=", ".join(columns),
            order=", ".join(f"{name} DESC NULLS LAST" for name in order) or "1",
        )

    @property
    def delivered(self) -> str:
        """The SELECT list of what has been joined."""
        return ", ".join(["__id", *self.features])

    def wanted(self, side: str) -> str:
        """The SELECT list of a join between `side`, the spine or a part of it, and `rows_of`."""
        return ", ".join([f"{side}.__id", *(f"rows_of.{feature}" for feature in self.features)])

    def same_entity(self, side: str) -> str:
        """The condition of that join."""
        return " AND ".join(f"{side}.{quote_identifier(column)} = rows_of.__e{place}" for place, column in enumerate(self.entity))

    def first_of(self, instant: str) -> str:
        """Keeps one row per entity and instant, so that an ASOF join has nothing to choose."""
        group = [*(f"__e{place}" for place in range(len(self.entity))), *([instant] if instant else [])]
        return f"QUALIFY row_number() OVER (PARTITION BY {', '.join(group)} ORDER BY {self.order}) = 1"


def _instant(column: str | None) -> str:
    return f"CAST({quote_identifier(column or '')} AS TIMESTAMPTZ)"


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
