"""A benchmark's figures: each beside its limit, for people or, with --json, for `run.py`."""

import json
import sys
from collections.abc import Sequence
from typing import NoReturn

Figure = dict[str, object]
"""name, figure, unit, limit (None where there is none), passed."""


def figure(name: str, value: float, unit: str, limit: float | None = None, *, at_least: bool = False) -> Figure:
    """A figure that is within its limit if it is not above it, or with `at_least` not below."""
    passed = limit is None or (value >= limit if at_least else value <= limit)
    return {"name": name, "figure": value, "unit": unit, "limit": limit, "passed": passed}


def tell(figures: Sequence[Figure], *, as_json: bool) -> NoReturn:
    """Print the figures and end the process; exit code 1 if one is not within its limit."""
    if as_json:
        print(json.dumps(figures))
    else:
        for one in figures:
            limit = "" if one["limit"] is None else f"  limit {one['limit']:.3g} {one['unit']}"
            print(f"{one['name']}  {one['figure']:.3g} {one['unit']}{limit}")
    sys.exit(0 if all(one["passed"] for one in figures) else 1)
