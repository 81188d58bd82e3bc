"""The command that judges two versions of a model by the same rows: model compare."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import model_names
from lakehouse.cli.model_version import Version, opened
from lakehouse.cli.screen import Screen
from lakehouse.cli.written import write_page

if TYPE_CHECKING:
    from lakehouse.learning.comparison import ModelComparison, Verdict


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(group, "compare")(compare)


def compare(
    screen: Screen,
    *,
    name: Version,
    other: Annotated[
        str | None, typer.Argument(metavar="[NAME@VERSION]", help="The version that challenges it.", autocompletion=model_names)
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page with plots; it needs no other file.")] = None,
) -> None:
    """Judge two versions by test rows that neither has learned from: NAME@A is in place, NAME@B would take it.

    NAME alone is the version in production and the newest after it.
    """
    from lakehouse.errors import SettingsError
    from lakehouse.learning.challenge import compare_versions
    from lakehouse.learning.comparison import verdict
    from lakehouse.learning.comparison_page import comparison_page
    from lakehouse.learning.lifecycle.deciding import candidate_of
    from lakehouse.learning.records import record_comparison
    from lakehouse.learning.registry import Registry, no_champion
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    model, lifecycle, first = opened(screen, workspace, name)
    contract = workspace.contracts.model(model)
    if other is not None and not other.startswith(f"{model}@"):
        raise SettingsError(
            f"model compare {other}", "is no other version of the same model", expected=f"{model}@VERSION", fix="Name a version"
        )
    second = opened(screen, workspace, other)[2] if other is not None else None
    ledger = lifecycle.recorded(model)
    champion = first or ledger.production
    if champion is None:
        raise no_champion(model)
    challenger = second or candidate_of(ledger)
    if challenger == champion:
        fix = f"Name two versions, or train another: `lakehouse model retrain {model} --reason TEXT`"
        raise SettingsError(f"model compare {model}@{champion}", "compares a version with itself", fix=fix)
    found = compare_versions(workspace.lake, Registry(workspace.settings), contract, champion=champion, challenger=challenger)
    record_comparison(workspace.lake, model, found, run=new_run(), now=datetime.now(UTC))
    judged = verdict(found, contract.comparison)
    if html is not None:
        write_page(html, comparison_page(contract, found))
    document = {**comparison_document(model, found, judged), "html": None if html is None else str(html)}

    def show(out: Any) -> None:
        word, style = ("is better", "bold green") if judged.passed else ("is not shown to be better", "bold yellow")
        out.print(f"{model}@{challenger} {word} than {model}@{champion}", markup=False, style=style)
        out.print(f"  {judged.sentence}", markup=False, soft_wrap=True)
        for line in _details(found):
            out.print(f"  {line}", markup=False, soft_wrap=True)
        if html is not None:
            out.print(f"Written: {html}", markup=False, soft_wrap=True)

    screen.emit(document, show)


def comparison_document(model: str, found: "ModelComparison", judged: "Verdict") -> dict[str, Any]:
    """A comparison as JSON."""
    recorded = found.as_dict()
    return {
        "model": model,
        "champion": found.champion,
        "challenger": found.challenger,
        "better": judged.passed,
        "verdict": judged.sentence,
        "metric": found.metric,
        "holdout": recorded["holdout"],
        "folds": recorded["folds"],
        "notes": list(found.notes),
    }


def _details(found: "ModelComparison") -> list[str]:
    lines: list[str] = []
    rows = found.holdout
    if rows is not None and rows.only_champion is not None and rows.only_challenger is not None:
        lines.append(
            f"version {found.challenger} alone is right in {rows.only_challenger:,} rows, version {found.champion} alone in {rows.only_champion:,}"
        )
    if found.folds is not None and found.folds.same_recipe:
        lines.append("on the folds: both have the same recipe, and differ in the rows that they have learned from")
    elif found.folds is not None:
        lines.append(f"on the folds: a gain of {found.folds.gain:+.4f} on average (p = {found.folds.p_value:.3f})")
    return [*lines, *(f"note: {one}" for one in found.notes)]
