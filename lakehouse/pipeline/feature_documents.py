"""What is told of feature views: the documents that the command line prints and the Feature API sends, and how an entity is written."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.errors import FeatureError

if TYPE_CHECKING:
    from lakehouse.features import FeatureView
    from lakehouse.features.online import Occupancy
    from lakehouse.pipeline.features import Found, ViewOverview
    from lakehouse.pipeline.registering import Registration
    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.tables import CommitInfo


def summary(found: "ViewOverview") -> dict[str, Any]:
    """A view in a list."""
    view, state = found.view, found.online
    return {
        "view": view.name,
        "version_of_model": view.version,
        "table": view.table,
        "entity": list(view.entity),
        "event_timestamp": view.event_timestamp,
        "known_timestamp": view.known_timestamp,
        "ttl_s": view.ttl_s,
        "owner": view.owner,
        "feature_count": len(found.features),
        "rows": found.rows,
        "version": found.version,
        "last_written": found.newest.timestamp if found.newest is not None else None,
        "online": view.online,
        "served": None
        if state is None
        else {
            "version": state.version,
            "confirmed_at": datetime.fromtimestamp(state.synced_us / 1e6, UTC),
            "blocked": state.blocked,
        },
    }


def description(workspace: "Workspace", views: "Mapping[str, FeatureView]", found: "ViewOverview") -> dict[str, Any]:
    """A view with its features, what it is made from, and who uses it."""
    one = found.view
    return {
        **summary(found),
        "description": one.description,
        "features": [
            {
                "name": name,
                "type": found.columns.get(name),
                "description": one.described.get(name, ""),
                "default": one.defaults.get(name),
            }
            for name in found.features
        ],
        "source_priority": list(one.source_priority),
        "versions_beside": [other.name for other in views.values() if other.model == one.model and other.name != one.name],
        "made_from": list(one.tables_above),
        "used_by": [model.name for model in workspace.contracts.models.values() if {*model.feature_views} & {*one.names}],
    }


def history(view: "FeatureView", commits: "Sequence[CommitInfo]") -> dict[str, Any]:
    """The versions of a view's table."""
    return {
        "view": view.name,
        "table": view.table,
        "versions": [
            {
                "version": commit.version,
                "timestamp": commit.timestamp,
                "operation": commit.operation,
                "rows": commit.rows,
                "definition": commit.stamp.code if commit.stamp else None,
                "inputs": dict(commit.stamp.inputs) if commit.stamp else {},
                "run": commit.stamp.run if commit.stamp else None,
            }
            for commit in commits
        ],
    }


def findings(text: str, found: "Sequence[Found]") -> dict[str, Any]:
    """The features that a search found."""
    return {
        "text": text,
        "features": [{"view": one.view, "feature": one.feature, "type": one.type, "description": one.description} for one in found],
    }


def registration(done: "Registration", *, dry_run: bool) -> dict[str, Any]:
    """What came of registering a view."""
    then = "lakehouse run" + (f", then lakehouse features materialize {done.view.name}" if done.view.online else "")
    return {
        "view": done.view.name,
        "table": done.view.table,
        "created": done.is_new,
        "changed": done.is_changed,
        "dry_run": dry_run,
        "next": then,
    }


def store(address: str, occupancy: "Occupancy") -> dict[str, Any]:
    """What the online store takes."""
    return {
        "address": address,
        "size_bytes": occupancy.used_bytes,
        "limit_bytes": occupancy.limit_bytes,
        "share": occupancy.share,
        "alarm": occupancy.is_alarming,
        "rows": sum(lane.rows for lane in occupancy.lanes.values()),
    }


def entity_of(text: str, columns: Sequence[str], *, subject: str) -> dict[str, str]:
    """An entity as people write it: a value where there is one column, otherwise `column=value,column=value`.

    Args:
        text: what was written.
        columns: the entity's.
        subject: what the text was given as, for the error.

    Raises:
        FeatureError: it does not say which columns it means.
    """
    if len(columns) == 1 and not text.startswith(f"{columns[0]}="):
        return {columns[0]: text}
    parts = [part.partition("=") for part in text.split(",")]
    if any(not mark or name.strip() not in columns for name, mark, _ in parts):
        expected = ",".join(f"{column}=..." for column in columns)
        raise FeatureError(f"{subject} {text}", "does not say which columns it means", expected=expected)
    return {name.strip(): value for name, _, value in parts}
