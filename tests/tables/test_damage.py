"""Files that are missing, cut off or not what was written; a full disk; a right that was lost.

Each gives one error that names the table and the file, never wrong rows; and what the error says to do brings the table back.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from lakehouse.errors import LakehouseError, MachineError, TableDamaged
from lakehouse.tables import Lake, Stamp

PROJECT = Path(__file__).resolve().parents[2]
T = "raw.events"
NOBODY = 65534
VERSIONS = 30
"""One checkpoint, after version 24, and commits after it."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one table, made once."""
    root = tmp_path_factory.mktemp("whole") / "tables"
    lake = Lake(root, memory_limit="500MB", threads=1)
    con = lake.open_connection()
    for number in range(VERSIONS):
        rows = f"SELECT range + {number * 100} AS id, 'word' || range AS word FROM range(100)"
        lake.append(con, T, rows, stamp=Stamp("test", "run"))
    con.close()
    return root


@pytest.fixture
def lake(whole: Path, tmp_path: Path) -> Lake:
    shutil.copytree(whole, tmp_path / "tables")
    return Lake(tmp_path / "tables", memory_limit="500MB", threads=1, spill_dir=tmp_path / "spill")


def commit(lake: Lake, version: int) -> Path:
    return Path(lake.uri) / "raw" / "events" / "_delta_log" / f"{version:020d}.json"


def checkpoint(lake: Lake) -> Path:
    return commit(lake, 24).with_suffix(".checkpoint.parquet")


def data_file(lake: Lake) -> Path:
    """The one with the rows 500 to 599."""
    return Path(next(file.uri for file in lake.snapshot(T).files if file.facts["min.id"] == 500))


def count(lake: Lake) -> int:
    with lake.connect([T]) as session:
        return session.con.execute(f"SELECT count(word) FROM {T}").fetchall()[0][0]


def append(lake: Lake, rows: int = 1) -> None:
    with lake.connect(()) as session:
        lake.append(session.con, T, f"SELECT range AS id, 'more' || random() AS word FROM range({rows})", stamp=Stamp("test", "run"))


