"""Commands about a model's versions: promote, rollback, history, approve, archive, threshold; further ones are in modules of their own."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli import model_card, model_comparing, model_explaining, model_preview, model_reproducing, model_retraining
from lakehouse.cli.command import command
from lakehouse.cli.completion import model_names
from lakehouse.cli.model_version import Version, opened
from lakehouse.cli.screen import Screen

if TYPE_CHECKING:
    from lakehouse.learning.lifecycle import Author, Event, Guard, Ledger
    from lakehouse.learning.lifecycle.running import Outcome

_Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the history.")]
_By = Annotated[str | None, typer.Option("--by", help="Who; your user name if it is left out.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(name="model", help="A model's versions: their life, and what they are worth.", no_args_is_help=True)
    app.add_typer(group, rich_help_panel="Models")
    command(group, "promote")(promote)
    command(group, "rollback")(rollback)
    command(group, "approve")(approve)
    command(group, "archive")(archive)
    command(group, "threshold")(threshold)
    command(group, "history")(history)
    model_comparing.register(group)
    model_retraining.register(group)
    model_preview.register(group)
    model_reproducing.register(group)
    model_card.register(group)
    model_explaining.register(group)


def promote(screen: Screen, *, name: Version, reason: _Reason = "", by: _By = None) -> None:
    """Let a version, or the newest that may win, go as far towards production as its contract's guards allow."""
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    model, lifecycle, version = opened(screen, workspace, name)
    _emit(screen, model, lifecycle.promote(workspace.contracts.model(model), version, _author(by, reason)))


def rollback(screen: Screen, *, name: Version, reason: _Reason = "", by: _By = None) -> None:
    """Take back a canary, or return to the version that was in production before, or to a named one; nothing is deleted."""
    from lakehouse.pipeline.workspace import Workspace

    model, lifecycle, version = opened(screen, Workspace.load(), name)
    _emit(screen, model, lifecycle.roll_back(model, version, _author(by, reason)))


def approve(screen: Screen, *, name: Version, reason: _Reason = "", by: _By = None) -> None:
    """Approve a version, where the contract asks for that; `promote`, or the next run, then lets it go on."""
    from lakehouse.pipeline.workspace import Workspace

    model, lifecycle, version = opened(screen, Workspace.load(), name)
    _emit(screen, model, lifecycle.approve(model, version, _author(by, reason)))


def archive(screen: Screen, *, name: Version, reason: _Reason = "", by: _By = None) -> None:
    """Put a version away for good; the one in production can't be."""
    from lakehouse.errors import SettingsError
    from lakehouse.pipeline.workspace import Workspace

    model, lifecycle, version = opened(screen, Workspace.load(), name)
    if version is None:
        raise SettingsError(f"model {model}", "has several versions", expected="NAME@VERSION", found=name, fix="Name the version")
    _emit(screen, model, lifecycle.archive(model, version, _author(by, reason)))


def threshold(
    screen: Screen,
    *,
    name: Annotated[str, typer.Argument(help="The model.", autocompletion=model_names)],
    to: Annotated[
        float | None, typer.Option("--set", metavar="PROBABILITY", help="Answer the positive class from this probability on.")
    ] = None,
    suggested: Annotated[
        bool, typer.Option("--suggested", help="The one that does best on the labels that came, by monitoring.outcomes.")
    ] = False,
    reset: Annotated[bool, typer.Option("--reset", help="The model's own again.")] = False,
    reason: _Reason = "",
    by: _By = None,
) -> None:
    """Let the version in production decide by another threshold until the next one takes its place; the model stays as it is."""
    from lakehouse.errors import SettingsError
    from lakehouse.learning.threshold import adjust_threshold, suggested_threshold
    from lakehouse.pipeline.workspace import Workspace

    given = [option for option, is_given in (("--set", to is not None), ("--suggested", suggested), ("--reset", reset)) if is_given]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise SettingsError(
            "the threshold", "is to be said in one way", expected="--set, --suggested or --reset", found=found, fix="Give one"
        )
    workspace = Workspace.load()
    contract = workspace.contracts.model(name)
    model, lifecycle, _ = opened(screen, workspace, name)
    ledger = lifecycle.recorded(model)
    wanted = suggested_threshold(workspace.lake, contract, ledger.standings.get(ledger.production or "")) if suggested else to
    _emit(screen, model, adjust_threshold(lifecycle, contract, wanted, _author(by, reason)))


