"""The command that looks at data: profile."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import command
from lakehouse.cli.completion import dataset_names, table_names
from lakehouse.cli.screen import Screen
from lakehouse.cli.written import write_page
from lakehouse.errors import QueryError
from lakehouse.instants import parse_instant

if TYPE_CHECKING:
    from lakehouse.monitoring import QualityScore
    from lakehouse.quality.profile import ColumnFacts, Profile

_SHOWN_COLUMNS = 60
_SHOWN_ADVICE = 12
_BLOCKS = "▁▂▃▄▅▆▇█"
_COLOURS = {"high": "red", "medium": "yellow", "low": "dim"}


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    command(app, "profile", panel="Tables")(profile)


def profile(
    screen: Screen,
    *,
    subject: Annotated[str, typer.Argument(metavar="TABLE|FILE", help="layer.name, or a file.", autocompletion=table_names)],
    target: Annotated[str | None, typer.Option("--target", help="Look at this column as the one to be predicted.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page with plots; it needs no other file.")] = None,
    version: Annotated[int | None, typer.Option("--version", min=0, help="This version of the table.")] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="The version that was current at this instant (UTC).")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Read the file by this dataset's contract.", autocompletion=dataset_names)
    ] = None,
    trend: Annotated[bool, typer.Option("--trend", help="The scores of the table's versions that were profiled.")] = False,
) -> None:
    """Say what a table or a file holds, how good it is, and what to do about it."""
    from lakehouse.monitoring import quality_trend
    from lakehouse.pipeline.profiling import profile as make_profile
    from lakehouse.pipeline.runs import new_run
    from lakehouse.pipeline.workspace import Workspace

    if version is not None and as_of is not None:
        raise QueryError("--version and --as-of", "can't both be given", fix="Choose one")
    at = version if version is not None else _instant(as_of)
    workspace = Workspace.load()
    found = make_profile(workspace, subject, run=new_run(), now=datetime.now(UTC), version=at, target=target, dataset=dataset)
    scores = quality_trend(workspace.lake, subject) if found.profile.source == "table" else []
    if html is not None:
        _write(html, found.profile, scores)
    document = {**_document(found.profile), "cached": found.cached, "html": None if html is None else str(html)}
    if trend:
        document["trend"] = [_score(one) for one in scores]

    def show(out: Any) -> None:
        _show_trend(out, scores) if trend else _show(out, found.profile)
        if html is not None:
            out.print(f"\nWritten: {html}", markup=False, soft_wrap=True)

    screen.emit(document, show)


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    fix = "Correct it, or use --version"
    return parse_instant(text, subject="--as-of", error=QueryError, expected="such as 2026-01-31T12:00", fix=fix)


def _write(path: Path, profile: "Profile", scores: "list[QualityScore]") -> None:
    from lakehouse.quality.profile.page import html_page

    write_page(path, html_page(profile, trend=[(str(one.version), one.score) for one in scores]))


def _document(profile: "Profile") -> dict[str, Any]:
    """The profile as JSON; what can be computed from its fields is added where people ask for it first."""
    from dataclasses import asdict

    document = asdict(profile)
    columns = [
        {**fields, "missing": one.missing, "missing_share": one.missing_share}
        for one, fields in zip(profile.columns, document["columns"], strict=True)
    ]
    return {"subject": profile.subject, "score": profile.score, **document, "columns": columns}


def _score(one: "QualityScore") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(one)


def _show(out: Any, profile: "Profile") -> None:
    from rich.table import Table

    from lakehouse.quality.profile.shown import percent, score_text

    version = f" at version {profile.version}" if profile.version is not None else ""
    out.print(
        f"{profile.subject}{version}: {profile.rows:,} rows, {len(profile.columns):,} columns", markup=False, style="bold", soft_wrap=True
    )
    out.print(f"Quality score {score_text(profile.score)} of 1\n")
    grid = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "left"):
        grid.add_column(justify=justify, overflow="fold")  # pyright: ignore[reportArgumentType]
    for one in profile.dimensions:
        grid.add_row(one.name, score_text(one.value), _plain(one.how))
    out.print(grid)
    out.print()
    columns = Table(box=None, pad_edge=False)
    for name, justify in (
        ("column", "left"),
        ("type", "left"),
        ("missing", "right"),
        ("different", "right"),
        ("spread", "left"),
        ("values", "left"),
    ):
        columns.add_column(name, justify=justify, overflow="fold" if name in {"column", "values"} else "ellipsis")  # pyright: ignore[reportArgumentType]
    for one in profile.columns[:_SHOWN_COLUMNS]:
        about = "" if one.distinct_exact else "~"
        columns.add_row(
            _plain(one.name), _plain(one.type), percent(one.missing_share), f"{about}{one.distinct:,}", _spark(one), _plain(_values(one))
        )
    out.print(columns)
    if len(profile.columns) > _SHOWN_COLUMNS:
        out.print(f"{len(profile.columns) - _SHOWN_COLUMNS:,} more columns: --json or --html shows them")
    _show_rest(out, profile)


def _show_rest(out: Any, profile: "Profile") -> None:
    if profile.target is not None:
        out.print(
            f"\nTo be predicted: {profile.target.column} ({profile.target.problem}): {profile.target.detail}", markup=False, soft_wrap=True
        )
        close = ", ".join(f"{one.right} {one.value:.2f}" for one in profile.target.associations[:8])
        out.print(f"Goes with: {close or 'nothing that was compared'}", markup=False, soft_wrap=True)
    elif profile.targets:
        out.print("\nWhat could be predicted", style="bold")
        for one in profile.targets:
            out.print(f"  {one.column} ({one.problem}): {'; '.join(one.reasons)}", markup=False, soft_wrap=True)
    if profile.associations:
        out.print("\nWhat goes with what", style="bold")
        for one in profile.associations[:5]:
            out.print(f"  {one.value:5.2f}  {one.left} and {one.right}", markup=False, soft_wrap=True)
    out.print("\nWhat to do", style="bold")
    for one in profile.advice[:_SHOWN_ADVICE]:
        out.print(f"  {one.weight:<7}", style=_COLOURS[one.weight], end="")
        out.print(f"{one.finding} {one.action}", markup=False, soft_wrap=True)
    if not profile.advice:
        out.print("  Nothing stands out.")
    if len(profile.advice) > _SHOWN_ADVICE:
        out.print(f"  and {len(profile.advice) - _SHOWN_ADVICE} more: --html or --json shows them")


def _spark(one: "ColumnFacts") -> str:
    """A histogram in a dozen characters."""
    found = one.numbers.histogram if one.numbers else None
    if found is None or not any(found.counts):
        return ""
    counts = found.counts
    wanted = [sum(counts[n * len(counts) // 12 : (n + 1) * len(counts) // 12]) for n in range(12)] if len(counts) > 12 else list(counts)
    most = max(wanted) or 1
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, (len(_BLOCKS) * count - 1) // most)] if count else " " for count in wanted)


def _values(one: "ColumnFacts") -> str:
    from lakehouse.quality.profile.shown import moment_text, number_text, percent

    if one.hidden:
        return f"not shown: {one.hidden}"
    if one.numbers and one.numbers.quantiles and not (one.top_is_all and one.distinct <= 3):
        show = moment_text if one.kind == "moment" else number_text
        return f"{show(one.numbers.least)} to {show(one.numbers.most)}, median {show(one.numbers.quantiles[3])}"
    return ", ".join(f"{top.label} {percent(top.rows / one.values)}" for top in one.top[:3]) if one.values else ""


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _show_trend(out: Any, scores: "list[QualityScore]") -> None:
    from rich.table import Table

    from lakehouse.quality.profile.shown import score_text

    grid = Table(box=None, pad_edge=False)
    names = ("completeness", "validity", "uniqueness", "consistency", "timeliness")
    for name in ("version", "rows", "score", *names, "measured (UTC)"):
        grid.add_column(name, justify="right")
    for one in scores:
        shares = [score_text(getattr(one, name)) for name in names]
        grid.add_row(str(one.version), f"{one.rows:,}", score_text(one.score), *shares, f"{one.measured_at:%Y-%m-%d %H:%M}")
    out.print(grid)
