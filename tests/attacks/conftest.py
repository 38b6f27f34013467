"""A Kafka with parties of its own: attacks change rights, and must not disturb other tests."""

from tests.kafka.conftest import cluster

__all__ = ["cluster"]
