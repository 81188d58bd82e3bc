"""How much one column alone says about the target: near-perfect means that it may hold the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.contracts.inference import naming
from lakehouse.contracts.objects import Column
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "DOUBLE", "FLOAT", "DECIMAL")
_SUSPECT_AUC = 0.95
_SUSPECT_R2 = 0.98
_SUSPECT_PURITY = 0.98
_MOST_GROUPS = 200
# Names that are warned of before anything is trained; of the others only those that the score turns out to lean on.
_DURATIONS = {("duration",), ("call", "duration"), ("contact", "duration")}
_LASTING = frozenset("duration elapsed lasted length seconds".split())
_LATER = frozenset("next future following after afterwards later until end ended final upcoming remaining".split())
_EARLIER = frozenset("previous prior last before earlier past since".split())
_AFTERWARDS = frozenset("outcome result resolution reason closed cancelled canceled ended refund refunded chargeback".split())


@dataclass(frozen=True, slots=True)
class Suspect:
    """A column that may hold the answer."""

    column: str
    reason: str


def leak_suspects(
    con: "duckdb.DuckDBPyConnection", table: str, columns: Sequence[Column], *, target: str, problem: str, positive: str | None
) -> list[Suspect]:
    """Columns whose values nearly decide the target, or whose names say that they are known only afterwards.

    Args:
        con: the connection that knows the table.
        table: quoted name of a table of typed rows, of a size that may be scanned once per column.
        columns: the candidates.
        target: SQL of the target over the table.
        problem: classification or regression.
        positive: the positive class of two, as text.
    """
    suspects: list[Suspect] = []
    for column in columns:
        reason = None
        if problem == "regression":
            reason = _explains(con, table, column, target)
        elif positive is not None:
            reason = _separates(con, table, column, f"(CAST({target} AS VARCHAR) = {quote_literal(positive)})")
        else:
            reason = _decides(con, table, column, target)
        reason = reason or _by_name(column)
        if reason:
            suspects.append(Suspect(column.name, reason))
    return suspects


def _by_name(column: Column) -> str | None:
    parts = naming.words(column.source)
    return known_afterwards(column.source) if set(parts) & _AFTERWARDS or parts in _DURATIONS else None


def known_afterwards(name: str) -> str | None:
    """Why the value of a column of this name may be known only after what is predicted; None where its name does not say so."""
    parts = set(naming.words(name))
    if parts & _AFTERWARDS:
        return "its name says that it may be known only after the event that is predicted"
    if parts & _LASTING and not parts & _EARLIER:
        return "the duration of an event is known only when it has ended"
    if parts & _LATER and not parts & _EARLIER:
        return "its name says that it is about a time after the prediction is made"
    return None


def is_numeric(column: Column) -> bool:
    """Whether the column's values have an order and a distance."""
    return column.sql_type.startswith(NUMERIC)


def _value(con: "duckdb.DuckDBPyConnection", sql: str) -> float | None:
    row = con.execute(sql).fetchone()
    return None if row is None or row[0] is None else float(row[0])


def _separates(con: "duckdb.DuckDBPyConnection", table: str, column: Column, is_positive: str) -> str | None:
    """Area under the ROC curve of the column's own order (or of its categories' rates), ties counted half."""
    name = quote_identifier(column.name)
    numeric = is_numeric(column)
    if not numeric and _groups(con, table, name) > _MOST_GROUPS:
        return None
    order = "x" if numeric else "p / (p + n), x"
    known = f"WHERE y IS NOT NULL{' AND x IS NOT NULL' if numeric else ''}"
    counted = (
        f"SELECT x, sum(y::INT)::DOUBLE AS p, sum(1 - y::INT)::DOUBLE AS n FROM (SELECT {name} AS x, {is_positive} AS y FROM {table}) "
        f"{known} GROUP BY x"
    )
    ranked = f"SELECT p, n, sum(n) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) - n AS below FROM ({counted})"
    auc = _value(con, f"SELECT sum(p * (below + n / 2)) / nullif(sum(p) * sum(n), 0) FROM ({ranked})")
    if auc is not None and max(auc, 1 - auc) > _SUSPECT_AUC:
        return f"alone it tells the classes apart (ROC AUC {max(auc, 1 - auc):.3f}): it may hold the answer"
    return _missing_tells(con, table, name, is_positive)


