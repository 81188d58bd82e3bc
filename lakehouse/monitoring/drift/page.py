"""Evidently's full report of a model's drift as one HTML page, from a sample of both sides."""

import warnings
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError
from lakehouse.features import feature_source
from lakehouse.learning.schema import FeatureSchema, Kind
from lakehouse.learning.sources import declared_views, require_tables
from lakehouse.monitoring.drift.asked import asked_rows
from lakehouse.monitoring.drift.models import trained_report
from lakehouse.settings import Settings
from lakehouse.tables import Lake

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

# Evidently holds both sides in memory, several times over.
MOST_ROWS = 20_000


def write_drift_page(
    settings: Settings, lake: Lake, contract: ModelContract, file: Path, *, since: datetime | None, version: str | None = None
) -> int:
    """Write the page; of more rows than MOST_ROWS on a side, the same sample each time. Returns the rows of today that it shows.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model.
        file: where to write.
        since: today's rows are those with a later event time; None for all.
        version: of the model; the one in production if it is left out.

    Raises:
        ModelNotFound: no version is in production, or there is no such version.
        ModelError: there are no rows to show, or the page can't be written.
    """
    source = feature_source(contract, declared_views(settings, contract))
    require_tables(lake, source)
    report = trained_report(settings, lake, contract, version)
    frames: list[pd.DataFrame] = []
    for as_of, later in ((dict(report.inputs), None), ({}, since)):
        with lake.connect(source.tables, as_of=as_of) as session:
            relation, schema = asked_rows(session.con, source, report, since=later)
            frames.append(_sample(session.con, relation, schema))
    then, now = frames
    if then.empty or now.empty:
        raise ModelError(f"model {contract.name}", "has no rows to report on", found=f"{len(then):,} then, {len(now):,} now")
    with warnings.catch_warnings():
        # Its modules use names that numpy calls deprecated, and it divides by the spread of columns that have none.
        warnings.simplefilter("ignore")
        from evidently import Report
        from evidently.presets import DataDriftPreset, DataSummaryPreset

        snapshot = Report([DataDriftPreset(), DataSummaryPreset()]).run(now, then)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            snapshot.save_html(str(file))
        except OSError as error:
            raise ModelError(f"report {file}", "can't be written", found=str(error), fix="Choose another place") from error
    return len(now)


def _sample(con: "duckdb.DuckDBPyConnection", relation: str, schema: FeatureSchema) -> "pd.DataFrame":
    """Numbers and texts as Evidently takes them: what is missing is missing."""
    drawn = f"(SELECT * FROM {relation} AS asked ORDER BY hash(asked) LIMIT {MOST_ROWS})"
    frame = schema.fetch(con, drawn)
    texts = [one.name for one in schema.features if one.kind is Kind.STRING]
    frame[texts] = frame[texts].replace("", None)
    return frame
