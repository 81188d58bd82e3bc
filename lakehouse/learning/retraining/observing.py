"""What is known of a model before it is decided whether to train it again. Read from tables; nothing is loaded."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.contracts import ModelContract
from lakehouse.contracts.metrics import LOWER_IS_BETTER
from lakehouse.learning.fingerprint import code_digest
from lakehouse.learning.judging import judged_metric
from lakehouse.learning.lifecycle.journal import DeltaJournal
from lakehouse.learning.lifecycle.observing import PERFORMANCE
from lakehouse.learning.lifecycle.states import Ledger
from lakehouse.learning.records import Evaluated, Newest, evaluated, newest_evaluated
from lakehouse.learning.retraining.deciding import Held, RetrainingDue, RetrainingFacts, decide_retraining
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake
from lakehouse.tables.feed import CHANGE_TYPE, ChangeType

if TYPE_CHECKING:
    from lakehouse.tables.changes import Changes

DRIFT = "monitoring.drift"
_ACCURACY = "accuracy"
_NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class _Measured:
    """The metric that labels are judged by, on how many, and how far it lies from sample to sample; None where that can't be told."""

    value: float
    labels: int
    standard_error: float | None


def retraining_due(lake: Lake, contract: ModelContract, *, now: datetime) -> RetrainingDue:
    """Whether a model is to be trained again, from what the tables say; nothing is written.

    Args:
        lake: the tables.
        contract: of the model, whose `retraining` decides.
        now: the time.
    """
    return decide_retraining(contract.retraining, retraining_facts(lake, contract), now=now)


def retraining_facts(lake: Lake, contract: ModelContract) -> RetrainingFacts:
    """The facts."""
    name = contract.name
    newest = newest_evaluated(lake, name)
    if newest is None:
        return RetrainingFacts(None)
    known, trained_at = newest.known, newest.trained_at
    inputs = dict(known.origin.inputs)
    changed = any(lake.content_version(table) != version for table, version in inputs.items() if lake.exists(table))
    ledger = DeltaJournal(lake).ledger(name)
    drifted = _drifted(lake, name, ledger.production, known.report.version, trained_at)
    now = _measured(lake, contract, ledger, f"measured_at > {quote_literal(trained_at)}")
    return RetrainingFacts(
        version=known.report.version,
        trained_at=trained_at,
        definition_changed=(known.origin.contract, known.origin.code) != (contract.digest, code_digest()),
        data_changed=changed,
        new_rows=_new_rows(lake, contract, known) if changed else 0,
        psi=max((psi for _, psi in drifted), default=0.0),
        drifted=tuple(column for column, _ in drifted),
        held=_held(lake, contract, ledger, now),
        held_since=_held_since(lake, contract, ledger, now, newest),
        min_labels=contract.rollout.min_rows,
    )


def _new_rows(lake: Lake, contract: ModelContract, known: Evaluated) -> int:
    """Labelled rows now, less those there were then."""
    table = contract.label_table
    then = known.origin.inputs.get(table)
    if then is None or not lake.exists(table) or lake.content_version(table) == then:
        return 0
    changes = lake.changes(table, then)
    is_told = changes is not None and changes.size_bytes <= sum(file.size for file in changes.snapshot.files)
    counts = _labels_changed(lake, contract, changes) if changes is not None and is_told else _labels_then_and_now(lake, contract, then)
    return max(0, counts[1] - counts[0])


def _labels_changed(lake: Lake, contract: ModelContract, changes: "Changes") -> tuple[int, int]:
    """Labelled rows that went, and that came, as the commits tell it: it grows with what is new."""
    with lake.connect([contract.label_table]) as session:
        gone = ", ".join(quote_literal(str(one)) for one in (ChangeType.DELETE, ChangeType.BEFORE))
        went = f"count(*) FILTER ({quote_identifier(CHANGE_TYPE)} IN ({gone}))"
        row = session.con.execute(
            f"SELECT {went}, count(*) - {went} FROM ({changes.scan_sql(session.con)}) AS labels WHERE ({contract.target}) IS NOT NULL"
        ).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)


def _labels_then_and_now(lake: Lake, contract: ModelContract, then: int) -> tuple[int, int]:
    """All labelled rows of both versions: where rows were written anew, nothing less tells it."""
    table = contract.label_table
    relation = ".".join(quote_identifier(part) for part in table.split("."))
    counts: list[int] = []
    for as_of in ({table: then}, {}):
        with lake.connect([table], as_of=as_of) as session:
            row = session.con.execute(f"SELECT count(*) FROM {relation} AS labels WHERE ({contract.target}) IS NOT NULL").fetchone()
            counts.append(int(row[0]) if row else 0)
    return counts[0], counts[1]


