"""Decisions at once, and killed at the named instants."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.ingest import IngestReport
from lakehouse.ingest.replay import discard, replay
from lakehouse.ingest.waiting import Selection
from lakehouse.pipeline.rejected import count_by_rule
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.ingest.conftest import PEOPLE, rows_of
from tests.ingest.test_crashes import write_people
from tests.quarantine.conftest import ANN

WIDER = PEOPLE.replace("maximum: 120", "maximum: 250")
_DRIVER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from lakehouse.contracts import load_dataset
from lakehouse.ingest.events import Author
from lakehouse.ingest.replay import replay
from lakehouse.settings import Settings
from lakehouse.tables import Lake

settings = Settings.load()
author = Author("ann", "r", datetime(2026, 1, 1, tzinfo=UTC))
replay(Lake.from_settings(settings), load_dataset(Path(sys.argv[1])), settings=settings, author=author)
"""


def test_two_replays_and_a_discard_at_once_decide_each_row_once(
    settings: Settings,
    people: DatasetContract,
    write_contract: Callable[..., DatasetContract],
    load: Callable[..., IngestReport],
    tmp_path: Path,
) -> None:
    file = tmp_path / "people.csv"
    write_people(file, 3000)
    load(people, file)
    wider = write_contract(WIDER)

    def one(number: int) -> Any:
        lake = Lake.from_settings(settings)
        if number == 2:
            return discard(lake, wider, selection=Selection(rule="age.maximum"), settings=settings, author=ANN)
        return replay(lake, wider, settings=settings, author=ANN)

    with ThreadPoolExecutor(3) as pool:
        first, second, third = pool.map(one, range(3))
    lake = Lake.from_settings(settings)
    assert first.accepted + second.accepted + third.rows == 6
    found = count_by_rule(lake)["people"]
    assert (found.replayed, found.discarded) == (first.accepted + second.accepted, third.rows)
    raw = rows_of(lake, people.raw, "_sha256, _row")
    assert len(raw) == len(set(raw)) == 3000 - found.rows - found.discarded


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["before_data_files", "before_commit", "quarantine_committed", "before_commit:2", "mid_replay", "before_commit:3"]
)
def test_a_replay_that_was_killed_is_done_by_the_next(
    lake: Lake,
    people: DatasetContract,
    write_contract: Callable[..., DatasetContract],
    load: Callable[..., IngestReport],
    tmp_path: Path,
    point: str,
) -> None:
    file = tmp_path / "people.csv"
    write_people(file, 1000)
    load(people, file)
    wider = write_contract(WIDER)
    command = [sys.executable, "-c", _DRIVER, str(wider.path)]
    environment = {**os.environ, "LAKEHOUSE_TEST_CRASH_AT": point}
    assert subprocess.run(command, env=environment, check=False, timeout=120).returncode == -signal.SIGKILL
    # Right at any instant, also before anybody has cleaned up.
    counts = count_by_rule(lake)["people"]
    assert len(rows_of(lake, people.raw)) + counts.rows == 1000
    assert subprocess.run(command, check=False, timeout=120).returncode == 0
    assert len(rows_of(lake, people.raw)) == 996
    states = rows_of(lake, people.quarantine, "_row, status")
    assert len(states) == len({row for row, _ in states}) == 6
    assert sorted(state for _, state in states) == ["replayed"] * 2 + ["waiting"] * 4
