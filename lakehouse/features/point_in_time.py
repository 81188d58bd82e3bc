"""The point-in-time join: for every row of the spine, what was true and known of its entities at its instant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.errors import FeatureError
from lakehouse.features.views import FeatureView
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

# What ingestion leaves in a row; of two rows with the same entity and times, the one that arrived last wins.
ARRIVAL = ("_ingested_at", "_batch", "_sha256", "_row")
_SPINE = "__spine"


@dataclass(frozen=True, slots=True)
class JoinedView:
    """A view as it takes part in a join.

    Attributes:
        relation: SQL that can stand after FROM.
        columns: every column the relation has.
        features: which of them to deliver, in this order.
        defaults: SQL of what a feature is where it has no value, of the feature's own type; see `default_literals`.
    """

    view: FeatureView
    relation: str
    columns: tuple[str, ...]
    features: tuple[str, ...]
    defaults: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class StepwiseQuery:
    """A query in steps, each of which may read the ones before it.

    Attributes:
        steps: name and SELECT of each.
        select: what is asked for, out of them.
    """

    steps: tuple[tuple[str, str], ...]
    select: str

    @property
    def sql(self) -> str:
        """One statement."""
        return f"WITH {', '.join(f'{name} AS MATERIALIZED ({step})' for name, step in self.steps)} {self.select}"

    def run(self, con: "duckdb.DuckDBPyConnection") -> str:
        """Make a temporary table of each step, and return the SELECT that reads them.

        DuckDB lets every operator of a statement keep its memory until the statement ends. Where rows are many, steps by themselves take a
        quarter of the memory and two thirds of the time.
        """
        for name, step in self.steps:
            con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {step}")
        return self.select


def default_literals(view: FeatureView, types: Mapping[str, str]) -> dict[str, str]:
    """The defaults of a view as SQL, each of the type that its feature has.

    Args:
        view: declares them.
        types: DuckDB type by column.

    Raises:
        FeatureError: a default is for a feature that the view does not have, or is no value of its type.
    """
    import duckdb

    if not view.defaults:
        return {}
    found: dict[str, str] = {}
    with duckdb.connect(":memory:", config={"threads": 1}) as scratch:
        for feature, value in view.defaults.items():
            subject = f"feature view {view.name}: default of {feature}"
            if feature not in types:
                known = ", ".join(view.features(types))
                raise FeatureError(subject, "is for a feature that is not there", expected=known, fix="Correct meta.feature_view.defaults")
            found[feature] = f"CAST({quote_literal(value)} AS {types[feature]})"
            try:
                scratch.execute(f"SELECT {found[feature]}")
            except duckdb.Error as error:
                raise FeatureError(subject, "is no value of its type", expected=types[feature], found=repr(value)) from error
    return found


def output_names(views: Sequence[JoinedView], *, taken: Sequence[str] = ()) -> dict[tuple[str, str], str]:
    """What each (view, feature) is called in the result: its own name, or `view__feature` where two things share it."""
    return names_side_by_side([(joined.view.name, joined.features) for joined in views], taken=taken)


def names_side_by_side(views: Sequence[tuple[str, Sequence[str]]], *, taken: Sequence[str] = ()) -> dict[tuple[str, str], str]:
    """As `output_names`, of views by their name with their features."""
    uses: dict[str, int] = {}
    for name in (*taken, *(feature for _, features in views for feature in features)):
        uses[name.lower()] = uses.get(name.lower(), 0) + 1
    return {
        (view, feature): feature if uses[feature.lower()] == 1 else f"{view}__{feature}" for view, features in views for feature in features
    }


def point_in_time_sql(
    spine: str,
    views: Sequence[JoinedView],
    *,
    spine_columns: Sequence[str],
    event_timestamp: str | None,
    known_timestamp: str | None = None,
) -> str:
    """`point_in_time` as one statement.

    Raises:
        FeatureError: as there.
    """
    return point_in_time(spine, views, spine_columns=spine_columns, event_timestamp=event_timestamp, known_timestamp=known_timestamp).sql


def point_in_time(
    spine: str,
    views: Sequence[JoinedView],
    *,
    spine_columns: Sequence[str],
    event_timestamp: str | None,
    known_timestamp: str | None = None,
) -> StepwiseQuery:
    """Every spine row once, followed by the features of each view.

    For each view the newest row wins whose event time is not after the spine's, which is not older than the view's ttl, and
    which was known by then; features have their default, or are NULL, where there is none. Equal event times are decided by the
    priority of sources, then by known time, then by the order of arrival, then by the values themselves: the same on every run. A view
    without event time joins on its entity, to the row that arrived last of those known by then.

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
    steps = [(_SPINE, f"SELECT {numbered}, {spine_list} FROM {spine} AS given")]
    delivered = [f"spine.{quote_identifier(column)}" for column in spine_columns]
    joins: list[str] = []
    for number, joined in enumerate(views):
        alias = f"view_{number}"
        found = _one_view(joined, number)
        steps += found.steps
        joins.append(f"LEFT JOIN ({found.select}) AS {alias} ON spine.__id = {alias}.__id")
        delivered += [
            f"{_or_default(f'{alias}.__f{position}', joined, feature)} AS {quote_identifier(names[(joined.view.name, feature)])}"
            for position, feature in enumerate(joined.features)
        ]
    return StepwiseQuery(tuple(steps), f"SELECT {', '.join(delivered)} FROM {_SPINE} AS spine {' '.join(joins)}")


