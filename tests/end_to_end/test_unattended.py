"""Nobody attends: a model in production meets another world, is replaced, and what replaces it on false labels is taken back.

Only files are dropped; everything else is the real daemon's doing.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.learning.lifecycle import Event
from lakehouse.learning.lifecycle.journal import DeltaJournal
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.dagster.test_from_file_to_prediction import daemon, runs, wait_until
from tests.end_to_end.applications import write_applications
from tests.end_to_end.conftest import Cli

MODEL = "loan_applications"
PATIENCE_S = 600
# Where the home is copied to, for the pictures of the documentation.
KEPT = os.environ.get("LAKEHOUSE_TEST_KEEP_STORY")
# A tenth of an hour is a day here.
BY_ITSELF = """
rollout: {strategy: canary, steps: [25], step_hours: 0.04, min_rows: 100}
retraining: {new_rows: null, max_age_days: null, debounce_minutes: 1}
"""


class Story:
    """A home in which files arrive and the daemon does the rest."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings, self._log = settings, log
        self.lake = Lake.from_settings(settings)
        self._landing = settings.landing_dir / MODEL
        self._dropped = 1

    def drop(self, **how: bool) -> None:
        write_applications(self._landing / f"applications_{self._dropped}.csv", number=self._dropped, **how)
        self._dropped += 1

    def events(self) -> list[Event]:
        return list(DeltaJournal(self.lake).events(MODEL))

    def told(self) -> list[tuple[str, str]]:
        return [(one.version, one.kind) for one in self.events()]

    def until(self, claim: Callable[[], bool]) -> None:
        wait_until(claim, log=self._log, patience_s=PATIENCE_S)

    def until_told(self, version: str, kind: str) -> Event:
        self.until(lambda: (version, kind) in self.told())
        return next(one for one in self.events() if (one.version, one.kind) == (version, kind))

    def asked(self, table: str, sql: str) -> list[tuple]:
        with self.lake.connect([table]) as session:
            return session.con.execute(sql).fetchall()

    def until_quiet(self) -> None:
        self.until(lambda: all(run["status"] in ("SUCCESS", "FAILURE") for run in runs(self._settings)))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_model_follows_a_world_that_changes_and_comes_back_from_a_mistake(
    home: Path, settings: Settings, lakehouse: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lakehouse("add", write_applications(tmp_path / "applications_0.csv", number=0), "--name", MODEL, "--target", "defaulted")
    contract = Workspace(settings).contracts.model(MODEL).path
    assert contract is not None
    contract.write_text(contract.read_text() + BY_ITSELF)

    with daemon(settings) as log:
        story = Story(settings, log)
        story.until_told("1", "promoted")
        story.until_quiet()
        judged = story.asked("monitoring.drift", f"SELECT DISTINCT verdict FROM monitoring.drift WHERE subject = 'models.{MODEL}'")
        assert ("drifted",) not in judged

        story.drop(inflated=True)
        trained = story.until_told("2", "drafted")
        assert story.asked(
            "monitoring.drift",
            "SELECT count(*) > 0 FROM monitoring.drift WHERE part = 'features' AND column_name = 'income' AND verdict = 'drifted'",
        ) == [(True,)]
        assert "drift" in trained.reason
        assert story.until_told("2", "canary").share == 25.0
        story.until_told("2", "promoted")
        story.until_quiet()

        story.drop(inflated=True, by_app=True, wrong=True)
        story.until_told("3", "canary")
        story.drop(inflated=True, by_app=True)
        taken_back = story.until_told("3", "rolled_back")
        assert taken_back.actor == "watch"
        assert [one.id for one in taken_back.guards] == ["holds_on_new_labels"]
        story.until_quiet()

    assert DeltaJournal(story.lake).ledger(MODEL).production in {"2", "4"}
    answering = {
        row[0] for row in story.asked(f"models.{MODEL}_predictions", f"SELECT DISTINCT model_version FROM models.{MODEL}_predictions")
    }
    assert "3" not in answering
    trained = [one.version for one in story.events() if one.kind == "drafted"]
    # What the last delivery brings is new as well; whether that trains again before the daemon ends is a matter of seconds.
    assert trained in (["1", "2", "3"], ["1", "2", "3", "4"]), "each delivery trains once"
    assert all(run["status"] == "SUCCESS" for run in runs(settings))
    if KEPT:
        shutil.copytree(settings.home_dir, KEPT, dirs_exist_ok=True)
