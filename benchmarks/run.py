"""Run every benchmark and print its figures beside their limits, as ratios.

`make bench` calls it. Each script of this folder prints, with --json, a list of measurements:
`{"name", "figure", "unit", "limit", "passed"}`, where `figure` is a ratio wherever one exists.
The tables are also written to docs/benchmarks.md, each with the machine and the day it was measured on.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
RESULT = FOLDER.parent / "docs" / "benchmarks.md"
_HEAD = """`make bench` measures all of them, `python benchmarks/run.py NAME` one; ratios are medians of pairs run in turn. What is not within
its limit says so."""


def measure(script: Path) -> list[dict[str, object]] | None:
    """The measurements of one script, None if it failed; its progress goes to the terminal."""
    print(f"{script.stem} ...", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, str(script), "--json"], stdout=subprocess.PIPE, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return None


def table(measurements: list[dict[str, object]]) -> str:
    """A Markdown table of all figures."""
    lines = ["| what | measured | limit | within |", "| --- | ---: | ---: | :---: |"]
    for one in measurements:
        limit = "" if one.get("limit") is None else f"{one['limit']:g} {one['unit']}"
        within = "" if one.get("limit") is None else ("yes" if one["passed"] else "**no**")
        lines.append(f"| {one['name']} | {one['figure']:.3g} {one['unit']} | {limit} | {within} |")
    return "\n".join(lines)


def pages(text: str) -> dict[str, str]:
    """The parts of docs/benchmarks.md, by the benchmark that each is of."""
    found = [part.partition("\n") for part in text.split("\n## ")[1:]]
    return {name.strip(): body.strip() for name, _, body in found}


def main() -> None:
    """Measure, print, and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks to run; all without")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()
    scripts = [path for path in sorted(FOLDER.glob("*.py")) if path.stem not in {"run", "figures"}]
    known = [path.stem for path in scripts]
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(known)}")
    chosen = [path for path in scripts if not options.names or path.stem in options.names]
    found = {script.stem: measure(script) for script in chosen}
    failed = [name for name, measurements in found.items() if measurements is None]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}, {datetime.now(UTC):%Y-%m-%d}"
    told = {name: f"On {machine}.\n\n{table(measurements)}" for name, measurements in found.items() if measurements}
    for name, text in told.items():
        print(f"{name}\n{text}\n")
    for name in failed:
        print(f"{name} failed: see above", file=sys.stderr)
    if not options.no_write:
        # What was not measured this time stays as it was measured last.
        kept = pages(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        parts = {name: text for name, text in sorted((kept | told).items()) if name in known}
        body = "\n\n".join(f"## {name}\n\n{text}" for name, text in parts.items())
        RESULT.write_text(f"# Benchmarks\n\n{_HEAD}\n\n{body}\n", encoding="utf-8")
    measurements = [one for some in found.values() for one in some or ()]
    sys.exit(0 if not failed and all(one.get("passed", True) for one in measurements) else 1)


if __name__ == "__main__":
    main()
