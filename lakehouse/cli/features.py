"""Commands about features: list, show, history, get, materialize, parity, search, register, unregister, serve."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import feature_view_names
from lakehouse.cli.screen import Screen, counted, human_size
from lakehouse.errors import DATA_DID_NOT_PASS, FeatureError
from lakehouse.instants import parse_instant

if TYPE_CHECKING:
    from lakehouse.features import FeatureView
    from lakehouse.features.online import Materialized, Occupancy, Parity
    from lakehouse.pipeline.features import ViewOverview

_View = Annotated[str, typer.Argument(help="The feature view; name@2 for one of several versions.", autocompletion=feature_view_names)]
_Views = Annotated[list[str] | None, typer.Argument(help="Feature views; all online ones without.", autocompletion=feature_view_names)]


# Of entities of which there is nothing to say, how many are told one by one.
_LISTED = 10
_WHY_MISSING = {"no row": "", "not then": " that was true and known then", "too old": " within {ttl} before then"}


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(name="features", help="Feature views: look them up, read them as of any instant, serve them.", no_args_is_help=True)
    app.add_typer(group, rich_help_panel="Models")
    command(group, "list")(list_views)
    command(group, "show")(show_view)
    command(group, "history")(view_history)
    command(group, "get")(get)
    command(group, "materialize")(materialize)
    command(group, "parity")(parity)
    command(group, "search")(search)
    command(group, "register")(register_view)
    command(group, "unregister")(unregister_view)
    command(group, "serve")(serve)


def list_views(screen: Screen) -> None:
    """List the feature views: whose features, from when, how many, and what the online store has."""
    from lakehouse.pipeline import feature_documents as documents
    from lakehouse.pipeline.features import declared, measured, online, overview
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    views = declared(workspace)
    with online(workspace) as features:
        found = [overview(workspace, features, view) for view in views.values()]
        store = measured(workspace, features)
        address = features.store.address
    document = {"views": [documents.summary(one) for one in found], "online_store": documents.store(address, store)}

    def show(out: Any) -> None:
        from rich.table import Table

        if not found:
            out.print("No feature views yet: declare meta.feature_view in a model under dbt/models/features.")
            return
        table = Table(box=None, pad_edge=False)
        for name in ("view", "entity", "ttl"):
            table.add_column(name)
        for name in ("features", "rows", "version", "online"):
            table.add_column(name, justify="right")
        for one in found:
            table.add_row(
                one.view.name,
                ", ".join(one.view.entity),
                _duration(one.view.ttl_s),
                str(len(one.features)),
                f"{one.rows:,}",
                "not built" if one.version is None else str(one.version),
                _online_word(one),
            )
        out.print(table)
        if store.is_alarming:
            out.print(_alarm(address, store), markup=False, soft_wrap=True, style="yellow")

    screen.emit(document, show)


def show_view(screen: Screen, *, view: _View) -> None:
    """Show a feature view: its features with types and meaning, its lineage, its freshness, and what serves it."""
    from lakehouse.features import find_view
    from lakehouse.pipeline import feature_documents as documents
    from lakehouse.pipeline.features import declared, online, overview
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    views = declared(workspace)
    with online(workspace) as features:
        found = overview(workspace, features, find_view(views, view))
    one, document = found.view, documents.description(workspace, views, found)

    def show(out: Any) -> None:
        from rich.table import Table

        def say(text: str, style: str = "") -> None:
            out.print(text, markup=False, soft_wrap=True, style=style or None)

        say(one.name, "bold")
        if one.description:
            say(one.description)
        say(f"entity {', '.join(one.entity)}; true from {one.event_timestamp or 'ever'}; known from {one.known_timestamp or 'then on'}")
        say(f"ttl {_duration(one.ttl_s)}; online: {_online_word(found)}; owner {one.owner or 'nobody'}")
        if one.source_priority:
            say(f"of rows of one instant the source decides: {' before '.join(one.source_priority)}")
        say(f"made from {', '.join(one.tables_above) or 'nothing'}; used by {', '.join(document['used_by']) or 'no model'}")
        if found.newest is not None:
            say(f"{one.table} version {found.version}, {found.rows:,} rows, last written {found.newest.timestamp:%Y-%m-%d %H:%M:%S}")
        table = Table(box=None, pad_edge=False)
        for name in ("feature", "type", "default", "meaning"):
            table.add_column(name)
        for name in found.features:
            default = one.defaults.get(name)
            table.add_row(name, found.columns.get(name, ""), "" if default is None else str(default), one.described.get(name, ""))
        out.print(table)

    screen.emit(document, show)


def view_history(
    screen: Screen, *, view: _View, limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the newest.")] = None
) -> None:
    """Show the versions of a feature view's table, newest first: what wrote them, by which definition, from what."""
    from lakehouse.features import find_view
    from lakehouse.pipeline import feature_documents as documents
    from lakehouse.pipeline.features import declared
    from lakehouse.pipeline.overview import table_history
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    one = find_view(declared(workspace), view)
    commits = table_history(workspace.lake, one.table, limit=limit)
    document = documents.history(one, commits)

    def show(out: Any) -> None:
        for commit in commits:
            stamp = commit.stamp
            inputs = ", ".join(f"{table}@{version}" for table, version in stamp.inputs.items()) if stamp else ""
            rows = "" if commit.rows is None else f"  {commit.rows:,} rows"
            code = f"  definition {stamp.code[:12]}" if stamp and stamp.code else ""
            out.print(
                f"{one.table}@{commit.version}  {commit.timestamp:%Y-%m-%d %H:%M:%S}  {commit.operation}{rows}{code}  {inputs}",
                markup=False,
                soft_wrap=True,
            )

    screen.emit(document, show)


