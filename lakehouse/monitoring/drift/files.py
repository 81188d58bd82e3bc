"""Two files that no contract knows: the newer held against the older, each read as `lakehouse add` would read the older."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts import DatasetContract, infer_dataset
from lakehouse.contracts.matching import match_columns
from lakehouse.errors import FileRefused
from lakehouse.ingest.readers import StagedFile, stage
from lakehouse.ingest.validation import RowJudge
from lakehouse.learning.schema import FeatureSchema, is_usable
from lakehouse.monitoring.drift.judging import DriftLimits, DriftReport, measure_drift
from lakehouse.monitoring.drift.reference import profile_reference
from lakehouse.sql import quote_identifier
from lakehouse.tables import Lake

if TYPE_CHECKING:
    import duckdb

_TYPED = "lakehouse_compared"


def compare_files(lake: Lake, current: Path, reference: Path, *, limits: DriftLimits, spill_dir: Path | None = None) -> DriftReport:
    """Compare a file's rows with those of an earlier one, column by column; nothing is written.

    Types, formats and texts that mean "no value" are inferred from the reference. A value of the other file that is not of its
    column's type counts as missing, and so does a column that the file lacks.

    Args:
        lake: whose limits on memory and threads hold.
        current: the file in question, in any format that can be ingested.
        reference: what it is compared with.
        limits: when a difference counts.
        spill_dir: where unpacked and transcoded copies are put meanwhile.

    Raises:
        FileRefused: a file can't be read, or the two share no column.
    """
    with closing(lake.open_connection()) as con:
        staged = stage(con, reference, spill_dir=spill_dir)
        contract = infer_dataset(con, staged.relation, name="reference", source=reference.name).contract
        schema = FeatureSchema.of({one.source: one.sql_type for one in contract.columns if is_usable(one.sql_type)})
        _make_typed(con, contract, staged)
        profile = profile_reference(con, _TYPED, schema)
    with closing(lake.open_connection()) as con:
        staged = stage(con, current, spill_dir=spill_dir)
        _require_shared(contract, staged, current, reference)
        _make_typed(con, contract, staged)
        return measure_drift(con, _TYPED, schema, profile, limits)


def _make_typed(con: "duckdb.DuckDBPyConnection", contract: DatasetContract, staged: StagedFile) -> None:
    """The file's rows typed by the contract, its columns called as the reference calls them."""
    typed = RowJudge(contract, None).sql(
        match_columns(contract, staged.columns), staged.columns, quote_identifier(staged.relation), has_row=True
    )
    listed = ", ".join(f"{quote_identifier(column.name)} AS {quote_identifier(column.source)}" for column in contract.columns)
    con.execute(f"CREATE OR REPLACE TEMP TABLE {_TYPED} AS SELECT {listed} FROM ({typed})")


def _require_shared(contract: DatasetContract, staged: StagedFile, current: Path, reference: Path) -> None:
    if not match_columns(contract, staged.columns).found:
        raise FileRefused(
            current.name,
            f"shares no column with {reference.name}",
            expected=", ".join(column.source for column in contract.columns[:20]),
            found=", ".join(staged.columns[:20]),
            fix="Name two files of the same kind",
        )
