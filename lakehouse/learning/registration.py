"""A fitted model becomes a version of the registry: checked, given its alias, and recorded, whatever happens in between."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from lakehouse.contracts import ModelContract, Severity
from lakehouse.contracts.metrics import LOWER_IS_BETTER
from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ModelError
from lakehouse.learning.candidates import Candidate
from lakehouse.learning.card import model_card
from lakehouse.learning.comparison import ModelComparison
from lakehouse.learning.comparison_page import comparison_page
from lakehouse.learning.evaluation import MinimumCheck, check_minimums
from lakehouse.learning.familiarity import seen_in
from lakehouse.learning.fingerprint import model_digest
from lakehouse.learning.fitting import Learned
from lakehouse.learning.leakage import detail_of
from lakehouse.learning.lifecycle import Author, Facts, Guard, Ledger, Made, Signature
from lakehouse.learning.lifecycle.board import CANARY, STAGED, wanted_aliases
from lakehouse.learning.lifecycle.observing import comparison_guard
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.recipe import RECIPE_FILE, Recipe, recipe_of
from lakehouse.learning.records import Evaluated, Origin, evaluated, remember
from lakehouse.learning.registry import CHALLENGER, CHAMPION, SIGNATURE_TAG, ModelSpec, RegisteredVersion, Registry, TrainingRecord
from lakehouse.learning.results import BEATS_BASELINE, MINIMUMS, NEW_TEST_ROWS, NO_LEAK, CandidateReport, ModelCheck, TrainReport
from lakehouse.learning.tested import outcome_of
from lakehouse.tables import Lake

_CONTRACT = "lakehouse.contract"
_CODE = "lakehouse.code"
_DIGEST = "lakehouse.model_digest"
_RUN = "lakehouse.run"
_PREVIOUS = "lakehouse.previous_champion"


def register_model(
    lake: Lake,
    registry: Registry,
    contract: ModelContract,
    learned: Learned,
    comparison: ModelComparison | None,
    *,
    recipe: Recipe,
    origin: Origin,
    reason: str,
    triggers: tuple[str, ...],
    run: str,
    now: datetime,
) -> TrainReport:
    """Make the model the newest version, let it go as far towards production as it may, and record its evaluation.

    All that `complete_registration` needs is stored with the version before the version is there.
    """
    rows, best = learned.rows, learned.best
    demands = check_minimums(contract.minimums, learned.metrics)
    digest = model_digest(learned.pipeline)
    seen = seen_in(rows.train, rows.schema, learned.preparation)
    spec = ModelSpec(rows.schema, contract.problem, learned.tested.classes, learned.tested.positive, rows.label_type, digest, seen)
    report = TrainReport(
        model=contract.name,
        version="",
        algorithm=best.name,
        problem=contract.problem,
        metrics=learned.metrics,
        baseline=learned.baseline,
        checks=_checks(demands, learned),
        metric=learned.metric,
        interval=learned.intervals.get(learned.metric),
        intervals=learned.intervals,
        segments=learned.segments,
        reliability=learned.reliability,
        candidates=tuple(_candidate(one, learned.metric) for one in learned.candidates),
        columns=tuple(learned.preparation.as_list()),
        rows_train=len(rows.train),
        rows_test=len(rows.test),
        left_out=rows.left_out,
        tested=outcome_of(rows.test_labels, learned.tested),
        alias="",
        inputs=origin.inputs,
        training_set_version=rows.commit.version,
        model_digest=digest,
        notes=learned.notes,
        training_set=rows.commit,
        comparison=comparison,
        reason=reason,
        triggers=triggers,
    )
    registry.end_interrupted(contract.name)
    previous = registry.version(contract.name, CHAMPION)
    record = _training_record(contract, report, recipe, origin, previous=previous, run=run)
    number = registry.register(contract.name, learned.pipeline, spec, record)
    reached(Point.MODEL_REGISTERED)
    # Not the newest: another home on the same server may have registered one since.
    made = registry.registered(contract.name, number)
    if made is None:
        raise ModelError(f"model {contract.name}@{number}", "was registered and is gone", fix="Look at what else writes to the registry")
    return _conclude(lake, registry, contract, report, origin, newest=made, run=run, now=now)


def complete_registration(
    lake: Lake, registry: Registry, contract: ModelContract, newest: RegisteredVersion, *, now: datetime
) -> Evaluated | None:
    """The evaluation of the newest version; recorded now, with its history, if a process was killed before it could do that.

    None for a version that another program registered.
    """
    name = contract.name
    contract_digest, code, digest = (newest.tags.get(tag, "") for tag in (_CONTRACT, _CODE, _DIGEST))
    known, ledger = evaluated(lake, name, newest.version), Lifecycle(registry, lake).look(name)
    standing = ledger.standings.get(newest.version)
    # Of a registry that was made anew, the evaluation may be of the old one's version of this number.
    is_known = standing is not None and standing.made_by in {None, newest.run}
    if known is not None and is_known and _told(known) == (contract_digest, code, digest):
        return replace(known, report=standing_of(known.report, ledger))
    text = registry.report(newest) if digest else None
    if text is None:
        return None
    report = TrainReport.from_json(text)
    origin = Origin(name, contract_digest, code, report.inputs)
    run = newest.tags.get(_RUN, "")
    return Evaluated(origin, _conclude(lake, registry, contract, report, origin, newest=newest, run=run, now=now))


def _told(known: Evaluated) -> tuple[str, str, str]:
    return known.origin.contract, known.origin.code, known.report.model_digest


def standing_of(report: TrainReport, ledger: Ledger) -> TrainReport:
    """A report with what is true of its version now."""
    standing = ledger.standings.get(report.version)
    if standing is None:
        return report
    shown = wanted_aliases(ledger)
    alias = next((one for one in (CHAMPION, CANARY, STAGED, CHALLENGER) if shown.get(one) == report.version), "")
    return replace(report, alias=alias, state=str(standing.state), semantic_version=standing.semantic or "")


def _conclude(
    lake: Lake,
    registry: Registry,
    contract: ModelContract,
    report: TrainReport,
    origin: Origin,
    *,
    newest: RegisteredVersion,
    run: str,
    now: datetime,
) -> TrainReport:
    """What follows registration; each step may have been done before."""
    report = replace(report, version=newest.version)
    if report.comparison is not None:
        report = replace(report, comparison=replace(report.comparison, challenger=newest.version))
    stored = newest.tags.get(SIGNATURE_TAG)
    signature = Signature.from_json(stored) if stored else _signature(contract, report)
    made = Made(newest.version, newest.run, report.model_digest, signature, report.training_set_version, report.reason)
    lifecycle = Lifecycle(registry, lake)
    minimums = tuple(Guard(check.id, check.passed, check.detail) for check in report.checks if check.id == MINIMUMS)

    def facts(ledger: Ledger) -> Facts:
        return Facts(minimums, comparison_guard(lake, contract, ledger, report.comparison, version=newest.version))

    inputs = {f"models.{report.model}_training_set": report.training_set_version}
    registry.attach(newest.run, dict(_pages(contract, report, registry, lifecycle)))
    reached(Point.BEFORE_TRAINING_RECORD)
    # Before the decision: by its evaluation a version in production is watched for drift, and trained again.
    remember(lake, report, origin, made_by=newest.run, run=run, now=now)
    outcome = lifecycle.register(contract, made, facts, Author("train", now, run=run), inputs=inputs)
    report = standing_of(report, outcome.ledger)
    # Once more, now that its history says what became of it.
    registry.attach(newest.run, dict(_card(contract, report, registry, lifecycle)))
    return report


def _pages(contract: ModelContract, report: TrainReport, registry: Registry, lifecycle: Lifecycle) -> Iterator[tuple[str, bytes]]:
    """What people read of a version, by the names of the files; as of its registration."""
    yield from _card(contract, report, registry, lifecycle)
    if report.comparison is not None:
        yield "comparison.html", comparison_page(contract, report.comparison).encode()


def _card(contract: ModelContract, report: TrainReport, registry: Registry, lifecycle: Lifecycle) -> Iterator[tuple[str, bytes]]:
    shown = model_card(contract, report, recipe_of(registry, report.model, report.version), lifecycle.history(report.model))
    yield "card.html", shown.as_html().encode()
    yield "card.md", shown.as_markdown().encode()


def _signature(contract: ModelContract, report: TrainReport) -> Signature:
    features = [str(one["feature"]) for one in report.columns]
    return Signature.of(algorithm=report.algorithm, problem=contract.problem, target=contract.target, features=features)


def _checks(demands: tuple[MinimumCheck, ...], learned: Learned) -> tuple[ModelCheck, ...]:
    reached, beaten = learned.metrics.get(learned.metric), learned.baseline.get(learned.metric)
    is_better = reached is not None and (beaten is None or (reached < beaten if learned.metric in LOWER_IS_BETTER else reached > beaten))
    detail = "; ".join(str(demand) for demand in demands) or "the contract demands nothing"
    missed = [demand for demand in demands if not demand.passed]
    if missed:
        detail = f"{'; '.join(str(demand) for demand in missed)}: not promoted"
    beside = f"{learned.metric} {_shown(reached)}, of the baseline {_shown(beaten)}"
    return (
        ModelCheck(MINIMUMS, Severity.ERROR, not missed, detail),
        ModelCheck(BEATS_BASELINE, Severity.WARNING, is_better, beside),
        ModelCheck(NO_LEAK, Severity.WARNING, not learned.rows.leaks, detail_of(learned.rows.leaks, "none was found")),
        ModelCheck(NEW_TEST_ROWS, Severity.WARNING, not learned.rows.remembered, detail_of(learned.rows.remembered, "no copy was found")),
    )


def _shown(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.4f}"


def _candidate(candidate: Candidate, metric: str) -> CandidateReport:
    from statistics import pstdev

    values = [fold[metric] for fold in candidate.folds if metric in fold]
    spread = pstdev(values) if values else None
    return CandidateReport(candidate.name, candidate.metrics, spread, candidate.seconds, candidate.notes, candidate.parameters)


def _training_record(
    contract: ModelContract, report: TrainReport, recipe: Recipe, origin: Origin, *, previous: str | None, run: str
) -> TrainingRecord:
    params = {
        "algorithm": report.algorithm,
        "problem": contract.problem,
        "metric": report.metric,
        "seed": str(contract.seed),
        "folds": str(contract.folds),
        "split": contract.split.strategy,
        "test_fraction": str(contract.split.test_fraction),
        "rows_train": str(report.rows_train),
        "rows_test": str(report.rows_test),
        "features": str(len(report.columns)),
    }
    tags = {
        _RUN: run,
        _CONTRACT: origin.contract,
        "lakehouse.contract_version": contract.version,
        _CODE: origin.code,
        "lakehouse.inputs": json.dumps(dict(origin.inputs), sort_keys=True),
        "lakehouse.training_set": f"models.{contract.name}_training_set@{report.training_set_version}",
        _DIGEST: report.model_digest,
        _PREVIOUS: previous or "",
        SIGNATURE_TAG: _signature(contract, report).as_json(),
    }
    files = {RECIPE_FILE: recipe.as_json().encode()}
    if report.tested is not None:
        files["test_rows.png"] = report.tested.picture()
    if report.reliability is not None:
        files["reliability.png"] = report.reliability.picture()
    return TrainingRecord(params, dict(_flat_metrics(report)), tags, json.loads(report.as_json()), files)


def _flat_metrics(report: TrainReport) -> Iterator[tuple[str, float]]:
    for name, value in report.metrics.items():
        yield f"test_{name}", value
    if report.reliability is not None:
        yield "test_calibration_error", report.reliability.error
    for name, value in report.baseline.items():
        yield f"baseline_{name}", value
    for candidate in report.candidates:
        # MLflow allows no plus in a metric's name.
        algorithm = candidate.algorithm.replace("+", "_and_")
        for name, value in candidate.metrics.items():
            yield f"cv_{algorithm}_{name}", value
