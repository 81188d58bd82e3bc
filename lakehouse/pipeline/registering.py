"""Registering a feature view: a declaration over a table that dbt builds is written whole, or refused with every reason."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lakehouse.durable import sync, write_whole
from lakehouse.errors import FeatureError, FeatureViewNotFound, TransformError, ViewRefused
from lakehouse.features.point_in_time import default_literals
from lakehouse.features.views import FeatureView, declared_view, feature_views
from lakehouse.locks import exclusive
from lakehouse.pipeline.workspace import Workspace
from lakehouse.tables import TableName
from lakehouse.transform.generated import ADDED
from lakehouse.transform.registered import RegisteredView, ViewDeclaration, reasons_of, registered_dir

if TYPE_CHECKING:
    pass

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_LAYERS = ("staging", "analytics", "features")
_TABLES = frozenset({"model", "seed", "snapshot"})


@dataclass(frozen=True, slots=True)
class Registration:
    """What came of it.

    Attributes:
        view: as it is declared now.
        path: of the declaration.
        is_new: there was no view of this name.
        is_changed: something was written; a dry run says what would be.
    """

    view: FeatureView
    path: Path
    is_new: bool
    is_changed: bool


def read_declaration(path: Path) -> Mapping[str, Any]:
    """The document of a file, YAML or JSON.

    Raises:
        FeatureError: it is neither, or can't be read.
    """
    import yaml

    try:
        document: Any = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise FeatureError(str(path), "can't be read", found=error.strerror) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FeatureError(str(path), "is neither YAML nor JSON", found=" ".join(str(error).split())) from error
    if not isinstance(document, Mapping):
        raise FeatureError(str(path), "declares nothing", expected="table, features, feature_view", found=type(document).__name__)
    return document


def register_view(workspace: Workspace, name: str, document: Mapping[str, Any] | ViewDeclaration, *, dry_run: bool = False) -> Registration:
    """Declare a feature view over a table, or declare it anew; the same again changes nothing.

    One file is written, in one piece, and dbt then parses the project; where it can't, everything is as it was.
    The table of the view is built with the others, by the next run.

    Args:
        workspace: the home.
        name: of the view.
        document: as `ViewDeclaration`.
        dry_run: only find out what would come of it.

    Raises:
        ViewRefused: it is not valid; with every reason.
        TransformError: dbt could not parse the project before.
    """
    subject = f"feature view {name}"
    try:
        declaration = document if isinstance(document, ViewDeclaration) else ViewDeclaration.model_validate(document)
    except ValidationError as error:
        raise ViewRefused(subject, reasons_of(error)) from error
    # Before the lock is made below the home: a name that is none must not become a path.
    if not _NAME.fullmatch(name):
        raise ViewRefused(subject, ["name: is not lower-case letters, digits and underscores, at most 63"])
    path = registered_dir(workspace.settings) / f"{name}.yaml"
    with exclusive(path.parent / ".lock", waiting=lambda: None):
        manifest = _manifest(workspace)
        registered, view, reasons = _judged(workspace, manifest, name, declaration, is_registered=path.exists())
        if registered is None or view is None or reasons:
            raise ViewRefused(subject, reasons)
        before = path.read_text("utf-8") if path.exists() else None
        if dry_run or before == registered.text():
            return Registration(view, path, is_new=before is None, is_changed=before != registered.text())
        write_whole(path, registered.text())
        try:
            views = feature_views(_manifest(workspace), workspace.contracts)
        except (TransformError, FeatureError) as error:
            _put_back(path, before)
            raise ViewRefused(subject, [f"dbt can't parse the project with it: {error}"]) from error
        return Registration(views[name], path, is_new=before is None, is_changed=True)


def unregister_view(workspace: Workspace, name: str) -> Path:
    """Take back a declaration; the view's table, and what the online store has, stay until they are removed.

    Raises:
        FeatureViewNotFound: no view of this name was registered.
        ViewRefused: somebody uses it.
    """
    subject = f"feature view {name}"
    path = registered_dir(workspace.settings) / f"{name}.yaml"
    if not _NAME.fullmatch(name) or not path.exists():
        raise FeatureViewNotFound(subject, "was not registered", fix="A view of the project is removed from dbt/models/features")
    with exclusive(path.parent / ".lock", waiting=lambda: None):
        before = path.read_text("utf-8")
        names = {name, f"features.{name}"}
        models = [model.name for model in workspace.contracts.models.values() if names & {*model.feature_views}]
        if models:
            raise ViewRefused(subject, [f"{model} is trained from it" for model in models], fix="Change those models first")
        path.unlink()
        sync(path.parent)
        try:
            _manifest(workspace)
        except TransformError as error:
            _put_back(path, before)
            raise ViewRefused(subject, [f"dbt can't parse the project without it: {error}"]) from error
    return path


def _put_back(path: Path, before: str | None) -> None:
    if before is None:
        path.unlink(missing_ok=True)
        sync(path.parent)
    else:
        write_whole(path, before)


def _manifest(workspace: Workspace) -> Mapping[str, Any]:
    import json

    from lakehouse.transform import prepare

    return json.loads(prepare(workspace.settings, workspace.contracts).read_bytes())


def _judged(
    workspace: Workspace, manifest: Mapping[str, Any], name: str, declaration: ViewDeclaration, *, is_registered: bool
) -> tuple[RegisteredView | None, FeatureView | None, list[str]]:
    """What the declaration comes to, or all that is wrong with it."""
    reasons = [f"{text!r} holds Jinja, which dbt would run" for text in declaration.jinja]
    nodes = {str(node["name"]): node for node in manifest["nodes"].values() if node["resource_type"] in _TABLES}
    if name in nodes and not (is_registered and nodes[name]["package_name"] == ADDED):
        reasons.append(f"{name} is a {nodes[name]['resource_type']} already that was not registered: change it there")
    view = None
    try:
        view = declared_view(
            name, declaration.feature_view.declared(), described=declaration.described, description=declaration.description
        )
    except FeatureError as error:
        reasons.append(str(error))
    source, problem = _source(workspace, manifest, declaration.table, name)
    if problem is not None or source is None:
        return None, view, [*reasons, problem or ""]
    reasons += _misfits(declaration, view, workspace.lake.schema(declaration.table))
    if reasons:
        return None, view, reasons
    version = source.get("version")
    domain = (source.get("config", {}).get("meta") or {}).get("domain")
    registered = RegisteredView(
        name=name,
        model=source["name"],
        model_version=None if version is None else str(version),
        domain=domain if isinstance(domain, str) else None,
        declaration=declaration,
    )
    return registered, view, []


def _source(workspace: Workspace, manifest: Mapping[str, Any], table: str, name: str) -> tuple[Mapping[str, Any] | None, str | None]:
    """What builds a table, or why nothing can be taken from it."""
    built = {
        f"{node['schema']}.{node.get('alias') or node['name']}": node
        for node in manifest["nodes"].values()
        if node["resource_type"] in _TABLES and node["schema"] in _LAYERS and node["config"].get("materialized") != "ephemeral"
    }
    if table == f"features.{name}":
        return None, f"table: {table} is the view's own"
    if table not in built:
        close = get_close_matches(table, built, n=3, cutoff=0.5)
        return None, f"table: {table} is none that dbt builds" + (f"; did you mean {' or '.join(close)}?" if close else "")
    if f"features.{name}" in _above(manifest, built[table]):
        return None, f"table: {table} is made from features.{name} itself"
    if not workspace.lake.exists(TableName.parse(table)):
        return None, f"table: {table} has not been built: `lakehouse run` does"
    return built[table], None


def _above(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> set[str]:
    """The tables that a table is made from, directly or not; dbt finds a circle only when it builds."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        for parent in (waiting.pop().get("depends_on") or {}).get("nodes", ()):
            above = manifest["nodes"].get(parent)
            if above is not None and (table := f"{above['schema']}.{above.get('alias') or above['name']}") not in found:
                found.add(table)
                waiting.append(above)
    return found


