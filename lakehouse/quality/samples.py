"""Rows that show what a finding is about, told by where they came from."""

from collections.abc import Sequence
from dataclasses import replace

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.quality.batches import BatchProfile
from lakehouse.quality.measures import fences_of, is_hidden
from lakehouse.quality.results import CheckResult
from lakehouse.sql import quote_identifier

_ROWS = 3
_COLUMNS = 4


def with_samples(
    con: duckdb.DuckDBPyConnection, contract: DatasetContract, result: CheckResult, earlier: Sequence[BatchProfile], *, rows_sql: str
) -> CheckResult:
    """The result, where outliers are too many with those furthest out: their key, file and row, and the value unless it is hidden.

    Args:
        con: a connection on which `rows_sql` runs.
        contract: the dataset's.
        result: a judgement of the batch.
        earlier: the batches before, which say what is far out.
        rows_sql: a SELECT of the batch's rows.
    """
    if result.id != "batch.outliers" or result.passed:
        return result
    strange = dict.fromkeys(
        name.rpartition(".")[0]
        for name, found in result.metadata.items()
        if isinstance(found, dict) and not found["low"] <= found["found"] <= found["high"]
    )
    told: list[str] = []
    for name in list(strange)[:_COLUMNS]:
        fences = fences_of(name, earlier)
        ends = fences.iqr or fences.z
        if ends is None:
            continue
        column = quote_identifier(name)
        x = f"CAST({column} AS DOUBLE)"
        middle = (ends[0] + ends[1]) / 2
        rows = con.execute(
            f"SELECT {place_sql(contract)}, {'NULL' if is_hidden(contract.column(name)) else column}::VARCHAR FROM ({rows_sql}) "
            f"WHERE {x} < {ends[0]!r} OR {x} > {ends[1]!r} ORDER BY abs({x} - {middle!r}) DESC, _file, _row LIMIT {_ROWS}"
        ).fetchall()
        told += [f"{name}{'' if value is None else f' is {value}'} in {place}" for place, value in rows]
    if not told:
        return result
    return replace(result, detail=f"{result.detail}; such as {'; '.join(told)}", metadata={**result.metadata, "samples": told})


def place_sql(contract: DatasetContract) -> str:
    """SQL of where a row came from: its file and row, and its key where that may be seen."""
    place = "concat(_file, ' row ', _row)"
    keys = [contract.column(name) for name in contract.primary_key]
    if not keys or any(is_hidden(key) for key in keys):
        return place
    shown = ", ', ', ".join(f"'{key.name} ', {quote_identifier(key.name)}" for key in keys)
    return f"concat({place}, ' (', {shown}, ')')"
