"""Followers share a topic's partitions out; whoever is killed, ended or added, each message is in raw or quarantine once."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lakehouse.pipeline.workspace import Workspace
from tests.servers.fixtures import KafkaTopic
from tests.sources.clicks import declare, events, produce, rows
from tests.sources.storm import Followers, storm, writing

pytestmark = pytest.mark.servers

WAIT_S = 240


@pytest.fixture
def topic(home: Path, kafka_topic: KafkaTopic) -> KafkaTopic:
    declare(home, kafka_topic)
    return kafka_topic


@pytest.fixture
def followers(topic: KafkaTopic, tmp_path: Path) -> Iterator[Followers]:
    found = Followers(tmp_path, every_s=1)
    yield found
    found.close()


def until(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, what()
        time.sleep(0.25)


def counted() -> int:
    """Rows in raw, by its log."""
    lake = Workspace.load().lake
    return sum(file.rows or 0 for file in lake.snapshot("raw.clicks").files) if lake.exists("raw.clicks") else 0


def test_partitions_are_shared_by_who_is_there(topic: KafkaTopic, followers: Followers) -> None:
    def owned(*numbers: int) -> list[object]:
        return [said[-1]["partitions"] if (said := followers.said(number)) else None for number in numbers]

    produce(topic, events(range(600)))
    followers.start()
    until(lambda: owned(0) == [12], lambda: followers.said(0))
    followers.start()
    followers.start()
    until(lambda: owned(0, 1, 2) == [4, 4, 4], lambda: owned(0, 1, 2))
    produce(topic, events(range(600, 1200)))
    followers.kill(1)
    produce(topic, events(range(1200, 1800)))
    # One that comes back is what it was; one that does not is replaced when its session ends.
    until(lambda: owned(0, 2) == [6, 6], lambda: owned(0, 2))
    produce(topic, [*events(range(1800, 2400)), b"poison"])
    until(lambda: counted() >= 2400, counted)
    assert rows("SELECT count(*), count(DISTINCT id) FROM raw.clicks") == [(2400, 2400)]
    assert rows("SELECT count(*) FROM quarantine.clicks") == [(1,)]
    assert followers.end(0) == 0
    assert followers.end(0) == 0


def test_the_group_shows_how_far_raw_is(topic: KafkaTopic, followers: Followers) -> None:
    """For those who watch it with Kafka's own tools; nothing is read from it."""
    from confluent_kafka import ConsumerGroupTopicPartitions
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": topic.address})

    def committed() -> int:
        groups = [one.group_id for one in admin.list_consumer_groups().result().valid if one.group_id.startswith("lakehouse.clicks.")]
        found = [admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result() for group in groups]
        places = [one for group in found for one in group.topic_partitions if one.topic == topic.name]
        return sum(max(0, one.offset) for one in places)

    produce(topic, events(range(240)))
    followers.start()
    until(lambda: committed() == 240, committed)


def _survives(topic: KafkaTopic, followers: Followers, count: int, *, mean_s: float) -> None:
    for _ in range(3):
        followers.start()
    writer = writing(topic.address, topic.name, 0, count)
    try:
        storm(followers, random.Random(7), lambda: counted() >= count and followers.killed >= 3, mean_s=mean_s, limit_s=280)
    finally:
        writer.kill()
        writer.wait()
    # What was under way ends, and adds nothing.
    for number in reversed(range(len(followers.running))):
        followers.end(number)
    assert rows("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM raw.clicks") == [(count, count, 0, count - 1)]


@pytest.mark.slow
def test_each_of_100_000_messages_is_there_once_in_a_storm(topic: KafkaTopic, followers: Followers) -> None:
    _survives(topic, followers, 100_000, mean_s=3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_of_a_million_messages_is_there_once_in_a_storm(topic: KafkaTopic, followers: Followers) -> None:
    _survives(topic, followers, 1_000_000, mean_s=4)
