"""Features offline and online: against a hand-written DuckDB ASOF join over the same Delta files, and against Feast.

Offline: entity rows that ask for two views of 5 million rows, ours beside the hand-written join (limit 1.2 x), Feast's default local
offline store (limit 1/5 of it) and its DuckDB one (limit 1 x), each in a fresh process and with equal results. Online: one entity of 20
features (p99 under 1 ms from SQLite, under 1.5 ms from Redis), 100 entities at once and materialising, both beside Feast's SQLite store.
Feast needs other versions of our libraries, so it is installed in an environment of its own. Redis is the one of the tests.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from datetime import UTC, datetime, timedelta
from pathlib import Path

from figures import Figure, figure, tell

# The server's module is not part of the package.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.servers.redis import RedisServer

PEER = "feast[duckdb]==0.67.0"
LIMIT_ASOF, LIMIT_FEAST, LIMIT_FEAST_DUCKDB = 1.2, 1 / 5, 1.0
LIMIT_P99_MS, LIMIT_REDIS_P99_MS, LIMIT_MANY, LIMIT_MATERIALIZE = 1.0, 1.5, 1 / 5, 1 / 5
VIEWS = ("visits", "orders")
FEATURES = 10
TTL_DAYS = 60
NOW = datetime(2026, 7, 1, tzinfo=UTC)
CUSTOMERS_SHARE = 20

FEAST_REPO = """
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64
customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
"""
FEAST_VIEW = """
{name} = FeatureView(name="{name}", entities=[customer], ttl=timedelta(days={ttl}), online=True,
    schema=[Field(name="{name}_f%d" % n, dtype=Float64) for n in range({features})],
    source=FileSource(path="{path}", timestamp_field="seen_at"))
