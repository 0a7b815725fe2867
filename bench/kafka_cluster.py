"""librdkafka's mock cluster, in a process of its own: it answers Kafka's protocol."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kafka_cluster() -> Iterator[str]:
    """Run a cluster for a ``with`` block; its bootstrap servers."""
    command = [sys.executable, "-m", "bench.kafka_cluster"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    from confluent_kafka import Producer

    owner = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 3, "log_level": 0})
    brokers = owner.list_topics(timeout=10).brokers.values()
    print(",".join(f"{one.host}:{one.port}" for one in brokers), flush=True)
    sys.stdin.read()
