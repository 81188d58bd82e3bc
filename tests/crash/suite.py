"""Kill an operation, run it again, and compare every table with those of an uninterrupted run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lakehouse.crashpoints import VARIABLE, Point
from lakehouse.ingest.waiting import current_rows_sql
from lakehouse.tables import Lake, TableName
from tests.crash.operations import OPERATIONS, Operation
from tests.crash.summary import PROPERTY

PROJECT = Path(__file__).resolve().parents[2]
KILLED = -signal.SIGKILL
# Numbers and times that say which run it was, not what is in the table: a killed run may have used a number up.
VOLATILE = frozenset({"_batch", "_arrival", "batch", "raw_version", "ingested_at", "run"})
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Root:
    """Where the tables of a home are: in the home, or in a bucket."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    bucket: str | None = None

    def uri(self, home: Path) -> str:
        """The root of a home's tables."""
        return f"s3://{self.bucket}/{home.name}" if self.bucket else str(home / "tables")

    def settings(self, home: Path) -> dict[str, str]:
        """The environment of a process that works on it."""
        own = {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_PROJECT": str(PROJECT), "LAKEHOUSE_THREADS": "2", **self.environment}
        return own | ({"LAKEHOUSE_URI": self.uri(home)} if self.bucket else {})

    def lake(self, home: Path) -> Lake:
        """The tables."""
        from lakehouse.settings import Settings

        names = {name.removeprefix("LAKEHOUSE_").lower(): value for name, value in self.settings(home).items()}
        return Lake.from_settings(Settings(**names))  # pyright: ignore[reportArgumentType]

    def copy(self, home: Path, to: Path) -> None:
        """A home that begins as another one is."""
        shutil.copytree(home, to, symlinks=True)
        if self.bucket:
            storage, other = self.lake(home).storage, self.lake(to).storage
            for file in storage.walk():
                content = storage.read(file.path)
                assert content is not None
                other.write(file.path, content)

    def remove(self, home: Path) -> None:
        """Remove a home with its tables."""
        if self.bucket:
            storage = self.lake(home).storage
            storage.delete([file.path for file in storage.walk()])
        shutil.rmtree(home)


class Driver:
    """The process whose children do the work."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, operation: Operation, part: str, environment: Mapping[str, str]) -> int:
        return self._ask({"operation": operation.name, "part": part, "environment": dict(environment)})["pid"]

    def wait(self, pid: int) -> dict[str, Any]:
        return self._ask({"wait": pid})

    def run(self, operation: Operation, part: str, environment: Mapping[str, str]) -> dict[str, Any]:
        answer = self.wait(self.start(operation, part, environment))
        assert answer["status"] == 0, f"{operation.name}, {part}: {answer.get('said', answer)}"
        return answer


@contextmanager
def driving(folder: Path, *, is_all: bool = True) -> Iterator[Driver]:
    """A driver for as long as the block lasts; `is_all` if it is to build and train as well."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.crash.driver", str(folder), *(["all"] if is_all else [])]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAKEHOUSE_")} | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Driver(process)
        finally:
            if process.stdin:
                process.stdin.close()


@dataclass
class Tally:
    """What some kills came to; the counts of all tests are added up at the end of the run."""

    operation: str
    root: str
    points: list[str] = field(default_factory=list)
    kills: int = 0
    random_kills: int = 0
    lost: int = 0
    duplicated: int = 0
    repaired: int = 0
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        return json.dumps(asdict(self))


