"""A registered model made again from the table versions, contract and seed that were recorded: is it the same?"""

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse.errors import LakehouseError, ModelError, ModelNotFound
from lakehouse.features import FeatureSource, described
from lakehouse.learning.fingerprint import model_digest
from lakehouse.learning.fitting import learn
from lakehouse.learning.recipe import RECIPE_FILE, Recipe, environment_of, predictions_digest, rows_digest
from lakehouse.learning.registry import Registry
from lakehouse.learning.results import TrainReport
from lakehouse.learning.training_rows import TRAINING_ROWS, TrainingRows, rebuild_training_rows
from lakehouse.settings import Settings
from lakehouse.tables import Lake

DATA, PARAMETERS, PREDICTIONS = "data", "parameters", "predictions"


@dataclass(frozen=True, slots=True)
class Digest:
    """One thing that is compared: as it was recorded, and as it came out now.

    Attributes:
        what: `data`, `parameters` or `predictions`.
        detail: what is different, where something is.
    """

    what: str
    recorded: str
    found: str
    detail: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether it is the same."""
        return self.recorded == self.found


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A version, made again.

    Attributes:
        inputs: versions of the tables that it was made from.
        environment: what is otherwise than when it was registered, by name: then and now. It need not change anything.
    """

    model: str
    version: str
    inputs: Mapping[str, int]
    digests: tuple[Digest, ...]
    environment: Mapping[str, tuple[str, str]]

    @property
    def is_equal(self) -> bool:
        """Whether everything is the same."""
        return all(one.is_equal for one in self.digests)


def reproduce(settings: Settings, lake: Lake, model: str, version: str) -> Reproduction:
    """Make a version again from what was recorded of it, in memory: nothing is written.

    Args:
        settings: of the home.
        lake: the tables.
        model: its name; its contract is the one that was recorded, not the one of now.
        version: in the registry.

    Raises:
        ModelNotFound: there is no such version.
        ModelError: it was registered without a recipe, or a version of a table that it was made from is gone.
    """
    report, recipe = _recorded(Registry(settings), model, version)
    rows, found = _rebuilt(lake, recipe, report)
    learned = learn(recipe.contract, rows, threads=settings.threads)
    chosen = learned.best.name
    detail = f"{chosen} was chosen, not {report.algorithm}" if chosen != report.algorithm else "the same algorithm learned something else"
    return Reproduction(
        model,
        version,
        report.inputs,
        (
            Digest(
                DATA,
                recipe.data,
                found,
                f"{_counted(len(rows.train), len(rows.test))}, were {_counted(report.rows_train, report.rows_test)}",
            ),
            Digest(PARAMETERS, report.model_digest, model_digest(learned.pipeline), detail),
            Digest(PREDICTIONS, recipe.predictions, predictions_digest(learned.tested), f"of {report.rows_test:,} test rows"),
        ),
        recipe.environment.differences(environment_of(settings.threads)),
    )


def _recorded(registry: Registry, model: str, version: str) -> tuple[TrainReport, Recipe]:
    found = registry.registered(model, version) if registry.is_present else None
    if found is None:
        raise ModelNotFound(f"model {model}@{version}", "is not in the registry", fix=f"See `lakehouse model history {model}`")
    report, recipe = registry.report(found), registry.text_of(found, RECIPE_FILE)
    if report is None or recipe is None:
        raise ModelError(
            f"model {model}@{version}",
            "was registered without what is needed to make it again",
            fix=f"Run `lakehouse train {model} --force`",
        )
    return TrainReport.from_json(report), Recipe.from_json(recipe)


def _rebuilt(lake: Lake, recipe: Recipe, report: TrainReport) -> tuple[TrainingRows, str]:
    """The training rows, made again from the versions of the tables that were read, and their digest."""
    source = FeatureSource(recipe.contract, recipe.views)
    gone: list[str] = []
    for table, at in report.inputs.items():
        try:
            lake.snapshot(table, at)
        except LakehouseError as error:
            gone.append(f"{table}@{at} ({error.problem})")
    if gone:
        raise ModelError(
            f"model {report.model}",
            "can't be made again: versions of tables that it was made from are gone",
            found=", ".join(gone),
            fix="Restore them from a backup; `lakehouse versions` says what keeps a version from being vacuumed",
        )
    with lake.connect((), as_of=dict(report.inputs)) as session:
        rows = rebuild_training_rows(session, described(source, session.con), version=report.training_set_version)
        return rows, rows_digest(session.con, TRAINING_ROWS)


def _counted(train: int, test: int) -> str:
    return f"{train:,} rows to train and {test:,} to test"
