"""Outcomes of a model's predictions, counted in SQL from the rows that labels have come for, and kept in `monitoring.outcomes`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import duckdb

from lakehouse.contracts import ModelContract
from lakehouse.monitoring.judged import JUDGED, Judged, judged_rows
from lakehouse.monitoring.outcomes.measures import (
    Bin,
    Calibration,
    Moved,
    Segment,
    SegmentSums,
    Threshold,
    best_threshold,
    calibration,
    error_of_gain,
    segments,
)
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Stamp

TABLE = "monitoring.outcomes"
_BINS = 10
_THRESHOLDS = 100
_MOST_VALUES = 20


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the predictions of one model version.

    Attributes:
        calibration: of the positive class's probability, or of the confidence where there are more classes; None for numbers.
        confidence: rows by confidence, in ten equal intervals from 0 to 1; empty for numbers.
        segments: by the values of the label table's columns that have few.
        threshold: None without a positive class.
    """

    model: str
    model_version: str
    rows: int
    calibration: Calibration | None
    confidence: tuple[int, ...]
    segments: tuple[Segment, ...]
    threshold: Threshold | None
    measured_at: datetime

    @property
    def worse_segments(self) -> tuple[Segment, ...]:
        """Where the model errs more, beyond chance and by much."""
        return tuple(one for one in self.segments if one.is_worse)


def measure_outcomes(lake: Lake, contract: ModelContract, *, run: str, now: datetime) -> tuple[Outcomes, ...]:
    """Look closer at the predictions whose labels have come, of each version that answered; record it.

    The version in production comes first if it has enough labels, then the one with the most. Of fewer labels than the contract's
    `rollout.min_rows` nothing is concluded: they give nothing.
    """
    with judged_rows(lake, contract) as found:
        if found is None or not found.rows:
            return ()
        versions = found.con.execute(
            f"SELECT model_version FROM {JUDGED} GROUP BY 1 HAVING count(*) >= {contract.rollout.min_rows} "
            f"ORDER BY model_version IS NOT DISTINCT FROM {quote_literal(found.ledger.production)} DESC, count(*) DESC, 1"
        ).fetchall()
        outcomes = tuple(_measured(found, contract, str(version), now) for (version,) in versions)
        inputs = found.inputs
    rows = [row for one in outcomes for row in _rows(one, run)]
    if rows:
        with lake.connect(()) as session:
            sql = " UNION ALL ".join(rows)
            lake.append(session.con, TABLE, sql, stamp=Stamp(asset=TABLE, run=run, inputs=inputs, code="outcomes-1"))
    return outcomes


def _measured(found: Judged, contract: ModelContract, version: str, now: datetime) -> Outcomes:
    con, columns = found.con, found.columns
    con.execute(f"CREATE OR REPLACE TEMP TABLE __of_version AS SELECT * FROM {JUDGED} WHERE model_version = {quote_literal(version)}")
    is_class = contract.problem == "classification"
    counted = con.execute("SELECT count(*) FROM __of_version").fetchone() or (0,)
    has_probability = "probability" in columns and contract.positive_class is not None
    said = "probability" if has_probability else "confidence"
    is_so = f"label = {quote_literal(contract.positive_class)}" if has_probability else "label = prediction"
    is_judged = is_class and said in columns
    return Outcomes(
        model=contract.name,
        model_version=version,
        rows=int(counted[0]),
        calibration=_calibration(con, said, is_so) if is_judged else None,
        confidence=_confidence(con) if is_class and "confidence" in columns else (),
        segments=_segments(con, columns, "(label <> prediction)::DOUBLE" if is_class else "abs(label - prediction)"),
        threshold=_threshold(con, is_so) if is_judged and has_probability else None,
        measured_at=now,
    )


def _bin(value: str, bins: int) -> str:
    return f"least(floor({value} * {bins}), {bins - 1})::INTEGER"


def _calibration(con: duckdb.DuckDBPyConnection, said: str, is_so: str) -> Calibration | None:
    rows = con.execute(
        f"SELECT {_bin(said, _BINS)} AS bin, count(*), avg({said}), avg(({is_so})::INTEGER), sum(({said} - ({is_so})::INTEGER) ** 2) "
        f"FROM __of_version WHERE {said} IS NOT NULL GROUP BY bin ORDER BY bin"
    ).fetchall()
    bins = [Bin(place / _BINS, (place + 1) / _BINS, int(count), mean, share) for place, count, mean, share, _ in rows]
    return calibration(bins, squared=sum(row[4] for row in rows))


def _confidence(con: duckdb.DuckDBPyConnection) -> tuple[int, ...]:
    rows = con.execute(f"SELECT {_bin('confidence', _BINS)} AS bin, count(*) FROM __of_version WHERE confidence IS NOT NULL GROUP BY bin")
    counts = dict(rows.fetchall())
    return tuple(int(counts.get(place, 0)) for place in range(_BINS))


