"""The household panel: exact, reproducible, learnable, and of constant memory."""

import csv
import gzip
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts import load_dataset
from lakehouse.errors import SourceError
from lakehouse.sampling import SampleReport, households
from lakehouse.sampling.dirt import BadRows, parse
from lakehouse.sampling.households import COLUMNS

CONTRACT = load_dataset(Path(__file__).resolve().parents[2] / "contracts" / "datasets" / "household_survey.odcs.yaml")
KINDS = {
    "text_in_number", "impossible_date", "impossible_time", "unclear_boolean", "missing_required", "out_of_range", "unknown_category",
    "wrong_pattern", "ends_before_it_starts", "starts_on_another_day", "submitted_before_it_starts", "more_children_than_members",
    "food_above_total", "too_few_fields", "too_many_fields", "stray_quote", "duplicate_key",
}  # fmt: skip


def contents(report: SampleReport) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in report]


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """12,000 good rows, read back into the table `p`; its columns are typed by the contract."""
    folder = tmp_path_factory.mktemp("panel")
    households(rows=12_000, out=folder, seed=1)
    with duckdb.connect() as con:
        read(con, "p", folder)
        yield con


def read(con: duckdb.DuckDBPyConnection, table: str, folder: Path) -> None:
    columns = {column.source: column.sql_type for column in CONTRACT.columns}
    con.execute(
        f"CREATE TABLE {table} AS SELECT *, substr(interview_id, 4, 6) AS wave FROM read_csv('{folder}/*.csv', columns = {columns})"
    )


def number(con: duckdb.DuckDBPyConnection, expression: str, source: str = "p") -> float:
    return con.sql(f"SELECT CAST({expression} AS DOUBLE) FROM {source}").fetchall()[0][0]


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    one = households(rows=3000, out=tmp_path / "one", seed=5, bad_rate=0.1)
    two = households(rows=3000, out=tmp_path / "two", seed=5, bad_rate=0.1)
    other = households(rows=3000, out=tmp_path / "other", seed=6, bad_rate=0.1)
    assert contents(one) == contents(two)
    assert [file.sha256 for file in one.files] != [file.sha256 for file in other.files]


@given(rows=st.integers(1, 400), files=st.one_of(st.none(), st.integers(1, 30)), waves=st.integers(1, 12), bad=st.floats(0, 1))
@settings(max_examples=25)
def test_rows_and_bad_rows_are_exact(
    tmp_path_factory: pytest.TempPathFactory, rows: int, files: int | None, waves: int, bad: float
) -> None:
    report = households(rows=rows, out=tmp_path_factory.mktemp("sample"), files=files, waves=waves, bad_rate=bad)
    assert report.rows == rows == sum(len(path.read_bytes().splitlines()) - 1 for path in report)
    assert report.bad_rows == int(rows * bad) == sum(report.bad_by_kind.values())
    assert len(report.files) == min(files or min(waves, rows), rows)
    keys = [line[:21] for path in report for line in path.read_bytes().splitlines()[1:]]
    if not bad:
        assert len(set(keys)) == rows


def test_columns_are_those_of_the_contract() -> None:
    assert COLUMNS == tuple(column.source for column in CONTRACT.columns)


def test_good_rows_keep_every_rule(panel: duckdb.DuckDBPyConnection) -> None:
    broken = ", ".join(f"count(*) FILTER (NOT ({rule.valid_sql}))" for rule in CONTRACT.rules)
    counts = panel.sql(f"SELECT {broken} FROM p").fetchall()[0]
    assert {rule.id: count for rule, count in zip(CONTRACT.rules, counts, strict=True) if count} == {}


def test_every_kind_of_bad_row_is_planted_and_listed(tmp_path: Path) -> None:
    report = households(rows=4000, out=tmp_path / "out", bad_rate=0.05, planted=tmp_path / "planted.csv")
    assert set(report.bad_by_kind) == KINDS
    planted = list(csv.DictReader(io.StringIO((tmp_path / "planted.csv").read_text())))
    assert len(planted) == report.bad_rows
    good = {
        (path.name, place): line
        for path in households(rows=4000, out=tmp_path / "good")
        for place, line in enumerate(path.read_bytes().splitlines())
    }
    changed = {
        (path.name, str(place))
        for path in report
        for place, line in enumerate(path.read_bytes().splitlines())
        if line != good[path.name, place]
    }
    assert changed == {(row["file"], row["row"]) for row in planted}


def test_bytes_that_are_not_utf8_come_only_when_asked_for(tmp_path: Path) -> None:
    report = households(rows=2000, out=tmp_path, bad_rate=0.05, bad_encoding=True)
    assert "bad_encoding" in report.bad_by_kind
    with pytest.raises(UnicodeDecodeError):
        b"".join(path.read_bytes() for path in report).decode()


