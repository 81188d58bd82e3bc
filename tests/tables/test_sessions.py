"""Reading: views pinned to versions, time travel, history, and what is told when something is not there."""

import logging
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from lakehouse.errors import TableError, TableNotFound
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp, TableName
from lakehouse.tables.spill import own_folder, remove_stale_spill
from tests.tables.reading import rows

T = "raw.events"


def test_a_view_stays_at_the_version_it_was_pinned_to(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    lake.append(con, T, "SELECT 1 AS id", stamp=stamp)
    with lake.connect([T]) as session:
        lake.append(con, T, "SELECT 2 AS id", stamp=stamp)
        lake.delete(con, T, "id = 1", stamp=stamp)
        assert session.con.execute(f"SELECT id FROM {T}").fetchall() == [(1,)]
        assert session.versions == {T: 0}
        assert session.refresh(T) == 2
        assert session.con.execute(f"SELECT id FROM {T}").fetchall() == [(2,)]
        assert session.inputs() == session.inputs(T) == {T: 2}


def test_only_the_tables_asked_for_are_registered(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    for name in ("raw.a", "raw.b", "staging.c"):
        lake.overwrite(con, name, "SELECT 1 AS id", stamp=stamp)
    for path in ("files/a/2026-01-01/x", "raw/not_a_table/x", "raw/killed/part-x.parquet", "raw/killed/_delta_log/x.tmp"):
        lake.storage.write(path, b"")
    assert lake.tables() == [TableName("raw", "a"), TableName("raw", "b"), TableName("staging", "c")]
    for asked, expected in ((None, ["raw.a", "raw.b", "staging.c"]), ((), []), (["raw.b"], ["raw.b"])):
        with lake.connect(asked) as session:
            assert sorted(session.versions) == expected
            views = session.con.execute("SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal").fetchall()
            assert sorted(row[0] for row in views) == expected
    with lake.connect((), as_of={"raw.b": 0}) as session:
        assert session.versions == {"raw.b": 0}


def test_time_travel_by_version_and_by_time(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    for i in range(5):
        lake.append(con, T, f"SELECT {i} AS id", stamp=stamp)
        threading.Event().wait(0.003)
    for info in lake.history(T):
        expected = [(i,) for i in range(info.version + 1)]
        assert rows(lake, T, version=info.version) == rows(lake, T, version=info.timestamp) == expected
        assert lake.version_at(T, info.timestamp) == info.version
        assert lake.version_at(T, info.timestamp.replace(tzinfo=None)) == info.version
        assert lake.detail(T, info.version).rows == info.version + 1
        if info.version:
            assert lake.version_at(T, info.timestamp - timedelta(milliseconds=1)) == info.version - 1
    assert lake.version_at(T, datetime(2999, 1, 1, tzinfo=UTC)) == 4


def test_what_is_not_there_is_told_with_what_is(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    with pytest.raises(TableNotFound, match="there are none yet"):
        lake.connect([T])
    lake.append(con, T, "SELECT 1 AS id", stamp=stamp)
    lake.append(con, T, "SELECT 2 AS id", stamp=stamp)
    for version in (2, -1, 10**12):
        with pytest.raises(TableNotFound, match=rf"raw\.events: has no version {version} \(expected one of the versions 0 to 1"):
            lake.connect(as_of={T: version})
    first = lake.history(T)[-1].timestamp
    with pytest.raises(TableNotFound, match=rf"oldest is version 0 of {first.isoformat()[:19]}"):
        lake.connect(as_of={T: first - timedelta(seconds=1)})
    for ask in (
        lambda: lake.connect(["raw.nobody"]),
        lambda: lake.connect(as_of={"raw.nobody": 0}),
        lambda: lake.connect(as_of={"raw.nobody": first}),
        lambda: lake.history("raw.nobody"),
        lambda: lake.detail("raw.nobody"),
        lambda: lake.schema("raw.nobody"),
        lambda: lake.version_at("raw.nobody", first),
    ):
        with pytest.raises(TableNotFound, match=r"raw\.nobody: does not exist \(expected one of raw\.events\)"):
            ask()
    assert lake.version("raw.nobody") is None
    assert lake.transaction("raw.nobody", "x") is None
    assert not lake.exists("raw.nobody")


def test_history_is_newest_first_and_limited(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    for i in range(12):
        lake.append(con, T, f"SELECT {i} AS id", stamp=stamp)
    assert [info.version for info in lake.history(T, 3)] == [11, 10, 9]
    assert [info.version for info in lake.history(T)] == list(range(12))[::-1]
    assert {info.rows for info in lake.history(T)} == {1}
    another = Lake(lake.uri)
    assert another.history(T) == lake.history(T)


def test_the_log_outlives_checkpoints(lake: Lake, con: duckdb.DuckDBPyConnection, stamp: Stamp) -> None:
    for i in range(30):
        lake.append(con, T, f"SELECT {i} AS id", stamp=stamp)
    assert any(name.endswith(".checkpoint.parquet") for name in lake.storage.files("raw/events/_delta_log"))
    assert len(lake.history(T)) == 30
    assert lake.history(T)[-1].stamp == stamp
    assert rows(lake, T, columns="count(*)") == [(30,)]
    assert rows(lake, T, columns="count(*)", version=3) == [(4,)]


def test_roots_of_any_name(tmp_path: Path, stamp: Stamp) -> None:
    for folder in ("with space", "brackets[1]", "star*and?", "ünï", "equal=sign"):
        lake = Lake(tmp_path / folder)
        con = lake.open_connection()
        lake.append(con, T, "SELECT 1 AS id, 'x/y' AS p", stamp=stamp, partition_by=["p"])
        lake.merge(con, T, "SELECT 1 AS id, 'z' AS p", key=["id"], stamp=stamp)
        con.close()
        assert rows(lake, T) == [(1, "z")], folder
    with pytest.raises(TableError, match="percent sign"):
        Lake(tmp_path / "per%20cent")


def test_a_session_is_in_utc_and_spills_where_it_is_told(tmp_path: Path) -> None:
    spill = tmp_path / "deep" / "spill"
    lake = Lake(tmp_path / "tables", memory_limit="100MB", threads=1, spill_dir=spill)
    (spill / "999999999-dead").mkdir(parents=True)
    (spill / "999999999-dead.lock").touch()
    (spill / "999999998-without").mkdir()
    with lake.connect() as session:
        assert session.con.execute("SELECT current_setting('TimeZone'), current_setting('memory_limit')").fetchall() == [
            ("UTC", "95.3 MiB")
        ]
        own = own_folder(spill)
        assert sorted(spill.iterdir()) == [own, own.with_suffix(".lock")]
        assert own.stat().st_mode & 0o777 == 0o700
        assert list(own.iterdir()) == []
        session.con.execute("CREATE TEMP TABLE big AS SELECT range AS i, hash(range) AS h FROM range(12000000)")
        assert len(list(own.iterdir())) == 1
    assert list(own.iterdir()) == []


def test_what_is_spilled_stays_while_its_process_lives_and_goes_when_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lakehouse.tables.spill import own_folder\n"
        "folder = own_folder(Path(sys.argv[1])); (folder / 'rows').touch(); print(folder, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        remove_stale_spill(tmp_path)
        own_folder(tmp_path)
        assert (folder / "rows").exists()
        other.kill()
    remove_stale_spill(tmp_path)
    assert not folder.exists()
    assert sorted(tmp_path.iterdir()) == [own_folder(tmp_path), own_folder(tmp_path).with_suffix(".lock")]


def test_many_homes_do_not_keep_many_files_open(tmp_path: Path) -> None:
    for number in range(40):
        own_folder(tmp_path / str(number))
    busy = own_folder(tmp_path / "busy")
    (busy / "rows").touch()
    for number in range(40):
        own_folder(tmp_path / str(number))
    assert own_folder(tmp_path / "busy") == busy
    assert sum(any((tmp_path / str(number)).iterdir()) for number in range(40)) < 20


def test_a_query_never_reads_a_variable_of_the_program(lake: Lake) -> None:
    import pyarrow as pa

    secret = pa.Table.from_pydict({"x": pa.array([1])})
    with lake.connect() as session, pytest.raises(duckdb.CatalogException, match="secret"):
        session.con.execute("SELECT * FROM secret")
    assert secret.num_rows == 1


def test_threads_read_and_write_side_by_side(lake: Lake, stamp: Stamp) -> None:
    failures: list[BaseException] = []

    def work(me: int) -> None:
        try:
            with lake.connect(()) as session:
                for i in range(5):
                    lake.append(session.con, T, f"SELECT {me} AS writer, {i} AS i", stamp=stamp)
                    session.refresh(T)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(rows(lake, T)) == 20


def test_from_settings(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    lake = Lake.from_settings(settings)
    assert lake.uri == settings.tables_uri
    assert lake.tables() == []
    assert not Path(lake.uri).exists()
    assert caplog.records == []
