"""Closing the difference between the topics, rights and quotas that should be there and those that are (`changes`).

Topics are created and their configuration is changed; they are never deleted and never shrink. Rights
are different: one that should not be there is taken away, since a withdrawn right that lingers is a leak.
confluent-kafka does the work: aiokafka has no calls for ACLs, SCRAM users or incremental configuration; for
quotas neither has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from broker.errors import ConfigError, TransientError
from broker.kafka.access import AclSpec
from broker.kafka.bindings import any_acl, as_binding, as_filter
from broker.kafka.changes import Change, acl_changes, quota_changes, topic_changes
from broker.kafka.confluent import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import explain
from broker.kafka.quota_requests import alter_quotas, describe_quotas, not_allowed
from broker.kafka.quotas import Quota
from broker.kafka.topics import TopicSpec

REQUEST_TIMEOUT_S: Final = 15.0
VISIBLE_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.02
BATCH: Final = 200  # topics a request: a country has about 1,000
SCRAM_ITERATIONS: Final = 8_192


class Admin:
    """Administers one cluster. Every method blocks until Kafka has answered; reads lag writes, so all poll.

    Raises:
        ConfigError: Kafka refuses; the text says what and what to do.
        TransientError: Kafka does not answer in time.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self.connection = connection
        self._hopeless = False
        # Its log goes to standard error in a form of its own; what matters comes as an exception.
        settings: dict[str, Any] = {"log_level": 0, "reconnect.backoff.max.ms": 500, "error_cb": self._heard}
        self._client = AdminClient({**connection.confluent(), **settings})
        self._may_administer = False

    def plan(
        self,
        topics: Iterable[TopicSpec],
        acls: Collection[AclSpec] | None,
        quotas: Collection[Quota] | None = None,
    ) -> list[Change]:
        """Lists the differences: topics, rights, quotas; empty when all is as it should be.

        Args:
            topics: those that should be there; others in the cluster are left alone.
            acls: all rights that should be there, of all users we manage; `None` leaves rights alone.
            quotas: all that should be there, likewise; `None` leaves quotas alone.
        """
        changes = list(self._topic_changes(list(topics)))
        if acls is not None:
            changes += acl_changes(frozenset(acls), self._bindings(any_acl()))
        if quotas is not None:
            changes += quota_changes(quotas, describe_quotas(self.connection), self._metadata().topics)
        return changes

    def apply(
        self,
        topics: Iterable[TopicSpec],
        acls: Collection[AclSpec] | None,
        quotas: Collection[Quota] | None = None,
    ) -> list[Change]:
        """Makes what `plan` says, waits until it is visible and returns what was done.

        Drift is not among it: `plan` goes on showing it.
        """
        wanted = list(topics)
        changes = [change for change in self.plan(wanted, acls, quotas) if change.can_be_applied]
        self._create(changes)
        self._configure(changes)
        self._add_partitions(changes)
        if limits := [change.quota for change in changes if change.quota]:
            alter_quotas(self.connection, limits)
        # New rights first: a user whose rights are only written differently is not locked out in between.
        self._add_acls([change.acl for change in changes if change.kind == "add_acl" and change.acl])
        self._remove_acls([change.acl for change in changes if change.kind == "remove_acl" and change.acl])
        for there in self._everywhere() if changes else ():
            self._wait(partial(there._is_applied, wanted, acls, quotas), "the changes to be visible")
        return changes

    def _is_applied(
        self, topics: Iterable[TopicSpec], acls: Collection[AclSpec] | None, quotas: Collection[Quota] | None
    ) -> bool:
        return not any(change.can_be_applied for change in self.plan(topics, acls, quotas))

    def _everywhere(self) -> list[Admin]:
        """One for each broker that lives: each learns of a change by itself, some milliseconds apart."""
        hosts = [f"{broker.host}:{broker.port}" for broker in self._metadata().brokers.values()]
        return [self] if len(hosts) < 2 else [Admin(replace(self.connection, bootstrap=host)) for host in hosts]

    def brokers(self) -> int:
        """How many brokers the cluster has: those that live, and those that partitions have replicas on."""
        found = self._metadata()
        # One of three that is left alone must not be taken for a cluster of one.
        partitions = [partition for topic in found.topics.values() for partition in topic.partitions.values()]
        return len(set(found.brokers).union(*(partition.replicas for partition in partitions)))

    def delete_records(self, before: Mapping[tuple[str, int], int]) -> None:
        """Removes all records before these offsets, of each partition as far as Kafka lets it; then tells a refusal."""
        wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in before.items()]
        for start in range(0, len(wanted), BATCH):
            self._answers(self._client.delete_records(wanted[start : start + BATCH]), "remove decided input")

    # --- users

    def users(self) -> frozenset[str]:
        """Names of all SCRAM users."""
        self._require_rights("list the users")
        everyone = cast("Future[Any]", self._client.describe_user_scram_credentials())
        return frozenset(self._answer(everyone, "list the users"))

    def ensure_user(self, name: str, password: str) -> None:
        """Creates the user or gives it this password, and waits until it can log in."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, SCRAM_ITERATIONS)
        upsert = UserScramCredentialUpsertion(name, info, password.encode())
        self._answers(self._client.alter_user_scram_credentials([upsert]), f"set the user {name}")
        self._wait(lambda: name in self.users(), f"user {name} to be visible")
        if self.connection.insecure_plaintext:
            return
        login = replace(self.connection, username=name, password=password, mechanism="SCRAM-SHA-512")
        for there in self._everywhere():
            at = replace(login, bootstrap=there.connection.bootstrap)
            self._wait(partial(_can_log_in, at), f"user {name} to be able to log in at {at.bootstrap}")

    def remove_user(self, name: str) -> None:
        """Takes all rights from the user, then the login; does nothing when it is not there.

        In this order: deleting a user does not end its open connections, but an open connection
        without rights gets nothing any more (within 0.5 s, measured). Both are asked for before it waits for either,
        until every broker knows.
        """
        bindings = any_acl(principal=f"User:{name}")
        self._answers(self._client.delete_acls([bindings]), f"remove the rights of {name}")
        if name in self.users():
            deletion = UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_512)
            self._answers(self._client.alter_user_scram_credentials([deletion]), f"remove the user {name}")
        for there in self._everywhere():
            self._wait(partial(there._knows_nothing_of, name), f"rights and login of {name} to be gone")

    def _knows_nothing_of(self, name: str) -> bool:
        return not self._bindings(any_acl(principal=f"User:{name}")) and name not in self.users()

    # --- topics

    def _topic_changes(self, wanted: list[TopicSpec]) -> Iterator[Change]:
        present = self._metadata().topics
        configs = self._configs([spec.name for spec in wanted if spec.name in present])
        return topic_changes(wanted, present, configs)

    def _configs(self, names: list[str]) -> dict[str, dict[str, ConfigEntry]]:
        """Settings of each topic by name; not of one that the broker asked has not heard of yet."""
        found: dict[str, dict[str, ConfigEntry]] = {}
        for start in range(0, len(names), BATCH):
            resources = [ConfigResource(ResourceType.TOPIC, name) for name in names[start : start + BATCH]]
            answers = self._answers(
                self._client.describe_configs(resources),
                "read the settings of topics",
                ignore=(KafkaError.UNKNOWN_TOPIC_OR_PART,),
            )
            found |= {resource.name: entries for resource, entries in answers.items()}
        return found

    def _create(self, changes: Iterable[Change]) -> None:
        topics = [change.topic for change in changes if change.kind == "create_topic" and change.topic]
        for start in range(0, len(topics), BATCH):
            new = [
                NewTopic(t.name, num_partitions=t.partitions, replication_factor=t.replicas, config=dict(t.config))
                for t in topics[start : start + BATCH]
            ]
            self._answers(self._client.create_topics(new), "create topics", ignore=(KafkaError.TOPIC_ALREADY_EXISTS,))

    def _configure(self, changes: Iterable[Change]) -> None:
        resources = []
        for change in changes:
            if change.kind == "set_config" and change.config:
                entries = [
                    ConfigEntry(
                        name,
                        value or "",
                        incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
                    )
                    for name, value in change.config.items()
                ]
                resources.append(ConfigResource(ResourceType.TOPIC, change.target, incremental_configs=entries))
        if resources:
            self._answers(self._client.incremental_alter_configs(resources), "change the settings of topics")

    def _add_partitions(self, changes: Iterable[Change]) -> None:
        more = [
            NewPartitions(change.target, change.topic.partitions)
            for change in changes
            if change.kind == "add_partitions" and change.topic
        ]
        if more:
            self._answers(self._client.create_partitions(more), "add partitions")

    # --- rights

    def _bindings(self, matching: AclBindingFilter) -> list[AclBinding]:
        self._require_rights("read the rights")
        return cast("list[AclBinding]", self._answer(self._client.describe_acls(matching), "read the rights"))

    def _add_acls(self, acls: list[AclSpec]) -> None:
        for start in range(0, len(acls), BATCH):
            bindings = [as_binding(acl) for acl in acls[start : start + BATCH]]
            self._answers(self._client.create_acls(bindings), "give rights")

    def _remove_acls(self, acls: list[AclSpec]) -> None:
        for start in range(0, len(acls), BATCH):
            filters = [as_filter(acl) for acl in acls[start : start + BATCH]]
            self._answers(self._client.delete_acls(filters), "take rights away")

    # --- asking Kafka

    def _require_rights(self, what: str) -> None:
        """Asked first, since confluent-kafka 2.16 does not take a refusal well.

        Without the right to describe the cluster it tells an empty list of ACLs, and asked for the users it
        aborts the whole process ("munmap_chunk(): invalid pointer").
        """
        if self._may_administer:
            return
        mine = self._answer(self._client.describe_cluster(include_authorized_operations=True), what)
        self._may_administer = {AclOperation.DESCRIBE, AclOperation.ALTER} <= set(mine.authorized_operations or ())
        if not self._may_administer:
            raise not_allowed(self.connection, what)

    def _metadata(self) -> ClusterMetadata:
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while True:
            try:
                return self._client.list_topics(timeout=1.0)
            except KafkaException as error:
                self._client.poll(0)  # has `_heard` called
                if self._hopeless or time.monotonic() > deadline:
                    raise explain(error, self.connection) from error

    def _heard(self, error: KafkaError) -> None:
        """librdkafka tries again for ever, also what no repetition helps: a refused login or certificate."""
        self._hopeless = self._hopeless or error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL)

    def _answers(self, futures: Mapping[Any, Future[Any]], what: str, ignore: tuple[int, ...] = ()) -> dict[Any, Any]:
        """Waits for all answers, so that one refusal does not hide what became of the others."""
        answers: dict[Any, Any] = {}
        failure: KafkaException | None = None
        for key, future in futures.items():
            try:
                answers[key] = future.result(REQUEST_TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() not in ignore:
                    failure = failure or error
            except TimeoutError as error:
                raise TransientError(
                    f"Kafka did not answer in time: {what}. Try again.", code="kafka.timeout"
                ) from error
        if failure is not None:
            raise self._refused(failure, what) from failure
        return answers

    def _answer(self, future: Future[Any], what: str) -> Any:
        return self._answers({what: future}, what)[what]

    def _refused(self, error: KafkaException, what: str) -> ConfigError | TransientError:
        reason: KafkaError = error.args[0]
        if reason.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION):
            return explain(error, self.connection)
        if reason.code() in (KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE, KafkaError.REQUEST_TIMED_OUT):
            return TransientError(f"Kafka did not answer in time: {what}. Try again.", code="kafka.timeout")
        if reason.code() in (KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED):
            return not_allowed(self.connection, what)
        return ConfigError(f"Kafka refuses to {what}: {reason.str()} ({reason.name()}).", code="kafka.refused")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        """Polls: a write is acknowledged 4 to 70 ms before it is visible (measured)."""
        deadline = time.monotonic() + VISIBLE_TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                raise TransientError(
                    f"Waited {VISIBLE_TIMEOUT_S:.0f} s for {what}. Kafka accepted it but does not show it; try again.",
                    code="kafka.not_visible",
                )
            time.sleep(POLL_S)


def _can_log_in(connection: KafkaConnection) -> bool:
    """A fresh client each time: one whose login failed waits before it tries again."""
    client = AdminClient({**connection.confluent(), "log_level": 0})
    try:
        client.list_topics(timeout=2)
    except KafkaException:
        return False
    return True
