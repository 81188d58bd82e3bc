"""Laws: what is read is accepted or quarantined, exactly the good rows are accepted, and repeating or reordering changes nothing."""

import csv
import io
import json
import re
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.contracts import DatasetContract, load_dataset
from lakehouse.ingest import ingest
from lakehouse.ingest.readers import FileFormat, read_chunks, stage
from lakehouse.ingest.readers.delimited import layout_of
from lakehouse.ingest.readers.records import Dialect, split_records
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.examples import examples
from tests.ingest.conftest import PEOPLE, rows_of

NAMES = ["id", "age", "height", "born", "sex", "children"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RELAXED = settings(examples(4, many=60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs",)), max_size=8)
ids = st.one_of(st.integers(0, 12).map(lambda number: f"P{number}"), st.just(""), st.just("p1"), texts)
ages = st.one_of(st.integers(-5, 130).map(str), st.sampled_from(["", "abc", "1.5", "30.0", "1e1", " 7 "]))
dates = st.one_of(st.dates(date(1900, 1, 1), date(2020, 1, 1)).map(str), st.sampled_from(["", "2020-02-30", "yesterday"]))
rows = st.lists(
    st.tuples(
        ids, ages, st.sampled_from(["", "1.75", "x", "-2"]), dates, st.sampled_from(["f", "m", "", "F"]), st.sampled_from(["", "0", "3"])
    ),
    min_size=1,
    max_size=25,
)


def whole(text: str) -> int | None:
    """The contract's integer, by another road."""
    text = text.strip()
    return int(float(text)) if re.fullmatch(r"[+-]?\d+(\.0*)?(e\d+)?", text) else None


def is_good(row: tuple[str, ...]) -> bool:
    """The oracle: whether a row by itself keeps the contract of conftest.PEOPLE."""
    identifier, age, height, born, sex, children = row
    try:
        if born:
            date.fromisoformat(born)
        if height:
            float(height)
    except ValueError:
        return False
    years, number = whole(age), whole(children)
    return (
        re.fullmatch(r"P\d+", identifier.strip(), re.ASCII) is not None
        and (age.strip() == "" or (years is not None and 0 <= years <= 120))
        and (children == "" or number is not None)
        and sex in {"f", "m", ""}
        and not ((number or 0) > 0 and years is not None and years < 12)
    )


def accepted(given_rows: list[tuple[str, ...]]) -> list[tuple[int, str]]:
    """Number and id of the rows that the oracle accepts: good by themselves and the first good one of their key."""
    seen: set[str] = set()
    kept: list[tuple[int, str]] = []
    for number, row in enumerate(given_rows, start=1):
        identifier = row[0].strip()
        if is_good(row) and identifier not in seen:
            seen.add(identifier)
            kept.append((number, identifier))
    return kept


@pytest.fixture
def contract(tmp_path: Path) -> DatasetContract:
    path = tmp_path / "people.odcs.yaml"
    path.write_text(PEOPLE, encoding="utf-8")
    return load_dataset(path)


def as_csv(given_rows: list[tuple[str, ...]], delimiter: str = ",") -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerows([NAMES, *given_rows])
    return buffer.getvalue()


@RELAXED
@given(given_rows=rows, kind=st.sampled_from(["csv", "tsv", "json", "ndjson"]))
def test_exactly_the_good_rows_are_accepted(
    given_rows: list[tuple[str, ...]], kind: str, contract: DatasetContract, settings: Settings
) -> None:
    records = [{name: value or None for name, value in zip(NAMES, row, strict=True)} for row in given_rows]
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake", threads=1)
        file = Path(folder) / f"rows.{kind}"
        match kind:
            case "json":
                file.write_text(json.dumps(records), encoding="utf-8")
            case "ndjson":
                file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
            case _:
                file.write_text(as_csv(given_rows, "\t" if kind == "tsv" else ","), encoding="utf-8", newline="")
        report = ingest(lake, contract, [file], settings=settings, run="r", now=NOW)
        result = report.files[0]
        assert result.error is None
        assert result.rows_read == len(given_rows) == result.rows_accepted + result.rows_quarantined
        assert rows_of(lake, contract.raw, "_row, id") == accepted(given_rows)
        numbers = {row[0] for row in rows_of(lake, contract.quarantine, "_row")}
        assert numbers == set(range(1, len(given_rows) + 1)) - {number for number, _ in accepted(given_rows)}
        again = ingest(lake, contract, [file], settings=settings, run="r", now=NOW)
        assert again.files[0].status == "already"
        assert again.version == report.version


@RELAXED
@given(contents=st.lists(rows, min_size=2, max_size=3))
def test_the_order_of_files_does_not_matter(contents: list[list[tuple[str, ...]]], contract: DatasetContract, settings: Settings) -> None:
    stored: list[Any] = []
    for backwards in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            lake = Lake(Path(folder) / "lake", threads=1)
            files = []
            for number, given_rows in enumerate(contents):
                file = Path(folder) / f"{number}.csv"
                file.write_text(as_csv(given_rows) + f"P{number}999,,,,f,\n", encoding="utf-8", newline="")
                files.append(file)
            for file in files[::-1] if backwards else files:
                ingest(lake, contract, [file], settings=settings, run="r", now=NOW)
            kept = "* EXCLUDE (_batch)"
            stored.append([rows_of(lake, table, kept, order="_file, _row") for table in (contract.raw, contract.quarantine)])
    assert stored[0] == stored[1]


# Text that may be any CSV: what matters are its delimiters, quotes and line ends.
any_csv = st.text(st.sampled_from('a1,",\n\r é"'), min_size=1, max_size=60)


@settings(examples(100, many=1000), deadline=None)
@given(body=any_csv, line_end=st.sampled_from(["\n", "\r\n"]))
def test_the_fast_and_the_exact_reader_agree(body: str, line_end: str) -> None:
    text = "x,y\n" + body.replace("\r", "").replace("\n", line_end) + line_end
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "any.csv"
        file.write_bytes(text.replace("x,y\n", f"x,y{line_end}").encode())
        shape = FileFormat("csv")
        con = duckdb.connect(config={"threads": 2, "preserve_insertion_order": False})
        layout = layout_of(file, file, shape)
        records = list(split_records(file.read_bytes()[layout.start :], Dialect(",", '"', '"'), width=len(layout.names)))
        found: dict[int, Any] = {}
        for chunk in read_chunks(con, file, file_format=shape):
            found |= {row[-1]: row[:-1] for row in con.execute(f"SELECT * FROM {chunk.rows_sql}").fetchall()}
            found |= dict.fromkeys((reject.row for reject in chunk.rejects), None)
        con.close()
    exact = {
        number: tuple(field or None for field in record.fields) if record.fields else None for number, record in enumerate(records, start=1)
    }
    assert found == exact


def test_every_row_of_a_file_has_its_own_number(tmp_path: Path) -> None:
    file = tmp_path / "numbers.csv"
    lines = [
        f'{number},"a{chr(10)}b"\n' if number % 97 == 0 else f"{number}\n" if number % 31 == 0 else f"{number},c\n"
        for number in range(1, 5001)
    ]
    file.write_text("n,x\n" + "".join(lines), encoding="utf-8")
    con = duckdb.connect(config={"threads": 2, "preserve_insertion_order": False})
    staged = stage(con, file)
    assert staged.rows_read == 5000
    assert con.execute(f'SELECT count(*) FROM "{staged.relation}" WHERE _row <> n::INT').fetchone() == (0,)
    assert con.execute(f'SELECT count(*) FROM "{staged.rejects_relation}" WHERE _row <> record::INT').fetchone() == (0,)
