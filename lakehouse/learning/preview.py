"""What each column would become, before anything is trained: by the very Pipeline that training would fit, and without writing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError
from lakehouse.features import described, feature_source
from lakehouse.learning.algorithms import BASELINE, Algorithm, Task, build_pipeline, choose_candidates
from lakehouse.learning.candidates import warned
from lakehouse.learning.declared import declared_in
from lakehouse.learning.fitting import positive_class
from lakehouse.learning.origins import PreparedColumn, prepared_columns
from lakehouse.learning.preparation import Preparation, Style, plan_columns
from lakehouse.learning.sources import declared_views, require_tables
from lakehouse.learning.training_rows import TrainingRows, rebuild_training_rows
from lakehouse.learning.tuning import sampled_parameters, trials_of
from lakehouse.settings import Settings
from lakehouse.tables import Lake

if TYPE_CHECKING:
    import numpy as np

_ROW = "(the whole row)"
_MOST_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ColumnPreview:
    """What one feature becomes.

    Attributes:
        outputs: the columns that the algorithm shown would see of it; empty if it is not used, or selection let all of them go.
        warnings: what a person should know first.
    """

    feature: str
    sql_type: str
    treatment: str
    reason: str
    outputs: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CandidatePreview:
    """One algorithm that training would try.

    Attributes:
        columns: how many it would see.
        seconds: what its cross-validation, its share of the search for settings and its last fit may take on one core, in order of magnitude.
        notes: what its preparation warned of, or why it can't be prepared.
    """

    algorithm: str
    columns: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A training row.

    Attributes:
        before: feature -> value, as the model is given it.
        after: feature -> column -> number, as the estimator sees it; of a sparse text its words only.
    """

    label: Any
    before: Mapping[str, Any]
    after: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Preview:
    """What training would do with the rows there are.

    Attributes:
        shown: the algorithm whose columns and sample rows are shown.
        notes: what training would note about the algorithms and the rows.
        inputs: versions of the tables that were read.
    """

    model: str
    shown: str
    rows_train: int
    rows_test: int
    columns: tuple[ColumnPreview, ...]
    row_columns: tuple[str, ...]
    candidates: tuple[CandidatePreview, ...]
    rows: tuple[SampleRow, ...]
    notes: tuple[str, ...]
    inputs: Mapping[str, int]


def preview_model(settings: Settings, lake: Lake, contract: ModelContract, *, rows: int = 5, algorithm: str | None = None) -> Preview:
    """Prepare a model's training rows for each of its candidates, and fit no estimator; no table is written.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model.
        rows: how many sample rows, evenly spaced over the training rows.
        algorithm: of the candidates, whose columns and rows are shown; the first one unless it is named.

    Raises:
        ModelError: the contract asks for what can't be, or `algorithm` is no candidate.
        TrainingDataError: there is too little to learn from.
        TableNotFound: a table of labels or features has not been built.
    """
    source = feature_source(contract, declared_views(settings, contract))
    require_tables(lake, source)
    with lake.connect(source.tables) as session:
        inputs = session.inputs(*source.tables)
        data = rebuild_training_rows(session, described(source, session.con), version=0)
    return preview_rows(contract, data, inputs=inputs, rows=rows, algorithm=algorithm, threads=settings.threads)