def history(screen: Screen, *, name: Version) -> None:
    """Show where a model's versions stand, and everything that happened to them: who, when, why."""
    from lakehouse.errors import ModelNotFound
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    model, lifecycle, version = opened(screen, workspace, name)
    ledger = lifecycle.look(model)
    events = [one for one in lifecycle.history(model) if version in {None, one.version}]
    if not events:
        # One that is none has no contract either; a model whose contract is gone still has its history.
        workspace.contracts.model(model)
        raise ModelNotFound(f"model {name}", "has no history", fix=f"Run `lakehouse train {model}`")
    document = {**_standings(ledger), "events": [_event(one) for one in events]}

    def show(out: Any) -> None:
        for one in document["versions"]:
            share = f", answers for {one['share']:g} %" if one["share"] else ""
            approved = f", approved by {one['approved_by']}" if one["approved_by"] else ""
            approved += f", decides from {one['threshold']:g} on" if one["threshold"] is not None else ""
            style = "bold green" if one["state"] == "production" else None
            out.print(
                f"{model}@{one['version']}  {one['semantic_version'] or '':<8} {one['state']}{share}{approved}", markup=False, style=style
            )
        _show_events(out, events)

    screen.emit(document, show)


def _author(by: str | None, reason: str) -> "Author":
    from lakehouse.learning.lifecycle import Author
    from lakehouse.pipeline.runs import new_run
    from lakehouse.tables.stamp import machine_user

    return Author(by or machine_user(), datetime.now(UTC), reason, new_run(), by_hand=True)


def _emit(screen: Screen, model: str, outcome: "Outcome") -> None:
    document = {
        **_standings(outcome.ledger),
        "events": [_event(one) for one in outcome.events],
        "missing": [_guard(one) for one in outcome.missing],
    }

    def show(out: Any) -> None:
        if not outcome.events:
            out.print("It was so before: nothing has changed.", markup=False)
        _show_events(out, outcome.events)
        for one in outcome.missing:
            out.print(f"  it goes no further: {one.id}: {one.detail}", markup=False, soft_wrap=True, style="yellow")
        production = outcome.ledger.production
        out.print(f"In production: {f'{model}@{production}' if production else 'no version'}", markup=False, style="bold")

    screen.emit(document, show)


def _standings(ledger: "Ledger") -> dict[str, Any]:
    from lakehouse.learning.lifecycle.board import wanted_aliases

    return {
        "model": ledger.model,
        "production": ledger.production,
        "aliases": wanted_aliases(ledger),
        "versions": [
            {
                "version": one.version,
                "semantic_version": one.semantic,
                "state": str(one.state),
                "since": one.since,
                "share": one.share,
                "approved_by": one.approved_by,
                "threshold": one.threshold,
            }
            for one in sorted(ledger.standings.values(), key=lambda one: int(one.version))
        ],
    }


def _event(event: "Event") -> dict[str, Any]:
    return {
        "number": event.number,
        "at": event.at,
        "version": event.version,
        "event": event.kind,
        "from": str(event.before) if event.before else None,
        "to": str(event.after),
        "share": event.share,
        "threshold": event.threshold,
        "threshold_before": event.threshold_before,
        "by": event.actor,
        "reason": event.reason,
        "run": event.run,
        "guards": [_guard(one) for one in event.guards],
    }


def _guard(guard: "Guard") -> dict[str, Any]:
    return {"guard": guard.id, "passed": guard.passed, "detail": guard.detail}


def _show_events(out: Any, events: "Sequence[Event]") -> None:
    for one in events:
        share = f" to {one.share:g} %" if one.share is not None else ""
        share += f" from {one.threshold_before:g} to {one.threshold:g}" if one.threshold is not None else ""
        moved = f"{one.before or 'nothing'} -> {one.after}" if one.before is not one.after else f"stays {one.after}"
        why = f": {one.reason}" if one.reason else ""
        out.print(
            f"{one.at:%Y-%m-%d %H:%M:%S}  @{one.version} {one.kind}{share} ({moved}) by {one.actor}{why}", markup=False, soft_wrap=True
        )
