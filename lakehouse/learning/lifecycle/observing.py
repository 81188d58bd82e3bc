"""What is known of a version: its minimums, how its answers went, and how it holds on labels that came later. Read from tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lakehouse.contracts import ModelContract
from lakehouse.contracts.metrics import LOWER_IS_BETTER
from lakehouse.learning.comparison import ModelComparison, verdict
from lakehouse.learning.evaluation import check_minimums
from lakehouse.learning.judging import judged_metric
from lakehouse.learning.lifecycle.rollout import COMPARED, MINIMUMS, TARGET, Facts, Observed
from lakehouse.learning.lifecycle.semantic import target_digest
from lakehouse.learning.lifecycle.states import Guard, Ledger, Standing
from lakehouse.learning.records import evaluated, last_comparison
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp, Transaction

SERVICE = "monitoring.model_service"
PERFORMANCE = "monitoring.model_performance"


@dataclass(frozen=True, slots=True)
class Answers:
    """How a version's answers went for a while.

    Attributes:
        requests: answers it was asked for: rows of a batch, or requests.
        errors: those it could not give.
        latency_ms: of one answer; of a batch the time it took to score it, by its rows. None where nobody measured it.
        source: who asked: `batch`, or the name of a server.
    """

    model: str
    version: str
    requests: int
    errors: int
    began_at: datetime
    ended_at: datetime
    latency_ms: float | None = None
    source: str = "batch"


def record_answers(lake: Lake, answers: Iterable[Answers], *, run: str, once: Transaction | None = None) -> None:
    """Add how answers went to `monitoring.model_service`, by which rollouts are judged.

    Args:
        lake: the tables.
        answers: how they went.
        run: who asked.
        once: these answers, so that they are counted once however often it is tried.
    """
    rows = [
        f"SELECT {quote_literal(one.model)} AS model, {quote_literal(one.version)} AS version, {one.requests}::BIGINT AS requests, "
        f"{one.errors}::BIGINT AS errors, {quote_literal(one.latency_ms)}::DOUBLE AS latency_ms, {quote_literal(one.source)} AS source, "
        f"{quote_literal(one.began_at)} AS began_at, {quote_literal(one.ended_at)} AS ended_at, {quote_literal(run)} AS run"
        for one in answers
    ]
    if not rows:
        return
    with lake.connect(()) as session:
        stamp = Stamp(asset=SERVICE, run=run, code="service-1")
        lake.append(session.con, SERVICE, " UNION ALL ".join(rows), stamp=stamp, transaction=once)


def minimums_of(contract: ModelContract, metrics: Mapping[str, float]) -> tuple[Guard, ...]:
    """Whether metrics on test rows reach what the contract asks."""
    return tuple(Guard(MINIMUMS, demand.passed, str(demand)) for demand in check_minimums(contract.minimums, metrics))


def comparison_guard(
    lake: Lake, contract: ModelContract, ledger: Ledger, recorded: ModelComparison | None, *, version: str
) -> Guard | None:
    """Whether a version beats the one in production, as they were compared last; None where none is in production.

    Args:
        lake: the tables.
        contract: what it asks today counts, whatever it asked when they were compared.
        ledger: which version is in production.
        recorded: the comparison of its training.
        version: of the challenger.
    """
    production = ledger.production
    if production is None:
        return None
    if recorded is None or recorded.champion != production:
        recorded = _compared_since(lake, ledger, champion=production, challenger=version)
    if recorded is None:
        how = f"lakehouse model compare {contract.name}@{production} {contract.name}@{version}"
        said, passed = f"it was not compared with version {production} in production: {how}", False
    else:
        found = verdict(recorded, contract.comparison)
        said, passed = found.sentence, found.passed
    if not contract.comparison.required:
        return Guard(COMPARED, passed=True, detail=f"the contract does not ask for it: {said}")
    return Guard(COMPARED, passed, said)


def _compared_since(lake: Lake, ledger: Ledger, *, champion: str, challenger: str) -> ModelComparison | None:
    """The newest comparison of two versions since both are there: one from before is of others, which had the same numbers."""
    standing = ledger.standings.get(challenger)
    if standing is None:
        return None
    since = [one.drafted_at for one in (standing, ledger.standing(champion)) if one.drafted_at is not None]
    return last_comparison(lake, ledger.model, champion=champion, challenger=challenger, since=max(since, default=None))


def facts_of(lake: Lake, contract: ModelContract, ledger: Ledger, version: str) -> Facts:
    """What is known of a version, beside the version that it is judged by: the champion, or for the champion the one before it."""
    known = evaluated(lake, contract.name, version)
    minimums = minimums_of(contract, known.report.metrics if known is not None else {})
    production = ledger.production
    is_champion = version == production
    recorded = known.report.comparison if known is not None else None
    compared = None if is_champion else comparison_guard(lake, contract, ledger, recorded, version=version)
    reference = (ledger.line[-2] if len(ledger.line) > 1 else None) if is_champion else production
    standing = ledger.standing(version)
    since = standing.share_since or standing.since
    # What went well for months must not hide that nothing goes now.
    seen = _answers(lake, contract, version, since, newest=contract.rollout.min_rows if is_champion else None)
    target = None if is_champion else _other_target(contract, standing)
    if reference is None:
        return Facts(minimums, compared, observed=seen, target=target)
    compared_on_labels = _measured(lake, contract, version, reference, since=since)
    seen_beside = _answers(lake, contract, reference, since)
    if compared_on_labels is None:
        return Facts(minimums, compared, observed=seen, reference=seen_beside, target=target)
    own, other, error = compared_on_labels
    return Facts(minimums, compared, replace(seen, **own), replace(seen_beside, **other), error, target)


def _other_target(contract: ModelContract, standing: Standing) -> Guard | None:
    """A guard that does not hold, where the contract has another target than when the version was made."""
    if standing.target in {None, target_digest(contract.problem, contract.target)}:
        return None
    return Guard(TARGET, passed=False, detail=f"the contract asks for {contract.target} now: lakehouse train {contract.name}")


def _answers(lake: Lake, contract: ModelContract, version: str, since: datetime, *, newest: int | None = None) -> Observed:
    """How its answers went since then; `newest`: of the batches since then only the newest that make up so many, or all if they do not."""
    so_far = "sum(requests) OVER (ORDER BY began_at DESC)"
    wanted = "true" if newest is None else f"so_far - of_then < {newest}"
    row = _row(
        lake,
        SERVICE,
        f"WITH asked AS (SELECT *, {so_far} AS so_far, sum(requests) OVER (PARTITION BY began_at) AS of_then FROM {SERVICE} "
        f"WHERE model = {quote_literal(contract.name)} AND version = {quote_literal(version)} AND began_at >= {quote_literal(since)}) "
        "SELECT sum(requests)::BIGINT, sum(errors)::BIGINT, "
        "sum(latency_ms * requests) FILTER (latency_ms IS NOT NULL) / sum(requests) FILTER (latency_ms IS NOT NULL) "
        f"FROM asked WHERE {wanted}",
    )
    requests, errors, latency_ms = row or (None, None, None)
    return Observed(int(requests or 0), int(errors or 0), latency_ms)


def _measured(
    lake: Lake, contract: ModelContract, version: str, reference: str, *, since: datetime
) -> tuple[dict[str, Any], dict[str, Any], float | None] | None:
    """How both held on new labels, as they were last measured beside each other: measured apart, it would be days that are compared."""
    # A table from before versions were compared has no such rows.
    if not lake.exists(PERFORMANCE) or "beside" not in lake.schema(PERFORMANCE):
        return None
    wanted = {"model": contract.name, "model_version": version, "beside": reference, "metric": judged_metric(contract)}
    which = " AND ".join(f"{name} = {quote_literal(value)}" for name, value in wanted.items())
    row = _row(
        lake,
        PERFORMANCE,
        f"SELECT value, rows, other_value, other_rows, standard_error FROM {PERFORMANCE} WHERE {which} AND measured_at >= {quote_literal(since)} "
        "ORDER BY measured_at DESC LIMIT 1",
    )
    if row is None:
        return None
    lower = {"lower_is_better": judged_metric(contract) in LOWER_IS_BETTER}
    return {"metric": row[0], "labels": int(row[1]), **lower}, {"metric": row[2], "labels": int(row[3]), **lower}, row[4]


def _row(lake: Lake, table: str, sql: str) -> tuple[Any, ...] | None:
    if not lake.exists(table):
        return None
    with lake.connect([table]) as session:
        return session.con.execute(sql).fetchone()
