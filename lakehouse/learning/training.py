"""Training: a recorded training set, candidates compared on its training rows, the best one judged once on its test rows."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import ModelContract, Severity
from lakehouse.errors import ModelError
from lakehouse.features import LABEL, ModelRows, described, feature_source, training_set
from lakehouse.learning.algorithms import BASELINE, Choice, Problem, Task, build_pipeline, choose_candidates
from lakehouse.learning.candidates import Candidate, best_candidate, cross_validate, fit, make_folds, with_blend
from lakehouse.learning.evaluation import LOWER_IS_BETTER, MinimumCheck, Predictions, check_minimums, confidence_interval, measure, predict
from lakehouse.learning.fingerprint import code_digest, model_digest
from lakehouse.learning.preparation import Preparation, plan_columns
from lakehouse.learning.records import Origin, recorded_report, remember
from lakehouse.learning.registry import CHALLENGER, CHAMPION, ModelSpec, Registry, TrainingRecord
from lakehouse.learning.results import BEATS_BASELINE, MINIMUMS, CandidateReport, ModelCheck, TrainReport
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.sources import declared_views
from lakehouse.learning.splits import FOLD, SPLIT, TEST, TRAIN, require_both_parts, split_sql
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Commit, Lake, Session, Stamp

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def train(settings: Settings, lake: Lake, contract: ModelContract, *, run: str, now: datetime, force: bool = False) -> TrainReport:
    """Train a model on its features as they are, and register it: as champion if it reaches the contract's minimums.

    The same inputs, contract and code give the same model; it is then not trained again and the recorded report is returned.
    A model that fails its minimums is registered as challenger, its report says so in a failed check, and the champion stays.

    Args:
        settings: of the home.
        lake: the tables.
        contract: what to predict, from what, how to judge it.
        run: recorded with everything that is written.
        now: the time of training.
        force: train although nothing changed.

    Raises:
        ModelError: there is too little to learn from, or the contract names what is not there.
        FeatureError: a feature view is missing or can't be joined.
        TableNotFound: a table of labels or features has not been built.
    """
    source = feature_source(contract, declared_views(settings, contract))
    with lake.connect(source.tables) as session:
        origin = Origin(contract.name, contract.digest, code_digest(), session.inputs(*source.tables))
        registry = Registry(settings)
        if not force and registry.is_present:
            known = recorded_report(lake, origin)
            if known is not None:
                return known
        source = described(source, session.con)
        rows = training_set(source)
        stamp = Stamp(
            asset=f"models.{contract.name}_training_set",
            run=run,
            inputs=origin.inputs,
            code=origin.code,
            source={"contract": contract.digest},
        )
        commit = _write_training_set(lake, session, contract, rows, stamp)
        data = _read(session, contract, rows)
    learned = _learn(contract, data, threads=settings.threads)
    return _register(lake, registry, contract, learned, origin=origin, commit=commit, run=run, now=now)


# ---- the training set


def _write_training_set(lake: Lake, session: Session, contract: ModelContract, rows: ModelRows, stamp: Stamp) -> Commit:
    """Write the labelled rows with their features, split and fold; from here on they are read from the table."""
    label = quote_identifier(LABEL)
    kind = "VARCHAR" if contract.problem == "classification" else "DOUBLE"
    labelled = f"SELECT * REPLACE (CAST({label} AS {kind}) AS {label}) FROM ({rows.sql})"
    if contract.problem == "regression":
        labelled = f"SELECT * FROM ({labelled}) WHERE isfinite({label})"
    if contract.max_rows is not None:
        key = ", ".join(
            f"CAST({quote_identifier(column)} AS VARCHAR)"
            for column in [*rows.key, *([rows.event_timestamp] if rows.event_timestamp else [])]
        )
        drawn = f"md5({quote_literal(f'{contract.seed}:sample:')} || concat_ws(chr(31), {key}))"
        labelled = f"SELECT * FROM ({labelled}) QUALIFY row_number() OVER (ORDER BY {drawn}, {key}) <= {contract.max_rows}"
    sql = split_sql(labelled, contract, rows)
    session.con.execute(f"CREATE OR REPLACE TEMP TABLE __training_set AS {sql}")
    require_both_parts(session.con, "__training_set", contract)
    return lake.overwrite(session.con, stamp.asset, "SELECT * FROM __training_set", stamp=stamp)


@dataclass(frozen=True, slots=True)
class _Data:
    """The training set in memory, in a fixed order."""

    schema: FeatureSchema
    label_type: str
    train: "pd.DataFrame"
    train_labels: "np.ndarray[Any, Any]"
    folds: "np.ndarray[Any, Any]"
    test: "pd.DataFrame"
    test_labels: "np.ndarray[Any, Any]"


def _read(session: Session, contract: ModelContract, rows: ModelRows) -> _Data:
    schema = FeatureSchema.of(rows.features)
    label_type = session.con.execute(f"SELECT column_type FROM (DESCRIBE {rows.sql}) WHERE column_name = {quote_literal(LABEL)}").fetchone()
    order = [*([rows.event_timestamp] if rows.event_timestamp else []), *rows.key]
    extra = [quote_identifier(column) for column in (LABEL, SPLIT, FOLD)]
    # Rows that share key and time are told apart by their values: another order would be another model.
    everything = schema.fetch(
        session.con, "__training_set", order_by=list(dict.fromkeys([*order, LABEL, FOLD, *schema.names])), extra=extra
    )
    parts = {name: everything[everything[SPLIT] == name] for name in (TRAIN, TEST)}
    kind = object if contract.problem == "classification" else "float64"
    names = list(schema.names)
    return _Data(
        schema,
        str(label_type[0]) if label_type else "VARCHAR",
        parts[TRAIN][names].reset_index(drop=True),
        parts[TRAIN][LABEL].to_numpy(dtype=kind),
        parts[TRAIN][FOLD].to_numpy(dtype="int64"),
        parts[TEST][names].reset_index(drop=True),
        parts[TEST][LABEL].to_numpy(dtype=kind),
    )


# ---- learning


@dataclass(frozen=True, slots=True)
class _Learned:
    """The chosen model and how it came to be chosen."""

    data: _Data
    preparation: Preparation
    choice: Choice
    candidates: list[Candidate]
    best: Candidate
    pipeline: Any
    metric: str
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    tested: Predictions
    notes: tuple[str, ...]


def _learn(contract: ModelContract, data: _Data, *, threads: int) -> _Learned:
    """Compare the candidates on the training rows' folds, fit the best on all of them, judge it on the test rows."""
    is_classification = contract.problem == "classification"
    preparation = plan_columns(data.train, data.schema)
    classes = len(set(data.train_labels)) if is_classification else 0
    task = Task(contract.problem, classes, len(data.train), preparation.has_text, contract.seed)
    choice = choose_candidates(contract.algorithms, task)
    positive = _positive(contract, data)
    metric = contract.metric or default_metric(contract.problem, positive)
    folds = make_folds(data.folds, data.train_labels, by_time=contract.split.strategy == "time", is_classification=is_classification)
    candidates = [
        cross_validate(
            algorithm, preparation, task, frame=data.train, labels=data.train_labels, folds=folds, positive=positive, threads=threads
        )
        for algorithm in choice.algorithms
    ]
    if not contract.algorithms:
        candidates = with_blend(candidates, metric, data.train_labels, folds)
    best = best_candidate(candidates, metric)
    if metric not in best.metrics:
        raise ModelError(
            f"model {contract.name}",
            f"could not be judged by {metric} in cross-validation",
            found="; ".join(note for one in candidates for note in one.notes) or f"metrics {', '.join(best.metrics) or 'none'}",
            fix="Name another metric or other algorithms in the model contract, or ingest more labelled rows",
        )
    pipeline = build_pipeline(best.members, preparation, task)
    notes = fit(pipeline, data.train, data.train_labels, threads=threads)
    tested = predict(pipeline, data.test, positive=positive)
    dull = build_pipeline([one for one in choice.algorithms if one.name == BASELINE], preparation, task)
    fit(dull, data.train, data.train_labels)
    baseline = measure(data.test_labels, predict(dull, data.test, positive=positive))
    metrics = measure(data.test_labels, tested)
    return _Learned(
        data, preparation, choice, candidates, best, pipeline, metric, metrics, baseline, tested, (*choice.notes, *sorted(notes))
    )


