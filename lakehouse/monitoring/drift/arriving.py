"""What was already arriving when a model was trained last: what differs from that is new, and a reason to train again.

A version's own reference is everything it was trained on, also of a world that is gone, and a challenger that lost leaves the champion
with its old one. Against either the drift stays, however often the model is trained. So there is a second question beside the first:
do the rows that came since the newest training differ from those that were new in it?
"""

from datetime import datetime

from lakehouse.features import FeatureSource
from lakehouse.learning.results import TrainReport
from lakehouse.monitoring.drift.asked import asked_rows, latest_time
from lakehouse.monitoring.drift.judging import DriftLimits
from lakehouse.monitoring.drift.reference import profile_reference
from lakehouse.monitoring.drift.storing import ReferenceKey, StoredReference, keep_reference, quiet_until, stored_reference
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake

NEW_FEATURES = "new_features"


def arriving_rows(
    lake: Lake, source: FeatureSource, newest: TrainReport, *, run: str, now: datetime, limits: DriftLimits
) -> StoredReference:
    """The profile of the rows that were new when the newest version was trained; kept, so that they are read once.

    New are those with an event time after the last measurement before in which nothing new was found, and at least as many of the
    latest as something can be concluded from. Without event times, and before anything was measured, it is every row.
    """
    key = ReferenceKey(f"models.{newest.model}", newest.version, NEW_FEATURES, newest.model_digest)
    stored = stored_reference(lake, key)
    if stored is not None:
        return stored
    time = source.contract.event_timestamp
    with lake.connect(source.tables, as_of=dict(newest.inputs)) as session:
        relation, schema = asked_rows(session.con, source, newest, since=None)
        until = latest_time(session.con, relation, time)
        began = quiet_until(lake, key.subject, before=until) if until is not None else None
        if time is not None and began is not None:
            instant = f"CAST({quote_identifier(time)} AS TIMESTAMPTZ)"
            latest = f"SELECT {instant} AS instant FROM {relation} ORDER BY instant DESC NULLS LAST LIMIT {limits.min_rows}"
            relation = (
                f"(SELECT * FROM {relation} WHERE {instant} > {quote_literal(began)} OR {instant} >= (SELECT min(instant) FROM ({latest})))"
            )
        stored = StoredReference(profile_reference(session.con, relation, schema), until, session.inputs(*source.tables))
    keep_reference(lake, key, stored, run=run, now=now)
    return stored
