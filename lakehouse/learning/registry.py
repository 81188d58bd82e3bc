"""The registry: MLflow's, with models in a format that runs no code when it is loaded."""

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import yaml

from lakehouse.errors import ModelError, ModelNotFound
from lakehouse.learning.boards import ClientBoard, Shelf, SqliteBoard, has_known_tables
from lakehouse.learning.evaluation import Predictions, predict
from lakehouse.learning.familiarity import Seen
from lakehouse.learning.lifecycle.board import CHALLENGER, CHAMPION, Posted
from lakehouse.learning.schema import FeatureSchema
from lakehouse.locks import exclusive
from lakehouse.settings import Settings
from lakehouse.tables.lease import one_at_a_time
from lakehouse.tables.storage import Storage

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "LoadedModel",
    "ModelSpec",
    "RegisteredVersion",
    "Registry",
    "TrainingRecord",
    "no_champion",
    "unheard",
]

_METADATA = "lakehouse"
_MODEL_FILE = "model.skops"
_REPORT_FILE = "report.json"
SIGNATURE_TAG = "lakehouse.signature"
# All that a model file may name beside what skops itself trusts (scikit-learn's estimators, numpy, scipy). MLflow would take
# this list from the model's own folder, so that whoever wrote the file would also say that it is to be trusted: we never do.
TRUSTED_TYPES = (
    "lakehouse.learning.calibrated.Calibrated",
    "lakehouse.learning.transformers.ClippedToFences",
    "lakehouse.learning.transformers.CyclicDates",
    "lakehouse.learning.transformers.DateParts",
    "lakehouse.learning.transformers.ElapsedDays",
    "lakehouse.learning.transformers.GapsKept",
    "lakehouse.learning.transformers.NearestRows",
    "lakehouse.learning.transformers.Oddness",
    "lakehouse.learning.transformers.Projection",
    "lakehouse.learning.transformers.Strongest",
    "numpy.dtype",
    "scipy.sparse._csr.csr_matrix",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What has to be known to use a model beside its pipeline.

    Attributes:
        classes: every class, in the order of the probabilities; empty for regression.
        label_type: DuckDB type of the label, which predictions are given back as.
        seen: what the training rows held of each feature that is used; empty for a model from before this was kept.
    """

    schema: FeatureSchema
    problem: str
    classes: tuple[str, ...]
    positive: str | None
    label_type: str
    digest: str
    seen: tuple[Seen, ...] = ()

    @property
    def used(self) -> tuple[str, ...]:
        """The features that the model uses; of the others it needs the column, but no value."""
        return tuple(one.feature for one in self.seen) or self.schema.names

    def as_dict(self) -> dict[str, Any]:
        """As stored in the model's metadata."""
        return {
            "features": self.schema.as_list(),
            "problem": self.problem,
            "classes": list(self.classes),
            "positive": self.positive,
            "label_type": self.label_type,
            "digest": self.digest,
            "seen": [one.as_dict() for one in self.seen],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "ModelSpec":
        """From the model's metadata."""
        schema = FeatureSchema.from_list(stored["features"])
        seen = tuple(Seen.from_dict(one) for one in stored.get("seen", ()))
        return cls(schema, stored["problem"], tuple(stored["classes"]), stored["positive"], stored["label_type"], stored["digest"], seen)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model version, ready to predict.

    Attributes:
        threshold: what people have set for the time being; None for the model's own. `Lifecycle.load` knows it.
    """

    name: str
    version: str
    pipeline: Any = field(repr=False)
    spec: ModelSpec = field(repr=False)
    threshold: float | None = None

    def answer(self, frame: Any) -> Predictions:
        """What it says of a frame's rows: the only way to an answer that somebody acts on."""
        return predict(self.pipeline, frame[list(self.spec.schema.names)], positive=self.spec.positive, threshold=self.threshold)


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What is recorded of one training in MLflow; every value is short text or a number."""

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    report: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version as the registry knows it.

    Attributes:
        tags: those of its training record.
        run: the MLflow run that made it.
    """

    version: str
    tags: Mapping[str, str]
    run: str


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """MLflow warns of its own type hints when it loads its parts: nothing that a reader of our output could act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"mlflow\.")
        yield


def unheard(message: str) -> None:
    """Where nobody listens."""


class Registry:
    """Experiments, versions and aliases of a home's models."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _client(self) -> Any:
        """MLflow's client: it takes seconds to import, and seconds to make a new database, so it is made once when needed."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_DISABLE_ENV_CREATION", "true")
        uri = self._settings.mlflow_tracking_uri
        with quiet_mlflow():
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            # MLflow sets its own level when it is imported.
            for noisy in ("mlflow", "alembic"):
                logging.getLogger(noisy).setLevel(logging.WARNING)
            try:
                if self._database is not None:
                    _ensure_database(self._database, self._artifacts or "")
                client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                client.search_registered_models(max_results=1)
            except (MlflowException, SQLAlchemyError) as error:
                fix = "Move it away: every model is then trained again" if self._database else "Correct LAKEHOUSE_MLFLOW_URI"
                raise ModelError(f"registry {uri}", "can't be opened", found=_first_line(error), fix=fix) from error
            return client

    @cached_property
    def _board(self) -> Shelf:
        """Versions, aliases and tags; MLflow's client is not needed for those where they are in a file of this home."""
        path = self._database
        if path is not None and has_known_tables(path):
            return SqliteBoard(path)
        return ClientBoard(lambda: self._client)

    @property
    def _database(self) -> Path | None:
        """The registry's SQLite file; None where a server keeps it."""
        scheme, _, path = self._settings.mlflow_tracking_uri.partition(":///")
        return Path(path) if scheme == "sqlite" else None

    @property
    def _artifacts(self) -> str | None:
        """Where artifacts go; a tracking server decides for itself."""
        return None if self._database is None else (self._settings.home_dir / "registry" / "artifacts").as_uri()

    @property
    def is_present(self) -> bool:
        """Whether a registry can be there at all, without asking it."""
        return self._database is None or self._database.is_file()

    @contextmanager
    def turn(self, work: str, model: str, *, waiting: Callable[[str], None]) -> Generator[Callable[[], None]]:
        """Let one process at a time do a kind of work on a model: decide whether it is to be done, and do it.

        Of one home; where the tables are in a bucket, of all homes on them. The block gets a function that raises LockError where the
        turn has gone to another process meanwhile.

        Args:
            work: `training`, `predicting` or `changing`.
            model: its name.
            waiting: told, in one line, that another process is at it, before waiting for that.
        """
        path = self._settings.home_dir / "registry" / "locks" / f"{model}.{work}"
        storage = Storage(self._settings.tables_uri, self._settings.storage_options)
        told = f"another process is {work} {model}: waiting for it to end"
        with one_at_a_time(storage, f"{model}.{work}", lock=path, waiting=lambda: waiting(told)) as still_ours:
            yield still_ours

    def register(self, name: str, pipeline: Any, spec: ModelSpec, record: TrainingRecord) -> str:
        """Record a training and make its model the newest version; returns the version, which has no alias yet.

        Raises:
            ModelError: the model holds a type that may not be loaded.
        """
        from mlflow.entities import Metric, Param

        client = self._client
        experiment = self._experiment(name)
        tags = {key: value[:5000] for key, value in record.tags.items()}
        run = client.create_run(experiment, run_name=record.tags.get("lakehouse.run"), tags=tags)
        run_id = run.info.run_id
        milliseconds = int(run.info.start_time)
        client.log_batch(
            run_id,
            metrics=[Metric(key, value, milliseconds, 0) for key, value in record.metrics.items()],
            params=[Param(key, value[:6000]) for key, value in record.params.items()],
        )
        client.log_dict(run_id, dict(record.report), _REPORT_FILE)
        self.attach(run_id, record.files)
        model = client.create_logged_model(experiment, name=name, source_run_id=run_id, params=dict(record.params), model_type=spec.problem)
        with tempfile.TemporaryDirectory(prefix="model-") as scratch:
            folder = Path(scratch) / "model"
            save_model(pipeline, spec, folder)
            client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        client.set_terminated(run_id)
        self._ensure_registered(name)
        made = client.create_model_version(name, source=model.artifact_location, run_id=run_id, tags=tags, model_id=model.model_id)
        return str(made.version)

    def attach(self, run: str, files: Mapping[str, bytes]) -> None:
        """Keep files with a training's record, by their names; one that is there is replaced."""
        with tempfile.TemporaryDirectory(prefix="files-") as scratch:
            for file, content in files.items():
                (Path(scratch) / file).write_bytes(content)
            self._client.log_artifacts(run, scratch)

    def registered(self, name: str, version: str) -> RegisteredVersion | None:
        """A version by its number; None if there is none."""
        found = self.posted(name).get(version)
        return None if found is None else RegisteredVersion(version, found.tags, found.run)

    def posted(self, name: str) -> Mapping[str, Posted]:
        """Every version of a model, with the run that made it and its tags."""
        return self._board.posted(name)

    def aliases(self, name: str) -> Mapping[str, str]:
        """The version that each alias of a model stands for."""
        return self._board.aliases(name)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias stand for a version."""
        self._board.set_alias(name, alias, version)

    def remove_alias(self, name: str, alias: str) -> None:
        """Let an alias stand for nothing."""
        self._board.remove_alias(name, alias)

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Write tags onto a version, as onto its training record."""
        self._board.tag(name, version, tags)

    def newest(self, name: str) -> RegisteredVersion | None:
        """The version that was registered last; None if there is none."""
        versions = self.versions(name)
        return self.registered(name, versions[0]) if versions else None

    def versions(self, name: str) -> list[str]:
        """Every version of a model, newest first."""
        return sorted(self.posted(name), key=int, reverse=True)

    def report(self, version: RegisteredVersion) -> str | None:
        """The report that was recorded with a version before it was registered; None if another program registered it."""
        return self.text_of(version, _REPORT_FILE)

    def text_of(self, version: RegisteredVersion, file: str) -> str | None:
        """A text file that was kept with a version's record; None if there is none of this name."""
        from mlflow.exceptions import MlflowException

        try:
            # Not by the run: MLflow would look among its models too, and for that ask Spark which registry there is.
            place = self._client.get_run(version.run).info.artifact_uri
            return self._folder(f"{place}/{file}").read_text("utf-8")
        except (MlflowException, OSError):
            return None

    def end_interrupted(self, name: str) -> None:
        """Mark the runs of a model that were never ended as killed. For the one whose turn it is: nobody else is at work."""
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return
        for run in self._client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'"):
            self._client.set_terminated(run.info.run_id, "KILLED")

    def version(self, name: str, alias: str) -> str | None:
        """The version that an alias stands for; None if it stands for none."""
        return self.aliases(name).get(alias)

    def load(self, name: str, version: str | None = None) -> LoadedModel:
        """A version of a model, or its champion, as it was trained; `Lifecycle.load` gives it as it is used.

        Raises:
            ModelNotFound: there is no such version, or no version has reached the contract's minimums yet.
            ModelError: the stored model is damaged, or names a type that is not trusted.
        """
        wanted = version or (self.version(name, CHAMPION) if self.is_present else None)
        if wanted is None:
            raise no_champion(name)
        return load_model(self._folder(self._board.place(name, wanted)), name=name, version=wanted)

    def _folder(self, location: str) -> Path:
        parsed = urlparse(location)
        if parsed.scheme in {"", "file"}:
            return Path(url2pathname(parsed.path))
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(artifact_uri=location, tracking_uri=self._settings.mlflow_tracking_uri))

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = f"{self._artifacts}/{name}" if self._artifacts else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _ensure_registered(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _ensure_database(path: Path, artifacts: str) -> None:
    """Make MLflow's database whole or not at all: half of one, left by a process that was killed, can't be opened again."""
    with exclusive(path.with_name(f"{path.name}.lock"), waiting=lambda: None):
        if path.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        draft = path.with_name(f".{path.name}.new")
        draft.unlink(missing_ok=True)
        SqlAlchemyStore(f"sqlite:///{draft}", artifacts).engine.dispose()
        draft.replace(path)


def no_champion(name: str) -> ModelNotFound:
    """What is said where a champion is asked for and there is none."""
    return ModelNotFound(
        f"model {name}",
        "has no champion: no version of it was trained yet, or none has reached its minimums",
        fix=f"Run `lakehouse train {name}`; what became of earlier versions is told by `lakehouse model history {name}`",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]


def save_model(pipeline: Any, spec: ModelSpec, folder: Path) -> None:
    """Write a model as MLflow's scikit-learn flavour, in skops format.

    Raises:
        ModelError: the pipeline holds a type that may not be loaded.
    """
    import sklearn
    import skops

    _make_plain(pipeline)
    with quiet_mlflow():
        from mlflow.exceptions import MlflowException
        from mlflow.sklearn import save_model as save

        try:
            save(
                pipeline,
                str(folder),
                serialization_format="skops",
                skops_trusted_types=list(TRUSTED_TYPES),
                pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}", "lakehouse"],
                metadata={_METADATA: json.dumps(spec.as_dict())},
            )
        except MlflowException as error:
            fix = "Use scikit-learn's own types"
            raise ModelError("model", "holds a type that may not be loaded", found=str(error)[:400], fix=fix) from error


def _make_plain(fitted: Any) -> None:
    """Leave out, in place, what is not of the model.

    The numbers in the vocabularies of text steps become Python's: skops would store each NumPy number as a file of its own, in a time
    that grows with the square of their number. The number of threads that fitted boosting becomes 1: the file is the same on all machines.
    """
    waiting, seen = [fitted], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, list | tuple):
            waiting.extend(one)
        elif hasattr(one, "get_params"):
            state = vars(one)
            if isinstance(state.get("vocabulary_"), dict):
                one.vocabulary_ = {str(token): int(column) for token, column in state["vocabulary_"].items()}
            if "n_threads" in state:
                one.n_threads = 1
            waiting.extend(value for value in state.values() if isinstance(value, list | tuple) or hasattr(value, "get_params"))


def load_model(folder: Path, *, name: str, version: str) -> LoadedModel:
    """Read a model that `save_model` wrote; nothing but trusted types comes alive.

    Raises:
        ModelError: the folder holds no such model, or one with other types.
    """
    import skops.io

    subject = f"model {name}@{version}"
    try:
        description = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
        spec = ModelSpec.from_dict(json.loads(description["metadata"][_METADATA]))
        data = (folder / _MODEL_FILE).read_bytes()
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ModelError(subject, "can't be read", found=f"{type(error).__name__}: {error}", fix="Train it again") from error
    untrusted = _untrusted(skops.io.get_untrusted_types(data=data))
    if untrusted:
        raise ModelError(subject, "holds types that are not trusted; it was not loaded", found=", ".join(untrusted), fix="Train it again")
    return LoadedModel(name, version, skops.io.loads(data, trusted=list(TRUSTED_TYPES)), spec)


def _untrusted(types: list[str]) -> list[str]:
    return sorted(set(types) - set(TRUSTED_TYPES))
