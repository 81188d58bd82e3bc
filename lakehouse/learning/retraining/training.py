"""Training when it is due: what every run does that comes by a model, and what is asked for by hand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from lakehouse.contracts import ModelContract
from lakehouse.learning.lifecycle.journal import DeltaJournal
from lakehouse.learning.records import evaluated
from lakehouse.learning.registration import standing_of
from lakehouse.learning.registry import unheard
from lakehouse.learning.results import TrainReport
from lakehouse.learning.retraining.deciding import RetrainingDue
from lakehouse.learning.retraining.observing import retraining_due
from lakehouse.learning.training import train
from lakehouse.settings import Settings
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp

TABLE = "models.retrainings"
NOT_DUE = "not trained again"


def train_when_due(
    settings: Settings,
    lake: Lake,
    contract: ModelContract,
    *,
    run: str,
    now: datetime,
    reason: str = "",
    force: bool = False,
    waiting: Callable[[str], None] = unheard,
) -> TrainReport:
    """Train a model if its contract's `retraining` says that it is due, or somebody asks for it; otherwise tell what is recorded.

    A contract without that section trains with each run in which something has changed. Every training with a reason is a row of
    `models.retrainings`, and its reason is in the version's history.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model.
        run: recorded with everything that is written.
        now: the time.
        reason: of who asks for it, due or not.
        force: train although nothing is due or has changed.
        waiting: told, in one line, that another process is training this model.

    Raises:
        LakehouseError: as `lakehouse.learning.train`.
    """
    if not contract.retraining.automatic and not reason:
        return train(settings, lake, contract, run=run, now=now, force=force, waiting=waiting)
    due = retraining_due(lake, contract, now=now)
    known = evaluated(lake, contract.name, due.version) if due.version is not None and not (due or reason or force) else None
    if known is not None:
        report = standing_of(known.report, DeltaJournal(lake).ledger(contract.name))
        return replace(report, notes=(*report.notes, f"{NOT_DUE}: {due.reason}"))
    told = reason or (due.reason if due else "asked for in full")
    report = train(settings, lake, contract, run=run, now=now, reason=told, force=force, waiting=waiting)
    _record(lake, contract.name, due, report, told, run=run, now=now)
    return report


def _record(lake: Lake, model: str, due: RetrainingDue, report: TrainReport, reason: str, *, run: str, now: datetime) -> None:
    row = {
        "retrained_at": f"CAST({quote_literal(now)} AS TIMESTAMPTZ)",
        "model": quote_literal(model),
        "before": f"CAST({quote_literal(due.version)} AS VARCHAR)",
        "version": quote_literal(report.version),
        "trained": quote_literal(not report.skipped),
        "triggers": quote_literal(", ".join(due.triggers)),
        "reason": quote_literal(reason),
        "state": quote_literal(report.state),
        "run": quote_literal(run),
    }
    with lake.connect(()) as session:
        sql = "SELECT " + ", ".join(f"{value} AS {name}" for name, value in row.items())
        lake.append(session.con, TABLE, sql, stamp=Stamp(asset=TABLE, run=run, inputs=dict(report.inputs), code="retrainings-1"))
