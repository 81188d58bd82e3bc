"""What a client of Kafka is made of and what it says when something is wrong, without the secrets that it was given."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.contracts.topics import SourceTopic
from lakehouse.errors import MissingExtra, SourceError
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from confluent_kafka.admin import AdminClient

ANSWER_S = 30.0
"""How long a broker may take to answer."""
_VARIABLE = "LAKEHOUSE_KAFKA_OPTIONS"
# Names of options whose values may be shown.
_PLAIN = ("security.protocol", "sasl.mechanism", "sasl.mechanisms", "client.id", "group.protocol")
_NOT_OURS = ("bootstrap.servers", "group.id", "group.instance.id", "enable.auto.commit", "isolation.level")


class Client:
    """A consumer and the last error that the connection had.

    Args:
        topic: says where the brokers are.
        settings: what they ask of a client.
        options: of librdkafka, for this use.

    Raises:
        MissingExtra: no driver.
        SourceError: the options can't be used.
    """

    def __init__(self, topic: SourceTopic, settings: Settings, options: Mapping[str, str | int | bool]) -> None:
        try:
            from confluent_kafka import Consumer, KafkaException
        except ImportError as error:
            fix = "Install the extra: pip install 'lakehouse[kafka]'"
            raise MissingExtra(f"topic {topic.name}", "needs a driver", fix=fix) from error
        self.topic = topic
        self._given = client_options(settings)
        self._last: KafkaError | None = None
        self._admin: AdminClient | None = None
        ours: dict[str, str | int | bool] = {**self._given, **options, "bootstrap.servers": topic.host, "enable.auto.commit": False}
        try:
            self.consumer = Consumer({**ours, "error_cb": self._noted}, logger=_Silent())
        except (KafkaException, ValueError, TypeError) as error:
            raise SourceError(_VARIABLE, "is refused by the client", found=self._shown(str(error).splitlines()[0])) from None

    def _noted(self, error: "KafkaError") -> None:
        # A server that refuses says more than the connection that ends by it.
        if self._last is None or _kind(error) != "away" or _kind(self._last) == "away":
            self._last = error

    def partitions(self) -> list[int]:
        """Those that the topic has now.

        Raises:
            SourceError: the brokers can't be reached or refuse, or there is no such topic.
        """
        from confluent_kafka import KafkaException

        try:
            found = self.consumer.list_topics(self.topic.topic, timeout=ANSWER_S).topics[self.topic.topic]
        except KafkaException as error:
            raise self.refused(error) from error
        if found.error is not None:
            raise self.refused(KafkaException(found.error))
        return sorted(found.partitions)

    def topic_id(self) -> str:
        """What tells the topic from another one of its name, that is made anew; empty where the broker does not say.

        Raises:
            SourceError: the brokers can't be reached or refuse, or there is no such topic.
        """
        from confluent_kafka import KafkaError, KafkaException, TopicCollection
        from confluent_kafka.admin import AdminClient

        name = self.topic.topic
        try:
            if self._admin is None:
                # A consumer can't ask for it.
                options: dict[str, Any] = {**self._given, "bootstrap.servers": self.topic.host, "error_cb": self._noted}
                self._admin = AdminClient(options, logger=_Silent())
            found = self._admin.describe_topics(TopicCollection([name]), request_timeout=ANSWER_S)[name].result()
        except KafkaException as error:
            if error.args[0].code() in {KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}:  # noqa: SLF001
                return ""
            raise self.refused(error) from error
        given = found.topic_id
        is_given = given is not None and bool(given.get_most_significant_bits() or given.get_least_significant_bits())
        return str(given) if is_given else ""

    def ends(self, partition: int) -> tuple[int, int]:
        """The first offset that the partition still has, and the one behind its last.

        Raises:
            SourceError: the brokers can't be reached or refuse.
        """
        from confluent_kafka import KafkaException, TopicPartition

        try:
            return self.consumer.get_watermark_offsets(TopicPartition(self.topic.topic, partition), timeout=ANSWER_S, cached=False)
        except KafkaException as error:
            raise self.refused(error) from error

    def meaning(self, error: "KafkaError") -> Literal["end", "removed"] | None:
        """What came in the place of a message: the partition's end, offsets that are removed, or nothing that has to be acted on.

        Raises:
            SourceError: nothing can be read.
        """
        from confluent_kafka import KafkaError, KafkaException

        code = error.code()
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001
            return "end"
        if code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            return "removed"
        if not error.retriable() and code not in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}:  # noqa: SLF001
            raise self.refused(KafkaException(error))
        return None

    def refused(self, error: Exception | None) -> SourceError:
        """What is wrong, in words; None for a silence."""
        from confluent_kafka import KafkaError

        found = error.args[0] if error is not None and error.args else None
        cause = found if isinstance(found, KafkaError) else None
        if cause is None or _kind(cause) == "away":
            # What the connection has to say comes with a poll.
            self.consumer.poll(0)
            cause = self._last or cause
        said = self._shown(cause.str() if cause is not None else str(error or f"no message for {ANSWER_S:.0f} s, though there are some"))
        subject, kind = f"topic {self.topic.name} at {self.topic.host}", _kind(cause) if cause is not None else ""
        if kind == "missing":
            return SourceError(subject, "does not exist", found=said, fix="Correct lakehouse.topic in the contract, or make the topic")
        if kind == "forbidden":
            fix = f"Set {_VARIABLE} to what the brokers ask of a client, and let this user read the topic and its group"
            return SourceError(subject, "may not be read by this user", found=said, fix=fix)
        if kind == "away":
            fix = f"Is a broker running there, and does it ask for encryption or a password ({_VARIABLE})?"
            return SourceError(subject, "can't be reached", found=said, fix=fix)
        return SourceError(subject, "can't be read", found=said)

    def _shown(self, text: str) -> str:
        for name, value in self._given.items():
            if name not in _PLAIN and value:
                text = text.replace(value, "***")
        return text

    def close(self) -> None:
        """Leave the brokers."""
        self._admin = None
        self.consumer.close()


class _Silent:
    """Takes what librdkafka would print: what matters comes as an error."""

    def log(self, *_: object) -> None:
        """Nothing."""


def client_options(settings: Settings) -> Mapping[str, str]:
    """What the brokers ask of a client, by librdkafka's names.

    Raises:
        SourceError: the setting is no JSON object, or has what only the contract can say.
    """
    text = settings.kafka_options.get_secret_value() if settings.kafka_options else "{}"
    expected = '{"security.protocol": "SASL_SSL", ...}'
    try:
        options = json.loads(text)
    except ValueError:
        # Its cause would show the text.
        raise SourceError(_VARIABLE, "is no JSON", expected=expected) from None
    if not isinstance(options, dict):
        raise SourceError(_VARIABLE, "is no JSON object", expected=expected)
    ours = next((name for name in _NOT_OURS if name in options), None)
    if ours is not None:
        raise SourceError(_VARIABLE, f"may not have {ours}", fix="The contract says it, or exactly once depends on it")
    return {str(name): str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}


def is_forbidden(error: "KafkaError") -> bool:
    """The brokers know the client, and refuse it."""
    return _kind(error) == "forbidden"


def _kind(error: "KafkaError") -> str:
    from confluent_kafka import KafkaError

    code = error.code()
    if code in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}:  # noqa: SLF001
        return "missing"
    refusals = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
    if code in refusals | {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL}:  # noqa: SLF001
        return "forbidden"
    if code in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE}:  # noqa: SLF001
        return "away"
    return ""
