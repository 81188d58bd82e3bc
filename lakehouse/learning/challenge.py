"""A challenger against the version in production: the same test rows, none that either has learned from, and the same folds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError, TableNotFound
from lakehouse.features import LABEL
from lakehouse.features.training_set import ROW_KEY
from lakehouse.learning.candidates import Fold, fit, make_folds
from lakehouse.learning.comparison import ModelComparison, OnFolds, compare_on_folds, compare_on_rows
from lakehouse.learning.evaluation import measure, predict
from lakehouse.learning.fingerprint import model_digest
from lakehouse.learning.fitting import Learned
from lakehouse.learning.lifecycle import Signature
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.lifecycle.semantic import target_digest
from lakehouse.learning.records import evaluated
from lakehouse.learning.registry import SIGNATURE_TAG, LoadedModel, Registry
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.splits import SPLIT, TEST, TRAIN
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake

if TYPE_CHECKING:
    import duckdb

_ROWS = "__holdout"
_UNIT = "__unit"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A model that is to be judged.

    Attributes:
        version: empty while it has none.
        pipeline: fitted.
        schema: the features that it is given.
        positive: of two classes the one that probability is about.
        training_set: version of the table that it learned from; None where nobody knows.
    """

    version: str
    pipeline: Any
    schema: FeatureSchema
    positive: str | None
    training_set: int | None


def challenge_champion(
    lake: Lake, registry: Registry, contract: ModelContract, learned: Learned, *, threads: int
) -> ModelComparison | None:
    """Judge a model that has just been trained beside the one in production; None where there is none.

    Args:
        lake: the tables.
        registry: of the home.
        contract: of the model.
        learned: the challenger.
        threads: that the champion's recipe may be fitted on.
    """
    production = Lifecycle(registry, lake).look(contract.name).production
    if production is None:
        return None
    rows = learned.rows
    challenger = Contestant("", learned.pipeline, rows.schema, learned.tested.positive, rows.commit.version)
    compared = compare_with(lake, registry, contract, production, challenger, metric=learned.metric)
    if compared.holdout is None:
        return compared
    folds, notes = _on_folds(registry.load(contract.name, production), contract, learned, threads=threads)
    return replace(compared, folds=folds, notes=(*compared.notes, *notes))


def compare_versions(lake: Lake, registry: Registry, contract: ModelContract, *, champion: str, challenger: str) -> ModelComparison:
    """Judge two registered versions on the test rows of the second's training set.

    Raises:
        ModelNotFound: the challenger is not in the registry.
        ModelError: its training set is gone, or another program registered it.
    """
    known = evaluated(lake, contract.name, challenger)
    model = registry.load(contract.name, challenger)
    if known is None:
        raise ModelError(f"model {contract.name}@{challenger}", "was never evaluated here", fix=f"Run `lakehouse train {contract.name}`")
    report = known.report
    contestant = Contestant(challenger, model.pipeline, model.spec.schema, model.spec.positive, report.training_set_version)
    compared = compare_with(lake, registry, contract, champion, contestant, metric=report.metric)
    recorded = report.comparison
    if recorded is not None and recorded.champion == champion:
        compared = replace(compared, folds=recorded.folds)
    return compared


def compare_with(
    lake: Lake, registry: Registry, contract: ModelContract, champion: str, challenger: Contestant, *, metric: str
) -> ModelComparison:
    """Judge a challenger and a registered version by the challenger's test rows.

    Raises:
        ModelError: the challenger's training set is gone.
    """
    told = ModelComparison(champion, challenger.version, metric)
    known = evaluated(lake, contract.name, champion)
    try:
        model = registry.load(contract.name, champion)
    except ModelError as error:
        return replace(told, reason=f"it can't be loaded ({error.problem})", free=True)
    why = _incomparable(model, _signature(registry, contract.name, champion), contract, challenger.schema)
    if why is not None:
        return replace(told, reason=why, free=True)
    positive = challenger.positive
    if positive is not None and positive not in _classes(model.pipeline):
        return replace(told, reason=f"it does not know the class {positive}, which probability is about now", free=True)
    # Which of two classes is the rarer one may be another in the champion's training rows: both are asked about the same.
    other = Contestant(champion, model.pipeline, model.spec.schema, positive, known.report.training_set_version if known else None)
    return _Holdout(lake, contract, other, challenger).compared(told)