def _threshold(con: duckdb.DuckDBPyConnection, is_so: str) -> Threshold | None:
    rows = con.execute(
        f"SELECT {_bin('probability', _THRESHOLDS)} AS bin, count(*) FILTER ({is_so}), count(*) FILTER (NOT ({is_so})) "
        "FROM __of_version WHERE probability IS NOT NULL GROUP BY bin"
    ).fetchall()
    counts = {place: (int(yes), int(no)) for place, yes, no in rows}
    pairs = [counts.get(place, (0, 0)) for place in range(_THRESHOLDS)]
    found = best_threshold([yes for yes, _ in pairs], [no for _, no in pairs])
    if found is None:
        return None
    # What was said may have gone by another threshold than one half.
    is_right, would_be = "prediction = label", f"({_bin('probability', _THRESHOLDS)} >= {round(found.value * _THRESHOLDS)}) = ({is_so})"
    rows = con.execute(
        f"SELECT count(*), count(*) FILTER (({would_be}) AND NOT ({is_right})), count(*) FILTER (NOT ({would_be}) AND ({is_right})), "
        f"avg(({is_right})::INTEGER) FROM __of_version WHERE probability IS NOT NULL GROUP BY ({is_so})"
    ).fetchall()
    moved = [Moved(int(count), int(won), int(lost)) for count, won, lost, _ in rows]
    return replace(found, now=sum(float(right) for *_, right in rows) / len(rows), standard_error=error_of_gain(*moved))


def _segments(con: duckdb.DuckDBPyConnection, columns: Mapping[str, str], error: str) -> tuple[Segment, ...]:
    """By every text or truth value of few values, and by what was predicted where that is a class."""
    asked = {name.removeprefix("segment_"): name for name, kind in columns.items() if name.startswith("segment_") and kind in _CLASSES}
    if columns["prediction"] == "VARCHAR":
        asked = {"prediction": "prediction", **asked}
    if not asked:
        return ()
    distinct = ", ".join(f"approx_count_distinct({quote_identifier(name)})" for name in asked.values())
    few = con.execute(f"SELECT {distinct} FROM __of_version").fetchone() or ()
    kept = {column: name for (column, name), values in zip(asked.items(), few, strict=True) if 1 < values <= _MOST_VALUES}
    measures = f"count(*), sum({error}), sum(({error}) ** 2)"
    total = con.execute(f"SELECT {measures} FROM __of_version WHERE ({error}) IS NOT NULL").fetchone() or (0, 0.0, 0.0)
    if not kept or not total[0]:
        return ()
    parts = [
        f"SELECT {quote_literal(column)}, CAST({quote_identifier(name)} AS VARCHAR) AS value, {measures} FROM __of_version "
        f"WHERE {quote_identifier(name)} IS NOT NULL AND ({error}) IS NOT NULL GROUP BY value"
        for column, name in kept.items()
    ]
    sums = [SegmentSums(str(row[0]), str(row[1]), int(row[2]), row[3], row[4]) for row in con.execute(" UNION ALL ".join(parts)).fetchall()]
    return segments(sums, SegmentSums("", "", int(total[0]), total[1], total[2]))


_CLASSES = ("VARCHAR", "BOOLEAN")


def _rows(one: Outcomes, run: str) -> Iterator[str]:
    """What is recorded, each row as a SELECT."""
    if one.calibration is not None:
        found = one.calibration
        yield _row(one, run, "calibration_error", "", rows=one.rows, observed=found.error, p_value=found.p_value, flagged=not found.is_well)
        yield _row(one, run, "brier", "", rows=one.rows, observed=found.brier)
        for part in found.bins:
            yield _row(
                one, run, "calibration", f"{part.low:g} to {part.high:g}", rows=part.rows, expected=part.predicted, observed=part.observed
            )
    for place, count in enumerate(one.confidence):
        yield _row(one, run, "confidence", f"{place / _BINS:g} to {(place + 1) / _BINS:g}", rows=count)
    for part in one.segments:
        name = f"{part.column} = {part.value}"
        yield _row(
            one,
            run,
            "segment",
            name,
            rows=part.rows,
            expected=part.others,
            observed=part.error,
            p_value=part.p_value,
            flagged=part.is_worse,
        )
    if one.threshold is not None:
        found = one.threshold
        yield _row(
            one,
            run,
            "threshold",
            f"{found.value:g}",
            rows=one.rows,
            expected=found.now,
            observed=found.balanced_accuracy,
            flagged=found.is_worth_it,
        )


def _row(
    one: Outcomes,
    run: str,
    kind: str,
    name: str,
    *,
    rows: int,
    expected: float | None = None,
    observed: float | None = None,
    p_value: float | None = None,
    flagged: bool = False,
) -> str:
    values: dict[str, tuple[Any, str]] = {
        "measured_at": (one.measured_at, "TIMESTAMPTZ"),
        "model": (one.model, "VARCHAR"),
        "model_version": (one.model_version, "VARCHAR"),
        "kind": (kind, "VARCHAR"),
        "name": (name, "VARCHAR"),
        "rows": (rows, "BIGINT"),
        "expected": (None if expected is None else repr(expected), "DOUBLE"),
        "observed": (None if observed is None else repr(observed), "DOUBLE"),
        "p_value": (None if p_value is None else repr(p_value), "DOUBLE"),
        "flagged": (flagged, "BOOLEAN"),
        "run": (run, "VARCHAR"),
    }
    return "SELECT " + ", ".join(
        f"CAST({quote_literal(value)} AS {kind}) AS {quote_identifier(key)}" for key, (value, kind) in values.items()
    )
