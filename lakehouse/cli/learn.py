"""Commands about models: train, predict."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import model_names
from lakehouse.cli.screen import Screen
from lakehouse.errors import DATA_DID_NOT_PASS

_SHOWN_RECORDS = 10


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "train", panel="Models")(train)
    command(app, "predict", panel="Models")(predict)


def train(
    screen: Screen,
    *,
    name: Annotated[str, typer.Argument(help="The model, as its contract is called.", autocompletion=model_names)],
    force: Annotated[bool, typer.Option("--force", help="Train although data, contract and code are unchanged.")] = False,
) -> None:
    """Train a model on the features as they are, compare the algorithms, and register the best."""
    from lakehouse.cli.model_comparing import comparison_document
    from lakehouse.learning import train as train_model
    from lakehouse.learning.comparison import verdict
    from lakehouse.pipeline.report import model_outcome
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.workspace import Workspace

    workspace = Workspace.load()
    contract = workspace.contracts.model(name)
    from lakehouse.pipeline.events import Event, State

    with screen.progress() as progress:
        progress(Event("train", name, State.STARTED))
        report = train_model(
            workspace.settings,
            workspace.lake,
            contract,
            run=new_run(),
            now=datetime.now(UTC),
            force=force,
            waiting=lambda line: progress(Event("train", name, State.WAITING, line)),
        )
        progress(Event("train", name, State.FINISHED, f"{report.algorithm}, version {report.version}"))
    judged = verdict(report.comparison, contract.comparison) if report.comparison is not None else None
    failed = [check for check in report.checks if not check.passed and str(check.severity) == "error"]
    document = {
        "model": report.model,
        **model_outcome(report).as_dict(),
        "intervals": {metric: [one.low, one.high] for metric, one in report.intervals.items()},
        "segments": [one.as_dict() for one in report.segments],
        "checks": [
            {"id": check.id, "severity": str(check.severity), "passed": check.passed, "detail": check.detail} for check in report.checks
        ],
        "left_out": [{"reason": one.reason, "rows": one.rows, "example": one.example} for one in report.left_out],
        "notes": list(report.notes),
        "trained": not report.skipped,
        "semantic_version": report.semantic_version or None,
        "state": report.state or None,
        "comparison": None if judged is None or report.comparison is None else comparison_document(name, report.comparison, judged),
    }

    def show(out: Any) -> None:
        known = " (not trained again: same data, contract and code)" if report.skipped else ""
        semantic = f" ({report.semantic_version}, {report.state})" if report.semantic_version else ""
        out.print(f"{report.model} version {report.version}{semantic}: {report.algorithm}{known}", markup=False, style="bold")
        for metric, value in report.metrics.items():
            baseline = report.baseline.get(metric)
            beside = "" if baseline is None else f"  (baseline {baseline:.4f})"
            later = report.intervals.get(metric)
            between = "" if later is None else f"  on new rows {later.low:.4f} to {later.high:.4f}"
            out.print(f"  {metric:<18} {value:.4f}{between}{beside}", markup=False)
        for check in report.checks:
            out.print(f"  {'passed' if check.passed else 'FAILED'} {check.id}: {check.detail}", markup=False, soft_wrap=True)
        if judged is not None:
            out.print(f"  {'better' if judged.passed else 'NOT BETTER'} than the champion: {judged.sentence}", markup=False, soft_wrap=True)
        for one in report.segments:
            out.print(f"  segment {one}", markup=False, soft_wrap=True)
        for one in report.left_out:
            out.print(f"  left out {one}", markup=False, soft_wrap=True)
        for note in report.notes:
            out.print(f"  note: {note}", markup=False, soft_wrap=True)

    screen.emit(document, show)
    if failed:
        raise typer.Exit(DATA_DID_NOT_PASS)


def predict(
    screen: Screen,
    *,
    name: Annotated[str, typer.Argument(help="The model.", autocompletion=model_names)],
    file: Annotated[Path | None, typer.Option("--file", help="A file of the model's dataset; with or without the target.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write: .csv or .parquet.")] = None,
) -> None:
    """Predict every row of a file; without --file, the predictions table for all current features."""
    from lakehouse.errors import SettingsError
    from lakehouse.pipeline.workspace import Workspace

    if (file is None) != (out is None):
        raise SettingsError("--file and --out", "go together", fix="Give both, or neither to fill the predictions table")
    workspace = Workspace.load()
    contract = workspace.contracts.model(name)
    if file is None or out is None:
        _predict_table(screen, workspace, contract)
        return
    from lakehouse.learning import predict_file
    from lakehouse.pipeline.files import expand_paths

    if out.suffix.lower() not in {".csv", ".parquet"}:
        raise SettingsError(f"--out {out}", "has an ending that says no format", expected=".csv or .parquet", fix="Give it one of them")
    source, *others = expand_paths([file])
    if others:
        raise SettingsError(f"--file {file}", "is more than one file", found=f"{1 + len(others)} files", fix="Name one")
    if out.exists() and out.samefile(source):
        raise SettingsError(f"--out {out}", "is the file that is read", fix="Write to another file")
    with screen.progress():
        report = predict_file(workspace.settings, workspace.lake, contract, source, out, now=datetime.now(UTC))
    document = {
        "model": name,
        "version": report.version,
        "file": str(file),
        "out": str(out),
        "rows_read": report.rows_read,
        "rows_predicted": report.rows_predicted,
        "rows_rejected": report.rows_rejected,
        "rejected": [{"row": row, "reason": reason} for row, reason in report.rejected],
        "warnings": [
            {"column": one.column, "kind": one.kind, "rows": one.rows, "examples": list(one.examples), "detail": one.detail}
            for one in report.warnings
        ],
        "columns": list(report.columns),
        "threshold": report.threshold,
    }

    def show(console: Any) -> None:
        by = f", decided from {report.threshold:g} on, as people have set it" if report.threshold is not None else ""
        console.print(
            f"{report.rows_predicted:,} of {report.rows_read:,} rows predicted by {name} version {report.version}{by}", markup=False
        )
        for row, reason in report.rejected[:_SHOWN_RECORDS]:
            console.print(f"  record {row} got no prediction: {reason}", markup=False, soft_wrap=True)
        if report.rows_rejected > _SHOWN_RECORDS:
            console.print(f"  and {report.rows_rejected - _SHOWN_RECORDS:,} more records (--json names the first hundred)", markup=False)
        for warning in report.warnings:
            console.print(f"  warning  {warning}", markup=False, soft_wrap=True, style="yellow")
        console.print(f"Written to {out}: {', '.join(report.columns)}", markup=False, soft_wrap=True)

    screen.emit(document, show)


def _predict_table(screen: Screen, workspace: Any, contract: Any) -> None:
    from lakehouse.learning import predict_batch
    from lakehouse.pipeline.events import Event, State
    from lakehouse.pipeline.runs import new_run

    with screen.progress() as progress:
        commit = predict_batch(
            workspace.settings,
            workspace.lake,
            contract,
            run=new_run(),
            now=datetime.now(UTC),
            waiting=lambda line: progress(Event("predict", contract.name, State.WAITING, line)),
        )
    document = {
        "model": contract.name,
        "table": str(commit.table),
        "version": commit.version,
        "rows": commit.rows,
        "skipped": commit.skipped,
    }
    screen.emit(document, lambda out: out.print(f"{commit.table} version {commit.version}: {commit.rows:,} rows", markup=False))
