"""Why a model says what it says of a row: what each feature adds to the answer, beside what is said of other rows.

Shapley values, with rows of a background for the features that a coalition lacks. Sums and trees have exact ones (lakehouse.learning.shapley).
Any other model is asked: by sampled orders of the features (Castro et al. 2009, each order with its reverse), a row of the background is
turned into the row in question, feature by feature, and each feature gets what the answer changes by at its turn. For every order the changes
add up to the difference of the two answers, so contributions and base always add up to the answer, however few orders there was time for;
which features share a joint effect, and how, gets surer with their number.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lakehouse.learning.margins import Reading, Unit, reading_of
from lakehouse.learning.registry import LoadedModel
from lakehouse.learning.scoring import NUMBER
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pandas as pd

    Values = np.ndarray[Any, np.dtype[np.float64]]

REASONS = "reasons"
REASONS_UNIT = "reasons_unit"
REASONS_METHOD = "reasons_method"
_BACKGROUND = 64
_PAIRS = 8
_PIECE_ROWS = 1_000
# A tree costs little more for many rows than for few.
_EXACT_PIECE_ROWS = 10_000


class Method(StrEnum):
    """How contributions were found."""

    EXACT = "exact"
    SAMPLED = "sampled"


@dataclass(frozen=True, slots=True)
class Contributions:
    """What each feature adds to each row's answer.

    Attributes:
        features: the columns of `values`.
        values: rows by features; they and `base` add up to the answer.
        base: what was said of the background: of all its rows, or on the mean of the orders.
        orders: how many there was time for; None where contributions are exact.
        unit: of the answer, its base and the contributions; None of an answer that was made up.
    """

    features: tuple[str, ...]
    values: "Values"
    base: "Values"
    orders: int | None
    unit: Unit | None = None

    @property
    def method(self) -> Method:
        """How they were found."""
        return Method.EXACT if self.orders is None else Method.SAMPLED


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


class Explainer:
    """Explains what one model says, beside a background.

    Args:
        model: the model.
        background: rows with its features.
        seed: of the orders.
    """

    def __init__(self, model: LoadedModel, background: "pd.DataFrame", *, seed: int) -> None:
        self._model, self._background, self._seed = model, background, seed
        self._reading: Reading = reading_of(model.pipeline)
        self.is_exact = self._reading.parts is not None

    def explain(self, frame: "pd.DataFrame", *, until: float | None = None) -> Contributions:
        """Explain every row: of classes the one that the model answers, else the number.

        Once there was no time for exact contributions, those of all further rows are sampled.

        Args:
            frame: the rows, with the model's features.
            until: instant of `time.monotonic` to be done by; one pair of orders is always taken.
        """
        import numpy as np

        reading, used, which, everyone = self._reading, self._model.spec.used, self._asked(frame), np.arange(len(frame))
        if self.is_exact:
            values = reading.exact(frame, self._background, which=which, features=used, until=until)
            if values is not None:
                usual = reading.answers(self._background).mean(axis=0)
                return Contributions(tuple(used), values, usual[which], None, reading.unit)
            self.is_exact = False

        def answer(rows: "pd.DataFrame") -> "Values":
            return reading.answers(rows)[everyone, which]

        told = contributions(answer, frame, self._background, features=used, seed=self._seed, until=until)
        return replace(told, unit=reading.unit)

    def _asked(self, frame: "pd.DataFrame") -> "np.ndarray[Any, np.dtype[np.int64]]":
        """The place of each row's answer."""
        import numpy as np

        pipeline = self._model.pipeline
        if not hasattr(pipeline, "predict_proba"):
            return np.zeros(len(frame), dtype="int64")
        places = {str(one): place for place, one in enumerate(pipeline.classes_)}
        said = self._model.answer(frame).predicted
        return np.asarray([places[str(one)] for one in said], dtype="int64")


def drawn_background(con: "duckdb.DuckDBPyConnection", rows: str, model: LoadedModel, *, seed: int) -> "pd.DataFrame":
    """Some rows of a table with the model's features and NUMBER, the same ones for the same seed."""
    table = quote_identifier(rows)
    drawn = f"(SELECT * FROM {table} ORDER BY md5('{int(seed)}:' || {NUMBER}), {NUMBER} LIMIT {_BACKGROUND})"
    return model.spec.schema.fetch(con, drawn, order_by=[NUMBER])[list(model.spec.schema.names)]


def explain_rows(con: "duckdb.DuckDBPyConnection", rows: str, model: LoadedModel, *, into: str, top: int, seconds: float, seed: int) -> int:
    """Explain what a model says of every row of a table.

    Makes the table `into` of NUMBER, REASONS (a list of feature, value and contribution, the weightiest first), REASONS_UNIT and
    REASONS_METHOD. Rows for which there was no time are not in it. Returns how many are.

    Args:
        con: a session.
        rows: name of a table with the model's features and NUMBER, which counts its rows from 0.
        model: the model.
        into: name of the table to make.
        top: how many features per row.
        seconds: that it may take.
        seed: of the background and the orders.
    """
    ends = time.monotonic() + seconds
    table = quote_identifier(rows)
    reason = "STRUCT(feature VARCHAR, value VARCHAR, contribution DOUBLE)[]"
    columns = f"{NUMBER} BIGINT, {REASONS} {reason}, {REASONS_UNIT} VARCHAR, {REASONS_METHOD} VARCHAR"
    con.execute(f"CREATE OR REPLACE TEMP TABLE {quote_identifier(into)} ({columns})")
    found = con.execute(f"SELECT count(*) FROM {table}").fetchone()
    count, start = int(found[0]) if found else 0, 0
    if not count:
        return 0
    explainer = Explainer(model, drawn_background(con, rows, model, seed=seed), seed=seed)
    while start < count:
        left = ends - time.monotonic()
        if start and left <= 0:
            return start
        size = _EXACT_PIECE_ROWS if explainer.is_exact else _PIECE_ROWS
        piece = f"(SELECT * FROM {table} WHERE {NUMBER} >= {start} AND {NUMBER} < {start + size})"
        frame = model.spec.schema.fetch(con, piece, order_by=[NUMBER], extra=[NUMBER])
        # Each piece gets its share of the time that is left.
        until = time.monotonic() + left * min(1.0, size / (count - start))
        told = explainer.explain(frame[list(model.spec.schema.names)], until=until)
        _keep(con, frame, told, into=into, top=top)
        start += size
    return count


def _keep(con: "duckdb.DuckDBPyConnection", frame: "pd.DataFrame", told: Contributions, *, into: str, top: int) -> None:
    import numpy as np
    import pyarrow as pa

    order = np.argsort(-np.abs(told.values), axis=1, kind="stable")[:, :top]
    texts = {name: [value_text(one) for one in frame[name]] for name in told.features}
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
        how = f"{quote_literal(str(told.unit))}, {quote_literal(str(told.method))}"
        con.execute(f"INSERT INTO {quote_identifier(into)} SELECT *, {how} FROM __piece")
    finally:
        con.unregister("__piece")


def value_text(value: Any) -> str | None:
    """A value as people write it; a gap is None."""
    import pandas as pd

    if value == "" or pd.isna(value):
        return None
    return f"{value:.10g}" if isinstance(value, float) else str(value)