def default_metric(problem: Problem, positive: str | None) -> str:
    """What chooses the algorithm where the contract does not say."""
    if problem == "regression":
        return "r2"
    return "roc_auc" if positive is not None else "f1_macro"


def _positive(contract: ModelContract, data: _Data) -> str | None:
    """The class that probability is about: the contract's; of two classes without one, the rarer."""
    if contract.problem != "classification":
        return None
    labels = sorted(set(data.train_labels))
    if contract.positive_class is not None:
        if contract.positive_class not in labels:
            raise ModelError(
                f"model {contract.name}: positive_class",
                "is not a value of the target",
                expected=f"one of {', '.join(labels[:20])}",
                found=contract.positive_class,
                fix="Correct the model contract",
            )
        return contract.positive_class
    if len(labels) != 2:
        return None
    return min(labels, key=lambda one: (int((data.train_labels == one).sum()), one))


# ---- recording


def _register(
    lake: Lake,
    registry: Registry,
    contract: ModelContract,
    learned: _Learned,
    *,
    origin: Origin,
    commit: Commit,
    run: str,
    now: datetime,
) -> TrainReport:
    data, best = learned.data, learned.best
    demands = check_minimums(contract.minimums, learned.metrics)
    checks = _checks(demands, learned)
    passed = all(demand.passed for demand in demands)
    digest = model_digest(learned.pipeline)
    spec = ModelSpec(data.schema, contract.problem, learned.tested.classes, learned.tested.positive, data.label_type, digest)
    report = TrainReport(
        model=contract.name,
        version="",
        algorithm=best.name,
        problem=contract.problem,
        metrics=learned.metrics,
        baseline=learned.baseline,
        checks=checks,
        metric=learned.metric,
        interval=confidence_interval(data.test_labels, learned.tested, learned.metric, seed=contract.seed),
        candidates=tuple(_candidate(one, learned.metric) for one in learned.candidates),
        columns=tuple(learned.preparation.as_list()),
        rows_train=len(data.train),
        rows_test=len(data.test),
        alias=CHAMPION if passed else CHALLENGER,
        inputs=origin.inputs,
        training_set_version=commit.version,
        model_digest=digest,
        notes=learned.notes,
        training_set=commit,
    )
    previous = registry.version(contract.name, CHAMPION) if registry.is_present else None
    record = _training_record(contract, report, origin, run)
    version = registry.register(contract.name, learned.pipeline, spec, record, alias=report.alias)
    report = replace(report, version=version)
    remember(lake, report, origin, previous=previous, run=run, now=now)
    return report