class Suite:
    """One operation on one kind of root."""

    def __init__(self, driver: Driver, operation: Operation, root: Root, folder: Path) -> None:
        self._driver, self._operation, self._root, self._folder = driver, operation, root, folder
        self._volatile = VOLATILE | operation.volatile
        self.tally = Tally(operation.name, root.name)
        self._before = self._new_home()
        self._before.mkdir(parents=True)
        driver.run(operation, "prepare", root.settings(self._before))
        whole = self._copied()
        # Named like no point, the variable counts how often each is reached.
        answer = driver.run(operation, "act", {**root.settings(whole), VARIABLE: "none"})
        self.reached: dict[str, int] = answer["reached"]
        self._seconds = float(answer["seconds"])
        self._expected = content(root, whole, self._volatile)
        root.remove(whole)

    def _new_home(self) -> Path:
        return self._folder / f"home-{uuid.uuid4().hex[:12]}"

    def _copied(self) -> Path:
        home = self._new_home()
        self._root.copy(self._before, home)
        return home

    def close(self) -> None:
        """Remove what is left."""
        self._root.remove(self._before)

    def kill_at_points(self, chosen: Callable[[Point, int], bool] = lambda point, time: True) -> None:
        """Kill it each time that it comes to a point."""
        for name, times in sorted(self.reached.items()):
            for time_ in range(1, times + 1):
                if chosen(Point(name), time_):
                    self._kill_at(name, time_)

    def _kill_at(self, point: str, time_: int) -> None:
        home = self._copied()
        where = f"{point}:{time_}"
        answer = self._driver.wait(self._driver.start(self._operation, "act", {**self._root.settings(home), VARIABLE: where}))
        assert answer["status"] == KILLED, f"{self._operation.name} was not killed at {where}: {answer.get('said', answer)}"
        self.tally.kills += 1
        if point not in self.tally.points:
            self.tally.points.append(point)
        self._check(home, where)

    def kill_at_random(self, count: int, seed: int) -> None:
        """Kill it at instants spread over the time that it takes; those that come too late are tried again."""
        chance = random.Random(f"{seed} {self._operation.name} {self._root.name}")
        for number in range(count * 3):
            if self.tally.random_kills == count:
                break
            home = self._copied()
            pid = self._driver.start(self._operation, "act", self._root.settings(home))
            wait_s = chance.uniform(0, self._seconds)
            time.sleep(wait_s)
            os.kill(pid, signal.SIGKILL)
            answer = self._driver.wait(pid)
            assert answer["status"] in {KILLED, 0}, answer
            self.tally.random_kills += answer["status"] == KILLED
            if answer["status"] == 0:
                # It was faster than the first time.
                self._seconds *= 0.9
            self._check(home, f"after {wait_s:.3f} s (number {number})")

    def _check(self, home: Path, where: str) -> None:
        """Run it again, as whoever starts the service again would, and compare."""
        again = self._driver.wait(self._driver.start(self._operation, "act", self._root.settings(home)))
        if again["status"]:
            self.tally.repaired += 1
            self.tally.problems.append(f"killed at {where}, did not run again: {again.get('said', again)}")
        else:
            self._compare(content(self._root, home, self._volatile), where)
            whole = self._driver.wait(self._driver.start(self._operation, "whole", self._root.settings(home)))
            if whole["status"]:
                self.tally.repaired += 1
                self.tally.problems.append(f"killed at {where}, is not whole: {whole.get('said', whole)}")
        self._root.remove(home)

    def _compare(self, found: Mapping[str, Sequence[Row]], where: str) -> None:
        for table in sorted({*found, *self._expected}):
            have, want = (Counter(content.get(table, ())) for content in (found, self._expected))
            lost, more = (want - have).total(), (have - want).total()
            if lost or more:
                self.tally.lost += lost
                self.tally.duplicated += more
                sample = [*(want - have), *(have - want)][:2]
                self.tally.problems.append(f"killed at {where}: {table} lacks {lost} rows and has {more} that it should not: {sample}")


def content(root: Root, home: Path, volatile: frozenset[str] = VOLATILE) -> dict[str, list[Row]]:
    """Every table's rows, without what differs from run to run."""
    lake = root.lake(home)
    return {str(table): _rows(lake, table, volatile) for table in lake.tables()}


def _rows(lake: Lake, table: TableName, volatile: frozenset[str]) -> list[Row]:
    with lake.connect([table]) as session:
        columns = [name for name in lake.schema(table) if name not in volatile]
        quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
        # A quarantined row's history says in which batch.
        row = f"regexp_replace(CAST(ROW({quoted}) AS VARCHAR), '\"batch\":[0-9]+', '')"
        # What a decision has replaced may still be there, and counts no more.
        is_quarantine = table.layer == "quarantine"
        source = f"({current_rows_sql(lake, table.name, con=session.con)})" if is_quarantine else f"{table.layer}.{table.name}"
        return session.con.execute(f"SELECT {row} FROM {source} ORDER BY 1").fetchall()


@contextmanager
def suite_of(driver: Driver, name: str, root: Root, folder: Path, record: Callable[[str, object], None]) -> Iterator[Suite]:
    """The suite of an operation; when the block ends, what it found is recorded, and is an error if it is not nothing."""
    suite = Suite(driver, OPERATIONS[name], root, folder)
    try:
        yield suite
    finally:
        record(PROPERTY, suite.tally.as_json())
        suite.close()
    tally = suite.tally
    assert not tally.problems, "\n".join(tally.problems[:5])
    assert (tally.lost, tally.duplicated, tally.repaired) == (0, 0, 0)
