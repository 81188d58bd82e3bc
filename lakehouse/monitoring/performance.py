"""How predictions turned out once the labels came: measured on rows that the model that predicted them had not learned from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import ModelContract
from lakehouse.learning.evaluation import Predictions, answers
from lakehouse.learning.judging import Said, judged_metric, standard_error, usual_metric, value_of
from lakehouse.learning.scoring import probability_columns
from lakehouse.monitoring.judged import JUDGED, Judged, judged_rows
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Stamp

if TYPE_CHECKING:
    import numpy as np

TABLE = "monitoring.model_performance"
# A version stands for itself by its newest batches with as many labels: what it was like long ago must not hide what it is like now.
_RECENT_LABELS = 1000


@dataclass(frozen=True, slots=True)
class Performance:
    """One version's predictions against the labels that arrived after it was trained.

    Attributes:
        metric: the contract's; beside it, accuracy of classes or r2 of numbers.
        value: None when no label has arrived.
        standard_error: of the value; of the difference where two versions are compared. None where it can't be told.
        beside: the version that it is compared with, both on labels that neither has learned from; None where it stands for itself.
        other_rows: labels of that version.
        other_value: of that version.
    """

    model: str
    model_version: str | None
    rows: int
    metric: str
    value: float | None
    measured_at: datetime
    standard_error: float | None = None
    beside: str | None = None
    other_rows: int | None = None
    other_value: float | None = None


def measure_performance(lake: Lake, contract: ModelContract, *, run: str, now: datetime) -> Performance | None:
    """Judge what was predicted by the labels that have arrived since, and record it: each version by itself, and those that a rollout compares.

    Returns:
        That of the version in production by the contract's metric, or before it has labels of the one with the most; None if the model
        has no predictions yet.
    """
    with judged_rows(lake, contract) as found:
        if found is None:
            return None
        measured = [*_each(found, contract, now), *_compared(found, contract, now)]
        inputs, production = found.inputs, found.ledger.production
    metric = judged_metric(contract)
    measured = measured or [Performance(contract.name, None, 0, metric, None, now)]
    stamp = Stamp(asset=TABLE, run=run, inputs=inputs, code="performance-2")
    with lake.connect(()) as session:
        lake.append(session.con, TABLE, " UNION ALL ".join(_row(one) for one in measured), stamp=stamp)
    return max(measured, key=lambda one: (one.beside is None, one.model_version == production, one.rows, one.metric == metric))


def _each(found: Judged, contract: ModelContract, now: datetime) -> Iterator[Performance]:
    """Each version by itself on its newest labels, by the contract's metric and the usual one, where they have a meaning."""
    versions = found.con.execute(
        f"""WITH batches AS (SELECT model_version, said_at, count(*) AS labels FROM {JUDGED} GROUP BY ALL),
        counted AS (SELECT *, sum(labels) OVER (PARTITION BY model_version ORDER BY said_at DESC) AS so_far FROM batches)
        SELECT model_version, coalesce(max(said_at) FILTER (so_far >= {_RECENT_LABELS}), min(said_at)) FROM counted
        GROUP BY 1 ORDER BY sum(labels) DESC, 1"""
    ).fetchall()
    for version, since in versions:
        said = _said(found, contract, f"model_version = {quote_literal(version)} AND said_at >= {quote_literal(since)}")
        for metric in dict.fromkeys([judged_metric(contract), usual_metric(contract)]):
            value = value_of(said, metric)
            if value is not None:
                yield Performance(contract.name, version, len(said), metric, value, now, standard_error(metric, said))


def _compared(found: Judged, contract: ModelContract, now: datetime) -> Iterator[Performance]:
    """The version that is rolled out beside the one in production, and that beside the one before, on labels that neither learned from.

    Counted is what both said since the first of them came into its present state; and where the other answers no more, rows that both were
    asked for. What made somebody take a version back says nothing about it after it was restored.
    """
    staged, line = found.ledger.staged, found.ledger.line
    pairs = [(staged.version, line[-1])] if staged is not None and line else []
    pairs += [(line[-1], line[-2])] if len(line) > 1 else []
    metric = judged_metric(contract)
    for version, other in pairs:
        if version not in found.began or other not in found.ended:
            continue
        one, beside = (
            f"model_version = {quote_literal(mine)} AND NOT list_contains(learned_by, {quote_literal(others)})"
            for mine, others in ((version, other), (other, version))
        )
        since = max(found.began[version], found.ledger.standings[version].since)
        one = f"{one} AND said_at >= {quote_literal(since)}"
        is_paired = f"row IN (SELECT row FROM {JUDGED} WHERE {one})"
        if found.ended[other] >= since:
            sides = one, f"{beside} AND (said_at >= {quote_literal(since)} OR {is_paired})"
        else:
            sides = f"{one} AND row IN (SELECT row FROM {JUDGED} WHERE {beside})", f"{beside} AND {is_paired}"
        said, told = (_said(found, contract, side) for side in sides)
        values = value_of(said, metric), value_of(told, metric)
        if None not in values:
            error = standard_error(metric, said, told)
            yield Performance(contract.name, version, len(said), metric, values[0], now, error, other, len(told), values[1])


