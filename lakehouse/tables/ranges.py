"""Runs of versions: many numbers said in few."""

from collections.abc import Iterable

Ranges = tuple[tuple[int, int], ...]
"""First and last of each run of versions, ascending."""


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same versions in as few runs as there are."""
    runs: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if runs and first <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((first, last))
    return tuple(runs)


def without(ranges: Ranges, *, newest: int, oldest: int = 0) -> Ranges:
    """The versions from `oldest` to `newest` that are in none of the runs."""
    left: list[tuple[int, int]] = []
    start = oldest
    for first, last in ranges:
        if first > start:
            left.append((start, min(first - 1, newest)))
        start = max(start, last + 1)
    if start <= newest:
        left.append((start, newest))
    return tuple(left)


def spoken(ranges: Ranges) -> str:
    """The runs as people say them: `3, 5 to 8`."""
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in ranges) or "none"