def _missing_tells(con: "duckdb.DuckDBPyConnection", table: str, name: str, is_positive: str) -> str | None:
    rows = f"SELECT {name} IS NULL AS missing, {is_positive} AS y FROM {table}"
    mixed = "count(*) FILTER (missing) BETWEEN 1 AND count(*) - 1"
    agreement = _value(
        con, f"SELECT greatest(avg((missing = y)::INT), avg((missing <> y)::INT)) FROM ({rows}) WHERE y IS NOT NULL HAVING {mixed}"
    )
    return "whether it is filled is the answer" if agreement is not None and agreement > _SUSPECT_PURITY else None


def _decides(con: "duckdb.DuckDBPyConnection", table: str, column: Column, target: str) -> str | None:
    """Share of rows whose value's most frequent class is their class."""
    name = quote_identifier(column.name)
    if _groups(con, table, name) > _MOST_GROUPS:
        return None
    counted = f"SELECT {name} AS x, {target} AS y, count(*) AS c FROM {table} WHERE {target} IS NOT NULL GROUP BY ALL"
    purity = _value(con, f"SELECT sum(most) / sum(total) FROM (SELECT max(c) AS most, sum(c) AS total FROM ({counted}) GROUP BY x)")
    return f"its values decide the class in {purity:.1%} of the rows" if purity is not None and purity > _SUSPECT_PURITY else None


def _finite(value: str) -> str:
    """The number; NULL for an infinite one and for NaN, of which no variance can be computed."""
    number = f"CAST({value} AS DOUBLE)"
    return f"CASE WHEN isfinite({number}) THEN {number} END"


def _explains(con: "duckdb.DuckDBPyConnection", table: str, column: Column, target: str) -> str | None:
    name = quote_identifier(column.name)
    if is_numeric(column):
        share = _value(con, f"SELECT power(corr({_finite(name)}, {_finite(target)}), 2) FROM {table}")
    elif _groups(con, table, name) <= _MOST_GROUPS:
        share = _value(
            con,
            f"SELECT 1 - avg(power(y - m, 2)) / nullif(var_pop(y), 0) FROM (SELECT y, avg(y) OVER (PARTITION BY x) AS m FROM "
            f"(SELECT {name} AS x, {_finite(target)} AS y FROM {table}) WHERE y IS NOT NULL)",
        )
    else:
        share = None
    return f"alone it explains {share:.1%} of the variance" if share is not None and share > _SUSPECT_R2 else None


def _groups(con: "duckdb.DuckDBPyConnection", table: str, name: str) -> float:
    return _value(con, f"SELECT count(DISTINCT {name}) FROM {table}") or 0


def distinct_counts(con: "duckdb.DuckDBPyConnection", table: str, columns: Sequence[Column]) -> Mapping[str, tuple[int, int, float]]:
    """Per column: values, different values, and the mean number of blanks in a value."""
    found: dict[str, tuple[int, int, float]] = {}
    for start in range(0, len(columns), 40):
        part = columns[start : start + 40]
        measures: list[str] = []
        for column in part:
            name = quote_identifier(column.name)
            blanks = f"avg(length({name}) - length(replace({name}, ' ', '')))" if column.sql_type == "VARCHAR" else "0"
            measures += [f"count({name})", f"count(DISTINCT {name})", f"coalesce({blanks}, 0)"]
        row = con.execute(f"SELECT {', '.join(measures)} FROM {table}").fetchone() or ()
        for n, column in enumerate(part):
            found[column.name] = (int(row[3 * n]), int(row[3 * n + 1]), float(row[3 * n + 2]))
    return found
