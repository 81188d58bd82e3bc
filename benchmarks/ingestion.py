"""What ingestion costs.

(b) A 5-million-row CSV of 15 columns with a contract of 20 rules, against DuckDB's own COPY of the same CSV to Parquet: at most 2.0
    times as long, peak memory below 1.5 GB. Two COPY commands are measured: the plain one of DuckDB's manual, and one that is told
    the types, the dialect, and the encodings and the compression that tables are written with. The limit holds for the second.
    Beside them dlt, at its fastest: Arrow batches read by DuckDB, to Delta files.
(c) The 1,001st file of 10,000 rows, in a process of its own, against the 2nd: at most 1.2 times as long.

Every run is a fresh process, timed from the outside; the two sides of a ratio take turns, and medians are compared.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, figure, tell

PROJECT = Path(__file__).resolve().parent.parent
ROWS = 5_000_000
LIMIT_COPY = 2.0
LIMIT_MEMORY_GB = 1.5
LIMIT_LATE = 1.2
MEMORY = "1GB"
COLUMNS = {
    "interview_id": "VARCHAR",
    "household_id": "VARCHAR",
    "district": "VARCHAR",
    "urban": "BOOLEAN",
    "interview_date": "DATE",
    "start_time": "TIMESTAMP",
    "end_time": "TIMESTAMP",
    "head_age": "INTEGER",
    "head_sex": "VARCHAR",
    "household_size": "INTEGER",
    "children_under_5": "INTEGER",
    "monthly_income": "DECIMAL(12,2)",
    "total_expenditure": "DECIMAL(12,2)",
    "meals_per_day": "INTEGER",
    "enumerator_id": "VARCHAR",
}
# 20 rules besides the types: 11 required, 1 key, 1 pattern, 1 list, 6 range and business rules.
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: bench
name: bench
version: 1.0.0
status: active
domain: benchmark
schema:
  - name: bench
    physicalType: table
    properties:
      - {name: interview_id, logicalType: string, physicalType: VARCHAR, required: true, primaryKey: true, primaryKeyPosition: 1,
         logicalTypeOptions: {pattern: '^HS-\\d{4}Q[1-4]-\\d{8}$'}}
      - {name: household_id, logicalType: string, physicalType: VARCHAR, required: true}
      - {name: district, logicalType: string, physicalType: VARCHAR, required: true,
         enum: [{value: North}, {value: South}, {value: East}, {value: West}, {value: Lake}, {value: Hill}]}
      - {name: urban, logicalType: boolean, physicalType: BOOLEAN, required: true}
      - {name: interview_date, logicalType: date, physicalType: DATE, required: true}
      - {name: start_time, logicalType: timestamp, physicalType: TIMESTAMP, required: true}
      - {name: end_time, logicalType: timestamp, physicalType: TIMESTAMP, required: true}
      - {name: head_age, logicalType: integer, physicalType: INTEGER, required: true, logicalTypeOptions: {minimum: 15, maximum: 110}}
      - {name: head_sex, logicalType: string, physicalType: VARCHAR, required: true}
      - {name: household_size, logicalType: integer, physicalType: INTEGER, required: true, logicalTypeOptions: {minimum: 1}}
      - {name: children_under_5, logicalType: integer, physicalType: INTEGER}
      - {name: monthly_income, logicalType: number, physicalType: "DECIMAL(12,2)", logicalTypeOptions: {minimum: 0}}
      - {name: total_expenditure, logicalType: number, physicalType: "DECIMAL(12,2)", required: true}
      - {name: meals_per_day, logicalType: integer, physicalType: INTEGER, logicalTypeOptions: {maximum: 6}}
      - {name: enumerator_id, logicalType: string, physicalType: VARCHAR}
    quality:
      - {name: ends_after_start, type: sql, query: "SELECT count(*) FROM bench WHERE end_time < start_time", mustBe: 0,
         customProperties: [{property: lakehouse.row, value: "end_time >= start_time"}]}
"""


