"""Maintenance of tables on a real S3 server."""

from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.errors import VersionGone
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.tiers import move_down, move_up, spanning_sql
from tests.servers.fixtures import S3Server
from tests.tables.reading import rows

pytestmark = pytest.mark.servers

T = "raw.orders"
STAMP = Stamp("maintenance", "test")


def test_compact_vacuum_checkpoint_and_orphans(s3_lake: Lake) -> None:
    con = s3_lake.open_connection()
    for number in range(4):
        s3_lake.append(con, T, f"SELECT {number} AS id, 'a b%/ä' AS part", stamp=STAMP, partition_by=["part"])
    s3_lake.delete(con, T, "id = 3", stamp=STAMP)
    done = s3_lake.compact(T, stamp=STAMP)
    assert (done.files_before, done.files_after, done.version) == (3, 1, 5)
    now = datetime.now(UTC) + timedelta(hours=2)
    said = s3_lake.vacuum(T, keep=[1], retention=timedelta(hours=1), now=now, dry_run=True)
    assert (said.files, said.newly_gone) == (2, ((2, 4),))
    s3_lake.vacuum(T, keep=[1], retention=timedelta(hours=1), now=now)
    assert rows(s3_lake, T, columns="id") == [(0,), (1,), (2,)]
    assert rows(s3_lake, T, columns="id", version=1) == [(0,), (1,)]
    assert rows(s3_lake, T, columns="id", version=4) == [(0,), (1,), (2,)]
    with pytest.raises(VersionGone):
        rows(s3_lake, T, version=3)
    assert s3_lake.checkpoint(T, now=now).is_due
    s3_lake.storage.write("raw/orders/part=x/part-left.parquet", b"x" * 10)
    assert s3_lake.remove_orphans(T, now=now).files == 0
    assert s3_lake.remove_orphans(T, now=now + timedelta(days=1)).bytes == 10
    assert rows(Lake(s3_lake.uri, storage_options=s3_lake.storage.options), T, columns="id") == [(0,), (1,), (2,)]
    con.close()


def test_rows_move_to_another_prefix_and_back(s3_lake: Lake, s3_server: S3Server) -> None:
    warm = Lake(s3_server.new_root(), storage_options=s3_server.options, memory_limit="300MB", threads=2)
    con = s3_lake.open_connection()
    s3_lake.append(con, T, "SELECT i AS id FROM range(10) t(i)", stamp=STAMP)
    assert move_down(s3_lake, warm, T, "id < 4", stamp=STAMP, tier="warm").rows == 4

    def everywhere() -> list[int]:
        return [row[0] for row in con.execute(f"SELECT id FROM ({spanning_sql([s3_lake, warm], T, con=con)}) ORDER BY id").fetchall()]

    assert (rows(warm, T), everywhere()) == ([(0,), (1,), (2,), (3,)], list(range(10)))
    assert move_up(s3_lake, warm, T, "id < 2", stamp=STAMP, tier="warm").rows == 2
    assert (rows(warm, T), everywhere()) == ([(2,), (3,)], list(range(10)))
    con.close()