def get(
    screen: Screen,
    *,
    views: Annotated[list[str], typer.Argument(help="One or several feature views.", autocompletion=feature_view_names)],
    entity: Annotated[
        list[str], typer.Option("--entity", help="A value, or column=value[,column=value] where the views need several; may be repeated.")
    ],
    as_of: Annotated[str | None, typer.Option("--as-of", help="The instant to look from, UTC; default now.")] = None,
    known_at: Annotated[str | None, typer.Option("--known-at", help="Only what was known by this instant; default --as-of.")] = None,
    feature: Annotated[list[str] | None, typer.Option("--feature", help="Only this one; may be repeated.")] = None,
    online: Annotated[bool, typer.Option("--online", help="Ask the online store instead of the tables.")] = False,
) -> None:
    """Read the features of entities: as they were true and known at an instant, or as they are served now."""
    from lakehouse.features import find_view
    from lakehouse.features.offline import historical_features
    from lakehouse.pipeline import feature_documents as documents
    from lakehouse.pipeline.features import declared
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    declared_views = declared(workspace)
    chosen = [find_view(declared_views, name) for name in views]
    columns = list(dict.fromkeys(column for view in chosen for column in view.entity))
    entities = [documents.entity_of(text, columns, subject="--entity") for text in entity]
    if online:
        if as_of or known_at:
            raise FeatureError("--online", "serves what is now", fix="Leave out --as-of and --known-at, or ask the tables without --online")
        _get_online(screen, workspace, chosen, entities, feature or ())
        return
    at = datetime.now(UTC) if as_of is None else _instant("--as-of", as_of)
    known = at if known_at is None else _instant("--known-at", known_at)
    found = historical_features(workspace.lake, chosen, entities, at=at, known_at=known, features=feature or ())
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    document = {
        "views": [one.name for one in chosen],
        "as_of": at,
        "known_at": known,
        "columns": [{"name": name, "type": kind} for name, kind in zip(found.columns, found.types, strict=True)],
        "rows": rows,
        "missing": [{"view": one.view, "entity": one.entity, "why": one.why} for one in found.missing],
        "versions": dict(found.versions),
    }
    ttl = {view.name: _duration(view.ttl_s) for view in chosen}

    def show(out: Any) -> None:
        _print_entities(out, rows)
        for one in found.missing[:_LISTED]:
            who = ", ".join(f"{name} {value}" for name, value in one.entity.items())
            why = _WHY_MISSING[one.why].format(ttl=ttl[one.view])
            screen.say(f"{one.view} has no row of {who}{why}: its features are NULL or have their defaults")
        if len(found.missing) > _LISTED:
            screen.say(f"... and so of {len(found.missing) - _LISTED:,} more")
        tables = ", ".join(f"{table}@{version}" for table, version in found.versions.items())
        screen.say(f"as of {at:%Y-%m-%d %H:%M:%S}, from {tables}")

    screen.emit(document, show)


