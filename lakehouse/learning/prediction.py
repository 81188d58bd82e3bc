"""Predictions of every entity as a table, each with the model and the table versions it came from."""

import json
from datetime import datetime

from lakehouse.contracts import ModelContract
from lakehouse.features import ModelRows, described, feature_source, prediction_set
from lakehouse.learning.registry import LoadedModel, Registry
from lakehouse.learning.scoring import NUMBER, score
from lakehouse.learning.sources import declared_views
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Commit, Lake, Session, Stamp, TableName


def predict_batch(settings: Settings, lake: Lake, contract: ModelContract, *, run: str, now: datetime) -> Commit:
    """Replace `models.<model>_predictions` by what the champion says of every entity's newest row, labelled or not.

    Earlier predictions stay readable as earlier versions of the table. Nothing is written (the commit says skipped) where the
    newest version was made by this champion from these table versions.

    Raises:
        ModelNotFound: no version of the model has reached its minimums yet.
        ModelError: the features have changed since the model was trained.
        FeatureError: a feature view is missing or can't be joined.
        TableNotFound: a table of features has not been built.
    """
    table = TableName.parse(f"models.{contract.name}_predictions")
    model = Registry(settings).load(contract.name)
    source = feature_source(contract, declared_views(settings, contract))
    with lake.connect(source.tables) as session:
        stamp = Stamp(
            asset=str(table),
            run=run,
            inputs=session.inputs(*source.tables),
            code=model.spec.digest,
            source={"model": f"models.{model.name}@{model.version}"},
        )
        made = _made_already(lake, table, stamp)
        if made is not None:
            return made
        rows = prediction_set(described(source, session.con))
        return lake.overwrite(session.con, table, _predictions_sql(session, rows, model, stamp, now), stamp=stamp)


def _made_already(lake: Lake, table: TableName, stamp: Stamp) -> Commit | None:
    newest = next(iter(lake.history(table, limit=1)), None) if lake.exists(table) else None
    if newest is None or newest.stamp is None:
        return None
    before = newest.stamp
    if (dict(before.inputs), before.code, before.source) != (dict(stamp.inputs), stamp.code, stamp.source):
        return None
    return Commit(table, newest.version, newest.version, rows=lake.detail(table).rows, skipped=True)


def _predictions_sql(session: Session, rows: ModelRows, model: LoadedModel, stamp: Stamp, now: datetime) -> str:
    """Make the predictions in the session, and the SELECT of the table's rows."""
    con = session.con
    con.execute(f"CREATE OR REPLACE TEMP TABLE __rows AS SELECT row_number() OVER () - 1 AS {NUMBER}, * FROM ({rows.sql})")
    columns = score(con, "__rows", model, into="__scores")
    kept = [*rows.key, *([rows.event_timestamp] if rows.event_timestamp else [])]
    listed = [f"__rows.{quote_identifier(column)}" for column in dict.fromkeys(kept)]
    listed += [f"__scores.{quote_identifier(column)}" for column in columns]
    origin = {
        "model_name": quote_literal(model.name),
        "model_version": quote_literal(model.version),
        "feature_versions": quote_literal(json.dumps(dict(stamp.inputs), sort_keys=True)),
        "predicted_at": f"CAST({quote_literal(now)} AS TIMESTAMPTZ)",
    }
    listed += [f"{value} AS {name}" for name, value in origin.items()]
    order = ", ".join(str(position + 1) for position in range(len(rows.key)))
    return f"SELECT {', '.join(listed)} FROM __rows JOIN __scores USING ({NUMBER}) ORDER BY {order}"
