"""What demo, add and run show people at their end."""

from collections.abc import Mapping
from itertools import groupby
from textwrap import shorten
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lakehouse.cli.screen import counted

if TYPE_CHECKING:
    from lakehouse.pipeline.add import AddReport
    from lakehouse.pipeline.demo import DemoResult
    from lakehouse.pipeline.report import ModelOutcome, RunReport
    from lakehouse.settings import Settings

_SHOWN_RULES = 8
_SHOWN_DETAIL = 160


def show_demo(out: Console, result: "DemoResult", settings: "Settings") -> None:
    """Layers, checks, models, quarantine, and what to do next."""
    table = Table(title="Tables", title_justify="left", box=None, pad_edge=False)
    for name, justify in (("layer", "left"), ("table", "left"), ("rows", "right"), ("version", "right")):
        table.add_column(name, justify=justify)  # pyright: ignore[reportArgumentType]
    for layer, members in groupby(result.tables, key=lambda one: one.layer):
        for index, one in enumerate(members):
            table.add_row(layer if index == 0 else "", one.name, f"{one.rows:,}", str(one.version))
    out.print(table)
    out.print()
    _show_models(out, result.run.models)
    quarantine = Table(title="Quarantined rows", title_justify="left", box=None, pad_edge=False)
    quarantine.add_column("dataset")
    quarantine.add_column("rule")
    quarantine.add_column("rows", justify="right")
    quarantine.add_column("for example", overflow="fold")
    for dataset, count in result.quarantine.items():
        for index, rule in enumerate(count.rules[:_SHOWN_RULES]):
            name = f"{dataset} ({count.rows:,} rows)" if index == 0 else ""
            quarantine.add_row(name, escape(rule.rule), f"{rule.rows:,}", escape(rule.example or ""))
        others = count.rules[_SHOWN_RULES:]
        if others:
            quarantine.add_row("", f"and {len(others)} more rules", "", f"lakehouse quarantine show {dataset}")
    if quarantine.row_count:
        out.print(quarantine)
        out.print()
    _show_checks(out, result.run)
    out.print(f"\nDone in {result.seconds:.0f} s. Everything is under {settings.home_dir}", markup=False, soft_wrap=True)
    out.print("Next:")
    for command, purpose in (
        ("make dev", "the asset graph, runs, checks and schedules in the browser"),
        ("lakehouse add FILE --name NAME --target COLUMN", "the same for your own data; then lakehouse run NAME"),
        ('lakehouse query "select * from analytics.household_vulnerability_by_district_quarter"', "look into a table"),
        ("lakehouse quarantine show household_survey", "refused rows and why"),
        ("docs/", "guides"),
    ):
        out.print(f"  {command}\n      {purpose}", markup=False, soft_wrap=True)


def show_run(out: Console, report: "RunReport") -> None:
    """Rows, models and checks of one run."""
    table = Table(box=None, pad_edge=False)
    table.add_column("dataset")
    for name in ("rows read", "accepted", "quarantined"):
        table.add_column(name, justify="right")
    for name, totals in report.datasets.items():
        table.add_row(name, f"{totals.rows_read:,}", f"{totals.rows_accepted:,}", f"{totals.rows_quarantined:,}")
    if report.datasets:
        out.print(table)
        out.print()
    else:
        out.print("No dataset has data yet: lakehouse demo, or lakehouse add FILE")
    _show_models(out, report.models)
    _show_checks(out, report)


def show_added(out: Console, report: "AddReport") -> None:
    """What was inferred, what was written, what to run."""
    contract, model = report.dataset, report.model
    out.print(
        f"{contract.name}: looked at {counted(report.rows_seen, 'row')} in {counted(report.files_seen, 'file')}", markup=False, style="bold"
    )
    table = Table(box=None, pad_edge=False)
    for name in ("column", "type", "required", "notes"):
        table.add_column(name, overflow="fold")
    for column in contract.columns:
        notes = [
            "key" if column.name in contract.primary_key else "",
            "entity" if column.name in contract.entity else "",
            "event time" if column.name == contract.event_timestamp else "",
            f"personal data: {column.protection}" if column.protected else "",
            "target" if model and model.target_column == column.name else "",
            "not a feature" if model and column.name in model.exclude_features else "",
        ]
        table.add_row(escape(column.name), column.sql_type, "yes" if column.required else "", ", ".join(note for note in notes if note))
    out.print(table)
    if not contract.primary_key:
        out.print("No key was found: rows are told apart by file and row number (--key names one).")
    if model:
        positive = f", positive class {model.positive_class}" if model.positive_class else ""
        out.print(f"Model {model.name}: {model.problem} of {model.target}{positive}, test rows by {model.split.strategy}", markup=False)
    for warning in report.warnings:
        out.print(f"Warning: {warning}", markup=False, soft_wrap=True, style="yellow")
    for path in report.written:
        out.print(f"Wrote {path}", markup=False, soft_wrap=True)
    copied = sum(one.copied for one in report.landed)
    there = len(report.landed) - copied
    already = f" ({there:,} of {len(report.landed):,} were there already)" if there else ""
    out.print(f"Copied {counted(copied, 'file')} to the landing folder{already}")
    out.print(f"Next: read the contract, then lakehouse run {contract.name}", markup=False, soft_wrap=True)


def _show_models(out: Console, models: "Mapping[str, ModelOutcome]") -> None:
    if not models:
        return
    table = Table(title="Models", title_justify="left", box=None, pad_edge=False)
    for name, justify in (("model", "left"), ("version", "right"), ("algorithm", "left"), ("test metric", "left"), ("baseline", "right")):
        table.add_column(name, justify=justify)  # pyright: ignore[reportArgumentType]
    for name, outcome in models.items():
        metric = outcome.metric
        value = outcome.metrics.get(metric)
        baseline = outcome.baseline.get(metric)
        table.add_row(
            name,
            outcome.version,
            outcome.algorithm,
            "" if value is None else f"{metric} {value:.3f}",
            "" if baseline is None else f"{baseline:.3f}",
        )
    out.print(table)
    out.print()


def _show_checks(out: Console, report: "RunReport") -> None:
    passed = sum(check.passed for check in report.checks)
    out.print(f"Checks: {passed:,} passed, {len(report.warned):,} warned, {len(report.failed):,} failed")
    for check in (*report.failed, *report.warned):
        detail = f": {shorten(check.detail, _SHOWN_DETAIL, placeholder=' ...')}" if check.detail else ""
        word = "failed" if check.blocks else "warned"
        out.print(f"  {word}  {check.subject} {check.id}{detail}", markup=False, soft_wrap=True)
