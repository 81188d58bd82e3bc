"""Exact Shapley values of sums of columns and of decision trees, where the players are features and a feature may own several columns.

The game is the interventional one (Janzing et al. 2020): a coalition of features keeps the values of the row in question, the others take
those of a row of the background, and the worth is the mean answer over the background. Pure: arrays in, arrays out.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Values = np.ndarray[Any, np.dtype[np.float64]]
    Whole = np.ndarray[Any, np.dtype[np.int64]]

_MOST_ON_A_PATH = 62


@dataclass(frozen=True, slots=True)
class Tree:
    """A fitted tree as arrays, one entry per node; node 0 is the root.

    Attributes:
        left: the child of those at most the threshold; -1 of a leaf.
        right: the child of the others; -1 of a leaf.
        column: what is compared.
        threshold: with what.
        gaps_left: whether a missing value goes to the left.
        says: nodes by answers; of a leaf what it adds to each.
    """

    left: "Whole"
    right: "Whole"
    column: "Whole"
    threshold: "Values"
    gaps_left: "np.ndarray[Any, np.dtype[np.bool_]]"
    says: "Values"


@dataclass(frozen=True, slots=True)
class Question:
    """The rows that are explained.

    Attributes:
        rows: by columns; a sum takes a sparse matrix too, trees don't.
        background: the rows that they are told from, by the same columns.
        owners: the feature that each column belongs to, counted from 0.
        features: how many there are.
        answers: which of the model's answers each row asks about.
    """

    rows: Any
    background: Any
    owners: "Whole"
    features: int
    answers: "Whole"


def of_sum(weights: "Values", asked: Question) -> "Values":
    """Rows by features: what each feature adds to the weighted sum of the columns, beside the background's mean.

    Args:
        weights: columns by answers.
        asked: the rows.
    """
    import numpy as np
    from scipy import sparse

    columns = np.arange(len(asked.owners))
    values = np.zeros((asked.rows.shape[0], asked.features))
    for answer in np.unique(asked.answers):
        which = np.flatnonzero(asked.answers == answer)
        shares = sparse.csr_matrix((weights[:, answer], (columns, asked.owners)), shape=(len(columns), asked.features))
        own, others = asked.rows[which] @ shares, asked.background @ shares
        values[which] = (own.toarray() if sparse.issparse(own) else own) - np.asarray(others.mean(axis=0)).ravel()
    return values


def of_trees(
    trees: Sequence[Tree], asked: Question, *, until: float | None = None, clock: Callable[[], float] = time.monotonic
) -> "Values | None":
    """Rows by features: what each feature adds to the sum of the trees; None where that would take longer than there is time.

    A leaf answers for a mixture of two rows if every feature on its way there is of a row that may pass: those features that only the row in
    question lets pass have to be its own, those that only the background's lets pass must not be, and the rest don't matter. Of `own` and
    `not_own` such features, each of the first gets (own - 1)! not_own! / (own + not_own)! of the leaf, and each of the second
    loses own! (not_own - 1)! / (own + not_own)! of it (Lundberg et al. 2020, interventional). Which features a row lets pass is one whole
    number per row, a bit for each that it does not, so that rows which differ in nothing on the way are reckoned once.

    Args:
        trees: whose answers are added up.
        asked: the rows.
        until: instant of `clock`. After each tree the time for the others is judged by those that are done.
        clock: seconds.
    """
    import numpy as np

    values = np.zeros((len(asked.rows), asked.features))
    began = clock()
    for done, tree in enumerate(trees, start=1):
        if not _add_tree(tree, asked, values):
            return None
        now = clock()
        if until is not None and now + (now - began) / done * (len(trees) - done) > until:
            return None
    return values


@dataclass(slots=True)
class _Visit:
    """A node, the features on the way to it, and the rows that matter there, each with the bits of the features that stop it."""

    node: int
    path: list[int]
    rows: "Whole"
    stops_rows: "Whole"
    others: "Whole"
    stops_others: "Whole"


def _add_tree(tree: Tree, asked: Question, values: "Values") -> bool:
    """Add a tree's part; False if more features are on one way than there are bits."""
    import numpy as np

    everyone, others = np.arange(len(asked.rows)), np.arange(len(asked.background))
    waiting = [_Visit(0, [], everyone, np.zeros_like(everyone), others, np.zeros_like(others))]
    while waiting:
        visit = waiting.pop()
        if tree.left[visit.node] < 0:
            if visit.path:
                _add_leaf(tree.says[visit.node], visit, asked, values)
            continue
        owner, path = int(asked.owners[tree.column[visit.node]]), visit.path
        if owner not in path:
            path = [*path, owner]
            if len(path) > _MOST_ON_A_PATH:
                return False
        bit = 1 << path.index(owner)
        rows_left = _goes_left(tree, visit.node, asked.rows, visit.rows)
        others_left = _goes_left(tree, visit.node, asked.background, visit.others)
        for child, stopped, stopped_others in (
            (tree.left[visit.node], ~rows_left, ~others_left),
            (tree.right[visit.node], rows_left, others_left),
        ):
            stops, stops_others = visit.stops_rows | (bit * stopped), visit.stops_others | (bit * stopped_others)
            met = _Visit(int(child), path, visit.rows, stops, visit.others, stops_others)
            if _leave_out_who_cannot_come(met):
                waiting.append(met)
    return True


