"""What a model learns from and predicts on: labels or entities, with the features that were known at their instant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lakehouse.contracts import ModelContract
from lakehouse.errors import FeatureError, ModelError
from lakehouse.features.point_in_time import ARRIVAL, JoinedView, StepwiseQuery, default_literals, output_names, point_in_time
from lakehouse.features.views import FeatureView, find_view
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

LABEL = "_label"
ROW_KEY = "row_id"


@dataclass(frozen=True, slots=True)
class ModelRows:
    """Rows of a model as a query, and what its columns mean.

    Attributes:
        query: gives `key`, `event_timestamp` (if any), `group` (if any), `features` and, for training, `_label`.
        key: columns that name a row's entity.
        features: feature columns in model order, with their DuckDB types.
        group: the column that the split goes by, if it is neither key nor event time.
        tables: tables it reads, as `layer.name`.
    """

    query: StepwiseQuery
    key: tuple[str, ...]
    event_timestamp: str | None
    features: Mapping[str, str]
    tables: tuple[str, ...]
    group: str | None = None

    @property
    def sql(self) -> str:
        """The query as one statement; where rows are many, `query.run` takes less."""
        return self.query.sql


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """The tables behind a model's rows, with the columns they have.

    Attributes:
        columns: DuckDB type by column, for each table as `layer.name`.
    """

    contract: ModelContract
    views: tuple[FeatureView, ...]
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])

    @property
    def tables(self) -> tuple[str, ...]:
        """The label table, then those of the views."""
        return tuple(dict.fromkeys([self.contract.label_table, *(view.table for view in self.views)]))


def feature_source(contract: ModelContract, views: Mapping[str, FeatureView]) -> FeatureSource:
    """The tables a contract's rows come from; their columns are filled by `described`.

    Raises:
        FeatureError: the contract names a view that no dbt model declares.
    """
    return FeatureSource(contract, tuple(find_view(views, name) for name in contract.feature_views))


def view_tables(names: Iterable[str], views: Mapping[str, FeatureView]) -> tuple[str, ...]:
    """The tables of views, under whatever names they are called (`customer_activity@2`); one that nobody declares is taken by its name.

    That there is no such view is said by whoever reads it: it must not keep others from their work.
    """
    tables: dict[str, None] = {}
    for name in names:
        try:
            tables[find_view(views, name).table] = None
        except FeatureError:
            tables[f"features.{name.removeprefix('features.')}"] = None
    return tuple(tables)


def described(source: FeatureSource, con: "duckdb.DuckDBPyConnection") -> FeatureSource:
    """The same with the columns that its tables have in this session."""
    columns: dict[str, dict[str, str]] = {}
    for table in source.tables:
        rows = con.execute(f"DESCRIBE SELECT * FROM {relation(table)}").fetchall()
        columns[table] = {str(name): str(kind) for name, kind, *_ in rows}
    return FeatureSource(source.contract, source.views, columns)


def training_set(source: FeatureSource) -> ModelRows:
    """Every labelled row with what was known of its entity at its event time.

    Raises:
        FeatureError: a view can't be joined to the labels.
        ModelError: the contract names columns that its tables do not have.
    """
    contract = source.contract
    spine = _Spine.of(source, label=contract.target, group=contract.split.column)
    condition = f"({contract.target}) IS NOT NULL"
    if contract.event_timestamp:
        condition += f" AND {quote_identifier(contract.event_timestamp)} IS NOT NULL"
    return spine.rows(f"(SELECT {spine.select} FROM {relation(contract.label_table)} AS labels WHERE {condition})")


def prediction_set(source: FeatureSource, *, newest_only: bool = True, carried: Sequence[str] = ()) -> ModelRows:
    """Every entity at its newest row (or every row), labelled or not, with what is known of it.

    Args:
        source: the tables, described.
        newest_only: one row per entity.
        carried: further columns of the label table to deliver.

    Raises:
        FeatureError: a view can't be joined to the rows.
        ModelError: the contract names columns that its tables do not have.
    """
    contract = source.contract
    spine = _Spine.of(source, label=None, group=None, carried=tuple(carried))
    condition = f" WHERE {quote_identifier(contract.event_timestamp)} IS NOT NULL" if contract.event_timestamp and newest_only else ""
    newest = ""
    if newest_only:
        keys = ", ".join(quote_identifier(column) for column in spine.key)
        known = source.columns[contract.label_table]
        decisive = [*([contract.event_timestamp] if contract.event_timestamp else []), *(column for column in ARRIVAL if column in known)]
        # The values themselves come last, so that no choice is left to chance.
        order = ", ".join(f"{quote_identifier(column)} DESC NULLS LAST" for column in dict.fromkeys([*decisive, *spine.columns]))
        newest = f" QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"
    return spine.rows(f"(SELECT {spine.select} FROM {relation(contract.label_table)} AS labels{condition}{newest})")


@dataclass(frozen=True, slots=True)
class _Spine:
    """The label table's part of a model's rows."""

    source: FeatureSource
    key: tuple[str, ...]
    own_features: tuple[str, ...]
    known: str | None
    group: str | None
    label: str | None
    carried: tuple[str, ...]

    @classmethod
    def of(cls, source: FeatureSource, *, label: str | None, group: str | None, carried: tuple[str, ...] = ()) -> "_Spine":
        contract = source.contract
        columns = source.columns[contract.label_table]
        key = _key(contract, columns)
        _require_columns(contract, columns, [*key, contract.event_timestamp, group, *carried])
        own = () if source.views else _own_features(contract, columns, key)
        bitemporal = any(view.known_timestamp for view in source.views) and "_ingested_at" in columns
        return cls(source, key, own, "_ingested_at" if bitemporal else None, group, label, carried)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.kept, *self.own_features]))

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns of the label table that are delivered although they are no features."""
        optional = (self.source.contract.event_timestamp, self.group)
        return tuple(dict.fromkeys([*self.key, *(column for column in optional if column), *self.carried]))

    @property
    def select(self) -> str:
        listed = [quote_identifier(column) for column in self.columns]
        if self.known:
            listed.append(f"{quote_identifier(self.known)} AS __known_at")
        if self.label is not None:
            listed.append(f"({self.label}) AS {quote_identifier(LABEL)}")
        return ", ".join(listed)

    def rows(self, spine_sql: str) -> ModelRows:
        contract = self.source.contract
        types = self.source.columns[contract.label_table]
        joined = [_joined(self.source, view, self.key) for view in self.source.views]
        passed = [*self.columns, *([LABEL] if self.label is not None else [])]
        names = output_names(joined, taken=passed)
        features = {column: types[column] for column in self.own_features}
        own_names = {column: column for column in self.own_features}
        for part in joined:
            features |= {names[(part.view.name, feature)]: self.source.columns[part.view.table][feature] for feature in part.features}
            own_names |= {names[(part.view.name, feature)]: feature for feature in part.features}
        _require_known(self.source)
        features = _selected(contract, features, own_names)
        joined_rows = point_in_time(
            spine_sql,
            joined,
            spine_columns=passed + (["__known_at"] if self.known else []),
            event_timestamp=contract.event_timestamp,
            known_timestamp="__known_at" if self.known else None,
        )
        wanted = [*self.kept, *(name for name in features if name not in self.kept), *([LABEL] if self.label is not None else [])]
        outer = f"SELECT {', '.join(quote_identifier(column) for column in wanted)} FROM ({joined_rows.select})"
        return ModelRows(replace(joined_rows, select=outer), self.key, contract.event_timestamp, features, self.source.tables, self.group)


