"""The models layer's memory: every evaluation, and every event of the registry, as rows of a table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.learning.registry import CHAMPION
from lakehouse.learning.results import TrainReport
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp

EVALUATIONS = "models.evaluations"
EVENTS = "models.registry_events"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a model is made of: equal origins give equal models."""

    model: str
    contract: str
    code: str
    inputs: Mapping[str, int]

    @property
    def inputs_json(self) -> str:
        """The inputs as they are stored and compared."""
        return json.dumps(dict(self.inputs), sort_keys=True)


def recorded_report(lake: Lake, origin: Origin) -> TrainReport | None:
    """The report of the newest evaluation of the model, if it is of this origin."""
    if not lake.exists(EVALUATIONS):
        return None
    with lake.connect([EVALUATIONS]) as session:
        row = session.con.execute(
            f"SELECT report, contract_digest, code_digest, inputs FROM {EVALUATIONS} WHERE model = ?"
            " ORDER BY CAST(version AS BIGINT) DESC LIMIT 1",
            [origin.model],
        ).fetchone()
    if row is None or row[1:] != (origin.contract, origin.code, origin.inputs_json):
        return None
    return TrainReport.from_json(row[0])


def remember(lake: Lake, report: TrainReport, origin: Origin, *, previous: str | None, run: str, now: datetime) -> None:
    """Add the registry's events, then the evaluation: a training counts as done when its evaluation is there."""
    training_set = f"models.{report.model}_training_set"
    stamp = Stamp(asset=EVENTS, run=run, inputs={training_set: report.training_set_version}, code=origin.code)
    event: dict[str, Any] = {
        "happened_at": now,
        "model": report.model,
        "version": report.version,
        "event": "promoted" if report.alias == CHAMPION else "rejected",
        "alias": report.alias,
        "previous_version": previous,
        "reason": "; ".join(check.detail for check in report.checks),
        "actor": "train",
        "run": run,
        "training_set_version": report.training_set_version,
        "model_digest": report.model_digest,
    }
    con = lake.open_connection()
    try:
        lake.append(con, EVENTS, _select({**event, "event": "registered", "alias": None}, event), stamp=stamp)
        evaluation: dict[str, Any] = {
            "evaluated_at": now,
            "model": report.model,
            "version": report.version,
            "problem": report.problem,
            "algorithm": report.algorithm,
            "metric": report.metric,
            "value": report.metrics.get(report.metric),
            "value_low": report.interval.low if report.interval else None,
            "value_high": report.interval.high if report.interval else None,
            "baseline": report.baseline.get(report.metric),
            "metrics": json.dumps(dict(report.metrics), sort_keys=True),
            "passed": report.passed,
            "alias": report.alias,
            "rows_train": report.rows_train,
            "rows_test": report.rows_test,
            "training_set_version": report.training_set_version,
            "inputs": origin.inputs_json,
            "contract_digest": origin.contract,
            "code_digest": origin.code,
            "model_digest": report.model_digest,
            "run": run,
            "report": report.as_json(),
        }
        lake.append(con, EVALUATIONS, _select(evaluation), stamp=Stamp(EVALUATIONS, run, stamp.inputs, origin.code))
    finally:
        con.close()


_TYPES = {
    "happened_at": "TIMESTAMPTZ",
    "evaluated_at": "TIMESTAMPTZ",
    "value": "DOUBLE",
    "value_low": "DOUBLE",
    "value_high": "DOUBLE",
    "baseline": "DOUBLE",
    "passed": "BOOLEAN",
    "rows_train": "BIGINT",
    "rows_test": "BIGINT",
    "training_set_version": "BIGINT",
}


def _select(*rows: Mapping[str, Any]) -> str:
    """The rows as a SELECT of literals."""
    selects = (
        ", ".join(f"CAST({quote_literal(value)} AS {_TYPES.get(name, 'VARCHAR')}) AS {name}" for name, value in row.items()) for row in rows
    )
    return " UNION ALL ".join(f"SELECT {select}" for select in selects)
