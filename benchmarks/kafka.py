"""A million messages of a real Kafka topic of 12 partitions in raw: undisturbed, in a storm, and from one event to its online feature.

Three followers read while the messages are written. Undisturbed: messages per second from the first one written to the last one in raw
(at least 10,000). In a storm followers are killed, ended, started again and joined by others at random: raw has each message once, in at
most 3 x the undisturbed time. From an event to its feature: with micro-batches of 30 s that build what depends on them, the longest of
several events at different instants of the 30 s (under 60 s).

Kafka is the one of the tests (`python -m tests.servers` fetches its jars).
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from figures import Figure, figure, tell

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from lakehouse.errors import FeatureError  # noqa: E402
from lakehouse.settings import Settings  # noqa: E402
from tests.servers.fixtures import KafkaTopic, new_topic  # noqa: E402
from tests.servers.kafka import PARTITIONS, KafkaServer  # noqa: E402
from tests.servers.server import ServerUnavailable  # noqa: E402
from tests.sources.clicks import CONTRACT  # noqa: E402
from tests.sources.storm import Followers, storm, write, writing  # noqa: E402

LEAST_PER_S = 10_000
MOST_SLOWER = 3.0
MOST_TO_FEATURE_S = 60.0
MICRO_BATCH_S = 30.0
FOLLOWERS = 3
_LIMIT_S = 900.0
COLUMNS = """
      - {name: kind, logicalType: string, logicalTypeOptions: {pattern: "^(view|cart|order)$"}}
      - {name: at, logicalType: timestamp, physicalType: TIMESTAMP}
      - {name: page, logicalType: string}
"""
VIEW = """
select user as user_id, max("at") as seen_at, count(*)::bigint as clicks, max(id)::bigint as last_id
from {{ source('raw', 'clicks') }} group by user
"""
VIEW_META = """
version: 2
models:
  - name: user_clicks
    config: {meta: {feature_view: {entity: [user_id], event_timestamp: seen_at, online: true}}}
"""


@contextmanager
def new_home(folder: Path, topic: KafkaTopic) -> Iterator[Path]:
    """A project with this one's dbt macros and one dataset, and its empty home."""
    project = folder / f"project-{uuid.uuid4().hex[:8]}"
    project.mkdir()
    shutil.copy(PROJECT / "workspace.yaml", project)
    shutil.copytree(PROJECT / "dbt", project / "dbt", ignore=shutil.ignore_patterns("models", "seeds", "snapshots", "tests", "target"))
    models = project / "dbt" / "models" / "features"
    models.mkdir(parents=True)
    (models / "user_clicks.sql").write_text(VIEW)
    (models / "user_clicks.yml").write_text(VIEW_META)
    contracts = project / "contracts" / "datasets"
    contracts.mkdir(parents=True)
    text = CONTRACT.replace("HOST", topic.address).replace("TOPIC", topic.name).rstrip("\n") + COLUMNS
    (contracts / "clicks.odcs.yaml").write_text(text)
    (project / "contracts" / "models").mkdir()
    before = {name: os.environ.get(name) for name in ("LAKEHOUSE_PROJECT", "LAKEHOUSE_HOME")}
    os.environ |= {"LAKEHOUSE_PROJECT": str(project), "LAKEHOUSE_HOME": str(project / "data")}
    try:
        yield project / "data"
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def followers(folder: Path, every_s: float, *, with_build: bool = False, count: int = FOLLOWERS) -> Iterator[Followers]:
    """So many of them, each with its part of the topic."""
    logs = folder / f"logs-{uuid.uuid4().hex[:8]}"
    logs.mkdir()
    found = Followers(logs, every_s, with_build)
    try:
        for _ in range(count):
            found.start()
        wait(lambda: sum(own_partitions(found, number) for number in range(count)) == PARTITIONS, "the group does not come together")
        yield found
    finally:
        found.close()


def own_partitions(found: Followers, number: int) -> int:
    """How many a follower has, by what it said last."""
    said = found.said(number)
    if said and "message" in said[-1]:
        raise RuntimeError(str(said[-1]["message"]))
    return int(str(said[-1]["partitions"])) if said else 0


def wait(holds: Callable[[], bool], what: str, limit_s: float = _LIMIT_S) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)


def in_raw() -> int:
    """Rows, by raw's log."""
    from lakehouse.tables import Lake

    lake = Lake.from_settings(Settings.load())
    return sum(file.rows or 0 for file in lake.snapshot("raw.clicks").files) if lake.exists("raw.clicks") else 0


def check_each_once(count: int) -> None:
    from lakehouse.tables import Lake

    with Lake.from_settings(Settings.load()).connect() as session:
        found = session.con.execute("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM raw.clicks").fetchone()
    assert found == (count, count, 0, count - 1), found


