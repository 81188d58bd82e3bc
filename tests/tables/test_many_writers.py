"""Many processes write to one table, with maintenance beside them: every commit counts, once, on the version before it."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from lakehouse.tables import Lake, Stamp
from tests.servers.fixtures import S3Server
from tests.tables.many_writers import TABLE

PROJECT = Path(__file__).resolve().parents[2]


def run_together(lake: Lake, roles: Mapping[str, int], count: int, folder: Path) -> dict[str, int]:
    """Processes by role, started at one time; returns how often those that write tried, and how many rounds maintenance made."""
    done = folder / "done"
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "ROOT": lake.uri,
        "OPTIONS": json.dumps(lake.storage.options),
        "DONE": str(done),
    }
    command = [sys.executable, "-m", "tests.tables.many_writers"]
    wanted = [(role, number) for role, processes in roles.items() for number in range(processes)]
    started = [
        (
            role,
            subprocess.Popen(
                [*command, role, str(number), str(count)],
                cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            ),
        )
        for role, number in wanted
    ]  # fmt: skip
    for _, process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for _, process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told: Counter[str] = Counter()
    for role, process in sorted(started, key=lambda one: one[0] in {"compact", "vacuum"}):
        if role in {"compact", "vacuum"}:
            done.touch()
        output, errors = process.communicate(timeout=1200)
        assert process.returncode == 0, errors
        told[role] += int(output)
    return told


def require_all(lake: Lake, writers: int, count: int, how: str = "appended") -> None:
    """Every row is there once, every commit is in the log once, and the versions have no gap."""
    expected = sorted((writer, turn, how) for writer in range(writers) for turn in range(count))
    with lake.connect([TABLE]) as session:
        assert session.con.execute(f"SELECT writer, turn, how FROM {TABLE} WHERE writer >= 0 ORDER BY ALL").fetchall() == expected
    history = lake.history(TABLE)
    assert [info.version for info in history] == list(range(len(history)))[::-1]
    made = Counter(info.stamp.run for info in history if info.stamp is not None and info.stamp.asset == "writer")
    assert made == Counter({str(writer): count for writer in range(writers)})


def begin(lake: Lake) -> None:
    """A table with a few versions, of which maintenance has something to do."""
    with lake.connect(()) as session:
        for turn in range(3):
            lake.overwrite(session.con, TABLE, f"SELECT -1 AS writer, {turn} AS turn, 'before' AS how", stamp=Stamp("begin", "begin"))


@pytest.fixture
def s3_shared(s3_server: S3Server, s3_root: str) -> Lake:
    return Lake(s3_root, storage_options=s3_server.options, memory_limit="200MB", threads=1)


@pytest.mark.parametrize("how", ["append", "merge"])
def test_a_few_processes_with_maintenance_beside_them(lake: Lake, tmp_path: Path, how: str) -> None:
    begin(lake)
    run_together(lake, {how: 3, "compact": 1, "vacuum": 1}, 6, tmp_path)
    require_all(lake, 3, 6, {"append": "appended", "merge": "merged"}[how])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_eight_processes_make_fifty_commits_each(lake: Lake, tmp_path: Path) -> None:
    """The first of them creates the table."""
    run_together(lake, {"append": 8}, 50, tmp_path)
    require_all(lake, 8, 50)
    assert len(lake.history(TABLE)) == 400


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_eight_processes_with_two_that_compact_and_one_that_vacuums(lake: Lake, tmp_path: Path) -> None:
    begin(lake)
    rounds = run_together(lake, {"append": 8, "compact": 2, "vacuum": 1}, 50, tmp_path)
    require_all(lake, 8, 50)
    assert rounds["compact"] > 2
    assert rounds["vacuum"] > 0


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(1800)
def test_eight_processes_make_fifty_commits_each_on_s3(s3_shared: Lake, tmp_path: Path) -> None:
    run_together(s3_shared, {"append": 8}, 50, tmp_path)
    require_all(s3_shared, 8, 50)
    assert len(s3_shared.history(TABLE)) == 400


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(1800)
def test_eight_processes_with_two_that_compact_and_one_that_vacuums_on_s3(s3_shared: Lake, tmp_path: Path) -> None:
    begin(s3_shared)
    run_together(s3_shared, {"append": 8, "compact": 2, "vacuum": 1}, 50, tmp_path)
    require_all(s3_shared, 8, 50)
