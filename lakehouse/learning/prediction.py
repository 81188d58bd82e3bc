"""Predictions of every entity as a table, each with the model and the table versions it came from."""

import json
from collections.abc import Callable
from datetime import datetime

from lakehouse.contracts import ModelContract
from lakehouse.features import ModelRows, described, feature_source, prediction_set
from lakehouse.learning.fingerprint import code_digest
from lakehouse.learning.records import made_already
from lakehouse.learning.registry import LoadedModel, Registry, unheard
from lakehouse.learning.scoring import NUMBER, score
from lakehouse.learning.sources import declared_views, require_tables
from lakehouse.openlineage import job
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Commit, Lake, Session, Stamp


def predict_batch(
    settings: Settings, lake: Lake, contract: ModelContract, *, run: str, now: datetime, waiting: Callable[[str], None] = unheard
) -> Commit:
    """Replace `models.<model>_predictions` by what the champion says of every entity's newest row, labelled or not.

    Earlier predictions stay readable as earlier versions of the table. Nothing is written (the commit says skipped) where the
    newest version was made by this champion from these table versions with this code. One process of a home at a time predicts.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model.
        run: recorded with the predictions.
        now: the time of prediction.
        waiting: told, in one line, that another process is predicting with this model.

    Raises:
        ModelNotFound: no version of the model has reached its minimums yet.
        ModelError: the features have changed since the model was trained.
        FeatureError: a feature view is missing or can't be joined.
        TableNotFound: a table of features has not been built.
    """
    registry = Registry(settings)
    source = feature_source(contract, declared_views(settings, contract))
    require_tables(lake, source)
    with registry.turn("predicting", contract.name, waiting=waiting), job(settings, lake, "predict", contract.name, run=run):
        model = registry.load(contract.name)
        with lake.connect(source.tables) as session:
            stamp = Stamp(
                asset=f"models.{contract.name}_predictions",
                run=run,
                inputs=session.inputs(*source.tables),
                code=code_digest(),
                source={"model": f"models.{model.name}@{model.version}", "model_digest": model.spec.digest},
            )
            made = made_already(lake, stamp)
            if made is not None:
                return made
            rows = prediction_set(described(source, session.con))
            return lake.overwrite(session.con, stamp.asset, _predictions_sql(session, rows, model, stamp, now), stamp=stamp)


def _predictions_sql(session: Session, rows: ModelRows, model: LoadedModel, stamp: Stamp, now: datetime) -> str:
    """Make the predictions in the session, and the SELECT of the table's rows."""
    con = session.con
    select = rows.query.run(con)
    con.execute(f"CREATE OR REPLACE TEMP TABLE __rows AS SELECT row_number() OVER () - 1 AS {NUMBER}, * FROM ({select})")
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
