"""Has what a model is asked about changed since it was trained, or what it answers?

Like is compared with like. The reference of the features is every row, labelled or not, that was known when the version was trained,
read at the table versions it was trained from. Where rows have an event time, those that came later are held against it; where they
have none, the table says how things are, and all of it is held against how they were. Answers are held against the version's first batch.
Beside that both are held against what was already arriving when the model was trained last: see `arriving`.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lakehouse.contracts import ModelContract, load_contracts
from lakehouse.errors import LakehouseError, ModelError, ModelNotFound
from lakehouse.features import FeatureSource, described, feature_source, prediction_set
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.records import evaluated, newest_evaluated
from lakehouse.learning.registry import Registry, no_champion
from lakehouse.learning.results import TrainReport
from lakehouse.learning.sources import declared_views, require_tables
from lakehouse.monitoring.drift.answers import answers_drift, new_answers_drift
from lakehouse.monitoring.drift.arriving import NEW_FEATURES, arriving_rows
from lakehouse.monitoring.drift.asked import asked_rows, latest_time, require_kinds, used_features
from lakehouse.monitoring.drift.judging import DriftLimits, DriftReport, measure_drift
from lakehouse.monitoring.drift.reference import profile_reference
from lakehouse.monitoring.drift.storing import Measurement, ReferenceKey, StoredReference, keep_reference, record_drift, stored_reference
from lakehouse.settings import Settings
from lakehouse.tables import Lake

FEATURES = "features"


@dataclass(frozen=True, slots=True)
class ModelDrift:
    """What has become of a model version's rows and answers.

    Attributes:
        predictions: None where the version has not predicted yet.
        since: the rows are those with a later event time; None for all.
        newest: the version that was trained last, in production or not.
        new_features: what came since its training against what was already arriving then; None of a file.
        new_predictions: the same of the version's answers.
    """

    model: str
    version: str
    features: DriftReport
    predictions: DriftReport | None
    since: datetime | None
    measured_at: datetime
    newest: str
    new_features: DriftReport | None = None
    new_predictions: DriftReport | None = None

    @property
    def features_note(self) -> str:
        """That the drift of the features is nothing new, where it is so."""
        return self._note(self.features, self.new_features)

    @property
    def predictions_note(self) -> str:
        """The same of the predictions."""
        return self._note(self.predictions, self.new_predictions)

    def _note(self, found: DriftReport | None, new: DriftReport | None) -> str:
        if found is None or new is None or not found.drifted or set(found.drifted) & set(new.drifted):
            return ""
        return f"it was already so when version {self.newest} was trained, and is no reason to train again"


@dataclass(frozen=True, slots=True)
class NotCompared:
    """A model that was not compared, and why.

    Attributes:
        is_expected: no version is in production, so that there is nothing to compare; else something is in the way.
    """

    model: str
    reason: str
    is_expected: bool


def measure_models(
    settings: Settings, lake: Lake, contracts: Iterable[ModelContract], *, run: str, now: datetime
) -> list[ModelDrift | NotCompared]:
    """Compare every model as `measure_model_drift` does; one that can't be compared keeps no other from it."""
    found: list[ModelDrift | NotCompared] = []
    for contract in contracts:
        try:
            found.append(measure_model_drift(settings, lake, contract, run=run, now=now))
        except LakehouseError as error:
            found.append(NotCompared(contract.name, str(error), is_expected=isinstance(error, ModelNotFound)))
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
        ModelError: the version's features are no longer there, or have other types; or its evaluation was not recorded.
        FeatureError: a feature view is missing or can't be joined.
        TableNotFound: a table of features, or the version of it that was learned from, is gone.
    """
    report = trained_report(settings, lake, contract, version)
    source = feature_source(contract, declared_views(settings, contract))
    require_tables(lake, source)
    limits = limits_of(contract)
    key = ReferenceKey(f"models.{contract.name}", report.version, FEATURES, report.model_digest)
    stored = stored_reference(lake, key) or _feature_reference(lake, source, report, key, run=run, now=now)
    newest = _newest(lake, report)
    arriving = arriving_rows(lake, source, newest, run=run, now=now, limits=limits)
    against = (
        _Against(key, stored),
        _Against(replace(key, version=newest.version, part=NEW_FEATURES, digest=newest.model_digest), arriving),
    )
    if newest.version == report.version:
        features, new_features = _held(lake, source, report, against, limits)
    else:
        (features,) = _held(lake, source, report, against[:1], limits)
        (new_features,) = _held(lake, source, newest, against[1:], limits)
    answers = answers_drift(lake, report, run=run, now=now, limits=limits)
    new_answers = new_answers_drift(lake, report, newest, answers, run=run, now=now, limits=limits)
    record_drift(lake, [one for one in (features, new_features, answers, new_answers) if one is not None], run=run, now=now)
    return ModelDrift(
        contract.name,
        report.version,
        features.report,
        answers.report if answers else None,
        stored.until,
        now,
        newest.version,
        new_features.report,
        new_answers.report if new_answers else None,
    )


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
        schema = used_features(prediction_set(described(recipe.source, con), newest_only=False), report)
        require_kinds(schema, stored.reference, report)
        found = measure_drift(con, "__asked", schema, stored.reference, limits_of(contract))
    return ModelDrift(contract.name, report.version, found, None, None, now, _newest(lake, report).version)


def trained_report(settings: Settings, lake: Lake, contract: ModelContract, version: str | None) -> TrainReport:
    """The report of a version; of the one in production if none is named.

    Raises:
        ModelNotFound: there is none.
        ModelError: its evaluation was not recorded.
    """
    lifecycle = Lifecycle(Registry(settings), lake)
    ledger = lifecycle.recorded(contract.name)
    wanted = ledger.named(version) if version is not None else ledger.production
    if wanted is None:
        raise no_champion(contract.name)
    known = evaluated(lake, contract.name, wanted)
    if known is None:
        raise ModelError(
            f"model {contract.name}@{wanted}",
            "has no recorded evaluation",
            fix=f"Run `lakehouse train {contract.name}`, which completes it",
        )
    return known.report


def _newest(lake: Lake, report: TrainReport) -> TrainReport:
    found = newest_evaluated(lake, report.model)
    return report if found is None else found.known.report


@dataclass(frozen=True, slots=True)
class _Against:
    """What rows are held against."""

    key: ReferenceKey
    stored: StoredReference


def _held(lake: Lake, source: FeatureSource, report: TrainReport, against: Sequence[_Against], limits: DriftLimits) -> list[Measurement]:
    """The rows that came since a version was trained, read once, against each reference."""
    since = against[0].stored.until
    with lake.connect(source.tables) as session:
        relation, schema = asked_rows(session.con, source, report, since=since)
        for one in against:
            require_kinds(schema, one.stored.reference, report)
        until = latest_time(session.con, relation, source.contract.event_timestamp) or since
        inputs = session.inputs(*source.tables)
        return [
            Measurement(one.key, measure_drift(session.con, relation, schema, one.stored.reference, limits), inputs, until)
            for one in against
        ]


def _feature_reference(
    lake: Lake, source: FeatureSource, report: TrainReport, key: ReferenceKey, *, run: str, now: datetime
) -> StoredReference:
    """What was known when the version was trained; kept, so that it is read once."""
    with lake.connect(source.tables, as_of=dict(report.inputs)) as session:
        relation, schema = asked_rows(session.con, source, report, since=None)
        until = latest_time(session.con, relation, source.contract.event_timestamp)
        stored = StoredReference(profile_reference(session.con, relation, schema), until, session.inputs(*source.tables))
    keep_reference(lake, key, stored, run=run, now=now)
    return stored
