"""Progress on stderr."""

import contextlib
from collections.abc import Generator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from lakehouse.pipeline.events import Event, State
from lakehouse.pipeline.events import Progress as Report

_MARKS = {State.FINISHED: "done", State.SKIPPED: "up to date", State.FAILED: "FAILED", State.WAITING: "waiting"}


def plain_progress(console: Console, *, quiet: bool) -> Report:
    """One line per step that ended or waits; of steps that were up to date nothing, and when quiet only who is waited for."""

    def report(event: Event) -> None:
        if event.state is State.WAITING or (not quiet and event.state in (State.FINISHED, State.FAILED)):
            console.print(_line(event), markup=False, soft_wrap=True)

    return report


@contextlib.contextmanager
def live_progress(console: Console) -> Generator[Report]:
    """A bar per running step; a line stays for each step that ended."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    running: dict[tuple[str, str], TaskID] = {}
    with Progress(*columns, console=console, transient=True) as bars:

        def report(event: Event) -> None:
            key = (event.step, event.subject)
            if event.state is State.WAITING:
                console.print(_line(event), markup=False, soft_wrap=True)
                return
            if event.state in _MARKS:
                if key in running:
                    bars.remove_task(running.pop(key))
                if event.state is not State.SKIPPED:
                    console.print(_line(event), markup=False, soft_wrap=True)
                return
            if key not in running:
                running[key] = bars.add_task(f"{event.step} {event.subject}", total=event.total)
            # A task without a total pulses, which is the truth when nobody knows how much there is.
            bars.update(running[key], total=event.total, completed=event.done or 0)

        yield report


def _line(event: Event) -> str:
    detail = f"  {event.detail}" if event.detail else ""
    return f"  {_MARKS[event.state]:<10} {event.step:<9} {event.subject}{detail}"
