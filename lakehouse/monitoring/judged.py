"""Predictions beside the labels that came later: the rows that performance and outcomes are measured on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.contracts import ModelContract
from lakehouse.errors import VersionGone
from lakehouse.features import target_columns
from lakehouse.learning.scoring import probability_columns
from lakehouse.sql import quote_identifier
from lakehouse.tables import Lake

if TYPE_CHECKING:
    import duckdb

JUDGED = "__judged"
# The newest training set, and the one before: when labels arrive and the model is trained again in one run, the newest
# knows them already, and what the earlier model had said of those rows is what there is to judge.
_GENERATIONS = 2
_BATCHES = 30


@dataclass(frozen=True, slots=True)
class Judged:
    """A session in which the table JUDGED has a row per prediction whose label has come and was not learned from; closed if there is none.

    Attributes:
        columns: types by name: `label` and `prediction` (text for classes, else DOUBLE), `model_version`, perhaps `confidence` and
            `probability` of the positive class, and `segment_<column>` for the other columns of the label table.
        rows: there are.
        inputs: table versions it was read from.
    """

    con: "duckdb.DuckDBPyConnection"
    columns: Mapping[str, str]
    rows: int
    inputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Generation:
    """A training set, and the batches that were predicted until the next one, the newest last."""

    training_set: int
    batches: tuple[int, ...]


@contextmanager
def judged_rows(lake: Lake, contract: ModelContract) -> Iterator[Judged | None]:
    """What was said last of each row that a label has come for since, by each version that answered; None if there are no predictions yet.

    A label comes when the row has long been followed by a newer one of its entity: batches that were replaced are looked through as well.
    """
    training_table, predictions_table = f"models.{contract.name}_training_set", f"models.{contract.name}_predictions"
    if not all(lake.exists(table) for table in (training_table, predictions_table, contract.label_table)):
        yield None
        return
    last: Judged | None = None
    for generation in _generations(lake, training_table, predictions_table):
        as_of = {training_table: generation.training_set, predictions_table: generation.batches[-1]}
        with lake.connect([training_table, predictions_table, contract.label_table], as_of=as_of) as session:
            said = _said_sql(lake, session.con, predictions_table, generation.batches)
            session.con.execute(f"CREATE TEMP TABLE {JUDGED} AS {_judged_sql(lake, contract, training_table, predictions_table, said)}")
            columns = {str(row[0]): str(row[1]) for row in session.con.execute(f"DESCRIBE {JUDGED}").fetchall()}
            counted = session.con.execute(f"SELECT count(*) FROM {JUDGED}").fetchone()
            last = Judged(session.con, columns, int(counted[0]) if counted else 0, dict(session.inputs()))
            if last.rows:
                yield last
                return
    yield last


def _generations(lake: Lake, training_table: str, predictions_table: str) -> list[_Generation]:
    trained = [commit for commit in lake.history(training_table) if commit.changes_rows][:_GENERATIONS]
    predicted = [commit for commit in lake.history(predictions_table) if commit.changes_rows]
    found: list[_Generation] = []
    until: datetime | None = None
    for commit in trained:
        before = [one for one in predicted if until is None or one.timestamp < until]
        own = [one.version for one in before if one.timestamp >= commit.timestamp] or [one.version for one in before][:1]
        if own:
            found.append(_Generation(commit.version, tuple(sorted(own)[-_BATCHES:])))
        until = commit.timestamp
    return found


def _said_sql(lake: Lake, con: "duckdb.DuckDBPyConnection", table: str, batches: Sequence[int]) -> str:
    """All rows of the batches, each with its batch; one that maintenance has removed is not asked for any more."""
    parts: list[str] = []
    for batch in batches:
        try:
            parts.append(f"SELECT *, {batch} AS __batch FROM ({lake.scan_sql(table, version=batch, con=con)})")
        except VersionGone:
            continue
    return " UNION ALL BY NAME ".join(parts)


def _judged_sql(lake: Lake, contract: ModelContract, training_table: str, predictions_table: str, said_sql: str) -> str:
    """One row per prediction that meets a new label."""
    said, labelled = lake.schema(predictions_table), lake.schema(contract.label_table)
    known = set(said) & set(lake.schema(training_table)) & set(labelled)
    times = [contract.event_timestamp] if contract.event_timestamp else []
    key = [column for column in (*contract.entity, *times) if column in known] or [column for column in ("row_id",) if column in known]
    kind = "VARCHAR" if contract.problem == "classification" else "DOUBLE"
    listed = {"label": f"CAST(labels.__label AS {kind})", "prediction": f"TRY_CAST(predicted.prediction AS {kind})"}
    listed["model_version"] = "CAST(predicted.model_version AS VARCHAR)"
    if "confidence" in said:
        listed["confidence"] = "predicted.confidence"
    positive = probability_columns([contract.positive_class])[0] if contract.positive_class is not None else None
    probability = next((column for column in said if positive is not None and column.lower() == positive.lower()), None)
    if probability is not None:
        listed["probability"] = f"predicted.{quote_identifier(probability)}"
    hidden = {*key, *times, *target_columns(contract)}
    for column in labelled:
        if column not in hidden and not column.startswith("_"):
            listed[f"segment_{column}"] = f"labels.{quote_identifier(column)}"
    by = f"{', '.join(quote_identifier(column) for column in (*key, 'model_version'))} ORDER BY __batch DESC"
    select = ", ".join(f"{value} AS {quote_identifier(name)}" for name, value in listed.items())
    learned = f"SELECT 1 FROM {_relation(training_table)} AS learned WHERE {_same('labels', 'learned', key)}"
    # An earlier contract may have had classes where there are numbers now.
    is_judged = f"labels.__label IS NOT NULL AND {listed['prediction']} IS NOT NULL AND NOT EXISTS ({learned})"
    return (
        f"WITH labels AS (SELECT *, {contract.target} AS __label FROM {_relation(contract.label_table)}) SELECT {select} FROM labels "
        f"JOIN (SELECT * FROM ({said_sql}) QUALIFY row_number() OVER (PARTITION BY {by}) = 1) AS predicted ON {_same('labels', 'predicted', key)} "
        f"WHERE {is_judged}"
    )


def _same(left: str, right: str, key: Sequence[str]) -> str:
    """Whether two rows are about the same; nothing is, without a key."""
    pairs = (f"{left}.{quote_identifier(column)} IS NOT DISTINCT FROM {right}.{quote_identifier(column)}" for column in key)
    return " AND ".join(pairs) or "false"


def _relation(table: str) -> str:
    return ".".join(quote_identifier(part) for part in table.split("."))
