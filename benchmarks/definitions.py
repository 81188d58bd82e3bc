"""What loading the definitions costs beyond importing Dagster: limit 1.5 s.

Pairs of fresh processes, run in turn, on a home that has been used before (its dbt manifest is there). Both are timed from
the outside, so that imports, contracts, the manifest and the asset graph all count.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, figure, tell

PROJECT = Path(__file__).resolve().parent.parent
LIMIT_S = 1.5
IMPORTS = "import dagster, dagster_dbt"
LOADS = f"{IMPORTS}; import definitions; definitions.defs().get_repository_def().asset_graph"


def seconds(code: str, environment: dict[str, str]) -> float:
    """Wall seconds of a fresh process that runs the code in the project."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, check=True)
    return time.perf_counter() - began


def measure(pairs: int) -> list[Figure]:
    """The figures, with the first load of an empty home beside them."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        environment = {**os.environ, "LAKEHOUSE_HOME": folder, "LAKEHOUSE_PROJECT": str(PROJECT), "DAGSTER_DISABLE_TELEMETRY": "1"}
        seconds(IMPORTS, environment)  # Compiles and caches, for both sides alike.
        first = seconds(LOADS, environment)
        runs = [(seconds(IMPORTS, environment), seconds(LOADS, environment)) for _ in range(pairs)]
    imports = statistics.median(one for one, _ in runs)
    extra = statistics.median(two - one for one, two in runs)
    return [
        figure("Definitions: over `import dagster, dagster_dbt`", extra, "s", LIMIT_S),
        figure("Definitions: the same, relative to those imports", (imports + extra) / imports, "x"),
        figure("Definitions: first load of an empty home, dbt parse included", first, "s"),
    ]


def main() -> None:
    """Print the figures beside their limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    figures = measure(options.pairs)
    tell(figures, as_json=options.json)


if __name__ == "__main__":
    main()
