"""What goes into the exchange and what comes out: plain values, no Kafka."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from broker.registry import Registry

if TYPE_CHECKING:
    from broker.exchange.duties import Moment
    from broker.exchange.objects import Said
    from broker.exchange.windows import Window

Headers = tuple[tuple[str, bytes], ...]

# Topics that are one for all parties (design, section 4).
AUDIT_EVENTS: Final = "audit.events"
AUDIT_CONTROL: Final = "audit.control"
AUDIT_INDEX: Final = "audit.index"
VAULT: Final = "vault.identity"
LANE_STATE: Final = "lane.state"
PARKED: Final = "parked"
REGISTRY: Final = "registry"


class Outcome(StrEnum):
    """What was decided over an event for one receiver. All are final but PARKED."""

    DELIVERED = "DELIVERED"
    REFUSED = "REFUSED"
    QUARANTINED = "QUARANTINED"
    DUPLICATE = "DUPLICATE"
    EXPIRED = "EXPIRED"
    PARKED = "PARKED"


@dataclass(frozen=True, slots=True)
class InputRecord:
    """A record of `in.<party>`, as it stands on Kafka. Its repr shows where it stands, not what it holds.

    Args:
        timestamp: milliseconds since 1970, set by Kafka (`LogAppendTime`).
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Headers = field(default=(), repr=False)

    @property
    def party(self) -> str:
        """The sender: only this party may write to the topic, and that is the proof of it."""
        return self.topic.partition(".")[2]


class Outgoing(NamedTuple):
    """A record to be written in the batch's transaction."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    def __repr__(self) -> str:
        return f"Outgoing({self.topic}/{self.partition}, {len(self.value or b'')} bytes)"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision over one event for one receiver (None: for all, since nobody receives it).

    Args:
        code: from `broker.exchange.outcomes`.
        field: the schema's name of the field concerned; never a value.
        rule: the rule, agreement or connection that decided.
        dropped: of a delivery, the names of the attributes that the receiver did not get; for metrics.
    """

    outcome: Outcome
    code: str
    receiver: str | None = None
    field: str | None = None
    rule: str | None = None
    dropped: tuple[str, ...] = dataclasses.field(default=(), compare=False)


class VaultReader(Protocol):
    """The vault, as one worker sees it: keyed hash -> encrypted record."""

    def get(self, key: bytes) -> bytes | None:
        """The record's bytes, or None."""


@dataclass(frozen=True, slots=True)
class Views:
    """What the exchange may look at. Both views stand still during one call.

    Args:
        partitions: how many partitions a topic has; 0 if it does not exist (yet).
        arrived: vault keys that may have changed since the lane's last committed call, and those that it parked
            events for then. Parked events that wait for others are not looked at. None: look at all.
        released: at most so many parked events are released or ended; None: as many as the limits allow.
    """

    registry: Registry
    vault: VaultReader
    partitions: Callable[[str], int]
    arrived: Collection[bytes] | None = None
    released: int | None = None


@dataclass(slots=True)
class Step:
    """The outcome of one call: everything to write in one transaction, and how the state changes.

    Attributes:
        outgoing: in the order in which they must be written, lane state included.
        decisions: for metrics and tests, in the order of the input.
        more: there is work left that needs no input: call again after the commit, and let it look at all that waits.
    """

    outgoing: list[Outgoing]
    decisions: list[Decision]
    delta: StateDelta
    more: bool = False


@dataclass(slots=True)
class StateDelta:
    """What changes in a lane's state; kept apart so that the state itself moves only after the commit."""

    next_offset: int
    flows: dict[str, int] = field(default_factory=dict)
    delivered: list[bytes] = field(default_factory=list)
    parked: dict[int, Parked | None] = field(default_factory=dict)
    next_parked: int = 0
    incidents: dict[str, int] = field(default_factory=dict)
    objects: dict[bytes, Said] = field(default_factory=dict)
    duties: dict[str, str | None] = field(default_factory=dict)
    duties_seen: Moment | None = None
    quarantined: dict[int, None] | None = None  # all that wait after this; None: as before
    window: Window | None = None  # with what this batch wrote; None: as before
    roots: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that waits for an identity.

    Args:
        number: consecutive within the lane; the order in which events are released.
        waits_for: vault key of the id that was not known.
        expires: last day on which it waits, in days since 1970.
    """

    number: int
    waits_for: bytes = field(repr=False)
    expires: int
    record: InputRecord = field(repr=True)
