"""The definitions as readable text, one line per thing that users see.

    python -m tests.dagster.rendering > tests/dagster/expected_definitions.txt

writes the expectation again; the diff is what changes for them.
"""

import os
import sys
import tempfile
from collections.abc import Iterator

import dagster as dg


def render(definitions: dg.Definitions) -> str:
    """Assets with group, kinds and what they depend on; checks; jobs with their assets; schedules; sensors."""
    return "\n".join(_lines(definitions)) + "\n"


def _lines(definitions: dg.Definitions) -> Iterator[str]:
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    yield "# assets: key | group | kinds | depends on"
    for node in sorted(graph.asset_nodes, key=lambda node: node.key.to_user_string()):
        parents = ", ".join(sorted(parent.to_user_string() for parent in node.parent_keys)) or "-"
        how = "" if node.is_materializable else " (external)"
        yield f"{node.key.to_user_string()}{how} | {node.group_name} | {' '.join(sorted(node.kinds))} | {parents}"
    yield ""
    yield "# checks: asset: check (blocks)"
    for key in sorted(graph.asset_check_keys, key=lambda key: (key.asset_key.to_user_string(), key.name)):
        yield f"{key.asset_key.to_user_string()}: {key.name}{' (blocks)' if graph.get(key).blocking else ''}"
    yield ""
    yield "# jobs: name: assets"
    for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            keys = ", ".join(sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys))
            yield f"{job.name}: {keys}"
    yield ""
    yield "# schedules: name: job at cron"
    for schedule in sorted(repository.schedule_defs, key=lambda schedule: schedule.name):
        yield f"{schedule.name}: {schedule.job_name} at {schedule.cron_schedule} {schedule.execution_timezone}, {schedule.default_status.value.lower()}"
    yield ""
    yield "# sensors: name: every s, status, what it starts"
    for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name):
        yield f"{sensor.name}: every {sensor.minimum_interval_seconds} s, {sensor.default_status.value.lower()}, {_target(repository, sensor)}"


def _target(repository: dg.RepositoryDefinition, sensor: dg.SensorDefinition) -> str:
    jobs = [repository.get_job(target.job_name) for target in sensor.targets]
    keys = {key.to_user_string() for job in jobs for key in job.asset_layer.executable_asset_keys}
    return ", ".join(sorted(keys)) or "nothing"


def main() -> None:
    from definitions import build_definitions
    from lakehouse.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAKEHOUSE_HOME"] = folder
        sys.stdout.write(render(build_definitions(Settings.load())))


if __name__ == "__main__":
    main()
