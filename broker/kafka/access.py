"""Who may do what on Kafka: the least each role needs, and nothing else.

Kafka denies what no rule allows. READ and WRITE include DESCRIBE, and an idempotent producer needs no
more than WRITE (Kafka 2.8 and later), so neither is listed. The topic is the proof of the sender, hence
exactly one user may write to `in.<party>`: the party.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from broker.errors import ConfigError
from broker.kafka.topics import require_party_id

Operation = Literal[
    "ALL",
    "READ",
    "WRITE",
    "CREATE",
    "DELETE",
    "ALTER",
    "DESCRIBE",
    "CLUSTER_ACTION",
    "ALTER_CONFIGS",
    "DESCRIBE_CONFIGS",
    "IDEMPOTENT_WRITE",
]
Resource = Literal["TOPIC", "GROUP", "TRANSACTIONAL_ID", "CLUSTER"]

CLUSTER_NAME: Final = "kafka-cluster"
WORKER: Final = "exchange"
#: The consumer group of the workers' Faust app; the lanes' has the name of their user.
CONTROL_GROUP: Final = f"{WORKER}-control"
OPERATOR: Final = "operator"
AUDITOR: Final = "auditor"
LOG_BUILDER: Final = "log-builder"
REMOVER: Final = "remover"
LDV_EXPORTER: Final = "ldv-exporter"
COUNT_KEEPER: Final = "count-keeper"
AUDIT_SERVICE: Final = "audit-service"
KEY_ROTATOR: Final = "key-rotator"
#: No party may have one of these names: its own consumer groups would be those of a service.
RESERVED: Final = frozenset({
    WORKER, CONTROL_GROUP, OPERATOR, AUDITOR, LOG_BUILDER, REMOVER, LDV_EXPORTER, COUNT_KEEPER, AUDIT_SERVICE,
    KEY_ROTATOR, "admin", "broker", "index",
})  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class AclSpec:
    """One permission: this user may do this with the resource of this name, or with all that begin so."""

    user: str
    resource: Resource
    name: str
    operation: Operation
    prefixed: bool = False

    def __str__(self) -> str:
        name = f"{self.name}…" if self.prefixed else self.name
        return f"{self.user} {self.operation} {self.resource.lower().replace('_', ' ')} {name}"


def party_acls(party: str) -> frozenset[AclSpec]:
    """Rights of a party; its user has the name of its id.

    Raises:
        ConfigError: the id is malformed, or is the name of a service.
    """
    require_party_id(party)
    if party in RESERVED:
        raise ConfigError(
            f"{party!r} is the name of a service, so no party can have it. Choose another id.", code="party.id"
        )
    user = _User(party)
    return (
        # Its counts are signed with its own key, so there the topic need not be the proof of the sender.
        user.topics("WRITE", f"in.{party}", "audit.counts")
        | user.topics("READ", f"status.{party}", f"quarantine.{party}", "schemas", "broker.keys")
        # With the dot: without it, out.pub would cover the topics of a party pub2.
        | user.topics("READ", f"out.{party}.", prefixed=True)
        | user.groups(party)
    )


def worker_acls(user: str = WORKER) -> frozenset[AclSpec]:
    """Rights of the exchange's workers."""
    worker = _User(user)
    return (
        worker.topics("READ", "in.", prefixed=True)
        | worker.topics("WRITE", "out.", "status.", "quarantine.", prefixed=True)
        | worker.topics("READ", "registry", "schemas", "broker.keys", "audit.control")
        # The registry: connections that parties switch on and off by events (`broker.exchange.switch`).
        | worker.topics("WRITE", "registry", "audit.events", "audit.control", "audit.index")
        | worker.topics("READ", "lane.state", "vault.identity", "parked")
        | worker.topics("WRITE", "lane.state", "vault.identity", "parked")
        | worker.groups(WORKER)
        | worker.allow("READ", "GROUP", CONTROL_GROUP)
        | worker.allow("WRITE", "TRANSACTIONAL_ID", f"{WORKER}.", prefixed=True)
    )


def operator_acls(user: str = OPERATOR) -> frozenset[AclSpec]:
    """Rights of the operator's commands: registry, keys, topics, users, quarantine; not the data of `in` and `out`.

    Whoever may alter ACLs can give himself any right. What keeps content from him is not Kafka but that
    it is sealed; and that a change of rights shows in `broker topics plan`.
    """
    operator = _User(user)
    own = ("registry", "schemas", "broker.keys", "audit.control")
    cluster: tuple[Operation, ...] = ("CREATE", "ALTER", "DESCRIBE", "ALTER_CONFIGS", "DESCRIBE_CONFIGS")
    topics: tuple[Operation, ...] = ("DESCRIBE", "ALTER", "ALTER_CONFIGS", "DESCRIBE_CONFIGS")
    return (
        operator.topics("READ", *own, "audit.checkpoints")
        | operator.topics("WRITE", *own)
        # Written to: that an entry was dropped, in one transaction with its audit.
        | operator.topics("READ", "quarantine.", prefixed=True)
        | operator.topics("WRITE", "quarantine.", prefixed=True)
        | operator.groups(OPERATOR)
        # Who works, and how far: `broker status`. It joins no group of the workers and moves no position.
        | operator.allow("DESCRIBE", "GROUP", WORKER)
        | operator.allow("DESCRIBE", "GROUP", f"{WORKER}.", prefixed=True)
        | operator.allow("WRITE", "TRANSACTIONAL_ID", f"{OPERATOR}.", prefixed=True)
        | frozenset().union(*(operator.allow(operation, "CLUSTER", CLUSTER_NAME) for operation in cluster))
        | frozenset().union(*(operator.topics(operation, "*") for operation in topics))
    )


