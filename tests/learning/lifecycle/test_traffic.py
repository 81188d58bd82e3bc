"""Who answers for whom: the same in Python and in SQL, the same each time, and no more than the share."""

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.learning.lifecycle import Traffic, assigned, assigned_sql
from tests.examples import examples

keys = st.tuples(
    st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.none() | st.integers(-(2**60), 2**60)
)


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as opened:
        opened.execute('CREATE TABLE asked (number INTEGER, "the name" VARCHAR, id BIGINT)')
        yield opened


@given(st.lists(keys, min_size=1, max_size=20), st.floats(0, 100))
@examples(30, many=500)
def test_python_and_sql_agree(con, asked, share) -> None:
    traffic = Traffic("churn", "3", "4", share)
    con.execute("DELETE FROM asked")
    con.executemany("INSERT INTO asked VALUES (?, ?, ?)", [(number, *key) for number, key in enumerate(asked)])
    said = con.execute(f"SELECT {assigned_sql(traffic, ['the name', 'id'])} FROM asked ORDER BY number").fetchall()
    assert [row[0] for row in said] == [assigned(traffic, key) for key in asked]


@given(st.integers(), st.floats(0, 100), st.floats(0, 100))
@examples(50, many=2000)
def test_who_has_the_new_version_keeps_it_while_its_share_grows(entity, one, other) -> None:
    low, high = (Traffic("churn", "3", "4", share) for share in sorted([one, other]))
    assert assigned(low, [entity]) == "3" or assigned(high, [entity]) == "4"


@pytest.mark.parametrize("share", [0, 5, 50, 100])
def test_the_share_is_kept(con, share) -> None:
    traffic = Traffic("churn", "3", "4", share)
    sql = assigned_sql(traffic, ["range"])
    found = con.execute(f"SELECT 100 * avg(({sql} = '4')::INTEGER) FROM range(100000)").fetchone()[0]
    assert found == pytest.approx(share, abs=0.4)


def test_another_rollout_begins_with_other_entities() -> None:
    first = {entity for entity in range(5000) if assigned(Traffic("churn", "3", "4", 5), [entity]) == "4"}
    second = {entity for entity in range(5000) if assigned(Traffic("churn", "3", "5", 5), [entity]) == "5"}
    assert len(first & second) < 0.2 * len(first)
