"""What the training set's columns do not show: groups of like rows on both sides of the split, and views that know no time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakehouse.contracts import ModelContract
from lakehouse.contracts.inference.naming import is_identifier
from lakehouse.features import LABEL, FeatureSource, ModelRows, relation, target_columns
from lakehouse.learning.leakage import Leak
from lakehouse.learning.splits import SPLIT, TEST, TRAIN, split_column
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

# How much more alike the answers of one group are than those of any two rows, and how many pairs that takes to say.
_LIKENESS = 0.2
_LEAST_PAIRS = 100
_TEST_SHARE = 0.05


def straddling_groups(con: "duckdb.DuckDBPyConnection", split_rows: str, source: FeatureSource, rows: ModelRows) -> tuple[Leak, ...]:
    """Identifiers of the label table whose rows are on both sides of the split although their answers are alike.

    Not asked where the split is by time: there a group's later rows are tested by what was learned of its earlier ones, as in use.

    Args:
        con: a session with the label table.
        split_rows: relation of the training set with its split.
        source: described.
        rows: of the training set.
    """
    contract = source.contract
    if contract.split.strategy == "time":
        return ()
    columns = source.columns[contract.label_table]
    decided = {split_column(contract, rows)} if contract.split.strategy == "group" else set(rows.key) if len(rows.key) == 1 else set[str]()
    hidden = {*decided, contract.event_timestamp, *target_columns(contract)}
    asked = [column for column in columns if is_identifier(column) and column not in hidden and not column.startswith("_")]
    return tuple(leak for column in asked if (leak := _straddling(con, split_rows, contract, rows.key, column)))


def _straddling(con: "duckdb.DuckDBPyConnection", split_rows: str, contract: ModelContract, key: Sequence[str], column: str) -> Leak | None:
    keys = ", ".join(quote_identifier(one) for one in key)
    owners = f"SELECT {keys}, min({quote_identifier(column)}) AS __group FROM {relation(contract.label_table)} GROUP BY {keys}"
    label = quote_identifier(LABEL)
    # Of numbers the ranks count, brought to mean 0 and variance 1: the mean product of two of a group is how much they are alike.
    value = label if contract.problem == "classification" else f"(percent_rank() OVER (ORDER BY {label}) - 0.5) * sqrt(12)"
    joined = f"SELECT __group, {SPLIT} AS __split, {value} AS __answer FROM {split_rows} JOIN ({owners}) USING ({keys}) WHERE __group IS NOT NULL"
    if contract.problem == "classification":
        counted = "SELECT __group, __answer, count(*) AS n FROM __joined GROUP BY ALL"
        alike = (
            f"SELECT (same / pairs - chance) / nullif(1 - chance, 0) AS likeness, pairs / 2 AS pairs FROM"
            f" (SELECT sum(n * (n - 1)) AS same FROM ({counted})),"
            " (SELECT nullif(sum(n * (n - 1)), 0) AS pairs FROM (SELECT count(*) AS n FROM __joined GROUP BY __group)),"
            " (SELECT sum(power(n / (SELECT count(*) FROM __joined), 2)) AS chance FROM (SELECT count(*) AS n FROM __joined GROUP BY __answer))"
        )
    else:
        alike = (
            "SELECT sum(power(total, 2) - squares) / nullif(sum(n * (n - 1)), 0) AS likeness, sum(n * (n - 1)) / 2 AS pairs FROM"
            " (SELECT sum(__answer) AS total, sum(power(__answer, 2)) AS squares, count(*) AS n FROM __joined GROUP BY __group)"
        )
    learned = f"__group IN (SELECT __group FROM __joined WHERE __split = {quote_literal(TRAIN)})"
    row = con.execute(
        f"WITH __joined AS MATERIALIZED ({joined})"
        f" SELECT likeness, pairs, (SELECT avg(({learned})::INT) FROM __joined WHERE __split = {quote_literal(TEST)}) FROM ({alike})"
    ).fetchone()
    likeness, pairs, share = row or (None, None, None)
    if likeness is None or pairs is None or share is None or pairs < _LEAST_PAIRS or likeness < _LIKENESS or share < _TEST_SHARE:
        return None
    return Leak(
        column,
        f"has rows in training and test at once ({share:.0%} of the test rows), and the answers of one {column} are alike ({likeness:.2f},"
        " where 0 is as any two rows and 1 is the same): the score holds for those that were learned from; for new ones set"
        f" split: {{strategy: group, column: {column}}}",
    )


def timeless_views(source: FeatureSource) -> tuple[Leak, ...]:
    """Views without any time, joined to labels that have one: what they hold may have happened after the label's instant."""
    if source.contract.event_timestamp is None:
        return ()
    reason = (
        "has neither event_timestamp nor known_timestamp, while the labels have a time: what it says may have become known afterwards;"
        " name the time from when on its values were known"
    )
    return tuple(
        Leak(f"feature view {view.name}", reason) for view in source.views if view.event_timestamp is None and view.known_timestamp is None
    )
