"""The command that asks whether data and answers are still what a model was made for: drift."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import model_names
from lakehouse.cli.screen import Screen
from lakehouse.errors import DATA_DID_NOT_PASS, SettingsError

if TYPE_CHECKING:
    from lakehouse.contracts import ModelContract
    from lakehouse.monitoring.drift import ColumnDrift, DriftReport, ModelDrift
    from lakehouse.pipeline.workspace import Workspace

_SHOWN_COLUMNS = 20
_COLOURS = {"drifted": "red", "moved": "yellow", "stable": "green", "unknown": "dim"}


@dataclass(frozen=True, slots=True)
class _Compared:
    """One comparison, as it is shown; `note` says more about what was found."""

    subject: str
    part: str
    against: str
    since: datetime | None
    report: "DriftReport"
    note: str = ""


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "drift", panel="Models")(drift)


def drift(
    screen: Screen,
    *,
    subject: Annotated[
        str | None, typer.Argument(metavar="MODEL|FILE", help="A model, all if left out; or a file.", autocompletion=model_names)
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Compare this file's rows with what the model was trained for.")] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="The model's version, default the one in production; of a file the earlier file."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Also write Evidently's full report of the model as an HTML page, from samples.")
    ] = None,
) -> None:
    """Compare what comes now with what was known when a model was trained, or a file with an earlier one."""
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    skipped: dict[str, str] = {}
    is_model = subject in workspace.contracts.models or (subject is not None and not Path(subject).is_file())
    if report is not None and (not is_model or file is not None):
        raise SettingsError("--report", "is about the rows of one model's tables", fix="lakehouse drift MODEL --report FILE.html")
    if subject is not None and subject not in workspace.contracts.models and Path(subject).is_file():
        compared = [_files(workspace, Path(subject), reference)]
    elif subject is not None:
        contract = workspace.contracts.model(subject)
        found = _measured(workspace, contract, file, reference)
        compared = _models(found)
        if report is not None:
            _write(screen, workspace, contract, found, report)
    else:
        if file is not None or reference is not None:
            raise SettingsError("--file and --reference", "are about one model", fix="Name it: lakehouse drift MODEL")
        compared = _all(workspace, skipped)
    worst = max((one.report.verdict for one in compared), key=lambda one: one.rank, default=None)
    document = {
        "verdict": str(worst) if worst is not None else "unknown",
        "compared": [_document(one) for one in compared],
        "skipped": [{"subject": name, "reason": reason} for name, reason in skipped.items()],
        "report": None if report is None else str(report),
    }

    def show(out: Any) -> None:
        for one in compared:
            _show(out, one)
        for name, reason in skipped.items():
            out.print(f"{name}: not compared: {reason}", markup=False, soft_wrap=True, style="dim")
        if report is not None:
            out.print(f"Written: {report}", markup=False, soft_wrap=True)

    screen.emit(document, show)
    if document["verdict"] == "drifted":
        raise typer.Exit(DATA_DID_NOT_PASS)


def _files(workspace: "Workspace", current: Path, reference: str | None) -> _Compared:
    from lakehouse.monitoring.drift import DriftLimits, compare_files

    if reference is None or not Path(reference).is_file():
        found = reference or "nothing"
        raise SettingsError(f"drift {current}", "needs a file to compare it with", found=found, fix="Give --reference FILE")
    found = compare_files(workspace.lake, current, Path(reference), limits=DriftLimits(), spill_dir=workspace.settings.spill_dir)
    return _Compared(current.name, "rows", Path(reference).name, None, found)


def _measured(workspace: "Workspace", contract: "ModelContract", file: Path | None, version: str | None) -> "ModelDrift":
    from lakehouse.monitoring.drift import measure_file_drift, measure_model_drift
    from lakehouse.pipeline.files import expand_paths
    from lakehouse.pipeline.runs import new_run

    settings, lake, now = workspace.settings, workspace.lake, datetime.now(UTC)
    if file is None:
        return measure_model_drift(settings, lake, contract, run=new_run(), now=now, version=version)
    source, *others = expand_paths([file])
    if others:
        raise SettingsError(f"--file {file}", "is more than one file", found=f"{1 + len(others)} files", fix="Name one")
    return measure_file_drift(settings, lake, contract, source, run=new_run(), now=now, version=version)


def _write(screen: Screen, workspace: "Workspace", contract: "ModelContract", found: "ModelDrift", report: Path) -> None:
    from lakehouse.monitoring.drift.page import write_drift_page

    with screen.progress():
        write_drift_page(workspace.settings, workspace.lake, contract, report, since=found.since, version=found.version)


def _all(workspace: "Workspace", skipped: dict[str, str]) -> list[_Compared]:
    """Every model that can be compared; the others are named."""
    from lakehouse.monitoring.drift import NotCompared, measure_models
    from lakehouse.pipeline.runs import new_run

    contracts = workspace.contracts.models.values()
    compared: list[_Compared] = []
    for one in measure_models(workspace.settings, workspace.lake, contracts, run=new_run(), now=datetime.now(UTC)):
        if isinstance(one, NotCompared):
            skipped[one.model] = one.reason
        else:
            compared += _models(one)
    return compared


def _models(found: "ModelDrift") -> list[_Compared]:
    against = f"version {found.version}"
    parts = [_Compared(found.model, "features", against, found.since, found.features, found.features_note)]
    if found.predictions is not None:
        parts.append(_Compared(found.model, "predictions", against, None, found.predictions, found.predictions_note))
    return parts


def _document(one: _Compared) -> dict[str, Any]:
    report = one.report
    return {
        "subject": one.subject,
        "part": one.part,
        "against": one.against,
        "since": one.since,
        "rows_reference": report.rows_reference,
        "rows": report.rows,
        "verdict": str(report.verdict),
        "note": one.note or None,
        "columns": [_column(column) for column in report.columns],
        "left_out": [{"column": name, "reason": reason} for name, reason in report.left_out.items()],
    }


def _column(one: "ColumnDrift") -> dict[str, Any]:
    return {
        "column": one.column,
        "verdict": str(one.verdict),
        "measure": one.measure,
        "psi": one.psi,
        "psi_by_chance": one.psi_by_chance,
        "jensen_shannon": one.jensen_shannon,
        "cramers_v": one.cramers_v,
        "chi_square_p": one.chi_square_p,
        "ks": one.ks,
        "ks_p": one.ks_p,
        "p_value": one.p_value,
        "missing": one.missing,
        "bins": _bins(one.labels, one.reference, one.current),
    }


def _bins(labels: Iterable[str], reference: Iterable[int], current: Iterable[int]) -> list[dict[str, Any]]:
    return [{"bin": label, "reference": before, "current": now} for label, before, now in zip(labels, reference, current, strict=True)]


def _show(out: Any, one: _Compared) -> None:
    since = f" since {one.since:%Y-%m-%d %H:%M:%S}" if one.since is not None else ""
    out.print(f"{one.subject}, {one.part}{since}, against {one.against}: {one.report}", markup=False, soft_wrap=True, style="bold")
    if one.note:
        out.print(f"  {one.note}", markup=False, soft_wrap=True)
    _show_columns(out, one.report.columns)
    for name, reason in one.report.left_out.items():
        out.print(f"  {name} is left out: {reason}", markup=False, style="dim")


def _show_columns(out: Any, columns: "Sequence[ColumnDrift]") -> None:
    from rich.markup import escape
    from rich.table import Table

    grid = Table(box=None, pad_edge=False)
    for title in ("column", "verdict", "PSI", "by chance", "JS", "KS", "Cramer's V", "p", "missing"):
        grid.add_column(title, justify="left" if title in {"column", "verdict"} else "right")
    for one in columns[:_SHOWN_COLUMNS]:
        numbers = [one.psi, one.psi_by_chance, one.jensen_shannon, one.ks, one.cramers_v]
        verdict = str(one.verdict)
        grid.add_row(
            escape(one.column),
            f"[{_COLOURS[verdict]}]{verdict}[/]",
            *("" if value is None else f"{value:.4f}" for value in numbers),
            f"{one.p_value:.2g}",
            f"{one.missing:.1%}",
        )
    out.print(grid)
    if len(columns) > _SHOWN_COLUMNS:
        out.print(f"  and {len(columns) - _SHOWN_COLUMNS:,} more columns (--json names all)", markup=False)
