"""Small pictures for materialisations: a PNG of a few kB inside a Markdown image, drawn where looking beats reading.

matplotlib is imported when the first one is drawn, and never through pyplot: its global state does not belong in a server.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GOOD, _BAD, _QUIET = "#2f6f9f", "#c8553d", "#8a8f98"


def rows_per_batch(batches: Sequence[int], accepted: Sequence[int], quarantined: Sequence[int]) -> dg.MarkdownMetadataValue:
    """Stacked bars: what each batch brought, and how much of it was quarantined."""

    def draw(axes: "Axes") -> None:
        places = range(len(batches))
        axes.bar(places, accepted, color=_GOOD, label="accepted")
        axes.bar(places, quarantined, bottom=list(accepted), color=_BAD, label="quarantined")
        axes.set_xticks(list(places), [str(batch) for batch in batches])
        axes.set_xlabel("batch")
        axes.set_ylabel("rows")
        axes.legend(frameon=False)

    return _image("Rows per batch", draw)


def bars(title: str, counts: Mapping[str, float], *, unit: str, bad: bool = False) -> dg.MarkdownMetadataValue:
    """Horizontal bars, the longest first: at most a dozen."""
    longest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:12][::-1]

    def draw(axes: "Axes") -> None:
        axes.barh([name for name, _ in longest], [count for _, count in longest], color=_BAD if bad else _GOOD)
        axes.set_xlabel(unit)

    return _image(title, draw)


def confusion(labels: Sequence[str], matrix: Sequence[Sequence[float]]) -> dg.MarkdownMetadataValue:
    """Rows are what was true, columns what was predicted; shaded by the share of the row."""

    def draw(axes: "Axes") -> None:
        shares = [[count / (sum(row) or 1) for count in row] for row in matrix]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, row in enumerate(matrix):
            for j, count in enumerate(row):
                axes.text(j, i, f"{count:,.0f}", ha="center", va="center", color="white" if shares[i][j] > 0.5 else "black", fontsize=8)
        places = list(range(len(labels)))
        axes.set_xticks(places, list(labels), rotation=45 if len(labels) > 3 else 0, ha="right" if len(labels) > 3 else "center")
        axes.set_yticks(places, list(labels))
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    return _image("Test rows: true against predicted", draw)


def predicted_against_actual(actual: Sequence[float], predicted: Sequence[float]) -> dg.MarkdownMetadataValue:
    """One point per test row; on the line the prediction is right."""

    def draw(axes: "Axes") -> None:
        low, high = min(*actual, *predicted), max(*actual, *predicted)
        axes.plot([low, high], [low, high], color=_QUIET, linewidth=1)
        axes.scatter(actual, predicted, s=6, alpha=0.4, color=_GOOD, linewidths=0)
        axes.set_xlabel("actual")
        axes.set_ylabel("predicted")

    return _image("Test rows: predicted against actual", draw)


def histogram(title: str, edges: Sequence[float], counts: Sequence[int], *, unit: str) -> dg.MarkdownMetadataValue:
    """How often each interval occurs; `edges` has one more than `counts`."""

    def draw(axes: "Axes") -> None:
        widths = [right - left for left, right in pairwise(edges)]
        axes.bar(list(edges[:-1]), counts, width=widths, align="edge", color=_GOOD, edgecolor="white", linewidth=0.5)
        axes.set_xlabel(unit)
        axes.set_ylabel("rows")

    return _image(title, draw)


def _image(title: str, draw: Callable[["Axes"], None]) -> dg.MarkdownMetadataValue:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return dg.MarkdownMetadataValue(f"![{title}](data:image/png;base64,{encoded})")
