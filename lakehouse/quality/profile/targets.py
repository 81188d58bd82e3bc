"""Which column could be predicted, and what there is to say about the one that is to be."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lakehouse.contracts import Column
from lakehouse.contracts.inference import naming
from lakehouse.contracts.inference.association import leak_suspects
from lakehouse.errors import ContractError
from lakehouse.quality.profile.association import Comparison
from lakehouse.quality.profile.columns import Measured
from lakehouse.quality.profile.facts import Association, ColumnFacts, Key, Target, TargetSuggestion
from lakehouse.quality.profile.sampling import SAMPLE
from lakehouse.quality.profile.shown import percent

if TYPE_CHECKING:
    import duckdb

_OUTCOMES = frozenset(
    """
    target label class outcome result y churn churned default defaulted fraud response responded converted conversion purchase
    purchased bought revenue success survived diagnosis approved cancelled canceled returned status grade quality clicked subscribed
    """.split()
)
_WANTED = 4
_LEAST = 2.0
_SUSPECT = 0.95


def suggest_targets(facts: Sequence[ColumnFacts], comparison: Comparison, *, key: Key | None, rows: int) -> tuple[TargetSuggestion, ...]:
    """The columns that look most like an outcome, best first, each with its reasons."""
    strongest = _strongest(comparison)
    found = [one for place, column in enumerate(facts) if (one := _suggestion(column, place, facts, strongest, key=key, rows=rows))]
    return tuple(sorted(found, key=lambda one: (-one.score, one.column))[:_WANTED])


def _strongest(comparison: Comparison) -> Mapping[str, list[Association]]:
    """The associations of each column, strongest first."""
    found: dict[str, list[Association]] = {}
    for one in comparison.associations:
        found.setdefault(one.left, []).append(one)
        found.setdefault(one.right, []).append(one)
    return found


def _suggestion(
    column: ColumnFacts,
    place: int,
    facts: Sequence[ColumnFacts],
    strongest: Mapping[str, list[Association]],
    *,
    key: Key | None,
    rows: int,
) -> TargetSuggestion | None:
    is_measured = column.kind == "number" and column.distinct > 10
    is_class = 2 <= column.distinct <= 10 and column.kind in {"boolean", "text", "number"}
    in_key = key is not None and column.name in key.columns
    if column.hidden or in_key or rows < 20 or column.missing_share > 0.3 or not (is_measured or is_class):
        return None
    if naming.is_identifier(column.name) or (column.texts and column.texts.looks_like in {"dates or times", "JSON documents"}):
        return None
    if is_measured and (column.distinct < 0.01 * column.values or (column.unique_share > 0.999 and _counts_rows(column))):
        return None
    reasons: list[str] = []
    score = 0.0
    words = set(naming.words(column.name))
    if words & _OUTCOMES:
        score += 3
        reasons.append("its name says that it is an outcome")
    if column.distinct == 2:
        score += 1
        reasons.append(f"it has two values{_balance(column)}")
    elif is_class:
        score += 0.5
        reasons.append(f"it has {column.distinct} classes{_balance(column)}")
    elif naming.is_measure(column.name):
        score += 1.5
        reasons.append("its name says that it is an amount")
    if place == len(facts) - 1 and len(facts) > 2:
        score += 1
        reasons.append("it is the last column, where outcomes often stand")
    if column.missing == 0:
        score += 0.5
        reasons.append("it is filled in every row")
    close = [one for one in strongest.get(column.name, ()) if abs(one.value) < _SUSPECT][:3]
    if close:
        other = close[0].right if close[0].left == column.name else close[0].left
        score += sum(abs(one.value) for one in close) / len(close)
        reasons.append(f"other columns say something about it, {other} most ({abs(close[0].value):.2f} of 1)")
    if score < _LEAST:
        return None
    return TargetSuggestion(column.name, "classification" if is_class else "regression", round(score, 2), tuple(reasons))


def _counts_rows(column: ColumnFacts) -> bool:
    return "INT" in column.type


def _balance(column: ColumnFacts) -> str:
    if not column.top or not column.values:
        return ""
    return " (" + ", ".join(f"{one.label} {percent(one.rows / column.values)}" for one in column.top[:2]) + ")"


def describe_target(
    con: "duckdb.DuckDBPyConnection",
    columns: Sequence[Measured],
    facts: Sequence[ColumnFacts],
    comparison: Comparison,
    *,
    name: str,
) -> Target:
    """What there is to say about the column to be predicted.

    Raises:
        ContractError: there is no such column.
    """
    column = next((one for one in facts if one.name.lower() == name.lower()), None)
    if column is None:
        raise ContractError(
            f"target {name}", "is not a column", expected=f"one of {', '.join(one.name for one in facts[:30])}", fix="Correct --target"
        )
    mine = [one for one in comparison.associations if column.name in {one.left, one.right}]
    is_class = column.distinct <= 10 or column.kind in {"text", "boolean"}
    problem = "classification" if is_class else "regression"
    shown = tuple(replace(one, left=column.name, right=_other(one, column.name)) for one in mine)
    suspects = () if column.hidden else _suspects(con, columns, column, problem)
    return Target(column.name, problem, column.top if is_class else (), shown, suspects, _detail(column, is_class=is_class))


def _detail(column: ColumnFacts, *, is_class: bool) -> str:
    gaps = f"; {column.missing:,} rows have none and can't be learned from" if column.missing else ""
    if column.distinct < 2:
        return f"one value only: there is nothing to predict{gaps}"
    if is_class and column.distinct > 50:
        return f"{column.distinct:,} different texts: free text can't be predicted as classes{gaps}"
    if is_class and column.top and column.top_is_all:
        least = column.top[-1]
        rare = f"; the rarest, {least.label}, has {least.rows:,} rows"
        return f"{column.distinct} classes{'' if column.hidden else rare}{gaps}"
    return f"{column.distinct:,} different {'texts' if is_class else 'numbers'}{gaps}"


def _other(one: Association, name: str) -> str:
    return one.right if one.left == name else one.left


def _suspects(con: "duckdb.DuckDBPyConnection", columns: Sequence[Measured], target: ColumnFacts, problem: str) -> tuple[str, ...]:
    """Columns that may hold the answer, by the question that training asks."""
    wanted = next(one for one in columns if one.name == target.name)
    others = [
        Column(f"x{one.number}" if one.is_ordered else f"h{one.number}", one.name, "number", "DOUBLE" if one.is_ordered else "VARCHAR")
        for one in columns
        if one.number != wanted.number and one.kind not in {"nested", "bytes"}
    ][:200]
    of = f"x{wanted.number}" if wanted.is_ordered and problem == "regression" else f"t{wanted.number}"
    positive = target.top[-1].label if target.distinct == 2 and target.top else None
    names = {one.name: one.source for one in others}
    found = leak_suspects(con, SAMPLE, others, target=of, problem=problem, positive=positive)
    return tuple(f"{names[one.column]}: {one.reason}" for one in found)
