"""Whatever is written and maintained in whatever order: every version that is kept has the rows that it had when it was made."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lakehouse.errors import VersionGone
from lakehouse.tables import Commit, Lake, Stamp
from tests.tables.reading import rows

T = "raw.model"
STAMP = Stamp("laws", "run")
Row = tuple[int, int]

some_rows = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=5, unique_by=lambda row: row[0])


class MaintainedTable(RuleBasedStateMachine):
    """Writes and maintenance in any order, beside a list of what each version must hold."""

    @initialize(is_partitioned=st.booleans())
    def start(self, is_partitioned: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.lake = Lake(Path(self.folder.name), memory_limit="200MB", threads=1)
        self.con = self.lake.open_connection()
        self.model: list[Row] = []
        self.versions: list[list[Row]] = []
        self.may_be_gone: set[int] = set()
        partition = ["part"] if is_partitioned else []
        self.note(self.lake.overwrite(self.con, T, self.select([(1, 1)]), stamp=STAMP, partition_by=partition), [(1, 1)])

    @staticmethod
    def select(some: list[Row]) -> str:
        return f"SELECT k::INTEGER AS k, n::INTEGER AS n, (k % 2)::INTEGER AS part FROM (VALUES {', '.join(map(str, some))}) AS given(k, n)"

    def note(self, commit: Commit, model: list[Row]) -> None:
        self.model = sorted(model)
        self.catch_up()
        assert commit.skipped or self.versions[commit.version] == self.model

    def catch_up(self) -> None:
        """What maintenance has made holds what there was."""
        newest = self.lake.version(T)
        assert newest is not None
        self.versions += [self.model] * (newest + 1 - len(self.versions))

    @rule(some=some_rows)
    def append(self, some: list[Row]) -> None:
        self.note(self.lake.append(self.con, T, self.select(some), stamp=STAMP), self.model + some)

    @rule(some=some_rows)
    def merge(self, some: list[Row]) -> None:
        replaced = {key for key, _ in some}
        model = [row for row in self.model if row[0] not in replaced] + some
        self.note(self.lake.merge(self.con, T, self.select(some), key=["k"], stamp=STAMP), model)

    @rule(limit=st.integers(0, 10))
    def delete(self, limit: int) -> None:
        self.note(self.lake.delete(self.con, T, f"k < {limit}", stamp=STAMP), [row for row in self.model if row[0] >= limit])

    @rule(back=st.integers(0, 4))
    def restore(self, back: int) -> None:
        version = max(0, len(self.versions) - 1 - back)
        try:
            self.note(self.lake.restore(T, version, stamp=STAMP), self.versions[version])
        except VersionGone:
            assert version in self.may_be_gone

    @rule(cluster_by=st.sampled_from([(), ("n",), ("n", "k")]))
    def compact(self, cluster_by: tuple[str, ...]) -> None:
        done = self.lake.compact(T, stamp=STAMP, cluster_by=cluster_by)
        assert done.skipped or done.files_after <= done.files_before
        self.catch_up()
        assert self.lake.compact(T, stamp=STAMP, cluster_by=cluster_by).skipped

    @rule(keep=st.sets(st.integers(0, 12), max_size=3))
    def vacuum(self, keep: set[int]) -> None:
        kept = {version for version in keep if version < len(self.versions) and version not in self.may_be_gone}
        later = datetime.now(UTC) + timedelta(minutes=1)
        self.lake.vacuum(T, keep=kept, retention=timedelta(0), now=later, force=True)
        self.may_be_gone |= set(range(len(self.versions) - 1)) - kept
        self.catch_up()

    @rule()
    def checkpoint_and_orphans(self) -> None:
        tomorrow = datetime.now(UTC) + timedelta(days=2)
        self.lake.checkpoint(T, now=tomorrow)
        assert self.lake.remove_orphans(T, now=tomorrow).files == 0

    @invariant()
    def the_newest_version_is_right(self) -> None:
        assert rows(self.lake, T, columns="k, n") == self.model

    def teardown(self) -> None:
        fresh = Lake(self.lake.uri, memory_limit="200MB", threads=1)
        for version, expected in enumerate(self.versions):
            try:
                assert rows(fresh, T, columns="k, n", version=version) == expected
            except VersionGone:
                assert version in self.may_be_gone
        assert [info.version for info in fresh.history(T)] == list(range(len(self.versions)))[::-1]
        self.con.close()
        self.folder.cleanup()


MaintainedTable.TestCase.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)
TestMaintainedTable = MaintainedTable.TestCase


class ManyMaintainedTables(MaintainedTable):
    """The same, for as long as patience lasts."""


ManyMaintainedTables.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestManyMaintainedTables = pytest.mark.slow(ManyMaintainedTables.TestCase)
