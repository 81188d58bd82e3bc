"""Rows in a session to predictions in the same session, piece by piece: memory does not grow with the number of rows."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakehouse.contracts.answering import PROBABILITY
from lakehouse.errors import ModelError
from lakehouse.learning.evaluation import Predictions
from lakehouse.learning.registry import LoadedModel
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

NUMBER = "__number"
_PIECE_ROWS = 100_000
_UNFIT_FOR_A_NAME = re.compile(r"[ ,;{}()\n\t=]")


def probability_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """`probability_<class>` for each class, without the characters that a Delta column name can't have."""
    names: list[str] = []
    for one in classes:
        name = f"{PROBABILITY}{_UNFIT_FOR_A_NAME.sub('_', one)}"
        while name.lower() in {taken.lower() for taken in names}:
            name += "_"
        names.append(name)
    return tuple(names)


def score(con: "duckdb.DuckDBPyConnection", rows: str, model: LoadedModel, *, into: str) -> tuple[str, ...]:
    """Predict every row of a table; returns the columns of `into` beside NUMBER: prediction, probabilities, confidence.

    Args:
        con: a session.
        rows: name of a table with the model's features and NUMBER, which counts its rows from 0.
        model: the model.
        into: name of the table to make.

    Raises:
        ModelError: the table lacks features of the model.
    """
    present = {str(row[0]) for row in con.execute(f"DESCRIBE {quote_identifier(rows)}").fetchall()}
    missing = [name for name in model.spec.schema.names if name not in present]
    if missing:
        raise ModelError(
            f"model {model.name}@{model.version}",
            "was trained on features that are gone",
            found=", ".join(missing),
            fix=f"Run `lakehouse train {model.name}`",
        )
    kind = model.spec.label_type if model.spec.problem == "classification" else "DOUBLE"
    columns = ("prediction", *probability_columns(model.spec.classes), "confidence")
    types = [kind, *["DOUBLE"] * (len(columns) - 1)]
    declared = ", ".join(f"{quote_identifier(column)} {sql_type}" for column, sql_type in zip(columns, types, strict=True))
    con.execute(f"CREATE OR REPLACE TEMP TABLE {quote_identifier(into)} ({NUMBER} BIGINT, {declared})")
    found = con.execute(f"SELECT count(*) FROM {quote_identifier(rows)}").fetchone()
    for start in range(0, int(found[0]) if found else 0, _PIECE_ROWS):
        _score_piece(con, rows, model, into=into, start=start, columns=columns)
    return columns


def _score_piece(con: "duckdb.DuckDBPyConnection", rows: str, model: LoadedModel, *, into: str, start: int, columns: Sequence[str]) -> None:
    import pyarrow as pa

    piece = f"(SELECT * FROM {quote_identifier(rows)} WHERE {NUMBER} >= {start} AND {NUMBER} < {start + _PIECE_ROWS})"
    frame = model.spec.schema.fetch(con, piece, order_by=[NUMBER], extra=[NUMBER])
    table = pa.table([pa.array(frame[NUMBER].to_numpy()), *_arrays(model.answer(frame))], names=[NUMBER, *columns])
    con.register("__piece", table)
    try:
        con.execute(f"INSERT INTO {quote_identifier(into)} SELECT * FROM __piece")
    finally:
        con.unregister("__piece")


def _arrays(said: Predictions) -> list[object]:
    import pyarrow as pa

    if said.probabilities is None:
        return [pa.array(said.predicted), pa.nulls(len(said.predicted), pa.float64())]
    probabilities = [pa.array(said.probabilities[:, column]) for column in range(said.probabilities.shape[1])]
    return [pa.array(said.predicted.tolist(), pa.string()), *probabilities, pa.array(said.probabilities.max(axis=1))]
