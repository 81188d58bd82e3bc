"""What the crash suite kills: each operation is a few lines. `prepare` makes the state before it, `act` is what is killed and run again.

`act` runs in a process of its own and may be killed at any instant; called again, it must leave every table as if nothing had happened.
Time is given, not taken, so that two runs give the same rows.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp, Transaction

BEFORE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = datetime(2026, 1, 3, 3, 4, 5, tzinfo=UTC)
ROWS = 400
HEADER = "id,age,height,born,sex,children"
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: people
name: people
version: 1.0.0
status: active
domain: test
schema:
  - name: people
    physicalType: table
    properties:
      - {name: id, logicalType: string, physicalType: VARCHAR, required: true, unique: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: age, logicalType: integer, physicalType: INTEGER, logicalTypeOptions: {minimum: 0, maximum: 120}}
      - {name: height, logicalType: number, physicalType: DOUBLE}
      - {name: born, logicalType: date, physicalType: DATE}
      - {name: sex, logicalType: string, physicalType: VARCHAR, enum: [{value: f}, {value: m}]}
      - {name: children, logicalType: integer, physicalType: INTEGER}
"""
# The second delivery has one column more: the tables must evolve on the way.
MORE = "      - {name: city, logicalType: string, physicalType: VARCHAR}\n"


