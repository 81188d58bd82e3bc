"""Messages of a real Kafka topic in raw, each exactly once: killed, raced, read again, lost, and with poison among them."""

import json
import random
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse.crashpoints import VARIABLE, Point
from lakehouse.pipeline.workspace import Workspace
from tests.servers.fixtures import KafkaTopic
from tests.sources.clicks import declare, events, fetch, process, produce, rows, run

pytestmark = pytest.mark.servers

COUNTS = "SELECT count(*), count(DISTINCT id) FROM raw.clicks"


@pytest.fixture
def topic(home: Path, kafka_topic: KafkaTopic) -> KafkaTopic:
    declare(home, kafka_topic)
    return kafka_topic


def test_each_message_arrives_once_and_no_page_stays(topic: KafkaTopic, home: Path) -> None:
    produce(topic, events(range(500)))
    first = fetch()
    assert sum(file["rows_accepted"] for file in first["files"]) == 500
    (look,) = first["topics"]
    assert (look["topic"], look["messages"], look["lag"], look["lost"]) == (f"{topic.name} of events", 500, 0, 0)
    assert [one["partition"] for one in look["partitions"]] == list(range(topic.partitions))
    assert fetch()["files"] == []
    produce(topic, events(range(500, 520)))
    fetch()
    assert rows("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM raw.clicks") == [(520, 520, 0, 519)]
    assert not [path for path in (home / "landing" / "clicks").iterdir() if path.suffix != ".lock"]
    (newest, *_) = run("history", "raw.clicks")["versions"]
    offsets = {file["partition"]: file["offsets"] for file in newest["source"]["files"]}
    assert offsets[0] == [42, 44]


def test_equal_messages_are_as_many_as_were_sent(topic: KafkaTopic) -> None:
    """The same bytes at other offsets are other messages."""
    for _ in range(3):
        produce(topic, [b'{"id": 1, "user": "a"}'] * topic.partitions)
        fetch()
    assert rows("SELECT count(*) FROM raw.clicks") == [(3 * topic.partitions,)]


POISON = [
    b'{"id": 1}',
    b"not json",
    b"",
    None,
    b'{"id": 2,\n "user": "two\\nlines"}',
    b"[1, 2]",
    b'{"id": 3, "user": "\xff\xfe"}',
    b"\x00\x01\x1f\n\r",
    b'{"id": "x"}',
    b'{"id": 4',
    b'"text"',
    b'{"id": 5, "user": "\xe6\xbc\xa2"}',
]


def test_poison_goes_to_quarantine_with_its_place_and_stops_nothing(topic: KafkaTopic) -> None:
    produce(topic, events([0] * 7), partition=3)
    fetch()
    produce(topic, POISON, partition=3)
    # A page that is nothing else.
    for partition, value in enumerate((b'{"id": 4', None, b"\x00")):
        produce(topic, [value], partition=partition)
    assert sum(file["rows_read"] for file in fetch()["files"]) == len(POISON) + 3
    assert rows("SELECT id, user FROM raw.clicks WHERE id > 0 ORDER BY id") == [(1, None), (2, "two\nlines"), (5, "漢")]
    shown = run("quarantine", "show", "clicks", "--limit", "50")["rows"]
    places = sorted((one["message"]["partition"], one["message"]["offset"]) for one in shown)
    bad = [offset for offset, value in enumerate(POISON, start=7) if value not in (POISON[0], POISON[4], POISON[11])]
    assert places == sorted([(0, 0), (1, 0), (2, 0), *((3, offset) for offset in bad)])
    assert {one["message"]["topic"] for one in shown} == {f"events__{topic.name}"}


CRASHES = [
    f"{Point.BEFORE_CURSOR}:1",
    f"{Point.BEFORE_CURSOR}:5",
    f"{Point.AFTER_CURSOR}:1",
    f"{Point.ORIGINALS_ARCHIVED}:1",
    f"{Point.QUARANTINE_COMMITTED}:1",
    f"{Point.BEFORE_COMMIT}:2",
    f"{Point.AFTER_COMMIT}:2",
]


@pytest.mark.parametrize("crash", [*CRASHES[:2], pytest.param(CRASHES[2], marks=pytest.mark.slow), *CRASHES[3:]])
def test_killed_and_run_again(topic: KafkaTopic, crash: str) -> None:
    produce(topic, [*events(range(100)), b"poison"])
    assert process(**{VARIABLE: crash}).wait(timeout=250) == -signal.SIGKILL
    produce(topic, events(range(100, 150)))
    fetch()
    assert rows(COUNTS) == [(150, 150)]
    assert rows("SELECT count(*) FROM quarantine.clicks") == [(1,)]


