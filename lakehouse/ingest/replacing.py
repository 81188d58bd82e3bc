"""A file that takes the place of others: a repaired delivery instead of the damaged one.

Nothing of a replaced file counts any more: its rows leave raw in the very commit that brings the new file's (archived ones come back
for it), and what waits of it in quarantine is discarded. Its bytes stay in the archive, and its content stays known: delivered once
more, it is not ingested again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.events import EVENTS_TABLE, Author, discard_chosen
from lakehouse.ingest.known import KnownFile
from lakehouse.ingest.waiting import current_rows_sql
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.sources import inner
from lakehouse.tables.tiers import bring_up, counted_version

_CHOSEN = "__replaced_rows"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch takes out: digests of the files, what its commits say of them, and SQL to add to the rows that it quarantines.

    Attributes:
        archived_at: the version of the archive that counted when none of these rows was there.
    """

    digests: tuple[str, ...] = ()
    archived_at: int | None = None
    source: dict[str, object] = field(default_factory=dict[str, object])
    rows_sql: str = ""


def take_out(
    tiers: Mapping[str, Lake],
    con: duckdb.DuckDBPyConnection,
    contract: DatasetContract,
    replaced: Mapping[str, Sequence[KnownFile]],
    *,
    number: int,
    after: int | None,
    run: str,
    now: datetime,
) -> Taken:
    """Find what raw and quarantine hold of the replaced files, as of the batch `after`.

    Args:
        tiers: the tables, and the archive, from which the rows come back to go with the others.
        con: gets EVENTS_TABLE with the discarded rows.
        contract: of the dataset.
        replaced: files by the digest of the one that takes their place.
        number: of the batch.
        after: the batch that it follows.
        run: recorded with the rows.
        now: recorded with the rows.
    """
    by = {file.sha256: digest for digest, files in replaced.items() for file in files}
    if not by or after is None:
        return Taken()
    lake = next(iter(tiers.values()))
    listed = ", ".join(quote_literal(digest) for digest in sorted(by))
    bring_up(tiers, contract.raw, f"_sha256 IN ({listed})", stamp=Stamp(asset=contract.raw, run=run, code=contract.digest))
    digests, archived_at = tuple(sorted(by)), counted_version(lake, contract.raw)
    names = {file.sha256: file.file for files in replaced.values() for file in files}
    counts = dict(
        con.execute(
            f"SELECT _sha256, count(*) FROM {inner(lake.scan_sql(contract.raw, con=con))} WHERE _sha256 IN ({listed}) GROUP BY 1"
        ).fetchall()
    )
    returned: dict[str, int] = {}
    if lake.exists(contract.quarantine):
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {_CHOSEN} AS SELECT * FROM ({current_rows_sql(lake, contract.name, con=con, up_to=after)}) "
            f"WHERE _sha256 IN ({listed}) AND status <> 'discarded'"
        )
        returned = dict(con.execute(f"SELECT _sha256, count(*) FROM {_CHOSEN} WHERE status = 'replayed' GROUP BY 1").fetchall())
    # Rows that were replayed are in quarantine again, as discarded ones; the others are in the archived file only.
    source: dict[str, object] = {
        "replaced": [
            {
                "file": names[digest],
                "sha256": digest,
                "by": by[digest],
                "rows_accepted": counts.get(digest, 0),
                "rows_returned": returned.get(digest, 0),
            }
            for digest in sorted(by)
        ]
    }
    if not lake.exists(contract.quarantine):
        return Taken(digests, archived_at, source)
    note = "another file took the place of its file: " + ", ".join(sorted(digest[:12] for digest in replaced))
    changes = discard_chosen(con, _CHOSEN, number=number, author=Author("ingestion", run, now, note))
    if not changes:
        return Taken(digests, archived_at, source)
    return Taken(digests, archived_at, source | {"changes": changes}, f" UNION ALL BY NAME SELECT * FROM {EVENTS_TABLE}")