@given(turn=st.integers(0, 200))
def test_a_bad_row_stays_in_its_line(turn: int) -> None:
    line = b"HS-2024Q1-00000001,HH00000001,Dunda,false,2024-01-05,2024-01-05 10:00:00,2024-01-05 10:40:00,2024-01-05 12:00:00,EN0101,"
    line += b'"Juma, Amina",+255712345678,40,female,none,5,1,3,well,gas,true,tile,1.5,0.2,3.1,,80.0,40.0,3,1,none,'
    spoiler = BadRows(COLUMNS, encoding=False)
    for _ in range(turn):
        spoiler.spoil(line, line)
    kind, bad = spoiler.spoil(line, line.replace(b"00000001,HH", b"00000007,HH"))
    assert bad != line
    assert b"\n" not in bad
    assert (len(parse(bad)) == len(COLUMNS)) == (kind not in {"too_few_fields", "too_many_fields", "stray_quote"})


def test_households_come_back_and_stay_like_themselves(panel: duckdb.DuckDBPyConnection) -> None:
    assert number(panel, "count(*) / count(DISTINCT household_id)") > 5
    pairs = "p AS a JOIN p AS b USING (household_id) WHERE a.wave = '2024Q1' AND b.wave = '2024Q2'"
    assert number(panel, "corr(a.monthly_income, b.monthly_income)", pairs) > 0.4
    assert number(panel, "max(n)", "(SELECT count(DISTINCT district) AS n FROM p GROUP BY household_id)") == 1


def test_newest_wave_is_not_yet_assessed(panel: duckdb.DuckDBPyConnection) -> None:
    assert number(panel, "count(vulnerable) FILTER (wave = '2025Q4')") == 0
    assert number(panel, "count(*) FILTER (wave < '2025Q4' AND vulnerable IS NULL)") == 0
    assert 0.25 < number(panel, "avg(CAST(vulnerable AS INTEGER))") < 0.5


def test_label_and_income_can_be_learned_but_are_not_given_away(panel: duckdb.DuckDBPyConnection) -> None:
    import pandas as pd
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.metrics import r2_score, roc_auc_score
    from sklearn.preprocessing import StandardScaler

    rows = panel.sql("SELECT * FROM p").df()
    known = [name for name in COLUMNS[11:] if name not in {"vulnerable", "monthly_income"}]
    features = StandardScaler().fit_transform(pd.get_dummies(rows[["district", "urban", *known]]).astype(float))
    old = rows.wave < "2025Q2"
    labelled, reported = rows.vulnerable.notna(), rows.monthly_income.notna()
    assessed = rows.vulnerable.fillna(False).astype(bool)
    classifier = LogisticRegression(max_iter=300).fit(features[old & labelled], assessed[old & labelled])
    auc = roc_auc_score(assessed[~old & labelled], classifier.predict_proba(features[~old & labelled])[:, 1])
    assert 0.85 < auc < 0.93
    regressor = LinearRegression().fit(features[old & reported], rows.monthly_income[old & reported])
    assert 0.5 < r2_score(rows.monthly_income[~old & reported], regressor.predict(features[~old & reported])) < 0.75


def test_shift_moves_the_population(tmp_path: Path, panel: duckdb.DuckDBPyConnection) -> None:
    households(rows=8000, out=tmp_path, seed=1, shift=1.0)
    read(panel, "moved", tmp_path)
    income, size, hit = "median(monthly_income)", "avg(household_size)", "avg(CAST(shock <> 'none' AS INTEGER))"
    assert number(panel, income, "moved") < 0.85 * number(panel, income)
    assert number(panel, size, "moved") > 0.5 + number(panel, size)
    assert number(panel, hit, "moved") > 1.3 * number(panel, hit)


def test_compressed_files_hold_the_same(tmp_path: Path) -> None:
    plain = households(rows=500, out=tmp_path / "plain", files=2)
    packed = households(rows=500, out=tmp_path / "packed", files=2, file_format="csv.gz")
    assert [gzip.decompress(path.read_bytes()) for path in packed] == [path.read_bytes() for path in plain]
    again = households(rows=500, out=tmp_path / "again", files=2, file_format="csv.gz")
    assert contents(packed) == contents(again)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0}, {"bad_rate": 1.1}, {"bad_rate": -0.1}, {"shift": 9.0}, {"files": 0}, {"waves": 0}, {"seed": -1},
        {"file_format": "xls"}, {"first_wave": "2024"}, {"first_wave": "2024Q5"}, {"first_wave": "1990Q1"}, {"waves": 200},
    ],
)  # fmt: skip
def test_wrong_arguments_are_errors_and_write_nothing(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(SourceError):
        households(**{"rows": 10, "out": tmp_path, **wrong})  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []


def test_interrupted_sample_leaves_no_file(tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        households(rows=100, out=tmp_path, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_depend_on_the_rows(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from lakehouse.sampling import households\n"
        "households(rows=int(sys.argv[1]), out=Path(sys.argv[2]), files=1, bad_rate=0.01)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peak = [
        int(subprocess.run([sys.executable, "-c", code, str(rows), str(tmp_path)], check=True, capture_output=True, text=True).stdout)
        for rows in (60_000, 300_000)
    ]
    assert peak[1] < 1.1 * peak[0]
