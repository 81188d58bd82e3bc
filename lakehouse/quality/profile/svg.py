"""Plots as inline SVG: few bytes, no script, colours from the page's own variables so that light, dark and paper all work."""

import math
from collections.abc import Sequence
from html import escape

from lakehouse.quality.profile.facts import Association, ColumnFacts, Histogram
from lakehouse.quality.profile.shown import moment_text, number_text, score_text

_WIDTH, _HEIGHT = 320, 72


def ring(score: float) -> str:
    """The score as a ring."""
    length = 2 * math.pi * 52
    return (
        f'<svg class="ring {_grade(score)}" viewBox="0 0 120 120" role="img" aria-label="Quality score {score_text(score)} of 1">'
        '<circle class="track" cx="60" cy="60" r="52"/>'
        f'<circle class="value" cx="60" cy="60" r="52" stroke-dasharray="{score * length:.1f} {length:.1f}" transform="rotate(-90 60 60)"/>'
        f'<text x="60" y="66">{score_text(score)}</text><text class="small" x="60" y="84">of 1</text></svg>'
    )


def _grade(score: float) -> str:
    return "good" if score >= 0.95 else "fair" if score >= 0.8 else "poor"


def meter(value: float | None, label: str) -> str:
    """A share as a bar."""
    if value is None:
        return f'<span class="meter none" role="img" aria-label="{escape(label)}: not judged"></span>'
    return (
        f'<span class="meter {_grade(value)}" role="img" aria-label="{escape(label)}: {score_text(value)} of 1">'
        f'<span style="width:{value * 100:.1f}%"></span></span>'
    )


def distribution(column: ColumnFacts) -> str:
    """The histogram of a column of numbers or moments, with the middle half, the median and the range between 5 and 95 percent."""
    numbers = column.numbers
    if numbers is None or numbers.histogram is None or not numbers.quantiles:
        return ""
    found = numbers.histogram
    low, high = found.edges[0], found.edges[-1]
    show = moment_text if column.kind == "moment" else number_text
    far = [f"{found.below:,} further left" if found.below else "", f"{found.above:,} further right" if found.above else ""]
    notes = "; ".join(note for note in far if note)
    label = (
        f"{column.name}: {show(numbers.least)} to {show(numbers.most)}, median {show(numbers.quantiles[3])}{'; ' + notes if notes else ''}"
    )
    left, right = (show(numbers.least), show(numbers.most)) if column.kind != "moment" else (numbers.minimum[:16], numbers.maximum[:16])
    far_left, far_right = (show(low) if found.below else left), (show(high) if found.above else right)
    box = _box([_place(at, low, high) for at in numbers.quantiles])
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT + 34}" role="img" aria-label="{escape(label)}"><path class="bars" d="{_bars(found)}"/>{box}'
        f'<text x="0" y="{_HEIGHT + 31}">{escape(far_left)}</text><text class="end" x="{_WIDTH}" y="{_HEIGHT + 31}">{escape(far_right)}</text>'
        f'<text class="middle" x="{_WIDTH // 2}" y="{_HEIGHT + 31}">{escape(notes)}</text></svg>'
    )


def _place(value: float, low: float, high: float) -> float:
    width = high - low
    share = (value - low) / width if 0 < width < math.inf else 0.5
    return _WIDTH * min(max(share, 0.0), 1.0)


def _bars(found: Histogram, width: float = _WIDTH, height: float = _HEIGHT) -> str:
    """All bars as one path."""
    most = max(found.counts, default=0) or 1
    step = width / max(len(found.counts), 1)
    gap = min(1.0, step * 0.1)
    parts: list[str] = []
    for n, count in enumerate(found.counts):
        if count:
            tall = max(height * count / most, 1.0)
            parts.append(f"M{n * step + gap / 2:.1f} {height:.0f}v-{tall:.1f}h{step - gap:.1f}v{tall:.1f}z")
    return "".join(parts)


def _box(places: Sequence[float]) -> str:
    _, p5, q1, median, q3, p95, _ = places
    y = _HEIGHT + 10
    return (
        f'<path class="whisker" d="M{p5:.1f} {y}H{p95:.1f}"/><rect class="box" x="{q1:.1f}" y="{y - 4}" width="{max(q3 - q1, 1):.1f}" height="8" rx="2"/>'
        f'<path class="median" d="M{median:.1f} {y - 6}v12"/>'
    )


