"""Small pictures for materialisations: a PNG inside a Markdown image, drawn where looking beats reading."""

import base64
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import dagster as dg

from lakehouse.pictures import BAD, GOOD, QUIET, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lakehouse.learning import Confusion, Pairs
    from lakehouse.learning.calibration import Reliability


def rows_per_batch(batches: Sequence[int], accepted: Sequence[int], quarantined: Sequence[int]) -> dg.MarkdownMetadataValue:
    """Stacked bars: what each batch brought, and how much of it was quarantined."""

    def draw(axes: "Axes") -> None:
        places = range(len(batches))
        axes.bar(places, accepted, color=GOOD, label="accepted")
        axes.bar(places, quarantined, bottom=list(accepted), color=BAD, label="quarantined")
        axes.set_xticks(list(places), [str(batch) for batch in batches])
        axes.set_xlabel("batch")
        axes.set_ylabel("rows")
        axes.legend(frameon=False)

    return _image("Rows per batch", draw)


def bars(title: str, counts: Mapping[str, float], *, unit: str, bad: bool = False) -> dg.MarkdownMetadataValue:
    """Horizontal bars, the longest first: at most a dozen."""
    longest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:12][::-1]

    def draw(axes: "Axes") -> None:
        axes.barh([name for name, _ in longest], [count for _, count in longest], color=BAD if bad else GOOD)
        axes.set_xlabel(unit)

    return _image(title, draw)


def shares(title: str, values: Mapping[str, float]) -> dg.MarkdownMetadataValue:
    """Horizontal bars between 0 and 1, in their order, each with its value."""
    ordered = list(values.items())[::-1]

    def draw(axes: "Axes") -> None:
        places = range(len(ordered))
        axes.barh(places, [1.0] * len(ordered), color=QUIET, alpha=0.18)
        axes.barh(places, [value for _, value in ordered], color=[GOOD if value >= 0.9 else BAD for _, value in ordered])
        axes.set_yticks(list(places), [name for name, _ in ordered])
        axes.set_xlim(0, 1.12)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        for place, (_, value) in zip(places, ordered, strict=True):
            axes.text(1.02, place, f"{int(value * 1000) / 1000:.3f}", va="center", fontsize=8)

    return _image(title, draw)


def test_rows(tested: "Confusion | Pairs") -> dg.MarkdownMetadataValue:
    """What the model said of its test rows, against what was so."""
    return _markdown("Test rows: what was so and what was predicted", tested.picture())


def reliability(found: "Reliability") -> dg.MarkdownMetadataValue:
    """What the probabilities of the test rows meant."""
    return _markdown(f"Test rows: said against observed, {found.error:.3f} apart on average", found.picture())


def histogram(title: str, edges: Sequence[float], counts: Sequence[int], *, unit: str) -> dg.MarkdownMetadataValue:
    """How often each interval occurs; `edges` has one more than `counts`."""

    def draw(axes: "Axes") -> None:
        widths = [right - left for left, right in pairwise(edges)]
        axes.bar(list(edges[:-1]), counts, width=widths, align="edge", color=GOOD, edgecolor="white", linewidth=0.5)
        axes.set_xlabel(unit)
        axes.set_ylabel("rows")

    return _image(title, draw)


def then_and_now(title: str, labels: Sequence[str], then: Sequence[int], now: Sequence[int]) -> dg.MarkdownMetadataValue:
    """Shares of the rows in each bin, those of the reference beside those of today; at most thirty bins."""
    shown = slice(0, 30)
    before, today = ([one / max(sum(counts), 1) for one in counts[shown]] for counts in (then, now))

    def draw(axes: "Axes") -> None:
        places = range(len(before))
        axes.bar([place - 0.2 for place in places], before, width=0.4, color=QUIET, label="reference")
        axes.bar([place + 0.2 for place in places], today, width=0.4, color=BAD, label="now")
        axes.set_xticks(list(places), [label[:16] for label in labels[shown]], rotation=45, ha="right", fontsize=7)
        axes.set_ylabel("share of the rows")
        axes.legend(frameon=False)

    return _image(title, draw)


def said_and_so(title: str, points: Sequence[tuple[float, float]]) -> dg.MarkdownMetadataValue:
    """What was so (up) against what was said (right), as shares: on the line where they agree."""

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8)
        axes.plot([said for said, _ in points], [so for _, so in points], marker="o", color=GOOD)
        axes.set_xlabel("said")
        axes.set_ylabel("was so")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)

    return _image(title, draw)


def _image(title: str, draw: Callable[["Axes"], None]) -> dg.MarkdownMetadataValue:
    return _markdown(title, png(title, draw))


def _markdown(title: str, picture: bytes) -> dg.MarkdownMetadataValue:
    return dg.MarkdownMetadataValue(f"![{title}](data:image/png;base64,{base64.b64encode(picture).decode()})")
