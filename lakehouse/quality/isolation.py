"""Rows that stand alone: an isolation forest over samples of the newest batch and of those before, once per batch.

Its numbers may each be within what is usual; all at once they are not. Made after ingestion, by `lakehouse run` and the quality
job, because scikit-learn takes longer to load than most batches take to ingest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import Column, DatasetContract, Severity
from lakehouse.contracts.inference import naming
from lakehouse.quality.measures import is_hidden, is_measured
from lakehouse.quality.results import CHECKS_TABLE, CheckResult, results_sql
from lakehouse.quality.samples import place_sql
from lakehouse.quality.usual import usual
from lakehouse.quality.usualness import PINNED, batch_result, pinned_limits
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Stamp, Transaction

if TYPE_CHECKING:
    import duckdb
    import numpy as np

CHECK = "batch.outlier_rows"
_MOST_ROWS = 10_000
# Files of earlier batches are read, newest first, until they hold so many rows.
_READ_ROWS = 200_000
_EARLIER_BATCHES = 30
_LEAST_ROWS = 200
_LEAST_OF_BATCH = 20
_USUAL_SHARE = 0.01
_LEAST_SPREAD = 0.003
_GROSS = 0.03
_MOST_COLUMNS = 50
_SHOWN = 3
_COUNTS_UP = 5
_SEED = 7


@dataclass(frozen=True, slots=True)
class _Rows:
    """Sampled rows: numbers by column (NaN where there is none), their batch and their place."""

    numbers: "np.ndarray[Any, Any]"
    batches: "np.ndarray[Any, Any]"
    places: Sequence[str]


def check_outlier_rows(lake: Lake, contract: DatasetContract, *, run: str, now: datetime) -> list[CheckResult]:
    """Judge the rows of the newest batch, and record the answer with that batch's others; nothing where that has been done.

    The same tables give the same answer: samples are chosen by a hash of the rows' places, and the forest has a fixed seed.

    Args:
        lake: the tables.
        contract: the dataset's.
        run: recorded with the answer.
        now: likewise.
    """
    pin = contract.usual.get("outlierRows")
    columns = _columns(contract)
    if (pin is not None and pin.is_off) or not columns or not lake.exists(CHECKS_TABLE) or not lake.exists(contract.raw):
        return []
    with lake.connect([CHECKS_TABLE]) as session:
        row = session.con.execute(f"SELECT max(batch) FROM {CHECKS_TABLE} WHERE dataset = {quote_literal(contract.name)}").fetchone()
    batch = None if row is None else row[0]
    once = f"outliers.{contract.name}"
    if batch is None or (lake.transaction(CHECKS_TABLE, once) or -1) >= batch:
        return []
    con = lake.open_connection()
    try:
        result = _judge(lake, con, contract, columns, batch=int(batch))
        if result is None:
            return []
        sql = results_sql([result], batch=batch, run=run, at=now)
        stamp = Stamp(asset=CHECKS_TABLE, run=run, code=contract.digest)
        lake.append(con, CHECKS_TABLE, sql, stamp=stamp, transaction=Transaction(once, int(batch)))
    finally:
        con.close()
    return [result]


def _columns(contract: DatasetContract) -> list[Column]:
    """Numbers that say something about what a row is about."""
    found = [one for one in contract.columns if is_measured(contract, one) and not naming.is_identifier(one.name)]
    return found[:_MOST_COLUMNS]


def _judge(
    lake: Lake, con: "duckdb.DuckDBPyConnection", contract: DatasetContract, columns: Sequence[Column], *, batch: int
) -> CheckResult | None:
    now = _sample(lake, con, contract, columns, low=batch, high=batch)
    before = _sample(lake, con, contract, columns, low=batch - _EARLIER_BATCHES, high=batch - 1)
    if now is None or before is None or len(before.batches) < _LEAST_ROWS:
        return None
    columns, now, before = _without_counters(columns, now, before)
    if not columns:
        return None
    return _compared(contract, columns, now, before)


def _sample(
    lake: Lake, con: "duckdb.DuckDBPyConnection", contract: DatasetContract, columns: Sequence[Column], *, low: int, high: int
) -> _Rows | None:
    """Some rows of batches, from the files that may hold them; the same ones in whatever order they lie."""
    import numpy as np

    snapshot = lake.snapshot(contract.raw)
    there = {column.name for column in snapshot.columns}
    mine = [
        file
        for file in snapshot.files
        if (file.facts.get("max._batch") is None or file.facts["max._batch"] >= low)
        and (file.facts.get("min._batch") is None or file.facts["min._batch"] <= high)
    ]
    chosen: list[str] = []
    held = 0
    for file in sorted(mine, key=lambda one: (-(one.facts.get("max._batch") or 0), one.path)):
        if held >= _READ_ROWS and low != high:
            break
        chosen.append(file.uri.removeprefix("file://"))
        held += file.rows or 0
    if not chosen or any(column.name not in there for column in columns):
        return None
    numbers = ", ".join(f"CAST({quote_identifier(one.name)} AS DOUBLE) AS {quote_identifier(f'x{n}')}" for n, one in enumerate(columns))
    every = max(1, held // (_MOST_ROWS * 2))
    found = con.execute(
        f"SELECT _batch, {place_sql(contract)} AS place, {numbers} FROM ({snapshot.scan_sql(con, files=chosen)}) "
        f"WHERE _batch BETWEEN {low} AND {high} AND hash(_sha256, _row) % {every} = 0 ORDER BY hash(_sha256, _row), place LIMIT {_MOST_ROWS}"
    ).fetchnumpy()
    if not len(found["_batch"]):
        return None
    values = [np.ma.filled(np.ma.asarray(found[f"x{n}"], dtype=float), np.nan) for n in range(len(columns))]
    table = np.column_stack(values)
    table[~np.isfinite(table) | (np.abs(table) > 1e30)] = np.nan
    return _Rows(table, np.asarray(found["_batch"]), [str(place) for place in found["place"]])


def _without_counters(columns: Sequence[Column], now: _Rows, before: _Rows) -> tuple[list[Column], _Rows, _Rows]:
    """What grows from batch to batch, like a number or a year, makes every new row stand alone; and what has no value says nothing."""
    import numpy as np

    kept: list[int] = []
    batches = sorted(set(before.batches.tolist()))
    for place in range(len(columns)):
        per_batch = [before.numbers[before.batches == batch, place] for batch in batches]
        middles = [float(np.nanmedian(one)) for one in [*per_batch, now.numbers[:, place]] if np.isfinite(one).any()]
        steps = np.diff(middles)
        is_counter = len(steps) >= _COUNTS_UP and (bool((steps > 0).all()) or bool((steps < 0).all()))
        if not is_counter and np.isfinite(before.numbers[:, place]).any():
            kept.append(place)
    return (
        [columns[place] for place in kept],
        _Rows(now.numbers[:, kept], now.batches, now.places),
        _Rows(before.numbers[:, kept], before.batches, before.places),
    )


def _compared(contract: DatasetContract, columns: Sequence[Column], now: _Rows, before: _Rows) -> CheckResult:
    """A forest grown on half of the earlier rows; the other half says how far out a row in a hundred usually is."""
    import numpy as np
    from sklearn.ensemble import IsolationForest

    middles = np.nanmedian(before.numbers, axis=0)
    spread = np.nanmedian(np.abs(before.numbers - middles), axis=0) * 1.4826
    spread[spread <= 0] = 1.0
    earlier, newest = (np.where(np.isnan(one.numbers), middles, one.numbers) for one in (before, now))
    # Rows come in the order of their hashes: every second one is as good as drawn.
    forest = IsolationForest(n_estimators=100, random_state=_SEED).fit(earlier[::2])
    held_out, scores = -forest.score_samples(earlier[1::2]), -forest.score_samples(newest)
    limit = float(np.quantile(held_out, 1 - _USUAL_SHARE))
    share = float((scores > limit).mean())
    batches = before.batches[1::2]
    groups = [held_out[batches == batch] for batch in sorted(set(batches.tolist()))]
    shares = [float((one > limit).mean()) for one in groups if len(one) >= _LEAST_OF_BATCH]
    rows = len(scores)
    noise = math.sqrt(_USUAL_SHARE * (1 - _USUAL_SHARE) / rows)
    learned = usual(shares, least_spread=max(_LEAST_SPREAD, noise))
    high = learned.high if learned is not None else 2 * max([*shares, _USUAL_SHARE]) + _GROSS + 6 * noise
    low, how = -math.inf, "usually"
    pinned = pinned_limits(contract.usual.get("outlierRows"))
    if pinned is not None:
        low, high, how = pinned.low, pinned.high, PINNED
    passed = low <= share <= high
    detail = f"{share:.2%} of {rows:,} rows looked at stand alone (isolation forest), {how} at most {high:.2%}"
    metadata: dict[str, object] = {"found": share, "high": high, "rows": rows, "pinned": pinned is not None}
    if not passed and share > high:
        distance = np.abs(newest - middles) / spread
        told = [
            f"{now.places[at]}: {_value(columns[which], newest[at, which])}"
            for at in np.argsort(-scores, kind="stable")[:_SHOWN]
            for which in [int(np.argmax(distance[at]))]
        ]
        detail += f"; such as {'; '.join(told)}"
        metadata["samples"] = told
    return batch_result(contract, CHECK, Severity.WARNING, passed=passed, detail=detail, metadata=metadata)


def _value(column: Column, value: float) -> str:
    return f"{column.name} most of all" if is_hidden(column) else f"{column.name} is {value:.6g}"
