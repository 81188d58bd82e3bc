"""How the predictions of a model are spread: the first thing to look at when something is odd."""

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse.contracts import ModelContract
from lakehouse.tables import Lake

_BINS = 24


@dataclass(frozen=True, slots=True)
class Spread:
    """Rows by predicted class, or by equal intervals of the predicted number.

    Attributes:
        edges: one more than there are counts; empty for classes.
        counts: in order of the intervals; for classes the most frequent first.
        classes: empty for numbers.
    """

    classes: tuple[str, ...]
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def by_class(self) -> Mapping[str, int]:
        """Rows by class."""
        return dict(zip(self.classes, self.counts, strict=True)) if self.classes else {}


def prediction_spread(lake: Lake, contract: ModelContract) -> Spread | None:
    """The spread of the model's newest predictions; None where there are none."""
    table = f"models.{contract.name}_predictions"
    if not lake.exists(table):
        return None
    with lake.connect([table]) as session:
        if contract.problem == "classification":
            rows = session.con.execute(f"SELECT prediction::VARCHAR, count(*) FROM {table} GROUP BY ALL ORDER BY 2 DESC, 1").fetchall()
            return Spread(tuple(str(row[0]) for row in rows), (), tuple(row[1] for row in rows)) if rows else None
        limits = session.con.execute(
            f"SELECT min(prediction)::DOUBLE, max(prediction)::DOUBLE FROM {table} WHERE isfinite(prediction)"
        ).fetchone()
        if limits is None or limits[0] is None:
            return None
        low, high = limits
        width = (high - low) / _BINS or 1.0
        rows = session.con.execute(
            f"SELECT least(floor((prediction - $low) / $width), {_BINS - 1})::INTEGER, count(*) FROM {table} WHERE isfinite(prediction) GROUP BY ALL",
            {"low": low, "width": width},
        ).fetchall()
    counts = dict(rows)
    return Spread((), tuple(low + number * width for number in range(_BINS + 1)), tuple(counts.get(number, 0) for number in range(_BINS)))