def _misfits(declaration: ViewDeclaration, view: FeatureView | None, types: Mapping[str, str]) -> list[str]:
    """Where a declaration does not fit the table's columns."""
    reasons: list[str] = []
    missing = [column for column in declaration.columns if column not in types]
    if missing:
        reasons.append(f"{declaration.table} has no column {', '.join(missing)}; it has {', '.join(types)}")
    keys = {*declaration.feature_view.entity, *declaration.times}
    for feature in declaration.described:
        if feature in keys:
            reasons.append(f"features: {feature} is a key or an instant of the view")
        elif feature.startswith("_"):
            reasons.append(f"features: {feature} begins with an underscore, as what is no feature does")
    doubled = sorted({name for name in declaration.columns if sum(name.lower() == one.lower() for one in declaration.columns) > 1})
    if doubled:
        reasons.append(f"columns {', '.join(doubled)} differ in case only")
    instants = {"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", None}
    reasons += [f"{column} is {types[column]}, and no instant" for column in declaration.times if types.get(column) not in instants]
    if view is not None and not missing:
        reasons += _told(view, {column: types[column] for column in declaration.columns})
    return reasons


def _told(view: FeatureView, types: Mapping[str, str]) -> list[str]:
    """What the view's readers would say of it: its defaults, and its keys in the online store."""
    from lakehouse.features.online.rows import Typed, key_sql

    reasons: list[str] = []
    entity: list[Typed] = [Typed(column, types[column]) for column in view.entity]
    try:
        default_literals(view, types)
    except FeatureError as error:
        reasons.append(str(error))
    if view.online:
        try:
            key_sql(view.name, entity)
        except FeatureError as error:
            reasons.append(str(error))
    return reasons