def write_csv(path: Path, *, first: int, rows: int, bad_every: int = 0) -> None:
    """Rows of the contract, the same for the same arguments; every so many breaks a rule."""
    import duckdb

    age = f"CASE WHEN i % {bad_every} = 0 THEN 999 ELSE 15 + hash(i * 13) % 90 END" if bad_every else "15 + hash(i * 13) % 90"
    duckdb.sql(
        f"""COPY (SELECT 'HS-2024Q1-' || lpad(i::VARCHAR, 8, '0') AS interview_id,
        'HH' || lpad((hash(i) % 1000000)::VARCHAR, 8, '0') AS household_id,
        ['North', 'South', 'East', 'West', 'Lake', 'Hill'][1 + (hash(i * 3) % 6)::INT] AS district,
        hash(i * 5) % 2 = 0 AS urban, DATE '2024-01-01' + (hash(i * 7) % 90)::INT AS interview_date,
        TIMESTAMP '2024-01-01 08:00:00' + to_seconds((hash(i * 11) % 7000000)::INT) AS start_time,
        TIMESTAMP '2024-06-01 08:00:00' + to_seconds((hash(i * 11) % 7000000)::INT) AS end_time,
        {age} AS head_age, ['female', 'male'][1 + (hash(i * 17) % 2)::INT] AS head_sex,
        1 + (hash(i * 19) % 12)::INT AS household_size, (hash(i * 23) % 3)::INT AS children_under_5,
        round((hash(i * 29) % 100000) / 100.0, 2) AS monthly_income, round((hash(i * 31) % 1000000) / 100.0, 2) AS total_expenditure,
        (hash(i * 37) % 7)::INT AS meals_per_day, 'E' || (hash(i * 41) % 500) AS enumerator_id
        FROM range({first}, {first + rows}) AS t(i)) TO '{path}' (HEADER)"""
    )


# ---- what a child process does


def child_copy(csv: Path, folder: Path) -> None:
    import duckdb

    con = duckdb.connect(config={"memory_limit": MEMORY, "threads": 2, "preserve_insertion_order": False})
    types = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    con.execute(
        f"COPY (SELECT * FROM read_csv('{csv}', header=true, auto_detect=false, delim=',', quote='\"', columns={{{types}}})) "
        f"TO '{folder / 'out.parquet'}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARQUET_VERSION V2)"
    )


def child_plain_copy(csv: Path, folder: Path) -> None:
    import duckdb

    con = duckdb.connect(config={"memory_limit": MEMORY, "threads": 2})
    con.execute(f"COPY (FROM '{csv}') TO '{folder / 'out.parquet'}'")


def child_ingest(csv: Path, folder: Path) -> None:
    from datetime import UTC, datetime

    from lakehouse.contracts import load_dataset
    from lakehouse.ingest import ingest
    from lakehouse.settings import Settings
    from lakehouse.tables import Lake

    settings = Settings.load()
    contract = load_dataset(Path(os.environ["BENCH_CONTRACT"]))
    report = ingest(Lake.from_settings(settings), contract, [csv], settings=settings, run="bench", now=datetime.now(UTC))
    file = report.files[0]
    assert file.status == "ingested", file
    assert file.rows_read == file.rows_accepted + file.rows_quarantined


def child_dlt(csv: Path, folder: Path) -> None:
    import dlt
    import duckdb

    os.environ.update(
        {
            "DLT_DATA_DIR": str(folder / "dlt"),
            "DLT_PROJECT_DIR": str(folder),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
            "DATA_WRITER__BUFFER_MAX_ITEMS": "500000",
        }
    )

    def batches():  # noqa: ANN202
        con = duckdb.connect(config={"threads": 2})
        types = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
        reader = con.execute(
            f"SELECT * FROM read_csv('{csv}', header=true, auto_detect=false, delim=',', quote='\"', columns={{{types}}})"
        ).fetch_record_batch(500_000)
        yield from reader

    resource_ = dlt.resource(batches(), name="bench", table_format="delta", write_disposition="append")
    pipeline = dlt.pipeline("bench", destination=dlt.destinations.filesystem(str(folder / "lake")), dataset_name="bench")
    pipeline.run(resource_, loader_file_format="parquet")


CHILDREN = {"copy": child_copy, "plain": child_plain_copy, "ingest": child_ingest, "dlt": child_dlt}


# ---- what the parent does


def timed(kind: str, csv: Path, folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Wall seconds and peak gigabytes of one child."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--child", kind, str(csv), str(folder)]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=PROJECT, env=environment, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr[-2000:]}")
    return seconds, float(done.stdout.strip().splitlines()[-1])


def environment_of(home: Path, contract: Path) -> dict[str, str]:
    return {
        **os.environ,
        "LAKEHOUSE_HOME": str(home),
        "LAKEHOUSE_PROJECT": str(PROJECT),
        "LAKEHOUSE_MEMORY_LIMIT": MEMORY,
        "LAKEHOUSE_THREADS": "2",
        "BENCH_CONTRACT": str(contract),
        "PYTHONPATH": str(PROJECT),
    }


