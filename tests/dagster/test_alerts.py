"""Failing checks become lines of the alerts file."""

import json
from pathlib import Path

import dagster as dg

from sensors.alerts import append_alerts, failed_checks, failed_run


@dg.asset(
    key=["raw", "things"],
    check_specs=[
        dg.AssetCheckSpec("sizes_are_positive", asset=["raw", "things"]),
        dg.AssetCheckSpec("ids_are_unique", asset=["raw", "things"]),
    ],
)
def things() -> dg.MaterializeResult:
    return dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(
                check_name="sizes_are_positive", passed=False, severity=dg.AssetCheckSeverity.WARN, description="3 rows are negative"
            ),
            dg.AssetCheckResult(check_name="ids_are_unique", passed=True),
        ]
    )


@dg.asset
def broken() -> None:
    raise dg.Failure("the disk is full")


def test_only_failed_checks_alert_with_what_a_person_needs() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([things], instance=instance, tags={"dagster/test": "x"})
        alerts = failed_checks(instance, result.dagster_run)
    assert [(alert["table"], alert["check"], alert["severity"], alert["message"]) for alert in alerts] == [
        ("raw.things", "sizes_are_positive", "warn", "3 rows are negative")
    ]
    assert alerts[0]["run"] == result.dagster_run.run_id
    assert alerts[0]["blocking"] is False


def test_a_failed_run_alerts() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([broken], instance=instance, raise_on_error=False)
        alert = failed_run(instance, result.dagster_run, "the disk is full")
    assert (alert["kind"], alert["message"], alert["run"]) == ("run_failed", "the disk is full", result.dagster_run.run_id)


def test_alerts_are_appended_as_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "alerts" / "alerts.ndjson"
    append_alerts(path, [])
    assert not path.exists()
    append_alerts(path, [{"check": "a"}, {"check": "b"}])
    append_alerts(path, [{"check": "c"}])
    assert [json.loads(line)["check"] for line in path.read_text().splitlines()] == ["a", "b", "c"]
