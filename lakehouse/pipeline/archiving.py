"""Archiving: raw rows that have got old go to cheaper places, as the contract says, and come back when they are asked for.

`<root>` is hot, `<archive>/warm` and `<archive>/cold` hold tables of the same names, with the same columns and provenance. What reads
a raw table (dbt models, training) sees the hot rows; a query sees all of them if it asks to.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lakehouse.contracts import DatasetContract
from lakehouse.errors import LakehouseError
from lakehouse.openlineage import job
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.tiers import COLD, WARM, Move, archive_tiers, bring_up, counted_version, move_down, point_down, settle


@dataclass(frozen=True, slots=True)
class Archived:
    """What went from one tier to another, or would go."""

    table: str
    origin: str
    target: str
    rows: int
    bytes: int


def older_than(by: str, days: int, now: datetime) -> str:
    """Condition for rows that are older than so many whole days; one without a time is never old."""
    midnight = (now - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)
    return f"CAST({quote_identifier(by)} AS TIMESTAMPTZ) < {quote_literal(midnight)}"


def between(contract: DatasetContract, *, since: datetime | None, until: datetime | None) -> str:
    """Condition for the rows of a time, by the column that the contract archives by; without an offset it is UTC."""
    rule = contract.archiving
    column = rule.by if rule is not None else contract.event_timestamp or "_ingested_at"
    at = f"CAST({quote_identifier(column)} AS TIMESTAMPTZ)"
    bounds = [f"{at} {sign} {quote_literal(_utc(one))}" for sign, one in ((">=", since), ("<", until)) if one is not None]
    return " AND ".join(bounds) or "true"


def _utc(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


def archive_dataset(
    settings: Settings, lake: Lake, contract: DatasetContract, *, run: str, now: datetime, dry_run: bool = False
) -> list[Archived]:
    """Move what has got old down the tiers, the oldest first; does nothing for a contract that does not ask for it.

    Raises:
        ConcurrentWrite: other writers never paused; every row is where it was.
        TableError: the archive is not there.
    """
    rule, table = contract.archiving, contract.raw
    if rule is None or not lake.exists(table):
        return []
    hot, warm, cold = archive_tiers(settings, lake).values()
    stamp = Stamp(asset="maintenance", run=run)
    done: list[Archived] = []
    if rule.cold_after_days is not None and counted_version(hot, table) is not None:
        if not dry_run:
            settle(hot, warm, table, stamp=stamp)
        where = older_than(rule.by, rule.cold_after_days, now)
        moved = move_down(warm, cold, table, where, stamp=stamp, tier=COLD, dry_run=dry_run)
        if moved.rows and not dry_run:
            point_down(hot, warm, table, stamp=stamp, tier=WARM)
        done.append(_archived(moved, WARM, COLD))
    where = older_than(rule.by, rule.warm_after_days, now)
    done.append(_archived(move_down(hot, warm, table, where, stamp=stamp, tier=WARM, dry_run=dry_run), "hot", WARM))
    return [one for one in done if one.rows]


def bring_back(settings: Settings, lake: Lake, table: str, *, where: str, run: str) -> list[Archived]:
    """Bring rows that satisfy a condition back from all tiers into the table.

    Raises:
        LakehouseError: nothing of the table was archived.
        ConcurrentWrite: other writers never paused; every row is where it was.
    """
    if counted_version(lake, table) is None:
        raise LakehouseError(table, "has no archived rows", fix="lakehouse query --with-archive reads whatever there is")
    with job(settings, lake, "unarchive", table, run=run):
        moved = bring_up(archive_tiers(settings, lake), table, where, stamp=Stamp(asset="maintenance", run=run))
    return [_archived(one, COLD if target == WARM else WARM, target) for target, one in moved.items() if one.rows]


def _archived(moved: Move, origin: str, target: str) -> Archived:
    return Archived(str(moved.table), origin, target, moved.rows, moved.bytes)
