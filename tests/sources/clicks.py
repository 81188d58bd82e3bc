"""A dataset that is read from a topic, and what tests do with it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from lakehouse.cli.main import app
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.servers.fixtures import KafkaTopic

CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: clicks
name: clicks
version: 1.0.0
status: active
domain: test
customProperties: [{property: lakehouse.quarantineLimit, value: 100}]
servers:
  - {server: events, type: kafka, host: "HOST", format: json, customProperties: [{property: lakehouse.topic, value: TOPIC}]}
schema:
  - name: clicks
    physicalType: table
    properties:
      - {name: id, logicalType: integer, physicalType: BIGINT, required: true}
      - {name: user, logicalType: string}
"""


def declare(home: Path, topic: KafkaTopic, *changes: tuple[str, str]) -> None:
    """The contract, for this topic, with words of it changed."""
    folder = home / "contracts" / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    text = CONTRACT
    for old, new in (*changes, ("HOST", topic.address), ("TOPIC", topic.name)):
        text = text.replace(old, new)
    (folder / "clicks.odcs.yaml").write_text(text, encoding="utf-8")


def events(numbers: Iterable[int]) -> list[bytes]:
    return [json.dumps({"id": number, "user": f"u{number % 7}"}).encode() for number in numbers]


def produce(topic: KafkaTopic, values: Sequence[bytes | None], *, partition: int | None = None) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": topic.address, "linger.ms": 5, "queue.buffering.max.messages": 2_000_000})
    for number, value in enumerate(values):
        producer.produce(topic.name, value, partition=number % topic.partitions if partition is None else partition)
        if number % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0


def run(*arguments: str, code: int = 0) -> dict[str, Any]:
    ran = CliRunner().invoke(app, [*arguments, "--json"])
    assert ran.exit_code == code, ran.output
    return json.loads(ran.stdout)


def fetch(*more: str, code: int = 0) -> dict[str, Any]:
    return run("ingest", "clicks", *(more or ("--fetch",)), code=code)


def rows(query: str) -> list[tuple[Any, ...]]:
    with Lake.from_settings(Settings.load()).connect() as session:
        return session.con.execute(query).fetchall()


def process(*arguments: str, log: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
    """`lakehouse ingest clicks ...` as a process of its own; it ends with the tests, however they end."""
    command = [sys.executable, "-m", "lakehouse", "ingest", "clicks", *(arguments or ("--fetch",)), "--json"]
    output = subprocess.DEVNULL if log is None else log.open("ab")
    try:
        return subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
    finally:
        if not isinstance(output, int):
            output.close()
