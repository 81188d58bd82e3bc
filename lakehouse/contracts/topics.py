"""The Kafka topics among a contract's `servers`: which one a dataset's rows are fetched from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.contracts.references import Blame, Place
from lakehouse.contracts.servers import check_apart, is_port, servers_of, text_of

_TYPES = frozenset({"kafka"})
_SECRETS = "What a client needs to be let in: LAKEHOUSE_KAFKA_OPTIONS"
_KNOWN = ("topic", "group")
_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
# A name or an IPv4 address, or an IPv6 address in brackets, and its port.
_BROKER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>.*))?")


@dataclass(frozen=True, slots=True)
class SourceTopic:
    """A topic whose messages are JSON objects.

    Attributes:
        server: as the contract calls it.
        host: bootstrap servers, `host:port` and more of them after commas.
        environment: the only one in which it is read; None is any for which there is no other.
        group: of the consumers that follow it; None is one of the table's own.
    """

    server: str
    host: str
    topic: str
    environment: str | None = None
    group: str | None = None

    @property
    def name(self) -> str:
        """For people: `topic of server`."""
        return f"{self.topic} of {self.server}"

    @property
    def slug(self) -> str:
        """As a part of the names of its pages: another topic or server of the contract has another."""
        return f"{re.sub(r'[^A-Za-z0-9-]', '_', self.server)}__{self.topic}"


def source_topics(parsed: Mapping[str, Any], schema: Mapping[str, Any], *, blame: Blame) -> tuple[SourceTopic, ...]:
    """Every topic that the contract names as a source.

    Raises:
        ContractError: a property is not known or has a value that it can't take, or the messages are of no format that is read.
    """
    found: list[SourceTopic] = []
    for place, server, custom in servers_of(parsed, _TYPES, known=_KNOWN, secrets=_SECRETS, blame=blame):
        written = str(server.get("format", "json"))
        if written != "json":
            raise blame(place, "has messages of a format that is not read", expected="json", found=written)
        topic = str(custom.get("topic") or schema.get("physicalName") or schema["name"])
        if not _TOPIC.fullmatch(topic):
            expected = "at most 249 letters, digits, dots, _ and -, and not . or .. alone"
            raise blame(place, "has a topic that can't be", expected=expected, found=topic, fix="Write the topic's name as Kafka has it")
        _check_host(str(server["host"]), (*place, "host"), blame)
        one = SourceTopic(
            server=str(server["server"]),
            host=str(server["host"]),
            topic=topic,
            environment=text_of(server, "environment"),
            group=text_of(custom, "group"),
        )
        check_apart(one, found, place=place, blame=blame)
        found.append(one)
    return tuple(found)


def _check_host(host: str, place: Place, blame: Blame) -> None:
    for one in host.split(","):
        broker = _BROKER.fullmatch(one.strip())
        if broker is None or (broker["port"] is not None and not is_port(broker["port"])):
            raise blame(
                place,
                "can't be where brokers are",
                expected="host:port, and more of them after commas; ports from 1 to 65535",
                found=repr(host),
                fix="Write the brokers' addresses without a scheme, as clients of Kafka have them in bootstrap.servers",
            )