def test_two_machines_that_read_the_same_offsets(topic: KafkaTopic, home: Path) -> None:
    """They share the tables and nothing else."""
    from lakehouse.ingest.sources import TopicReader
    from lakehouse.ingest.topic_pages import Covered

    workspace = Workspace.load()
    (source,) = workspace.contracts.dataset("clicks").topics
    landing = home / "landing" / "clicks"
    with TopicReader(source, workspace.settings, landing) as reader:
        produce(topic, events(range(120)))
        reader.look(Covered)
        produce(topic, events(range(120, 240)))
        reader.look(Covered)
    assert len(list(landing.glob("*.ndjson"))) == 2 * topic.partitions
    fetch()
    assert rows(COUNTS) == [(240, 240)]


def test_aborted_messages_are_not_read_and_places_stay_right(topic: KafkaTopic) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": topic.address, "transactional.id": topic.name})
    producer.init_transactions(60)
    for number, is_kept in enumerate((True, False, True)):
        producer.begin_transaction()
        for value in [*events(range(number * 10, number * 10 + 10)), b"poison"]:
            producer.produce(topic.name, value, partition=0)
        # What was not sent yet would not be aborted, but forgotten.
        producer.flush(60)
        (producer.commit_transaction if is_kept else producer.abort_transaction)(60)
    fetch()
    assert fetch()["files"] == []
    assert rows("SELECT id FROM raw.clicks ORDER BY id") == [(number,) for number in (*range(10), *range(20, 30))]
    shown = run("quarantine", "show", "clicks")["rows"]
    # Eleven messages and a mark each.
    assert [one["message"]["offset"] for one in shown] == [10, 34]


