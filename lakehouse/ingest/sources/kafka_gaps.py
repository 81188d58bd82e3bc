"""Offsets of a topic behind which there is no message: those of aborted transactions, of marks, and of what was compacted away.

No page ever holds them unless a message follows that does, so raw's log can't tell that they were read. Who has read them to their end
remembers it for as long as it runs, and another one finds it out again: reading nothing costs little.
"""

import time
from collections.abc import Mapping

from lakehouse.ingest.sources.kafka_client import ANSWER_S, Client
from lakehouse.ingest.topic_pages import Offsets

_AT_ONCE = 100
_GATHER_S = 0.1


class EmptyOffsets:
    """Ranges of one topic that were read to their end and had no message, by partition."""

    def __init__(self) -> None:
        self._ranges: dict[int, list[Offsets]] = {}

    def add(self, partition: int, offsets: Offsets) -> None:
        """Remember a range."""
        kept: list[Offsets] = []
        for one in self._ranges.get(partition, ()):
            if one.begin <= offsets.end and offsets.begin <= one.end:
                offsets = Offsets(min(one.begin, offsets.begin), max(one.end, offsets.end))
            else:
                kept.append(one)
        self._ranges[partition] = [*kept, offsets]

    def check(self, partition: int, end: int) -> None:
        """Forget a partition that ends before what was read of it: it is another topic, which may have messages there."""
        if any(one.end > end for one in self._ranges.get(partition, ())):
            del self._ranges[partition]

    def count(self, partition: int, among: Offsets) -> int:
        """How many of these offsets are known to have no message."""
        ranges = self._ranges.get(partition, ())
        return sum(len(Offsets(max(one.begin, among.begin), min(one.end, among.end))) for one in ranges)

    def behind(self, partition: int, offset: int) -> int:
        """The first offset from this one on that may have a message."""
        return next((one.end for one in self._ranges.get(partition, ()) if one.begin <= offset < one.end), offset)


def without_messages(client: Client, ranges: Mapping[int, Offsets]) -> list[int]:
    """The partitions that have no message in their range; one that stays silent may have some.

    Each is read up to its first message. The partitions are this client's to assign.

    Raises:
        SourceError: the brokers refuse.
    """
    from confluent_kafka import KafkaException, TopicPartition

    left, found = dict(ranges), list[int]()
    places = [TopicPartition(client.topic.topic, partition, one.begin) for partition, one in ranges.items()]
    until = time.monotonic() + ANSWER_S
    try:
        client.consumer.assign(places)
        client.consumer.resume(places)
        while left and time.monotonic() < until:
            for message in client.consumer.consume(_AT_ONCE, timeout=_GATHER_S):
                partition, error = message.partition() or 0, message.error()
                if partition not in left or (error is not None and client.meaning(error) is None):
                    continue
                # Its end, or a message: whether it is behind the range, its offset says.
                if (message.offset() or 0) >= left.pop(partition).end:
                    found.append(partition)
                client.consumer.pause([TopicPartition(client.topic.topic, partition)])
    except KafkaException as error:
        raise client.refused(error) from error
    finally:
        client.consumer.unassign()
    return found
