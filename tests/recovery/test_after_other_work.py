"""What other parts do on purpose is no damage: erasure, replays, discards, compaction, vacuum, restores of tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.decisions import Author
from lakehouse.ingest.replay import discard, replay
from lakehouse.ingest.waiting import Selection
from lakehouse.pipeline.erasing import erase
from lakehouse.pipeline.workspace import Workspace
from lakehouse.recovery.backing_up import back_up
from lakehouse.recovery.verifying import verify_home
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.ingest.conftest import lake, load, people, write_contract
from tests.privacy.test_erasing_a_home import NOW, SUBJECT, filled, workspace
from tests.quarantine.test_replay import FOUR, WIDER

__all__ = ["lake", "load", "people", "workspace", "write_contract"]


@pytest.mark.slow
def test_erasing_a_person(workspace: Workspace) -> None:
    filled(workspace)
    place = str(workspace.settings.backup_uri)
    back_up(workspace.settings, place, now=NOW)
    before = verify_home(workspace.settings, backup=place)
    assert before.is_green, before.failures
    erase(workspace, SUBJECT, run="erasure", now=NOW)
    after = verify_home(workspace.settings, backup=place)
    assert after.is_green, after.failures
    assert verify_home(workspace.settings, backup=place).is_green


def test_maintaining_tables(settings: Settings) -> None:
    own = Lake.from_settings(settings)
    con = own.open_connection()
    for number in range(4):
        own.append(con, "staging.numbers", f"SELECT {number} AS n", stamp=Stamp("test", "run"))
    assert verify_home(settings).is_green
    own.compact("staging.numbers", stamp=Stamp("maintenance", "run"))
    own.checkpoint("staging.numbers")
    assert verify_home(settings).is_green
    own.restore("staging.numbers", 1, stamp=Stamp("restore", "run"))
    assert verify_home(settings).is_green
    con.close()


def test_deciding_on_quarantined_rows(
    lake: Lake,
    settings: Settings,
    people: DatasetContract,
    load: Callable[..., Any],
    write_contract: Callable[..., DatasetContract],
    tmp_path: Path,
) -> None:
    author = Author("ann", "run", NOW, "checked")
    file = tmp_path / "four.csv"
    file.write_text(FOUR, encoding="utf-8")
    load(people, file)
    assert verify_home(settings).is_green
    replay(lake, write_contract(WIDER), selection=Selection(), edits=None, settings=settings, author=author)
    replayed = verify_home(settings)
    assert replayed.is_green, replayed.failures
    discard(lake, people, selection=Selection(rule="age.type"), settings=settings, author=author)
    found = verify_home(settings)
    assert found.is_green, found.failures
