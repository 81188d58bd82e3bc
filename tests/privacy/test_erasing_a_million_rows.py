"""One person out of a million rows over fifty versions, with originals, a backup and a registry beside them."""

import gzip
import io
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.ingest import ingest_landing
from lakehouse.pipeline.erasing import erase, verify_erasure
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy import Key, decrypt_file, key
from lakehouse.privacy.erasure.subject import Subject
from lakehouse.recovery.backing_up import back_up
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp

WHO = "HH00000042"
STAMP = Stamp(asset="test", run="r", inputs={"raw.household_survey": 0})
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: visits
name: visits
version: 1.0.0
status: active
schema:
  - name: visits
    properties:
      - {name: visit, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: household_id, logicalType: string}
      - {name: phone, logicalType: string, classification: restricted}
"""


def rows(first: int, last: int) -> str:
    return (
        f"SELECT format('HS-{{:09d}}', i) AS visit, format('HH{{:08d}}', i % 50000) AS household_id, i * 7 % 1000 AS amount, "
        f"'visited ' || (i % 50000) AS note, i::DOUBLE / 3 AS ratio FROM range({first}, {last}) t(i)"
    )


def grown(lake: Lake, con: duckdb.DuckDBPyConnection, table: str, *, first: int, versions: int) -> None:
    lake.overwrite(con, table, rows(0, first), stamp=STAMP)
    for number in range(1, versions):
        start = first + number * 4000
        match number % 7:
            case 3:
                lake.merge(con, table, f"SELECT * REPLACE ({number} AS amount) FROM ({rows(30, 60)})", key=["visit"], stamp=STAMP)
            case 5:
                lake.delete(con, table, f"visit = 'HS-{number:09d}'", stamp=STAMP)
            case _:
                sql = f"{rows(start, start + 4000)} UNION ALL SELECT 'HS-9{number:08d}', '{WHO}', {number}, 'met {WHO}', 0.5"
                lake.append(con, table, sql, stamp=STAMP)


def fingerprints(lake: Lake, con: duckdb.DuckDBPyConnection, table: str, versions: int) -> list[tuple[object, ...]]:
    """Number, and sum of hashes, of every version's rows that are not the subject's."""
    return [
        con.execute(
            f"SELECT count(*), sum(hash(t)::HUGEINT), bit_xor(hash(t)) FROM ({lake.scan_sql(table, version=version, con=con)}) t "
            f"WHERE household_id <> '{WHO}'"
        ).fetchall()[0]
        for version in range(versions)
    ]


def grep(folder: Path, secret: Key, scratch: Path) -> list[str]:
    """Files that have the word: by name, in their bytes, decrypted, decompressed, in any column or in what the footer says."""
    found: list[str] = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if data.startswith(b"LAKEVLT1"):
            decrypt_file(path, scratch / "plain", secret)
            data = (scratch / "plain").read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data += gzip.decompress(data)
        if data.startswith(b"PAR1"):
            table = pq.read_table(io.BytesIO(data))
            data += str(pq.read_metadata(io.BytesIO(data)).to_dict()).encode()
            for column in table.columns:
                is_text = pa.types.is_string(column.type)
                data += "\n".join(
                    map(str, (column.unique() if is_text else column).to_pylist() if is_text or pa.types.is_nested(column.type) else ())
                ).encode()
        if WHO.encode() in data or WHO in str(path):
            found.append(str(path))
    return found


def filled(workspace: Workspace, *, first: int, versions: int) -> dict[str, list[tuple[object, ...]]]:
    settings, lake = workspace.settings, workspace.lake
    folder = settings.home_dir / "contracts" / "datasets"
    folder.mkdir(parents=True)
    (folder / "visits.odcs.yaml").write_text(CONTRACT, encoding="utf-8")
    landing = settings.landing_dir / "visits"
    landing.mkdir(parents=True)
    lines = "\n".join(f"V-{n:06d},HH{n % 500:08d},0700{n:06d}" for n in range(5000))
    (landing / "visits.csv.gz").write_bytes(gzip.compress(f"visit,household_id,phone\n{lines}\nV-1,{WHO}\n".encode()))
    ingest_landing(lake, workspace.contracts.dataset("visits"), settings=settings, run="r", now=datetime.now(UTC))
    with lake.connect(()) as session:
        for table in ("staging.visits", "models.visits_training_set"):
            grown(lake, session.con, table, first=first if table.startswith("staging") else 1000, versions=versions)
        registry = settings.home_dir / "registry"
        (registry / "artifacts").mkdir(parents=True)
        (registry / "artifacts" / "sample.json").write_text(f'{{"row": "{WHO}"}}')
        with closing(sqlite3.connect(registry / "runs.db")) as database:
            database.execute("CREATE TABLE params (name TEXT, value TEXT)")
            database.execute("INSERT INTO params VALUES ('example', ?)", (f"seen {WHO}",))
            database.commit()
        before = {table: fingerprints(lake, session.con, table, versions) for table in ("staging.visits", "models.visits_training_set")}
    back_up(settings, settings.backup_uri or "", now=datetime.now(UTC))
    return before


@pytest.mark.slow
@pytest.mark.parametrize(("first", "versions"), [(500, 10), pytest.param(850_000, 50, marks=pytest.mark.timeout(900))])
def test_no_byte_is_left_and_every_other_row_of_every_version_is_as_it_was(
    settings: Settings, tmp_path: Path, first: int, versions: int
) -> None:
    workspace = Workspace(settings.model_copy(update={"settle_s": 0.0, "backup_uri": str(tmp_path / "backup")}))
    before = filled(workspace, first=first, versions=versions)
    secret = key(settings)
    assert len(grep(tmp_path, secret, tmp_path)) > versions
    subject = Subject("visits", "household_id", WHO)
    done = erase(workspace, subject, run="r", now=datetime.now(UTC) + timedelta(hours=2))
    assert done.is_clean, (done.document["left"], done.document["waiting"])
    assert done.path is not None
    # What names the subject in this process's own temporary files is none of the home's.
    assert grep(settings.home_dir, secret, tmp_path) == []
    assert grep(tmp_path / "backup", secret, tmp_path) == []
    with workspace.lake.connect(()) as session:
        for table, expected in before.items():
            assert fingerprints(workspace.lake, session.con, table, versions) == expected
            assert workspace.lake.version(table) == versions
            for version in (0, 9, versions):
                sql = workspace.lake.scan_sql(table, version=version, con=session.con)
                assert session.con.execute(f"SELECT count(*) FROM ({sql}) WHERE household_id = '{WHO}'").fetchall() == [(0,)]
    assert verify_erasure(workspace, done.path, subject).left == ()
