"""Why a model says what it says of a row: what each feature adds to the answer, beside what is said of other rows.

Shapley values by sampled orders of the features (Castro et al. 2009, each order with its reverse): a row of the background is turned
into the row in question, feature by feature, and each feature gets what the answer changes by at its turn. Any model will do. For every
order the changes add up to the difference of the two answers, so contributions and base always add up to the prediction, however few
orders there was time for; which features share a joint effect, and how, gets surer with their number.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.learning.registry import LoadedModel
from lakehouse.learning.scoring import NUMBER
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pandas as pd

    Values = np.ndarray[Any, np.dtype[np.float64]]

REASONS = "reasons"
_BACKGROUND = 64
_PAIRS = 8
_PIECE_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Contributions:
    """What each feature adds to each row's answer.

    Attributes:
        features: the columns of `values`.
        values: rows by features; they and `base` add up to the answer.
        base: what was said of the background, on the mean of the orders.
        orders: how many there was time for.
    """

    features: tuple[str, ...]
    values: "Values"
    base: "Values"
    orders: int


def contributions(
    answer: "Callable[[pd.DataFrame], Values]",
    frame: "pd.DataFrame",
    background: "pd.DataFrame",
    *,
    features: Sequence[str],
    seed: int,
    pairs: int = _PAIRS,
    until: float | None = None,
) -> Contributions:
    """Explain one number per row.

    Args:
        answer: the number of each row of a frame that has the rows' order.
        frame: the rows.
        background: rows that they are told from.
        features: columns that the answer may depend on; of the others the row's own values are used throughout.
        seed: same seed, same orders.
        pairs: of orders; each is one order and its reverse.
        until: instant of `time.monotonic` from which no further pair is begun; the first always is.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    names = list(features)
    values, base, orders = np.zeros((len(frame), len(names))), np.zeros(len(frame)), 0
    for _ in range(pairs):
        if orders and until is not None and time.monotonic() >= until:
            break
        order, other = random.permutation(len(names)), background.iloc[[int(random.integers(len(background)))]]
        for turn in (order, order[::-1]):
            mixed = frame.copy()
            for name in names:
                mixed[name] = np.repeat(other[name].to_numpy(), len(frame))
            before = answer(mixed)
            base += before
            for place in turn:
                mixed[names[place]] = frame[names[place]].to_numpy()
                after = answer(mixed)
                values[:, place] += after - before
                before = after
            orders += 1
    return Contributions(tuple(names), values / orders, base / orders, orders)


def explain_rows(con: "duckdb.DuckDBPyConnection", rows: str, model: LoadedModel, *, into: str, top: int, seconds: float, seed: int) -> int:
    """Explain what a model says of every row of a table: of classes the probability of the one it answers, else the number.

    Makes the table `into` of NUMBER and REASONS, a list of feature, value and contribution, the weightiest first. Rows for which there was
    no time are not in it. Returns how many are.

    Args:
        con: a session.
        rows: name of a table with the model's features and NUMBER.
        model: the model.
        into: name of the table to make.
        top: how many features per row.
        seconds: that it may take.
        seed: of the background and the orders.
    """
    ends = time.monotonic() + seconds
    table = quote_identifier(rows)
    reason = "STRUCT(feature VARCHAR, value VARCHAR, contribution DOUBLE)[]"
    con.execute(f"CREATE OR REPLACE TEMP TABLE {quote_identifier(into)} ({NUMBER} BIGINT, {REASONS} {reason})")
    drawn = f"(SELECT * FROM {table} ORDER BY md5('{int(seed)}:' || {NUMBER}), {NUMBER} LIMIT {_BACKGROUND})"
    names = list(model.spec.schema.names)
    background = model.spec.schema.fetch(con, drawn, order_by=[NUMBER])[names]
    found = con.execute(f"SELECT count(*) FROM {table}").fetchone()
    count = int(found[0]) if found else 0
    for start in range(0, count, _PIECE_ROWS):
        left = ends - time.monotonic()
        if start and left <= 0:
            return start
        piece = f"(SELECT * FROM {table} WHERE {NUMBER} >= {start} AND {NUMBER} < {start + _PIECE_ROWS})"
        frame = model.spec.schema.fetch(con, piece, order_by=[NUMBER], extra=[NUMBER])
        # Each piece gets its share of the time that is left.
        until = time.monotonic() + left * min(1.0, _PIECE_ROWS / (count - start))
        told = contributions(_answer_of(model, frame[names]), frame[names], background, features=model.spec.used, seed=seed, until=until)
        _keep(con, frame, told, into=into, top=top)
    return count


def _answer_of(model: LoadedModel, frame: "pd.DataFrame") -> "Callable[[pd.DataFrame], Values]":
    import numpy as np

    pipeline = model.pipeline
    if not hasattr(pipeline, "predict_proba"):
        return lambda rows: np.asarray(pipeline.predict(rows), dtype="float64")
    places = {str(one): place for place, one in enumerate(pipeline.classes_)}
    from lakehouse.learning.evaluation import predict

    said = predict(pipeline, frame, positive=model.spec.positive).predicted
    columns, all_rows = np.asarray([places[str(one)] for one in said]), np.arange(len(frame))
    return lambda rows: np.asarray(pipeline.predict_proba(rows), dtype="float64")[all_rows, columns]


def _keep(con: "duckdb.DuckDBPyConnection", frame: "pd.DataFrame", told: Contributions, *, into: str, top: int) -> None:
    import numpy as np
    import pyarrow as pa

    order = np.argsort(-np.abs(told.values), axis=1, kind="stable")[:, :top]
    texts = {name: [_text(one) for one in frame[name]] for name in told.features}
    reasons = [
        [
            {"feature": told.features[place], "value": texts[told.features[place]][row], "contribution": float(told.values[row, place])}
            for place in places
            if told.values[row, place] != 0
        ]
        for row, places in enumerate(order)
    ]
    kind = pa.list_(pa.struct([("feature", pa.string()), ("value", pa.string()), ("contribution", pa.float64())]))
    con.register("__piece", pa.table({NUMBER: pa.array(frame[NUMBER].to_numpy()), REASONS: pa.array(reasons, kind)}))
    try:
        con.execute(f"INSERT INTO {quote_identifier(into)} SELECT * FROM __piece")
    finally:
        con.unregister("__piece")


def _text(value: Any) -> str | None:
    """A value as people write it; a gap is None."""
    import pandas as pd

    if value == "" or pd.isna(value):
        return None
    return f"{value:.10g}" if isinstance(value, float) else str(value)
