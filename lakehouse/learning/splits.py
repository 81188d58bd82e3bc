"""Which rows train, which test, and in which fold: decided in SQL, recorded with the rows, the same on every run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError, TrainingDataError
from lakehouse.features import LABEL, ModelRows
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

SPLIT = "_split"
FOLD = "_fold"
TRAIN = "train"
TEST = "test"
GAP = "gap"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rows of the label table that take no part.

    Attributes:
        reason: what keeps them out.
        rows: their number.
        example: the key of one of them.
    """

    reason: str
    rows: int
    example: str

    def __str__(self) -> str:
        return f"{self.rows:,} {'row' if self.rows == 1 else 'rows'}: {self.reason} (such as {self.example})"


def split_column(contract: ModelContract, model_rows: ModelRows) -> str | None:
    """The column whose value decides where a row goes; None where its entity decides."""
    if contract.split.strategy == "time":
        return contract.split.column or model_rows.event_timestamp
    return model_rows.group if contract.split.strategy == "group" else None


def split_sql(rows: str, contract: ModelContract, model_rows: ModelRows) -> str:
    """The rows with `_split` (train, test or gap) and `_fold` (0..folds-1 in train, otherwise NULL).

    * random: entities in the order of a hash of seed and entity, dealt out within each class, so that the classes keep their
      shares and all rows of an entity stay together;
    * group: the same with the group in the entity's place;
    * time: the newest rows test, rows of one instant stay together, and folds are consecutive blocks: validating on block k
      trains on the blocks before it. Rows of the last days before the first test row are the gap, if the contract wants one.

    A row without the time or group that decides is not among them: wherever it went, it could tell of rows on the other side.
    """
    if contract.split.strategy == "time":
        return _by_time(rows, contract, model_rows)
    return _by_unit(rows, contract, model_rows)


def _by_unit(rows: str, contract: ModelContract, model_rows: ModelRows) -> str:
    group = split_column(contract, model_rows)
    unit = [group] if group else list(model_rows.key)
    if group:
        rows = f"SELECT * FROM ({rows}) WHERE {quote_identifier(group)} IS NOT NULL"
    texts = ", ".join(f"coalesce(CAST({quote_identifier(column)} AS VARCHAR), '')" for column in unit)
    name = f"concat_ws(chr(31), {texts})"
    shuffled = f"md5({quote_literal(str(contract.seed))} || ':' || __unit), __unit"
    stratum = f"min({quote_identifier(LABEL)})" if contract.problem == "classification" else "0"
    fraction = contract.split.test_fraction
    return (
        f"WITH __rows AS (SELECT *, {name} AS __unit FROM ({rows})),"
        f" __units AS (SELECT __unit, {stratum} AS __stratum FROM __rows GROUP BY __unit),"
        f" __dealt AS (SELECT __unit, row_number() OVER (PARTITION BY __stratum ORDER BY {shuffled}) AS __place,"
        "  count(*) OVER (PARTITION BY __stratum) AS __of FROM __units),"
        f" __parts AS (SELECT __unit, __place <= round(__of * {fraction!r}) AS __test, __place FROM __dealt)"
        f" SELECT __rows.* EXCLUDE (__unit), if(__test, {quote_literal(TEST)}, {quote_literal(TRAIN)}) AS {SPLIT},"
        f"  if(__test, NULL, CAST(__place % {contract.folds} AS INTEGER)) AS {FOLD} FROM __rows JOIN __parts USING (__unit)"
    )


def _by_time(rows: str, contract: ModelContract, model_rows: ModelRows) -> str:
    column = split_column(contract, model_rows)
    if column is None:
        raise ModelError(
            f"model {contract.name}: split", "by time needs a time", fix="Set split.column or event_timestamp in the model contract"
        )
    time = quote_identifier(column)
    # The instant from which on at most the wanted share of rows lies: rows of one instant are never divided.
    share = "(count(*) OVER (ORDER BY __time DESC RANGE UNBOUNDED PRECEDING)) / (count(*) OVER ())"
    block = "(count(*) OVER (PARTITION BY __part ORDER BY __time RANGE UNBOUNDED PRECEDING) - count(*) OVER (PARTITION BY __part, __time))"
    blocks, fraction, gap_days = contract.folds + 1, contract.split.test_fraction, contract.split.gap_days
    is_gap = f"__time >= __from - to_microseconds({round(gap_days * 86_400_000_000)})" if gap_days else "false"
    part = f"CASE WHEN __time >= __from THEN {quote_literal(TEST)} WHEN {is_gap} THEN {quote_literal(GAP)} ELSE {quote_literal(TRAIN)} END"
    return (
        f"WITH __rows AS (SELECT *, {time} AS __time FROM ({rows}) WHERE {time} IS NOT NULL),"
        f" __shared AS (SELECT *, {share} AS __share FROM __rows),"
        f" __cut AS (SELECT coalesce(max(__time) FILTER (WHERE __share >= {fraction!r}), min(__time)) AS __from FROM __shared),"
        f" __parts AS (SELECT __rows.*, {part} AS __part FROM __rows, __cut)"
        f" SELECT * EXCLUDE (__time, __part), __part AS {SPLIT}, if(__part = {quote_literal(TRAIN)},"
        f"  CAST({block} * {blocks} // count(*) OVER (PARTITION BY __part) AS INTEGER), NULL) AS {FOLD} FROM __parts"
    )


def require_both_parts(
    con: "duckdb.DuckDBPyConnection", relation: str, contract: ModelContract, *, left_out: Sequence[LeftOut] = ()
) -> None:
    """A training set has rows to learn from, rows to test on, and (for classes) more than one class to tell apart.

    Raises:
        TrainingDataError: it does not.
    """
    label, split = quote_identifier(LABEL), quote_identifier(SPLIT)
    found = con.execute(
        f"SELECT count(*) FILTER ({split} = 'train'), count(*) FILTER ({split} = 'test'),"
        f" count(DISTINCT {label}) FILTER ({split} = 'train') FROM {relation}"
    ).fetchone()
    train, test, classes = found or (0, 0, 0)
    subject = f"model {contract.name}: training set"
    if train + test == 0:
        raise TrainingDataError(
            subject,
            "is empty",
            expected=f"rows of {contract.label_table} whose target is known",
            found="; ".join(str(one) for one in left_out) or "no row",
            fix="Ingest labelled data, or correct the model contract",
        )
    least = 2 * contract.folds
    others = "".join(f"; left out: {one}" for one in left_out)
    if train < least or test == 0:
        raise TrainingDataError(
            subject,
            "is too small to learn from and to test on",
            expected=f"{least} rows to train and some to test",
            found=f"{train} and {test}{others}",
            fix="Ingest more labelled data, or lower folds (and gap_days) in the model contract",
        )
    if classes < 2:
        raise TrainingDataError(
            subject, "has one value of the target only", expected="at least two", fix="Ingest rows of another class, or correct the target"
        )
