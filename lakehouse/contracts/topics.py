"""The Kafka topics among a contract's `servers`: which one a dataset's rows are fetched from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.contracts.references import Blame, Place

_KNOWN = ("topic", "group")
_TOPIC = re.compile(r"^[A-Za-z0-9._-]{1,249}$")


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
        """As a part of the names of its pages: another topic or server has another."""
        return f"{re.sub(r'[^A-Za-z0-9-]', '_', self.server)}__{self.topic}"


def source_topics(parsed: Mapping[str, Any], schema: Mapping[str, Any], *, blame: Blame) -> tuple[SourceTopic, ...]:
    """Every topic that the contract names as a source.

    Raises:
        ContractError: a property is not known or has a value that it can't take, or the messages are of no format that is read.
    """
    found: list[SourceTopic] = []
    servers: list[dict[str, Any]] = list(parsed.get("servers") or ())
    for position, server in enumerate(servers):
        if server.get("type") != "kafka":
            continue
        place: Place = ("servers", position)
        properties: list[dict[str, Any]] = list(server.get("customProperties") or ())
        custom: dict[str, Any] = {str(one["property"]).removeprefix("lakehouse."): one["value"] for one in properties}
        strange = next((name for name in custom if name not in _KNOWN), None)
        if strange is not None:
            fix = "What a client needs to be let in: LAKEHOUSE_KAFKA_OPTIONS"
            raise blame(place, "has a property that is not known", expected=f"one of {', '.join(_KNOWN)}", found=strange, fix=fix)
        written = str(server.get("format", "json"))
        if written != "json":
            raise blame(place, "has messages of a format that is not read", expected="json", found=written)
        topic = str(custom.get("topic") or schema.get("physicalName") or schema["name"])
        if not _TOPIC.match(topic):
            raise blame(place, "has a topic that can't be", expected="letters, digits, dots, _ and -", found=topic)
        environment = server.get("environment")
        found.append(
            SourceTopic(
                server=str(server["server"]),
                host=str(server["host"]),
                topic=topic,
                environment=None if environment is None else str(environment),
                group=str(custom["group"]) if "group" in custom else None,
            )
        )
    return tuple(found)
