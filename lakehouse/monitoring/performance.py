"""How predictions turned out once the labels came: measured on rows that the model that predicted them had not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lakehouse.contracts import ModelContract
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Stamp

TABLE = "monitoring.model_performance"
# The newest training set, and the one before: when labels arrive and the model is trained again in one run, the newest
# knows them already, and what the earlier model had said of those rows is what there is to judge.
_GENERATIONS = 2


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


@dataclass(frozen=True, slots=True)
class _Generation:
    """A training set and the newest predictions made before the next one."""

    training_set: int
    predictions: int


def measure_performance(lake: Lake, contract: ModelContract, *, run: str, now: datetime) -> Performance | None:
    """Judge the newest predictions whose labels have arrived since, and record it, each version that answered by itself.

    Returns:
        That of the version with the most labels; None if the model has no predictions yet.
    """
    training_table, predictions_table = f"models.{contract.name}_training_set", f"models.{contract.name}_predictions"
    if not all(lake.exists(table) for table in (training_table, predictions_table, contract.label_table)):
        return None
    metric = "accuracy" if contract.problem == "classification" else "r2"
    measured = [Performance(contract.name, None, 0, metric, None, now)]
    inputs: dict[str, int] = {}
    for generation in _generations(lake, training_table, predictions_table):
        as_of = {training_table: generation.training_set, predictions_table: generation.predictions}
        with lake.connect([training_table, predictions_table, contract.label_table], as_of=as_of) as session:
            inputs = dict(session.inputs())
            judged = session.con.execute(_judge_sql(lake, contract, training_table, predictions_table)).fetchall()
        if judged:
            measured = [Performance(contract.name, version, rows, metric, value, now) for rows, version, value in judged]
            break
    stamp = Stamp(asset=TABLE, run=run, inputs=inputs, code="performance-1")
    with lake.connect(()) as session:
        lake.append(session.con, TABLE, " UNION ALL ".join(_row(one) for one in measured), stamp=stamp)
    return measured[0]


def _generations(lake: Lake, training_table: str, predictions_table: str) -> list[_Generation]:
    trained = [commit for commit in lake.history(training_table) if commit.changes_rows][:_GENERATIONS]
    predicted = [commit for commit in lake.history(predictions_table) if commit.changes_rows]
    found: list[_Generation] = []
    until: datetime | None = None
    for commit in trained:
        before = [one.version for one in predicted if until is None or one.timestamp < until]
        if before:
            found.append(_Generation(commit.version, max(before)))
        until = commit.timestamp
    return found


def _judge_sql(lake: Lake, contract: ModelContract, training_table: str, predictions_table: str) -> str:
    """One row per model version that answered: how many new labels meet its predictions, the version, and the metric; the most labels first."""
    known = set(lake.schema(predictions_table)) & set(lake.schema(training_table)) & set(lake.schema(contract.label_table))
    times = [contract.event_timestamp] if contract.event_timestamp else []
    key = [column for column in (*contract.entity, *times) if column in known] or [column for column in ("row_id",) if column in known]
    if not key:
        return "SELECT 0, NULL, NULL WHERE false"
    same_row = _same("labels", "predicted", key)
    if contract.problem == "classification":
        metric = "avg((predicted.prediction::VARCHAR = labels.__label::VARCHAR)::INTEGER)"
    else:
        metric = "1 - sum((labels.__label - predicted.prediction) ** 2) / nullif(var_pop(labels.__label) * count(*), 0)"
    return (
        f"WITH labels AS (SELECT *, {contract.target} AS __label FROM {_relation(contract.label_table)}) "
        f"SELECT count(*), predicted.model_version::VARCHAR, {metric} FROM labels "
        f"JOIN {_relation(predictions_table)} AS predicted ON {same_row} "
        f"WHERE labels.__label IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {_relation(training_table)} AS learned WHERE {_same('labels', 'learned', key)}) "
        "GROUP BY predicted.model_version ORDER BY count(*) DESC, predicted.model_version"
    )


def _same(left: str, right: str, key: Sequence[str]) -> str:
    return " AND ".join(f"{left}.{quote_identifier(column)} IS NOT DISTINCT FROM {right}.{quote_identifier(column)}" for column in key)


def _relation(table: str) -> str:
    return ".".join(quote_identifier(part) for part in table.split("."))


def _row(measured: Performance) -> str:
    version = "NULL" if measured.model_version is None else quote_literal(measured.model_version)
    value = "NULL" if measured.value is None else quote_literal(repr(measured.value))
    return (
        f"SELECT {quote_literal(measured.model)} AS model, {version}::VARCHAR AS model_version, {measured.rows}::BIGINT AS rows, "
        f"{quote_literal(measured.metric)} AS metric, {value}::DOUBLE AS value, {quote_literal(measured.measured_at.isoformat())}::TIMESTAMPTZ AS measured_at"
    )
