"""Apache Kafka: broker and controller in one process, of the jars that kafka_jars/pom.xml pins."""

import base64
import hashlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
import uuid
from pathlib import Path

from tests.servers.server import Need, Server, ServerUnavailable, free_ports, run

PARTITIONS = 12
_POM = Path(__file__).resolve().parent / "kafka_jars" / "pom.xml"
_FETCH_S = 600
_SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl_port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
# Who comes by the second listener says who it is.
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_reader="{password}";
log.dirs={folder}/log
num.partitions={partitions}
# There is one broker.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
offsets.topic.num.partitions=3
transaction.state.log.num.partitions=3
# Tests make the topics that they read.
auto.create.topics.enable=false
# A group need not wait for consumers that may still come.
group.initial.rebalance.delay.ms=0
"""


class KafkaServer(Server):
    """One Java process in KRaft mode."""

    name = "kafka"
    needs = (Need("java", "default-jre-headless"), Need("mvn", "maven"))
    stop_signal = signal.SIGKILL

    @classmethod
    def fetch(cls) -> None:
        """Have Maven bring the jars, once for each state of the pom."""
        jars = _jars()
        if jars.is_dir():
            return
        jars.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{jars.name}.", dir=jars.parent))
        try:
            goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={draft}"]
            run(["mvn", "-q", "-B", "-f", str(_POM), *goal], seconds=_FETCH_S)
            if not jars.is_dir():
                draft.rename(jars)
        except OSError as error:
            raise ServerUnavailable(f"the jars of Kafka can't be kept in {jars}: {error.strerror}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def start(self, folder: Path) -> dict[str, str]:
        """Format a log of its own and serve it."""
        jars = _jars()
        if not jars.is_dir():
            raise ServerUnavailable("the jars of Kafka are not here: make test-servers has Maven fetch them")
        port, controller_port, sasl_port = free_ports(3)
        settings = folder / "server.properties"
        password = secrets.token_hex(8)
        ports = {"port": port, "controller_port": controller_port, "sasl_port": sasl_port}
        text = _SETTINGS.format(folder=folder, partitions=PARTITIONS, password=password, **ports)
        settings.write_text(text, encoding="utf-8")
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "_")
        java = ["java", "-Xms256m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
        java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        run([*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(settings)], seconds=60)
        log = folder / "kafka.log"
        # Without the first compiler only: it works for as long as the tests do.
        served = [word for word in java if word != "-XX:TieredStopAtLevel=1"]
        self.run_in_background([*served, "kafka.Kafka", str(settings)], log)
        self.wait_until(lambda: _listens(port), "Kafka", log, seconds=90)
        return {"address": f"127.0.0.1:{port}", "sasl_address": f"127.0.0.1:{sasl_port}", "user": "reader", "password": password}


def _jars() -> Path:
    """The folder of the jars, named after what pins them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lakehouse-tests" / f"kafka-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:16]}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
