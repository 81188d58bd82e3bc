"""Databases of a home: which there are, and what is said where one can't be taken."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lakehouse.errors import RecoveryError
from lakehouse.recovery.databases import copy_sqlite, dump_postgres, is_sqlite, move_paths, postgres_databases
from lakehouse.settings import Settings

CONFIG = """
storage:
  postgres:
    postgres_db:
      username: ann
      password: {env: DAGSTER_PASSWORD}
      hostname: db.example
      db_name: dagster
"""


def test_postgresql_is_found_in_the_settings_and_in_dagster_yaml(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert postgres_databases(settings) == []
    settings.dagster_home.mkdir(parents=True)
    (settings.dagster_home / "dagster.yaml").write_text(CONFIG)
    with pytest.raises(RecoveryError, match="DAGSTER_PASSWORD"):
        postgres_databases(settings)
    monkeypatch.setenv("DAGSTER_PASSWORD", "s@cret/")
    monkeypatch.setenv("LAKEHOUSE_MLFLOW_URI", "postgresql+psycopg2://bob@other/mlflow")
    registry, dagster = postgres_databases(Settings.load())
    assert registry.uri == "postgresql://bob@other/mlflow"
    assert dagster.uri == "postgresql://ann:s%40cret%2F@db.example:5432/dagster"
    assert "s%40cret" not in repr(dagster)


def test_a_missing_pg_dump_is_named(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_MLFLOW_URI", "postgresql://bob@other/mlflow")
    monkeypatch.setenv("PATH", str(tmp_path))
    (database,) = postgres_databases(Settings.load())
    with pytest.raises(RecoveryError, match="pg_dump is not installed"):
        dump_postgres(database, tmp_path / "dump")


def test_a_database_is_copied_while_it_is_written_to(tmp_path: Path) -> None:
    source, copy = tmp_path / "odd name?.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(source)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (x TEXT)")
        writer.execute("INSERT INTO t VALUES ('in')")
        writer.commit()
        writer.execute("INSERT INTO t VALUES ('out')")
        copy_sqlite(source, copy)
        writer.rollback()
    assert is_sqlite(copy)
    with closing(sqlite3.connect(copy)) as reader:
        assert reader.execute("SELECT x FROM t").fetchall() == [("in",)]
    (tmp_path / "no.db").write_bytes(b"SQLite format 3\x00 and nothing else")
    with pytest.raises(RecoveryError, match="can't be copied"):
        copy_sqlite(tmp_path / "no.db", copy)


def test_only_whole_folders_are_moved(tmp_path: Path) -> None:
    database = tmp_path / "paths.db"
    with closing(sqlite3.connect(database)) as con, con:
        con.execute("CREATE TABLE t (place VARCHAR(200), other INTEGER)")
        con.executemany("INSERT INTO t VALUES (?, 1)", [("file:///a/home/x",), ("file:///a/homes/x",), ("file:///a/home",), (None,)])
    assert move_paths(database, "file:///a/home", "file:///b") == 2
    with closing(sqlite3.connect(database)) as con:
        assert [row[0] for row in con.execute("SELECT place FROM t")] == ["file:///b/x", "file:///a/homes/x", "file:///b", None]