def throughput(
    server: dict[str, str], folder: Path, count: int, every_s: float, *, seed: int | None, undisturbed_s: float = 0.0
) -> dict[str, float]:
    """Seconds from the first message written to the last one in raw; in a storm if there is a seed.

    About ten are killed or ended in the time that it takes undisturbed, on a slow machine as on a fast one, and none sooner than two
    seconds after another on average: so long a follower needs to start.
    """
    with new_topic(server, prefix="bench") as topic, new_home(folder, topic), followers(folder, every_s) as found:
        began = time.monotonic()
        writer = writing(topic.address, topic.name, 0, count)
        written: list[float] = []

        def is_done() -> bool:
            if not written and writer.poll() is not None:
                written.append(time.monotonic() - began)
            return in_raw() >= count

        if seed is None:
            wait(is_done, "not all in raw")
        else:
            storm(found, random.Random(seed), is_done, mean_s=max(2.0, undisturbed_s / 10), limit_s=_LIMIT_S)  # noqa: S311
        seconds = time.monotonic() - began
        assert writer.wait() == 0
        found.close()
        check_each_once(count)
        return {"seconds": seconds, "writing_s": (written or [seconds])[0], "killed": found.killed, "ended": found.ended}


def to_feature(server: dict[str, str], folder: Path, rounds: int) -> list[float]:
    """Seconds from an event to its feature in the online store, for events at other instants of a micro-batch each."""
    from lakehouse.pipeline.features import online, online_views
    from lakehouse.pipeline.workspace import Workspace

    chance = random.Random(5)  # noqa: S311
    with new_topic(server, prefix="bench") as topic, new_home(folder, topic), followers(folder, MICRO_BATCH_S, with_build=True, count=1):
        write(topic.address, topic.name, 0, 100_000)
        workspace = Workspace.load()
        (view,) = online_views(workspace)
        wait(lambda: in_raw() >= 100_000, "not in raw")

        def served(user: str) -> int | None:
            with online(workspace) as features:
                try:
                    found = features.get(view.name, [{"user_id": user}], now=datetime.now(UTC))[0].values["last_id"]
                except FeatureError:
                    # Not materialised yet.
                    return None
            return None if found is None else int(found)

        wait(lambda: served("user-00007") == 50_007, "the first features are not served")

        took: list[float] = []
        for number in range(100_000, 100_000 + rounds):
            time.sleep(MICRO_BATCH_S * (number % rounds) / rounds + chance.random() * 2)
            began = time.monotonic()
            write(topic.address, topic.name, number, 1)
            user = f"user-{number % 50_000:05d}"
            wait(lambda: served(user) == number, "not served", 300)  # noqa: B023
            took.append(time.monotonic() - began)
        return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=4, help="events that are followed to their feature")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two micro-batches where throughput is measured")
    parser.add_argument("--only", choices=("throughput", "feature"))
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        print(f"not measured: {reason}", file=sys.stderr)
        tell([], as_json=options.json)
    server = KafkaServer()
    with tempfile.TemporaryDirectory(prefix="kafka-bench-") as name:
        folder = Path(name)
        (folder / "server").mkdir()
        figures: list[Figure] = []
        try:
            address = server.start(folder / "server")
            if options.only != "feature":
                calm = throughput(address, folder, options.messages, options.every, seed=None)
                print(f"undisturbed: {calm}", file=sys.stderr)
                wild = throughput(address, folder, options.messages, options.every, seed=11, undisturbed_s=calm["seconds"])
                print(f"in a storm: {wild}", file=sys.stderr)
                rate = options.messages / calm["seconds"]
                ratio = wild["seconds"] / calm["seconds"]
                title = f"{options.messages:,} messages of 12 partitions into raw"
                storm = f"{title} with {wild['killed']:.0f} followers killed and {wild['ended']:.0f} ended, time / undisturbed"
                figures += [
                    figure(f"{title}, messages/s", rate, "per s", LEAST_PER_S, at_least=True),
                    figure(storm, ratio, "x", MOST_SLOWER),
                ]
            if options.only != "throughput":
                took = to_feature(address, folder, options.rounds)
                print(f"to the feature: {[round(one, 1) for one in took]}", file=sys.stderr)
                title = f"from an event to its online feature, micro-batches of 30 s, longest of {len(took)}"
                figures.append(figure(title, max(took), "s", MOST_TO_FEATURE_S))
        finally:
            server.stop()
    tell(figures, as_json=options.json)


def why_not() -> str | None:
    """Why there is no broker to be had; its jars are fetched where they can be."""
    missing = KafkaServer.missing()
    if missing:
        return f"{', '.join(need.program for need in missing)} not installed"
    try:
        KafkaServer.fetch()
    except ServerUnavailable as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
