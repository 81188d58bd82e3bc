"""Restoring a dataset: raw and quarantine go together, no batch counts twice, and nothing is lost."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.contracts import DatasetContract
from lakehouse.errors import TableError
from lakehouse.ingest import DatasetRestore, IngestReport, ingest, restore_dataset
from lakehouse.ingest.dead import counted_condition
from lakehouse.ingest.known import app_id
from lakehouse.monitoring.volumes import batch_volumes
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.ingest.conftest import HEADER, rows_of

Load = Callable[..., IngestReport]
Restore = Callable[[object], DatasetRestore]
COUNTS = (3, 0, 2, 1)
"""Bad rows of each file."""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Four files of three good rows, some of them with bad ones."""
    made: list[Path] = []
    for number, bad in enumerate(COUNTS):
        good = "".join(f"P{number}{row},30,1.7,1990-01-02,f,2\n" for row in range(3))
        text = HEADER + good + "".join(f"P{number}9{row},old,1.7,1990-01-02,f,2\n" for row in range(bad))
        made.append(tmp_path / f"wave_{number}.csv")
        made[-1].write_text(text, encoding="utf-8")
    return made


@pytest.fixture
def restore(lake: Lake, people: DatasetContract, settings: Settings, now: datetime) -> Restore:
    return lambda to: restore_dataset(lake, people, to, settings=settings, run="undo", now=now)  # type: ignore[arg-type]


def conserved(lake: Lake, contract: DatasetContract) -> dict[str, tuple[int, int]]:
    """Accepted and quarantined rows by file, as a reader finds them; each of a raw batch exactly once."""
    found: dict[str, tuple[int, int]] = {}
    for name, count in _by_file(lake, contract.raw, "true"):
        found[name] = (count, 0)
    if lake.exists(contract.quarantine):
        counted = counted_condition(lake.history(contract.raw), lake.history(contract.quarantine))
        for name, count in _by_file(lake, contract.quarantine, counted):
            found[name] = (found.get(name, (0, 0))[0], count)
    return found


def _by_file(lake: Lake, table: str, where: str) -> list[tuple[str, int]]:
    with lake.connect([table]) as session:
        return session.con.execute(f"SELECT _file, count(*) FROM {table} WHERE {where} GROUP BY _file ORDER BY _file").fetchall()


def expected(numbers: list[int]) -> dict[str, tuple[int, int]]:
    return {f"wave_{number}.csv": (3, COUNTS[number]) for number in sorted(numbers)}


def test_files_of_undone_batches_can_be_ingested_again_and_count_once(
    lake: Lake, people: DatasetContract, load: Load, files: list[Path], restore: Restore
) -> None:
    for file in files:
        load(people, file)
    done = restore(1)
    assert [file.file for file in done.removed] == ["wave_2.csv", "wave_3.csv"]
    assert conserved(lake, people) == expected([0, 1])
    # The rows are gone from the table itself, not only from what is counted.
    assert len(rows_of(lake, people.quarantine)) == 3
    assert sorted(row[0] for row in rows_of(lake, "monitoring.ingested_files", "file")) == ["wave_0.csv", "wave_1.csv"]
    assert [volume.files for volume in batch_volumes(lake, "people")] == [1, 1]
    report = load(people, *files)
    assert [file.status for file in report.files] == ["already", "already", "ingested", "ingested"]
    assert conserved(lake, people) == expected([0, 1, 2, 3])
    assert [file.status for file in load(people, *files).files] == ["already"] * 4
    batches = [row[0] for row in rows_of(lake, people.raw, "DISTINCT _batch")]
    assert batches == [1, 2, 6]
    assert sorted(row[0] for row in rows_of(lake, "monitoring.ingested_files", "file")) == [file.name for file in files]


def test_what_was_undone_comes_back_as_it_was(
    lake: Lake, people: DatasetContract, load: Load, files: list[Path], restore: Restore, settings: Settings
) -> None:
    for file in files:
        load(people, file)
    newest = lake.version(people.raw)
    before = rows_of(lake, people.raw), rows_of(lake, people.quarantine)
    restore(0)
    done = restore(newest)
    assert [file.file for file in done.returned] == ["wave_1.csv", "wave_2.csv", "wave_3.csv"]
    assert (rows_of(lake, people.raw), rows_of(lake, people.quarantine)) == before
    assert [file.status for file in load(people, *files).files] == ["already"] * 4
    (settings.home_dir / "index" / "files.sqlite").unlink()
    assert [file.status for file in load(people, *files).files] == ["already"] * 4
    assert (rows_of(lake, people.raw), rows_of(lake, people.quarantine)) == before
    assert restore(lake.version(people.raw)).raw.skipped


