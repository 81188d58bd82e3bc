"""Training: from a contract to a registered model, once for the same data, contract and code."""

from collections.abc import Callable
from datetime import datetime

from lakehouse.contracts import ModelContract
from lakehouse.features import FeatureSource, described, feature_source
from lakehouse.learning.challenge import challenge_champion
from lakehouse.learning.fingerprint import code_digest
from lakehouse.learning.fitting import learn
from lakehouse.learning.recipe import Recipe, environment_of, predictions_digest, rows_digest
from lakehouse.learning.records import Origin
from lakehouse.learning.registration import complete_registration, register_model
from lakehouse.learning.registry import Registry, unheard
from lakehouse.learning.results import TrainReport
from lakehouse.learning.sources import declared_views, require_tables
from lakehouse.learning.training_rows import TRAINING_ROWS, make_training_rows
from lakehouse.learning.trials import TrialFile
from lakehouse.openlineage import job
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp


def train(
    settings: Settings,
    lake: Lake,
    contract: ModelContract,
    *,
    run: str,
    now: datetime,
    force: bool = False,
    reason: str = "",
    triggers: tuple[str, ...] = (),
    waiting: Callable[[str], None] = unheard,
) -> TrainReport:
    """Train a model on its features as they are, register it, and let it go as far towards production as its contract's guards allow.

    The same inputs, contract and code give the same model; it is then not trained again and the recorded report is returned.
    A model is trained by one process of a home at a time: another waits, and then finds the report. A process that is killed
    leaves either nothing, or a version that the next training gives its history and its report.
    A model that fails its minimums is registered as challenger, its report says so in a failed check, and the champion stays. So it
    does where the new model is not better by what the contract's `comparison` asks.

    Args:
        settings: of the home.
        lake: the tables.
        contract: what to predict, from what, how to judge it.
        run: recorded with everything that is written.
        now: the time of training.
        force: train although nothing changed.
        reason: why, for the history of the version.
        triggers: the contract's limits that were passed, for its report.
        waiting: told, in one line, that another process is training this model.

    Raises:
        ModelError: there is too little to learn from, or the contract names what is not there.
        FeatureError: a feature view is missing or can't be joined.
        TableNotFound: a table of labels or features has not been built.
        LockError: another process took the training over while this one was silent; nothing was registered.
    """
    source = feature_source(contract, declared_views(settings, contract))
    require_tables(lake, source)
    registry = Registry(settings)
    with registry.turn("training", contract.name, waiting=waiting) as still_ours:
        with job(settings, lake, "train", contract.name, run=run):
            return _train(
                settings, lake, registry, source, run=run, now=now, force=force, reason=reason, triggers=triggers, still_ours=still_ours
            )


def _train(
    settings: Settings,
    lake: Lake,
    registry: Registry,
    source: FeatureSource,
    *,
    run: str,
    now: datetime,
    force: bool,
    reason: str,
    triggers: tuple[str, ...],
    still_ours: Callable[[], None],
) -> TrainReport:
    """Decide, train and register, undisturbed."""
    contract = source.contract
    with lake.connect(source.tables) as session:
        origin = Origin(contract.name, contract.digest, code_digest(), session.inputs(*source.tables))
        newest = registry.newest(contract.name) if registry.is_present else None
        known = complete_registration(lake, registry, contract, newest, now=now) if newest else None
        if known is not None and known.origin == origin and not force:
            return known.report
        stamp = Stamp(
            asset=f"models.{contract.name}_training_set",
            run=run,
            inputs=origin.inputs,
            code=origin.code,
            source={"contract": contract.digest},
        )
        rows = make_training_rows(lake, session, described(source, session.con), stamp)
        data = rows_digest(session.con, TRAINING_ROWS)
    trials = TrialFile.of(settings, contract.name, origin.contract, origin.code, origin.inputs_json)
    learned = learn(contract, rows, threads=settings.threads, trials=trials)
    comparison = challenge_champion(lake, registry, contract, learned, threads=settings.threads)
    recipe = Recipe(contract, source.views, data, predictions_digest(learned.tested), environment_of(settings.threads))
    # Learning takes long enough for a turn to be lost, and a registry has nothing that refuses the second of two.
    still_ours()
    report = register_model(
        lake,
        registry,
        contract,
        learned,
        comparison,
        recipe=recipe,
        origin=origin,
        reason=reason,
        triggers=triggers,
        run=run,
        now=now,
    )
    trials.forget()
    return report
