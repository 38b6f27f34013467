"""A Kafka of its own: a rewriting looks at all of `vault.identity`, where other tests leave what nothing opens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.kafka.access import KEY_ROTATOR, OPERATOR, WORKER, desired_acls
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.topics import desired_topics, load_specs


@pytest.fixture(scope="package")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, KafkaConnection]]:
    """How worker, rotator and operator connect, each with its own rights and no more."""
    with EmbeddedKafka(tmp_path_factory.mktemp("rotation"), heap_mb=192) as kafka:
        admin = Admin(kafka.admin_connection())
        admin.apply(desired_topics(load_specs(), {}, replicas=1), desired_acls([]))
        found = {}
        for user in (WORKER, KEY_ROTATOR, OPERATOR):
            admin.ensure_user(user, f"password-of-{user}")
            found[user] = kafka.connection(user, f"password-of-{user}")
        yield found
