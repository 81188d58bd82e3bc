"""Raw becomes wider as the contract does: killed on the way, and by two processes at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.crashpoints import VARIABLE, Point
from lakehouse.ingest import IngestReport
from lakehouse.tables import Lake
from tests.ingest.conftest import HEADER, PEOPLE, rows_of
from tests.ingest.test_crashes import DRIVER, PROJECT

WIDER = PEOPLE.replace("physicalType: INTEGER", "physicalType: BIGINT")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three deliveries of different people; the later ones need the wider type."""
    made: list[Path] = []
    for number in range(3):
        path = tmp_path / f"people-{number}.csv"
        children = 0 if number == 0 else 3_000_000_000
        lines = [f"P{number * 100 + one},30,1.7,1980-05-17,f,{children}" for one in range(100)]
        path.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
        made.append(path)
    return made


@pytest.fixture
def wider(people: DatasetContract, load: Callable[..., IngestReport], files: list[Path], tmp_path: Path) -> Path:
    """The wider contract, after a batch under the narrow one."""
    load(people, files[0])
    path = tmp_path / "wider.odcs.yaml"
    path.write_text(WIDER, encoding="utf-8")
    return path


def start(contract: Path, home: Path, file: Path, crash_at: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "LAKEHOUSE_HOME": str(home), "LAKEHOUSE_THREADS": "1", "PYTHONPATH": str(PROJECT), VARIABLE: crash_at}
    command = [sys.executable, str(DRIVER), str(contract), str(file)]
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_whole(lake: Lake, deliveries: int) -> None:
    """Every delivery is there once, in the wider type, with its origin."""
    assert lake.schema("raw.people")["children"] == "BIGINT"
    with lake.connect(["raw.people"]) as session:
        counted = "_file, count(*), count(DISTINCT _row), max(children)"
        found = session.con.execute(f"SELECT {counted} FROM raw.people GROUP BY _file ORDER BY _file").fetchall()
    assert found == [(f"people-{number}.csv", 100, 100, 3_000_000_000 if number else 0) for number in range(deliveries)]
    assert rows_of(lake, "monitoring.contracts", "count(*), count(DISTINCT digest)") == [(2, 2)]


@pytest.mark.parametrize("point", [pytest.param(Point.AFTER_DATA_FILES, marks=pytest.mark.slow), Point.MID_WIDENING])
def test_killed_while_raw_becomes_wider(lake: Lake, home: Path, wider: Path, files: list[Path], point: Point) -> None:
    before = lake.version("raw.people") or 0
    killed = start(wider, home, files[1], crash_at=point)
    _, said = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, said
    assert rows_of(lake, "raw.people", "count(*)", order="ALL") == [(100,)]
    assert lake.version("raw.people") == before + (point is Point.MID_WIDENING)
    again = start(wider, home, files[1])
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    is_whole(lake, 2)


def test_two_processes_make_raw_wider_at_once(lake: Lake, home: Path, wider: Path, files: list[Path]) -> None:
    both = [start(wider, home, file) for file in files[1:]]
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    is_whole(lake, 3)
