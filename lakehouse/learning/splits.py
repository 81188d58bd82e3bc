"""Which rows train, which test, and in which fold: decided in SQL, recorded with the rows, the same on every run."""

from typing import TYPE_CHECKING

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError
from lakehouse.features import LABEL, ModelRows
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

SPLIT = "_split"
FOLD = "_fold"
TRAIN = "train"
TEST = "test"


def split_sql(rows: str, contract: ModelContract, model_rows: ModelRows) -> str:
    """The rows with `_split` (train or test) and `_fold` (0..folds-1 in train, NULL in test).

    * random: entities in the order of a hash of seed and entity, dealt out within each class, so that the classes keep their
      shares and all rows of an entity stay together;
    * group: the same with the group in the entity's place;
    * time: the newest rows test, rows of one instant stay together, and folds are consecutive blocks: validating on block k
      trains on the blocks before it.
    """
    if contract.split.strategy == "time":
        return _by_time(rows, contract, model_rows)
    return _by_unit(rows, contract, model_rows)


def _by_unit(rows: str, contract: ModelContract, model_rows: ModelRows) -> str:
    unit = [model_rows.group] if model_rows.group and contract.split.strategy == "group" else list(model_rows.key)
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
    column = contract.split.column or model_rows.event_timestamp
    if column is None:
        raise ModelError(
            f"model {contract.name}: split", "by time needs a time", fix="Set split.column or event_timestamp in the model contract"
        )
    time = quote_identifier(column)
    # The instant from which on at most the wanted share of rows lies: rows of one instant are never divided.
    share = "(count(*) OVER (ORDER BY __time DESC RANGE UNBOUNDED PRECEDING)) / (count(*) OVER ())"
    block = "(count(*) OVER (PARTITION BY __test ORDER BY __time RANGE UNBOUNDED PRECEDING) - count(*) OVER (PARTITION BY __test, __time))"
    blocks, fraction = contract.folds + 1, contract.split.test_fraction
    return (
        f"WITH __rows AS (SELECT *, {time} AS __time FROM ({rows})),"
        f" __shared AS (SELECT *, {share} AS __share FROM __rows),"
        f" __cut AS (SELECT coalesce(max(__time) FILTER (WHERE __share >= {fraction!r}), min(__time)) AS __from FROM __shared),"
        " __parts AS (SELECT __rows.*, __time >= __from AS __test FROM __rows, __cut)"
        f" SELECT * EXCLUDE (__time, __test), if(__test, {quote_literal(TEST)}, {quote_literal(TRAIN)}) AS {SPLIT},"
        f"  if(__test, NULL, CAST({block} * {blocks} // count(*) OVER (PARTITION BY __test) AS INTEGER)) AS {FOLD} FROM __parts"
    )


def require_both_parts(con: "duckdb.DuckDBPyConnection", relation: str, contract: ModelContract) -> None:
    """A training set has rows to learn from, rows to test on, and (for classes) more than one class to tell apart.

    Raises:
        ModelError: it does not.
    """
    label, split = quote_identifier(LABEL), quote_identifier(SPLIT)
    found = con.execute(
        f"SELECT count(*) FILTER ({split} = 'train'), count(*) FILTER ({split} = 'test'),"
        f" count(DISTINCT {label}) FILTER ({split} = 'train') FROM {relation}"
    ).fetchone()
    train, test, classes = found or (0, 0, 0)
    subject = f"model {contract.name}: training set"
    if train + test == 0:
        raise ModelError(
            subject,
            "is empty",
            expected=f"rows of {contract.label_table} whose target is known",
            fix="Ingest labelled data, or correct the target",
        )
    least = 2 * contract.folds
    if train < least or test == 0:
        raise ModelError(
            subject,
            "is too small to learn from and to test on",
            expected=f"{least} rows to train and some to test",
            found=f"{train} and {test}",
        )
    if classes < 2:
        raise ModelError(
            subject, "has one value of the target only", expected="at least two", fix="Ingest rows of another class, or correct the target"
        )
