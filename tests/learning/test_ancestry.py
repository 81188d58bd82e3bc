"""Where a table's columns come from, read off its SQL."""

import pytest

from lakehouse.learning.ancestry import columns_behind

RAW = {"id": "BIGINT", "a": "DOUBLE", "b": "DOUBLE", "c": "VARCHAR", "At": "TIMESTAMP"}
STAGING = 'with arrived as (select * from "memory"."raw"."things") select * from arrived qualify row_number() over (partition by id order by c) = 1'


@pytest.mark.parametrize(
    ("sql", "behind"),
    [
        ('select a + b as x, upper(c) as y from "memory"."staging"."things"', {"x": {"a", "b"}, "y": {"c"}}),
        ('select * exclude (c), c as x from "memory"."staging"."things"', {"x": {"c"}, "a": {"a"}}),
        ("select lag(a) over w as x, b as y from memory.staging.things window w as (order by id)", {"x": set(), "y": {"b"}}),
        ('select a - lag(b) over (order by id) as x, "at" as y from memory.staging.things', {"x": {"a"}, "y": {"At"}}),
        (
            "with t as (select id, sum(a) as s from memory.staging.things group by id) select s as x, t.id as y from t"
            " left join memory.raw.others on others.id = t.id",
            {"x": {"a"}, "y": {"id"}},
        ),
        ("select a as x from memory.staging.things union all select b from memory.staging.things", {"x": {"a", "b"}}),
        ("select 1 as x, now() as y from memory.staging.things", {"x": set(), "y": set(), "gone": set()}),
        # What can't be read is taken by its name.
        ("selekt a as x fromm things !!", {"a": {"a"}, "x": set()}),
    ],
)
def test_columns_are_led_back_to_the_row_s_own_raw_columns(sql, behind):
    steps = [("staging.things", STAGING), ("features.things", sql)]
    found = columns_behind(behind, table="features.things", steps=steps, raw="raw.things", raw_types=RAW)
    assert {column: set(origin) for column, origin in found.items()} == behind
