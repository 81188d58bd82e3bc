"""A profile with its HTML page against DuckDB's SUMMARIZE (limit 3 x) and ydata-profiling's minimal mode (limit 1/20 of it).

1 million rows of 20 columns: 8 numbers, 9 texts (from three values to all different), 2 times, a yes or no. All three read the
same rows in fresh processes; what is timed is the profiling, for ours and ydata-profiling with the page, not the start of the
process nor pandas' reading of the file.
ydata-profiling needs other versions of our libraries, so it is installed in an environment of its own.
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
from datetime import UTC, datetime
from pathlib import Path

from figures import Figure, figure, tell

ROWS = 1_000_000
LIMIT_SUMMARIZE = 3.0
LIMIT_YDATA = 1 / 20
LIMIT_PAGE_MB = 1.0
PEER = "ydata-profiling==4.18.4"
TABLE = "analytics.events"
SOURCE = f"""
    SELECT
        range AS event_id,
        hash(range) % 1000000 AS customer_id,
        (hash(range * 7) % 100000 / 100)::DECIMAL(12, 2) AS amount,
        (hash(range * 11) % 20)::INTEGER AS quantity,
        (hash(range * 37) % 1000)::BIGINT AS level,
        random() AS score,
        sqrt(-2 * ln(random() + 1e-9)) AS delay,
        CASE WHEN hash(range * 43) % 50 = 0 THEN NULL ELSE random() * 5 END AS width,
        DATE '2026-01-01' + (range // 30000)::INTEGER AS event_date,
        TIMESTAMP '2026-01-01' + INTERVAL (range // 2) SECOND AS event_time,
        hash(range * 13) % 10 = 0 AS returned,
        'C' || lpad((hash(range * 3) % 5000)::VARCHAR, 5, '0') AS product,
        CASE WHEN hash(range * 17) % 5 = 0 THEN NULL ELSE ['north', 'south', 'east', 'west'][(hash(range) % 4 + 1)::INTEGER] END AS region,
        md5(range::VARCHAR) AS token,
        'user' || (hash(range * 23) % 300000) || '@example.org' AS contact,
        'city ' || (hash(range * 41) % 400) AS city,
        ['Yes', 'No', 'yes '][(hash(range * 31) % 3 + 1)::INTEGER] AS answer,
        ['web', 'store', 'phone', 'partner', 'app'][(hash(range * 47) % 5 + 1)::INTEGER] AS channel,
        dayname(DATE '2026-01-01' + (hash(range * 29) % 7)::INTEGER) AS weekday,
        'order of ' || (hash(range * 53) % 90 + 1) || ' pieces for district ' || (hash(range * 59) % 2000) AS note
    FROM range({ROWS})
"""
YDATA = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import pandas
from ydata_profiling import ProfileReport
frame = pandas.read_parquet(sys.argv[1])
began = time.perf_counter()
page = ProfileReport(frame, minimal=True, progress_bar=False).to_html()
print(json.dumps({"seconds": time.perf_counter() - began, "page_mb": len(page.encode()) / 1e6}))
"""


def child(way: str, home: Path) -> dict[str, float]:
    """Make the table or profile it once in this process, the given way."""
    from lakehouse.contracts import Contracts
    from lakehouse.monitoring import profile_table
    from lakehouse.quality.profile.page import html_page
    from lakehouse.tables import Lake, Stamp

    lake = Lake(home / "tables", memory_limit="1GB", spill_dir=home / "spill")
    now = datetime.now(UTC)
    if way == "source":
        with lake.connect(()) as session:
            lake.overwrite(session.con, TABLE, SOURCE, stamp=Stamp(asset="benchmark", run="benchmark"))
            rows = lake.scan_sql(TABLE, con=session.con)
            session.con.execute(f"COPY ({rows}) TO '{home / 'events.parquet'}' (FORMAT parquet)")
        return {}
    page = b""
    if way == "summarize":
        with lake.connect([TABLE]) as session:
            began = time.perf_counter()
            session.con.execute(f"SUMMARIZE {TABLE}").fetchall()
            seconds = time.perf_counter() - began
    else:
        # Another target each time, so that nothing kept is used.
        import numpy  # noqa: F401 - the peer has its libraries as well before it begins.

        began = time.perf_counter()
        found = profile_table(lake, Contracts(), TABLE, run="benchmark", now=now)
        page = html_page(found.profile).encode()
        seconds = time.perf_counter() - began
        if found.cached != (way == "again"):
            raise SystemExit(f"the profile was {'' if found.cached else 'not '}there")
    return {"seconds": seconds, "page_mb": len(page) / 1e6, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2}


def run_child(way: str, home: Path) -> dict[str, float]:
    """The measurement of a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--child", way, "--home", str(home)], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    if found:
        print(f"  {way}: {found['seconds']:.2f} s", file=sys.stderr, flush=True)
    return found


def ours(home: Path) -> dict[str, float]:
    """A profile that is not there yet."""
    import shutil

    shutil.rmtree(home / "tables" / "monitoring", ignore_errors=True)
    return run_child("profile", home)


def ydata(home: Path) -> dict[str, float]:
    """The peer, installed in an environment of its own."""
    place = Path(os.environ.get("LAKEHOUSE_BENCH_YDATA", home / "ydata"))
    python = place / "bin" / "python"
    if not python.exists():
        print(f"  installing {PEER} ...", file=sys.stderr, flush=True)
        venv.create(place, with_pip=True)
        # It imports pkg_resources, which newer setuptools no longer have.
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PEER, "pyarrow", "setuptools<81"]
        subprocess.run(install, check=True, stdout=sys.stderr)
    done = subprocess.run([str(python), "-c", YDATA, str(home / "events.parquet")], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"  ydata-profiling, minimal: {found['seconds']:.1f} s", file=sys.stderr, flush=True)
    return found


def measure(pairs: int) -> list[Figure]:
    """Ours beside both."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        home = Path(folder)
        run_child("source", home)
        run_child("summarize", home)  # Warms the file cache, for both sides alike.
        found: list[dict[str, float]] = []
        peer: list[dict[str, float]] = []
        for _ in range(pairs):
            peer.append(run_child("summarize", home))
            found.append(ours(home))
        again = run_child("again", home)
        # Beside the peer, which takes long: the machine may become busier or calmer meanwhile.
        beside = [ours(home)]
        other = ydata(home)
        beside.append(ours(home))
    mine = statistics.median(one["seconds"] for one in found)
    to_summarize = mine / statistics.median(one["seconds"] for one in peer)
    to_ydata = statistics.mean(one["seconds"] for one in beside) / other["seconds"]
    page, peak = found[0]["page_mb"], max(one["peak_gb"] for one in found)
    return [
        figure("Profile of 1 million x 20: time relative to SUMMARIZE", to_summarize, "x", LIMIT_SUMMARIZE),
        figure("Profile of 1 million x 20: time relative to ydata-profiling's minimal mode", to_ydata, "x", LIMIT_YDATA),
        figure("Profile of 1 million x 20: the second time, relative to the first", again["seconds"] / mine, "x", None),
        figure("Profile of 1 million x 20: peak memory", peak, "GB", None),
        figure("Profile of 1 million x 20: HTML page", page, "MB", LIMIT_PAGE_MB),
    ]


def main() -> None:
    """Print the figures beside their limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--child", choices=["source", "summarize", "profile", "again"], help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.home)))
        return
    figures = measure(options.pairs)
    tell(figures, as_json=options.json)


if __name__ == "__main__":
    main()
