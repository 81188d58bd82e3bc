"""dbt for a run: the tables that depend on the run's datasets, or nothing where nothing changed since they were built."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lakehouse.durable import write_whole
from lakehouse.pipeline.events import Event, Progress, State
from lakehouse.pipeline.report import CheckOutcome
from lakehouse.pipeline.workspace import Workspace
from lakehouse.transform import TransformReport, build, prepare

_TABLES = frozenset({"model", "seed", "snapshot"})
_SUBJECT = "tables"


def build_tables(
    workspace: Workspace,
    *,
    datasets: Sequence[str],
    without: Sequence[str],
    run: str,
    full: bool,
    progress: Progress,
) -> list[CheckOutcome]:
    """Build everything that depends on the datasets and on none of the others; returns what dbt's tests found."""
    manifest = prepare(workspace.settings, workspace.contracts)
    content = json.loads(manifest.read_bytes())
    record = workspace.settings.dbt_home / "built" / f"{_short('|'.join([*datasets, '', *without]))}.json"
    if not full and (known := _unchanged(record, _state(workspace, manifest, content))) is not None:
        progress(Event("transform", _SUBJECT, State.SKIPPED))
        return known
    progress(Event("transform", _SUBJECT, State.STARTED))
    done = 0

    def count(name: str, status: str) -> None:
        nonlocal done
        done += 1
        progress(Event("transform", _SUBJECT, State.ADVANCED, f"{name} {status}", done=done))

    report = build(
        workspace.settings,
        contracts=workspace.contracts,
        select=[f"@source:raw.{name}" for name in datasets],
        exclude=[f"source:raw.{name}+" for name in without],
        full_refresh=full,
        check=False,
        run=run,
        progress=count,
    )
    checks = list(_outcomes(report, content))
    failed = [check for check in checks if check.blocks]
    written = sum(node.status == "success" and not node.is_unchanged for node in report.nodes)
    detail = f"{written:,} of {len(report.nodes):,} tables written, {len(report.tests):,} tests"
    detail += f", {len(failed):,} failed" if failed else ""
    progress(Event("transform", _SUBJECT, State.FAILED if failed else State.FINISHED, detail))
    if not failed:
        _remember(record, _state(workspace, manifest, content), checks)
    return checks


def _outcomes(report: TransformReport, manifest: dict[str, Any]) -> Iterator[CheckOutcome]:
    """Dbt's tests as claims; a table that could not be built is a claim that failed."""
    for node in report.nodes:
        if node.status == "error":
            yield CheckOutcome("table_can_be_built", str(node.table), "error", passed=False, detail=node.message)
    for test in report.tests:
        if test.status == "skipped":
            continue
        severity = "warning" if test.status == "warn" else "error"
        subject = ", ".join(_table(manifest, one) for one in test.models) or test.unique_id
        yield CheckOutcome(test.name, subject, severity, passed=test.status == "pass", detail="" if test.status == "pass" else test.message)


def _table(manifest: dict[str, Any], unique_id: str) -> str:
    node = manifest["nodes"].get(unique_id) or manifest["sources"].get(unique_id)
    return unique_id if node is None else f"{node['schema']}.{node.get('alias') or node.get('identifier') or node['name']}"


def _unchanged(record: Path, state: str) -> list[CheckOutcome] | None:
    """What the tests found when the same code built these very versions; None if anything differs."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        return [CheckOutcome(**one) for one in known["checks"]] if known["state"] == state else None
    except (OSError, ValueError, KeyError, TypeError):
        # A record that is missing or damaged only means that dbt has to look for itself.
        return None


def _remember(record: Path, state: str, checks: Sequence[CheckOutcome]) -> None:
    write_whole(record, json.dumps({"state": state, "checks": [asdict(one) for one in checks]}))


def _state(workspace: Workspace, manifest: Path, content: dict[str, Any]) -> str:
    """Digest of the project (the manifest's folder is named by it) and of the version that last changed a row of every table it reads or writes."""
    tables = {_table(content, name) for name, node in content["nodes"].items() if node["resource_type"] in _TABLES}
    tables |= {_table(content, name) for name in content["sources"]}
    versions = {table: workspace.lake.content_version(table) for table in sorted(tables)}
    return _short(json.dumps([manifest.parent.name, versions]))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
