"""Run every benchmark and print its figures beside their limits, as ratios.

`make bench` calls it. Each script of this folder prints, with --json, a list of measurements:
`{"name", "figure", "unit", "limit", "passed"}`, where `figure` is a ratio wherever one exists.
The table is also written to docs/benchmarks.md, with the machine it was measured on.
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


def main() -> None:
    """Measure, print, and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks to run; all without")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()
    scripts = [
        path
        for path in sorted(FOLDER.glob("*.py"))
        if path.stem not in {"run", "figures"} and (not options.names or path.stem in options.names)
    ]
    by_script = {script.name: measure(script) for script in scripts}
    failed = [name for name, found in by_script.items() if found is None]
    measurements = [one for found in by_script.values() for one in found or ()]
    text = table(measurements)
    print(text)
    for name in failed:
        print(f"{name} failed: see above", file=sys.stderr)
    if not options.no_write and not options.names and not failed:
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}, {datetime.now(UTC):%Y-%m-%d}"
        RESULT.write_text(
            f"# Benchmarks\n\nThe last `make bench`, on {machine}. Ratios are medians of pairs run in turn.\n\n{text}\n", encoding="utf-8"
        )
    sys.exit(0 if not failed and all(one.get("passed", True) for one in measurements) else 1)


if __name__ == "__main__":
    main()
