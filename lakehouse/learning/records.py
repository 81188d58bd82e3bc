"""The models layer's memory: every evaluation as a row of a table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.learning.comparison import ModelComparison
from lakehouse.learning.results import TrainReport
from lakehouse.sql import quote_literal
from lakehouse.tables import Commit, Lake, Stamp, TableName, Transaction

EVALUATIONS = "models.evaluations"
COMPARISONS = "models.comparisons"


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


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest evaluation of a model.

    Attributes:
        trained_at: when it was made.
        run: that made it.
        before: the version that was evaluated before it.
    """

    known: Evaluated
    trained_at: datetime
    run: str
    before: str | None = None


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


def newest_evaluated(lake: Lake, model: str) -> Newest | None:
    """The version that was trained last, whether it won or not; None if the model was never trained."""
    if not lake.exists(EVALUATIONS):
        return None
    with lake.connect([EVALUATIONS]) as session:
        rows = session.con.execute(
            f"SELECT version, evaluated_at, run FROM {EVALUATIONS} WHERE model = {quote_literal(model)} "
            "ORDER BY evaluated_at DESC, CAST(version AS BIGINT) DESC LIMIT 2"
        ).fetchall()
    known = evaluated(lake, model, str(rows[0][0])) if rows else None
    if known is None:
        return None
    return Newest(known, rows[0][1], run=rows[0][2], before=rows[1][0] if len(rows) > 1 else None)


def remember(lake: Lake, report: TrainReport, origin: Origin, *, made_by: str, run: str, now: datetime) -> None:
    """Add the evaluation of a version, once however often it is tried.

    Args:
        lake: the tables.
        report: of the version.
        origin: what it was made of.
        made_by: the MLflow run that made it.
        run: that evaluated it.
        now: the time.
    """
    inputs = {f"models.{report.model}_training_set": report.training_set_version}
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
    con = lake.open_connection()
    try:
        once = Transaction(f"evaluation.{report.model}.{made_by}", 0)
        lake.append(con, EVALUATIONS, _select(evaluation), stamp=Stamp(EVALUATIONS, run, inputs, origin.code), transaction=once)
    finally:
        con.close()


def record_comparison(lake: Lake, model: str, comparison: ModelComparison, *, run: str, now: datetime) -> None:
    """Add a comparison of two versions to `models.comparisons`."""
    found = comparison.holdout
    row: dict[str, Any] = {
        "compared_at": now,
        "model": model,
        "champion": comparison.champion,
        "challenger": comparison.challenger,
        "metric": comparison.metric,
        "rows": found.rows if found else None,
        "champion_value": found.champion if found else None,
        "challenger_value": found.challenger if found else None,
        "gain": found.gain if found else None,
        "p_value": found.p_value if found else None,
        "run": run,
        "comparison": json.dumps(comparison.as_dict(), sort_keys=True),
    }
    with lake.connect(()) as session:
        lake.append(session.con, COMPARISONS, _select(row), stamp=Stamp(COMPARISONS, run, code="comparison-1"))


def last_comparison(lake: Lake, model: str, *, champion: str, challenger: str, since: datetime | None = None) -> ModelComparison | None:
    """The newest comparison of two versions in `models.comparisons`, or the newest since then; None if there is none."""
    if not lake.exists(COMPARISONS):
        return None
    pair = {"model": model, "champion": champion, "challenger": challenger}
    which = " AND ".join(f"{name} = {quote_literal(value)}" for name, value in pair.items())
    if since is not None:
        which += f" AND compared_at >= {quote_literal(since)}"
    with lake.connect([COMPARISONS]) as session:
        row = session.con.execute(f"SELECT comparison FROM {COMPARISONS} WHERE {which} ORDER BY compared_at DESC LIMIT 1").fetchone()
    return None if row is None else ModelComparison.from_dict(json.loads(row[0]))


_TYPES = {
    "compared_at": "TIMESTAMPTZ",
    "rows": "BIGINT",
    "champion_value": "DOUBLE",
    "challenger_value": "DOUBLE",
    "gain": "DOUBLE",
    "p_value": "DOUBLE",
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


def _select(row: Mapping[str, Any]) -> str:
    """The row as a SELECT of literals."""
    return "SELECT " + ", ".join(f"CAST({quote_literal(value)} AS {_TYPES.get(name, 'VARCHAR')}) AS {name}" for name, value in row.items())
