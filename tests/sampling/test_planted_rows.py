"""Ingestion is held to what was planted: every bad row is quarantined, and only those."""

import csv
import io
import re
from datetime import datetime
from pathlib import Path

import duckdb

from lakehouse.contracts import load_contracts
from lakehouse.ingest import ingest
from lakehouse.sampling import households
from lakehouse.settings import Settings
from lakehouse.tables import Lake

LEVELS = {
    "text_in_number": "structural", "impossible_date": "structural", "impossible_time": "structural", "unclear_boolean": "structural",
    "missing_required": "structural", "too_few_fields": "structural", "too_many_fields": "structural", "stray_quote": "structural",
    "duplicate_key": "structural", "out_of_range": "semantic", "unknown_category": "semantic", "wrong_pattern": "semantic",
    "ends_before_it_starts": "business", "starts_on_another_day": "business", "submitted_before_it_starts": "business",
    "more_children_than_members": "business", "food_above_total": "business",
}  # fmt: skip


def test_every_planted_row_is_quarantined_and_no_other(settings: Settings, now: datetime, tmp_path: Path) -> None:
    sample = households(rows=6000, out=tmp_path / "out", seed=3, bad_rate=0.06, planted=tmp_path / "planted.csv")
    lake = Lake.from_settings(settings)
    contract = load_contracts(settings).dataset("household_survey")
    report = ingest(lake, contract, list(sample), settings=settings, run="test", now=now)
    assert [file.error for file in report.files] == [None] * len(sample.files)
    assert report.rows_read == 6000 == report.rows_accepted + report.rows_quarantined

    planted = {(row["file"], int(row["row"])): row["kind"] for row in csv.DictReader(io.StringIO((tmp_path / "planted.csv").read_text()))}
    with lake.connect(["quarantine.household_survey", "raw.household_survey"]) as session:
        found = session.con.execute("SELECT _file, _row, level FROM quarantine.household_survey").fetchall()
        accepted = session.con.execute("SELECT count(*), count(DISTINCT interview_id) FROM raw.household_survey").fetchall()
    quarantined = {(file, row): level for file, row, level in found}
    assert {place: planted[place] for place in planted.keys() - quarantined.keys()} == {}
    assert {place: quarantined[place] for place in quarantined.keys() - planted.keys()} == {}
    assert {place: (kind, quarantined[place]) for place, kind in planted.items() if quarantined[place] != LEVELS[kind]} == {}
    assert accepted == [(6000 - sample.bad_rows, 6000 - sample.bad_rows)]

    # Nor can anybody be called: neither from raw, nor from what was rejected, nor from the originals.
    files = [path for path in settings.home_dir.rglob("*") if path.is_file()]
    tables = [path for path in files if path.suffix == ".parquet"]
    texts = [path.read_bytes() for path in files]
    for path in tables:
        texts += [row[0].encode() for row in duckdb.sql(f"SELECT CAST(to_json(t) AS VARCHAR) FROM read_parquet('{path}') AS t").fetchall()]
    # A pseudonym is hex digits, among which twelve decimal ones in a row say nothing.
    phone = re.compile(rb"(?<![0-9a-f])255\d{9}(?![0-9a-f])")
    assert any(phone.search(path.read_bytes()) for path in sample)
    assert not [text[:200] for text in texts if phone.search(text)]
