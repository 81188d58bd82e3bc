"""Categories against those of earlier batches: new ones, vanished ones, and shares that moved."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from lakehouse.quality.usual import MIN_HISTORY, usual

_SHOWN = 5
# What chance alone brings more seldom than once in a thousand batches is told.
_CHANCE = 0.001
_LEAST_SHARE_SPREAD = 0.01
_SHARE_CHANGE = 0.2


@dataclass(frozen=True, slots=True)
class Novelty:
    """What was found, and the number that a pin judges."""

    measured: float
    is_strange: bool
    text: str


def new_categories(now: Mapping[str, int], history: Sequence[Mapping[str, int]]) -> Novelty:
    """Share of the rows whose category no earlier batch had.

    Strange where chance would not bring so many rows of unseen categories (by how many categories were seen once only, after
    Good and Turing), and where earlier batches did not bring as many.
    """
    pooled = _pooled(history)
    rows, before = sum(now.values()), sum(pooled.values())
    new = {name: count for name, count in now.items() if name not in pooled}
    share = sum(new.values()) / rows if rows else 0.0
    text = f"{share:.2%} of the rows are of categories never seen before: {_shown(new)}" if new else "no category is new"
    if not new:
        return Novelty(share, False, text)
    once = sum(count == 1 for count in pooled.values())
    expected = rows * (once + 1) / (before + 1)
    return Novelty(share, _at_least(sum(new.values()), expected) < _CHANCE and share > _usual_novelty(history), text)


def _usual_novelty(history: Sequence[Mapping[str, int]]) -> float:
    """The largest share that unseen categories had in an earlier batch; the first few had to bring some."""
    shares = [0.0]
    for place in range(min(3, len(history) - 1), len(history)):
        seen = {name for counts in history[:place] for name in counts}
        batch = history[place]
        shares.append(sum(count for name, count in batch.items() if name not in seen) / max(sum(batch.values()), 1))
    # One odd batch hides nothing: it counts where such batches come again.
    shares.sort()
    return shares[-2] if len(shares) > 1 else 0.0


def vanished_categories(now: Mapping[str, int], history: Sequence[Mapping[str, int]]) -> Novelty:
    """Number of categories that every earlier batch had so often that chance does not leave them out."""
    rows = sum(now.values())
    gone: dict[str, int] = {}
    for name in set.intersection(*(set(counts) for counts in history)) - now.keys():
        least = min(counts[name] / sum(counts.values()) for counts in history)
        if math.exp(-rows * least) < _CHANCE:
            gone[name] = round(rows * median(counts[name] / sum(counts.values()) for counts in history))
    text = f"{len(gone)} usual categories have no row: {_shown(gone, 'usually about ')}" if gone else "no category has vanished"
    return Novelty(float(len(gone)), bool(gone), text)


def shifted_share(now: Mapping[str, int], history: Sequence[Mapping[str, int]]) -> Novelty:
    """The largest distance of a category's share from its usual one."""
    rows = sum(now.values())
    totals = [sum(counts.values()) for counts in history]
    largest, strange = 0.0, dict[str, float]()
    for name in sorted(_pooled(history)):
        shares = [counts.get(name, 0) / total for counts, total in zip(history, totals, strict=True)]
        middle, share = median(shares), now.get(name, 0) / rows
        largest = max(largest, abs(share - middle))
        likely = max(middle, 1 / rows)
        learned = usual(shares, least_spread=max(_LEAST_SHARE_SPREAD, math.sqrt(likely * max(1 - likely, 0.0) / rows)))
        reach = _SHARE_CHANGE + 3 * math.sqrt(0.25 / rows) if len(shares) < MIN_HISTORY else 0.0
        if not (learned.holds(share) if learned is not None else abs(share - middle) <= reach):
            strange[name] = abs(share - middle)
    worst = sorted(strange, key=lambda name: (-strange[name], name))[:_SHOWN]
    moved = "; ".join(
        f"{name!r} has {now.get(name, 0) / rows:.1%}, "
        f"usually {median(counts.get(name, 0) / total for counts, total in zip(history, totals, strict=True)):.1%}"
        for name in worst
    )
    return Novelty(largest, bool(strange), moved or f"the largest change of a share is {largest:.1%}")


def _pooled(history: Sequence[Mapping[str, int]]) -> dict[str, int]:
    pooled: dict[str, int] = {}
    for counts in history:
        for name, count in counts.items():
            pooled[name] = pooled.get(name, 0) + count
    return pooled


def _at_least(found: int, expected: float) -> float:
    """The chance of as many or more, where as many as `expected` come on average (Poisson)."""
    if found > expected + 40 * math.sqrt(expected + 1):
        return 0.0
    below = sum(math.exp(number * math.log(expected) - expected - math.lgamma(number + 1)) for number in range(found))
    return max(0.0, 1.0 - below)


def _shown(counts: Mapping[str, int], word: str = "") -> str:
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    more = f" and {len(ranked) - _SHOWN} more" if len(ranked) > _SHOWN else ""
    return ", ".join(f"{name!r} ({word}{counts[name]:,} rows)" for name in ranked[:_SHOWN]) + more
