"""The training set: labelled rows as a table, what was left out of it and why, and the rows in memory."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError, TrainingDataError
from lakehouse.features import LABEL, FeatureSource, ModelRows, relation, training_set
from lakehouse.learning.leakage import Leak, leaking_features, learned_test_rows
from lakehouse.learning.records import made_already
from lakehouse.learning.schema import FeatureSchema
from lakehouse.learning.splits import FOLD, GAP, SPLIT, TEST, TRAIN, LeftOut, require_both_parts, split_column, split_sql
from lakehouse.learning.straddling import straddling_groups, timeless_views
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Commit, Lake, Session, Stamp, TableName

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TRAINING_ROWS = "__training_set"
"""Of the session that made them: the rows as a table."""
_FRACTIONS = ("FLOAT", "DOUBLE")
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "DECIMAL")
_TIMES = ("DATE", "TIMESTAMP")


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """The training set in memory, in a fixed order.

    Attributes:
        label_type: DuckDB type of the label in its table.
        folds: number of each training row's fold.
        times: of the training rows, as seconds since 1970, where the split is by time and leaves a gap.
        train_units: number of each training row's unit, as of the test rows.
        test_units: number of each test row's unit, whose rows resemble each other: its entity or group; by time a stretch of neighbours.
        left_out: rows of the label table that take no part, and why.
        commit: of the table that holds the same.
        leaks: of features that may give the target away.
        remembered: of test rows that the model may have learned from.
    """

    schema: FeatureSchema
    label_type: str
    train: "pd.DataFrame"
    train_labels: "np.ndarray[Any, Any]"
    folds: "np.ndarray[Any, Any]"
    times: "np.ndarray[Any, Any] | None"
    test: "pd.DataFrame"
    test_labels: "np.ndarray[Any, Any]"
    train_units: "np.ndarray[Any, Any]"
    test_units: "np.ndarray[Any, Any]"
    left_out: tuple[LeftOut, ...]
    commit: Commit
    leaks: tuple[Leak, ...] = ()
    remembered: tuple[Leak, ...] = ()


def make_training_rows(lake: Lake, session: Session, source: FeatureSource, stamp: Stamp) -> TrainingRows:
    """Write the labelled rows with their features, split and fold, unless the table has them already, and read them.

    Args:
        lake: the tables.
        session: with a view of every table of the source.
        source: described.
        stamp: of the commit; its asset is the table.

    Raises:
        FeatureError: a view can't be joined to the labels.
        ModelError: the contract does not fit its tables.
        TrainingDataError: a target is no number, or there is too little to learn from.
    """
    made = _make(session, source)
    con = session.con
    commit = made_already(lake, stamp) or lake.overwrite(con, stamp.asset, f"SELECT * FROM {TRAINING_ROWS}", stamp=stamp)
    return _read(session, source, made, commit=commit)


def rebuild_training_rows(session: Session, source: FeatureSource, *, version: int) -> TrainingRows:
    """The rows as `make_training_rows` would have them, of tables as they are in this session; nothing is written.

    Args:
        session: with a view of every table of the source.
        source: described.
        version: of the table that is to hold the same.
    """
    made = _make(session, source)
    table = TableName.parse(f"models.{source.contract.name}_training_set")
    return _read(session, source, made, commit=Commit(table, version, version, skipped=True))


@dataclass(frozen=True, slots=True)
class _Made:
    """What is known of the rows in TRAINING_ROWS."""

    rows: ModelRows
    label_type: str
    left_out: tuple[LeftOut, ...]


def _make(session: Session, source: FeatureSource) -> _Made:
    """Make TRAINING_ROWS: the labelled rows with their features, split and fold."""
    contract, con = source.contract, session.con
    _require_target(session, source)
    rows = training_set(source)
    label_type = _label_type(session, rows)
    _require_numbers(session, source, rows, label_type)
    _require_times(source, rows)
    labelled = _labelled(contract, rows, label_type, rows.query.run(con))
    con.execute(f"CREATE OR REPLACE TEMP TABLE {TRAINING_ROWS} AS {split_sql(labelled, contract, rows)}")
    left_out = _left_out(session, source, rows, label_type)
    require_both_parts(con, TRAINING_ROWS, contract, left_out=left_out)
    return _Made(rows, label_type, left_out)


def _suspected(rows: TrainingRows, contract: ModelContract, *, views: tuple[Leak, ...], groups: tuple[Leak, ...]) -> TrainingRows:
    """The same, with what makes its scores better than the model is; what a person has looked at is not told again."""
    is_classification = contract.problem == "classification"
    leaks = leaking_features(rows.train, rows.train_labels, rows.schema, is_classification=is_classification, seed=contract.seed)
    copies = learned_test_rows(rows.train, rows.train_labels, rows.test, rows.test_labels, is_classification=is_classification)
    trusted = set(contract.trusted_features)
    return replace(
        rows,
        leaks=(*(leak for leak in leaks if leak.subject not in trusted), *views),
        remembered=(*(leak for leak in groups if leak.subject not in trusted), *copies),
    )


def _require_target(session: Session, source: FeatureSource) -> None:
    """The target is a column of the label table, or can be computed in each of its rows."""
    import duckdb

    contract = source.contract
    columns = source.columns[contract.label_table]
    if contract.target_column is not None and contract.target_column.lower() not in {column.lower() for column in columns}:
        raise ModelError(
            f"model {contract.name}: target_column",
            f"is no column of {contract.label_table}",
            expected=f"one of {', '.join(column for column in columns if not column.startswith('_'))}",
            found=contract.target_column,
            fix="Correct the model contract",
        )
    try:
        session.con.execute(
            f"SELECT count(*) FROM {relation(contract.label_table)} AS labels WHERE ({contract.target}) IS NOT NULL"
        ).fetchone()
    except duckdb.Error as error:
        raise ModelError(
            f"model {contract.name}: target",
            f"can't be computed from {contract.label_table}",
            found=f"{contract.target}: {str(error).splitlines()[0][:200]}",
            fix="Correct the model contract",
        ) from error


def _label_type(session: Session, rows: ModelRows) -> str:
    found = session.con.execute(f"SELECT column_type FROM (DESCRIBE {rows.sql}) WHERE column_name = {quote_literal(LABEL)}").fetchone()
    return str(found[0]) if found else "VARCHAR"


def _labelled(contract: ModelContract, rows: ModelRows, label_type: str, select: str) -> str:
    """Every row with a label, as text or as a finite number; of many a sample that does not depend on their order."""
    label = quote_identifier(LABEL)
    kind = "VARCHAR" if contract.problem == "classification" else "DOUBLE"
    labelled = f"SELECT * REPLACE (CAST({label} AS {kind}) AS {label}) FROM ({select}) WHERE {_is_usable(label, contract, label_type)}"
    if contract.max_rows is None:
        return labelled
    columns = [*rows.key, *([rows.event_timestamp] if rows.event_timestamp else [])]
    key = ", ".join(f"CAST({quote_identifier(column)} AS VARCHAR)" for column in columns)
    drawn = f"md5({quote_literal(f'{contract.seed}:sample:')} || concat_ws(chr(31), {key}))"
    return f"SELECT * FROM ({labelled}) QUALIFY row_number() OVER (ORDER BY {drawn}, {key}) <= {contract.max_rows}"


def _is_usable(label: str, contract: ModelContract, label_type: str) -> str:
    """Whether a label that is not NULL can be learned: neither NaN nor infinite, which are no class either."""
    if contract.problem == "regression":
        return f"isfinite(CAST({label} AS DOUBLE))"
    return f"isfinite({label})" if label_type in _FRACTIONS else "true"


def _require_numbers(session: Session, source: FeatureSource, rows: ModelRows, label_type: str) -> None:
    """What a regression learns are numbers, or texts that all are numbers."""
    contract = source.contract
    if contract.problem != "regression" or label_type in {*_FRACTIONS, "BOOLEAN"} or label_type.startswith(_NUMBERS):
        return
    subject = f"model {contract.name}: target {contract.target_column or contract.target_sql}"
    if label_type != "VARCHAR":
        raise TrainingDataError(
            subject,
            "is no number, which a regression needs",
            expected="a number",
            found=label_type.lower(),
            fix="Name another target, or compute a number in target_sql",
        )
    target = f"({contract.target})"
    is_text = f"{target} IS NOT NULL AND TRY_CAST({target} AS DOUBLE) IS NULL"
    labels = relation(contract.label_table)
    key = [quote_identifier(column) for column in rows.key]
    shown = f"SELECT {', '.join([f'CAST({column} AS VARCHAR)' for column in key])}, {target} FROM {labels} AS labels"
    example = session.con.execute(f"{shown} WHERE {is_text} ORDER BY {', '.join(key)} LIMIT 1").fetchone()
    if example is None:
        return
    counted = session.con.execute(f"SELECT count(*) FILTER ({is_text}), count({target}) FROM {labels} AS labels").fetchone() or (0, 0)
    where = ", ".join(f"{column} {value}" for column, value in zip(rows.key, example, strict=False))
    raise TrainingDataError(
        subject,
        f"is text in {counted[0]:,} of {counted[1]:,} rows, which a regression can't learn",
        expected="a number",
        found=f"{str(example[-1])[:60]!r} in the row with {where}",
        fix=f"Correct those rows, or leave them out: target_sql: try_cast({contract.target} as double)",
    )


def _require_times(source: FeatureSource, rows: ModelRows) -> None:
    """Days of a gap can be counted between times only."""
    contract = source.contract
    column = split_column(contract, rows)
    if not contract.split.gap_days or contract.split.strategy != "time" or column is None:
        return
    kind = source.columns[contract.label_table][column]
    if not kind.startswith(_TIMES):
        raise ModelError(
            f"model {contract.name}: split.gap_days", f"needs {column} to be a time", expected="a date or timestamp", found=kind.lower()
        )


def _left_out(session: Session, source: FeatureSource, rows: ModelRows, label_type: str) -> tuple[LeftOut, ...]:
    """The rows of the label table that take no part, each by the first reason that applies."""
    contract, target = source.contract, f"({source.contract.target})"
    reasons = {"no target": f"{target} IS NULL"}
    if contract.event_timestamp:
        reasons[f"no {contract.event_timestamp}"] = f"{quote_identifier(contract.event_timestamp)} IS NULL"
    if contract.problem == "regression" or label_type in _FRACTIONS:
        reasons["target NaN or infinite"] = f"NOT {_is_usable(target, contract, label_type)}"
    divided = split_column(contract, rows)
    if divided is not None and divided != contract.event_timestamp:
        reasons[f"no {divided}, which the split needs"] = f"{quote_identifier(divided)} IS NULL"
    cases = " ".join(f"WHEN {condition} THEN {quote_literal(reason)}" for reason, condition in reasons.items())
    why = f"SELECT *, CASE {cases} END AS __why FROM {relation(contract.label_table)} AS labels"
    near = f"less than {contract.split.gap_days:g} days before the test rows"
    gap = f"SELECT *, {quote_literal(near)} AS __why FROM {TRAINING_ROWS} WHERE {SPLIT} = {quote_literal(GAP)}"
    example = "concat_ws(', ', " + ", ".join(f"{quote_literal(f'{column} ')} || {quote_identifier(column)}" for column in rows.key) + ")"
    found: list[LeftOut] = []
    for one in (why, gap):
        counted = f"SELECT __why, count(*), min({example}) FROM ({one}) WHERE __why IS NOT NULL GROUP BY __why ORDER BY __why"
        found += [LeftOut(str(reason), int(count), str(key)) for reason, count, key in session.con.execute(counted).fetchall()]
    return tuple(found)


def _read(session: Session, source: FeatureSource, made: _Made, *, commit: Commit) -> TrainingRows:
    contract, rows = source.contract, made.rows
    schema = FeatureSchema.of(rows.features)
    order = [*([rows.event_timestamp] if rows.event_timestamp else []), *rows.key]
    extra = [quote_identifier(column) for column in (LABEL, SPLIT, FOLD)]
    divided = split_column(contract, rows)
    extra.append(f"{_unit(contract, rows)} AS __unit")
    has_gap = contract.split.strategy == "time" and bool(contract.split.gap_days) and divided is not None
    if has_gap:
        extra.append(f"epoch({quote_identifier(divided or '')}) AS __time")
    # Rows that share key and time are told apart by their values: another order would be another model.
    everything = schema.fetch(session.con, TRAINING_ROWS, order_by=list(dict.fromkeys([*order, LABEL, FOLD, *schema.names])), extra=extra)
    parts = {name: everything[everything[SPLIT] == name] for name in (TRAIN, TEST)}
    kind = object if contract.problem == "classification" else "float64"
    names = list(schema.names)
    read = TrainingRows(
        schema=schema,
        label_type=made.label_type,
        train=parts[TRAIN][names].reset_index(drop=True),
        train_labels=parts[TRAIN][LABEL].to_numpy(dtype=kind),
        folds=parts[TRAIN][FOLD].to_numpy(dtype="int64"),
        times=parts[TRAIN]["__time"].to_numpy(dtype="float64") if has_gap else None,
        test=parts[TEST][names].reset_index(drop=True),
        test_labels=parts[TEST][LABEL].to_numpy(dtype=kind),
        train_units=_units(parts[TRAIN]["__unit"].to_numpy(dtype="int64"), by_time=False),
        test_units=_units(parts[TEST]["__unit"].to_numpy(dtype="int64"), by_time=contract.split.strategy == "time"),
        left_out=made.left_out,
        commit=commit,
    )
    groups = straddling_groups(session.con, TRAINING_ROWS, source, rows)
    return _suspected(read, contract, views=timeless_views(source), groups=groups)


def _unit(contract: ModelContract, rows: ModelRows) -> str:
    """SQL of a number that the rows of one unit share; by time the row's place."""
    divided = split_column(contract, rows)
    if contract.split.strategy == "time" and divided is not None:
        return f"rank() OVER (PARTITION BY {SPLIT} ORDER BY {quote_identifier(divided)})"
    columns = [divided] if divided is not None else rows.key
    return f"dense_rank() OVER (PARTITION BY {SPLIT} ORDER BY {', '.join(quote_identifier(column) for column in columns)})"


def _units(places: "np.ndarray[Any, Any]", *, by_time: bool) -> "np.ndarray[Any, Any]":
    """Numbers from 0; places in time are cut into stretches of the cube root of their number, the usual length of a block."""
    import numpy as np

    length = max(1, round(len(places) ** (1 / 3))) if by_time else 1
    return np.unique(places // length, return_inverse=True)[1]