@dataclass(frozen=True)
class Work:
    """A home, and what lies beside it."""

    settings: Settings
    lake: Lake

    @property
    def inputs(self) -> Path:
        """Files that an operation reads."""
        return self.settings.home_dir / "inputs"


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that writes.

    Attributes:
        prepare: makes the tables it works on.
        act: is killed, and run again.
        random_kills: how many of the suite's random kills it gets.
        volatile: columns, besides those of every operation, that differ from run to run.
        whole: called after the second run; fails if something is left that people would have to repair.
    """

    name: str
    prepare: Callable[[Work], None]
    act: Callable[[Work], None]
    random_kills: int
    volatile: frozenset[str] = frozenset()
    whole: Callable[[Work], None] = field(default=lambda work: None)


def write_people(path: Path, first: int, *, city: bool = False) -> None:
    """Rows of which every twentieth is bad in one of several ways."""
    lines = [HEADER + (",city" if city else "")]
    for number in range(first, first + ROWS):
        age = "old" if number % 60 == 0 else 200 if number % 60 == 20 else number % 100 + 12
        more = ",too,many" if number % 60 == 40 else ""
        town = f",town{number % 7}" if city else ""
        lines.append(f"P{number},{age},1.{number % 100:02d},{1950 + number % 60}-05-17,{'fm'[number % 2]},{number % 4}{town}{more}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---- ingestion


def ingest_people(work: Work, files: list[str], *, city: bool, now: datetime) -> None:
    from lakehouse.contracts import load_dataset
    from lakehouse.ingest import ingest

    contract = work.inputs / ("people-with-city.odcs.yaml" if city else "people.odcs.yaml")
    report = ingest(
        work.lake, load_dataset(contract), [work.inputs / name for name in files], settings=work.settings, run=f"run {now}", now=now
    )
    assert all(file.status in {"ingested", "already"} for file in report.files), report.as_dict()


def prepare_ingestion(work: Work) -> None:
    work.inputs.mkdir()
    (work.inputs / "people.odcs.yaml").write_text(CONTRACT, encoding="utf-8")
    (work.inputs / "people-with-city.odcs.yaml").write_text(CONTRACT + MORE, encoding="utf-8")
    write_people(work.inputs / "first.csv", 0)
    for number in (1, 2):
        write_people(work.inputs / f"more{number}.csv", number * ROWS, city=True)
    ingest_people(work, ["first.csv"], city=False, now=BEFORE)


def ingestion(work: Work) -> None:
    ingest_people(work, ["more1.csv", "more2.csv", "first.csv"], city=True, now=NOW)


def prepare_widening(work: Work) -> None:
    prepare_ingestion(work)
    ingestion(work)
    write_people(work.inputs / "late.csv", 3 * ROWS, city=True)
    text = (CONTRACT + MORE).replace("logicalType: integer, physicalType: INTEGER", "logicalType: integer, physicalType: BIGINT")
    (work.inputs / "wider.odcs.yaml").write_text(text, encoding="utf-8")


def widening(work: Work) -> None:
    """The contract has wider types now: every row of raw is rewritten before the next batch."""
    from lakehouse.contracts import load_dataset
    from lakehouse.ingest import ingest

    contract = load_dataset(work.inputs / "wider.odcs.yaml")
    ingest(work.lake, contract, [work.inputs / "late.csv"], settings=work.settings, run="wider", now=NOW)


def is_wider(work: Work) -> None:
    assert work.lake.schema("raw.people")["age"] == "BIGINT"


def first_ingestion(work: Work) -> None:
    """Into a home that has no table yet."""
    ingest_people(work, ["first.csv"], city=False, now=NOW)


def prepare_first_ingestion(work: Work) -> None:
    work.inputs.mkdir()
    (work.inputs / "people.odcs.yaml").write_text(CONTRACT, encoding="utf-8")
    write_people(work.inputs / "first.csv", 0)


# ---- the write path itself


def stamp(name: str) -> Stamp:
    return Stamp(asset=name, run="crash suite")


def prepare_rows(work: Work) -> None:
    """A table of several files, partitioned, with keys of all of them."""
    with work.lake.connect(()) as session:
        for number in range(4):
            sql = f"SELECT range AS id, range % 3 AS part, 'old' AS word FROM range({number * 100}, {number * 100 + 100})"
            for table, partition in (("staging.merged", ()), ("staging.parts", ("part",))):
                work.lake.append(session.con, table, sql, partition_by=partition, stamp=stamp("prepare"))


def merge(work: Work) -> None:
    """Half of the rows replaced, as many added, and a column more."""
    sql = "SELECT range AS id, range % 3 AS part, 'new' AS word, range * 0.5 AS more FROM range(200, 600)"
    with work.lake.connect(()) as session:
        work.lake.merge(session.con, "staging.merged", sql, key=["id"], stamp=stamp("merge"))


def writes(work: Work) -> None:
    """Every other way to write, one after the other; each is there once, however often this runs."""
    lake = work.lake
    with lake.connect(()) as session:
        con = session.con
        lake.append(
            con,
            "staging.merged",
            "SELECT 1000 AS id, 1 AS part, 'added' AS word",
            stamp=stamp("append"),
            transaction=Transaction("added", 1),
        )
        lake.delete(con, "staging.merged", where="id % 10 = 7", stamp=stamp("delete"))
        lake.delete_insert(
            con, "staging.merged", "SELECT 5 AS id, 5 AS part, unnest(['a', 'b']) AS word", key=["id"], stamp=stamp("delete_insert")
        )
        lake.replace_where(con, "staging.merged", "SELECT -1 AS id, 2 AS part, 'x' AS word", where="part = 2", stamp=stamp("replace_where"))
        lake.replace_partitions(con, "staging.parts", "SELECT 1 AS id, 1 AS part, 'only' AS word", stamp=stamp("replace_partitions"))
        lake.overwrite(
            con, "staging.anew", "SELECT range AS id, range % 2 AS part FROM range(50)", partition_by=["part"], stamp=stamp("overwrite")
        )


# ---- dbt


def prepare_build(work: Work) -> None:
    """Two waves of the shipped survey: the first is built, the second has arrived."""
    from lakehouse.contracts import load_contracts
    from lakehouse.ingest import ingest
    from lakehouse.sampling import households

    contract = load_contracts(work.settings).dataset("household_survey")
    households(rows=300, out=work.inputs, seed=3, bad_rate=0.05, files=2, waves=4)
    for number, file in enumerate(sorted(work.inputs.glob("*.csv"))):
        ingest(work.lake, contract, [file], settings=work.settings, run=f"run {number}", now=NOW if number else BEFORE)
        if number == 0:
            build(work)


def build(work: Work) -> None:
    from lakehouse.transform import build as dbt_build

    report = dbt_build(work.settings, run="build", select=["@source:raw.household_survey"], check=False)
    failed = [f"{node.name}: {node.message}" for node in report.nodes if node.status != "success"]
    assert not failed, failed


# ---- quarantine


def prepare_replay(work: Work) -> None:
    prepare_ingestion(work)
    ingestion(work)
    text = (CONTRACT + MORE).replace("maximum: 120", "maximum: 250")
    (work.inputs / "people-of-any-age.odcs.yaml").write_text(text, encoding="utf-8")


def replay(work: Work) -> None:
    """The contract allows now what it refused."""
    from lakehouse.contracts import load_dataset
    from lakehouse.ingest.decisions import Author
    from lakehouse.ingest.replay import replay as replay_rows
    from lakehouse.ingest.waiting import Selection

    contract = load_dataset(work.inputs / "people-of-any-age.odcs.yaml")
    author = Author("somebody", "replay", NOW)
    replay_rows(work.lake, contract, selection=Selection(rule="age.maximum"), settings=work.settings, author=author)


def restore_dataset(work: Work) -> None:
    """Raw and quarantine as they were before the second delivery."""
    from lakehouse.contracts import load_dataset
    from lakehouse.ingest.restoring import restore_dataset as restore

    contract = load_dataset(work.inputs / "people-with-city.odcs.yaml")
    restore(work.lake, contract, 0, settings=work.settings, run="restore", now=NOW)


# ---- maintenance


def compaction(work: Work) -> None:
    for table in ("staging.merged", "staging.parts"):
        work.lake.compact(table, stamp=stamp("compaction"))


def prepare_vacuum(work: Work) -> None:
    prepare_rows(work)
    merge(work)
    compaction(work)


def vacuum(work: Work) -> None:
    later = datetime.now(UTC) + timedelta(days=30)
    for table in ("staging.merged", "staging.parts"):
        work.lake.vacuum(table, keep=(), retention=timedelta(0), now=later, stamp=stamp("vacuum"), force=True)


def is_vacuumed(work: Work) -> None:
    """Nothing is left of older versions; the newest has its rows, and what the commit changed that made them."""
    for table in ("staging/merged", "staging/parts"):
        stored = {file.path for file in work.lake.storage.walk(table) if file.path.endswith(".parquet") and "_delta_log" not in file.path}
        snapshot = work.lake.snapshot(table.replace("/", "."))
        made = work.lake.content_version(table.replace("/", ".")) or 0
        commit = work.lake.storage.read(f"{table}/_delta_log/{made:020d}.json") or b""
        changes = {json.loads(line)["cdc"]["path"] for line in commit.splitlines() if line.startswith(b'{"cdc"')}
        assert stored == {f"{table}/{path}" for path in {*changes, *(file.path for file in snapshot.files)}}, stored


def checkpoint(work: Work) -> None:
    for table in ("staging.merged", "staging.parts"):
        work.lake.checkpoint(table, now=datetime.now(UTC) + timedelta(days=30))


def can_be_written(work: Work) -> None:
    """The table goes on: a commit after it, and what it holds is read from nothing but the newest checkpoint and the log."""
    with work.lake.connect(()) as session:
        commit = work.lake.append(session.con, "staging.merged", "SELECT 5000 AS id, 1 AS part, 'later' AS word", stamp=stamp("later"))
    assert work.lake.version("staging.merged") == commit.version


def restore(work: Work) -> None:
    work.lake.restore("staging.merged", 1, stamp=stamp("restore"))


def archive(work: Work) -> None:
    """Down two tiers, and some of it back."""
    from lakehouse.tables.tiers import archive_tiers, bring_up, move_down

    tiers = archive_tiers(work.settings, work.lake)
    hot, warm, cold = tiers.values()
    move_down(hot, warm, "staging.merged", "id < 200", stamp=stamp("archive"), tier="warm")
    move_down(warm, cold, "staging.merged", "id < 100", stamp=stamp("archive"), tier="cold")
    move_down(hot, warm, "staging.parts", "id < 200", stamp=stamp("archive"), tier="warm")
    bring_up(tiers, "staging.parts", "id >= 150", stamp=stamp("archive"))


def is_in_one_tier(work: Work) -> None:
    from lakehouse.tables.tiers import archive_tiers, spanning_sql

    tiers = list(archive_tiers(work.settings, work.lake).values())
    with work.lake.connect(()) as session:
        for table in ("staging.merged", "staging.parts"):
            rows = session.con.execute(f"SELECT id FROM ({spanning_sql(tiers, table, con=session.con)}) ORDER BY id").fetchall()
            assert rows == [(number,) for number in range(400)], table


# ---- models


def prepare_training(work: Work) -> None:
    sql = "SELECT range AS id, range % 7 AS x, if(range % 7 > 3, 'hi', 'lo') AS label FROM range(120)"
    with work.lake.connect(()) as session:
        work.lake.overwrite(session.con, "staging.small", sql, stamp=stamp("prepare"))


def training(work: Work) -> None:
    from lakehouse.learning import train
    from tests.learning.conftest import model

    contract = model("small", algorithms=("decision_tree",), folds=2)
    train(work.settings, work.lake, contract, run="train", now=NOW)


def is_registered_once(work: Work) -> None:
    from lakehouse.learning.registry import CHAMPION, Registry

    registry = Registry(work.settings)
    newest = registry.newest("small")
    assert newest is not None
    assert (newest.version, registry.version("small", CHAMPION)) == ("1", "1")


OPERATIONS = {
    one.name: one
    for one in (
        Operation("ingestion", prepare_ingestion, ingestion, random_kills=40),
        Operation("first ingestion", prepare_first_ingestion, first_ingestion, random_kills=20),
        Operation("widening", prepare_widening, widening, random_kills=10, whole=is_wider),
        Operation("dbt build", prepare_build, build, random_kills=30),
        Operation("merge", prepare_rows, merge, random_kills=40),
        Operation("writes", prepare_rows, writes, random_kills=30),
        Operation("replay", prepare_replay, replay, random_kills=40),
        Operation("dataset restore", prepare_replay, restore_dataset, random_kills=10),
        Operation("compaction", prepare_rows, compaction, random_kills=30),
        Operation("vacuum", prepare_vacuum, vacuum, random_kills=20, whole=is_vacuumed),
        Operation("checkpoint", prepare_vacuum, checkpoint, random_kills=10, whole=can_be_written),
        Operation("archive", prepare_rows, archive, random_kills=20, whole=is_in_one_tier),
        Operation("restore", prepare_vacuum, restore, random_kills=10),
        Operation(
            "training",
            prepare_training,
            training,
            random_kills=20,
            volatile=frozenset({"report", "registry_run"}),
            whole=is_registered_once,
        ),
    )
}


# ---- all at once, on the same tables


def prepare_survey(work: Work) -> None:
    """Six deliveries of the shipped survey, of which the first is there and built."""
    from lakehouse.sampling import households

    households(rows=360, out=work.inputs, seed=5, bad_rate=0.05, files=6, waves=4)
    deliver(work, [0])
    build(work)


def deliver(work: Work, numbers: list[int]) -> None:
    from lakehouse.contracts import load_contracts
    from lakehouse.ingest import ingest

    contract = load_contracts(work.settings).dataset("household_survey")
    files = sorted(work.inputs.glob("*.csv"))
    for number in numbers:
        ingest(work.lake, contract, [files[number]], settings=work.settings, run=f"run {number}", now=NOW)


def build_again_and_again(work: Work) -> None:
    for _ in range(3):
        build(work)


def maintain(work: Work) -> None:
    """Compaction, checkpoint and vacuum of everything, round after round."""
    for _ in range(8):
        for table in work.lake.tables():
            work.lake.compact(table, stamp=stamp("maintenance"))
            work.lake.checkpoint(table)
            work.lake.vacuum(table, keep=(), retention=timedelta(hours=1), now=datetime.now(UTC), stamp=stamp("maintenance"))


def _nothing(work: Work) -> None:
    del work


TOGETHER = {
    one.name: one
    for one in (
        Operation("deliveries forward", prepare_survey, lambda work: deliver(work, [1, 2, 3, 4, 5]), random_kills=0),
        Operation("deliveries backward", _nothing, lambda work: deliver(work, [5, 4, 3, 2, 1]), random_kills=0),
        Operation("builds", _nothing, build_again_and_again, random_kills=0),
        Operation("maintenance", _nothing, maintain, random_kills=0),
        Operation("last build", _nothing, build, random_kills=0),
    )
}