def spark(column: ColumnFacts) -> str:
    """A histogram without words, for a row of a table."""
    numbers = column.numbers
    if numbers is not None and numbers.histogram is not None:
        return (
            f'<svg class="spark" viewBox="0 0 96 20" aria-hidden="true"><path class="bars" d="{_bars(numbers.histogram, 96, 20)}"/></svg>'
        )
    if column.top and column.values:
        shares = Histogram((), tuple(one.rows for one in column.top[:12]))
        return f'<svg class="spark" viewBox="0 0 96 20" aria-hidden="true"><path class="bars" d="{_bars(shares, min(96, 12 * len(shares.counts)), 20)}"/></svg>'
    return ""


def heat_map(names: Sequence[str], associations: Sequence[Association]) -> str:
    """The strength of every pair as a square; the sign of a correlation as its colour."""
    pairs = {(one.left, one.right): one for one in associations}
    cell, left = 30, 150
    size = cell * len(names)
    # Names are as tall as they are long when they stand on their end; the page shows the picture in its own size where there is room.
    wide, tall = left + size + 4, size + 20 + 6 * min(max((len(name) for name in names), default=0), 20)
    told = f'role="img" aria-label="Associations between {len(names)} columns" style="max-width:{wide}px"'
    parts = [f'<svg class="heat" viewBox="0 0 {wide} {tall}" {told}>']
    for row, name in enumerate(names):
        shown = escape(name if len(name) <= 20 else name[:19] + "…")
        parts.append(f'<text class="end" x="{left - 6}" y="{row * cell + 20}">{shown}</text>')
        x = left + row * cell + 19
        parts.append(f'<text class="end" transform="translate({x} {size + 8}) rotate(-60)">{shown}</text>')
        for place, other in enumerate(names[:row]):
            one = pairs.get((name, other)) or pairs.get((other, name))
            value = one.value if one else 0.0
            kind = "minus" if value < 0 else "plus"
            told = f"{escape(name)} and {escape(other)}: {value:.2f}" if one else f"{escape(name)} and {escape(other)}: below 0.1"
            x, y = left + place * cell, row * cell
            square = f'x="{x + 1}" y="{y + 1}" width="{cell - 2}" height="{cell - 2}" rx="3" fill-opacity="{max(abs(value), 0.04):.2f}"'
            strong = " strong" if abs(value) > 0.75 else ""
            number = f'<text class="cell{strong}" x="{x + cell // 2}" y="{y + 19}">{abs(value):.1f}</text>' if abs(value) >= 0.15 else ""
            parts.append(f'<g><title>{told}</title><rect class="{kind}" {square}/>{number}</g>')
    return "".join(parts) + "</svg>"


def trend(points: Sequence[tuple[str, float]]) -> str:
    """Scores by version as a line."""
    wide, tall, left = 640, 130, 34
    lowest = min(0.9, min(value for _, value in points) - 0.02)
    step = (wide - left - 12) / max(len(points) - 1, 1)

    def y(value: float) -> float:
        return 10 + (tall - 36) * (1 - (value - lowest) / (1 - lowest))

    placed = [(left + n * step, y(value)) for n, (_, value) in enumerate(points)]
    line = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in placed)
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5"><title>{escape(name)}: {value:.3f}</title></circle>'
        for (a, b), (name, value) in zip(placed, points, strict=True)
    )
    every = max(1, math.ceil(len(points) / 12))
    names = "".join(
        f'<text class="middle" x="{placed[n][0]:.1f}" y="{tall - 4}">{escape(name)}</text>'
        for n, (name, _) in enumerate(points)
        if n % every == 0
    )
    grid = "".join(
        f'<path class="grid" d="M{left} {y(at):.1f}H{wide}"/><text x="0" y="{y(at) + 4:.1f}">{at:.2f}</text>'
        for at in (1.0, (1 + lowest) / 2, lowest)
    )
    first, last = points[0][1], points[-1][1]
    return (
        f'<svg class="trend" viewBox="0 0 {wide} {tall}" role="img" aria-label="Quality score of {len(points)} versions, from {first:.2f} to {last:.2f}">'
        f'{grid}<path class="line" d="{line}"/>{dots}{names}</svg>'
    )