def _get_online(
    screen: Screen, workspace: Any, views: "Sequence[FeatureView]", entities: Sequence[Mapping[str, str]], features: Sequence[str]
) -> None:
    from lakehouse.features.online import answer
    from lakehouse.pipeline.features import online as open_online

    with open_online(workspace) as served:
        found = answer(served, views, entities, now=datetime.now(UTC), features=features)

    def show(out: Any) -> None:
        _print_entities(out, found.rows)

    screen.emit(found.as_dict(), show)


def materialize(
    screen: Screen,
    *,
    views: _Views = None,
    full: Annotated[bool, typer.Option("--full", help="Write everything again, not only what has changed.")] = False,
    evict: Annotated[bool, typer.Option("--evict", help="Let go of what would not be served, too.")] = False,
) -> None:
    """Bring feature views in the online store to the newest version of their tables."""
    from lakehouse.pipeline import feature_documents as documents
    from lakehouse.pipeline.features import evict_old, materialize_view, measured, online, online_views
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    chosen = online_views(workspace, views or ())
    now = datetime.now(UTC)
    skipped: list[str] = []
    done: list[Materialized] = []
    with online(workspace) as features:
        evicted = evict_old(workspace, features, now=now) if evict else None
        for view in chosen:
            # Without names it is all that there is; what has not been built is none of it.
            if not views and not workspace.lake.exists(view.table):
                skipped.append(view.name)
            else:
                done.append(materialize_view(workspace, features, view, now=now, full=full))
        store, address = measured(workspace, features), features.store.address
    document = {
        "views": [
            {
                "view": one.view,
                "table": one.table,
                "version": one.version,
                "since": one.since,
                "entities": one.entities,
                "written": one.written,
                "removed": one.removed,
                "whole": one.is_whole,
                "why": one.why,
            }
            for one in done
        ],
        "not_built": skipped,
        "evicted": None
        if evicted is None
        else {
            "rows": evicted.rows,
            "pushed": evicted.pushed,
            "lanes": evicted.lanes,
            "views": list(evicted.views),
            "bytes_freed": evicted.bytes_freed,
        },
        "online_store": documents.store(address, store),
    }

    def show(out: Any) -> None:
        for one in done:
            if one.is_unchanged:
                out.print(f"{one.view}: up to date with {one.table} version {one.version}", markup=False)
            else:
                entities = "1 entity" if one.entities == 1 else f"{one.entities:,} entities"
                what = f"all, because {one.why}" if one.is_whole else f"changed since version {one.since}, {one.removed:,} removed"
                out.print(f"{one.view}: {entities} ({what}); {one.table} version {one.version}", markup=False, soft_wrap=True)
        for name in skipped:
            out.print(f"{name}: its table has not been built", markup=False)
        if evicted is not None:
            rows = counted(evicted.rows + evicted.pushed, "row")
            out.print(f"Evicted {rows} and {counted(len(evicted.views), 'view')}: {human_size(evicted.bytes_freed)}")
        if store.is_alarming:
            out.print(_alarm(address, store), markup=False, soft_wrap=True, style="yellow")

    screen.emit(document, show)


def parity(
    screen: Screen,
    *,
    views: _Views = None,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Entities to compare.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Draws other entities.")] = 0,
) -> None:
    """Compare the online store with the tables; a view that differs is not served until it agrees again."""
    from lakehouse.pipeline.features import compare_view, online, online_views
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    now, run = datetime.now(UTC), new_run()
    with online(workspace) as features:
        there = features.store.states()
        chosen = [view for view in online_views(workspace, views or ()) if views or view.name in there]
        found = [compare_view(workspace, features, view, now=now, run=run, sample=sample, seed=seed) for view in chosen]
    document = {"views": [_parity_document(one) for one in found], "run": run}

    def show(out: Any) -> None:
        if not found:
            out.print("No view is in the online store: lakehouse features materialize brings them there.")
        for one in found:
            behind = f"; the table is at version {one.newest_version}" if one.newest_version != one.version else ""
            out.print(f"{one.view}: {one.claim}{behind}", markup=False, soft_wrap=True, style=None if one.passed else "red")

    screen.emit(document, show)
    if not all(one.passed for one in found):
        raise typer.Exit(DATA_DID_NOT_PASS)


def search(screen: Screen, *, text: Annotated[str, typer.Argument(help="Words of a feature's name or description.")]) -> None:
    """Search the features of all views by name, description, view and entity."""
    from lakehouse.pipeline import feature_documents as documents
    from lakehouse.pipeline.features import search as search_features
    from lakehouse.pipeline.workspace import Workspace

    found = search_features(Workspace.load(), text)
    document = documents.findings(text, found)

    def show(out: Any) -> None:
        for one in found:
            out.print(f"{one.view}.{one.feature}  {one.type or ''}  {one.description}".rstrip(), markup=False, soft_wrap=True)
        screen.say(counted(len(found), "feature"))

    screen.emit(document, show)


