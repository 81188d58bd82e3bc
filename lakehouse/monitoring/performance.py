"""How predictions turned out once the labels came: measured on rows that the model that predicted them had not learned from."""

from dataclasses import dataclass
from datetime import datetime

from lakehouse.contracts import ModelContract
from lakehouse.monitoring.judged import JUDGED, judged_rows
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp

TABLE = "monitoring.model_performance"


@dataclass(frozen=True, slots=True)
class Performance:
    """One model's predictions against the labels that arrived after it was trained.

    Attributes:
        metric: accuracy for classes, r2 for numbers.
        value: None when no label has arrived, or when they are all the same number.
    """

    model: str
    model_version: str | None
    rows: int
    metric: str
    value: float | None
    measured_at: datetime


_METRIC_SQL = {
    metric: f"SELECT model_version, count(*), {sql} FROM {JUDGED} GROUP BY model_version ORDER BY count(*) DESC, model_version"
    for metric, sql in {
        "accuracy": "avg((prediction = label)::INTEGER)",
        "r2": "1 - sum((label - prediction) ** 2) / nullif(var_pop(label) * count(*), 0)",
    }.items()
}


def measure_performance(lake: Lake, contract: ModelContract, *, run: str, now: datetime) -> Performance | None:
    """Judge the newest predictions whose labels have arrived since, and record it, each version that answered by itself.

    Returns:
        That of the version with the most labels; None if the model has no predictions yet.
    """
    metric = "accuracy" if contract.problem == "classification" else "r2"
    with judged_rows(lake, contract) as found:
        if found is None:
            return None
        rows = found.con.execute(_METRIC_SQL[metric]).fetchall() if found.rows else []
        inputs = found.inputs
    measured = [Performance(contract.name, version, counted, metric, value, now) for version, counted, value in rows]
    measured = measured or [Performance(contract.name, None, 0, metric, None, now)]
    stamp = Stamp(asset=TABLE, run=run, inputs=inputs, code="performance-1")
    with lake.connect(()) as session:
        lake.append(session.con, TABLE, " UNION ALL ".join(_row(one) for one in measured), stamp=stamp)
    return measured[0]


def _row(measured: Performance) -> str:
    version = "NULL" if measured.model_version is None else quote_literal(measured.model_version)
    value = "NULL" if measured.value is None else quote_literal(repr(measured.value))
    return (
        f"SELECT {quote_literal(measured.model)} AS model, {version}::VARCHAR AS model_version, {measured.rows}::BIGINT AS rows, "
        f"{quote_literal(measured.metric)} AS metric, {value}::DOUBLE AS value, {quote_literal(measured.measured_at.isoformat())}::TIMESTAMPTZ AS measured_at"
    )