def preview_rows(
    contract: ModelContract, data: TrainingRows, *, inputs: Mapping[str, int], rows: int, algorithm: str | None, threads: int
) -> Preview:
    """The preview of rows in memory; see `preview_model`."""
    classes = len(set(data.train_labels)) if contract.problem == "classification" else 0
    with declared_in(contract):
        preparation = plan_columns(data.train, data.schema, contract.preparation)
        task = Task(contract.problem, classes, len(data.train), preparation.has_text, contract.seed, contract.imbalance)
        choice = choose_candidates(contract.algorithms, task)
    positive_class(contract, data)
    candidates = [one for one in choice.algorithms if one.name != BASELINE]
    shown = _shown(contract, candidates, algorithm)
    prepared: dict[Style, _Prepared] = {}
    for one in (shown, *candidates):
        # Algorithms of a family get the same columns.
        if one.style not in prepared:
            prepared[one.style] = _prepare(one, preparation, task, data, threads=threads)
    seen = prepared[shown.style]
    fits = {one.name: _fit_s(one, prepared[one.style], task) for one in candidates}
    searches = _search_s(candidates, task, contract, fits)
    return Preview(
        model=contract.name,
        shown=shown.name,
        rows_train=len(data.train),
        rows_test=len(data.test),
        columns=_columns(contract, data, preparation, seen),
        row_columns=tuple(one.name for one in seen.columns if one.feature is None),
        candidates=tuple(
            CandidatePreview(
                one.name,
                len(prepared[one.style].columns),
                fits[one.name] * (_folds(contract) + 1) + searches[one.name],
                prepared[one.style].notes,
            )
            for one in candidates
        ),
        rows=_samples(data, seen, rows),
        notes=(*choice.notes, *(str(one) for one in (*data.leaks, *data.remembered) if one.subject not in data.schema.names)),
        inputs=inputs,
    )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The training rows as a family of estimators would be given them.

    Attributes:
        width: columns that hold something in an average row.
        values: one row per training row; None where they could not be prepared.
    """

    columns: Sequence[PreparedColumn]
    values: Any | None
    width: float
    notes: tuple[str, ...]


def _shown(contract: ModelContract, candidates: Sequence[Algorithm], name: str | None) -> Algorithm:
    found = next((one for one in candidates if name is None or one.name == name), None)
    if found is None:
        raise ModelError(
            f"model {contract.name}: algorithm {name or BASELINE}",
            "is none of its candidates that look at columns",
            expected=f"one of {', '.join(one.name for one in candidates)}" if candidates else None,
            fix="Name another, or add it to `algorithms` in the model contract",
        )
    return found


def _prepare(algorithm: Algorithm, preparation: Preparation, task: Task, data: TrainingRows, *, threads: int) -> _Prepared:
    """Fit all steps of the Pipeline but its estimator."""
    import warnings

    import joblib
    import numpy as np
    from threadpoolctl import threadpool_limits

    steps = build_pipeline((algorithm,), preparation, task)[:-1]
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(limits=1):
        warnings.simplefilter("always")
        try:
            with joblib.parallel_config(backend="threading", n_jobs=threads):
                values = steps.fit_transform(data.train, data.train_labels)
        except ValueError as error:
            # As in cross-validation: the rows do not suit this preparation, such as a text without words.
            return _Prepared((), None, 0.0, (f"would be left out: {str(error).splitlines()[0][:200]}",))
    columns = prepared_columns(steps.named_steps["prepare"])
    if "select" in steps.named_steps:
        columns = [columns[place] for place in steps.named_steps["select"].get_support(indices=True)]
    filled = values.nnz / max(values.shape[0], 1) if hasattr(values, "nnz") else float(np.shape(values)[1])
    return _Prepared(columns, values, filled, tuple(sorted({warned(str(one.message), data.train_labels) for one in caught})))


def _columns(contract: ModelContract, data: TrainingRows, preparation: Preparation, seen: _Prepared) -> tuple[ColumnPreview, ...]:
    outputs: dict[str, list[str]] = {}
    for one in seen.columns:
        outputs.setdefault(one.feature or _ROW, []).append(one.name)
    suspected: dict[str, list[str]] = {}
    for warning in contract.warnings:
        suspected.setdefault(warning.feature, []).append(f"is suspected by the contract: {warning.reason}")
    for leak in data.leaks:
        suspected.setdefault(leak.subject, []).append(leak.reason)
    return tuple(
        ColumnPreview(
            feature=plan.feature,
            sql_type=feature.sql_type,
            treatment=plan.treatment.value,
            reason=plan.reason,
            outputs=tuple(outputs.get(plan.feature, ())),
            warnings=(*plan.warnings, *suspected.get(plan.feature, ())),
        )
        for plan, feature in zip(preparation.columns, data.schema.features, strict=True)
    )


def _fit_s(algorithm: Algorithm, prepared: _Prepared, task: Task) -> float:
    return algorithm.cost[task.problem].estimate_s(task.rows, max(1, round(prepared.width)), task.classes)


def _folds(contract: ModelContract) -> int:
    """Of all repeats."""
    return contract.folds * (1 if contract.split.strategy == "time" else contract.budget.repeats)


def _search_s(candidates: Sequence[Algorithm], task: Task, contract: ModelContract, fits: Mapping[str, float]) -> dict[str, float]:
    """What the search for each algorithm's settings may take; all together no more than the budget."""
    budget = contract.budget
    if not budget.trials:
        return dict.fromkeys(fits, 0.0)
    # One search with all rows, and one without each fold.
    folds = [contract.folds, *[contract.folds - 1] * _folds(contract)]
    spaces = [sampled_parameters(one, task, budget.trials, seed=contract.seed) for one in candidates]
    dealt = [one for place in range(budget.trials) for one, space in zip(candidates, spaces, strict=True) if place < len(space)]
    tried = Counter(one.name for one in dealt[: budget.trials])
    found = {name: fit_s * trials_of(tried[name] + 1, folds) for name, fit_s in fits.items()}
    share = min(1.0, budget.seconds * budget.workers / max(sum(found.values()), 1e-9))
    return {name: share * seconds for name, seconds in found.items()}


def _samples(data: TrainingRows, seen: _Prepared, wanted: int) -> tuple[SampleRow, ...]:
    import numpy as np

    if seen.values is None or wanted < 1:
        return ()
    places = np.unique(np.linspace(0, len(data.train) - 1, min(wanted, len(data.train))).astype("int64"))
    return tuple(_sample(data, seen, int(place)) for place in places)


def _sample(data: TrainingRows, seen: _Prepared, place: int) -> SampleRow:
    row: Any = seen.values[place] if seen.values is not None else None
    numbers: np.ndarray[Any, Any] = row.toarray()[0] if hasattr(row, "toarray") else row
    after: dict[str, dict[str, float]] = {}
    for column, number in zip(seen.columns, numbers.tolist(), strict=True):
        feature = after.setdefault(column.feature or _ROW, {})
        feature[column.name] = float(number)
    return SampleRow(
        label=_plain(data.train_labels[place]),
        before={name: _plain(data.train[name].iloc[place]) for name in data.schema.names},
        after={feature: _telling(found) for feature, found in after.items()},
    )


def _telling(found: Mapping[str, float]) -> dict[str, float]:
    """All columns of a feature, or of many those that are not zero."""
    if len(found) <= _MOST_SHOWN:
        return dict(found)
    return dict(sorted(((name, number) for name, number in found.items() if number), key=lambda one: -abs(one[1]))[:_MOST_SHOWN])


def _plain(value: Any) -> Any:
    """A value as people read it; a gap is None."""
    import pandas as pd

    if value is None or value == "" or pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
