"""Has what a model is asked about changed since it was trained, or what it answers?

Like is compared with like. The reference of the features is every row, labelled or not, that was known when the version was trained,
read at the table versions it was trained from. Where rows have an event time, those that came later are held against it; where they
have none, the table says how things are, and all of it is held against how they were. Answers are held against the version's first batch.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts import ModelContract, load_contracts
from lakehouse.errors import LakehouseError, ModelError, ModelNotFound
from lakehouse.features import FeatureSource, ModelRows, described, feature_source, prediction_set, relation
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.records import evaluated
from lakehouse.learning.registry import Registry, no_champion
from lakehouse.learning.results import TrainReport
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.sources import declared_views, require_tables
from lakehouse.monitoring.drift.judging import DriftLimits, DriftReport, measure_drift
from lakehouse.monitoring.drift.reference import profile_reference
from lakehouse.monitoring.drift.storing import Measurement, ReferenceKey, StoredReference, keep_reference, record_drift, stored_reference
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake

if TYPE_CHECKING:
    import duckdb

FEATURES = "features"
PREDICTIONS = "predictions"
_ANSWERS = ("prediction", "confidence")
_DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class ModelDrift:
    """What has become of a model version's rows and answers.

    Attributes:
        predictions: None where the version has not predicted yet.
        since: the rows are those with a later event time; None for all.
    """

    model: str
    version: str
    features: DriftReport
    predictions: DriftReport | None
    since: datetime | None
    measured_at: datetime


@dataclass(frozen=True, slots=True)
class NotCompared:
    """A model without a version that could be compared, and why."""

    model: str
    reason: str


def measure_models(
    settings: Settings, lake: Lake, contracts: Iterable[ModelContract], *, run: str, now: datetime
) -> list[ModelDrift | NotCompared]:
    """Compare every model as `measure_model_drift` does; one that can't be compared keeps no other from it."""
    found: list[ModelDrift | NotCompared] = []
    for contract in contracts:
        try:
            found.append(measure_model_drift(settings, lake, contract, run=run, now=now))
        except LakehouseError as error:
            found.append(NotCompared(contract.name, str(error)))
    return found


def limits_of(contract: ModelContract) -> DriftLimits:
    """When a difference counts for a model."""
    policy, usual = contract.retraining, DriftLimits()
    return DriftLimits(policy.psi_warn, policy.psi_retrain if policy.psi_retrain is not None else max(usual.drift, policy.psi_warn))


def measure_model_drift(
    settings: Settings,
    lake: Lake,
    contract: ModelContract,
    *,
    run: str,
    now: datetime,
    version: str | None = None,
) -> ModelDrift:
    """Compare what a model is asked and what it answers with what it was trained for, and record it in `monitoring.drift`.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model, whose `retraining` says when a difference counts.
        run: who asks.
        now: the time.
        version: of the model; the one in production if it is left out.

    Raises:
        ModelNotFound: no version is in production, or there is no such version.
        ModelError: the contract has changed since, so that the version's features are no longer there.
        FeatureError: a feature view is missing or can't be joined.
        TableNotFound: a table of features, or the version of it that was learned from, is gone.
    """
    source = feature_source(contract, declared_views(settings, contract))
    require_tables(lake, source)
    report = trained_report(settings, lake, contract, version)
    limits = limits_of(contract)
    key = ReferenceKey(f"models.{contract.name}", report.version, FEATURES, report.model_digest)
    stored = stored_reference(lake, key) or _feature_reference(lake, source, report, key, run=run, now=now)
    with lake.connect(source.tables) as session:
        relation, schema = asked_rows(session.con, source, report, since=stored.until)
        features = Measurement(key, measure_drift(session.con, relation, schema, stored.reference, limits), session.inputs(*source.tables))
    answers = _answers(lake, report, run=run, now=now, limits=limits)
    record_drift(lake, [features, *([answers] if answers is not None else [])], run=run, now=now)
    return ModelDrift(contract.name, report.version, features.report, answers.report if answers else None, stored.until, now)


def measure_file_drift(
    settings: Settings,
    lake: Lake,
    contract: ModelContract,
    file: Path,
    *,
    run: str,
    now: datetime,
    version: str | None = None,
) -> ModelDrift:
    """Compare a file's rows with what a model was trained for, before anything is ingested; only the reference is kept.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model.
        file: of the model's dataset, in any format that it can be ingested from; turned into features by the tables' own SQL.
        run: who asks.
        now: the time at which the rows are taken to be known.
        version: of the model; the one in production if it is left out.

    Raises:
        FileRefused: the file can't be read as rows of the dataset.
        ModelNotFound: no version is in production, or there is no such version.
        TransformError: dbt can't compile the models.
    """
    from lakehouse.learning.scratch import build_rows, model_recipe, read_file

    contracts = load_contracts(settings)
    report = trained_report(settings, lake, contract, version)
    recipe = model_recipe(settings, contracts, contract)
    key = ReferenceKey(f"models.{contract.name}", report.version, FEATURES, report.model_digest)
    stored = stored_reference(lake, key) or _feature_reference(lake, recipe.source, report, key, run=run, now=now)
    with closing(lake.open_connection()) as con:
        read_file(con, settings, contracts.dataset(contract.dataset), contract, file, now=now)
        build_rows(con, lake, contracts, recipe, into="__asked")
        schema = _used(prediction_set(described(recipe.source, con), newest_only=False), report)
        found = measure_drift(con, "__asked", schema, stored.reference, limits_of(contract))
    return ModelDrift(contract.name, report.version, found, None, None, now)