def merge(lake: Lake) -> None:
    with lake.connect(()) as session:
        lake.merge(session.con, T, "SELECT 510 AS id, 'new' AS word", key=["id"], stamp=Stamp("test", "run"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_noise(path: Path) -> None:
    path.write_bytes(bytes(range(1, 250)) * 10)


DAMAGE = [cut, empty, fill_with_noise]


def refused(lake: Lake, *actions: Callable[[Lake], object]) -> TableDamaged:
    """The one error that each of them gives."""
    errors: list[TableDamaged] = []
    for action in actions:
        with pytest.raises(TableDamaged) as caught:
            action(lake)
        errors.append(caught.value)
    assert len({str(error) for error in errors}) == 1
    return errors[0]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_newest_commit_that_was_cut_off_can_be_taken_back(lake: Lake, damage: Callable[[Path], None]) -> None:
    """As a power cut leaves it: nobody was told that it was made. An empty one would be taken for a commit without rows."""
    damage(commit(lake, VERSIONS - 1))
    error = refused(lake, count, append, merge, lambda lake: lake.compact(T, stamp=Stamp("test", "run")), lambda lake: lake.detail(T))
    assert error.subject == f"raw.events, file _delta_log/{VERSIONS - 1:020d}.json"
    assert "remove the file, which leaves the table at version 28" in str(error)
    commit(lake, VERSIONS - 1).unlink()
    assert count(lake) == 100 * (VERSIONS - 1)
    append(lake)
    assert count(lake) == 100 * (VERSIONS - 1) + 1


@pytest.mark.parametrize("damage", [*DAMAGE, Path.unlink])
def test_a_commit_in_between_must_come_from_a_backup(lake: Lake, damage: Callable[[Path], None]) -> None:
    path = commit(lake, 27)
    content = path.read_bytes()
    damage(path)
    error = refused(lake, count, append, merge)
    assert error.subject == f"raw.events, file _delta_log/{27:020d}.json"
    assert "lakehouse restore-backup --only raw.events" in str(error)
    path.write_bytes(content)
    assert count(lake) == 100 * VERSIONS


@pytest.mark.parametrize("damage", [*DAMAGE, Path.unlink])
def test_without_its_checkpoint_a_table_is_read_from_its_commits(lake: Lake, damage: Callable[[Path], None]) -> None:
    damage(checkpoint(lake))
    error = refused(lake, count, append, merge)
    assert error.subject == f"raw.events, file _delta_log/{checkpoint(lake).name}"
    assert "_last_checkpoint from the table's _delta_log: every commit is still there" in str(error)
    checkpoint(lake).unlink(missing_ok=True)
    (commit(lake, 0).parent / "_last_checkpoint").unlink()
    assert count(lake) == 100 * VERSIONS
    append(lake)
    lake.checkpoint(T)
    assert count(lake) == 100 * VERSIONS + 1


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_old_commit_is_missed_only_by_who_asks_for_its_version(lake: Lake, damage: Callable[[Path], None]) -> None:
    damage(commit(lake, 10))
    assert count(lake) == 100 * VERSIONS
    append(lake)
    with pytest.raises(LakehouseError, match="10"):
        lake.snapshot(T, 10)
    assert lake.snapshot(T, 24).version == 24


@pytest.mark.parametrize("damage", [*DAMAGE, Path.unlink])
def test_a_data_file_is_named_and_the_table_can_do_without_it(lake: Lake, damage: Callable[[Path], None]) -> None:
    file = data_file(lake)
    content = file.read_bytes()
    damage(file)
    for action in (merge, lambda lake: lake.compact(T, stamp=Stamp("test", "run"))):
        with pytest.raises(TableDamaged) as caught:
            action(lake)
        assert caught.value.subject == f"raw.events, file {file.name}"
        assert "lakehouse restore-backup --only raw.events; or go back to a version without it" in str(caught.value)
    # Rows that do not need it can still come.
    append(lake)
    assert lake.version(T) == VERSIONS
    file.write_bytes(content)
    assert count(lake) == 100 * VERSIONS + 1
    damage(file)
    lake.restore(T, 4, stamp=Stamp("test", "run"))
    assert count(lake) == 500


@pytest.mark.parametrize("damage", [*DAMAGE, Path.unlink])
@pytest.mark.parametrize("which", [data_file, checkpoint, lambda lake: commit(lake, VERSIONS - 1)])
@pytest.mark.usefixtures("home")
def test_the_command_line_says_it_in_one_line(
    lake: Lake,
    which: Callable[[Lake], Path],
    damage: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from lakehouse.cli.main import main

    path = which(lake)
    if damage is Path.unlink and path.suffix == ".json":
        pytest.skip("a newest commit that is not there was never made")
    damage(path)
    monkeypatch.setenv("LAKEHOUSE_URI", lake.uri)
    monkeypatch.setattr(sys, "argv", ["lakehouse", "query", f"SELECT count(word) FROM {T}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code not in {0, None}
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "bug" not in said
    assert path.name in said.replace("\n", "")


# ---- the machine

WRITER = """
import resource, sys
from lakehouse.errors import LakehouseError
from lakehouse.tables import Lake
from tests.tables.test_damage import append, merge, count
lake = Lake(sys.argv[1], memory_limit="500MB", threads=1, spill_dir=sys.argv[2])
if len(sys.argv) > 4:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
for what in sys.argv[3].split(","):
    try:
        append(lake, 200_000) if what == "append" else merge(lake) if what == "merge" else count(lake)
        print("done")
    except LakehouseError as error:
        print(type(error).__name__, error)
"""


def write_elsewhere(lake: Lake, what: str, *more: str, user: int | None = None, spill: Path) -> list[str]:
    """What a process of its own has to say."""
    switch = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user is not None else []
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1", "COVERAGE_PROCESS_START": ""}
    command = [*switch, sys.executable, "-c", WRITER, lake.uri, str(spill), what, *more]
    done = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def files_in(lake: Lake) -> set[str]:
    return {file.path for file in lake.storage.walk()}


@pytest.mark.slow
def test_a_file_that_may_not_grow_leaves_the_table_as_it_was(lake: Lake, tmp_path: Path) -> None:
    before = files_in(lake)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    (said,) = write_elsewhere(lake, "append", "100000", spill=tmp_path / "spill")
    assert said.startswith("MachineError")
    assert "File too large" in said
    assert files_in(lake) == before
    assert count(lake) == 100 * VERSIONS
    assert write_elsewhere(lake, "append", spill=tmp_path / "spill") == ["done"]
    assert count(lake) == 100 * VERSIONS + 200_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a small disk can't be mounted: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_leaves_the_table_as_it_was(whole: Path, small_disk: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, small_disk / "tables")
    lake = Lake(small_disk / "tables", memory_limit="500MB", threads=1, spill_dir=tmp_path / "spill")
    before = files_in(lake)
    with pytest.raises(MachineError, match=r"No space left on device.*Free some space; then run the command again"):
        append(lake, 500_000)
    assert files_in(lake) == before
    # Not even a commit has room.
    (small_disk / "ballast").touch()
    descriptor = os.open(small_disk / "ballast", os.O_WRONLY)
    with suppress(OSError):
        while os.write(descriptor, b"x" * 4096):
            pass
    os.close(descriptor)
    with pytest.raises(LakehouseError, match="No space left on device"):
        append(lake)
    assert count(lake) == 100 * VERSIONS
    (small_disk / "ballast").unlink()
    append(lake)
    assert count(lake) == 100 * VERSIONS + 1


@pytest.fixture
def shared(whole: Path) -> Iterator[Lake]:
    """A lake in a folder that another user may reach: modes do not hold root back."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        (place / "spill").mkdir()
        (place / "spill").chmod(0o777)
        shutil.copytree(whole, place / "tables")
        yield Lake(place / "tables", memory_limit="500MB", threads=1, spill_dir=place / "own")


@pytest.mark.slow
def test_without_the_right_to_write_nothing_changes_and_reading_goes_on(shared: Lake) -> None:
    spill = Path(shared.uri).parent / "spill"
    read, appended, merged = write_elsewhere(shared, "count,append,merge", user=NOBODY, spill=spill)
    assert read == "done"
    for said in (appended, merged):
        assert said.startswith("MachineError")
        assert "raw/events/" in said
        assert "Permission denied" in said
        assert "Give this user the right" in said
    assert shared.version(T) == VERSIONS - 1


@pytest.mark.parametrize("part", ["_delta_log", "data"])
@pytest.mark.slow
def test_without_the_right_to_read_the_file_is_named(shared: Lake, part: str) -> None:
    path = commit(shared, 0).parent if part == "_delta_log" else data_file(shared)
    path.chmod(0)
    (said,) = write_elsewhere(shared, "merge", user=NOBODY, spill=Path(shared.uri).parent / "spill")
    assert said.startswith("MachineError")
    assert "raw/events/" in said
    assert "Permission denied" in said
    path.chmod(0o755)
    assert count(shared) == 100 * VERSIONS


def test_other_errors_are_left_as_they_are(lake: Lake) -> None:
    with lake.connect(()) as session, pytest.raises(duckdb.BinderException):
        lake.append(session.con, T, "SELECT nothing AS id", stamp=Stamp("test", "run"))


def test_a_clock_that_jumps_back_changes_the_order_of_nothing(lake: Lake) -> None:
    """The clock was a day ahead for version 29, and is right again."""
    path = commit(lake, VERSIONS - 1)
    actions = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    ahead = datetime.now(UTC) + timedelta(days=1)
    for action in actions:
        if "commitInfo" in action:
            action["commitInfo"]["timestamp"] = int(ahead.timestamp() * 1000)
    path.write_text("\n".join(json.dumps(action) for action in actions), encoding="utf-8")
    for _ in range(3):
        append(lake)
    times = [info.timestamp for info in lake.history(T)][::-1]
    assert times == sorted(times)
    assert len(set(times[-4:])) == 4
    assert lake.version_at(T, ahead - timedelta(hours=1)) == VERSIONS - 2
    assert lake.version_at(T, times[-2]) == VERSIONS + 1
    assert lake.version_at(T, ahead + timedelta(hours=1)) == VERSIONS + 2
    # What was the newest a moment ago is not old, whatever its commit says.
    vacuumed = lake.vacuum(T, keep=(), retention=timedelta(hours=2), now=datetime.now(UTC), stamp=Stamp("test", "run"))
    assert vacuumed.files == 0
    assert count(lake) == 100 * VERSIONS + 3
