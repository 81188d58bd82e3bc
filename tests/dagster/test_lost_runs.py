"""Runs whose process is gone are marked as failed; those that live are left alone."""

import os
import subprocess
import sys
import time

import dagster as dg
import pytest

from sensors.lost_runs import fail_lost_runs, is_running, started_at


@dg.op
def nothing() -> None: ...


@dg.job
def idle() -> None:
    nothing()


def started_run(instance: dg.DagsterInstance, pid: int) -> dg.DagsterRun:
    run = instance.create_run_for_job(idle)
    instance.report_engine_event(f"Started process for run (pid: {pid}).", run, dg._core.events.EngineEventData.in_process(pid))
    start = dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_START.value, job_name=run.job_name, message="started")
    instance.report_dagster_event(start, run.run_id)
    return run


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_the_run_without_a_process_fails(dead_pid: int) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        lost, alive = started_run(instance, dead_pid), started_run(instance, os.getpid())
        assert status(instance, lost) is dg.DagsterRunStatus.STARTED
        assert fail_lost_runs(instance) == [lost.run_id]
        assert status(instance, lost) is dg.DagsterRunStatus.FAILURE
        assert status(instance, alive) is dg.DagsterRunStatus.STARTED
        assert fail_lost_runs(instance) == []


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="only Linux tells when a process started")
def test_a_number_that_was_used_again_is_not_the_run() -> None:
    began = started_at(os.getpid())
    assert began is not None
    # This process may have run tests for hours.
    assert 0 <= time.time() - began < 86_400
    assert is_running(os.getpid(), since=time.time())
    assert not is_running(os.getpid(), since=began - 60)
