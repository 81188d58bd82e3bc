"""The command that says what a model says of one entity, and why: model explain."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.model_version import Version, opened
from lakehouse.cli.screen import Screen

if TYPE_CHECKING:
    from lakehouse.learning.entity_explanation import EntityExplanation

_UNITS = {
    "log_odds": "log-odds of the class that is predicted",
    "probability": "probability of the class that is predicted",
    "target": "the target's own unit",
}


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(group, "explain")(explain)


def explain(
    screen: Screen,
    *,
    name: Version,
    entity: Annotated[str, typer.Option("--entity", help="Its value, or column=value,column=value where several columns name it.")],
    as_of: Annotated[str | None, typer.Option("--as-of", help="Read the tables as they stood at this instant, UTC; default now.")] = None,
) -> None:
    """Predict one entity from its features as they are, and show what each adds to the answer; nothing is written.

    NAME alone is the version in production.
    """
    from lakehouse.errors import ModelError
    from lakehouse.features.training_set import ROW_KEY
    from lakehouse.instants import parse_instant
    from lakehouse.learning.entity_explanation import explain_entity
    from lakehouse.pipeline.feature_documents import entity_of
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    contract = workspace.contracts.model(name.partition("@")[0])
    _, _, version = opened(screen, workspace, name)
    named = entity_of(entity, contract.entity or (ROW_KEY,), subject="--entity")
    expected = "such as 2026-01-31 or 2026-01-31T12:00:00Z"
    at = None if as_of is None else parse_instant(as_of, subject="--as-of", error=ModelError, expected=expected)
    with screen.progress():
        found = explain_entity(workspace.settings, workspace.lake, contract, named, version=version, as_of=at)
    document = {
        "model": found.model,
        "version": found.version,
        "entity": dict(found.entity),
        "event_time": found.event_time,
        "as_of": at,
        "prediction": found.prediction,
        "probabilities": dict(found.probabilities),
        "confidence": found.confidence,
        "abstained": found.abstained,
        "unit": None if found.unit is None else str(found.unit),
        "method": str(found.method),
        "orders": found.orders,
        "base": found.base,
        "answer": found.answer,
        "contributions": [{"feature": one.feature, "value": one.value, "contribution": one.contribution} for one in found.contributions],
        "versions": dict(found.tables),
    }
    screen.emit(document, lambda out: _show(out, found))


def _show(out: Any, found: "EntityExplanation") -> None:
    from rich.table import Table
    from rich.text import Text

    who = ", ".join(f"{name} {value}" for name, value in found.entity.items())
    sure = "" if found.confidence is None else f", confidence {found.confidence:.3f}"
    out.print(f"{found.model}@{found.version} says of {who}: {found.prediction}{sure}", markup=False, style="bold", soft_wrap=True)
    if found.abstained:
        out.print("  that is below the contract's band: leave it to a person", markup=False, style="yellow")
    how = "exact" if found.orders is None else f"sampled in {found.orders} orders"
    out.print(f"  in {_UNITS[str(found.unit)]}; {how}", markup=False)
    out.print(f"  {found.base:+.4g} is said of other rows, {found.answer:+.4g} of this one", markup=False)
    grid = Table(box=None, pad_edge=False)
    for name in ("feature", "value", "adds"):
        grid.add_column(name, overflow="fold", justify="right" if name == "adds" else "left")
    for one in found.contributions:
        style = "" if one.contribution else "dim"
        value = "missing" if one.value is None else one.value
        grid.add_row(*(Text(text, style=style) for text in (one.feature, value, f"{one.contribution:+.4g}")))
    out.print(grid)