def _joined(source: FeatureSource, view: FeatureView, key: Sequence[str]) -> JoinedView:
    columns = tuple(source.columns[view.table])
    ignored = {*key, *target_columns(source.contract)}
    features = tuple(feature for feature in view.features(columns) if feature not in ignored)
    return JoinedView(view, relation(view.table), columns, features, default_literals(view, source.columns[view.table]))


def target_columns(contract: ModelContract) -> frozenset[str]:
    """Columns the target is made from: never features, whatever the contract says."""
    if contract.target_column is not None:
        return frozenset([contract.target_column])
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        parsed = sqlglot.parse_one(contract.target_sql or "", dialect="duckdb")
    except SqlglotError as error:
        raise ModelError(f"model {contract.name}: target", "is not SQL", found=contract.target_sql, fix="Correct the expression") from error
    return frozenset(column.name for column in parsed.find_all(exp.Column))


def _own_features(contract: ModelContract, columns: Mapping[str, str], key: Iterable[str]) -> tuple[str, ...]:
    hidden = {name.lower() for name in (*key, *contract.entity, contract.event_timestamp or "", ROW_KEY, *target_columns(contract))}
    return tuple(column for column in columns if column.lower() not in hidden and not column.startswith("_"))


def _selected(contract: ModelContract, features: Mapping[str, str], own_names: Mapping[str, str]) -> dict[str, str]:
    """The features to learn from; neither the target nor what is excluded, under its own name or the one it has among other views'."""
    hidden = {column.lower() for column in (*target_columns(contract), *contract.exclude_features)}
    usable = {name: kind for name, kind in features.items() if hidden.isdisjoint((name.lower(), own_names[name].lower()))}
    if not contract.include_features:
        chosen = usable
    else:
        unknown = [name for name in contract.include_features if name not in features]
        if unknown:
            raise FeatureError(
                f"model {contract.name}: features",
                f"include {', '.join(unknown)}, which no view has",
                expected=", ".join(features) or "none",
            )
        chosen = {name: usable[name] for name in contract.include_features if name in usable}
    if not chosen:
        raise ModelError(
            f"model {contract.name}",
            "has no feature left to learn from",
            found=", ".join(features) or "no column",
            fix="Exclude fewer columns",
        )
    return chosen


