"""Old backups go, and the objects that only they needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lakehouse.errors import RecoveryError
from lakehouse.recovery.leases import Work, lease
from lakehouse.recovery.manifest import instant_of
from lakehouse.recovery.store import BackupStore
from lakehouse.settings import Settings

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What was removed, or would be."""

    uri: str
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    objects_removed: int
    bytes_removed: int
    is_dry_run: bool


def to_keep(ids: Sequence[str], *, keep_last: int | None, keep_days: int | None, now: datetime) -> list[str]:
    """The backups that stay: the newest `keep_last`, and all of the last `keep_days` days; the newest one always."""
    ordered = sorted(ids)
    last = set(ordered[-keep_last:] if keep_last else ordered[-1:])
    oldest = None if keep_days is None else now - timedelta(days=keep_days)
    return [one for one in ordered if one in last or (oldest is not None and (instant_of(one) or now) >= oldest)]


def prune(
    settings: Settings, uri: str, *, keep_last: int | None = None, keep_days: int | None = None, now: datetime, dry_run: bool = False
) -> PruneReport:
    """Remove the backups that neither rule keeps, then every object that no backup needs.

    It never works beside a backup that is being made: what that one has just found there would be gone before it counts.

    Args:
        settings: how the place is reached.
        uri: the place.
        keep_last: keep this many of the newest.
        keep_days: keep all that are not older.
        now: what the days are counted from.
        dry_run: remove nothing.

    Raises:
        BackupBusy: a backup is being made there.
        BackupDamaged: a manifest that stays can't be read: nobody knows which objects it needs.
        RecoveryError: neither rule was given, or one would keep nothing.
    """
    if keep_last is None and keep_days is None:
        raise RecoveryError("prune", "was not told what to keep", fix="Give --keep-last, --keep-days or both")
    if (keep_last or 1) < 1 or (keep_days or 0) < 0:
        raise RecoveryError("prune", "can't keep less than the newest backup", found=f"--keep-last {keep_last} --keep-days {keep_days}")
    store = BackupStore.open(uri, settings)
    if dry_run:
        return _prune(store, keep_last=keep_last, keep_days=keep_days, now=now, dry_run=True)
    with lease(store.storage, Work.REMOVING, patience_s=_PATIENCE_S) as held:
        report = _prune(store, keep_last=keep_last, keep_days=keep_days, now=now, dry_run=False)
        held.check()
        return report


def _prune(store: BackupStore, *, keep_last: int | None, keep_days: int | None, now: datetime, dry_run: bool) -> PruneReport:
    ids = store.ids()
    kept = to_keep(ids, keep_last=keep_last, keep_days=keep_days, now=now)
    removed = [one for one in ids if one not in set(kept)]
    needed = {entry.sha256 for one in kept for entry in store.load(one).files.values()}
    if not dry_run:
        for one in removed:
            store.forget(one)
    swept = store.sweep(needed, dry_run=dry_run)
    return PruneReport(store.uri, tuple(kept), tuple(removed), len(swept), sum(one.size_bytes for one in swept), is_dry_run=dry_run)