def newest_sql(joined: JoinedView, *, at: datetime, where: str = "true") -> str:
    """SQL of every entity's row at one instant, once per entity: the same row that `point_in_time_sql` finds, whatever its age.

    Args:
        joined: the view.
        at: the instant to look from, in both times.
        where: a condition over the relation's columns, as SQL.

    Returns:
        A SELECT of the entity (`__e0`, ...), the features with their defaults (`__f0`, ...), and `__at` and `__known`, which are NULL
        where the view has no such time.
    """
    view, parts = joined.view, _Parts.of(joined)
    limit = quote_literal(at)
    times = {"__at": view.event_timestamp, "__known": view.known_timestamp}
    selected = [f"{_instant(column) if column else 'NULL::TIMESTAMPTZ'} AS {mark}" for mark, column in times.items()]
    conditions = [f"({where})", *(f"{quote_identifier(column)} IS NOT NULL" for column in view.entity)]
    conditions += [f"{_instant(column)} <= {limit}" for column in times.values() if column]
    rows = f"SELECT {parts.columns}, {', '.join(selected)} FROM {joined.relation} WHERE {' AND '.join(conditions)}"
    entity = [f"__e{place}" for place in range(len(view.entity))]
    features = [f"{_or_default(f'__f{place}', joined, feature)} AS __f{place}" for place, feature in enumerate(joined.features)]
    order = ", ".join([*(["__at DESC"] if view.event_timestamp else []), parts.order])
    return (
        f"SELECT {', '.join([*entity, *features, '__at', '__known'])} FROM"
        f" (SELECT * FROM ({rows}) QUALIFY row_number() OVER (PARTITION BY {', '.join(entity)} ORDER BY {order}) = 1)"
    )


def _or_default(value: str, joined: JoinedView, feature: str) -> str:
    return f"coalesce({value}, {joined.defaults[feature]})" if feature in joined.defaults else value


def _one_view(joined: JoinedView, number: int) -> StepwiseQuery:
    """Spine ids with the features that this view has for them; ids without a match may be missing."""
    view, parts = joined.view, _Parts.of(joined)
    if view.event_timestamp is None and view.known_timestamp is None:
        rows = f"SELECT {parts.columns} FROM {joined.relation} {parts.first_of('')}"
        return StepwiseQuery(
            (), f"SELECT {parts.wanted('spine')} FROM {_SPINE} AS spine JOIN ({rows}) AS rows_of ON {parts.same_entity('spine')}"
        )
    if view.event_timestamp is None:
        # What has no event time was always true: it only has to be known. A spine without any time asks for what is known now.
        known = _instant(view.known_timestamp)
        rows = f"SELECT {parts.columns}, {known} AS __known FROM {joined.relation} WHERE {known} IS NOT NULL {parts.first_of(known)}"
        asked = "coalesce(spine.__known, TIMESTAMPTZ 'infinity')"
        in_time = f"{parts.same_entity('spine')} AND {asked} >= rows_of.__known"
        return StepwiseQuery((), f"SELECT {parts.wanted('spine')} FROM {_SPINE} AS spine ASOF JOIN ({rows}) AS rows_of ON {in_time}")
    return _by_event_time(joined, parts, number)