def transaction(topic: KafkaTopic, values: list[bytes], *, is_kept: bool) -> None:
    """Into partition 0, with a mark behind it."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": topic.address, "transactional.id": topic.name})
    producer.init_transactions(60)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic.name, value, partition=0)
    # What was not sent yet would not be aborted, but forgotten.
    producer.flush(60)
    (producer.commit_transaction if is_kept else producer.abort_transaction)(60)


def test_offsets_without_a_message_are_no_lag_and_hide_nothing(topic: KafkaTopic, home: Path) -> None:
    """At the end of a partition, and between two pages."""
    from lakehouse.ingest.sources import TopicReader
    from lakehouse.ingest.topic_pages import Covered, Offsets
    from lakehouse.pipeline.topics import lag_of

    transaction(topic, events(range(10)), is_kept=False)
    workspace = Workspace.load()
    contract = workspace.contracts.dataset("clicks")
    assert {lag.messages for lag in lag_of(workspace, contract).values()} == {0}
    assert fetch()["files"] == []
    # Those before it are accounted for by the page that comes next.
    transaction(topic, events(range(10, 20)), is_kept=True)
    (source,) = contract.topics
    with TopicReader(source, workspace.settings, home / "elsewhere") as reader:
        slug = source.slug
        looked = reader.look(lambda: Covered([(slug, 0, Offsets(0, 0)), (slug, 0, Offsets(11, 13))]), only=[0])
        assert [(one.name.split("_")[-1], one.read_bytes().count(b"\n")) for one in looked.pages] == [(f"{13:019d}-{22:019d}.ndjson", 8)]
        assert (looked.messages, looked.lag) == (8, 0)
        assert reader.look(lambda: Covered([(slug, 0, Offsets(0, 0)), (slug, 0, Offsets(11, 22))]), only=[0]).lag == 0
    fetch()
    assert rows("SELECT count(*), min(id), max(id) FROM raw.clicks") == [(10, 10, 19)]
    (newest, *_) = run("history", "raw.clicks")["versions"]
    assert newest["source"]["files"][0]["offsets"][0] == 0
    assert {lag.messages for lag in lag_of(workspace, contract).values()} == {0}


def test_messages_are_read_again_from_an_offset(topic: KafkaTopic, home: Path) -> None:
    """By the contract as it is now; twice is as good as once."""
    for start in range(0, 240, 60):
        produce(topic, [json.dumps({"id": number, "user": "u", "more": number}).encode() for number in range(start, start + 60)])
        fetch()
    declare(home, topic, ("logicalType: string}", "logicalType: string}\n      - {name: more, logicalType: integer, physicalType: BIGINT}"))
    again = fetch("--again-from", "3:7")
    assert [one["messages"] for one in again["topics"][0]["partitions"] if one["messages"]] == [15]
    assert rows(COUNTS) == [(240, 240)]
    assert rows("SELECT count(more), count(*) FROM raw.clicks WHERE id % 12 = 3") == [(15, 20)]
    for _ in range(2):
        fetch("--again-from", "earliest")
        assert rows("SELECT count(*), count(DISTINCT id), sum(more) = sum(id) FROM raw.clicks") == [(240, 240, True)]
    fetch("--again-from", datetime.now(UTC).isoformat())
    produce(topic, events(range(240, 250)))
    fetch()
    assert rows(COUNTS) == [(250, 250)]
    assert fetch()["files"] == []


def test_killed_while_reading_again(topic: KafkaTopic) -> None:
    produce(topic, [*events(range(100)), b"poison"])
    fetch()
    for crash in (f"{Point.BEFORE_CURSOR}:3", f"{Point.QUARANTINE_COMMITTED}:1"):
        assert process("--again-from", "0", **{VARIABLE: crash}).wait(timeout=250) == -signal.SIGKILL
        fetch()
        assert rows(COUNTS) == [(100, 100)]
        assert run("quarantine", "list")["datasets"]["clicks"]["rows"] == 1


def test_what_a_restore_took_away_comes_back(topic: KafkaTopic) -> None:
    for start in (0, 100, 200):
        produce(topic, events(range(start, start + 100)))
        fetch()
    run("restore", "raw.clicks", "--to", "0")
    assert rows(COUNTS) == [(100, 100)]
    fetch()
    assert rows(COUNTS) == [(300, 300)]


def test_what_the_topic_removed_is_told_once_and_passed_over(topic: KafkaTopic) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    produce(topic, events(range(20)), partition=5)
    fetch()
    produce(topic, events(range(20, 60)), partition=5)
    admin = AdminClient({"bootstrap.servers": topic.address})
    (removed,) = admin.delete_records([TopicPartition(topic.name, 5, 50)]).values()
    removed.result(timeout=60)
    found = fetch()["topics"][0]
    assert (found["lost"], found["partitions"][5]) == (30, {"partition": 5, "offset": 60, "messages": 10, "lag": 0, "lost": 30})
    assert fetch()["topics"][0]["lost"] == 0
    (newest, *_) = run("history", "raw.clicks")["versions"]
    assert newest["source"]["files"][0]["lost"] == [[20, 50]]
    assert rows("SELECT count(*) FROM raw.clicks") == [(30,)]


def test_new_partitions_are_read(topic: KafkaTopic) -> None:
    from confluent_kafka.admin import AdminClient, NewPartitions

    produce(topic, events(range(24)))
    fetch()
    admin = AdminClient({"bootstrap.servers": topic.address})
    (grown,) = admin.create_partitions([NewPartitions(topic.name, 14)]).values()
    grown.result(timeout=60)
    produce(topic, events(range(24, 34)), partition=13)
    deadline = time.monotonic() + 60
    while rows(COUNTS) != [(34, 34)] and time.monotonic() < deadline:
        fetch()
    assert rows(COUNTS) == [(34, 34)]


@pytest.mark.parametrize("messages", [0, 240])
def test_a_topic_that_was_made_anew_is_refused(topic: KafkaTopic, home: Path, messages: int) -> None:
    """However long it is by now: its first messages would be taken for those that were read."""
    produce(topic, events(range(120)))
    fetch()
    (newest, *_) = run("history", "raw.clicks")["versions"]
    assert len({file["topic_id"] for file in newest["source"]["files"]}) == 1
    _make_anew(topic)
    produce(topic, events(range(1000, 1000 + messages)))
    assert "another topic than before" in fetch(code=2)["message"]
    assert "another topic than before" in fetch("--again-from", "earliest", code=2)["message"]
    assert rows("SELECT max(id) FROM raw.clicks") == [(119,)]
    declare(home, topic, ("server: events", "server: new_events"))
    fetch()
    assert rows(COUNTS) == [(120 + messages, 120 + messages)]


def test_pages_of_which_nobody_wrote_down_the_topic_match_any(topic: KafkaTopic, monkeypatch: pytest.MonkeyPatch) -> None:
    """As brokers and releases did that told no id."""
    from lakehouse.ingest.sources import kafka_client

    produce(topic, events(range(120)))
    with monkeypatch.context() as silent:
        silent.setattr(kafka_client.Client, "topic_id", lambda _: "")
        fetch()
    produce(topic, events(range(120, 240)))
    fetch()
    assert rows(COUNTS) == [(240, 240)]


def _make_anew(topic: KafkaTopic) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": topic.address})
    admin.delete_topics([topic.name])[topic.name].result(timeout=60)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            admin.create_topics([NewTopic(topic.name, num_partitions=12, replication_factor=1)])[topic.name].result(timeout=60)
            break
        except KafkaException:
            # The old one is still going.
            time.sleep(0.5)


@pytest.mark.parametrize(
    ("change", "found"), [(("TOPIC", "no-such-topic"), "does not exist"), (("HOST", "127.0.0.1:1"), "can't be reached")]
)
def test_what_is_wrong_is_told(topic: KafkaTopic, home: Path, change: tuple[str, str], found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse.ingest.sources import kafka_client

    monkeypatch.setattr(kafka_client, "ANSWER_S", 5.0)
    declare(home, topic, change)
    assert found in fetch(code=2)["message"]


def test_a_password_opens_a_topic_and_is_never_shown(topic: KafkaTopic, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse.ingest.sources import kafka_client

    declare(home, topic, ("HOST", topic.sasl_address))
    options = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": topic.user}
    produce(topic, events(range(24)))
    with monkeypatch.context() as wrong:
        wrong.setattr(kafka_client, "ANSWER_S", 5.0)
        wrong.setenv("LAKEHOUSE_KAFKA_OPTIONS", json.dumps({**options, "sasl.password": "hunter2secret"}))
        refused = fetch(code=2)
        assert "may not be read by this user" in refused["message"]
        assert "LAKEHOUSE_KAFKA_OPTIONS" in refused["fix"]
        assert "hunter2secret" not in json.dumps(refused)
        wrong.setenv("LAKEHOUSE_KAFKA_OPTIONS", json.dumps({**options, "sasl.pasword": "hunter2secret"}))
        refused = fetch(code=2)
        assert "sasl.pasword" in refused["message"]
        assert "hunter2secret" not in json.dumps(refused)
    monkeypatch.setenv("LAKEHOUSE_KAFKA_OPTIONS", json.dumps({**options, "sasl.password": topic.password}))
    fetch()
    assert rows(COUNTS) == [(24, 24)]


def test_a_folder_of_ndjson_stands_in_for_the_topic(topic: KafkaTopic, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an environment without the topic the same contract takes the same events from its folder: the rows are the same."""
    declare(home, topic, ("format: json,", "format: json, environment: production,"))
    sent = [*events(range(200)), b'{"id": "x"}', b'{"id": 7, "user": null, "other": [1]}', b"poison"]
    produce(topic, sent)
    fetch()
    through_topic = rows("SELECT id, user FROM raw.clicks ORDER BY ALL")
    waiting = rows("SELECT level, rules, reasons FROM quarantine.clicks ORDER BY ALL")
    other = home.parent / "laptop"
    monkeypatch.setenv("LAKEHOUSE_HOME", str(other))
    monkeypatch.setenv("LAKEHOUSE_ENVIRONMENT", "laptop")
    declare(other, topic, ("format: json,", "format: json, environment: production,"))
    assert "names no database or topic" in fetch(code=2)["message"]
    (other / "landing" / "clicks").mkdir(parents=True)
    (other / "landing" / "clicks" / "events.ndjson").write_bytes(b"\n".join(sent) + b"\n")
    fetch(str(other / "landing" / "clicks"))
    assert rows("SELECT id, user FROM raw.clicks ORDER BY ALL") == through_topic
    assert [row[1] for row in rows("SELECT level, rules, reasons FROM quarantine.clicks ORDER BY ALL")] == [row[1] for row in waiting]