def _goes_left(tree: Tree, node: int, table: "Values", rows: "Whole") -> "np.ndarray[Any, np.dtype[np.bool_]]":
    import numpy as np

    seen = table[rows, tree.column[node]]
    goes = seen <= tree.threshold[node]
    return goes | np.isnan(seen) if tree.gaps_left[node] else goes


def _leave_out_who_cannot_come(visit: _Visit) -> bool:
    """Leave out rows that come here in no mixture: of every other row some feature stops both. Whether any come."""
    own_stops, which = _distinct(visit.stops_rows, len(visit.path))
    their_stops, whose = _distinct(visit.stops_others, len(visit.path))
    meets = (own_stops[:, None] & their_stops[None, :]) == 0
    come, others_come = meets.any(axis=1), meets.any(axis=0)
    if not come.all():
        keep = come[which]
        visit.rows, visit.stops_rows = visit.rows[keep], visit.stops_rows[keep]
    if not others_come.all():
        keep = others_come[whose]
        visit.others, visit.stops_others = visit.others[keep], visit.stops_others[keep]
    return bool(come.any())


def _distinct(stops: "Whole", bits: int) -> tuple["Whole", "Whole"]:
    """The distinct numbers, and which of them each is."""
    import numpy as np

    if 1 << bits > 4 * len(stops):
        return np.unique(stops, return_inverse=True)
    # Few bits are counted faster than sorted.
    present = np.zeros(1 << bits, dtype=bool)
    present[stops] = True
    return np.flatnonzero(present), (np.cumsum(present) - 1)[stops]


def _add_leaf(says: "Values", visit: _Visit, asked: Question, values: "Values") -> None:
    import numpy as np

    own_stops, which = _distinct(visit.stops_rows, len(visit.path))
    their_stops, times = np.unique(visit.stops_others, return_counts=True)
    meets = (own_stops[:, None] & their_stops[None, :]) == 0
    own, not_own = np.bitwise_count(their_stops)[None, :].astype("int64"), np.bitwise_count(own_stops)[:, None].astype("int64")
    part = _parts()
    weight = meets * (times / len(asked.background))
    bits = 1 << np.arange(len(visit.path))
    gained = (weight * part[own, not_own]) @ ((their_stops[:, None] & bits) != 0).astype("float64")
    lost = (weight * part[not_own, own]).sum(axis=1)[:, None] * ((own_stops[:, None] & bits) != 0)
    values[np.ix_(visit.rows, np.asarray(visit.path))] += (gained - lost)[which] * says[asked.answers[visit.rows]][:, None]


@cache
def _parts() -> "Values":
    """What one of `own` features gets beside `not_own` others, (own - 1)! not_own! / (own + not_own)!, by both; 0 where there is none."""
    import numpy as np

    numbers = range(_MOST_ON_A_PATH + 1)
    return np.asarray([[1 / (own * math.comb(own + others, own)) if own else 0.0 for others in numbers] for own in numbers])
