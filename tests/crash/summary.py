"""What the crash suite found, added up over all its tests and printed at the end of the run."""

import json
from typing import Any

PROPERTY = "crash_suite"


def told_by(reports: list[Any]) -> list[dict[str, Any]]:
    """The tallies that the tests left with their reports, whichever process ran them."""
    return [json.loads(value) for report in reports for name, value in getattr(report, "user_properties", ()) if name == PROPERTY]


def summary(tallies: list[dict[str, Any]]) -> str:
    """One line for people."""
    points = {point for tally in tallies for point in tally["points"]}
    operations, roots = ({tally[name] for tally in tallies} for name in ("operation", "root"))
    kills, at_random, lost, duplicated, repaired = (
        sum(tally[name] for tally in tallies) for name in ("kills", "random_kills", "lost", "duplicated", "repaired")
    )
    return (
        f"crash suite: {len(points)} points x {len(operations)} operations x {len(roots)} roots ({', '.join(sorted(roots))}) = "
        f"{kills} kills, {at_random} random kills: {lost} lost, {duplicated} duplicated, {repaired} repaired by hand"
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A hook of pytest: tests/conftest.py hands it on."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ()) if report.when == "call"]
    tallies = told_by(reports)
    if tallies:
        terminalreporter.write_line(summary(tallies))
