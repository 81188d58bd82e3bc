"""Features that were computed from the labels they are to predict: means of the target that do not scatter as means of few rows do."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# So unlikely that it does not happen by chance in any number of columns that a table has.
_IMPOSSIBLE = 1e-9
_LEAST_GROUPS = 8
# Degrees of freedom that a variance is measured by: neighbours share one, since it may grow with the value (as that of a rare class).
_FREEDOM = 40


def computed_from_labels(values: "pd.Series", targets: "np.ndarray[Any, Any]") -> str | None:
    """Whether a number follows the labels' own means more closely than chance lets anything follow them.

    The mean label of the rows that share a value scatters around what it truly is, because they are few. A column that is the mean
    of those very labels (an encoding that was fitted on all rows, an average over the rows to be predicted) does not scatter at all.

    Args:
        values: a number per row.
        targets: rows x columns; of classes one column per class, of 0 and 1.

    Returns:
        What was found, in numbers, and what it means; None where the scatter is that of chance.
    """
    import numpy as np
    import pandas as pd

    for target in targets.T:
        table = pd.DataFrame({"value": values.to_numpy(), "target": target}).replace([np.inf, -np.inf], np.nan).dropna()
        groups = table.groupby("value")["target"].agg(["size", "mean"])
        several = groups[groups["size"] >= 2]
        if len(several) < _LEAST_GROUPS or several["size"].sum() < 0.5 * len(table):
            continue
        if _chance_of_so_little_scatter(table[table["value"].isin(several.index)]) < _IMPOSSIBLE:
            return (
                f"is the mean of the target over the rows that share its value ({len(several):,} values): it was computed from the labels"
                " that it is to predict; use the column that it was computed by, which is encoded out of fold here"
            )
    return None


def _chance_of_so_little_scatter(table: "pd.DataFrame") -> float:
    """The probability of means as near to a line over the values, if they scattered as means of so many labels do.

    The squared distances, in units of what is expected, add up to the number of groups. Their sum is compared with a chi-square
    distribution of equal mean and variance (Satterthwaite 1946): means of few labels that hardly ever vary, as those of a rare
    class, are mostly right on the line by nature.
    """
    import numpy as np
    from scipy.stats import chi2

    table = table.sort_values("value", kind="stable")
    target, groups = table["target"].to_numpy(), table.groupby("value")["target"]
    value, size, mean = np.unique(table["value"]), groups.size().to_numpy(), groups.mean().to_numpy()
    line = np.polyval(np.polyfit(table["value"], target, 1), value)
    block = (np.cumsum(size - 1) - 1) // _FREEDOM
    block_of_row = np.repeat(block, size)

    def per_block(of_rows: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        return np.bincount(block_of_row, weights=of_rows)

    freedom = np.maximum(np.bincount(block, weights=size - 1), 1)
    variance = (per_block((target - np.repeat(mean, size)) ** 2) / freedom)[block]
    varies = variance > 0
    count = int(varies.sum())
    if count < _LEAST_GROUPS:
        return 1.0
    around = target - np.repeat(line, size)
    rows = np.maximum(np.bincount(block_of_row), 1)
    tails = (per_block(around**4) / rows)[block][varies] / (per_block(around**2) / rows)[block][varies] ** 2 - 3
    distances = (size * (mean - line) ** 2)[varies] / variance[varies]
    # Of n values with this kurtosis beyond the normal one, the squared mean has the variance 2 + kurtosis / n.
    likeness = 2 * count / float((2 + np.maximum(tails, 0) / size[varies]).sum())
    return float(chi2.cdf(distances.sum() * likeness, likeness * (count - 2)))