def _classes(pipeline: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in getattr(pipeline, "classes_", ()))


def _signature(registry: Registry, name: str, version: str) -> Signature | None:
    """What a version was registered as; None for one from before that was kept."""
    posted = registry.posted(name).get(version)
    stored = posted.tags.get(SIGNATURE_TAG) if posted is not None else None
    return Signature.from_json(stored) if stored else None


def _incomparable(model: LoadedModel, signature: Signature | None, contract: ModelContract, schema: FeatureSchema) -> str | None:
    """Why a champion can't be asked about a challenger's rows; a feature it never used may be gone."""
    if model.spec.problem != contract.problem:
        return f"it answers a {model.spec.problem}, and the contract now asks for a {contract.problem}"
    if signature is not None and signature.target != target_digest(contract.problem, contract.target):
        return "the contract now predicts another target"
    kinds = {one.name: one.kind for one in schema.features}
    used = set(model.spec.used)
    gone = [one.name for one in model.spec.schema.features if one.name in used and kinds.get(one.name) is not one.kind]
    if gone:
        return f"it uses {', '.join(gone)}, which the model's features no longer have in that form"
    return None


class _Holdout:
    """The test rows of a challenger's training set that the champion has not learned from."""

    def __init__(self, lake: Lake, contract: ModelContract, champion: Contestant, challenger: Contestant) -> None:
        self._lake, self._contract = lake, contract
        self._champion, self._challenger = champion, challenger
        self._table = f"models.{contract.name}_training_set"
        self._notes: list[str] = []
        self._group = [contract.split.column] if contract.split.strategy == "group" and contract.split.column else []

    def compared(self, told: ModelComparison) -> ModelComparison:
        """The comparison by these rows."""
        con = self._lake.open_connection()
        try:
            found = self._make_rows(con)
            if found == 0:
                return replace(told, reason="it has learned from every test row", notes=tuple(self._notes))
            kind = "VARCHAR" if self._contract.problem == "classification" else "DOUBLE"
            extra = [f"CAST({quote_identifier(LABEL)} AS {kind}) AS __truth", _UNIT]
            frames = [one.schema.fetch(con, _ROWS, order_by=["__place"], extra=extra) for one in (self._champion, self._challenger)]
        finally:
            con.close()
        said = [
            predict(one.pipeline, frame[list(one.schema.names)], positive=one.positive)
            for one, frame in zip((self._champion, self._challenger), frames, strict=True)
        ]
        truth = frames[1]["__truth"].to_numpy(dtype=object if self._contract.problem == "classification" else "float64")
        units = frames[1][_UNIT].to_numpy(dtype=object)
        holdout = compare_on_rows(truth, said[0], said[1], metric=told.metric, units=units, seed=self._contract.seed)
        if holdout is None:
            reason = f"{told.metric} can't be measured on the {found:,} test rows that it has not learned from"
            return replace(told, reason=reason, notes=tuple(self._notes))
        return replace(told, holdout=holdout, notes=tuple(self._notes))

    def _make_rows(self, con: "duckdb.DuckDBPyConnection") -> int:
        now = self._lake.scan_sql(self._table, version=self._challenger.training_set, con=con)
        columns = self._columns(con, now)
        missing = [one.name for one in self._champion.schema.features if one.name not in columns]
        # A feature that the champion was given and does not use may be gone: it gets nothing for it.
        blank = "".join(f", NULL AS {quote_identifier(name)}" for name in missing)
        entity = [one for one in self._contract.entity if one in columns] or [ROW_KEY]
        # Rows of a group resemble each other as those of an entity do: they are drawn together.
        named = f"concat_ws(chr(31), {', '.join(_text(one) for one in self._group or entity)})"
        is_test = f"{quote_identifier(SPLIT)} = {quote_literal(TEST)}"
        kept = f"SELECT *{blank}, {named} AS {_UNIT} FROM ({now}) AS this WHERE {is_test}{self._unseen(con, columns, entity)}"
        con.execute(f"CREATE TEMP TABLE {_ROWS} AS SELECT *, row_number() OVER (ORDER BY {_UNIT}) AS __place FROM ({kept})")
        row = con.execute(f"SELECT count(*) FROM {_ROWS}").fetchone()
        return int(row[0]) if row else 0

    def _unseen(self, con: "duckdb.DuckDBPyConnection", columns: Sequence[str], entity: Sequence[str]) -> str:
        """The condition that keeps out what the champion has learned from.

        By time these are the very rows; otherwise everything of an entity (or group) of which it has learned anything.
        """
        contract = self._contract
        by_time = contract.split.strategy == "time"
        times = [one for one in (contract.event_timestamp, contract.split.column) if one] if by_time else []
        unit = list(dict.fromkeys(self._group or [*entity, *times]))
        try:
            before = (
                self._lake.scan_sql(self._table, version=self._champion.training_set, con=con)
                if self._champion.training_set is not None
                else None
            )
        except TableNotFound:
            before = None
        known = self._columns(con, before) if before is not None else []
        if before is None or not set(unit) <= {*known} & {*columns}:
            self._notes.append(f"what version {self._champion.version} has learned from is not known: it may know some of the test rows")
            return ""
        same = " AND ".join(f"{_text(one, 'old')} = {_text(one)}" for one in unit)
        learned = f"SELECT * FROM ({before}) WHERE {quote_identifier(SPLIT)} = {quote_literal(TRAIN)}"
        return f" AND NOT EXISTS (SELECT 1 FROM ({learned}) AS old WHERE {same})"

    @staticmethod
    def _columns(con: "duckdb.DuckDBPyConnection", select: str) -> list[str]:
        return [str(row[0]) for row in con.execute(f"DESCRIBE {select}").fetchall()]


