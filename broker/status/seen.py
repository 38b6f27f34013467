"""What was seen at one look: plain values. None is what the login may not see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

EVIDENCE_S: Final = 600.0  # as the alert EvidenceLate


@dataclass(frozen=True, slots=True)
class Group:
    """The workers' consumer group.

    Args:
        state: as Kafka calls it: STABLE, EMPTY, PREPARING_REBALANCING and others.
        lanes: how many input partitions each worker has, by where it runs and the end of its member id.
    """

    state: str
    lanes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """One party's input.

    Args:
        partitions: of its topic. lag: records that were not decided yet.
        overdue: of these, those that wait for more than a quarter of an hour.
    """

    partitions: int
    lag: int
    overdue: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """Kafka, and what it tells without a topic being read.

    Args:
        brokers: that live. expected: those too that partitions have replicas on.
        leaderless: partitions that nobody leads, as `topic/partition`. behind: partitions with a replica out of sync.
        group: None: not shown to this login. flows: by party; None: not shown.
    """

    brokers: int
    expected: int
    leaderless: tuple[str, ...]
    behind: int
    group: Group | None
    flows: Mapping[str, Flow] | None


@dataclass(frozen=True, slots=True)
class Log:
    """One log of the audit.

    Args:
        leaves: signed. age_s: since its last checkpoint; None: it has none.
        unsigned: offsets of its partition that are behind the last one signed; the ends of transactions count too.
        overdue: of these, those that are there for more than ten minutes.
        waits_s: for how long the first record that is not signed has been there; 0: none, or it is no overdue one;
            None: this login may not read it.
    """

    leaves: int
    age_s: float | None
    unsigned: int
    overdue: int
    waits_s: float | None


@dataclass(frozen=True, slots=True)
class Registered:
    """The registry.

    Args:
        problem: why it can not be used; None: it can.
        suspended: parties of which a record `suspension/<party>` is there.
    """

    version: str
    parties: int
    schools: int
    agreements: int
    suspended: tuple[str, ...]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What the control log has of the last 24 hours.

    Args:
        incidents: by code. lost: records of each input topic that were deleted before they were decided.
    """

    incidents: Mapping[str, int]
    lost: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """All of it.

    Args:
        at: seconds since 1970. away: why Kafka can not be asked; what it did not tell before that is None then.
        quarantined: set aside in the last 24 hours, by party and code; None: not shown.
        quarantined_lately: the same of the last half hour.
        parked: events that wait for an enrolment, by party; None: not shown.
        logs: by name; None: not shown.
    """

    at: float
    away: str | None = None
    cluster: Cluster | None = None
    registry: Registered | None = None
    quarantined: Mapping[str, Mapping[str, int]] | None = None
    quarantined_lately: Mapping[str, Mapping[str, int]] | None = None
    parked: Mapping[str, int] | None = None
    logs: Mapping[str, Log] | None = None
    told: Told | None = None
    hidden: tuple[str, ...] = field(default=())

    def json(self) -> dict[str, Any]:
        """For `--json`; stable."""
        return asdict(self)
