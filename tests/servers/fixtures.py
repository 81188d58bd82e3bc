"""Fixtures of the servers; tests/conftest.py gives them to every test."""

import fcntl
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.servers.catalogue import SERVERS
from tests.servers.kafka import PARTITIONS
from tests.servers.redis import DATABASES
from tests.servers.supervisor import ANSWER

_PROJECT = Path(__file__).resolve().parent.parent.parent
_START_S = 180


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running S3 server with one bucket."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str
    bucket: str

    @property
    def options(self) -> dict[str, str]:
        """For `Lake` and `Storage`."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The settings, for a process."""
        return {
            "LAKEHOUSE_S3_ENDPOINT": self.endpoint,
            "LAKEHOUSE_S3_REGION": self.region,
            "LAKEHOUSE_S3_ACCESS_KEY_ID": self.access_key,
            "LAKEHOUSE_S3_SECRET_ACCESS_KEY": self.secret_key,
        }

    def new_root(self) -> str:
        """An address under which there is nothing yet."""
        return f"s3://{self.bucket}/{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A database of its own on a running PostgreSQL server; `user` owns it and may do everything."""

    host: str
    port: int
    user: str
    password: str
    name: str

    @property
    def url(self) -> str:
        """For `psycopg.connect`."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.name}"

    def run(self, *statements: str) -> None:
        """Each statement in a transaction of its own."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """An empty topic on a running broker; at `sasl_address` it asks for user and password (SASL PLAIN)."""

    address: str
    name: str
    partitions: int
    sasl_address: str
    user: str
    password: str


@contextmanager
def new_topic(server: dict[str, str], *, prefix: str) -> Iterator[KafkaTopic]:
    """An empty topic of 12 partitions, for as long as it is used."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": server["address"]})
    topic = KafkaTopic(name=f"{prefix}-{uuid.uuid4().hex[:12]}", partitions=PARTITIONS, **server)
    admin.create_topics([NewTopic(topic.name, num_partitions=PARTITIONS, replication_factor=1)])[topic.name].result(timeout=60)
    yield topic
    admin.delete_topics([topic.name])[topic.name].result(timeout=60)


def started(name: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The server's answer; it is started if no test of this run has asked for it before. Skips where it can't be."""
    missing = SERVERS[name].missing()
    if missing:
        packages = " ".join(sorted({need.package for need in missing}))
        pytest.skip(f"server {name}: {', '.join(need.program for need in missing)} not installed (Debian: {packages})")
    is_worker = hasattr(request.config, "workerinput")
    # All workers of a run share the folder above theirs, and the process that has started them.
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if is_worker else base) / f"server-{name}"
    run_of_tests = os.getppid() if is_worker else os.getpid()
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ANSWER).exists():
            _hold(name, folder, run_of_tests)
    answer: dict[str, str] = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    if "unavailable" in answer:
        pytest.skip(f"server {name}: {answer['unavailable']}")
    return answer


def _hold(name: str, folder: Path, run_of_tests: int) -> None:
    command = [sys.executable, "-m", "tests.servers.supervisor", name, str(folder), str(run_of_tests)]
    with (folder / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=_PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True
        )
    end = time.monotonic() + _START_S
    while not (folder / ANSWER).exists():
        if process.poll() is not None or time.monotonic() > end:
            pytest.skip(f"server {name}: its supervisor ended: {(folder / 'supervisor.log').read_text()[-500:]}")
        time.sleep(0.05)
    # It outlives this worker on purpose: the run as a whole ends it.
    process.returncode = 0


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> S3Server:
    """A real S3 server, one for the whole run."""
    return S3Server(**started("s3", request, tmp_path_factory))


@pytest.fixture
def s3_root(s3_server: S3Server) -> str:
    """An empty `s3://bucket/prefix` for one test."""
    return s3_server.new_root()


@pytest.fixture
def s3_lake(s3_server: S3Server, s3_root: str, tmp_path: Path) -> Lake:
    """A lake without tables on S3."""
    return Lake(s3_root, storage_options=s3_server.options, memory_limit="500MB", threads=2, spill_dir=tmp_path / "spill")


@pytest.fixture
def s3_settings(home: Path, s3_server: S3Server, s3_root: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a fresh home whose tables are on S3; child processes have them from the environment."""
    for name, value in {**s3_server.environment, "LAKEHOUSE_URI": s3_root}.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A real PostgreSQL server, one for the whole run: host, port, user and password."""
    pytest.importorskip("psycopg")
    return started("postgres", request, tmp_path_factory)


@pytest.fixture
def postgres_database(postgres_server: dict[str, str]) -> Iterator[PostgresDatabase]:
    """An empty database for one test."""
    server = {**postgres_server, "port": int(postgres_server["port"])}
    system = PostgresDatabase(**server, name="postgres")  # pyright: ignore[reportArgumentType]
    database = PostgresDatabase(**server, name=f"test_{uuid.uuid4().hex[:12]}")  # pyright: ignore[reportArgumentType]
    system.run(f"CREATE DATABASE {database.name}")
    yield database
    slots = "FROM pg_replication_slots WHERE database = "
    system.run(
        f"SELECT pg_terminate_backend(active_pid) {slots}'{database.name}' AND active",
        f"SELECT pg_drop_replication_slot(slot_name) {slots}'{database.name}'",
        f"DROP DATABASE {database.name} WITH (FORCE)",
    )


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A real Redis server, one for the whole run: host and port."""
    pytest.importorskip("redis")
    return started("redis", request, tmp_path_factory)


@pytest.fixture
def redis_url(redis_server: dict[str, str], worker_id: str) -> str:
    """An empty database for one test; each worker of the run has its own."""
    import redis

    number = int(worker_id.removeprefix("gw")) % DATABASES if worker_id.startswith("gw") else 0
    url = f"redis://{redis_server['host']}:{redis_server['port']}/{number}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def kafka_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A real Kafka broker, one for the whole run: its addresses, user and password."""
    pytest.importorskip("confluent_kafka")
    return started("kafka", request, tmp_path_factory)


@pytest.fixture
def kafka_topic(kafka_server: dict[str, str]) -> Iterator[KafkaTopic]:
    """An empty topic of 12 partitions for one test."""
    with new_topic(kafka_server, prefix="test") as topic:
        yield topic
