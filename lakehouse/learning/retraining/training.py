"""Training when it is due: what every run does that comes by a model, and what is asked for by hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from lakehouse.contracts import ModelContract
from lakehouse.learning.lifecycle.journal import DeltaJournal
from lakehouse.learning.records import Newest, newest_evaluated
from lakehouse.learning.registration import standing_of
from lakehouse.learning.registry import Registry, unheard
from lakehouse.learning.results import TrainReport
from lakehouse.learning.retraining.observing import retraining_due
from lakehouse.learning.training import train
from lakehouse.settings import Settings
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp, Transaction

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
    _complete(lake, contract.name)
    due = retraining_due(lake, contract, now=now)
    newest = newest_evaluated(lake, contract.name) if not (due or reason or force) else None
    if newest is not None:
        ledger = DeltaJournal(lake).ledger(contract.name)
        version = newest.known.report.version
        if version not in ledger.standings or not _is_registered(settings, contract.name, version):
            # A process was killed before it could decide on the version, or its registry was moved away.
            report = train(settings, lake, contract, run=run, now=now, waiting=waiting)
            _complete(lake, contract.name)
            return report
        report = standing_of(newest.known.report, ledger)
        return replace(report, notes=(*report.notes, f"{NOT_DUE}: {due.reason}"))
    told = reason or (due.reason if due else "asked for in full")
    triggers = tuple(str(one) for one in due.triggers)
    report = train(settings, lake, contract, run=run, now=now, reason=told, triggers=triggers, force=force, waiting=waiting)
    if not _complete(lake, contract.name) and report.skipped:
        _record(lake, contract.name, _Row(now, due.version, report, triggers, told, run), None)
    return report


def _is_registered(settings: Settings, model: str, version: str) -> bool:
    registry = Registry(settings)
    return registry.is_present and version in registry.posted(model)


@dataclass(frozen=True, slots=True)
class _Row:
    """What `models.retrainings` says of one training."""

    at: datetime
    before: str | None
    report: TrainReport
    triggers: tuple[str, ...]
    reason: str
    run: str


def _complete(lake: Lake, model: str) -> bool:
    """Write the row of the newest training, from its evaluation; false, and nothing is written, if it has none or needs none.

    By the process that trained, or where that was killed by the next that looks.
    """
    newest = newest_evaluated(lake, model)
    if newest is None or not newest.known.report.reason:
        return False
    ledger = DeltaJournal(lake).ledger(model)
    report = standing_of(newest.known.report, ledger)
    if report.version not in ledger.standings or _is_there(lake, model, newest):
        return False
    once = Transaction(f"retraining.{model}", int(newest.trained_at.timestamp() * 1_000_000))
    row = _Row(newest.trained_at, newest.before, report, report.triggers, report.reason, newest.run)
    return _record(lake, model, row, once)


def _is_there(lake: Lake, model: str, newest: Newest) -> bool:
    if not lake.exists(TABLE):
        return False
    wanted = f"model = {quote_literal(model)} AND version = {quote_literal(newest.known.report.version)} AND trained"
    with lake.connect([TABLE]) as session:
        at = f"retrained_at = {quote_literal(newest.trained_at)}"
        return session.con.execute(f"SELECT 1 FROM {TABLE} WHERE {wanted} AND {at} LIMIT 1").fetchone() is not None


def _record(lake: Lake, model: str, given: _Row, once: Transaction | None) -> bool:
    row = {
        "retrained_at": f"CAST({quote_literal(given.at)} AS TIMESTAMPTZ)",
        "model": quote_literal(model),
        "before": f"CAST({quote_literal(given.before)} AS VARCHAR)",
        "version": quote_literal(given.report.version),
        "trained": quote_literal(once is not None),
        "triggers": quote_literal(", ".join(given.triggers)),
        "reason": quote_literal(given.reason),
        "state": quote_literal(given.report.state),
        "run": quote_literal(given.run),
    }
    with lake.connect(()) as session:
        sql = "SELECT " + ", ".join(f"{value} AS {name}" for name, value in row.items())
        stamp = Stamp(asset=TABLE, run=given.run, inputs=dict(given.report.inputs), code="retrainings-1")
        return not lake.append(session.con, TABLE, sql, stamp=stamp, transaction=once).skipped