def _said(found: Judged, contract: ModelContract, where: str) -> Said:
    """Some of the judged rows, in memory, each answered by its version's own threshold, whatever people had set for the time being."""
    import numpy as np

    is_number = contract.problem == "regression"
    names = [name for name in found.columns if name.startswith("probability_")]
    listed = ", ".join(["label", "prediction", "unit", "positive", "own_threshold", *(quote_identifier(name) for name in names)])
    finite = "isfinite(label) AND isfinite(prediction)" if is_number else "true"
    rows = found.con.execute(f"SELECT {listed} FROM {JUDGED} WHERE {where} AND {finite} ORDER BY row, label, prediction").fetchnumpy()
    label, prediction, unit = (np.asarray(rows[name]) for name in ("label", "prediction", "unit"))
    units = unit.astype("int64")
    if is_number:
        return Said(label, Predictions(prediction), units)
    # A class that the version does not know has no probability in any row.
    columns = {name: np.ma.filled(rows[name], np.nan) for name in names}
    known = [name for name, values in columns.items() if not np.isnan(values).any()]
    if known and len(label):
        classes, probabilities = _classes(found, known), np.column_stack([columns[name] for name in known])
        prediction = _by_itself(prediction, classes, probabilities, rows)
    else:
        classes = tuple(sorted(set(prediction)))
        probabilities = np.column_stack([prediction == one for one in classes]).astype("float64") if classes else np.zeros((0, 0))
    return Said(label, Predictions(prediction, probabilities, classes, contract.positive_class), units, bool(known))


def _by_itself(
    prediction: "np.ndarray[Any, Any]",
    classes: Sequence[str],
    probabilities: "np.ndarray[Any, Any]",
    rows: Mapping[str, Any],
) -> "np.ndarray[Any, Any]":
    """What the version would have answered by itself where people's threshold decided; it is that which its test rows were judged by."""
    import numpy as np

    own = np.ma.filled(rows["own_threshold"], np.nan)
    is_adjusted = ~np.isnan(own)
    if not is_adjusted.any() or len(classes) != 2:
        return prediction
    positive, threshold = rows["positive"][is_adjusted][0], float(own[is_adjusted][0])
    places = answers(probabilities, threshold if positive == classes[1] else round(1 - threshold, 12))
    return np.where(is_adjusted, np.asarray(classes, dtype=object)[places], prediction)


def _classes(found: Judged, columns: list[str]) -> tuple[str, ...]:
    """What the columns are the probabilities of: a column's name may lack characters of the class's."""
    named_in = ("label", "prediction", "positive")
    every = " UNION ".join(f"SELECT {one} FROM {JUDGED} WHERE {one} IS NOT NULL" for one in named_in)
    rows = found.con.execute(f"{every} ORDER BY 1").fetchall()
    named = {probability_columns([str(one)])[0].lower(): str(one) for (one,) in rows}
    return tuple(named.get(column.lower(), column.removeprefix("probability_")) for column in columns)


def _row(measured: Performance) -> str:
    values = {
        "model": (measured.model, "VARCHAR"),
        "model_version": (measured.model_version, "VARCHAR"),
        "rows": (measured.rows, "BIGINT"),
        "metric": (measured.metric, "VARCHAR"),
        "value": (measured.value, "DOUBLE"),
        "measured_at": (measured.measured_at, "TIMESTAMPTZ"),
        "standard_error": (measured.standard_error, "DOUBLE"),
        "beside": (measured.beside, "VARCHAR"),
        "other_rows": (measured.other_rows, "BIGINT"),
        "other_value": (measured.other_value, "DOUBLE"),
    }
    return "SELECT " + ", ".join(f"CAST({quote_literal(value)} AS {kind}) AS {name}" for name, (value, kind) in values.items())
