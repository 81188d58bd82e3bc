"""Predictions for the rows of a file, without ingesting it."""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts import DatasetContract, ModelContract, load_contracts
from lakehouse.errors import FileRefused, ModelError
from lakehouse.learning.familiarity import DataWarning, unfamiliar
from lakehouse.learning.file_columns import require_columns
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.registry import Registry
from lakehouse.learning.results import PredictReport
from lakehouse.learning.scoring import NUMBER, score
from lakehouse.learning.scratch import FILE_ROWS, ReadFile, build_rows, model_recipe, read_file
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake

if TYPE_CHECKING:
    import duckdb

_FORMATS = {".csv": "FORMAT csv, HEADER true", ".parquet": "FORMAT parquet, COMPRESSION zstd"}


def predict_file(settings: Settings, lake: Lake, contract: ModelContract, file: Path, out: Path, *, now: datetime) -> PredictReport:
    """Predict every valid row of a file: one output row each, in the file's order.

    The rows are read, typed and turned into features by the very contract and SQL that make the training set. The output has
    the dataset's key under the file's own names (`_row` for a dataset without one), `prediction`, and for classes one `probability_<class>` column each.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model, whose champion predicts.
        file: any format that the dataset can be ingested from, with or without the target.
        out: where to write; `.csv` or `.parquet` says the format. It appears whole or not at all.
        now: the time at which the rows are taken to be known.

    Raises:
        FileRefused: the file can't be read as rows of the dataset, lacks a column that the model needs, or holds no valid row.
        ModelNotFound: no version of the model has reached its minimums yet.
        ModelError: `out` has another ending or can't be written.
        TransformError: dbt can't compile the models.
    """
    options = _FORMATS.get(out.suffix.lower())
    if options is None:
        raise ModelError(f"output {out}", "has an ending that says no format", expected=" or ".join(_FORMATS), found=out.suffix or "none")
    if not file.is_file():
        raise FileRefused(str(file), "is not a file", fix="Correct the path")
    contracts = load_contracts(settings)
    dataset = contracts.dataset(contract.dataset)
    registry = Registry(settings)
    lifecycle = Lifecycle(registry, lake)
    # What a killed process left undone in the registry is done first.
    lifecycle.look(contract.name)
    model = lifecycle.load(contract.name)
    import duckdb

    con = lake.open_connection()
    try:
        read = read_file(con, settings, dataset, contract, file, now=now)
        recipe = model_recipe(settings, contracts, contract)
        require_columns(file, read.missing, contracts=contracts, source=recipe.source, steps=recipe.steps, used=model.spec.used)
        _require_rows(file, read, con)
        build_rows(con, lake, contracts, recipe, into="__rows")
        columns = score(con, "__rows", model, into="__scores")
        odd = unfamiliar(con, "__rows", model.spec.schema, model.spec.seen, names={one.name: one.source for one in dataset.columns})
        keys = _output_keys(dataset)
        repeated = _repeated_keys(con, keys) if dataset.primary_key else []
        wanted = [column for column in columns if column != "confidence"]
        listed = [f"{FILE_ROWS}.{quote_identifier(column)} AS {quote_identifier(name)}" for column, name in keys.items()]
        listed += [f"__scores.{quote_identifier(column)}" for column in wanted]
        rows = (
            f"SELECT {', '.join(listed)} FROM __scores JOIN __rows USING ({NUMBER}) JOIN {FILE_ROWS} USING (_row) ORDER BY {FILE_ROWS}._row"
        )
        # Otherwise the writer may change the order that the query gives.
        con.execute("SET preserve_insertion_order = true")
        draft = out.with_name(f".{out.name}.{os.getpid()}.part")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            written = con.execute(f"COPY ({rows}) TO {quote_literal(str(draft))} ({options})").fetchone()
            draft.replace(out)
        except (OSError, duckdb.IOException) as error:
            raise ModelError(f"output {out}", "can't be written", found=str(error).splitlines()[0], fix="Choose another place") from error
        finally:
            draft.unlink(missing_ok=True)
    finally:
        con.close()
    return PredictReport(
        model=model.name,
        version=model.version,
        file=str(file),
        out=str(out),
        rows_read=read.rows_read,
        rows_predicted=int(written[0]) if written else 0,
        columns=(*keys.values(), *wanted),
        rejected=tuple(read.rejected),
        warnings=(*repeated, *_broken_rules(read, dataset), *odd),
        threshold=model.threshold,
    )


def _require_rows(file: Path, read: ReadFile, con: "duckdb.DuckDBPyConnection") -> None:
    """Nothing can be said of a file whose records are all invalid but why they are, and of one without any nothing at all."""
    if not read.rows_read:
        raise FileRefused(
            file.name, "has no row that can be predicted", expected="one record or more", found="none", fix="Give a file with rows"
        )
    kept = con.execute(f"SELECT count(*) FROM {FILE_ROWS}").fetchone()
    if kept and kept[0]:
        return
    number, reason = min(read.rejected)
    raise FileRefused(
        file.name,
        f"has no row that can be predicted: all {read.rows_read:,} are invalid",
        found=f"in record {number}: {reason}",
        fix="Correct the file, or the dataset's contract",
    )


def _repeated_keys(con: "duckdb.DuckDBPyConnection", keys: Mapping[str, str]) -> list[DataWarning]:
    """Each row gets its own answer; who joins them to the file by its key would get the answers of all rows with the same."""
    listed = ", ".join(quote_identifier(column) for column in keys)
    shown = " || ', ' || ".join(f"CAST({quote_identifier(column)} AS VARCHAR)" for column in keys)
    found = con.execute(
        f"SELECT sum(rows), list(shown)[:3] FROM (SELECT any_value({shown}) AS shown, count(*) AS rows, min(_row) AS first "
        f"FROM {FILE_ROWS} GROUP BY {listed} HAVING count(*) > 1 ORDER BY first)"
    ).fetchone()
    if found is None or found[0] is None:
        return []
    detail = "the same key in several rows, each of which is predicted by itself"
    return [DataWarning(", ".join(keys.values()), "repeated_key", int(found[0]), tuple(map(str, found[1])), detail)]


def _broken_rules(read: ReadFile, dataset: DatasetContract) -> list[DataWarning]:
    names = {column.name: column.source for column in dataset.columns}
    return [
        DataWarning(
            column=", ".join(names.get(column, column) for column in broken.rule.columns),
            kind="rule",
            rows=broken.rows,
            examples=tuple(broken.examples),
            detail=f"breaks {name}: {broken.rule.description}",
        )
        for name, broken in sorted(read.broken.items())
    ]


def _output_keys(dataset: DatasetContract) -> dict[str, str]:
    """The columns that tell the rows apart, and what the file itself calls them: its owner joins on those."""
    names = {column.name: column.source for column in dataset.columns}
    return {column: names[column] for column in dataset.primary_key} or {"_row": "_row"}
