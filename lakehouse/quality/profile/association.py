"""What goes with what, on the sample: Spearman's and Pearson's correlation, Cramér's V, and the correlation ratio.

Every pair costs a fraction of a millisecond on 20,000 rows and would cost a scan on all of them; of correlations taken from so
many rows the error is about 0.01. Of a wide table the first columns are compared, and the profile says which.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from lakehouse.quality.profile.columns import Measured
from lakehouse.quality.profile.facts import Association
from lakehouse.quality.profile.sampling import FEW, SAMPLE, Sample

if TYPE_CHECKING:
    import duckdb
    import numpy as np

_MOST_NUMBERS = 40
_MOST_CATEGORIES = 30
_LEAST_ROWS = 10
WORTH_TELLING = 0.1
_MOST_KEPT = 400


@dataclass(frozen=True, slots=True)
class Comparison:
    """Associations, strongest first, and the columns between which they were looked for."""

    associations: tuple[Association, ...] = ()
    compared: tuple[str, ...] = ()


def associate(con: "duckdb.DuckDBPyConnection", columns: Sequence[Measured], sample: Sample, *, always: str | None = None) -> Comparison:
    """Compare the columns that have an order or few values.

    Args:
        con: the connection that holds SAMPLE.
        columns: all of them.
        sample: what was seen of them.
        always: a column whose every association is kept, however weak.
    """
    if sample.rows < _LEAST_ROWS:
        return Comparison()
    numbers = [one for one in columns if one.is_ordered and sample.seen[one.number].distinct > 1]
    categories = [one for one in columns if one not in numbers and _is_category(one, sample)]
    # The target takes part wherever it stands.
    numbers = sorted(numbers, key=lambda one: (one.name != always, one.number))[:_MOST_NUMBERS]
    categories = sorted(categories, key=lambda one: (one.name != always, one.number))[:_MOST_CATEGORIES]
    chosen = sorted([*numbers, *categories], key=lambda one: one.number)
    if len(chosen) < 2:
        return Comparison()
    parts = [f"coalesce(x{one.number}, 'nan'::DOUBLE) AS x{one.number}" for one in numbers]
    parts += [f"coalesce(h{one.number}, 0::UBIGINT) AS h{one.number}" for one in categories]
    table: dict[str, Any] = con.execute(f"SELECT {', '.join(parts)} FROM {SAMPLE}").fetchnumpy()
    found = [
        *_between_numbers(numbers, table),
        *_between_categories(categories, table),
        *(
            Association(category.name, number.name, "eta", value)
            for category in categories
            for number in numbers
            if (value := _ratio(table[f"h{category.number}"], table[f"x{number.number}"])) is not None
        ),
    ]
    ranked = sorted(found, key=lambda one: (-abs(one.value), one.left, one.right))
    kept = [one for one in ranked if abs(one.value) >= WORTH_TELLING or always in {one.left, one.right}]
    mine = [one for one in kept if always in {one.left, one.right}]
    others = [one for one in kept if one not in mine][: _MOST_KEPT - len(mine)]
    return Comparison(
        tuple(sorted([*mine, *others], key=lambda one: (-abs(one.value), one.left, one.right))), tuple(one.name for one in chosen)
    )


def _is_category(one: Measured, sample: Sample) -> bool:
    seen = sample.seen[one.number]
    return one.kind in {"text", "boolean"} and 1 < seen.distinct <= FEW and seen.values >= 5 * seen.distinct


def _between_numbers(numbers: Sequence[Measured], table: dict[str, Any]) -> list[Association]:
    import numpy as np

    found: list[Association] = []
    values = {one.number: np.asarray(table[f"x{one.number}"], dtype=np.float64) for one in numbers}
    known = {number: ~np.isnan(column) for number, column in values.items()}
    is_full = {number: bool(mask.all()) for number, mask in known.items()}
    ranks = {number: _ranks(column[known[number]]) for number, column in values.items()}
    for left, right in combinations(numbers, 2):
        one, other = values[left.number], values[right.number]
        if is_full[left.number] and is_full[right.number]:
            ranked = _pearson(ranks[left.number], ranks[right.number])
        else:
            both = known[left.number] & known[right.number]
            if int(both.sum()) < _LEAST_ROWS:
                continue
            one, other = one[both], other[both]
            ranked = _pearson(_ranks(one), _ranks(other))
        if ranked is not None:
            found.append(Association(left.name, right.name, "spearman", ranked, _pearson(one, other)))
    return found


def _ranks(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Ranks, ties in the middle."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]


def _pearson(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> float | None:
    import numpy as np

    with np.errstate(all="ignore"):
        a, b = one - one.mean(), other - other.mean()
        scale = math.sqrt(float((a * a).sum())) * math.sqrt(float((b * b).sum()))
        value = float((a * b).sum()) / scale if scale > 0 and math.isfinite(scale) else math.nan
    return round(max(-1.0, min(1.0, value)), 4) if math.isfinite(value) else None


def _between_categories(categories: Sequence[Measured], table: dict[str, Any]) -> list[Association]:
    import numpy as np

    codes = {one.number: np.unique(table[f"h{one.number}"], return_inverse=True)[1] for one in categories}
    missing = {one.number: np.asarray(table[f"h{one.number}"]) == 0 for one in categories}
    found: list[Association] = []
    for left, right in combinations(categories, 2):
        both = ~(missing[left.number] | missing[right.number])
        value = _cramers_v(codes[left.number][both], codes[right.number][both])
        if value is not None:
            found.append(Association(left.name, right.name, "cramers_v", value))
    return found


def _cramers_v(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> float | None:
    """Bias-corrected, after Bergsma (2013): independent columns of many categories come out near 0."""
    import numpy as np

    rows = len(one)
    if rows < _LEAST_ROWS:
        return None
    width = int(other.max()) + 1
    counts = np.bincount(one * width + other, minlength=(int(one.max()) + 1) * width).reshape(-1, width).astype(np.float64)
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    height, width = counts.shape
    if height < 2 or width < 2:
        return None
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / rows
    phi2 = float(((counts - expected) ** 2 / expected).sum()) / rows
    corrected = max(0.0, phi2 - (height - 1) * (width - 1) / (rows - 1))
    least = min(height - (height - 1) ** 2 / (rows - 1), width - (width - 1) ** 2 / (rows - 1)) - 1
    return round(min(1.0, math.sqrt(corrected / least)), 4) if least > 0 else None


def _ratio(category: "np.ndarray[Any, Any]", number: "np.ndarray[Any, Any]") -> float | None:
    """Eta: the root of the share of the number's variance that lies between the categories, corrected for their number."""
    import numpy as np

    both = (category != 0) & ~np.isnan(number)
    x = number[both]
    rows = len(x)
    if rows < _LEAST_ROWS:
        return None
    _, codes = np.unique(category[both], return_inverse=True)
    counts = np.bincount(codes)
    with np.errstate(all="ignore"):
        centred = x - x.mean()
        total = float((centred * centred).sum())
        within_groups = float((np.bincount(codes, weights=centred) ** 2 / counts).sum())
    groups = len(counts)
    if groups < 2 or rows <= groups or not total > 0 or not math.isfinite(total):
        return None
    share = 1 - (1 - within_groups / total) * (rows - 1) / (rows - groups)
    return round(math.sqrt(max(0.0, min(1.0, share))), 4) if math.isfinite(share) else None