def trained_report(settings: Settings, lake: Lake, contract: ModelContract, version: str | None) -> TrainReport:
    """The report of a version; of the one in production if none is named.

    Raises:
        ModelNotFound: there is none.
    """
    lifecycle = Lifecycle(Registry(settings), lake)
    ledger = lifecycle.recorded(contract.name)
    wanted = ledger.named(version) if version is not None else ledger.production
    if wanted is None:
        raise no_champion(contract.name)
    known = evaluated(lake, contract.name, wanted)
    if known is None:
        raise ModelNotFound(
            f"model {contract.name}@{wanted}",
            "has no recorded evaluation",
            fix=f"Run `lakehouse train {contract.name}`, which completes it",
        )
    return known.report


def _feature_reference(
    lake: Lake, source: FeatureSource, report: TrainReport, key: ReferenceKey, *, run: str, now: datetime
) -> StoredReference:
    """What was known when the version was trained; kept, so that it is read once."""
    with lake.connect(source.tables, as_of=dict(report.inputs)) as session:
        relation, schema = asked_rows(session.con, source, report, since=None)
        until = _latest(session.con, relation, source.contract.event_timestamp)
        stored = StoredReference(profile_reference(session.con, relation, schema), until, session.inputs(*source.tables))
    keep_reference(lake, key, stored, run=run, now=now)
    return stored


def asked_rows(
    con: "duckdb.DuckDBPyConnection", source: FeatureSource, report: TrainReport, *, since: datetime | None
) -> tuple[str, FeatureSchema]:
    """The rows as a table of the session, and those of their features that the version uses."""
    time = source.contract.event_timestamp
    later = (
        f" WHERE CAST({quote_identifier(time)} AS TIMESTAMPTZ) > {quote_literal(since)}" if time is not None and since is not None else ""
    )
    if later and all(view.table != source.contract.label_table for view in source.views):
        _keep(con, source.contract.label_table, later)
    rows = prediction_set(described(source, con), newest_only=False)
    schema = _used(rows, report)
    con.execute(f"CREATE OR REPLACE TEMP TABLE __asked AS SELECT * FROM ({rows.query.run(con)}){later}")
    return "__asked", schema


def _keep(con: "duckdb.DuckDBPyConnection", table: str, later: str) -> None:
    """Let the label table have only these rows in this session: features need to be joined to no others."""
    con.execute(f"ALTER VIEW {relation(table)} RENAME TO __whole_label_table")
    whole = relation(f"{table.partition('.')[0]}.__whole_label_table")
    con.execute(f"CREATE VIEW {relation(table)} AS SELECT * FROM {whole}{later}")


def _used(rows: ModelRows, report: TrainReport) -> FeatureSchema:
    used = [one["feature"] for one in report.columns if one.get("treatment") != _DROPPED]
    gone = [name for name in used if name not in rows.features]
    if gone:
        raise ModelError(
            f"model {report.model}@{report.version}",
            f"was trained on features that are no longer there: {', '.join(gone)}",
            fix=f"Run `lakehouse train {report.model}`",
        )
    return FeatureSchema.of({name: rows.features[name] for name in used})


def _latest(con: "duckdb.DuckDBPyConnection", relation: str, time: str | None) -> datetime | None:
    if time is None:
        return None
    found = con.execute(f"SELECT epoch_us(max(CAST({quote_identifier(time)} AS TIMESTAMPTZ))) FROM {relation}").fetchone()
    return (
        None
        if found is None or found[0] is None
        else datetime.fromtimestamp(found[0] // 1_000_000, UTC).replace(microsecond=found[0] % 1_000_000)
    )


def _answers(lake: Lake, report: TrainReport, *, run: str, now: datetime, limits: DriftLimits) -> Measurement | None:
    """The version's answers in the newest batch, against those of its first."""
    table = f"models.{report.model}_predictions"
    if not lake.exists(table):
        return None
    key = ReferenceKey(f"models.{report.model}", report.version, PREDICTIONS, report.model_digest)
    stored = stored_reference(lake, key)
    if stored is None:
        first = _first_batch(lake, table, report)
        if first is None:
            return None
        with lake.connect([table], as_of={table: first}) as session:
            relation, schema = _said(lake, table, report.version, version=first)
            stored = StoredReference(profile_reference(session.con, relation, schema), None, session.inputs(table))
        keep_reference(lake, key, stored, run=run, now=now)
    with lake.connect([table]) as session:
        relation, schema = _said(lake, table, report.version)
        return Measurement(key, measure_drift(session.con, relation, schema, stored.reference, limits), session.inputs(table))


def _first_batch(lake: Lake, table: str, report: TrainReport) -> int | None:
    made_by = {"model": f"models.{report.model}@{report.version}", "model_digest": report.model_digest}
    batches = [
        commit.version
        for commit in lake.history(table)
        if commit.changes_rows and commit.stamp is not None and made_by.items() <= dict(commit.stamp.source or {}).items()
    ]
    return min(batches, default=None)


def _said(lake: Lake, table: str, model_version: str, *, version: int | None = None) -> tuple[str, FeatureSchema]:
    columns = lake.schema(table, version)
    layer, _, name = table.partition(".")
    relation = f"{quote_identifier(layer)}.{quote_identifier(name)}"
    answered = f"(SELECT * FROM {relation} WHERE model_version = {quote_literal(model_version)})"
    return answered, FeatureSchema.of({column: columns[column] for column in _ANSWERS if column in columns})
