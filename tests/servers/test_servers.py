"""What the tests may expect of each server, and that none outlives them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers.catalogue import SERVERS
from tests.servers.fixtures import KafkaTopic, PostgresDatabase
from tests.servers.supervisor import ANSWER

pytestmark = pytest.mark.servers

_PROJECT = Path(__file__).resolve().parent.parent.parent


def test_postgres_asks_for_a_password_and_decodes_its_log(postgres_database: PostgresDatabase) -> None:
    import psycopg

    with psycopg.connect(postgres_database.url) as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
        connection.execute("SELECT pg_create_logical_replication_slot('left_behind', 'pgoutput')")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_database.url.replace(postgres_database.password, "wrong"))


def test_redis_begins_empty(redis_url: str) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_kafka_keeps_order_within_a_partition_and_hides_what_was_aborted(kafka_topic: KafkaTopic) -> None:
    from confluent_kafka import Consumer, Producer, TopicPartition

    servers = {"bootstrap.servers": kafka_topic.address}
    producer = Producer({**servers, "transactional.id": kafka_topic.name})
    producer.init_transactions(30)
    for is_kept in (True, False, True):
        producer.begin_transaction()
        for number in range(100):
            producer.produce(kafka_topic.name, str(number) if is_kept else "aborted", partition=number % kafka_topic.partitions)
        (producer.commit_transaction if is_kept else producer.abort_transaction)(30)
    consumer = Consumer({**servers, "group.id": "nobody", "enable.auto.commit": False, "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(kafka_topic.name, number, 0) for number in range(kafka_topic.partitions)])
    seen: list[tuple[int, int]] = []
    end = time.monotonic() + 60
    while len(seen) < 200 and time.monotonic() < end:
        seen += [(message.partition() or 0, int(message.value() or b"")) for message in consumer.consume(200, timeout=1)]
    consumer.close()
    for partition in range(kafka_topic.partitions):
        expected = list(range(partition, 100, kafka_topic.partitions))
        assert [number for of, number in seen if of == partition] == expected * 2


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_server_ends_with_a_run_that_is_killed(name: str, tmp_path: Path) -> None:
    if SERVERS[name].missing():
        pytest.skip(f"server {name} is not installed")
    run_of_tests = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    command = [sys.executable, "-m", "tests.servers.supervisor", name, str(tmp_path), str(run_of_tests.pid)]
    supervisor = subprocess.Popen(command, cwd=_PROJECT, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not (tmp_path / ANSWER).exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        started = _children(supervisor.pid)
        if "unavailable" in (answer := (tmp_path / ANSWER).read_text(encoding="utf-8")):
            pytest.skip(answer)
        assert started
        os.kill(run_of_tests.pid, signal.SIGKILL)
        run_of_tests.wait()
        assert supervisor.wait(timeout=60) == 0
        assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
        assert not list(tmp_path.glob("data-*"))
    finally:
        run_of_tests.kill()
        run_of_tests.wait()
        supervisor.wait(timeout=60)


def test_a_server_ends_with_its_supervisor(tmp_path: Path) -> None:
    if SERVERS["postgres"].missing():
        pytest.skip("server postgres is not installed")
    command = [sys.executable, "-m", "tests.servers.supervisor", "postgres", str(tmp_path), str(os.getpid())]
    supervisor = subprocess.Popen(command, cwd=_PROJECT, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (tmp_path / ANSWER).exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    started = _children(supervisor.pid)
    supervisor.kill()
    supervisor.wait()
    while [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, "the server outlives its supervisor"
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    """The process's children and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        for child in (task / "children").read_text(encoding="ascii").split():
            found += [int(child), *_children(int(child))]
    return found
