"""What a contract says, as typed objects: every other part of the lakehouse reads these and never the YAML."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.errors import ContractError, ContractNotFound

if TYPE_CHECKING:
    from lakehouse.contracts.databases import SourceTable
    from lakehouse.contracts.topics import SourceTopic

Protection = Literal["none", "pseudonym", "redact", "encrypt", "mask", "drop"]
PROTECTIONS: tuple[Protection, ...] = ("none", "pseudonym", "redact", "encrypt", "mask", "drop")
Strategy = Literal["direct", "canary", "shadow", "ab"]
_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Level(StrEnum):
    """The four questions of validation: is it a row, is each value possible, do the values agree, is the batch like the others."""

    STRUCTURAL = "structural"
    SEMANTIC = "semantic"
    BUSINESS = "business"
    STATISTICAL = "statistical"


class Severity(StrEnum):
    """An error quarantines the row (or fails the batch); a warning is counted and reported."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Pin:
    """A limit of a statistic that the contract gives instead of what is learned, or that nobody is to ask for it."""

    low: float = -math.inf
    high: float = math.inf
    is_off: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset: how it is found in the file, which type it has and how it is protected.

    Attributes:
        name: its name in every table.
        source: its name in the file; for nested JSON a dotted path.
        sql_type: DuckDB type of a valid value, before protection.
        formats: strptime formats tried after ISO.
        null_values: texts that mean "no value", besides the empty text.
        decimal: the decimal separator of the text.
        timezone: zone of timestamps whose text names none.
        trim: surrounding blanks are not part of the value.
        also_called: other names that it has in files, such as the one before it was renamed.
        may_be_missing: a file without it is not worth a word.
        subject: the column that says whose the value is.
        usual: limits of its statistics, by their names.
    """

    name: str
    source: str
    logical_type: str
    sql_type: str
    required: bool = False
    unique: bool = False
    primary_key: bool = False
    classification: str | None = None
    protection: Protection = "none"
    description: str = ""
    options: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    allowed: tuple[Any, ...] = ()
    formats: tuple[str, ...] = ()
    null_values: tuple[str, ...] = ()
    decimal: str = "."
    timezone: str = "UTC"
    trim: bool = True
    pii: str | None = None
    tags: tuple[str, ...] = ()
    also_called: tuple[str, ...] = ()
    may_be_missing: bool = False
    subject: str | None = None
    usual: Mapping[str, Pin] = field(default_factory=lambda: _EMPTY)

    @property
    def protected(self) -> bool:
        """Its values must not be shown, stored or logged as they arrived."""
        return self.protection != "none"

    @property
    def stored_type(self) -> str:
        """DuckDB type in the raw table: protected values are text, masked ones of their own type."""
        return "VARCHAR" if self.protected and self.protection != "mask" else self.sql_type


@dataclass(frozen=True, slots=True)
class Rule:
    """One question to every row.

    Attributes:
        id: `<column>.<what>` or the name the contract gave it; unique within the contract.
        valid_sql: boolean SQL over the typed columns; NULL counts as valid.
        describe_sql: SQL that gives, for a bad row, what was found and what was expected; never a protected value.
        description: what the rule expects, for people.
        holds_if_filled: whether every row that has a typed value in `columns` satisfies it, so that it need not be asked.
    """

    id: str
    level: Level
    severity: Severity
    columns: tuple[str, ...]
    valid_sql: str
    describe_sql: str
    description: str
    holds_if_filled: bool = False


Operator = Literal["equal", "not_equal", "greater", "at_least", "less", "at_most", "between", "not_between"]


@dataclass(frozen=True, slots=True)
class Must:
    """The condition a measured number has to meet."""

    operator: Operator
    value: float | tuple[float, float]

    def holds(self, measured: float) -> bool:
        """Whether the number meets it."""
        if isinstance(self.value, tuple):
            low, high = self.value
            return (low <= measured <= high) == (self.operator == "between")
        comparisons: dict[str, bool] = {
            "equal": measured == self.value,
            "not_equal": measured != self.value,
            "greater": measured > self.value,
            "at_least": measured >= self.value,
            "less": measured < self.value,
            "at_most": measured <= self.value,
        }
        return comparisons[self.operator]

    def __str__(self) -> str:
        if isinstance(self.value, tuple):
            return f"{'' if self.operator == 'between' else 'not '}{self.value[0]:g} to {self.value[1]:g}"
        words = {
            "equal": "",
            "not_equal": "not ",
            "greater": "more than ",
            "at_least": "at least ",
            "less": "less than ",
            "at_most": "at most ",
        }
        return f"{words[self.operator]}{self.value:g}"


@dataclass(frozen=True, slots=True)
class StatisticalRule:
    """One question to a whole batch.

    Attributes:
        metric: nullValues, missingValues, invalidValues, duplicateValues, rowCount, sql, or the name of a check that needs
            the batches before (`mean_drift`, ...), whose arguments are in `options`.
        measure_sql: aggregate over the typed rows that gives the number `must` judges; None for checks that need history.
            For the metric `sql` it is a whole query over the table named as the dataset.
        must: None for checks that bring their own condition.
    """

    id: str
    column: str | None
    metric: str
    must: Must | None
    severity: Severity
    description: str
    measure_sql: str | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: every value of `columns` is one of `parent_columns` of another dataset."""

    id: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a dataset's files arrive and what they look like; None means that the reader finds out.

    Attributes:
        paths: globs; relative ones are under the dataset's landing folder.
        encodings: tried in this order.
        records: dotted path of the list of records inside a JSON document.
        schedule: cron, in UTC, of looks at its `s3://` paths; None leaves it to the settings.
    """

    paths: tuple[str, ...] = ()
    format: str | None = None
    encodings: tuple[str, ...] = ()
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    header: bool | None = None
    sheet: str | None = None
    skip_rows: int = 0
    decimal: str = "."
    records: str | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    schedule: str | None = None

    @property
    def exports(self) -> tuple[str, ...]:
        """The `s3://` paths: they are looked at by schedule."""
        return tuple(path for path in self.paths if path.startswith("s3://"))


@dataclass(frozen=True, slots=True)
class SchemaChanges:
    """What happens when a file's columns are not the contract's.

    Attributes:
        new_columns: `warn` reports them by name, `rescue` also keeps their values as JSON, `reject` refuses the file, `ignore` is silent.
        missing_columns: `null` fills optional ones (a missing required column always refuses the file), `reject` refuses the file.
        type_change: `quarantine` judges each row; `reject` refuses a file in which a column has no valid value at all.
        breaking_change: when the contract breaks its promises without a new major version, `warn` says so, `reject` ingests nothing.
    """

    new_columns: Literal["warn", "rescue", "reject", "ignore"] = "warn"
    missing_columns: Literal["null", "reject"] = "null"
    type_change: Literal["quarantine", "reject"] = "quarantine"
    breaking_change: Literal["warn", "reject"] = "warn"


@dataclass(frozen=True, slots=True)
class Archiving:
    """When rows leave the raw table for a cheaper place.

    Attributes:
        by: the column of time that says how old a row is.
        warm_after_days: rows older than this move to the first tier.
        cold_after_days: rows older than this move on to the second; None keeps them in the first.
    """

    by: str
    warm_after_days: int
    cold_after_days: int | None = None


@dataclass(frozen=True)
class DatasetContract:
    """One dataset: columns, rules, where it arrives and what may happen to it.

    Attributes:
        name: the dataset's and its tables' name.
        primary_key: columns in key order; empty for a dataset without one (rows are told apart by file and row number).
        rules: semantic and business rules and `required`, over the typed columns.
        references: rules between this dataset and others.
        entity: columns that say who or what a row is about.
        event_timestamp: column that says when it happened.
        quarantine_limit_percent: above this share of bad rows the whole file is refused.
        cluster_by: columns that its tables are filtered by: compaction sorts their rows by these.
        redelivery: what a new file does to those that arrived under its name before: `adds` rows to theirs, or `replaces` them.
        databases: tables of databases that its rows can be fetched from.
        topics: topics that its rows can be fetched from.
        archiving: when rows leave its raw table for the archive; None keeps them.
        usual: limits of a batch's statistics, by their names.
        digest: sha256 of the parsed document: comments and the order of keys don't change it.
    """

    name: str
    version: str
    columns: tuple[Column, ...]
    status: str = "active"
    domain: str = "default"
    description: str = ""
    owner: str | None = None
    primary_key: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    statistical_rules: tuple[StatisticalRule, ...] = ()
    references: tuple[Reference, ...] = ()
    entity: tuple[str, ...] = ()
    event_timestamp: str | None = None
    quarantine_limit_percent: float | None = None
    source_priority: tuple[str, ...] = ()
    redelivery: Literal["adds", "replaces"] = "adds"
    landing: Landing = field(default_factory=Landing)
    databases: "tuple[SourceTable, ...]" = ()
    topics: "tuple[SourceTopic, ...]" = ()
    schema_changes: SchemaChanges = field(default_factory=SchemaChanges)
    null_values: tuple[str, ...] = ()
    cluster_by: tuple[str, ...] = ()
    archiving: Archiving | None = None
    usual: Mapping[str, Pin] = field(default_factory=lambda: _EMPTY)
    tags: tuple[str, ...] = ()
    digest: str = ""
    path: Path | None = None
    document: Mapping[str, Any] = field(default_factory=lambda: _EMPTY, repr=False, compare=False)

    @property
    def raw(self) -> str:
        """Table of accepted rows."""
        return f"raw.{self.name}"

    @property
    def quarantine(self) -> str:
        """Table of rejected rows."""
        return f"quarantine.{self.name}"

    @property
    def staging(self) -> str:
        """Table of deduplicated rows."""
        return f"staging.{self.name}"

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    def column(self, name: str) -> Column:
        """The column of this name.

        Raises:
            ContractError: there is none; the message lists the nearest.
        """
        if name not in self._by_name:
            raise ContractError(
                f"dataset {self.name}", f"has no column {name}", expected=_expected(self._by_name), fix=_nearest(name, self._by_name)
            )
        return self._by_name[name]

    @property
    def protected_columns(self) -> tuple[Column, ...]:
        """Columns whose values are stored only in protected form."""
        return tuple(column for column in self.columns if column.protected)


@dataclass(frozen=True, slots=True)
class Split:
    """How rows are divided into training and test.

    Attributes:
        strategy: `time` tests on the newest, `group` never divides an entity, `random` is stratified for classes.
        column: of the time or group; default the event timestamp or the entity.
        gap_days: nothing is learned from rows of this many days before the first test row, whose labels may reach into its time.
    """

    strategy: Literal["time", "random", "group"] = "random"
    test_fraction: float = 0.2
    column: str | None = None
    gap_days: float = 0.0


@dataclass(frozen=True, slots=True)
class FeatureWarning:
    """A feature that a person should look at before trusting the model."""

    feature: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a staged version gets into production, and what takes it back.

    Attributes:
        strategy: `direct` takes over at once; `canary` and `ab` answer for a share of the entities first; `shadow` answers for none, and is recorded.
        steps: percent of the entities that the new version answers for, step by step.
        step_hours: the least time of each step, and of a shadow.
        staged_hours: the least time between staging and anything further.
        approval: somebody has to approve it.
        max_error_rate: share of the requests that may fail.
        max_latency_ms: how long an answer may take; None for any time.
        max_metric_drop: how much less than the champion it may reach on new labels, as a share of the champion's.
        min_rows: of fewer requests or labels nothing is concluded.
    """

    strategy: Strategy = "direct"
    steps: tuple[float, ...] = ()
    step_hours: float = 24.0
    staged_hours: float = 0.0
    approval: bool = False
    max_error_rate: float = 0.05
    max_latency_ms: float | None = None
    max_metric_drop: float = 0.05
    min_rows: int = 100


