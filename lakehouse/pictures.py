"""Small pictures: a PNG of a few kB.

matplotlib is imported when the first one is drawn, and never through pyplot: its global state does not belong in a server.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GOOD, BAD, QUIET = "#2f6f9f", "#c8553d", "#8a8f98"


def png(title: str, draw: "Callable[[Axes], None]") -> bytes:
    """The picture that `draw` fills: same drawing, same bytes."""
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
    return buffer.getvalue()
