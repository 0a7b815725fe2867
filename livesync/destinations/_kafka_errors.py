"""What an error of Kafka means for the delivery: a table.

=========================================================  ===========================================
error                                                      means
=========================================================  ===========================================
fenced: a newer producer has the transactional id          the lease is lost: another runner is there
credentials, rights, TLS, an unknown topic, versions and   the service refuses us: the agent stops
settings that do not fit
a message or a batch that is too large                     see :mod:`livesync.destinations.kafka`
everything else: no answer, no leader, too few replicas    not now
=========================================================  ===========================================
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

from ..errors import LeaseLost, LiveSyncError, RetryLater, ServiceRefuses

#: Another producer with our transactional id has begun after us.
FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})

TOO_LARGE: Final = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG_SIZE}
)

_WHO: Final = "check username, password, security_protocol and sasl_mechanism"
_TOPIC: Final = (
    "create the topic {topic}, and {topic}.livesync for the pointers, both with cleanup.policy=compact;"
    " or let the brokers create topics"
)
_SETTING: Final = "check what the brokers support and client_config"

#: What no retry mends, and what to do about it.
_REMEDIES: Final = {
    KafkaError._AUTHENTICATION: _WHO,
    KafkaError.SASL_AUTHENTICATION_FAILED: _WHO,
    KafkaError.UNSUPPORTED_SASL_MECHANISM: _WHO,
    KafkaError.ILLEGAL_SASL_STATE: _WHO,
    KafkaError.SECURITY_DISABLED: _WHO,
    KafkaError._SSL: "check security_protocol, ssl.ca.location in client_config, and the certificates",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "let the user read, write, describe {topic} and {topic}.livesync",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "let the user write idempotently (IdempotentWrite, cluster)",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (
        "let the user write and describe transactional ids that begin with livesync.{topic},"
        " or set transactional=no"
    ),
    KafkaError.UNKNOWN_TOPIC_OR_PART: _TOPIC,
    KafkaError._UNKNOWN_TOPIC: _TOPIC,
    KafkaError._UNKNOWN_PARTITION: _TOPIC,
    KafkaError.TOPIC_EXCEPTION: "check the name of the topic: {topic}",
    KafkaError.INVALID_TRANSACTION_TIMEOUT: (
        "lower transaction.timeout.ms in client_config to the brokers' transaction.max.timeout.ms"
    ),
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: "choose another compression",
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT: _SETTING,
    KafkaError.UNSUPPORTED_VERSION: _SETTING,
    KafkaError._UNSUPPORTED_FEATURE: _SETTING,
    KafkaError.INVALID_CONFIG: _SETTING,
    KafkaError.INVALID_REQUIRED_ACKS: _SETTING,
    KafkaError.POLICY_VIOLATION: _SETTING,
    KafkaError._INVALID_ARG: _SETTING,
    KafkaError.INVALID_RECORD: "the topic {topic} validates records and refuses these: check its settings",
    KafkaError.MSG_SIZE_TOO_LARGE: (
        "the topic takes less than livesync knows of: set message.max.bytes in client_config to its"
        " max.message.bytes, or let the user describe the settings of {topic}"
    ),
    KafkaError.RECORD_LIST_TOO_LARGE: "raise the brokers' segment.bytes",
}


def is_for_good(error: KafkaError) -> bool:
    """Tell whether no later try helps: credentials, rights, settings."""
    return error.code() in _REMEDIES


def meaning(error: KafkaError, last: KafkaError | None, servers: str, topic: str) -> LiveSyncError:
    """Return what ``error`` means for the delivery.

    Args:
        error: Of a request.
        last: What was last said of a connection, if anything: it tells why nobody answered.
        servers: Where the cluster is.
        topic: Where the records go.
    """
    code = error.code()
    if code in FENCED:
        return LeaseLost(
            f"another runner of this agent has begun a transaction in Kafka after this one ({error.name()})"
        )
    if code in _REMEDIES:
        return ServiceRefuses(f"Kafka at {servers}: {_said(error)}: {_REMEDIES[code].format(topic=topic)}")
    why = _said(error) if last is None else f"{_said(error)} ({_said(last)})"
    return RetryLater(reason=f"Kafka at {servers}: {why}")


def _said(error: KafkaError) -> str:
    return " ".join(error.str().split())