def test_a_version_before_the_first_bad_row_has_none(
    lake: Lake, people: DatasetContract, load: Load, files: list[Path], restore: Restore
) -> None:
    for number in (1, 0, 2):
        load(people, files[number])
    restore(0)
    assert rows_of(lake, people.quarantine) == []
    assert conserved(lake, people) == expected([1])
    load(people, files[2])
    assert conserved(lake, people) == expected([1, 2])
    restore(2)
    assert conserved(lake, people) == expected([0, 1, 2])


def test_a_batch_prepared_before_a_restore_looks_again(
    lake: Lake, people: DatasetContract, load: Load, files: list[Path], restore: Restore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file is undone, prepared again, and brought back by a restore before it is committed: it counts once."""
    from lakehouse.ingest.pieces import PiecewiseAppend

    load(people, files[0])
    load(people, files[2])
    restore(0)
    commit, came_between = PiecewiseAppend.commit, []

    def later(*arguments: object, **more: object) -> object:
        if not came_between:
            came_between.append(restore(1))
        return commit(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(PiecewiseAppend, "commit", later)
    assert load(people, files[2]).files[0].status == "already"
    assert conserved(lake, people) == expected([0, 2])
    assert len(rows_of(lake, people.quarantine)) == COUNTS[0] + COUNTS[2]


@pytest.mark.parametrize("then", ["restore", "ingest"])
def test_a_process_killed_between_the_two_tables_leaves_the_rest_to_the_next(
    lake: Lake, people: DatasetContract, load: Load, files: list[Path], restore: Restore, tmp_path: Path, then: str
) -> None:
    for file in files[:3]:
        load(people, file)
    program = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path; from lakehouse.settings import Settings\n"
        "from lakehouse.contracts import load_dataset; from lakehouse.ingest import restore_dataset; from lakehouse.tables import Lake\n"
        "s = Settings.load(); restore_dataset(Lake.from_settings(s), load_dataset(Path(sys.argv[1])), 1, settings=s, run='r',"
        " now=datetime.now(UTC))"
    )
    environment = {**os.environ, "LAKEHOUSE_TEST_CRASH_AT": "mid_restore"}
    died = subprocess.run([sys.executable, "-c", program, str(tmp_path / "contract.odcs.yaml")], env=environment, check=False)
    assert died.returncode == -9
    assert conserved(lake, people) == expected([0, 1])
    assert len(rows_of(lake, people.quarantine)) == COUNTS[0] + COUNTS[2]
    if then == "restore":
        restore(1)
        assert len(rows_of(lake, people.quarantine)) == COUNTS[0]
    load(people, files[2], files[3])
    assert conserved(lake, people) == expected([0, 1, 2, 3])
    assert len(rows_of(lake, people.quarantine)) == sum(COUNTS)


def test_nothing_is_restored_where_quarantine_could_not_follow(
    lake: Lake, people: DatasetContract, load: Load, files: list[Path], restore: Restore
) -> None:
    for file in files[:3]:
        load(people, file)
    restore(0)
    for file in lake.snapshot(people.quarantine, 1).files:
        if file.rows == COUNTS[2]:
            Path(file.uri).unlink()
    before = lake.version(people.raw)
    with pytest.raises(TableError, match="files are gone"):
        restore(2)
    assert lake.version(people.raw) == before


@pytest.mark.slow
@given(steps=st.lists(st.one_of(st.sampled_from([0, 1, 2, 3]), st.integers(0, 9).map(lambda to: -1 - to)), min_size=2, max_size=8))
@hypothesis_settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_files_and_restores_keeps_every_row_once(
    steps: list[int], people: DatasetContract, settings: Settings, files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Law: raw and quarantine hold exactly the files that are known, each once; the others are new."""
    own = settings.model_copy(update={"home": tmp_path_factory.mktemp("law"), "project": settings.project})
    fresh = Settings(project=settings.project, home=own.home)
    lake, now = Lake.from_settings(fresh), datetime(2026, 1, 2, tzinfo=UTC)
    contents: list[frozenset[int]] = []
    for step in [0, *steps]:
        if step >= 0:
            ingest(lake, people, [files[step]], settings=fresh, run="r", now=now)
            if not contents or step not in contents[-1]:
                contents.append((contents[-1] if contents else frozenset()) | {step})
        else:
            to = (-1 - step) % len(contents)
            made = restore_dataset(lake, people, to, settings=fresh, run="r", now=now)
            if not made.raw.skipped:
                contents.append(contents[to])
        assert conserved(lake, people) == expected(sorted(contents[-1]))
        if lake.exists(people.quarantine):
            assert len(rows_of(lake, people.quarantine)) == sum(COUNTS[number] for number in contents[-1])
    assert lake.transaction(people.raw, app_id(people)) == len(contents)