def auditor_acls(user: str = AUDITOR) -> frozenset[AclSpec]:
    """Rights of an auditor: the audit topics, and consumer groups of his own."""
    auditor = _User(user)
    return auditor.topics("READ", "audit.", prefixed=True) | auditor.groups(AUDITOR)


def log_builder_acls(user: str = LOG_BUILDER) -> frozenset[AclSpec]:
    """Rights of the service that makes tiles and checkpoints of the audit events."""
    builder = _User(user)
    return (
        builder.topics("READ", "audit.events", "audit.control", "audit.checkpoints")
        | builder.topics("WRITE", "audit.checkpoints")
        | builder.groups(LOG_BUILDER)
        | builder.allow("WRITE", "TRANSACTIONAL_ID", f"{LOG_BUILDER}.", prefixed=True)
    )


def remover_acls(user: str = REMOVER) -> frozenset[AclSpec]:
    """Rights of the job that removes decided input: it reads where the lanes stand, and nothing that a party sent.

    Kafka asks DELETE on the topic to remove records, which allows to delete the topic too. So nobody else has it.
    """
    remover = _User(user)
    return remover.topics("READ", "lane.state") | remover.topics("DELETE", "in.", prefixed=True)


def ldv_exporter_acls(user: str = LDV_EXPORTER) -> frozenset[AclSpec]:
    """Rights of the service that brings the boards' lines to their Logboek: the leaves, and whose a school is.

    All its groups are under one user: which board's lines go where is the operator's to configure.
    """
    exporter = _User(user)
    return exporter.topics("READ", "audit.events", "registry") | exporter.groups(LDV_EXPORTER)


def count_keeper_acls(user: str = COUNT_KEEPER) -> frozenset[AclSpec]:
    """Rights of the service that makes leaves of the parties' counts; where it stands it keeps itself, in no group."""
    keeper = _User(user)
    return (
        keeper.topics("READ", "audit.counts", "registry", "counts.state")
        | keeper.topics("WRITE", "audit.control", "counts.state")
        | keeper.allow("WRITE", "TRANSACTIONAL_ID", COUNT_KEEPER)
    )


def audit_service_acls(user: str = AUDIT_SERVICE) -> frozenset[AclSpec]:
    """Rights of the service that answers boards and parties: who is who, who a pupil is, and to write who asked what.

    It reads no audit topic: the leaves come from the signed logs, the ways to them from the store. No groups.
    """
    service = _User(user)
    return service.topics("READ", "registry", "vault.identity") | service.topics("WRITE", "audit.control")


def key_rotator_acls(user: str = KEY_ROTATOR) -> frozenset[AclSpec]:
    """Rights of `broker keys rotate`: to write the vault anew, and to see what still waits for a key of the broker.

    That a key comes into use says the operator, with his own login. Nothing that parties send or get is in reach.
    """
    rotator = _User(user)
    return (
        rotator.topics("READ", "vault.identity", "lane.state", "parked")
        | rotator.topics("WRITE", "vault.identity")
        | rotator.allow("WRITE", "TRANSACTIONAL_ID", KEY_ROTATOR)
    )


def desired_acls(parties: Iterable[str]) -> frozenset[AclSpec]:
    """All rights that should be there: those of the services and of these parties.

    This is the one place: a party that is not among them has no rights, and loses what it had at the next apply.
    """
    rights = worker_acls() | operator_acls() | auditor_acls() | log_builder_acls() | remover_acls()
    rights |= ldv_exporter_acls() | count_keeper_acls() | audit_service_acls() | key_rotator_acls()
    return rights.union(*(party_acls(party) for party in parties))


def services() -> frozenset[str]:
    """The broker's own users: all that have rights when there is no party."""
    return frozenset(acl.user for acl in desired_acls(()))


@dataclass(frozen=True, slots=True)
class _User:
    name: str

    def allow(
        self, operation: Operation, resource: Resource, *names: str, prefixed: bool = False
    ) -> frozenset[AclSpec]:
        return frozenset(AclSpec(self.name, resource, name, operation, prefixed) for name in names)

    def topics(self, operation: Operation, *names: str, prefixed: bool = False) -> frozenset[AclSpec]:
        return self.allow(operation, "TOPIC", *names, prefixed=prefixed)

    def groups(self, name: str) -> frozenset[AclSpec]:
        """The group of this name, and all whose name goes on after a dot."""
        return self.allow("READ", "GROUP", name) | self.allow("READ", "GROUP", f"{name}.", prefixed=True)