def big_file(folder: Path, contract: Path, *, rows: int, pairs: int, with_dlt: bool) -> list[Figure]:
    """Figure (b)."""
    csv = folder / "big.csv"
    write_csv(csv, first=1, rows=rows)
    copies, plain_copies, ingests, peaks, bad_ones, dlts = [], [], [], [], [], []
    dirty = folder / "dirty.csv"
    write_csv(dirty, first=1, rows=rows, bad_every=100)
    for _ in range(pairs):
        for kind, file, seconds in (
            ("copy", csv, copies),
            ("plain", csv, plain_copies),
            ("ingest", csv, ingests),
            ("ingest", dirty, bad_ones),
        ):
            home = folder / "run"
            elapsed, peak = timed(kind, file, home, environment_of(home, contract))
            seconds.append(elapsed)
            if kind == "ingest":
                peaks.append(peak)
            shutil.rmtree(home)
    if with_dlt:
        home = folder / "run"
        dlts.append(timed("dlt", csv, home, environment_of(home, contract))[0])
        shutil.rmtree(home)
    base, plain = statistics.median(copies), statistics.median(plain_copies)
    ratio, dirty_ratio, peak = statistics.median(ingests) / base, statistics.median(bad_ones) / base, max(peaks)
    figures = [
        figure(f"Ingestion: {rows:,} rows x 15, 20 rules, over DuckDB's COPY, tuned ({base:.1f} s)", ratio, "x", LIMIT_COPY),
        figure(f"Ingestion: the same over DuckDB's COPY, plain ({plain:.1f} s)", statistics.median(ingests) / plain, "x", None),
        figure("Ingestion: the same with 1 % bad rows", dirty_ratio, "x", LIMIT_COPY),
        figure("Ingestion: peak memory", peak, "GB", LIMIT_MEMORY_GB),
    ]
    if dlts:
        figures.append(
            figure(
                "Ingestion: the same by dlt (DuckDB Arrow to Delta, no rules), over ours", dlts[0] / statistics.median(ingests), "x", None
            )
        )
    return figures


def many_files(folder: Path, contract: Path, *, before: int, pairs: int) -> list[Figure]:
    """Figure (c): one more file for a home with one and for a home with a thousand, in turn."""
    files = folder / "files"
    files.mkdir()
    young, old = folder / "young", folder / "old"
    first = files / "0.csv"
    write_csv(first, first=1, rows=10_000)
    timed("ingest", first, folder / "scratch", environment_of(young, contract))
    seed_many(old, contract, files, before)
    seconds: dict[Path, list[float]] = {young: [], old: []}
    for pair in range(pairs):
        for side, home in enumerate((young, old)):
            csv = files / f"more-{pair}-{side}.csv"
            write_csv(csv, first=50_000_000 + (2 * pair + side) * 10_000, rows=10_000)
            # A copy of the young home, so that it is the second file each time; the old one grows by one, as homes do.
            used = folder / f"home-{pair}" if home is young else home
            if home is young:
                shutil.copytree(home, used)
            seconds[home].append(timed("ingest", csv, folder / "scratch", environment_of(used, contract))[0])
    second, late = statistics.median(seconds[young]), statistics.median(seconds[old])
    return [figure(f"Ingestion: file {before + 1:,} of 10,000 rows over the 2nd ({second:.2f} s)", late / second, "x", LIMIT_LATE)]


def seed_many(home: Path, contract: Path, files: Path, count: int) -> None:
    """A home that has ingested so many files, each by a call of its own."""
    code = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        f"sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})\n"
        "from ingestion import write_csv\n"
        "from lakehouse.contracts import load_dataset; from lakehouse.ingest import ingest\n"
        "from lakehouse.settings import Settings; from lakehouse.tables import Lake\n"
        f"settings = Settings.load(); lake = Lake.from_settings(settings); contract = load_dataset(Path({str(contract)!r}))\n"
        f"for n in range({count}):\n"
        f"    csv = Path({str(files)!r}) / f'{{n}}-seed.csv'\n"
        "    write_csv(csv, first=1 + n * 10_000, rows=10_000)\n"
        "    ingest(lake, contract, [csv], settings=settings, run=str(n), now=datetime.now(UTC)); csv.unlink()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment_of(home, contract), check=True)


def main() -> None:
    """Print the figures beside their limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=3, metavar=("KIND", "CSV", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", choices=("big", "many"))
    parser.add_argument("--no-dlt", action="store_true")
    options = parser.parse_args()
    if options.child:
        kind, csv, folder = options.child
        CHILDREN[kind](Path(csv), Path(folder))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024)
        return
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as name:
        folder = Path(name)
        contract = folder / "bench.odcs.yaml"
        contract.write_text(CONTRACT, encoding="utf-8")
        if options.only != "many":
            figures += big_file(folder, contract, rows=options.rows, pairs=options.pairs, with_dlt=not options.no_dlt)
            for file in folder.glob("*.csv"):
                file.unlink()
        if options.only != "big":
            figures += many_files(folder, contract, before=options.files, pairs=max(options.pairs, 5))
    tell(figures, as_json=options.json)


if __name__ == "__main__":
    main()
