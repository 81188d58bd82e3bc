"""The history of models: `models.registry_events`, to which decisions are added, each whole and each once."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from lakehouse.learning.lifecycle.semantic import Signature
from lakehouse.learning.lifecycle.states import Event, Guard, Ledger, State
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp, Transaction

EVENTS = "models.registry_events"
_COLUMNS = {
    "happened_at": "TIMESTAMPTZ",
    "model": "VARCHAR",
    "version": "VARCHAR",
    "event": "VARCHAR",
    "alias": "VARCHAR",
    "previous_version": "VARCHAR",
    "reason": "VARCHAR",
    "actor": "VARCHAR",
    "run": "VARCHAR",
    "training_set_version": "BIGINT",
    "model_digest": "VARCHAR",
    "from_state": "VARCHAR",
    "to_state": "VARCHAR",
    "share": "DOUBLE",
    "guards": "VARCHAR",
    "semantic_version": "VARCHAR",
    "signature": "VARCHAR",
    "registry_run": "VARCHAR",
    "threshold": "DOUBLE",
    "threshold_before": "DOUBLE",
    "decision": "BIGINT",
    "number": "BIGINT",
}
_ALIASES = {"promoted": "champion", "restored": "champion", "rejected": "challenger", "canary": "canary", "staged": "staged"}


class Journal(Protocol):
    """Where the events of models are kept."""

    def events(self, model: str) -> tuple[Event, ...]:
        """Every event of a model, oldest first."""
        ...

    def ledger(self, model: str) -> Ledger:
        """What they come to."""
        ...

    def add(self, events: Sequence[Event], *, inputs: Mapping[str, int] | None = None) -> bool:
        """Add one decision of one model, whole; false, and nothing is added, if another has made that decision."""
        ...


class DeltaJournal:
    """The journal as a Delta table: a decision is one commit, and its number a transaction that only one commit can make."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def events(self, model: str) -> tuple[Event, ...]:
        """Every event of a model, oldest first."""
        return tuple(_Read(self._lake, model).events())

    def ledger(self, model: str) -> Ledger:
        """What they come to.

        Raises:
            HistoryDamaged: they contradict each other.
        """
        read = _Read(self._lake, model)
        ledger = Ledger(model).after(read.events())
        # A table that was restored has fewer rows than decisions: numbers that were used are not used again.
        return replace(ledger, decision=max(ledger.decision, read.decided))

    def add(self, events: Sequence[Event], *, inputs: Mapping[str, int] | None = None) -> bool:
        """Add one decision of one model, whole; false, and nothing is added, if another has made that decision.

        Args:
            events: of one decision of one model.
            inputs: the table versions that it is about.
        """
        first = events[0]
        stamp = Stamp(asset=EVENTS, run=first.run, inputs=dict(inputs or {}), code="lifecycle-1")
        once = Transaction(_app(first.model), first.decision)
        with self._lake.connect(()) as session:
            rows = " UNION ALL ".join(_select(event) for event in events)
            return not self._lake.append(session.con, EVENTS, rows, stamp=stamp, transaction=once).skipped


class _Read:
    """The rows of a model and the decisions that are made, of one version of the table."""

    def __init__(self, lake: Lake, model: str) -> None:
        self.decided, self._model = 0, model
        self._rows: list[tuple[Any, ...]] = []
        if not lake.exists(EVENTS):
            return
        snapshot = lake.snapshot(EVENTS)
        self.decided = snapshot.transaction(_app(model)) or 0
        known = {column.name for column in snapshot.columns}
        listed = ", ".join(name if name in known else f"CAST(NULL AS {kind}) AS {name}" for name, kind in _COLUMNS.items())
        con = lake.open_connection()
        try:
            # In the order in which they were decided; those from before there were decisions, in the order in which they were written.
            self._rows = con.execute(
                f"SELECT {listed.replace('happened_at', 'epoch_us(happened_at) AS happened_at', 1)} FROM ({snapshot.scan_sql(con)}) "
                f"WHERE model = {quote_literal(model)} ORDER BY coalesce(decision, 0), number, happened_at, event = 'registered' DESC"
            ).fetchall()
        finally:
            con.close()

    def events(self) -> Iterator[Event]:
        production: str | None = None
        for row in self._rows:
            stored = dict(zip(_COLUMNS, row, strict=True))
            for event in [_event(stored)] if stored["to_state"] else _of_old(stored, production):
                production = event.version if event.after is State.PRODUCTION else production
                yield event


