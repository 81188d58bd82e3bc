"""The drift tables: `monitoring.drift_references` has a row per stored profile, `monitoring.drift` one per column and measurement."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.monitoring.drift.judging import ColumnDrift, DriftReport
from lakehouse.monitoring.drift.reference import ColumnProfile, Reference
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp

TABLE = "monitoring.drift"
REFERENCES = "monitoring.drift_references"
# Another way to divide columns makes other references.
_CODE = "drift-1"


@dataclass(frozen=True, slots=True)
class ReferenceKey:
    """Which profile it is.

    Attributes:
        subject: `models.<name>`.
        version: of the model.
        part: `features` or `predictions`; `new_features` and `new_predictions` for what was arriving when it was trained.
        digest: of the model: a registry that was made anew counts from 1 again.
    """

    subject: str
    version: str
    part: str
    digest: str


@dataclass(frozen=True, slots=True)
class StoredReference:
    """A profile as it is kept.

    Attributes:
        until: the latest event time of its rows; None where they have none.
        inputs: table versions that it was made of.
    """

    reference: Reference
    until: datetime | None
    inputs: Mapping[str, int]


def stored_reference(lake: Lake, key: ReferenceKey) -> StoredReference | None:
    """The profile that is kept under a key."""
    if not lake.exists(REFERENCES):
        return None
    given = {"subject": key.subject, "version": key.version, "part": key.part, "digest": key.digest, "code": _CODE}
    where = " AND ".join(f"{name} = {quote_literal(value)}" for name, value in given.items())
    with lake.connect([REFERENCES]) as session:
        row = session.con.execute(
            f"SELECT rows, columns, left_out, until, inputs FROM {REFERENCES} WHERE {where} ORDER BY made_at LIMIT 1"
        ).fetchone()
    if row is None:
        return None
    columns = tuple(ColumnProfile.from_json(text) for text in json.loads(row[1]))
    return StoredReference(Reference(int(row[0]), columns, json.loads(row[2])), row[3], json.loads(row[4]))


def keep_reference(lake: Lake, key: ReferenceKey, stored: StoredReference, *, run: str, now: datetime) -> None:
    """Keep a profile; of two processes that keep the same at once, both have kept the same."""
    reference = stored.reference
    row: dict[str, tuple[Any, str]] = {
        "subject": (key.subject, "VARCHAR"),
        "version": (key.version, "VARCHAR"),
        "part": (key.part, "VARCHAR"),
        "digest": (key.digest, "VARCHAR"),
        "code": (_CODE, "VARCHAR"),
        "rows": (reference.rows, "BIGINT"),
        "columns": (json.dumps([one.as_json() for one in reference.columns], ensure_ascii=False), "VARCHAR"),
        "left_out": (json.dumps(dict(reference.left_out), ensure_ascii=False), "VARCHAR"),
        "until": (stored.until, "TIMESTAMPTZ"),
        "inputs": (json.dumps(dict(stored.inputs), sort_keys=True), "VARCHAR"),
        "made_at": (now, "TIMESTAMPTZ"),
        "run": (run, "VARCHAR"),
    }
    with lake.connect(()) as session:
        stamp = Stamp(asset=REFERENCES, run=run, inputs=stored.inputs, code=_CODE)
        lake.append(session.con, REFERENCES, _select(row), stamp=stamp)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One comparison of a model's rows with its reference, as it is recorded.

    Attributes:
        inputs: table versions that were read.
        until: the latest event time that was known; None where rows have none.
    """

    key: ReferenceKey
    report: DriftReport
    inputs: Mapping[str, int]
    until: datetime | None = None


def quiet_until(lake: Lake, subject: str, *, before: datetime) -> datetime | None:
    """The latest event time that a measurement knew which found nothing new, of those that knew less than a time.

    Something new is a column that has drifted both from what the version was trained on and from what was arriving by then.
    """
    if not lake.exists(TABLE) or "until" not in lake.schema(TABLE):
        return None
    with lake.connect([TABLE]) as session:
        row = session.con.execute(
            "SELECT max(until) FROM (SELECT max(until) AS until, bool_or(parts = 2) AS is_new FROM (SELECT measured_at, max(until) AS until, "
            f"count(DISTINCT part) FILTER (verdict = 'drifted') AS parts FROM {TABLE} WHERE subject = {quote_literal(subject)} "
            "AND part IN ('features', 'new_features') GROUP BY measured_at, column_name) GROUP BY measured_at) "
            f"WHERE NOT is_new AND until < {quote_literal(before)}"
        ).fetchone()
    return row[0] if row else None


def record_drift(lake: Lake, measured: Iterable[Measurement], *, run: str, now: datetime) -> None:
    """Add a row for each column of each measurement, in one commit; nothing if there is none."""
    found = list(measured)
    rows = [_select(_row(one, column, run=run, now=now)) for one in found for column in one.report.columns]
    if not rows:
        return
    inputs = {table: version for one in found for table, version in one.inputs.items()}
    with lake.connect(()) as session:
        lake.append(session.con, TABLE, " UNION ALL ".join(rows), stamp=Stamp(asset=TABLE, run=run, inputs=inputs, code=_CODE))


def _row(measured: Measurement, column: ColumnDrift, *, run: str, now: datetime) -> dict[str, tuple[Any, str]]:
    key, report = measured.key, measured.report
    bins = {"labels": column.labels, "reference": column.reference, "current": column.current}
    return {
        "measured_at": (now, "TIMESTAMPTZ"),
        "subject": (key.subject, "VARCHAR"),
        "version": (key.version, "VARCHAR"),
        "part": (key.part, "VARCHAR"),
        "column_name": (column.column, "VARCHAR"),
        "measure": (column.measure, "VARCHAR"),
        "rows_reference": (report.rows_reference, "BIGINT"),
        "rows": (report.rows, "BIGINT"),
        "psi": (column.psi, "DOUBLE"),
        "psi_by_chance": (column.psi_by_chance, "DOUBLE"),
        "jensen_shannon": (column.jensen_shannon, "DOUBLE"),
        "chi_square_p": (column.chi_square_p, "DOUBLE"),
        "cramers_v": (column.cramers_v, "DOUBLE"),
        "ks": (column.ks, "DOUBLE"),
        "ks_p": (column.ks_p, "DOUBLE"),
        "p_value": (column.p_value, "DOUBLE"),
        "missing": (column.missing, "DOUBLE"),
        "verdict": (str(column.verdict), "VARCHAR"),
        "bins": (json.dumps(bins, ensure_ascii=False), "VARCHAR"),
        "until": (measured.until, "TIMESTAMPTZ"),
        "run": (run, "VARCHAR"),
    }


def _select(row: Mapping[str, tuple[Any, str]]) -> str:
    return "SELECT " + ", ".join(f"CAST({_literal(value)} AS {kind}) AS {name}" for name, (value, kind) in row.items())


def _literal(value: Any) -> str:
    # As text: DuckDB reads a number with a point as a DECIMAL first.
    return quote_literal(repr(value) if isinstance(value, float) else value)
