"""One profile of one relation: a sample, two passes over all rows, and what follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.contracts import DatasetContract, Level
from lakehouse.contracts.inference.personal import personal
from lakehouse.contracts.inference.profile import ColumnProfile as Sampled
from lakehouse.quality.profile.advice import advise
from lakehouse.quality.profile.association import associate
from lakehouse.quality.profile.columns import Measured, columns_of
from lakehouse.quality.profile.facts import ColumnFacts, Count, Duplicates, Freshness, Profile, Texts
from lakehouse.quality.profile.measuring import First, Second, first_pass, row_of, second_pass
from lakehouse.quality.profile.repeats import find_repeats
from lakehouse.quality.profile.sampling import SAMPLE_ROWS, Sample, Seen, drop_sample, take_sample
from lakehouse.quality.profile.scoring import Evidence, judge
from lakehouse.quality.profile.targets import describe_target, suggest_targets

if TYPE_CHECKING:
    import duckdb

_OPEN = frozenset({"", "public"})
_SHOWN_FREQUENT = 10


@dataclass(frozen=True, slots=True)
class Subject:
    """What is profiled, and what is known of it from elsewhere.

    Attributes:
        name: `layer.name`, or the file's name.
        contract: of the dataset whose rows these are.
        hidden: columns whose values must not be seen, with the reason, besides those that the contract says.
        misfits: of a file, texts by column that are not of the column's type.
        rows_read: that ever were, with `rows_accepted` of them here.
        rows_quarantined: of them not here.
        is_judged: the contract's rules have been asked already: `rows_accepted` is the answer.
        target: a column to look at as the one to be predicted.
    """

    name: str
    source: Literal["table", "file"] = "table"
    version: int | None = None
    contract: DatasetContract | None = None
    hidden: Mapping[str, str] = field(default_factory=dict[str, str])
    misfits: Mapping[str, Count] = field(default_factory=dict[str, Count])
    rows_read: int | None = None
    rows_accepted: int | None = None
    rows_quarantined: int = 0
    is_judged: bool = False
    freshness: Freshness = field(default_factory=Freshness)
    target: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


def hidden_columns(contract: DatasetContract | None) -> dict[str, str]:
    """Columns whose values nobody is shown: those that the contract protects or classifies."""
    found: dict[str, str] = {}
    for column in contract.columns if contract is not None else ():
        if column.protected:
            found[column.name] = f"protected: stored as {column.protection}"
        elif (column.classification or "").strip().lower() not in _OPEN:
            found[column.name] = f"classified as {column.classification}"
    return found


def build_profile(
    con: "duckdb.DuckDBPyConnection", relation: str, subject: Subject, *, now: datetime, sample_rows: int = SAMPLE_ROWS
) -> Profile:
    """The profile of a relation of typed columns.

    Every row is read twice, in slices of columns; memory does not grow with the rows. No value of a hidden column is read but to
    be counted.

    Args:
        con: the connection that knows the relation.
        relation: what may stand after FROM: a quoted name or a subquery.
        subject: what it is.
        now: when it is profiled.
        sample_rows: of the sample.

    Raises:
        ContractError: the target is no column.
    """
    contract = subject.contract
    columns = columns_of(con, relation, hidden={**hidden_columns(contract), **subject.hidden})
    rows = int(row_of(con, f"SELECT count(*) FROM {relation}")[0])
    sample = take_sample(con, relation, columns, rows=rows, at_most=sample_rows)
    try:
        columns = _without_personal(columns, sample, contract)
        candidates = {one.number: tuple(sample.seen[one.number].frequent) for one in columns if not one.hidden and one.kind != "boolean"}
        grouped = {one.number for one in columns if sample.seen[one.number].repeats and one.kind != "boolean"}
        first = first_pass(con, relation, columns, rows=rows, candidates=candidates, grouped=grouped, quantiles=sample.quantiles)
        second = second_pass(con, relation, columns, first)
        duplicates = find_repeats(con, relation, columns, first, rows=rows, key=contract.primary_key if contract else ())
        found = [_Found(one, first[one.number], second.get(one.number, Second()), sample.seen[one.number]) for one in columns]
        facts = tuple(_counted(_described(one, subject, rows), duplicates) for one in found)
        comparison = associate(con, columns, sample, always=_named(columns, subject.target))
        target = describe_target(con, columns, facts, comparison, name=subject.target) if subject.target else None
    finally:
        drop_sample(con)
    evidence = _evidence(con, relation, subject, columns)
    judged = [one for one in facts if contract is None or any(one.name == column.name for column in contract.columns)] or facts
    dimensions = judge(judged, duplicates, evidence, subject.freshness, rows=rows, now=now)
    advice = advise(
        facts,
        duplicates,
        comparison.associations,
        dimensions,
        target,
        rows=rows,
        rows_quarantined=subject.rows_quarantined,
        dataset=contract.name if contract else None,
    )
    return Profile(
        subject=subject.name,
        source=subject.source,
        version=subject.version,
        rows=rows,
        columns=facts,
        sample_rows=min(sample.rows, rows),
        duplicates=duplicates,
        associations=comparison.associations,
        compared=comparison.compared,
        targets=suggest_targets(facts, comparison, key=duplicates.key, rows=rows),
        target=target,
        freshness=subject.freshness,
        dimensions=dimensions,
        advice=advice,
        profiled_at=now,
        facts=dict(subject.facts),
    )


def _named(columns: Sequence[Measured], name: str | None) -> str | None:
    return next((one.name for one in columns if name is not None and one.name.lower() == name.lower()), None)


def _without_personal(columns: Sequence[Measured], sample: Sample, contract: DatasetContract | None) -> list[Measured]:
    """The columns, those hidden that surely are personal by what their values are; what a contract calls public stays in sight."""
    public = {one.name for one in contract.columns if (one.classification or "").lower() == "public"} if contract else set[str]()
    result: list[Measured] = []
    for one in columns:
        shape = sample.seen[one.number].shape
        kind = None
        if shape is not None and one.hidden is None and one.name not in public:
            suspicion = personal(Sampled(one.name, one.name, "string", 0, 0, shape.values, shape.distinct, shape))
            kind = suspicion.kind if suspicion is not None and suspicion.sure else None
        result.append(one if kind is None else replace(one, hidden=f"looks like personal data ({kind})"))
    return result


@dataclass(frozen=True, slots=True)
class _Found:
    """What the sample and the passes say of one column."""

    column: Measured
    first: First
    second: Second
    seen: Seen


def _described(found: _Found, subject: Subject, rows: int) -> ColumnFacts:
    """The facts of one column, without the values of a hidden one."""
    one, first, second, seen = found.column, found.first, found.second, found.seen
    described = {column.name: column.description for column in subject.contract.columns} if subject.contract else dict[str, str]()
    numbers = first.numbers
    if numbers is not None:
        numbers = replace(
            numbers,
            zeros=second.zeros,
            negatives=second.negatives,
            outliers_iqr=second.outliers_iqr,
            outliers_z=second.outliers_z,
            low_fence=second.low_fence,
            high_fence=second.high_fence,
            histogram=second.histogram,
        )
    texts = _written(first.texts, seen, is_hidden=one.hidden is not None)
    misfit = subject.misfits.get(one.name)
    invalid = (
        (numbers.not_finite if numbers else 0) + (round(texts.null_words * first.values) if texts else 0) + (misfit.rows if misfit else 0)
    )
    why = f"{misfit.rows:,} texts are no {one.type}" if misfit else None
    if misfit and misfit.label and not one.hidden:
        why = f"{why}: {misfit.label}"
    top, is_all = ((), False) if one.hidden else _top(one, first, seen)
    # Texts that are of no type have become missing: they are values all the same, though bad ones.
    values = first.values + (misfit.rows if misfit else 0)
    return ColumnFacts(
        name=one.name,
        type=one.type,
        kind=one.kind,
        rows=rows,
        values=values,
        distinct=first.distinct,
        distinct_exact=first.is_exact,
        hidden=one.hidden,
        numbers=None if one.hidden else numbers,
        texts=texts,
        top=top,
        top_is_all=is_all,
        invalid=invalid,
        invalid_why=why,
        description=described.get(one.name, ""),
    )


def _counted(facts: ColumnFacts, duplicates: Duplicates) -> ColumnFacts:
    """The key's different values have been counted exactly."""
    key = duplicates.key
    return replace(facts, distinct=key.distinct, distinct_exact=True) if key is not None and key.columns == (facts.name,) else facts


