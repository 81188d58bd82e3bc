"""Have a version's answers moved, from its first batch, and from what they were when the model was trained last?

Like is compared with like: only batches that were decided by the same threshold.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from lakehouse.errors import VersionGone
from lakehouse.learning.results import TrainReport
from lakehouse.learning.schema import FeatureSchema
from lakehouse.monitoring.drift.judging import DriftLimits, measure_drift
from lakehouse.monitoring.drift.reference import profile_reference
from lakehouse.monitoring.drift.storing import Measurement, ReferenceKey, StoredReference, keep_reference, stored_reference
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake

PREDICTIONS = "predictions"
NEW_PREDICTIONS = "new_predictions"
_ANSWERS = ("prediction", "confidence")


def answers_drift(lake: Lake, report: TrainReport, *, run: str, now: datetime, limits: DriftLimits) -> Measurement | None:
    """The version's answers in the newest batch, against those of its first."""
    key = ReferenceKey(f"models.{report.model}", report.version, PREDICTIONS, _digest(lake, report))
    return _answered(lake, report, key, None, run=run, now=now, limits=limits)


def new_answers_drift(
    lake: Lake, report: TrainReport, newest: TrainReport, answers: Measurement | None, *, run: str, now: datetime, limits: DriftLimits
) -> Measurement | None:
    """The version's answers in the newest batch, against those of its last batch when the newest version was trained."""
    key = ReferenceKey(f"models.{report.model}", newest.version, NEW_PREDICTIONS, _digest(lake, report))
    if answers is None or newest.version == report.version:
        return None if answers is None else replace(answers, key=key)
    return _answered(lake, report, key, newest, run=run, now=now, limits=limits)


def _answered(
    lake: Lake, report: TrainReport, key: ReferenceKey, newest: TrainReport | None, *, run: str, now: datetime, limits: DriftLimits
) -> Measurement | None:
    table = f"models.{report.model}_predictions"
    if not lake.exists(table):
        return None
    stored = stored_reference(lake, key)
    if stored is None:
        batch = _batch(lake, table, report, newest)
        if batch is None:
            return None
        with lake.connect([table], as_of={table: batch}) as session:
            relation, schema = _said(lake, table, report.version, version=batch)
            stored = StoredReference(profile_reference(session.con, relation, schema), None, session.inputs(table))
        keep_reference(lake, key, stored, run=run, now=now)
    with lake.connect([table]) as session:
        relation, schema = _said(lake, table, report.version)
        return Measurement(key, measure_drift(session.con, relation, schema, stored.reference, limits), session.inputs(table))


def _digest(lake: Lake, report: TrainReport) -> str:
    """Of what answers: the model, and the threshold if people have set one."""
    threshold = _threshold(lake, f"models.{report.model}_predictions")
    return report.model_digest if threshold is None else f"{report.model_digest} from {threshold}"


def _threshold(lake: Lake, table: str) -> Any:
    """What the newest batch was decided by, as its stamp has it."""
    newest = lake.content_commit(table) if lake.exists(table) else None
    return None if newest is None or newest.stamp is None else dict(newest.stamp.source or {}).get("threshold")


def _batch(lake: Lake, table: str, report: TrainReport, newest: TrainReport | None) -> int | None:
    """The first batch of a version that is left; or its last of no other rows than the newest version knew, if there is one."""
    made_by = {"model": f"models.{report.model}@{report.version}", "model_digest": report.model_digest}
    threshold, batches = _threshold(lake, table), dict[int, Mapping[str, int]]()
    for commit in lake.history(table):
        if commit.changes_rows and commit.stamp is not None:
            source = dict(commit.stamp.source or {})
            if made_by.items() <= source.items() and source.get("threshold") == threshold:
                batches[commit.version] = commit.stamp.inputs
    known = dict(newest.inputs) if newest is not None else {}
    then = [batch for batch, inputs in batches.items() if known and all(inputs.get(name, 0) <= version for name, version in known.items())]
    return next((batch for batch in [*sorted(then, reverse=True), *sorted(batches)] if _is_left(lake, table, batch)), None)


def _is_left(lake: Lake, table: str, version: int) -> bool:
    try:
        lake.snapshot(table, version)
    except VersionGone:
        return False
    return True


def _said(lake: Lake, table: str, model_version: str, *, version: int | None = None) -> tuple[str, FeatureSchema]:
    columns = lake.schema(table, version)
    layer, _, name = table.partition(".")
    relation = f"{quote_identifier(layer)}.{quote_identifier(name)}"
    answered = f"(SELECT * FROM {relation} WHERE model_version = {quote_literal(model_version)})"
    return answered, FeatureSchema.of({column: columns[column] for column in _ANSWERS if column in columns})