def _by_event_time(joined: JoinedView, parts: "_Parts", number: int) -> StepwiseQuery:
    """The same for a view with event time: the instant first, from keys and times alone; then the rows of that instant, and the best of them."""
    view = joined.view
    found, candidates, tied, late = (f"__{name}_{number}" for name in ("found", "candidates", "tied", "late"))
    at = _instant(view.event_timestamp)
    known = _instant(view.known_timestamp) if view.known_timestamp else "NULL::TIMESTAMPTZ"
    source = f"SELECT {parts.columns}, {at} AS __at, {known} AS __known FROM {joined.relation} WHERE {at} IS NOT NULL"
    if view.known_timestamp:
        source += f" AND {known} IS NOT NULL"

    def fresh(side: str) -> str:
        return f" AND rows_of.__at >= {side}.__at - {_interval(view.ttl_s)}" if view.ttl_s is not None else ""

    entity = [quote_identifier(column) for column in dict.fromkeys(view.entity)]
    asked = ", ".join(f"spine.{column}" for column in ("__id", "__at", "__known", *entity))
    # An ASOF join sorts all that it is given: rows of those that nobody asks for stay away from it.
    rows = f"SELECT * FROM ({source}) AS rows_of SEMI JOIN (SELECT DISTINCT {', '.join(entity)} FROM {_SPINE}) AS asked"
    rows += f" ON {parts.same_entity('asked')}"
    instants = (
        f"SELECT {asked}, rows_of.__at AS __found FROM {_SPINE} AS spine ASOF JOIN ({rows}) AS rows_of"
        f" ON {parts.same_entity('spine')} AND spine.__at >= rows_of.__at WHERE true{fresh('spine')}"
    )
    in_time = " AND rows_of.__known <= found.__known" if view.known_timestamp else ""
    of_instant = (
        f"SELECT found.__id, rows_of.* EXCLUDE (__at, __known) FROM {found} AS found JOIN ({source}) AS rows_of"
        f" ON {parts.same_entity('found')} AND rows_of.__at = found.__found{in_time}"
    )
    # Hardly ever has an instant more than one row: only where it has, rows are compared, which takes a sort of all that they hold.
    newest = (
        f"SELECT {parts.delivered} FROM {candidates} AS one ANTI JOIN {tied} AS tied ON one.__id = tied.__id UNION ALL"
        f" (SELECT {parts.delivered} FROM {candidates} AS one SEMI JOIN {tied} AS tied ON one.__id = tied.__id"
        f" QUALIFY row_number() OVER (PARTITION BY __id ORDER BY {parts.order}) = 1)"
    )
    steps = [
        (found, instants),
        (candidates, of_instant),
        (tied, f"SELECT __id FROM {candidates} GROUP BY __id HAVING count(*) > 1"),
    ]
    if view.known_timestamp is None:
        return StepwiseQuery(tuple(steps), newest)
    # Where no row of the newest instant was known in time, one of an earlier instant may be: only for those is every row looked
    # at, because an ASOF join knows one inequality and here are two.
    steps.append((late, f"SELECT found.* FROM {found} AS found ANTI JOIN {candidates} AS one ON found.__id = one.__id"))
    earlier = (
        f"SELECT {parts.wanted('late')} FROM {late} AS late JOIN ({source}) AS rows_of ON {parts.same_entity('late')}"
        f" AND rows_of.__at <= late.__at AND rows_of.__known <= late.__known{fresh('late')}"
        f" QUALIFY row_number() OVER (PARTITION BY late.__id ORDER BY rows_of.__at DESC, {parts.order}) = 1"
    )
    return StepwiseQuery(tuple(steps), f"{newest} UNION ALL SELECT {parts.delivered} FROM ({earlier})")


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
        view = joined.view
        known = [view.known_timestamp] if view.known_timestamp else []
        arrival = [quote_identifier(column) for column in ARRIVAL if column in joined.columns]
        trust = [_trust(view)] if view.source_priority and view.source in joined.columns else []
        times = [quote_identifier(column) for column in known]
        # A value that changes with nothing but what is known of it is corrected by whoever knows better later.
        breakers = [*trust, *times, *arrival] if view.event_timestamp else [*times, *trust, *arrival]
        named = [("__e", map(quote_identifier, view.entity)), ("__f", map(quote_identifier, joined.features)), ("__t", breakers)]
        columns = [f"{column} AS {mark}{place}" for mark, group in named for place, column in enumerate(group)]
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


def _trust(view: FeatureView) -> str:
    """A number that is the higher the more a row's source is trusted; of sources that nobody has named none is above another."""
    ranks = [f"WHEN {quote_literal(name)} THEN {-place}" for place, name in enumerate(view.source_priority)]
    return f"CASE CAST({quote_identifier(view.source)} AS VARCHAR) {' '.join(ranks)} ELSE {-len(ranks)} END"


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
