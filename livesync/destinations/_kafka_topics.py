"""The settings of topics, and the topic for the pointers."""

from __future__ import annotations

import logging
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, NewTopic  # type: ignore[attr-defined]  # as documented

from ._kafka_client import Settings

logger = logging.getLogger(__name__)

#: How long an answer may take, in seconds: what is asked here is good to know, and no more.
_ANSWER_S: Final = 5.0

#: What the topic for the pointers is made with: only the newest of an agent counts.
_FOR_POINTERS: Final = {"cleanup.policy": "compact"}


def topic_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of the topic of the records; nothing where the brokers will not tell.

    Raises:
        OptionError: The client's settings make no sense.
    """
    resource = ConfigResource(ConfigResource.Type.TOPIC, settings.topic)
    admin = settings.admin()  # kept until the answer is there: it takes its requests with it
    try:
        asked = admin.describe_configs([resource], request_timeout=min(_ANSWER_S, settings.timeout_s))
        told = asked[resource].result(settings.timeout_s + 1)
    except (KafkaException, TimeoutError) as exc:
        # there is no topic yet, or no right to ask
        logger.debug("topic %s: its settings are not known: %s", settings.topic, exc)
        return {}
    return {name: entry.value for name, entry in told.items() if entry.value is not None}


def largest_message(told: dict[str, str]) -> int | None:
    """Return what a topic of these settings takes, in bytes; None: not known."""
    value = told.get("max.message.bytes", "")
    return int(value) if value.isdigit() else None


def make_pointer_topic(settings: Settings) -> None:
    """Make the topic for the pointers where that is allowed; else it is made by being used, or is not.

    Raises:
        OptionError: The client's settings make no sense.
    """
    topic = NewTopic(settings.pointer_topic, num_partitions=1, config=dict(_FOR_POINTERS))
    admin = settings.admin()  # kept until the answer is there
    try:
        asked = admin.create_topics([topic], request_timeout=min(_ANSWER_S, settings.timeout_s))
        asked[settings.pointer_topic].result(settings.timeout_s + 1)
    except (KafkaException, TimeoutError) as exc:
        # another runner was quicker, we may not, or the brokers cannot
        logger.debug("topic %s was not made: %s", settings.pointer_topic, exc)
    else:
        logger.info("topic %s was made for the agents' pointers", settings.pointer_topic)
