"""query, tables, history, quarantine and lineage over a small lake."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.tables import Lake, Stamp
from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]
RAW = "raw.household_survey"


@pytest.mark.usefixtures("small_lake")
class TestQuery:
    def test_rows_with_types_and_versions(self, lakehouse: Run) -> None:
        found = lakehouse("query", f"select _batch, count(*) as rows from {RAW} group by 1 order by 1", "--json").json
        assert found == {
            "columns": [{"name": "_batch", "type": "BIGINT"}, {"name": "rows", "type": "BIGINT"}],
            "rows": [{"_batch": 1, "rows": 10}, {"_batch": 2, "rows": 10}, {"_batch": 3, "rows": 10}],
            "truncated": False,
            "versions": {RAW: 2},
        }

    @pytest.mark.parametrize(("version", "rows"), [(0, 10), (1, 20), (2, 30)])
    def test_a_version_is_read_as_it_was(self, lakehouse: Run, version: int, rows: int) -> None:
        found = lakehouse("query", f"select count(*) as n from {RAW}", "--as-of", f"{RAW}@{version}", "--json").json
        assert found["rows"] == [{"n": rows}]
        assert found["versions"] == {RAW: version}

    def test_an_instant_is_a_version(self, lakehouse: Run, small_lake: Lake) -> None:
        moment = small_lake.history(RAW)[1].timestamp.isoformat()
        found = lakehouse("query", f"select count(*) as n from {RAW}", "--as-of", f"{RAW}@{moment}", "--json").json
        assert found["rows"][0]["n"] == 20

    def test_csv_can_be_read_back(self, lakehouse: Run) -> None:
        shown = lakehouse("query", f"select 'a,\"b\"' as t, NULL as n, [1, 2] as l, {{'k': 1}} as s from {RAW} limit 1", "--csv")
        assert list(csv.reader(io.StringIO(shown.out))) == [["t", "n", "l", "s"], ['a,"b"', "", "[1, 2]", '{"k": 1}']]

    def test_the_limit_is_told(self, lakehouse: Run) -> None:
        found = lakehouse("query", f"select * from {RAW}", "--limit", 7, "--json").json
        assert len(found["rows"]) == 7
        assert found["truncated"]
        shown = lakehouse("query", "select 'x[bold]y' as t from range(60)")
        assert shown.out.count("x[bold]y") == 50
        assert "there are more" in shown.err

    def test_sql_from_stdin(self, lakehouse: Run) -> None:
        assert lakehouse("query", "-", "--json", stdin="select 1 as one").json["rows"] == [{"one": 1}]

    def test_repeated_column_names_lose_nothing(self, lakehouse: Run) -> None:
        assert lakehouse("query", "select 1 as a, 2 as a, 3 as a", "--json").json["rows"] == [{"a": 1, "a_2": 2, "a_3": 3}]

    @pytest.mark.parametrize(
        "sql",
        [
            f"PIVOT {RAW} ON _batch USING count(*) GROUP BY head_age",
            f"EXPLAIN SELECT * FROM {RAW}",
            f"EXPLAIN ANALYZE SELECT * FROM {RAW}",
            f"SUMMARIZE {RAW}",
            f"DESCRIBE {RAW}",
            f'FROM "raw"."household_survey"',  # noqa: F541
            f"WITH t AS (FROM {RAW}) SELECT * FROM t WHERE EXISTS (FROM staging.household_survey)",
            f"FROM query_table('{RAW}')",
        ],
    )
    def test_every_way_of_reading_works(self, lakehouse: Run, sql: str) -> None:
        assert lakehouse("query", sql, "--json").code == 0

    @pytest.mark.parametrize(
        "sql",
        [
            "CREATE TABLE t AS SELECT 1",
            "INSERT INTO raw.household_survey SELECT * FROM raw.household_survey",
            "DELETE FROM raw.household_survey",
            "DROP VIEW raw.household_survey",
            "COPY (SELECT 1) TO '{outside}'",
            "EXPLAIN ANALYZE COPY (SELECT 1) TO '{outside}'",
            "EXPLAIN ANALYZE INSERT INTO raw.household_survey SELECT * FROM raw.household_survey",
            "ATTACH '{outside}' AS other",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET threads = 1",
            "PRAGMA enable_logging",
            "SELECT 1; SELECT 2",
            "CREATE TEMP TABLE pivot AS SELECT 1",
            "CALL pragma_version()",
            "",
            ";",
        ],
    )
    def test_nothing_can_be_changed(self, lakehouse: Run, sql: str, tmp_path: Path, small_lake: Lake) -> None:
        outside = tmp_path / "outside"
        refused = lakehouse("query", sql.format(outside=outside))
        assert refused.code == 2
        assert refused.err.startswith("lakehouse: query: ")
        assert not outside.exists()
        assert small_lake.version(RAW) == 2

    @pytest.mark.parametrize(
        "source", ["read_text('{secret}')", "read_csv('{secret}')", "'{secret}'", "glob('{folder}/*')", "read_blob('{folder}/*')"]
    )
    def test_nothing_outside_the_tables_can_be_read(self, lakehouse: Run, source: str, tmp_path: Path) -> None:
        secret = tmp_path / "secret.csv"
        secret.write_text("password\nhunter2\n")
        shown = lakehouse("query", f"select * from {source.format(secret=secret, folder=tmp_path)}, {RAW}", "--json")
        assert shown.code == 2
        assert "hunter2" not in shown.out + shown.err

    @pytest.mark.parametrize(
        ("sql", "hint"),
        [
            ("select * from raw.houshold_survey", "Did you mean raw.household_survey"),
            ("select * from household_survey", "raw.household_survey"),
            ("select * from zzz.zzz", "lakehouse tables"),
            (f"select hed_age from {RAW}", "head_age"),
            ("selec 1", "syntax"),
        ],
    )
    def test_mistakes_get_a_hint(self, lakehouse: Run, sql: str, hint: str) -> None:
        shown = lakehouse("query", sql)
        assert shown.code == 2
        assert hint in shown.err
        assert len(shown.err.splitlines()) == 1

    @pytest.mark.parametrize(
        "point", ["x", "raw.household_survey", f"{RAW}@", f"{RAW}@yesterday", f"{RAW}@99", f"{RAW}@²", "raw.no@1", f"{RAW}@1999-01-01"]
    )
    def test_points_in_history_that_are_none(self, lakehouse: Run, point: str) -> None:
        shown = lakehouse("query", "select 1", "--as-of", point)
        assert shown.code == 2
        assert "unexpected" not in shown.err
        assert len(shown.err.splitlines()) == 1

    def test_two_formats_are_one_too_many(self, lakehouse: Run) -> None:
        assert lakehouse("query", "select 1", "--csv", "--json").json["error"] == "QueryError"


def test_tables_lists_layers_in_the_order_data_flows(small_lake: Lake, lakehouse: Run) -> None:
    found = lakehouse("tables", "--json").json["tables"]
    assert [one["layer"] for one in found] == ["raw", "quarantine", "staging", "features", "models", "models"]
    assert found[0]["rows"] == 30
    assert found[0]["version"] == 2
    assert found[0]["size_bytes"] > 0
    assert found[0]["last_run"] == "run-3"
    assert [one["table"] for one in lakehouse("tables", "--layer", "raw", "--json").json["tables"]] == [RAW]
    assert "household_survey" in lakehouse("tables").out


def test_an_empty_home_says_what_to_do(lakehouse: Run) -> None:
    assert lakehouse("tables", "--json").json == {"tables": []}
    assert "lakehouse demo" in lakehouse("tables").out
    assert lakehouse("quarantine", "list", "--json").json == {"datasets": {}}


def test_history_is_newest_first_with_stamps(small_lake: Lake, lakehouse: Run) -> None:
    found = lakehouse("history", RAW, "--json").json
    assert [one["version"] for one in found["versions"]] == [2, 1, 0]
    assert found["versions"][0]["source"]["files"][0]["file"] == "wave_3.csv"
    derived = lakehouse("history", "staging.household_survey", "--json").json["versions"]
    assert derived[0]["inputs"] == {RAW: 2}
    assert len(lakehouse("history", RAW, "--limit", 1, "--json").json["versions"]) == 1
    assert f"{RAW}@2" in lakehouse("history", "staging.household_survey").out
    missing = lakehouse("history", "raw.household")
    assert missing.code == 2
    assert f"Did you mean {RAW}" in missing.err


def test_quarantine_counts_rules_and_shows_rows(small_lake: Lake, lakehouse: Run) -> None:
    counts = lakehouse("quarantine", "list", "--json").json["datasets"]["household_survey"]
    assert counts["rows"] == 3
    assert {rule["rule"]: rule["rows"] for rule in counts["rules"]} == {"head_age.type": 3, "rooms.range": 3}
    rows = lakehouse("quarantine", "show", "household_survey", "--json").json["rows"]
    assert [row["file"] for row in rows] == ["wave_3.csv", "wave_2.csv", "wave_1.csv"]
    assert rows[0]["row"] == 11
    assert rows[0]["record"] == {"head_age": "old"}
    assert len(rows[0]["reasons"]) == 2
    one = lakehouse("quarantine", "show", "household_survey", "--file", "wave_2.csv", "--rule", "rooms.range", "--json").json["rows"]
    assert [row["batch"] for row in one] == [2]
    assert "rooms: 99 is above 30" in lakehouse("quarantine", "show", "household_survey").out
    assert "rooms.range" in lakehouse("quarantine", "list").out
    assert lakehouse("quarantine", "show", "houshold_survey").code == 2
    two = lakehouse("quarantine", "show", "household_survey", "--limit", 2)
    assert "there are more: --limit N" in two.err
    assert lakehouse("quarantine", "show", "household_survey", "--limit", 2, "--json").json["truncated"] is True
    assert lakehouse("quarantine", "show", "household_survey", "--limit", 3, "--json").json["truncated"] is False


def test_a_batch_that_never_reached_raw_is_not_in_quarantine(small_lake: Lake, lakehouse: Run) -> None:
    from lakehouse.tables import Stamp, Transaction

    table = "quarantine.household_survey"
    with small_lake.connect([table]) as session:
        dead = f"SELECT * REPLACE (4::BIGINT AS _batch) FROM {table} WHERE _batch = 3"
        small_lake.append(session.con, table, dead, stamp=Stamp("x", "y"), transaction=Transaction("ingest.household_survey", 4))
    assert lakehouse("quarantine", "list", "--json").json["datasets"]["household_survey"]["rows"] == 3


PREDICTIONS = "models.household_vulnerability_predictions"


def test_lineage_names_model_versions_files_and_lines(small_lake: Lake, lakehouse: Run) -> None:
    found = lakehouse("lineage", PREDICTIONS, "--key", "HH00000002", "--json").json
    assert found["models"] == [
        {"name": "household_vulnerability", "version": "1", "training_set": "models.household_vulnerability_training_set@0"}
    ]
    assert found["versions"] == {
        PREDICTIONS: [0],
        "features.household_features": [0],
        "models.household_vulnerability_training_set": [0],
        "staging.household_survey": [0],
        RAW: [2],
    }
    lines = {(line["file"], line["row"], line["kept"]) for line in found["source_rows"]}
    assert lines == {
        ("wave_1.csv", 3, True),
        ("wave_1.csv", 8, False),
        ("wave_2.csv", 3, True),
        ("wave_2.csv", 8, True),
        ("wave_3.csv", 3, True),
        ("wave_3.csv", 8, True),
    }
    assert {one["file"] for one in found["files"]} == {"wave_1.csv", "wave_2.csv", "wave_3.csv"}
    shown = lakehouse("lineage", PREDICTIONS, "--key", "household_id=HH00000002").out
    assert "wave_2.csv row 3" in shown
    assert "model household_vulnerability version 1" in shown


def test_lineage_of_a_version_and_a_depth(small_lake: Lake, lakehouse: Run) -> None:
    first = lakehouse("lineage", f"{RAW}@0", "--json").json
    assert [one["file"] for one in first["files"]] == ["wave_1.csv"]
    near = lakehouse("lineage", "features.household_features", "--depth", 1, "--json").json
    assert set(near["versions"]) == {"features.household_features", "staging.household_survey"}


@pytest.mark.parametrize(
    "arguments",
    [["raw.nothing"], [f"{RAW}@7"], [f"{RAW}@x"], [PREDICTIONS, "--key", "HH99999999"], [PREDICTIONS, "--key", "no_such=1"]],
    ids=" ".join,
)
def test_lineage_of_what_is_not_there(small_lake: Lake, lakehouse: Run, arguments: list[str]) -> None:
    shown = lakehouse("lineage", *arguments)
    assert shown.code == 2
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("table", "key", "said"),
    [
        (PREDICTIONS, "houshold_id=HH1", "houshold_id"),
        (PREDICTIONS, "houshold_id=HH1", "Did you mean household_id?"),
        (PREDICTIONS, "=HH1", "names no column"),
        (PREDICTIONS, "HH99999999", "household_id in models.household_vulnerability_predictions"),
        ("monitoring.notes", "HH00000002", "columns of monitoring.notes: note"),
        ("monitoring.notes", "household_id=HH1", "found household_id"),
    ],
)
def test_a_key_that_leads_nowhere_names_the_columns(small_lake: Lake, lakehouse: Run, table: str, key: str, said: str) -> None:
    with small_lake.connect(()) as session:
        small_lake.append(session.con, "monitoring.notes", "SELECT 'x' AS note", stamp=Stamp("x", "y"))
    shown = lakehouse("lineage", table, "--key", key)
    assert shown.code == 2
    assert said in shown.err


def test_tables_that_lack_the_key_are_named(small_lake: Lake, lakehouse: Run) -> None:
    table = "analytics.totals"
    with small_lake.connect([RAW]) as session:
        sql = f"SELECT count(*) AS interviews FROM {RAW}"
        small_lake.overwrite(session.con, table, sql, stamp=Stamp(table, "r", dict(session.versions), "c"))
    found = lakehouse("lineage", table, "--key", "household_id=HH00000002", "--json").json
    assert found["without_key"] == [table]
    assert found["source_rows"]
    assert f"no column of this key in {table}" in lakehouse("lineage", table, "--key", "household_id=HH00000002").out


def test_a_rule_that_nobody_knows_is_told_from_one_that_nothing_broke(small_lake: Lake, lakehouse: Run) -> None:
    wrong = lakehouse("quarantine", "show", "household_survey", "--rule", "head_age.tpye", "--json")
    assert wrong.code == 2
    assert "Did you mean head_age.type?" in wrong.json["fix"]
    assert "rooms.range" in wrong.json["fix"]
    assert "interview_id.unique" in wrong.json["expected"]
    nothing = lakehouse("quarantine", "show", "household_survey", "--rule", "record.shape", "--json")
    assert (nothing.code, nothing.json["rows"]) == (0, [])
    assert len(lakehouse("quarantine", "show", "household_survey", "--rule", "rooms.range", "--json").json["rows"]) == 3


def test_predicting_a_file_never_writes_over_it_nor_picks_one_of_many(lakehouse: Run, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("x\n1\n")
    over = lakehouse("predict", "household_vulnerability", "--file", folder / "a.csv", "--out", folder / "a.csv", "--json")
    assert (over.code, over.json["problem"]) == (2, "is the file that is read")
    many = lakehouse("predict", "household_vulnerability", "--file", folder, "--out", tmp_path / "out.csv", "--json")
    assert (many.code, many.json["problem"]) == (2, "is more than one file")
    assert (folder / "a.csv").read_text() == "x\n1\n"


def test_what_was_asked_is_recorded_without_what_was_found(lakehouse: Callable[..., Outcome], small_lake: Lake) -> None:
    secret = "select count(*) from raw.household_survey where _file = 'wave_1.csv'"
    assert lakehouse("query", secret).code == 0
    assert lakehouse("query", secret, "--csv").code == 0
    assert lakehouse("history", "raw.household_survey", "--json").code == 0
    assert lakehouse("query", "select * from raw.nothing").code != 0
    entries = lakehouse("audit", "list", "--json").json["entries"]
    assert [(one["action"], one["outcome"]) for one in entries] == [
        ("query", "QueryError"),
        ("history", "done"),
        ("query", "done"),
        ("query", "done"),
    ]
    assert [one["tables"] for one in entries[1:]] == [
        {"raw.household_survey": None},
        {"raw.household_survey": 2},
        {"raw.household_survey": 2},
    ]
    assert "wave_1" not in str(entries)
    assert lakehouse("audit", "list", "--table", "raw.household_survey", "--json", "--limit", 1).json["entries"][0]["action"] == "history"
    assert lakehouse("audit", "verify", "--json").json == {"entries": 4, "problems": []}