def test_dagster_looks_at_the_topic_and_tells_the_lag(topic: KafkaTopic) -> None:
    import dagster as dg

    from assets.datasets import build_dataset_assets
    from resources.workspace import RESOURCE_KEY, workspace_resource
    from sensors.schedules import build_fetch_schedules
    from sensors.topics import build_topic_sensors

    workspace = Workspace.load()
    contract = workspace.contracts.dataset("clicks")
    resources = {RESOURCE_KEY: workspace_resource(workspace)}
    (sensor,) = build_topic_sensors([contract, workspace.contracts.dataset("commits")], workspace.settings)
    assert (sensor.name, sensor.minimum_interval_seconds) == ("clicks_topic_has_messages", 30)
    assert build_fetch_schedules([contract], workspace.settings) == []
    assets = build_dataset_assets(contract)
    with dg.DagsterInstance.ephemeral() as instance:

        def looked() -> object:
            with dg.build_sensor_context(instance=instance, resources=resources) as context:
                return sensor(context)

        assert isinstance(looked(), dg.SkipReason)
        produce(topic, [*events(range(30)), b"poison"])
        assert isinstance(looked(), dg.RunRequest)
        done = dg.materialize([assets], resources=resources, instance=instance)
        assert done.success
        (raw,) = [one for one in done.asset_materializations_for_node("ingest_clicks") if one.asset_key.path[0] == "raw"]
        assert (raw.metadata["lakehouse/lag_messages"].value, raw.metadata["lakehouse/lost_messages"].value) == (0, 0)
        assert isinstance(looked(), dg.SkipReason)


@pytest.mark.slow
def test_fetches_killed_at_random_while_messages_come(topic: KafkaTopic) -> None:
    chance = random.Random(3)
    total = 0
    for _ in range(8):
        produce(topic, events(range(total, total + 4_000)))
        total += 4_000
        running = [process(), process()]
        time.sleep(chance.random() * 8)
        for one in running:
            one.kill()
            one.wait()
    fetch()
    assert rows(COUNTS) == [(total, total)]
