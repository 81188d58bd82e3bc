"""A model contract inferred from a file and a target: problem, split, what is no feature and why, what may be a leak."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.contracts.inference import naming
from lakehouse.contracts.inference.association import Suspect, distinct_counts, leak_suspects
from lakehouse.contracts.inference.target import Target, parse_target
from lakehouse.contracts.inference.yaml_text import Commented, render
from lakehouse.contracts.model import parse_model
from lakehouse.contracts.objects import Column, DatasetContract, ModelContract
from lakehouse.contracts.types import cast_sql
from lakehouse.errors import ContractError
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

_MOST_ROWS = 100_000
_MOST_CLASSES = 50
_MOST_VALUES = 1000
_MOST_WHOLE_CLASSES = 10
_LEAST_ROWS = 10
_POSITIVE_WORDS = ("true", "yes", "y", "t", "1", "positive", "pos", "churned", "churn", "bad", "default", "fraud", "poor")
_SAMPLE = quote_identifier("inference rows")
_NUMBER = quote_identifier("number of the row")
_Problem = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True)
class InferredModel:
    """A model contract that was inferred: the text to keep, what it says, and what a person should look at first."""

    text: str
    contract: ModelContract
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Task:
    problem: _Problem
    positive: str | None
    metric: str
    minimum: float
    reason: str
    warning: str | None = None


def infer_model(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    contract: DatasetContract,
    *,
    target: str,
    name: str,
    feature_views: tuple[str, ...] = (),
) -> InferredModel:
    """The model contract for predicting a target from a dataset's other columns.

    Args:
        con: the connection that knows the relation.
        relation: name of a table or view with the file's columns as VARCHAR.
        contract: of the dataset the rows belong to.
        target: a column, or an expression such as `POVPIP < 100`; the columns of an expression are no features.
        name: the model's name.
        feature_views: dbt feature views to join; none means the dataset's own columns.

    Raises:
        ContractError: the target is no safe expression, has one value only, or can't be predicted (too few rows, numbers among
            texts, free text, dates).
    """
    wanted = parse_target(contract, target)
    _typed_sample(con, relation, contract)
    try:
        task = _task(con, wanted, target)
        counts = distinct_counts(con, _SAMPLE, contract.columns)
        rows = _count(con, "count(*)")
        excluded = dict(_excluded(contract, wanted, counts, rows, con))
        features = [column for column in contract.columns if column.name not in excluded]
        if not features:
            raise ContractError(f"target {target}", "leaves no column to predict it from", found=f"{len(excluded)} columns excluded")
        suspects = leak_suspects(con, _SAMPLE, features, target=wanted.sql, problem=task.problem, positive=task.positive)
        strategy, why = _split(con, contract, rows, counts)
    finally:
        con.execute(f"DROP TABLE IF EXISTS {_SAMPLE}")
    split = Commented(strategy, why)
    text = _render(contract, wanted, task, excluded=excluded, suspects=suspects, split=split, name=name, feature_views=feature_views)
    warnings = [*([task.warning] if task.warning else []), *(f"{one.column}: {one.reason}" for one in suspects)]
    return InferredModel(text, parse_model(text, path=Path(f"{name}.yaml")), tuple(warnings))


def _typed_sample(con: "duckdb.DuckDBPyConnection", relation: str, contract: DatasetContract) -> None:
    source = quote_identifier(relation)
    present = {str(row[0]) for row in con.execute(f"DESCRIBE {source}").fetchall()}
    typed = ", ".join(
        (f"{cast_sql(column, quote_identifier(column.source))}" if column.source in present else f"CAST(NULL AS {column.sql_type})")
        + f" AS {quote_identifier(column.name)}"
        for column in contract.columns
    )
    row = con.execute(f"SELECT count(*) FROM {source}").fetchone()
    typed += f", {'CAST(_row AS BIGINT)' if '_row' in present else 'row_number() OVER ()'} AS {_NUMBER}"
    step = -(-(int(row[0]) if row else 0) // _MOST_ROWS)
    chosen = f"WHERE CAST(_row AS BIGINT) % {step} = 0" if step > 1 and "_row" in present else f"LIMIT {_MOST_ROWS}"
    con.execute(f"CREATE OR REPLACE TEMP TABLE {_SAMPLE} AS SELECT {typed} FROM {source} {chosen}")


def _count(con: "duckdb.DuckDBPyConnection", measure: str) -> int:
    row = con.execute(f"SELECT {measure} FROM {_SAMPLE}").fetchone()
    return int(row[0] or 0) if row else 0


def _task(con: "duckdb.DuckDBPyConnection", wanted: Target, written: str) -> _Task:
    import duckdb

    subject = f"target {written}"
    try:
        kind = str(con.execute(f"DESCRIBE SELECT {wanted.sql} AS y FROM {_SAMPLE}").fetchall()[0][1])
        # The alias must not meet a column of the same name: datasets do have a column y.
        values = f"SELECT CAST({wanted.sql} AS VARCHAR) AS target_text FROM {_SAMPLE}"
        counts = con.execute(
            f"SELECT target_text, count(*) FROM ({values}) WHERE target_text IS NOT NULL "
            f"GROUP BY target_text ORDER BY 2 DESC, 1 LIMIT {_MOST_VALUES}"
        ).fetchall()
    except duckdb.Error as error:
        raise ContractError(subject, "can't be computed", found=str(error).splitlines()[0], fix="Correct --target") from error
    classes = {str(value): int(count) for value, count in counts}
    total = sum(classes.values())
    if not classes:
        raise ContractError(subject, "has no value in any row", fix="Name a column that is filled")
    if len(classes) == 1:
        raise ContractError(subject, "has one value only", expected="at least two", found=next(iter(classes)), fix="Correct the expression")
    numeric = kind.startswith(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DOUBLE", "FLOAT", "DECIMAL"))
    whole = numeric and kind.startswith(("TINYINT", "SMALLINT", "INTEGER", "BIGINT"))
    few = len(classes) == 2 or (whole and len(classes) <= _MOST_WHOLE_CLASSES and total >= 10 * len(classes))
    if numeric and not few:
        return _Task(
            "regression",
            None,
            "r2",
            0.05,
            f"{len(classes)}{'+' if len(classes) >= _MOST_VALUES else ''} different numbers: regression",
        )
    if not numeric and kind not in {"BOOLEAN", "VARCHAR"}:
        raise ContractError(subject, "can't be predicted", expected="a number, a truth value or a category", found=kind.lower())
    if len(classes) > _MOST_CLASSES or total < 2 * len(classes):
        _refuse_numbers_with_text(con, wanted, subject)
        if total < _LEAST_ROWS:
            raise ContractError(
                subject, "has too few rows to learn from", expected=f"{_LEAST_ROWS} or more", found=f"{total}", fix="Give more data"
            )
        raise ContractError(
            subject,
            "can't be predicted: it is free text",
            expected=f"at most {_MOST_CLASSES} classes that come again",
            found=f"{'more than ' if len(classes) >= _MOST_VALUES else ''}{len(classes):,}",
            fix="Name another column, or an expression that gives a class or a number",
        )
    return replace(_classes(classes, total), warning=_spelled_differently(classes, wanted))


def _refuse_numbers_with_text(con: "duckdb.DuckDBPyConnection", wanted: Target, subject: str) -> None:
    """A column of numbers with a few texts among them is read as text: say which, and in which row."""
    number = f"TRY_CAST({wanted.sql} AS DOUBLE)"
    is_text = f"{wanted.sql} IS NOT NULL AND NOT coalesce(isfinite({number}), false)"
    counted = con.execute(
        f"SELECT count(*) FILTER ({is_text}), count({wanted.sql}), min({_NUMBER}) FILTER ({is_text}),"
        f" arg_min(CAST({wanted.sql} AS VARCHAR), {_NUMBER}) FILTER ({is_text}) FROM {_SAMPLE}"
    ).fetchone()
    texts, filled, row, example = counted or (0, 0, None, None)
    if not texts or 2 * texts > filled:
        return
    fix = "Correct those rows, name that text among the contract's null values, or take the numbers alone: "
    raise ContractError(
        subject,
        f"is no number in {texts:,} of {filled:,} rows",
        expected="a number",
        found=f"{str(example)[:60]!r} in row {row}",
        fix=f"{fix}--target 'try_cast({wanted.sql} as double)'",
    )


def _classes(classes: Mapping[str, int], total: int) -> _Task:
    shares = ", ".join(f"{value} {count / total:.1%}" for value, count in list(classes.items())[:8])
    if len(classes) == 2:
        by_word = next((value for word in _POSITIVE_WORDS for value in classes if value.lower() in {word, f"{word}.0"}), None)
        positive = by_word or min(classes, key=lambda value: (classes[value], value))
        return _Task("classification", positive, "roc_auc", 0.6, f"two classes ({shares}): classification of {positive}")
    majority = max(classes.values()) / total
    baseline = 2 * majority / (1 + majority) / len(classes)
    return _Task(
        "classification", None, "f1_macro", round(min(baseline + 0.05, 0.9), 2), f"{len(classes)} classes ({shares}): classification"
    )


def _spelled_differently(classes: Iterable[str], wanted: Target) -> str | None:
    """Classes that are most likely one, written in several ways."""
    ways: dict[str, list[str]] = {}
    for value in sorted(classes):
        ways.setdefault(value.strip().casefold(), []).append(value)
    several = [" and ".join(repr(value) for value in values) for values in ways.values() if len(values) > 1]
    if not several:
        return None
    one = f"lower(trim({wanted.column or wanted.sql}))"
    return f"target: {'; '.join(several)} are classes of their own, though only case or spaces differ; --target '{one}' makes them one"


def _excluded(
    contract: DatasetContract,
    wanted: Target,
    counts: Mapping[str, tuple[int, int, float]],
    rows: int,
    con: "duckdb.DuckDBPyConnection",
) -> Iterator[tuple[str, str]]:
    for column in contract.columns:
        values, distinct, blanks = counts[column.name]
        if column.name in wanted.uses:
            if wanted.column is None:
                yield column.name, "the target is computed from it"
            else:
                yield column.name, "the target"
        elif column.name in contract.primary_key:
            yield column.name, "the key"
        elif column.name == contract.event_timestamp:
            yield column.name, "the event time: it orders the rows"
        elif column.protected:
            yield column.name, "personal: stored as a pseudonym"
        elif not values:
            yield column.name, "never filled"
        elif distinct <= 1:
            yield column.name, "one value in every row"
        elif column.logical_type in {"object", "array", "map", "vector"}:
            yield column.name, "nested: compute features from it in a feature view"
        else:
            reason = _identifies(con, column, values=values, distinct=distinct, blanks=blanks, rows=rows)
            if reason:
                yield column.name, reason


def _identifies(con: "duckdb.DuckDBPyConnection", column: Column, *, values: int, distinct: int, blanks: float, rows: int) -> str | None:
    if rows < 20:
        return None
    named = naming.is_identifier(column.source)
    if column.sql_type == "VARCHAR" and distinct > 0.95 * values and (blanks < 3 or named):
        return f"an identifier: {distinct:,} different values in {values:,} rows"
    if column.sql_type == "BIGINT" and distinct == values == rows:
        name = quote_identifier(column.name)
        if _count(con, f"max({name}) - min({name}) + 1") == rows:
            return "a row counter"
        if named:
            return "an identifier: different in every row"
    if named and distinct > max(50, 0.2 * values):
        return f"an identifier by name, {distinct:,} different values"
    return None


def _split(
    con: "duckdb.DuckDBPyConnection", contract: DatasetContract, rows: int, counts: Mapping[str, tuple[int, int, float]]
) -> tuple[dict[str, Any], str]:
    event = contract.event_timestamp
    if event and counts[event][1] >= 5:
        return {"strategy": "time", "test_fraction": 0.2, "column": event}, f"{event} orders the rows: tested on the newest"
    key = contract.entity
    if key and set(key) != set(contract.primary_key):
        names = ", ".join(quote_identifier(name) for name in key)
        row = con.execute(f"SELECT count(*) FROM (SELECT DISTINCT {names} FROM {_SAMPLE})").fetchone()
        groups = int(row[0]) if row else rows
        if 5 <= groups < 0.98 * rows:
            return {
                "strategy": "group",
                "test_fraction": 0.2,
                "column": key[0],
            }, f"{key[0]} comes again: never in training and test at once"
    return {"strategy": "random", "test_fraction": 0.2}, "no event time, and no entity that comes again"


def _render(
    contract: DatasetContract,
    wanted: Target,
    task: _Task,
    *,
    excluded: Mapping[str, str],
    suspects: Sequence[Suspect],
    split: Commented,
    name: str,
    feature_views: tuple[str, ...],
) -> str:
    document: dict[str, Any] = {
        "apiVersion": "lakehouse/v1",
        "kind": "ModelContract",
        "name": name,
        "version": "1.0.0",
        "description": f"Predicts {wanted.column or wanted.sql} of {contract.name}.",
        "problem": Commented(task.problem, task.reason),
        "dataset": contract.name,
        "label_table": contract.staging,
        "target_column" if wanted.column else "target_sql": wanted.column or wanted.sql,
    }
    if task.positive is not None:
        document["positive_class"] = quoted_class(task.positive)
    document["entity"] = Commented(
        list(contract.primary_key or ("row_id",)),
        "what is predicted is a row of the dataset" if contract.primary_key else "rows have no key of their own",
    )
    if contract.event_timestamp:
        document["event_timestamp"] = contract.event_timestamp
    document["feature_views"] = list(feature_views)
    others = {column: reason for column, reason in excluded.items() if column != wanted.column}
    if others:
        document["exclude_features"] = [Commented(column, reason) for column, reason in others.items()]
    document |= {
        "split": split,
        "algorithms": "auto",
        "folds": 5,
        "metric": task.metric,
        "minimums": Commented({task.metric: task.minimum}, "better than guessing; raise it to what the use demands"),
        "seed": 7,
    }
    if suspects:
        document["warnings"] = Commented(
            [{"feature": one.column, "reason": one.reason} for one in suspects],
            "features that may hold the answer: put those that are not known when the prediction is made under exclude_features",
        )
    return render(document, head=[f"Inferred from the rows of {contract.name}. Comments are the evidence; edit what you know better."])


def quoted_class(value: str) -> Any:
    """A class as YAML keeps it: truth values and whole numbers as themselves, all else as text."""
    if value in {"true", "false"}:
        return value == "true"
    return int(value) if value.lstrip("-").isdigit() and str(int(value)) == value else value
