"""Which quarantined rows count."""

from lakehouse.pipeline.rejected import count_by_rule, quarantined_rows
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp, Transaction


def test_rows_of_a_batch_that_never_reached_raw_do_not_count(settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    with lake.connect(()) as session:
        for batch in (1, 2, 3, 4):
            row = (
                f"SELECT {batch}::BIGINT AS _batch, 'a.csv' AS _file, 'ab' AS _sha256, {batch}::BIGINT AS _row, now() AS _ingested_at, '{{}}' AS record,"
                " 'semantic' AS level, ['age.minimum'] AS rules, ['is too small'] AS reasons, 'waiting' AS status"
            )
            lake.append(session.con, "quarantine.people", row, stamp=Stamp("quarantine.people", "r"))
        # Batch 2 died between its commits, and so did the process that should have removed what it left; batch 4 is under way.
        for batch in (1, 3):
            files = [{"rows_read": 1, "rows_accepted": 0, "rows_quarantined": 1}]
            stamp = Stamp("raw.people", "r", source={"batch": batch, "files": files})
            transaction = Transaction("ingest.people", batch)
            lake.append(session.con, "raw.people", "SELECT 1 AS age WHERE false", stamp=stamp, transaction=transaction)
    assert [row.batch for row in quarantined_rows(lake, "people", limit=10)] == [3, 1]
    assert count_by_rule(lake)["people"].rows == 2