def _text(column: str, of: str = "this") -> str:
    return f"coalesce(CAST({of}.{quote_identifier(column)} AS VARCHAR), '')"


def _on_folds(champion: LoadedModel, contract: ModelContract, learned: Learned, *, threads: int) -> tuple[OnFolds | None, tuple[str, ...]]:
    """The champion's recipe, fitted anew on the folds that chose the challenger."""
    rows, metric = learned.rows, learned.metric
    folds = make_folds(
        rows.folds,
        rows.train_labels,
        by_time=contract.split.strategy == "time",
        is_classification=contract.problem == "classification",
        times=rows.times,
        gap_s=contract.split.gap_days * 86_400,
    )
    # Of a repeated cross-validation the first, which is recorded with the rows.
    own = [one.get(metric) for one in learned.best.folds[: len(folds)]]
    names = list(champion.spec.schema.names)
    if None in own or len(own) != len(folds) or not set(names) <= set(rows.schema.names):
        return None, ()
    challenger = tuple(value for value in own if value is not None)
    # The folds chose among models whose probabilities nobody had calibrated yet.
    recipe = _uncalibrated(champion.pipeline)
    share = sum(len(fold.judge) / len(fold.fit) for fold in folds) / len(folds)
    if model_digest(recipe) == model_digest(_uncalibrated(learned.pipeline)):
        return compare_on_folds(challenger, challenger, metric=metric, judged_share=share, same_recipe=True), ()
    try:
        scores = [_score(recipe, learned, fold, names, learned.tested.positive, threads=threads).get(metric) for fold in folds]
    except ValueError as error:
        # scikit-learn's way to say that the rows do not suit the estimator.
        return None, (f"the recipe of version {champion.version} can't be fitted to the folds: {str(error).splitlines()[0][:200]}",)
    before = tuple(value for value in scores if value is not None)
    if len(before) != len(challenger):
        return None, ()
    return compare_on_folds(before, challenger, metric=metric, judged_share=share), ()


def _uncalibrated(pipeline: Any) -> Any:
    """The unfitted pipeline without what was done to its probabilities."""
    from sklearn.base import clone
    from sklearn.pipeline import Pipeline

    from lakehouse.learning.calibrated import Calibrated

    recipe: Any = clone(pipeline)
    *before, (name, last) = recipe.steps
    return Pipeline([*before, (name, last.estimator)]) if isinstance(last, Calibrated) else recipe


def _score(recipe: Any, learned: Learned, fold: Fold, names: list[str], positive: str | None, *, threads: int) -> dict[str, float]:
    from sklearn.base import clone

    frame, labels = learned.rows.train[names], learned.rows.train_labels
    pipeline = clone(recipe)
    fit(pipeline, frame.iloc[fold.fit], labels[fold.fit], threads=threads)
    return measure(labels[fold.judge], predict(pipeline, frame.iloc[fold.judge], positive=positive))
