"""The clients of the ``kafka`` destination: their settings, and what they say while they work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from ..agent import SyncAgent
from ..errors import LiveSyncError, OptionError
from ._kafka_errors import is_for_good, meaning

logger = logging.getLogger(__name__)

Made = TypeVar("Made", Producer, Consumer, AdminClient)

#: How long a transaction may last, in milliseconds: as long as brokers allow unless told otherwise.
_TRANSACTION_MS: Final = 900_000

#: What the client library takes unless told otherwise, and the range of it.
_MESSAGE_BYTES: Final = 1_000_000
_MESSAGE_BYTES_RANGE: Final = (1_000, 1_000_000_000)

#: Settings on which the promises rest, and the names of them that the library knows too.
_OURS: Final = frozenset(
    {
        "acks",
        "bootstrap.servers",
        "delivery.report.only.error",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.idempotence",
        "enable.partition.eof",
        "isolation.level",
        "logger",
        "message.timeout.ms",
        "metadata.broker.list",
        "request.required.acks",
        "transactional.id",
    }
)

#: What the name of a setting holds whose value nobody may see.
_SECRET_WORDS: Final = ("password", "secret", "key.pem", "jaas", "oauthbearer.config")


class Complaints:
    """What clients say apart from their answers: log lines, and errors that belong to no request.

    They are called from within the calls of the client, in the thread that makes these. A client's
    log goes to ours as debug lines: what matters of it comes as errors, too.
    """

    def __init__(self, agent_id: str, secrets: tuple[str, ...]) -> None:
        self._agent_id = agent_id
        self._secrets = secrets
        self.last: KafkaError | None = None
        self.all_down = False
        self._refusal: KafkaError | None = None

    def log(self, level: int, message: str, *args: object) -> None:
        """Take a line of the client's log, as a ``logging.Logger`` does."""
        logger.debug("agent %s: %s", self._agent_id, self.hide(message % args))

    def error(self, error: KafkaError) -> None:
        """Take an error of a connection, or of the client as a whole."""
        code = error.code()
        if code == KafkaError._ALL_BROKERS_DOWN:
            self.all_down = True
            return
        self.last = error
        if is_for_good(error):
            self._refusal = error

    @property
    def refusal(self) -> KafkaError | None:
        """Why nobody lets us in; None while one broker may."""
        return self._refusal if self.all_down else None

    def forget(self) -> None:
        """Begin anew: what was said before an answer came no longer matters."""
        self.last = self._refusal = None
        self.all_down = False

    def hide(self, text: str) -> str:
        """Return ``text`` without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


@dataclass(frozen=True)
class Settings:
    """How this agent's clients are made.

    Attributes:
        servers: Where the cluster is, for people too.
        topic: Where the records go.
        timeout_s: How long an answer may take.
        given: Settings of every client, secrets among them: not to be shown.
        transaction_s: How long a transaction may last.
        message_bytes: What ``client_config`` says of the largest message; None: nothing.
        batch_bytes: What it says of the largest batch that the library makes of messages.
        complaints: Where clients say what goes wrong.
    """

    servers: str
    topic: str
    timeout_s: float
    given: Mapping[str, str] = field(repr=False)
    compression: str
    transaction_s: float
    message_bytes: int | None
    batch_bytes: int
    complaints: Complaints = field(repr=False)

    @property
    def pointer_topic(self) -> str:
        """Where the pointers are kept."""
        return f"{self.topic}.livesync"

    def failure(self, error: KafkaError) -> LiveSyncError:
        """Return what an error means for the delivery, with what was said of connections besides."""
        return meaning(error, self.complaints.last, self.servers, self.topic)

    def largest(self, of_topic: int | None) -> int:
        """Return how many bytes a message may have, given what the topic takes (None: not known)."""
        said = [size for size in (self.message_bytes, of_topic) if size is not None]
        least, most = _MESSAGE_BYTES_RANGE
        return min(most, max(least, min(said, default=_MESSAGE_BYTES)))

    def producer(self, transactional_id: str | None, largest: int) -> Producer:
        """Make a producer.

        Args:
            transactional_id: None: one that is idempotent only.
            largest: Bytes of the largest message.

        Raises:
            OptionError: The settings make no sense.
        """
        most_s = min(self.timeout_s, self.transaction_s) if transactional_id else self.timeout_s
        own: dict[str, Any] = {
            "compression.type": self.compression,
            # a batch of records is waited for as a whole, and nothing follows until it is settled
            "linger.ms": 1,
            # the Java client's: other producers of the same keys hit the same partitions
            "partitioner": "murmur2_random",
            "socket.timeout.ms": int(min(most_s, 60) * 1000),
            # a topic that is not there is told before messages time out
            "topic.metadata.propagation.max.ms": int(min(most_s / 2, 10) * 1000),
            **self.given,
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": int(most_s * 1000),
            "message.max.bytes": largest,
            "batch.size": min(largest, self.batch_bytes),
            "delivery.report.only.error": True,
        }
        if transactional_id:
            own["transactional.id"] = transactional_id
            own["transaction.timeout.ms"] = int(self.transaction_s * 1000)
        return self._make(Producer, own)

    def consumer(self) -> Consumer:
        """Make a consumer that sees what was committed, and tells the ends of partitions.

        Raises:
            OptionError: The settings make no sense.
        """
        own = {
            # else a fetch from a broker whose partitions are all at their end holds up the others
            "fetch.wait.max.ms": 10,
            # little is fetched ahead, and the next as soon as there is room for it
            "queued.max.messages.kbytes": 8 * 1024,
            "fetch.queue.backoff.ms": 5,
            "fetch.max.bytes": 8 * 1024 * 1024,
            "group.id": "livesync",  # the library wants one; no group is ever joined
            "auto.offset.reset": "earliest",
            "socket.timeout.ms": int(min(self.timeout_s, 60) * 1000),
            **self.given,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
        }
        return self._make(Consumer, own)

    def admin(self) -> AdminClient:
        """Make a client that asks for the settings of topics.

        Raises:
            OptionError: The settings make no sense.
        """
        return self._make(AdminClient, dict(self.given))

    def _make(self, kind: Callable[..., Made], own: dict[str, Any]) -> Made:
        common = {
            "bootstrap.servers": self.servers,
            "client.id": "livesync",
            "error_cb": self.complaints.error,
            "logger": self.complaints,
        }
        try:
            return kind({**common, **own})
        except (KafkaException, ValueError, TypeError) as exc:
            said = exc.args[0].str() if isinstance(exc, KafkaException) else str(exc)
            raise OptionError(
                f"the Kafka client refuses its settings: {self.complaints.hide(said)};"
                " check client_config and the other options"
            ) from None


def settings_of(agent: SyncAgent) -> Settings:
    """Return the settings that the options of ``agent`` come to.

    Raises:
        OptionError: They make no sense, a file cannot be read, or a secret is not there.
    """
    values = agent.values
    given = {} if values["client_config"] is None else read_properties(values["client_config"])
    given |= _security(agent)
    secrets = [
        value
        for name, value in given.items()
        if value and any(word in name for word in _SECRET_WORDS) and not name.endswith(".location")
    ]
    hidden = tuple(sorted(secrets, key=len, reverse=True))
    return Settings(
        servers=values["bootstrap_servers"],
        topic=values["topic"],
        timeout_s=values["timeout_s"],
        compression=values["compression"],
        transaction_s=_number(given, "transaction.timeout.ms", _TRANSACTION_MS) / 1000,
        message_bytes=_number(given, "message.max.bytes", 0) or None,
        batch_bytes=_number(given, "batch.size", _MESSAGE_BYTES),
        given=given,
        complaints=Complaints(agent.id, hidden),
    )


def _security(agent: SyncAgent) -> dict[str, str]:
    """Return the settings of the options that say who we are."""
    values = agent.values
    protocol, username = values["security_protocol"], values["username"]
    if (username is None) != (values["password"] is None):
        raise OptionError("options username and password go together")
    if username is not None and not (protocol or "sasl_ssl").startswith("sasl_"):
        raise OptionError(
            f"option security_protocol: {protocol} sends no user and password; sasl_ssl or sasl_plaintext do"
        )
    named = {
        "security.protocol": protocol or ("sasl_ssl" if username is not None else None),
        "sasl.mechanism": values["sasl_mechanism"] or ("PLAIN" if username is not None else None),
        "sasl.username": username,
        "sasl.password": agent.secret("password"),
    }
    return {name: value for name, value in named.items() if value is not None}


def read_properties(path: str) -> dict[str, str]:
    """Return what a file says, a line each: ``name=value``; ``#`` begins a line that is a comment.

    Raises:
        OptionError: It cannot be read, or sets what is not to be set.
    """
    try:
        with open(path, encoding="utf-8") as lines:
            text = lines.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise OptionError(f"option client_config: {path} cannot be read: {exc}") from exc
    given: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(("#", "!")):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name:
            # the line itself may be a secret
            raise OptionError(f"option client_config: line {number} of {path} is not name=value")
        if name in _OURS or name.startswith("on_") or name.endswith("_cb"):
            raise OptionError(f"option client_config: {name} is set by livesync; remove it from {path}")
        given[name] = value
    return given


def _number(given: dict[str, str], name: str, default: int) -> int:
    value = given.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise OptionError(f"option client_config: {name} is a whole number above 0")
    return int(value)
