"""Failing checks and runs alert somebody: one line each in `<home>/alerts/alerts.ndjson`, for whatever tails, ships or mails it.

Dagster shows a failed check that does not block, and tells nobody. A line is written once per check and run: the sensor
remembers runs, and a run's lines are written in one append.
"""

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings

_WATCHED = {dg.DagsterRunStatus.SUCCESS: "check_failed", dg.DagsterRunStatus.FAILURE: "run_failed"}


def alerts_file(settings: Settings) -> Path:
    """Where the alerts of a home are written."""
    return settings.home_dir / "alerts" / "alerts.ndjson"


def append_alerts(path: Path, alerts: Iterable[dict[str, Any]]) -> None:
    """Append all lines in one write, so that a reader never sees half a line of ours."""
    text = "".join(json.dumps(alert, sort_keys=True, default=str) + "\n" for alert in alerts)
    if not text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def failed_checks(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dict[str, Any]]:
    """Every check that failed in the run, as an alert."""
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    alerts: list[dict[str, Any]] = []
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        evaluation = event.asset_check_evaluation_data
        if evaluation.passed:
            continue
        alerts.append(
            {
                "kind": "check_failed",
                "at": datetime.fromtimestamp(record.event_log_entry.timestamp, UTC).isoformat(),
                "severity": evaluation.severity.value.lower(),
                "blocking": bool(evaluation.blocking),
                "table": ".".join(evaluation.asset_key.path),
                "check": evaluation.check_name,
                "message": evaluation.description or "",
                "run": run.run_id,
                "job": run.job_name,
            }
        )
    return alerts


def failed_run(instance: dg.DagsterInstance, run: dg.DagsterRun, message: str) -> dict[str, Any]:
    """The run itself, as an alert."""
    record = instance.get_run_record_by_id(run.run_id)
    ended = record.end_time if record and record.end_time else 0.0
    return {
        "kind": "run_failed",
        "at": datetime.fromtimestamp(ended, UTC).isoformat(),
        "severity": "error",
        "message": message,
        "run": run.run_id,
        "job": run.job_name,
        "dataset": run.tags.get("lakehouse/dataset"),
    }


def build_alert_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """One sensor for runs that ended well (their checks may have failed all the same) and one for runs that did not."""
    return [_alert_sensor(status, name, settings) for status, name in _WATCHED.items()]


def _alert_sensor(status: dg.DagsterRunStatus, name: str, settings: Settings) -> dg.SensorDefinition:
    ends = "succeeds" if status is dg.DagsterRunStatus.SUCCESS else "fails"

    @dg.run_status_sensor(
        run_status=status,
        name=name,
        minimum_interval_seconds=settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"When a run {ends}: writes each of its failed checks to {alerts_file(settings)}.",
    )
    def alert(context: dg.RunStatusSensorContext, workspace: dg.ResourceParam[Workspace]) -> dg.SkipReason:
        run = context.dagster_run
        alerts = failed_checks(context.instance, run)
        if status is dg.DagsterRunStatus.FAILURE:
            alerts.append(failed_run(context.instance, run, context.dagster_event.message or "the run failed"))
        append_alerts(alerts_file(workspace.settings), alerts)
        return dg.SkipReason(f"{len(alerts)} alerts of run {run.run_id}")

    return alert