"""
FEAST_CHILD = """
import json, resource, sys, time, warnings
warnings.filterwarnings("ignore")
import pandas
from datetime import datetime, timezone
from feast import FeatureStore
way, repo, spine, out = sys.argv[1:5]
store = FeatureStore(repo_path=repo)
views = ["visits", "orders"]
names = ["%s:%s_f%d" % (view, view, n) for view in views for n in range(10)]
now = datetime(2026, 7, 1, tzinfo=timezone.utc)
if way == "offline":
    asked = pandas.read_parquet(spine)
    began = time.perf_counter()
    found = store.get_historical_features(entity_df=asked, features=names).to_df()
    seconds = time.perf_counter() - began
    found.to_parquet(out)
    print(json.dumps({"seconds": seconds, "rows": len(found), "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2}))
elif way == "materialize":
    began = time.perf_counter()
    store.materialize(datetime(2025, 1, 1, tzinfo=timezone.utc), now, feature_views=views)
    print(json.dumps({"seconds": time.perf_counter() - began}))
else:
    rows = [{"customer_id": n * 7} for n in range(100)]
    store.get_online_features(features=names, entity_rows=rows)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        store.get_online_features(features=names, entity_rows=rows)
        times.append(time.perf_counter() - began)
    print(json.dumps({"seconds": sorted(times)[len(times) // 2]}))
"""


def source(view: str, rows: int) -> str:
    """A history: each customer about 20 times in half a year."""
    seed = VIEWS.index(view) + 3
    features = ", ".join(f"(hash(range * {seed + 2 * n}) % 1000003 / 7.0)::DOUBLE AS {view}_f{n}" for n in range(FEATURES))
    return (
        f"SELECT (hash(range * {seed}) % {max(1, rows // CUSTOMERS_SHARE)})::BIGINT AS customer_id,"
        f" TIMESTAMPTZ '2026-01-01 00:00:00Z' + INTERVAL (hash(range * {seed + 17}) % 15552000) SECOND AS seen_at, {features} FROM range({rows})"
        # One row for an entity and instant: what wins of two differs between the peers.
        " QUALIFY row_number() OVER (PARTITION BY customer_id, seen_at ORDER BY range) = 1"
    )


def spine_sql(asked: int, rows: int) -> str:
    """Entity rows: who, and when."""
    return (
        f"SELECT (hash(range * 29) % {max(1, rows // CUSTOMERS_SHARE)})::BIGINT AS customer_id,"
        f" TIMESTAMPTZ '2026-02-01 00:00:00Z' + INTERVAL (hash(range * 31) % 12960000) SECOND AS event_timestamp FROM range({asked})"
    )


def by_hand(lake: "object", con: "object") -> str:
    """What somebody would write who knows these two tables: no ties, no known time."""
    parts, names = [], []
    for view in VIEWS:
        columns = [f"{view}_f{n}" for n in range(FEATURES)]
        fresh = f"{view}.seen_at >= s.event_timestamp - INTERVAL {TTL_DAYS} DAY"
        names += [f"CASE WHEN {fresh} THEN {view}.{column} END AS {column}" for column in columns]
        scan = lake.scan_sql(f"features.{view}", con=con)  # type: ignore[attr-defined]
        parts.append(f"ASOF LEFT JOIN ({scan}) {view} ON s.customer_id = {view}.customer_id AND s.event_timestamp >= {view}.seen_at")
    return f"SELECT s.customer_id, s.event_timestamp, {', '.join(names)} FROM spine s {' '.join(parts)}"


def child(way: str, home: Path, rows: int, asked: int, redis_url: str | None) -> dict[str, float]:
    """One measurement in this process."""
    from lakehouse.features import FeatureView, point_in_time
    from lakehouse.features.offline import joined_views
    from lakehouse.features.online import OnlineFeatures, materialize
    from lakehouse.features.online.redis_store import RedisStore
    from lakehouse.features.online.sqlite_store import SqliteStore
    from lakehouse.tables import Lake, Stamp

    lake = Lake(home / "tables", memory_limit="2GB", spill_dir=home / "spill")
    views = [FeatureView(view, f"features.{view}", ("customer_id",), "seen_at", ttl_s=TTL_DAYS * 86400.0, online=True) for view in VIEWS]
    store = RedisStore(redis_url, home="benchmark") if redis_url else SqliteStore(home / "online" / "features.db")
    found: dict[str, float] = {}
    if way == "source":
        with lake.connect(()) as session:
            for view in views:
                lake.overwrite(session.con, view.table, source(view.name, rows), stamp=Stamp(asset="benchmark", run="benchmark"))
                table = lake.scan_sql(view.table, con=session.con)
                session.con.execute(f"COPY ({table}) TO '{home / view.name}.parquet' (FORMAT parquet)")
            session.con.execute(f"COPY ({spine_sql(asked, rows)}) TO '{home / 'spine.parquet'}' (FORMAT parquet)")
        return {}
    if way in {"ours", "asof"}:
        with lake.connect([view.table for view in views]) as session:
            con = session.con
            con.execute(f"CREATE TABLE spine AS SELECT * FROM '{home / 'spine.parquet'}'")
            began = time.perf_counter()
            if way == "asof":
                sql = by_hand(lake, con)
            else:
                joined, _ = joined_views(session, views)
                columns = ("customer_id", "event_timestamp")
                sql = point_in_time("spine", joined, spine_columns=columns, event_timestamp="event_timestamp").run(con)
            con.execute(f"COPY ({sql}) TO '{home / way}.parquet' (FORMAT parquet)")
            found["seconds"] = time.perf_counter() - began
    elif way == "materialize":
        began = time.perf_counter()
        found["entities"] = sum(materialize(lake, store, view, now=NOW, full=True).entities for view in views)
        found["seconds"] = time.perf_counter() - began
        found["store_mb"] = store.size_bytes() / 1e6
    else:
        features = OnlineFeatures(store, cache_rows=0)
        count = 100 if way == "many" else 1
        times: list[float] = []
        for turn in range(60 if way == "many" else 20_000):
            # Of 20 features, as both views have ten.
            asked_for = [{"customer_id": (turn * 7919 + n * 7) % max(1, rows // CUSTOMERS_SHARE)} for n in range(count)]
            began = time.perf_counter()
            for view in views:
                features.get(view.name, asked_for, now=NOW + timedelta(seconds=turn / 1000))
            times.append(time.perf_counter() - began)
        ordered = sorted(times[10:])
        found |= {"seconds": statistics.median(ordered), "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000}
    found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return found


def run_child(way: str, home: Path, rows: int, asked: int, redis_url: str | None = None) -> dict[str, float]:
    """The measurement of a fresh process."""
    arguments = ["--child", way, "--home", str(home), "--rows", str(rows), "--asked", str(asked)]
    arguments += ["--redis", redis_url] if redis_url else []
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    if found:
        print(f"  {way}: {found['seconds']:.4g} s", file=sys.stderr, flush=True)
    return found


def from_redis(home: Path, rows: int, asked: int) -> dict[str, float] | None:
    """One entity at a time from a Redis of its own; None where none is installed."""
    if missing := RedisServer.missing():
        print(f"  not measured: {', '.join(need.program for need in missing)} not installed", file=sys.stderr)
        return None
    server = RedisServer()
    (home / "redis").mkdir()
    try:
        address = server.start(home / "redis")
        url = f"redis://{address['host']}:{address['port']}/0"
        run_child("materialize", home, rows, asked, url)
        return run_child("one", home, rows, asked, url)
    finally:
        server.stop()


def peer(home: Path) -> Path:
    """Feast's interpreter, installed in an environment of its own."""
    place = Path(os.environ.get("LAKEHOUSE_BENCH_FEAST", home / "feast"))
    python = place / "bin" / "python"
    if not python.exists():
        print(f"  installing {PEER} ...", file=sys.stderr, flush=True)
        venv.create(place, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PEER], check=True, stdout=sys.stderr)
    return python


def feast(python: Path, way: str, home: Path, store: str) -> dict[str, float]:
    """The same by Feast, with the given offline store."""
    repo = home / f"repo-{store}"
    if not repo.exists():
        repo.mkdir()
        definitions = FEAST_REPO + "".join(
            FEAST_VIEW.format(name=view, ttl=TTL_DAYS, features=FEATURES, path=home / f"{view}.parquet") for view in VIEWS
        )
        (repo / "definitions.py").write_text(definitions)
        (repo / "feature_store.yaml").write_text(
            f"project: bench\nregistry: {repo}/registry.db\nprovider: local\noffline_store:\n  type: {store}\n"
            f"online_store:\n  type: sqlite\n  path: {repo}/online.db\nentity_key_serialization_version: 3\n"
        )
        feast_command = str(python.parent / "feast")
        subprocess.run([feast_command, "--chdir", str(repo), "apply"], check=True, stdout=sys.stderr, stderr=subprocess.DEVNULL)
    arguments = [way, str(repo), str(home / "spine.parquet"), str(home / f"feast-{store}.parquet")]
    done = subprocess.run(
        [str(python), "-c", FEAST_CHILD, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"  Feast ({store}), {way}: {found['seconds']:.4g} s", file=sys.stderr, flush=True)
    return found


def same(home: Path, other: str) -> int:
    """Rows of ours that the other result does not have."""
    import duckdb

    columns = ", ".join(["customer_id", "event_timestamp", *(f"{view}_f{n}" for view in VIEWS for n in range(FEATURES))])
    ours, theirs = (f"SELECT {columns} FROM '{home / name}.parquet'" for name in ("ours", other))
    found = duckdb.execute(f"SELECT count(*) FROM ({ours} EXCEPT ALL {theirs})").fetchone()
    return int(found[0]) if found else 0


def measure(*, pairs: int, rows: int, asked: int, with_feast: bool) -> list[Figure]:
    """Ours beside all of them."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        home = Path(folder)
        run_child("source", home, rows, asked)
        run_child("asof", home, rows, asked)  # Warms the file cache, for all sides alike.
        mine, hand = [], []
        for _ in range(pairs):
            hand.append(run_child("asof", home, rows, asked))
            mine.append(run_child("ours", home, rows, asked))
        if wrong := same(home, "asof"):
            raise SystemExit(f"{wrong} rows differ from the hand-written join")
        filled = run_child("materialize", home, rows, asked)
        one, many = (run_child(way, home, rows, asked) for way in ("one", "many"))
        seconds = statistics.median(found["seconds"] for found in mine)
        to_hand = seconds / statistics.median(found["seconds"] for found in hand)
        peak = max(found["peak_gb"] for found in mine)
        size = f"{asked:,} entity rows x two views of {rows:,}"
        figures = [
            figure(f"Features: {size}, over a hand-written ASOF join", to_hand, "x", LIMIT_ASOF),
            figure("Features: the same, peak memory", peak, "GB", None),
            figure("Features: one entity x 20 features from SQLite, p99", one["p99_ms"], "ms", LIMIT_P99_MS),
            figure("Features: entities materialised a second", filled["entities"] / filled["seconds"], "/s", None, at_least=True),
            figure("Features: the online store of them", filled["store_mb"], "MB", None),
        ]
        if found := from_redis(home, rows, asked):
            figures.append(figure("Features: one entity x 20 features from Redis, p99", found["p99_ms"], "ms", LIMIT_REDIS_P99_MS))
        if with_feast:
            python = peer(home)
            # Its offline stores lose rows in some releases: what differs is told, not hidden.
            dask, duck = feast(python, "offline", home, "dask"), feast(python, "offline", home, "duckdb")
            again = run_child("ours", home, rows, asked)["seconds"]
            print(
                f"  rows of ours that Feast has not: dask {same(home, 'feast-dask')}, duckdb {same(home, 'feast-duckdb')}", file=sys.stderr
            )
            theirs, served = feast(python, "materialize", home, "duckdb"), feast(python, "many", home, "duckdb")
            figures += [
                figure("Features: time relative to Feast's default offline store", again / dask["seconds"], "x", LIMIT_FEAST),
                figure("Features: time relative to Feast's DuckDB store", again / duck["seconds"], "x", LIMIT_FEAST_DUCKDB),
                figure("Features: memory relative to the lesser of both", peak / min(dask["peak_gb"], duck["peak_gb"]), "x", 1.0),
                figure("Features: materialising relative to Feast", filled["seconds"] / theirs["seconds"], "x", LIMIT_MATERIALIZE),
                figure("Features: 100 entities x 20 features relative to Feast", many["seconds"] / served["seconds"], "x", LIMIT_MANY),
            ]
    return figures


def main() -> None:
    """Print the figures beside their limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of each view")
    parser.add_argument("--asked", type=int, default=100_000, help="entity rows; the other size that counts is 1,000,000")
    parser.add_argument("--no-feast", action="store_true")
    parser.add_argument("--child", choices=["source", "ours", "asof", "materialize", "one", "many"], help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--redis", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.home, options.rows, options.asked, options.redis)))
        return
    figures = measure(pairs=options.pairs, rows=options.rows, asked=options.asked, with_feast=not options.no_feast)
    tell(figures, as_json=options.json)


if __name__ == "__main__":
    main()