def _event(stored: Mapping[str, Any]) -> Event:
    guards = tuple(Guard(one["guard"], one["passed"], one["detail"]) for one in json.loads(stored["guards"] or "[]"))
    return Event(
        model=stored["model"],
        version=stored["version"],
        kind=stored["event"],
        before=State(stored["from_state"]) if stored["from_state"] else None,
        after=State(stored["to_state"]),
        at=_instant(stored["happened_at"]),
        actor=stored["actor"] or "",
        reason=stored["reason"] or "",
        run=stored["run"] or "",
        share=stored["share"],
        previous=stored["previous_version"],
        guards=guards,
        semantic=stored["semantic_version"],
        signature=Signature.from_json(stored["signature"]) if stored["signature"] else None,
        made_by=stored["registry_run"],
        training_set=stored["training_set_version"],
        digest=stored["model_digest"],
        threshold=stored["threshold"],
        threshold_before=stored["threshold_before"],
        decision=stored["decision"] or 0,
        number=stored["number"] or 0,
    )


def _of_old(stored: Mapping[str, Any], production: str | None) -> Iterator[Event]:
    """What an event from before there were states says in states."""
    row = Event(
        model=stored["model"],
        version=stored["version"],
        kind="drafted",
        before=None,
        after=State.DRAFT,
        at=_instant(stored["happened_at"]),
        actor=stored["actor"] or "",
        reason=stored["reason"] or "",
        run=stored["run"] or "",
        digest=stored["model_digest"],
    )
    if stored["event"] == "registered":
        yield row
        yield replace(row, kind="training", before=State.DRAFT, after=State.TRAINING)
        yield replace(row, kind="registered", before=State.TRAINING, after=State.TRAINED, training_set=stored["training_set_version"])
    elif stored["event"] == "promoted":
        yield replace(row, kind="validated", before=State.TRAINED, after=State.VALIDATED)
        yield replace(row, kind="staged", before=State.VALIDATED, after=State.STAGED)
        if production is not None and production != row.version:
            yield replace(row, version=production, kind="archived", before=State.PRODUCTION, after=State.ARCHIVED)
        yield replace(row, kind="promoted", before=State.STAGED, after=State.PRODUCTION, previous=stored["previous_version"])
    else:
        yield replace(row, kind="rejected", before=State.TRAINED, after=State.TRAINED)


def _select(event: Event) -> str:
    values: dict[str, Any] = {
        "happened_at": event.at,
        "model": event.model,
        "version": event.version,
        "event": event.kind,
        "alias": _ALIASES.get(event.kind),
        "previous_version": event.previous,
        "reason": event.reason.replace("\0", ""),
        "actor": event.actor,
        "run": event.run,
        "training_set_version": event.training_set,
        "model_digest": event.digest,
        "from_state": event.before,
        "to_state": event.after,
        "share": event.share,
        "guards": json.dumps([{"guard": one.id, "passed": one.passed, "detail": one.detail} for one in event.guards]),
        "semantic_version": event.semantic,
        "signature": event.signature.as_json() if event.signature else None,
        "registry_run": event.made_by,
        "threshold": event.threshold,
        "threshold_before": event.threshold_before,
        "decision": event.decision,
        "number": event.number,
    }
    return "SELECT " + ", ".join(f"CAST({quote_literal(value)} AS {_COLUMNS[name]}) AS {name}" for name, value in values.items())


def _instant(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _app(model: str) -> str:
    return f"lifecycle.{model}"
