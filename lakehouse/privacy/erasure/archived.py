"""The tiers that rows were archived to, as erasure needs them: one more root of tables each, below the tables themselves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from lakehouse.privacy.erasure.rows import Manner
from lakehouse.privacy.erasure.tables import ErasedTable, Work, erase_table
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.names import TableName
from lakehouse.tables.tiers import needed_below, settle


def settle_archived(tiers: Sequence[Lake], names: Iterable[TableName], *, stamp: Stamp) -> None:
    """Take out of the tiers what does not count there, such as the copies of a move that was killed.

    Raises:
        TableError: rows have moved to a tier that is not there.
        ConcurrentWrite: other writers never paused.
    """
    for name in names:
        for upper, lower in pairwise(tiers):
            if lower.exists(name):
                settle(upper, lower, name, stamp=stamp)


def addresses_now(tiers: Sequence[Lake], name: TableName) -> list[str]:
    """The data files of a table as it is now, with those of the rows that were archived."""
    below = [lake.snapshot(name, version) for lake, version in needed_below(tiers, str(name))]
    return [address for snapshot in (tiers[0].snapshot(name), *below) for address in snapshot.addresses()]


def erase_archived(tiers: Mapping[str, Lake], plan: Mapping[TableName, Manner], work: Work, *, stamp: Stamp) -> list[ErasedTable]:
    """Take the subject out of every version of every table of the tiers, as out of the tables above.

    Args:
        tiers: by name, the tables' own first.
        plan: how each table's rows are taken to be the subject's; tables that it does not name are left alone.
        work: its tree is replaced by each tier's.
        stamp: where the commits come from.

    Raises:
        PrivacyError: a table has what can't be rewritten.
        ConcurrentWrite: other writers never paused.
    """
    done: list[ErasedTable] = []
    for tier, lake in list(tiers.items())[1:]:
        lake.configure(work.con)
        for name in lake.tables():
            if name in plan:
                erased = erase_table(lake, name, replace(work, tree=lake.storage), plan[name], stamp=stamp)
                done.append(replace(erased, table=f"{tier}/{name}"))
    return done
