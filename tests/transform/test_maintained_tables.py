"""Maintenance of what models read and write: nothing is built again because of it."""

from collections.abc import Callable

from lakehouse.tables import Stamp
from tests.transform.conftest import ScratchProject, rows_of

STAMP = Stamp("maintenance", "test")


def test_compacted_tables_are_neither_new_nor_outdated(scratch_project: Callable[[str], ScratchProject]) -> None:
    scratch = scratch_project("maintained")
    con = scratch.lake.open_connection()
    for number in range(3):
        scratch.lake.append(con, "raw.orders", f"SELECT {number} AS id, 'x' AS text", stamp=Stamp("raw.orders", "test"))
    scratch.write("models/sources.yml", "sources: [{name: raw, tables: [{name: orders}]}]")
    scratch.write("models/staging/whole.sql", "SELECT * FROM {{ source('raw', 'orders') }}")
    scratch.write(
        "models/staging/grown.sql",
        "{{ config(materialized='incremental', incremental_strategy='append') }} SELECT * FROM {{ ref('whole') }}"
        "{% if is_incremental() %} WHERE id > (SELECT max(id) FROM {{ this }}){% endif %}",
    )
    first = scratch.build()
    assert not any(node.is_unchanged for node in first.nodes)
    done = [scratch.lake.compact(table, stamp=STAMP, cluster_by=["id"]).version for table in scratch.lake.tables()]
    assert done == [3, 1, 1]
    again = scratch.build()
    assert all(node.is_unchanged for node in again.nodes)
    assert {node.name: node.version for node in again.nodes} == {"whole": 1, "grown": 1}
    scratch.lake.append(con, "raw.orders", "SELECT 3 AS id, 'x' AS text", stamp=Stamp("raw.orders", "test"))
    scratch.build()
    assert rows_of(scratch.lake, "staging.grown", "id") == [(number,) for number in range(4)]
    assert scratch.lake.history("staging.grown")[0].stamp.inputs == {"staging.whole": 2}
    con.close()
