"""Followers of a topic that are killed, ended, started again and joined by others at random while messages come.

    python -m tests.sources.storm ADDRESS TOPIC FIRST COUNT

writes messages with the numbers from FIRST on.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.sources.clicks import process


@dataclass
class Followers:
    """Processes that follow the topic of `clicks`, each with a log of JSON lines."""

    folder: Path
    every_s: float
    with_build: bool = False
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    leaving: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    killed: int = 0
    ended: int = 0

    def start(self) -> None:
        log = self.folder / f"follower-{len(self.logs):03d}.log"
        self.logs.append(log)
        build = ["--build"] if self.with_build else []
        self.running.append(process("--follow", "--every", str(self.every_s), *build, log=log))

    def kill(self, number: int) -> None:
        """As a power cut does."""
        one = self.running.pop(number)
        one.kill()
        one.wait()
        self.killed += 1

    def end(self, number: int) -> int:
        """As who stops it does; its exit code."""
        return self.ask_to_end(number).wait(timeout=120)

    def ask_to_end(self, number: int) -> subprocess.Popen[bytes]:
        """The same, and don't wait for it."""
        one = self.running.pop(number)
        one.send_signal(signal.SIGTERM)
        self.ended += 1
        self.leaving.append(one)
        return one

    def close(self) -> None:
        for one in (*self.running, *self.leaving):
            one.kill()
            one.wait()
        self.running.clear()

    def said(self, number: int) -> list[dict[str, object]]:
        """The micro-batches that a follower told of."""
        lines = self.logs[number].read_text(encoding="utf-8", errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def storm(followers: Followers, chance: random.Random, is_done: Callable[[], bool], *, mean_s: float, limit_s: float) -> None:
    """Kill, end, start and add followers until it is done; there are two to four of them."""
    end = time.monotonic() + limit_s
    while not is_done():
        assert time.monotonic() < end, f"not done in {limit_s:.0f} s; {followers.killed} killed, {followers.ended} ended"
        pause = time.monotonic() + chance.expovariate(1 / mean_s)
        while time.monotonic() < pause and not is_done():
            time.sleep(0.25)
        if is_done():
            return
        followers.running = [one for one in followers.running if one.poll() is None]
        what = chance.random()
        if len(followers.running) > 1:
            number = chance.randrange(len(followers.running))
            if what < 0.7:
                followers.kill(number)
            elif what < 0.85:
                followers.ask_to_end(number)
        # Most come back at once; now and then one more comes.
        while len(followers.running) < (4 if what >= 0.85 else 3):
            followers.start()


def messages(first: int, count: int) -> list[bytes]:
    """About 150 bytes each; every number once."""
    return [
        b'{"id": %d, "user": "user-%05d", "kind": "%s", "at": "2026-01-01T%02d:%02d:%02d", "page": "/shop/products/%06d?from=search&ref=mail"}'
        % (
            number,
            number % 50_000,
            (b"view", b"cart", b"order")[number % 3],
            number // 3600 % 24,
            number // 60 % 60,
            number % 60,
            number % 999_983,
        )
        for number in range(first, first + count)
    ]


def write(address: str, topic: str, first: int, count: int, partitions: int = 12) -> None:
    """Send the messages to the partitions in turn."""
    from confluent_kafka import Producer

    producer = Producer(
        {"bootstrap.servers": address, "linger.ms": 20, "batch.num.messages": 20_000, "queue.buffering.max.messages": 500_000}
    )
    for start in range(first, first + count, 10_000):
        for number, value in enumerate(messages(start, min(10_000, first + count - start)), start=start):
            while True:
                try:
                    producer.produce(topic, value, partition=number % partitions)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(300) == 0


def writing(address: str, topic: str, first: int, count: int) -> subprocess.Popen[bytes]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "tests.sources.storm", address, topic, str(first), str(count)]
    return subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2], env=dict(os.environ))


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
