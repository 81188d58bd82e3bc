"""The SQL of models, run elsewhere: the same rows without a build, and without starting dbt a second time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse.errors import TransformError
from lakehouse.settings import Settings
from lakehouse.tables import Commit, Lake
from lakehouse.transform import CompiledTable, build, compiled, compiling
from tests.transform.conftest import rows_of
from tests.transform.test_shipped_project import interview


def run_elsewhere(con: duckdb.DuckDBPyConnection, tables: Sequence[CompiledTable]) -> None:
    """Make every table in a plain in-memory DuckDB."""
    for one in tables:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {one.table.layer}")
        con.execute(f"CREATE TABLE {one.table} AS {one.sql}")


def test_compiled_sql_gives_what_a_build_gives(settings: Settings, interviews: Callable[..., Commit]) -> None:
    interviews(1, *(interview(household, wave, vulnerable=wave == 0) for household in range(6) for wave in (0, 1)))
    build(settings, run="r", select=["+household_features", "+household_vulnerability_by_district_quarter"], indirect_selection="empty")
    tables = compiled(settings, ["+household_features", "+household_vulnerability_by_district_quarter"])
    lake = Lake.from_settings(settings)
    con = lake.open_connection()
    con.execute("CREATE SCHEMA raw")
    con.execute(f"CREATE TABLE raw.household_survey AS {lake.scan_sql('raw.household_survey', con=con)}")
    run_elsewhere(con, tables)
    for one in tables:
        assert con.execute(f"SELECT * FROM {one.table} ORDER BY ALL").fetchall() == rows_of(lake, str(one.table))
    con.close()


def test_dbt_does_not_start_when_nothing_has_changed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiled(settings, ["+household_features"])
    monkeypatch.setattr(compiling, "_compile", _must_not_run)
    assert compiled(settings, ["+household_features"]) == first
    assert [str(one.table) for one in first] == ["staging.household_survey", "features.household_features"]


def test_a_selection_of_nothing_is_refused(settings: Settings) -> None:
    with pytest.raises(TransformError, match="selection nobody: selects no model"):
        compiled(settings, ["nobody"])


def test_parsed_types_are_those_of_real_commits(settings: Settings, real_data: Path) -> None:
    staging = compiled(settings, ["stg_commits"])[0]
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute("CREATE SCHEMA raw")
    con.execute(
        "CREATE TABLE raw.commits AS SELECT sha, html_url, commit.message AS message, author.type AS author_type,"
        " commit.author.date::TIMESTAMPTZ AS authored_at, commit.committer.date::TIMESTAMPTZ AS committed_at,"
        " to_json(parents)::VARCHAR AS parents, to_json(files)::VARCHAR AS files, stats.additions, stats.deletions,"
        " 1::BIGINT AS _batch, '' AS _file, '' AS _sha256, 1::BIGINT AS _row, TIMESTAMPTZ '2026-01-01 00:00:00+00' AS _ingested_at, NULL::BIGINT AS _arrival,"
        f" {', '.join(f'NULL::{kind} AS {name}' for name, kind in UNUSED.items())}"
        f" FROM read_json('{real_data}/commits/*/*/*.json', union_by_name=true, maximum_object_size=100000000)"
    )
    run_elsewhere(con, [staging])
    con.execute(f"CREATE TABLE labels AS FROM read_csv('{real_data}/commits/*_labels.csv', union_by_name=true, all_varchar=true)")
    counted = con.execute(
        "SELECT count(*), avg((l.type IS NOT DISTINCT FROM c.type)::INT), avg((l.scope IS NOT DISTINCT FROM c.scope)::INT),"
        " avg((trim(l.subject_without_prefix) = c.subject_without_prefix)::INT), avg(((l.is_merge = '1') = c.is_merge)::INT),"
        " avg(((l.is_bot = '1') = c.is_bot)::INT), avg(((l.breaking = '1') = c.is_breaking)::INT), avg((l.repo = c.repository)::INT)"
        " FROM staging.commits c JOIN labels l USING (sha)"
    ).fetchall()[0]
    con.close()
    assert counted[0] == 3045
    assert min(counted[1:]) >= 0.999


UNUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ["author_name", "author_email", "committer_name", "committer_email", "url", "author_login", "committer_login"], "VARCHAR"
    ),
    **dict.fromkeys(["comment_count", "total_changes", "files_truncated_from"], "BIGINT"),
}


def _must_not_run(*_: Any, **__: Any) -> list[CompiledTable]:
    raise AssertionError("dbt started again")
