"""A run whose process is gone (killed, out of memory, the machine restarted) is marked as failed.

Dagster's run monitoring can ask Kubernetes or Docker whether a run's worker lives, but not the launcher of local processes
(https://github.com/dagster-io/dagster/issues/4319): such a run would stay "started" for ever, hold a place in the queue and
keep its dataset's sensor waiting.
"""

import os
from pathlib import Path

import dagster as dg

from lakehouse.settings import Settings

_RUNNING = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
# The clock of a process's start has a resolution of 10 ms and the run's record is written a little later.
_TOLERANCE_S = 5.0


def worker_pid(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """The process that executes the run, as the first event that names one says; None before."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, limit=20).records
    for record in records:
        event = record.event_log_entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event else None
        if pid is not None:
            return int(str(pid.value))
    return None


def started_at(pid: int) -> float | None:
    """When the process started, in seconds since 1970; None where the system does not tell (it is not Linux)."""
    stat, boot = Path(f"/proc/{pid}/stat"), Path("/proc/stat")
    try:
        # The name, in brackets, may hold anything; the 22nd field is counted from behind it.
        ticks = int(stat.read_text().rpartition(")")[2].split()[19])
        boot_time = next(int(line.split()[1]) for line in boot.read_text().splitlines() if line.startswith("btime"))
    except (OSError, StopIteration):
        return None
    return boot_time + ticks / os.sysconf("SC_CLK_TCK")


def is_running(pid: int, *, since: float) -> bool:
    """Whether the process that was there at `since` still is; numbers of processes are used again."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # Somebody else's: the number has been used again.
    began = started_at(pid)
    return began is None or began <= since + _TOLERANCE_S


def fail_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark every run of this machine whose process is gone as failed; their ids."""
    lost: list[str] = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_RUNNING)):
        run = record.dagster_run
        pid = worker_pid(instance, run.run_id)
        if pid is None or record.start_time is None or is_running(pid, since=record.start_time):
            continue
        instance.report_run_failed(run, f"The process of the run (pid {pid}) is gone: it was killed, or the machine was restarted.")
        # Else its places in the pools, where they are limited, would never be free again.
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        lost.append(run.run_id)
    return lost


def build_lost_run_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor that looks for them."""

    @dg.sensor(
        name="run_process_lost",
        minimum_interval_seconds=settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="A run is marked as started, but its process on this machine is gone: marks it as failed, so that it can be tried again.",
    )
    def run_process_lost(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if not isinstance(context.instance.run_launcher, dg.DefaultRunLauncher):
            return dg.SkipReason("Runs are not local processes; Dagster's run monitoring looks after them.")
        lost = fail_lost_runs(context.instance)
        return dg.SkipReason(f"Marked as failed: {', '.join(lost)}." if lost else "Every running run has its process.")

    return run_process_lost
