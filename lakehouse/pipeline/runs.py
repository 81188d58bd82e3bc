"""The whole way for a selection, in this process: ingest, build, train, predict, check. What is up to date is skipped."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lakehouse.contracts import DatasetContract, ModelContract
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.events import Event, Progress, State, unwatched
from lakehouse.pipeline.ingestion import ingest_files
from lakehouse.pipeline.report import (
    CheckOutcome,
    DatasetTotals,
    ModelOutcome,
    RunReport,
    dataset_totals,
    model_outcome,
    outlier_checks,
    recorded_checks,
    reference_checks,
)
from lakehouse.pipeline.selection import Selection, select
from lakehouse.pipeline.workspace import Workspace

READABLE = "every_file_could_be_read"
CONSERVED = "rows_read_equal_accepted_plus_quarantined"


def new_run() -> str:
    """An id for a run started from the command line; ids sort by time."""
    return f"cli-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


@dataclass
class _Run:
    """State of one run."""

    workspace: Workspace
    run: str
    now: datetime
    full: bool
    progress: Progress
    checks: list[CheckOutcome] = field(default_factory=list)

    def tell(self, step: str, subject: str, state: State, detail: str = "") -> None:
        self.progress(Event(step, subject, state, detail))

    def blocked(self, subjects: Iterable[str]) -> bool:
        """Whether a failed check forbids going on with any of these."""
        names = set(subjects)
        return any(check.blocks and check.id != READABLE and check.subject in names for check in self.checks)


def run_pipeline(
    workspace: Workspace,
    names: Sequence[str] = (),
    *,
    run: str,
    now: datetime,
    full: bool = False,
    progress: Progress = unwatched,
) -> RunReport:
    """Bring the named datasets and models, or everything, up to date.

    A dataset whose batch fails a blocking check stops what depends on it and nothing else.

    Raises:
        ContractNotFound: a name is neither a dataset nor a model.
    """
    selection = select(workspace.contracts, names)
    state = _Run(workspace, run, now, full, progress)
    totals: dict[str, DatasetTotals] = {}
    for contract in selection.datasets:
        _ingest(state, contract)
        found = dataset_totals(workspace.lake, contract.name)
        if found is not None or not selection.is_everything:
            totals[contract.name] = found or DatasetTotals()
            state.checks.append(conservation(contract.raw, totals[contract.name]))
    # Only now: parents may have come with this very run.
    for contract in selection.datasets:
        state.checks.extend(reference_checks(workspace.lake, contract, workspace.contracts))
    present = [contract for contract in selection.datasets if workspace.lake.exists(contract.raw)]
    usable = [contract for contract in present if not state.blocked([contract.raw, contract.name])]
    models: dict[str, ModelOutcome] = {}
    if usable:
        _transform(state, selection, usable)
        _serve(state, usable)
        for model in selection.models:
            outcome = _learn(state, model, usable)
            if outcome is not None:
                models[model.name] = outcome
    return RunReport(run=run, datasets=totals, models=models, checks=tuple(state.checks))


def build_and_serve(
    workspace: Workspace, contract: DatasetContract, *, run: str, now: datetime, progress: Progress = unwatched
) -> tuple[CheckOutcome, ...]:
    """Build the tables that depend on a dataset and bring their features to the online store; nothing is trained."""
    from lakehouse.pipeline.building import build_tables

    state = _Run(workspace, run, now, full=False, progress=progress)
    missing = [one.name for one in workspace.contracts.datasets.values() if not workspace.lake.exists(one.raw)]
    state.checks.extend(build_tables(workspace, datasets=[contract.name], without=missing, run=run, full=False, progress=progress))
    _serve(state, [contract])
    return tuple(state.checks)


def conservation(table: str, totals: DatasetTotals) -> CheckOutcome:
    """No row that was read is lost or counted twice."""
    kept = totals.rows_accepted + totals.rows_quarantined + totals.rows_erased
    detail = f"{totals.rows_read:,} read, {totals.rows_accepted:,} accepted, {totals.rows_quarantined:,} quarantined"
    return CheckOutcome(CONSERVED, table, "error", passed=totals.rows_read == kept, detail=detail)


def _ingest(state: _Run, contract: DatasetContract) -> None:
    from lakehouse.ingest import pending

    workspace = state.workspace
    waiting = pending(workspace.lake, contract, settings=workspace.settings)
    files = [file.path for file in waiting.ready]
    report = ingest_files(workspace, contract, files, run=state.run, now=state.now, progress=state.progress)
    refused = [str(file.error) for file in report.files if file.status == "refused"]
    # A file that was refused before still lies there: it is not read again, but it is still not in.
    refused += [error for _, error in waiting.refused]
    detail = "; ".join(refused[:5]) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")
    state.checks.append(CheckOutcome(READABLE, contract.raw, "error", passed=not refused, detail=detail))
    state.checks.extend(recorded_checks(workspace.lake, contract.name))
    state.checks.extend(outlier_checks(workspace.lake, contract, run=state.run, now=state.now))


def _transform(state: _Run, selection: Selection, usable: Sequence[DatasetContract]) -> None:
    from lakehouse.pipeline.building import build_tables

    unusable = [contract for contract in state.workspace.contracts.datasets.values() if contract not in usable]
    outcome = build_tables(
        state.workspace,
        datasets=[contract.name for contract in usable],
        without=[contract.name for contract in unusable],
        run=state.run,
        full=state.full,
        progress=state.progress,
    )
    state.checks.extend(outcome)


def _serve(state: _Run, usable: Sequence[DatasetContract]) -> None:
    """Bring the online store up to date with what was built, and ask whether it is."""
    from lakehouse.pipeline.features import PARITY, ROOM, compare_view, declared, materialize_view, measured, online

    workspace = state.workspace
    tables = {contract.raw for contract in usable}
    views = [
        view for view in declared(workspace).values() if view.online and tables & set(view.datasets) and workspace.lake.exists(view.table)
    ]
    if not views:
        return
    with online(workspace) as features:
        for view in views:
            subject = f"online.{view.name}"
            if state.blocked([view.table]):
                continue
            try:
                done = materialize_view(workspace, features, view, now=state.now, full=state.full)
                parity = compare_view(workspace, features, view, now=state.now, run=state.run)
                store = measured(workspace, features)
            except LakehouseError as error:
                state.tell("serve", view.name, State.FAILED, str(error))
                state.checks.append(CheckOutcome(PARITY, subject, "error", passed=False, detail=str(error)))
                continue
            state.checks.append(CheckOutcome(PARITY, subject, "error", passed=parity.passed, detail=parity.claim))
            room = f"{store.used_bytes:,} bytes of {store.limit_bytes or 0:,} are used"
            state.checks.append(CheckOutcome(ROOM, subject, "warning", passed=not store.is_alarming, detail=room))
            state.tell("serve", view.name, State.SKIPPED if done.is_unchanged else State.FINISHED, f"{done.entities:,} entities")


def _learn(state: _Run, contract: ModelContract, usable: Sequence[DatasetContract]) -> ModelOutcome | None:
    from lakehouse.features import view_tables
    from lakehouse.learning import predict_batch, watch_rollout
    from lakehouse.learning.retraining import train_when_due
    from lakehouse.learning.sources import declared_views

    workspace, name = state.workspace, contract.name
    inputs = [contract.label_table, *view_tables(contract.feature_views, declared_views(workspace.settings, contract))]
    if contract.dataset not in {one.name for one in usable} or not all(workspace.lake.exists(table) for table in inputs):
        return None
    if state.blocked(inputs):
        state.tell("train", name, State.FAILED, "not trained: a check of its inputs failed")
        return None
    state.tell("train", name, State.STARTED)
    try:
        report = train_when_due(
            workspace.settings,
            workspace.lake,
            contract,
            run=state.run,
            now=state.now,
            force=state.full,
            waiting=lambda line: state.tell("train", name, State.WAITING, line),
        )
    except LakehouseError as error:
        state.tell("train", name, State.FAILED, str(error))
        state.checks.append(CheckOutcome("model_can_be_trained", f"models.{name}", "error", passed=False, detail=str(error)))
        return None
    outcome = model_outcome(report)
    checks = [
        CheckOutcome(check.id, f"models.{name}", str(check.severity), passed=check.passed, detail=str(check.detail or ""))
        for check in report.checks
    ]
    state.checks.extend(checks)
    state.tell("train", name, State.FINISHED, f"{outcome.algorithm}, version {outcome.version}")
    if any(check.blocks for check in checks):
        state.tell("predict", name, State.FAILED, "no predictions: the model did not reach its minimum")
        return outcome
    watch_rollout(workspace.settings, workspace.lake, contract, run=state.run, now=state.now)
    commit = predict_batch(
        workspace.settings,
        workspace.lake,
        contract,
        run=state.run,
        now=state.now,
        waiting=lambda line: state.tell("predict", name, State.WAITING, line),
    )
    state.tell("predict", name, State.SKIPPED if commit.skipped else State.FINISHED, f"{commit.rows:,} rows")
    return outcome