Impute = Literal["auto", "mean", "median", "mode", "knn"]
Encode = Literal["auto", "one_hot", "ordinal", "target"]
Scale = Literal["auto", "standard", "min_max", "robust", "none"]
Fences = Literal["none", "z_score", "iqr"]
Outliers = Literal["none", "z_score", "iqr", "isolation_forest"]
Select = Literal["none", "statistical", "model"]
Dates = Literal["auto", "cyclic", "elapsed", "none"]
Text = Literal["auto", "words", "letters", "none"]


@dataclass(frozen=True, slots=True)
class ColumnPreparation:
    """What a model contract says of the preparation of one column; None where it says nothing."""

    impute: Impute | None = None
    encode: Encode | None = None
    order: tuple[str, ...] = ()
    scale: Scale | None = None
    outliers: Fences | None = None
    outlier_threshold: float | None = None
    dates: Dates | None = None
    text: Text | None = None


@dataclass(frozen=True, slots=True)
class PreparationSpec:
    """What a model contract says of the preparation of its columns.

    Attributes:
        outlier_threshold: None for the method's own.
        keep: of the columns that `select` chooses from; below 1 a share, otherwise a number.
        columns: what is different for single columns.
    """

    impute: Impute = "auto"
    encode: Encode = "auto"
    scale: Scale = "auto"
    outliers: Outliers = "none"
    outlier_threshold: float | None = None
    select: Select = "none"
    keep: float = 0.5
    dates: Dates = "auto"
    text: Text = "auto"
    columns: Mapping[str, ColumnPreparation] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a version has to show beside the one in production.

    Attributes:
        required: it has to; otherwise the comparison is only recorded.
        minimum_gain: of the metric on the test rows; a share of the champion's value where less is better.
        significance: level of the test.
    """

    required: bool = True
    minimum_gain: float = 0.02
    significance: float = 0.05


@dataclass(frozen=True, slots=True)
class Retraining:
    """What makes a model train again; None turns a trigger off.

    Attributes:
        automatic: the contract has the section: the model trains when one of these says so, and not because something has changed.
        new_rows: labelled rows more than it was trained on.
        psi_warn: PSI beyond chance from which a column has moved.
        psi_retrain: the same, from which it has drifted.
        performance_drop: share of the test rows' metric by which that on new labels may be less.
        max_age_days: since it was trained.
        schedule: cron in UTC.
        debounce_minutes: least time between two trainings that nobody asked for.
    """

    automatic: bool = False
    new_rows: int | None = 50
    psi_warn: float = 0.2
    psi_retrain: float | None = 0.25
    performance_drop: float | None = 0.05
    max_age_days: float | None = 14.0
    schedule: str | None = None
    debounce_minutes: float = 60.0


@dataclass(frozen=True, slots=True)
class Budget:
    """How much looking for a better model may cost.

    Attributes:
        trials: settings that are tried beside each algorithm's own, over all algorithms.
        seconds: after this time none is begun.
        memory_gb: of all workers together; None for any.
        workers: processes that try settings side by side.
        repeats: cross-validations, each with rows dealt out anew.
    """

    trials: int = 0
    seconds: float = 3600.0
    memory_gb: float | None = None
    workers: int = 1
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class Explain:
    """Why a model says what it says, with each prediction.

    Attributes:
        top: features per prediction.
        seconds: that all predictions of a batch may take.
    """

    top: int = 3
    seconds: float = 60.0


@dataclass(frozen=True)
class ModelContract:
    """One model: what it predicts, from what, how it is tested, and what it must reach.

    Attributes:
        label_table: table that holds the label; default the dataset's staging table.
        intended_use: what its answers are meant for, and what not.
        limits: what it can't do, as far as people know.
        target_sql: expression over the label table's columns; exactly one of it and `target_column` is set.
        feature_views: dbt feature views joined point-in-time; empty means the label table's own columns.
        include_features: only these; empty means all.
        preparation: what the columns become before an estimator sees them.
        algorithms: empty means `auto`.
        minimums: metric -> least value a model must reach on the test rows to be promoted.
        max_rows: train on a deterministic sample of at most this many rows.
        comparison: what a version has to show beside the one in production.
        rollout: how a version takes over from the one before.
        explain: what is kept of why; None for nothing.
        abstain: below this confidence a prediction is marked as none; None for never.
        retraining: what makes it train again.
        warnings: features to look at, written by inference.
        imbalance: what is done about rare classes: `none` nothing; `balanced` they count as much as frequent ones, and of two classes the
            threshold is the one with the best F1; `auto` the first for more than two classes, the second where the contract asks for F1.
        trusted_features: features that a person has looked at: no check warns of them any more.
    """

    name: str
    version: str
    problem: Literal["classification", "regression"]
    dataset: str
    label_table: str
    target_sql: str | None = None
    target_column: str | None = None
    positive_class: str | None = None
    description: str = ""
    intended_use: str = ""
    limits: tuple[str, ...] = ()
    owner: str | None = None
    entity: tuple[str, ...] = ()
    event_timestamp: str | None = None
    feature_views: tuple[str, ...] = ()
    include_features: tuple[str, ...] = ()
    exclude_features: tuple[str, ...] = ()
    split: Split = field(default_factory=Split)
    preparation: PreparationSpec = field(default_factory=PreparationSpec)
    algorithms: tuple[str, ...] = ()
    folds: int = 5
    metric: str = ""
    minimums: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    seed: int = 7
    max_rows: int | None = None
    comparison: Comparison = field(default_factory=Comparison)
    rollout: Rollout = field(default_factory=Rollout)
    explain: Explain | None = None
    abstain: float | None = None
    retraining: Retraining = field(default_factory=Retraining)
    warnings: tuple[FeatureWarning, ...] = ()
    trusted_features: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    imbalance: Literal["auto", "none", "balanced"] = "auto"
    digest: str = ""
    path: Path | None = None

    @property
    def target(self) -> str:
        """The target as SQL: the expression, or the column's quoted name."""
        from lakehouse.sql import quote_identifier

        return self.target_sql if self.target_sql is not None else quote_identifier(self.target_column or "")