def _require_known(source: FeatureSource) -> None:
    """A misspelled exclusion would let in the very column that it is to keep out, and misspelled trust would trust nothing."""
    known = {column.lower() for columns in source.columns.values() for column in columns}
    known |= {f"{view.name}__{column}".lower() for view in source.views for column in source.columns[view.table]}
    contract = source.contract
    for key, names in (("exclude_features", contract.exclude_features), ("trusted_features", contract.trusted_features)):
        unknown = [name for name in names if name.lower() not in known]
        if unknown:
            raise FeatureError(
                f"model {contract.name}: {key}",
                f"names {', '.join(unknown)}, which no table of the model has",
                expected=", ".join(dict.fromkeys(column for columns in source.columns.values() for column in columns)),
                fix="Correct the model contract",
            )


def _key(contract: ModelContract, columns: Mapping[str, str]) -> tuple[str, ...]:
    if contract.entity:
        return contract.entity
    if ROW_KEY in columns:
        return (ROW_KEY,)
    raise ModelError(
        f"model {contract.name}",
        "has no entity",
        expected=f"entity in the model contract, or a column {ROW_KEY} in {contract.label_table}",
        fix="Name the columns that tell its rows apart",
    )


def _require_columns(contract: ModelContract, columns: Mapping[str, str], needed: Iterable[str | None]) -> None:
    missing = [column for column in needed if column and column not in columns]
    if missing:
        raise ModelError(
            f"model {contract.name}",
            f"names columns that {contract.label_table} does not have: {', '.join(missing)}",
            expected=", ".join(columns),
            fix="Correct the model contract",
        )


def relation(table: str) -> str:
    """A table's view in a session, as SQL."""
    layer, _, name = table.partition(".")
    return f"{quote_identifier(layer)}.{quote_identifier(name)}"
