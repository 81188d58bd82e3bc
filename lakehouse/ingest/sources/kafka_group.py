"""This process as a member of a topic's consumer group, which shares the partitions out among those that read at once.

The group decides who reads what, and nothing else: where reading begins and what counts, raw's log says. So a partition that two
members take for their own while the group changes costs work and nothing more.

A member is static: one that is killed and started again takes its partitions back without a word, and the others read on. Of one that
does not come back they are taken over when its session ends.
"""

import hashlib
import socket
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts.topics import SourceTopic
from lakehouse.ingest.sources.kafka_client import Client, is_forbidden
from lakehouse.locks import LockHeld, exclusive
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import TopicPartition

SESSION_S = 10
"""A member of which nothing was heard for so long is dead."""
_POLL_S = 0.2


def group_of(topic: SourceTopic, table: str) -> str:
    """The group's name: the contract's, else one of this very table, for two tables must not share the messages of a topic.

    Args:
        topic: the topic.
        table: the address of raw.
    """
    if topic.group is not None:
        return topic.group
    place = table if "://" in table else f"{socket.gethostname()}:{table}"
    return f"lakehouse.{Path(table).name}.{hashlib.sha256(place.encode()).hexdigest()[:12]}"


class Membership:
    """A member; it answers the group from a thread of its own, so that a long ingestion does not make it look dead.

    Args:
        topic: whose partitions are shared out.
        group: its name.
        settings: what the brokers ask of a client.
        folder: where members of one home find out who is which.
        changed: set when other partitions are this member's own.

    Raises:
        SourceError: no driver, or the options can't be used.
    """

    def __init__(self, topic: SourceTopic, *, group: str, settings: Settings, folder: Path, changed: threading.Event) -> None:
        self._held = ExitStack()
        instance = f"{socket.gethostname()}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}-{self._place(topic, folder)}"
        options: dict[str, str | int | bool] = {
            "group.id": group,
            "group.instance.id": instance,
            "client.id": "lakehouse",
            "auto.offset.reset": "latest",
            # It never reads: this is for the instant between being given a partition and setting it to rest.
            "queued.max.messages.kbytes": 1024,
            "queued.min.messages": 1,
        }
        self._client = Client(topic, settings, _with_session(options))
        self._topic, self._changed = topic, changed
        self._own: frozenset[int] = frozenset()
        self._error: Exception | None = None
        self._told: dict[int, int] = {}
        self._is_over = threading.Event()
        self._client.consumer.subscribe([topic.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        self._thread = threading.Thread(target=self._answer, name=f"group of {topic.name}", daemon=True)
        self._thread.start()

    def _place(self, topic: SourceTopic, folder: Path) -> int:
        """The first number that no living process of this home has: what comes after a killed one is taken for it."""
        for number in count(1):
            with suppress(LockHeld):
                self._held.enter_context(exclusive(folder / f".{topic.slug}.member-{number:04d}.lock"))
                return number
        raise AssertionError("unreachable")

    @property
    def partitions(self) -> frozenset[int]:
        """Those that are this member's own; while the group is changing, those that were."""
        return self._own

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group how far raw is, for those who watch it with Kafka's own tools; nobody here reads it."""
        self._told = dict(offsets)

    def close(self) -> None:
        """Leave; the others take over when the session ends."""
        self._is_over.set()
        self._thread.join()
        self._client.close()
        self._held.close()

    def check(self) -> None:
        """Raise what keeps this member out of its group.

        Raises:
            SourceError: the group refuses it.
        """
        if self._error is not None:
            raise self._client.refused(self._error)

    def _answer(self) -> None:
        from confluent_kafka import KafkaException

        while not self._is_over.is_set():
            try:
                message = self._client.consumer.poll(_POLL_S)
                self._commit()
            except KafkaException as error:
                self._error = error
                return
            error = message.error() if message is not None else None
            if error is not None and is_forbidden(error):
                self._error = KafkaException(error)

    def _commit(self) -> None:
        """In the thread that polls: the client lets no other one in while it waits."""
        from confluent_kafka import KafkaException, TopicPartition

        offsets, self._told = self._told, {}
        own = self._own
        places = [TopicPartition(self._topic.topic, partition, offset) for partition, offset in offsets.items() if partition in own]
        if places:
            # While the group changes there is nobody to tell; the next batch tells more.
            with suppress(KafkaException):
                self._client.consumer.commit(offsets=places, asynchronous=True)

    def _assigned(self, _: object, given: "list[TopicPartition]") -> None:
        self._client.consumer.assign(given)
        self._client.consumer.pause(given)
        self._error = None
        self._own = frozenset(one.partition for one in given)
        self._changed.set()

    def _revoked(self, _: object, gone: "list[TopicPartition]") -> None:
        # Until the group has decided, this member goes on with what it had: others would only wait.
        self._client.consumer.unassign()


def _with_session(options: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
    return {**options, "session.timeout.ms": SESSION_S * 1000, "heartbeat.interval.ms": SESSION_S * 1000 // 4}