def _checks(demands: tuple[MinimumCheck, ...], learned: _Learned) -> tuple[ModelCheck, ...]:
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
    )


def _shown(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.4f}"


def _candidate(candidate: Candidate, metric: str) -> CandidateReport:
    from statistics import pstdev

    values = [fold[metric] for fold in candidate.folds if metric in fold]
    return CandidateReport(candidate.name, candidate.metrics, pstdev(values) if values else None, candidate.seconds, candidate.notes)


def _training_record(contract: ModelContract, report: TrainReport, origin: Origin, run: str) -> TrainingRecord:
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
        "lakehouse.run": run,
        "lakehouse.contract": origin.contract,
        "lakehouse.contract_version": contract.version,
        "lakehouse.code": origin.code,
        "lakehouse.inputs": json.dumps(dict(origin.inputs), sort_keys=True),
        "lakehouse.training_set": f"models.{contract.name}_training_set@{report.training_set_version}",
        "lakehouse.model_digest": report.model_digest,
    }
    return TrainingRecord(params, dict(_flat_metrics(report)), tags, json.loads(report.as_json()))


def _flat_metrics(report: TrainReport) -> Iterator[tuple[str, float]]:
    for name, value in report.metrics.items():
        yield f"test_{name}", value
    for name, value in report.baseline.items():
        yield f"baseline_{name}", value
    for candidate in report.candidates:
        # MLflow allows no plus in a metric's name.
        algorithm = candidate.algorithm.replace("+", "_and_")
        for name, value in candidate.metrics.items():
            yield f"cv_{algorithm}_{name}", value