def _drifted(lake: Lake, model: str, production: str | None, newest: str, since: datetime) -> list[tuple[str, float]]:
    """The columns that have moved beyond chance, with how far, by the newest measurement since then.

    From what the version in production was trained on, and from what was already arriving when the newest was trained: the lesser
    of the two counts. The first alone stays however often the model is trained.
    """
    if production is None or not lake.exists(DRIFT):
        return []
    mine = f"{_is(subject=f'models.{model}')} AND measured_at > {quote_literal(since)}"
    theirs = f"{_is(version=production)} AND part IN ('features', 'predictions')"
    new = f"{_is(version=newest)} AND part IN ('new_features', 'new_predictions')"
    with lake.connect([DRIFT]) as session:
        rows = session.con.execute(
            f"WITH moved AS (SELECT *, psi - psi_by_chance AS effect FROM {DRIFT} WHERE {mine} AND verdict IN ('moved', 'drifted') "
            f"AND measured_at = (SELECT max(measured_at) FROM {DRIFT} WHERE {mine} AND {theirs})) "
            "SELECT column_name, least(one.effect, other.effect) AS effect "
            f"FROM (SELECT * FROM moved WHERE {theirs}) AS one JOIN (SELECT * FROM moved WHERE {new}) AS other USING (column_name) "
            "WHERE other.part = 'new_' || one.part ORDER BY 2 DESC, 1"
        ).fetchall()
    return [(str(column), float(psi)) for column, psi in rows]


def _measured(lake: Lake, contract: ModelContract, ledger: Ledger, which: str) -> _Measured | None:
    """How the version in production held by itself, by the newest of some measurements since there is a version of its number."""
    production = ledger.production
    # A table from before chance was measured has no such rows.
    if production is None or not lake.exists(PERFORMANCE) or "standard_error" not in lake.schema(PERFORMANCE):
        return None
    mine = _is(model=contract.name, model_version=production, metric=judged_metric(contract))
    drafted_at = ledger.standing(production).drafted_at
    since = f"measured_at >= {quote_literal(drafted_at)}" if drafted_at is not None else "true"
    with lake.connect([PERFORMANCE]) as session:
        row = session.con.execute(
            f"SELECT value, rows, standard_error FROM {PERFORMANCE} WHERE {mine} AND beside IS NULL AND value IS NOT NULL "
            f"AND {since} AND {which} ORDER BY measured_at DESC LIMIT 1"
        ).fetchone()
    return None if row is None else _Measured(float(row[0]), int(row[1]), row[2])


def _held(lake: Lake, contract: ModelContract, ledger: Ledger, now: _Measured | None) -> Held | None:
    """How the version in production holds beside its test rows."""
    known = evaluated(lake, contract.name, ledger.production) if now is not None and ledger.production is not None else None
    metric = judged_metric(contract)
    if now is None or known is None or metric not in known.report.metrics:
        return None
    report, interval = known.report, known.report.intervals.get(metric)
    # It holds the value on as many new rows, so that the test rows' own error is the square root of two less.
    of_test = None if interval is None else (interval.high - interval.low) / (2 * _NORMAL_95 * math.sqrt(2))
    return _beside(metric, now, _Measured(report.metrics[metric], report.rows_test, of_test))


def _held_since(lake: Lake, contract: ModelContract, ledger: Ledger, now: _Measured | None, newest: Newest) -> Held | None:
    """How the version in production holds beside what it was when the newest, another, was trained."""
    if now is None or ledger.production == newest.known.report.version:
        return None
    enough = f"measured_at <= {quote_literal(newest.trained_at)} AND rows >= {contract.rollout.min_rows}"
    then = _measured(lake, contract, ledger, enough)
    return None if then is None else _beside(judged_metric(contract), now, then)


def _beside(metric: str, now: _Measured, then: _Measured) -> Held:
    error = _standard_error(metric, now, then)
    return Held(metric, now.value, then.value, now.labels, error, lower_is_better=metric in LOWER_IS_BETTER)


def _standard_error(metric: str, now: _Measured, then: _Measured) -> float | None:
    """Of the difference: chance is in both, and the rows of one entity resemble each other. What labels they share makes it less."""
    if metric == _ACCURACY:
        right = (now.value * now.labels + then.value * then.labels) / (now.labels + then.labels)
        of_rows = math.sqrt(right * (1 - right) * (1 / now.labels + 1 / max(then.labels, 1)))
        # Of a few rows that are all right a bootstrap sees no chance; of rows that resemble each other a binomial sees too little.
        return max(of_rows, math.hypot(now.standard_error or 0.0, then.standard_error or 0.0))
    if now.standard_error is None or then.standard_error is None:
        return None
    return math.hypot(now.standard_error, then.standard_error)


def _is(**wanted: str) -> str:
    return " AND ".join(f"{column} = {quote_literal(value)}" for column, value in wanted.items())
