"""What a model has seen of each feature, and which rows hold something else: they are predicted, but nobody knows how well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.learning.preparation import CATEGORIES, Preparation, Treatment
from lakehouse.learning.schema import Feature, FeatureSchema, Kind
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

# Of a feature with more values a new one is nothing to speak of.
_MOST_VALUES = 1000
_MOST_EXAMPLES = 3
_SHOWN_VALUES = 10


@dataclass(frozen=True, slots=True)
class Seen:
    """What the training rows held of one feature that the model uses.

    Attributes:
        low: the least number, or the earliest time in ISO 8601; None for text and for truth values.
        high: the greatest, or the latest.
        values: every category; None where they are not categories, or too many.
        has_gaps: whether a value was missing anywhere.
    """

    feature: str
    low: float | str | None = None
    high: float | str | None = None
    values: tuple[str, ...] | None = None
    has_gaps: bool = True

    def as_dict(self) -> dict[str, Any]:
        """As stored with the model."""
        return {"feature": self.feature, "low": self.low, "high": self.high, "values": self.values, "has_gaps": self.has_gaps}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Seen":
        """As stored with the model."""
        values = stored["values"]
        return cls(stored["feature"], stored["low"], stored["high"], None if values is None else tuple(values), stored["has_gaps"])


@dataclass(frozen=True, slots=True)
class DataWarning:
    """Rows that are predicted although something about them is odd.

    Attributes:
        column: where it is; several are joined by commas.
        kind: `unseen_value`, `out_of_range`, `missing_value`, `repeated_key` or `rule`.
        rows: their number.
        examples: some of the values.
        detail: what was expected.
    """

    column: str
    kind: str
    rows: int
    examples: tuple[str, ...]
    detail: str

    def __str__(self) -> str:
        shown = f" ({', '.join(self.examples)})" if self.examples else ""
        return f"{self.column}: {self.rows:,} {'row' if self.rows == 1 else 'rows'}{shown}: {self.detail}"


def seen_in(frame: "pd.DataFrame", schema: FeatureSchema, preparation: Preparation) -> tuple[Seen, ...]:
    """What the training rows hold of every feature that is used."""
    treatments = {one.feature: one.treatment for one in preparation.columns}
    used = (feature for feature in schema.features if treatments[feature.name] is not Treatment.DROPPED)
    return tuple(_seen(feature, treatments[feature.name], frame[feature.name]) for feature in used)


def _seen(feature: Feature, treatment: Treatment, values: "pd.Series") -> Seen:
    if feature.kind is Kind.STRING:
        distinct = sorted(set(values) - {""}) if treatment in CATEGORIES else []
        return Seen(
            feature.name, values=tuple(distinct) if 0 < len(distinct) <= _MOST_VALUES else None, has_gaps=bool((values == "").any())
        )
    has_gaps = bool(values.isna().any())
    if feature.kind is Kind.BOOLEAN:
        return Seen(feature.name, has_gaps=has_gaps)
    low, high = values.min(), values.max()
    if feature.kind is Kind.TIME:
        return Seen(feature.name, low.isoformat(), high.isoformat(), has_gaps=has_gaps)
    return Seen(feature.name, float(low), float(high), has_gaps=has_gaps)


def unfamiliar(
    con: "duckdb.DuckDBPyConnection", rows: str, schema: FeatureSchema, seen: Sequence[Seen], *, names: Mapping[str, str]
) -> list[DataWarning]:
    """Where rows hold what the model has never seen: a category, a number beyond its range, a gap in a column that had none.

    Args:
        con: a session.
        rows: name of a table with the model's features.
        schema: of the model.
        seen: of the model.
        names: what the reader calls a feature, where that is something else.
    """
    features = {feature.name: feature for feature in schema.features}
    questions = [question for one in seen for question in _questions(features[one.feature], one)]
    if not questions:
        return []
    cast = f"(SELECT {schema.select_sql()} FROM {quote_identifier(rows)})"
    counted = con.execute(f"SELECT {', '.join(f'count(*) FILTER ({one.is_odd})' for one in questions)} FROM {cast}").fetchone() or ()
    warnings: list[DataWarning] = []
    for question, count in zip(questions, counted, strict=True):
        if count:
            examples = _examples(con, cast, question) if question.kind != "missing_value" else ()
            column = names.get(question.feature, question.feature)
            warnings.append(DataWarning(column, question.kind, int(count), examples, question.detail))
    return warnings


@dataclass(frozen=True, slots=True)
class _Question:
    feature: str
    kind: str
    is_odd: str
    detail: str


def _questions(feature: Feature, seen: Seen) -> list[_Question]:
    column = quote_identifier(feature.name)
    # What a frame makes of a value: no number is a gap, and so is empty text.
    is_there = f"{column} <> ''" if feature.kind is Kind.STRING else f"isfinite({column})"
    asked: list[_Question] = []
    if not seen.has_gaps:
        asked.append(_Question(feature.name, "missing_value", f"({is_there}) IS NOT TRUE", "missing, which it never was in training"))
    if seen.values is not None:
        shown = ", ".join(seen.values[:_SHOWN_VALUES]) + (", ..." if len(seen.values) > _SHOWN_VALUES else "")
        listed = ", ".join(quote_literal(value) for value in seen.values)
        asked.append(
            _Question(feature.name, "unseen_value", f"{is_there} AND {column} NOT IN ({listed})", f"not seen in training: {shown}")
        )
    if seen.low is not None and seen.high is not None:
        kind = "TIMESTAMP" if feature.kind is Kind.TIME else "DOUBLE"
        low, high = (f"CAST({quote_literal(str(value))} AS {kind})" for value in (seen.low, seen.high))
        detail = f"outside the range seen in training: {_shown(seen.low)} to {_shown(seen.high)}"
        asked.append(_Question(feature.name, "out_of_range", f"{is_there} AND {column} NOT BETWEEN {low} AND {high}", detail))
    return asked


def _examples(con: "duckdb.DuckDBPyConnection", rows: str, question: _Question) -> tuple[str, ...]:
    """The values that come most often."""
    column = quote_identifier(question.feature)
    found = con.execute(
        f"SELECT {column} FROM {rows} WHERE {question.is_odd} GROUP BY {column} ORDER BY count(*) DESC, {column} LIMIT {_MOST_EXAMPLES}"
    ).fetchall()
    return tuple(_shown(value)[:60] for (value,) in found)


def _shown(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