@dataclass(frozen=True)
class Contracts:
    """Every contract of a project and its home."""

    datasets: Mapping[str, DatasetContract] = field(default_factory=lambda: _EMPTY)
    models: Mapping[str, ModelContract] = field(default_factory=lambda: _EMPTY)

    def dataset(self, name: str) -> DatasetContract:
        """The dataset contract of this name.

        Raises:
            ContractNotFound: there is none; the message lists those there are.
        """
        if name not in self.datasets:
            raise ContractNotFound(
                f"dataset {name}",
                "has no contract",
                expected=_expected(self.datasets),
                fix=_nearest(name, self.datasets) or "Run `lakehouse add FILE --name NAME` to infer one",
            )
        return self.datasets[name]

    def model(self, name: str) -> ModelContract:
        """The model contract of this name.

        Raises:
            ContractNotFound: there is none; the message lists those there are.
        """
        if name not in self.models:
            bare, _, version = name.partition("@")
            if version and bare in self.models:
                raise ContractNotFound(
                    f"model {name}",
                    "is a version, where the name of a model is expected",
                    expected=bare,
                    fix=f"Name the model alone; its versions are shown by `lakehouse model history {bare}`",
                )
            raise ContractNotFound(
                f"model {name}",
                "has no contract",
                expected=_expected(self.models),
                fix=_nearest(name, self.models) or "Run `lakehouse add FILE --name NAME --target COLUMN` to infer one",
            )
        return self.models[name]

    def models_of(self, dataset: str) -> tuple[ModelContract, ...]:
        """The models trained from a dataset."""
        return tuple(model for model in self.models.values() if model.dataset == dataset)


def _nearest(name: str, known: Mapping[str, Any]) -> str | None:
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    return f"Did you mean {close[0]}?" if close else None


def _expected(known: Mapping[str, Any]) -> str:
    return f"one of {_listed(known)}" if known else "none exists yet"


def _listed(names: Mapping[str, Any], limit: int = 20) -> str:
    shown = sorted(names)[:limit]
    return ", ".join(shown) + (f" and {len(names) - limit} more" if len(names) > limit else "")
