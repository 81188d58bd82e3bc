"""The models layer's memory: every evaluation, and every event of the registry, as rows of a table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.learning.registry import CHAMPION
from lakehouse.learning.results import TrainReport
from lakehouse.sql import quote_literal
from lakehouse.tables import Commit, Lake, Stamp, TableName

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


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A version's evaluation, as it was recorded."""

    origin: Origin
    report: TrainReport


def made_already(lake: Lake, stamp: Stamp) -> Commit | None:
    """The newest commit of the stamp's asset, if it was made from the same tables, code and source, whichever run made it."""
    table = TableName.parse(stamp.asset)
    newest = lake.content_commit(table)
    if newest is None or newest.stamp is None:
        return None
    before = newest.stamp
    if (dict(before.inputs), before.code, before.source) != (dict(stamp.inputs), stamp.code, stamp.source):
        return None
    return Commit(table, newest.version, newest.version, rows=lake.detail(table).rows, skipped=True)


def evaluated(lake: Lake, model: str, version: str) -> Evaluated | None:
    """The evaluation of a version: the newest, since a registry that was made anew counts from 1 again."""
    if not lake.exists(EVALUATIONS):
        return None
    with lake.connect([EVALUATIONS]) as session:
        row = session.con.execute(
            f"SELECT contract_digest, code_digest, inputs, report FROM {EVALUATIONS} WHERE model = ? AND version = ?"
            " ORDER BY evaluated_at DESC LIMIT 1",
            [model, version],
        ).fetchone()
    if row is None:
        return None
    contract, code, inputs, report = row
    return Evaluated(Origin(model, contract, code, json.loads(inputs)), TrainReport.from_json(report))


def remember(lake: Lake, report: TrainReport, origin: Origin, *, previous: str | None, run: str, now: datetime) -> None:
    """Add the registry's events, then the evaluation: a training counts as done when its evaluation is there.

    Where a process was killed between the two, the events are there already and are not added again.
    """
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
        if not _has_events(lake, event):
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


def _has_events(lake: Lake, event: Mapping[str, Any]) -> bool:
    if not lake.exists(EVENTS):
        return False
    # The same model may be registered twice when that is forced, but by two runs.
    told = ("model", "version", "event", "model_digest", "run")
    with lake.connect([EVENTS]) as session:
        is_it = " AND ".join(f"{name} = {quote_literal(event[name])}" for name in told)
        found = session.con.execute(f"SELECT count(*) FROM {EVENTS} WHERE {is_it}").fetchone()
    return bool(found and found[0])


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
