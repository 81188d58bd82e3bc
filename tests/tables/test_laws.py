"""Laws that hold for any sequence of writes, judged by a dictionary that does the same."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lakehouse.tables import Commit, Lake, Stamp, Transaction
from tests.examples import examples
from tests.tables.reading import rows

T = "raw.model"
STAMP = Stamp("laws", "run")
Row = tuple[int | None, str | None]

keys = st.one_of(st.none(), st.integers(0, 9))
names = st.one_of(st.none(), st.sampled_from(["", "a", "ü", "long " * 20]))
some_rows = st.lists(st.tuples(keys, names), max_size=6)
unique_rows = st.lists(st.tuples(keys, names), max_size=6, unique_by=lambda row: row[0])


class TableAndModel(RuleBasedStateMachine):
    """Every operation is done to a Delta table and to a list of rows; after each they must be the same."""

    @initialize(is_partitioned=st.booleans())
    def start(self, is_partitioned: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.lake = Lake(Path(self.folder.name), memory_limit="200MB", threads=1)
        self.con = self.lake.open_connection()
        self.partition = ["part"] if is_partitioned else []
        self.model: list[Row] = []
        self.versions: list[list[Row]] = []
        self.batch = 0
        self.note(self.lake.overwrite(self.con, T, self.select([]), stamp=STAMP, partition_by=self.partition))

    def select(self, some: list[Row]) -> str:
        self.con.execute("CREATE OR REPLACE TEMP TABLE given (k INTEGER, n VARCHAR)")
        if some:
            self.con.executemany("INSERT INTO given VALUES (?, ?)", some)
        return "SELECT k, n, k % 3 AS part FROM given"

    def note(self, commit: Commit) -> None:
        if not commit.skipped:
            assert commit.version == len(self.versions)
            self.versions.append(list(self.model))

    @rule(some=some_rows)
    def append(self, some: list[Row]) -> None:
        self.model += some
        self.note(self.lake.append(self.con, T, self.select(some), stamp=STAMP))

    @rule(some=some_rows, repeats=st.integers(1, 3))
    def append_in_a_transaction(self, some: list[Row], repeats: int) -> None:
        self.batch += 1
        self.model += some
        for attempt in range(repeats):
            commit = self.lake.append(self.con, T, self.select(some), stamp=STAMP, transaction=Transaction("batches", self.batch))
            assert commit.skipped == (attempt > 0)
            self.note(commit)

    @rule(some=some_rows)
    def overwrite(self, some: list[Row]) -> None:
        self.model = list(some)
        self.note(self.lake.overwrite(self.con, T, self.select(some), stamp=STAMP, partition_by=self.partition))

    @rule(some=unique_rows)
    def merge(self, some: list[Row]) -> None:
        self._upsert(some, self.lake.merge)

    @rule(some=some_rows)
    def delete_insert(self, some: list[Row]) -> None:
        self._upsert(some, self.lake.delete_insert)

    def _upsert(self, some: list[Row], write: Callable[..., Commit]) -> None:
        replaced = {key for key, _ in some}
        self.model = [row for row in self.model if row[0] not in replaced] + some
        commit = write(self.con, T, self.select(some), key=["k"], stamp=STAMP)
        assert commit.skipped or commit.rows == len(some)
        self.note(commit)

    @rule(limit=st.integers(0, 10))
    def delete(self, limit: int) -> None:
        kept = [row for row in self.model if row[0] is None or row[0] >= limit]
        gone, self.model = len(self.model) - len(kept), kept
        commit = self.lake.delete(self.con, T, f"k < {limit}", stamp=STAMP)
        assert commit.rows == gone
        self.note(commit)

    @rule(some=some_rows, limit=st.integers(1, 9))
    def replace_where(self, some: list[Row], limit: int) -> None:
        given = [row for row in some if row[0] is not None and row[0] < limit]
        self.model = [row for row in self.model if row[0] is None or row[0] >= limit] + given
        self.note(self.lake.replace_where(self.con, T, self.select(given), where=f"k < {limit}", stamp=STAMP))

    @precondition(lambda self: self.partition)
    @rule(some=some_rows)
    def replace_partitions(self, some: list[Row]) -> None:
        replaced = {None if key is None else key % 3 for key, _ in some}
        self.model = [row for row in self.model if (None if row[0] is None else row[0] % 3) not in replaced] + some
        self.note(self.lake.replace_partitions(self.con, T, self.select(some), stamp=STAMP))

    @invariant()
    def table_and_model_are_the_same(self) -> None:
        assert sorted(rows(self.lake, T, columns="k, n"), key=repr) == sorted(self.model, key=repr)
        assert self.lake.detail(T).rows == len(self.model)

    def teardown(self) -> None:
        history = self.lake.history(T)
        assert [info.version for info in history] == list(range(len(self.versions)))[::-1]
        for version, expected in enumerate(self.versions):
            assert sorted(rows(self.lake, T, columns="k, n", version=version), key=repr) == sorted(expected, key=repr)
        self.con.close()
        self.folder.cleanup()


TableAndModel.TestCase.settings = settings(examples(8, many=50), stateful_step_count=12, deadline=None)
TestTableAndModel = TableAndModel.TestCase


def test_the_connection_is_left_as_it_was(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.merge(con, T, "SELECT 1 AS k, 'a' AS n", key=["k"], stamp=STAMP)
    lake.merge(con, T, "SELECT 1 AS k, 'b' AS n", key=["k"], stamp=STAMP)
    assert con.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]
