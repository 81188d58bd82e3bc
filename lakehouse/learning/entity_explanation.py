"""What a model says of one entity now, or at an earlier instant, and why."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError
from lakehouse.features import ModelRows, described, feature_source, prediction_set
from lakehouse.learning.explaining import Explainer, Method, drawn_background, value_text
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.margins import Unit
from lakehouse.learning.registry import LoadedModel, Registry
from lakehouse.learning.scoring import NUMBER, probability_columns, score
from lakehouse.learning.sources import declared_views, require_tables
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Session

if TYPE_CHECKING:
    import duckdb

_ROWS, _ROW, _SCORES = "__rows", "__row", "__scores"
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature adds to an answer; the value is None where it is missing."""

    feature: str
    value: str | None
    contribution: float


@dataclass(frozen=True, slots=True)
class EntityExplanation:
    """What a model version says of an entity, and why.

    Attributes:
        entity: the columns that name it.
        event_time: of the row that it is said of; None where the model has no event times.
        prediction: the class or the number.
        probabilities: by class; empty for numbers.
        confidence: the largest of them; None for numbers.
        abstained: whether the confidence is below the contract's band; None where there is none.
        unit: of base, answer and contributions.
        orders: how many were sampled; None where contributions are exact.
        base: what is said of other rows.
        answer: what is said of this one: the base and all contributions.
        contributions: of every feature that the model uses, the weightiest first.
        tables: version by `layer.name` of the tables read.
    """

    model: str
    version: str
    entity: Mapping[str, str]
    event_time: datetime | None
    prediction: Any
    probabilities: Mapping[str, float]
    confidence: float | None
    abstained: bool | None
    unit: Unit | None
    method: Method
    orders: int | None
    base: float
    answer: float
    contributions: tuple[Contribution, ...]
    tables: Mapping[str, int]


def explain_entity(
    settings: Settings,
    lake: Lake,
    contract: ModelContract,
    entity: Mapping[str, str],
    *,
    version: str | None = None,
    as_of: datetime | None = None,
) -> EntityExplanation:
    """Predict one entity from its features as the tables have them, and explain the prediction; nothing is written.

    The rows are those of `predict_batch`, and so is the background, so that both tell the same.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model.
        entity: the columns that name it, with their values as text.
        version: of the model; the champion without it.
        as_of: read the tables as they stood then; now without it.

    Raises:
        ModelNotFound: there is no such version, or none is in production.
        ModelError: the entity is not named by its columns, or is not among the rows.
        TableNotFound: a table of features has not been built, or was not there then.
    """
    model = Lifecycle(Registry(settings), lake).load(contract.name, version)
    source = feature_source(contract, declared_views(settings, contract))
    require_tables(lake, source)
    at = {} if as_of is None else dict.fromkeys(source.tables, as_of)
    with lake.connect(source.tables, as_of=at) as session:
        rows = prediction_set(described(source, session.con))
        _pick(session.con, rows, entity, contract=contract, as_of=as_of)
        return _told(session, rows, model, contract, entity)


def _pick(
    con: "duckdb.DuckDBPyConnection", rows: ModelRows, entity: Mapping[str, str], *, contract: ModelContract, as_of: datetime | None
) -> None:
    """Make the tables of all rows and of the one."""
    if set(entity) != set(rows.key):
        expected, found = ", ".join(rows.key), ", ".join(entity)
        raise ModelError(f"model {contract.name}", "names its entities by other columns", expected=expected, found=found)
    by = ", ".join(quote_identifier(column) for column in rows.key)
    con.execute(f"CREATE TEMP TABLE {_ROWS} AS SELECT row_number() OVER (ORDER BY {by}) - 1 AS {NUMBER}, * FROM ({rows.query.run(con)})")
    named = " AND ".join(f"CAST({quote_identifier(name)} AS VARCHAR) = {quote_literal(value)}" for name, value in entity.items())
    con.execute(f"CREATE TEMP TABLE {_ROW} AS SELECT 0::BIGINT AS {NUMBER}, * EXCLUDE ({NUMBER}) FROM {_ROWS} WHERE {named}")
    if con.execute(f"SELECT count(*) FROM {_ROW}").fetchone() == (0,):
        raise ModelError(
            f"model {contract.name}: {', '.join(f'{name} {value}' for name, value in entity.items())}",
            "is not among the rows that it predicts"
            if as_of is None
            else f"was not among the rows that it predicts on {as_of:%Y-%m-%d %H:%M} UTC",
            fix=f'See the known ones with `lakehouse query "SELECT {", ".join(rows.key)} FROM {contract.label_table}"`',
        )


def _told(session: Session, rows: ModelRows, model: LoadedModel, contract: ModelContract, entity: Mapping[str, str]) -> EntityExplanation:
    con = session.con
    columns = score(con, _ROW, model, into=_SCORES)
    found = con.execute(f"SELECT {', '.join(quote_identifier(column) for column in columns)} FROM {_SCORES}").fetchone() or ()
    said = dict(zip(columns, found, strict=True))
    confidence: float | None = said["confidence"]
    time_sql = quote_identifier(rows.event_timestamp) if rows.event_timestamp else "NULL"
    at = con.execute(f"SELECT {time_sql} FROM {_ROW}").fetchone() or (None,)
    frame = model.spec.schema.fetch(con, _ROW)
    explainer = Explainer(model, drawn_background(con, _ROWS, model, seed=contract.seed), seed=contract.seed)
    why = explainer.explain(frame, until=time.monotonic() + (contract.explain.seconds if contract.explain else _SECONDS))
    parts = [
        Contribution(feature, value_text(frame[feature].iloc[0]), float(why.values[0, place])) for place, feature in enumerate(why.features)
    ]
    names = probability_columns(model.spec.classes)
    return EntityExplanation(
        model=model.name,
        version=model.version,
        entity=dict(entity),
        event_time=at[0],
        prediction=said["prediction"],
        probabilities={one: said[name] for one, name in zip(model.spec.classes, names, strict=True)},
        confidence=confidence,
        abstained=None if contract.abstain is None or confidence is None else confidence < contract.abstain,
        unit=why.unit,
        method=why.method,
        orders=why.orders,
        base=float(why.base[0]),
        answer=float(why.base[0] + why.values[0].sum()),
        contributions=tuple(sorted(parts, key=lambda one: -abs(one.contribution))),
        tables=session.inputs(*rows.tables),
    )
