"""A file that takes the place of others: a repaired delivery instead of the damaged one.

Nothing of a replaced file counts any more: its rows leave raw in the very commit that brings the new file's, and what waits of it in
quarantine is discarded. Its bytes stay in the archive, and its content stays known: delivered once more, it is not ingested again.
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
from lakehouse.tables import Lake
from lakehouse.tables.sources import inner

_CHOSEN = "__replaced_rows"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch takes out: digests of the files, what its commits say of them, and SQL to add to the rows that it quarantines."""

    digests: tuple[str, ...] = ()
    source: dict[str, object] = field(default_factory=dict[str, object])
    rows_sql: str = ""


def take_out(
    lake: Lake,
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
        lake: holds both.
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
    listed = ", ".join(quote_literal(digest) for digest in sorted(by))
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
        return Taken(tuple(sorted(by)), source)
    note = "another file took the place of its file: " + ", ".join(sorted(digest[:12] for digest in replaced))
    changes = discard_chosen(con, _CHOSEN, number=number, author=Author("ingestion", run, now, note))
    if not changes:
        return Taken(tuple(sorted(by)), source)
    return Taken(tuple(sorted(by)), source | {"changes": changes}, f" UNION ALL BY NAME SELECT * FROM {EVENTS_TABLE}")
