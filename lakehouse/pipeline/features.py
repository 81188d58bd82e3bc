"""Feature views of a home: what there is, the online store, and whether both agree."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.errors import FeatureError
from lakehouse.features.views import FeatureView, feature_views, find_view
from lakehouse.pipeline.workspace import Workspace
from lakehouse.sql import quote_literal

if TYPE_CHECKING:
    from lakehouse.features.online import Evicted, Materialized, Occupancy, OnlineFeatures, Parity, ViewState
    from lakehouse.tables import CommitInfo

PARITY_TABLE = "monitoring.online_parity"
PARITY = "online_equals_offline"
ROOM = "online_store_has_room"
_MB = 1_000_000


def declared(workspace: Workspace) -> Mapping[str, FeatureView]:
    """Every feature view of the dbt project, by name.

    Raises:
        TransformError: dbt can't parse the project.
        FeatureError: a view is declared wrongly.
    """
    from lakehouse.transform import prepare

    return feature_views(prepare(workspace.settings, workspace.contracts), workspace.contracts)


def online_views(workspace: Workspace, names: Sequence[str] = ()) -> list[FeatureView]:
    """The named views, or all that are meant for the online store.

    Raises:
        FeatureError: there is no such view, or it is not meant for it.
    """
    views = declared(workspace)
    if not names:
        return [view for view in views.values() if view.online]
    chosen = [find_view(views, name) for name in names]
    for view in chosen:
        if not view.online:
            raise FeatureError(
                f"feature view {view.name}", "is not meant for the online store", fix="Say online: true in its meta.feature_view"
            )
    return chosen


def open_online(workspace: Workspace) -> "OnlineFeatures":
    """The online store, as the settings have it; whoever opens it closes its store.

    Raises:
        MissingExtra: Redis is set, and its client is not installed.
    """
    from lakehouse.features.online import OnlineFeatures, open_store

    settings = workspace.settings
    return OnlineFeatures(
        open_store(settings),
        ttl_s=settings.online_ttl_h * 3600,
        cache_rows=settings.online_cache_rows,
        cache_ttl_s=settings.online_cache_ttl_s,
    )


@contextmanager
def online(workspace: Workspace) -> "Iterator[OnlineFeatures]":
    """The online store, for as long as the block runs.

    Raises:
        MissingExtra: Redis is set, and its client is not installed.
    """
    features = open_online(workspace)
    try:
        yield features
    finally:
        features.store.close()


def limit_bytes(workspace: Workspace) -> int:
    """What the online store may take."""
    return workspace.settings.online_limit_mb * _MB


def materialize_view(
    workspace: Workspace, features: "OnlineFeatures", view: FeatureView, *, now: datetime, full: bool = False
) -> "Materialized":
    """Bring a view in the online store up to date; where that would be full, what is not served is let go of first.

    Raises:
        TableNotFound: the view's table has not been built.
        FeatureError: the view and its table don't fit together.
        StorageError: the store can't be reached, or is full.
    """
    from lakehouse.features.online import OnlineStoreFull, materialize

    limit = limit_bytes(workspace)
    try:
        return materialize(workspace.lake, features.store, view, now=now, full=full, limit_bytes=limit)
    except OnlineStoreFull:
        if not evict_old(workspace, features, now=now).bytes_freed:
            raise
        return materialize(workspace.lake, features.store, view, now=now, full=full, limit_bytes=limit)


def evict_old(workspace: Workspace, features: "OnlineFeatures", *, now: datetime) -> "Evicted":
    """Let go of what the online store would not serve.

    Raises:
        StorageError: the store can't be reached.
    """
    from lakehouse.features.online import evict

    return evict(features.store, now=now, ttl_s=workspace.settings.online_ttl_h * 3600)


def measured(workspace: Workspace, features: "OnlineFeatures") -> "Occupancy":
    """What the online store takes.

    Raises:
        StorageError: the store can't be reached.
    """
    from lakehouse.features.online import occupancy

    return occupancy(features.store, limit_bytes(workspace))


def compare_view(
    workspace: Workspace, features: "OnlineFeatures", view: FeatureView, *, now: datetime, run: str, sample: int = 200, seed: int = 0
) -> "Parity":
    """Compare online with offline, serve the view or not as it says, and record what was found.

    Raises:
        FeatureError: the view is not in the online store.
        TableNotFound: its table has not been built.
        StorageError: the store can't be reached.
    """
    from lakehouse.features.online import check_parity
    from lakehouse.tables import Stamp

    found = check_parity(workspace.lake, features, view, now=now, sample=sample, seed=seed)
    if found is None:
        raise FeatureError(
            f"feature view {view.name}", "is not in the online store", fix=f"Run `lakehouse features materialize {view.name}` first"
        )
    worst = max(found.skew_by_feature, key=lambda name: found.skew_by_feature[name], default=None)
    values = {
        "view": (view.name, "VARCHAR"),
        "table": (view.table, "VARCHAR"),
        "version": (found.version, "BIGINT"),
        "newest_version": (found.newest_version, "BIGINT"),
        "sampled": (found.sampled, "BIGINT"),
        "differing": (found.differing, "BIGINT"),
        "skew": (found.skew, "DOUBLE"),
        "most_skewed": (worst, "VARCHAR"),
        "skew_by_feature": (json.dumps(dict(found.skew_by_feature), sort_keys=True), "VARCHAR"),
        "shift_by_feature": (json.dumps(dict(found.shift_by_feature), sort_keys=True), "VARCHAR"),
        "passed": (found.passed, "BOOLEAN"),
        "measured_at": (now, "TIMESTAMP WITH TIME ZONE"),
        "run": (run, "VARCHAR"),
    }
    row = ", ".join(f"CAST({quote_literal(value)} AS {kind}) AS {name}" for name, (value, kind) in values.items())
    stamp = Stamp(asset=PARITY_TABLE, run=run, inputs={view.table: found.newest_version})
    with workspace.lake.connect(()) as session:
        workspace.lake.append(session.con, PARITY_TABLE, f"SELECT {row}", stamp=stamp)
    return found


@dataclass(frozen=True, slots=True)
class ViewOverview:
    """A view, its table, and what the online store has of it.

    Attributes:
        version: of the table; None where it has not been built.
        columns: DuckDB type by column.
        rows: of the table.
        newest: the table's newest commit that changed rows.
        online: what the store has; None where it has nothing.
    """

    view: FeatureView
    version: int | None
    columns: Mapping[str, str]
    rows: int
    newest: "CommitInfo | None"
    online: "ViewState | None"

    @property
    def features(self) -> tuple[str, ...]:
        """The features; those that dbt describes where the table has not been built."""
        return self.view.features(self.columns or self.view.described)


def overview(workspace: Workspace, features: "OnlineFeatures", view: FeatureView) -> ViewOverview:
    """What there is of a view.

    Raises:
        StorageError: the online store can't be reached.
    """
    from lakehouse.features.online import ViewState

    lake = workspace.lake
    state = ViewState.of(features.store.states().get(view.name))
    if not lake.exists(view.table):
        return ViewOverview(view, None, {}, 0, None, state)
    detail = lake.detail(view.table)
    newest = next((one for one in lake.history(view.table) if one.changes_rows), None)
    return ViewOverview(view, detail.version, detail.columns, detail.rows, newest, state)


@dataclass(frozen=True, slots=True)
class Found:
    """A feature that a search found."""

    view: str
    feature: str
    type: str | None
    description: str


def search(workspace: Workspace, text: str) -> list[Found]:
    """Features whose name, description, view or entity has every word of the text; those named so come first.

    Raises:
        TransformError: dbt can't parse the project.
    """
    words = text.lower().split()
    found: list[tuple[int, Found]] = []
    for view in declared(workspace).values():
        columns = workspace.lake.schema(view.table) if workspace.lake.exists(view.table) else {}
        about = f"{view.name} {view.description} {' '.join(view.entity)}".lower()
        for name in view.features(columns or view.described):
            described = view.described.get(name, "")
            own = f"{name} {described}".lower()
            if all(word in own or word in about for word in words):
                # First those whose own name says it, then whose description does, then whose view does.
                order = 0 if all(word in name.lower() for word in words) else 1 if all(word in own for word in words) else 2
                found.append((order, Found(view.name, name, columns.get(name), described)))
    return [one for _, one in sorted(found, key=lambda item: (item[0], item[1].view, item[1].feature))]
