"""The rows that a model is asked about, labelled or not, with the features that a version of it uses."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse.errors import ModelError
from lakehouse.features import FeatureSource, ModelRows, described, prediction_set, relation
from lakehouse.learning.results import TrainReport
from lakehouse.learning.schema import FeatureSchema, Kind
from lakehouse.monitoring.drift.reference import Reference
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

_DROPPED = "dropped"
_SAID = {Kind.NUMBER: "a number", Kind.BOOLEAN: "a boolean", Kind.STRING: "a text", Kind.TIME: "a time"}


def asked_rows(
    con: "duckdb.DuckDBPyConnection", source: FeatureSource, report: TrainReport, *, since: datetime | None
) -> tuple[str, FeatureSchema]:
    """The rows as a table of the session, and those of their features that the version uses."""
    time = source.contract.event_timestamp
    later = (
        f" WHERE CAST({quote_identifier(time)} AS TIMESTAMPTZ) > {quote_literal(since)}" if time is not None and since is not None else ""
    )
    if later and all(view.table != source.contract.label_table for view in source.views):
        _keep(con, source.contract.label_table, later)
    rows = prediction_set(described(source, con), newest_only=False)
    schema = used_features(rows, report)
    con.execute(f"CREATE OR REPLACE TEMP TABLE __asked AS SELECT * FROM ({rows.query.run(con)}){later}")
    return "__asked", schema


def _keep(con: "duckdb.DuckDBPyConnection", table: str, later: str) -> None:
    """Let the label table have only these rows in this session: features need to be joined to no others."""
    con.execute(f"ALTER VIEW {relation(table)} RENAME TO __whole_label_table")
    whole = relation(f"{table.partition('.')[0]}.__whole_label_table")
    con.execute(f"CREATE VIEW {relation(table)} AS SELECT * FROM {whole}{later}")


def used_features(rows: ModelRows, report: TrainReport) -> FeatureSchema:
    """Those of the rows' features that a version uses.

    Raises:
        ModelError: they are no longer there.
    """
    used = [one["feature"] for one in report.columns if one.get("treatment") != _DROPPED]
    gone = [name for name in used if name not in rows.features]
    if gone:
        raise ModelError(
            f"model {report.model}@{report.version}",
            f"was trained on features that are no longer there: {', '.join(gone)}",
            fix=f"Run `lakehouse train {report.model}`",
        )
    return FeatureSchema.of({name: rows.features[name] for name in used})


def require_kinds(schema: FeatureSchema, reference: Reference, report: TrainReport) -> None:
    """Numbers are compared with numbers, and texts with texts.

    Raises:
        ModelError: a feature is of another kind than in the reference.
    """
    then = {one.bins.column: one.bins.measure == "number" for one in reference.columns}
    other = [one for one in schema.features if one.name in then and then[one.name] != (one.kind in {Kind.NUMBER, Kind.BOOLEAN})]
    if other:
        raise ModelError(
            f"model {report.model}@{report.version}",
            "; ".join(f"{one.name} was {'a number' if then[one.name] else 'a text'} and is {_SAID[one.kind]} now" for one in other),
            fix=f"Run `lakehouse train {report.model}`, or give the column the type that it had",
        )


def latest_time(con: "duckdb.DuckDBPyConnection", relation: str, time: str | None) -> datetime | None:
    """The latest event time of a relation's rows; None where they have none."""
    if time is None:
        return None
    found = con.execute(f"SELECT epoch_us(max(CAST({quote_identifier(time)} AS TIMESTAMPTZ))) FROM {relation}").fetchone()
    return (
        None
        if found is None or found[0] is None
        else datetime.fromtimestamp(found[0] // 1_000_000, UTC).replace(microsecond=found[0] % 1_000_000)
    )