def _written(texts: Texts | None, seen: Seen, *, is_hidden: bool) -> Texts | None:
    if texts is None:
        return None
    if is_hidden:
        return texts
    return replace(
        texts,
        patterns=seen.patterns,
        looks_like=seen.looks_like,
        variants=seen.variants,
        variant_example=seen.variant_example,
        null_words=seen.null_words,
        null_word=seen.null_word,
    )


def _top(one: Measured, first: First, seen: Seen) -> tuple[tuple[Count, ...], bool]:
    """The most frequent values with the rows that all passes counted."""
    if one.kind == "boolean":
        pairs = [Count("true", first.trues), Count("false", first.values - first.trues)]
        return tuple(sorted((pair for pair in pairs if pair.rows), key=lambda pair: -pair.rows)), True
    counted = [Count(label or "", first.counts[key]) for key, label in seen.frequent.items() if first.counts.get(key)]
    ranked = sorted(counted, key=lambda pair: (-pair.rows, pair.label))
    is_all = first.is_exact and len(ranked) == first.distinct
    if not is_all and (not ranked or (ranked[0].rows < 2 and first.values > 1)):
        return (), False
    return tuple(ranked[: len(ranked) if is_all else _SHOWN_FREQUENT]), is_all


def _evidence(con: "duckdb.DuckDBPyConnection", relation: str, subject: Subject, columns: Sequence[Measured]) -> Evidence:
    """The contract's rules, asked of every row where the columns are still what the contract says."""
    contract = subject.contract
    if contract is None or subject.is_judged:
        return Evidence(subject.rows_read, subject.rows_accepted)
    types = {one.name: one.type for one in columns}
    same = {one.name for one in contract.columns if not one.protected and types.get(one.name) == _described_type(con, one.sql_type)}
    asked = [rule for rule in contract.rules if rule.columns and same.issuperset(rule.columns)]
    by_level = {
        level: " OR ".join(f"(({rule.valid_sql}) IS FALSE)" for rule in asked if rule.level is level)
        for level in (Level.SEMANTIC, Level.BUSINESS)
    }
    wanted = [level for level, sql in by_level.items() if sql]
    found = (
        row_of(con, f"SELECT {', '.join(f'count(CASE WHEN {by_level[level]} THEN 1 END)' for level in wanted)} FROM {relation}")
        if wanted
        else ()
    )
    broken = {level: int(count) for level, count in zip(wanted, found, strict=True)}
    return Evidence(
        rows_read=subject.rows_read,
        rows_accepted=subject.rows_accepted,
        broken_values=broken.get(Level.SEMANTIC),
        broken_rows=broken.get(Level.BUSINESS),
        rules_asked=len(asked),
    )


def _described_type(con: "duckdb.DuckDBPyConnection", sql_type: str) -> str:
    """The type as DESCRIBE calls it."""
    return str(con.execute(f"DESCRIBE SELECT CAST(NULL AS {sql_type}) AS x").fetchall()[0][1])