def register_view(
    screen: Screen,
    *,
    name: Annotated[str, typer.Argument(help="The view's name.")],
    declaration: Annotated[Path, typer.Argument(help="YAML or JSON: table, features, feature_view, description.", dir_okay=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only find out whether it is valid.")] = False,
) -> None:
    """Register a feature view over a table that dbt builds, or register it anew."""
    from lakehouse.pipeline import feature_documents as documents
    from lakehouse.pipeline.registering import read_declaration
    from lakehouse.pipeline.registering import register_view as register
    from lakehouse.pipeline.workspace import Workspace

    done = register(Workspace.load(), name, read_declaration(declaration), dry_run=dry_run)
    document = documents.registration(done, dry_run=dry_run)

    def show(out: Any) -> None:
        if dry_run:
            out.print(f"{name} is valid; nothing was written", markup=False)
        elif done.is_changed:
            out.print(f"{name} is {'registered' if done.is_new else 'registered anew'}: next, {document['next']}", markup=False)
        else:
            out.print(f"{name} is registered so already", markup=False)

    screen.emit(document, show)


def unregister_view(screen: Screen, *, view: _View) -> None:
    """Take back the registration of a feature view; its table stays."""
    from lakehouse.pipeline.registering import unregister_view as unregister
    from lakehouse.pipeline.workspace import Workspace

    unregister(Workspace.load(), view)
    screen.emit({"view": view, "removed": True}, lambda out: out.print(f"{view} is no registered view any more", markup=False))


def serve(
    screen: Screen,
    *,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on; default LAKEHOUSE_SERVING_HOST, this machine.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Default LAKEHOUSE_SERVING_PORT; 0 takes a free one.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, max=64, help="Processes; default LAKEHOUSE_SERVING_WORKERS.")] = None,
) -> None:
    """Serve features over HTTP, until it is told to end."""
    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.serving.app import keys_of, listen

    given = {"serving_host": host, "serving_port": port, "serving_workers": workers}
    settings = Workspace.load().settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    server = listen(settings)
    document = {"url": server.url, "workers": settings.serving_workers, "keys": len(keys_of(settings))}
    if screen.json:
        screen.emit(document, lambda _: None)
    else:
        screen.show_to_auditor(document)
        screen.say(f"Serving features on {server.url} (Ctrl-C stops it); {server.url}/v1/openapi.json describes how to ask")
    server.serve()


def _online_word(found: "ViewOverview") -> str:
    state = found.online
    if not found.view.online:
        return "no"
    if state is None:
        return "not yet"
    if state.blocked is not None:
        return "BLOCKED"
    return f"version {state.version}"


def _alarm(address: str, store: "Occupancy") -> str:
    share = f"{store.share or 0:.0%} of {human_size(store.limit_bytes or 0)}"
    return f"Warning: the online store {address} takes {share}: evict with lakehouse features materialize --evict, or raise LAKEHOUSE_ONLINE_LIMIT_MB"


def _parity_document(one: "Parity") -> dict[str, Any]:
    return {
        "view": one.view,
        "table": one.table,
        "version": one.version,
        "newest_version": one.newest_version,
        "passed": one.passed,
        "sampled": one.sampled,
        "differing": one.differing,
        "differences": [
            {"entity": each.entity, "feature": each.feature, "online": each.online, "offline": each.offline} for each in one.differences
        ],
        "skew": one.skew,
        "skew_by_feature": dict(one.skew_by_feature),
        "shift_by_feature": dict(one.shift_by_feature),
    }


def _instant(option: str, text: str) -> datetime:
    return parse_instant(text, subject=option, error=FeatureError, expected="such as 2026-01-31 or 2026-01-31T12:00:00Z")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "none"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _print_entities(out: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Features below each other, as there are many of them; entities side by side."""
    from rich.table import Table
    from rich.text import Text

    from lakehouse.cli.screen import cell

    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(len(rows) + 1):
        table.add_column(overflow="fold")
    for name in rows[0] if rows else ():
        table.add_row(name, *(Text("NULL" if row[name] is None else str(cell(row[name]))) for row in rows))
    out.print(table)
