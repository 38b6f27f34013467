"""What happened, in plain values: the record of a run that the checker judges.

Every row comes from a topic, read with read_committed to its end, or from what the run itself did. Nothing here is the
broker's own idea of what it did, but for the audit and the status, which are held against the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class OneOfEach:
    """Gives the same object for equal values: a history of millions of rows names each event and place many times."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def __call__(self, value: T) -> T:
        """The first one that was equal to this."""
        found: T = self._known.setdefault(value, value)
        return found


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Input(NamedTuple):
    """A record of an input topic.

    Args:
        event: its id; None: a record that holds no event.
        pupil: whom it is about, as the run numbers them; None: nobody.
    """

    place: Place
    event: str | None
    pupil: str | None


class Output(NamedTuple):
    """A record that a receiver can read.

    Args:
        source: the input that it came of, as its leaf says; None for the broker's own.
        lane: the input partition, `topic/partition`, whose lane it says to be of. seq: its number.
        pupil: whom it is about, as the run numbers them; None: nobody.
        at_ms: its time stamp, which the worker's clock gave.
    """

    place: Place
    event: str
    sender: str
    receiver: str
    family: str
    kind: str
    lane: str
    seq: int
    pupil: str | None
    source: Place | None
    at_ms: int
    school: str | None = None


class Decision(NamedTuple):
    """A leaf of the audit.

    Args:
        source: the input it is about; None: the broker's own word to a party. receiver: None: for all.
        flow, seq: of the output, if it was delivered to a party.
    """

    source: Place | None
    event: str
    outcome: str
    receiver: str | None
    code: str
    flow: str | None = None
    seq: int | None = None


class Status(NamedTuple):
    """What a sender was told: (outcome, receiver, code) of each decision at that moment."""

    source: Place
    event: str
    results: tuple[tuple[str, str | None, str], ...]


class Quarantined(NamedTuple):
    """A record of a quarantine topic."""

    source: Place
    event: str


class Lane(NamedTuple):
    """Where a lane says it stands.

    Args:
        flows: last number of each output partition, by `topic/partition`.
        parked: how many events wait.
    """

    next_offset: int
    flows: Mapping[str, int]
    parked: int


class Withdrawal(NamedTuple):
    """A permission that was taken back, and stayed so.

    Args:
        at_ms: when that was committed.
        school: whose; None: for all schools.
        ends: where each output partition (`topic/partition`) ended for its readers when the deadline had passed; what
            was committed later lies there or behind it, whatever a clock says. None: not looked at.
        behind: ranges of offsets (the second not included) that were committed by then all the same, behind a
            transaction that was still open. None: nothing was.
    """

    sender: str
    receiver: str
    family: str
    at_ms: int
    school: str | None = None
    ends: Mapping[str, int] | None = None
    behind: Mapping[str, list[list[int]]] | None = None


class Seen(NamedTuple):
    """What somebody outside was told while the run went on: a receiver by reading, a sender by Kafka's word."""

    place: Place
    event: str


@dataclass(slots=True)
class History:
    """A whole run.

    Attributes:
        lanes: by `topic/partition` of their input.
        ends: where each input partition ended.
        seen: what receivers read. gaps: numbers that were missing when they read, in words.
        acknowledged: inputs that Kafka said to have.
        absent: pupils who never came to their school: only what is about them may still wait.
        strange: records that cannot be read as what their topic holds.
    """

    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    lanes: dict[str, Lane] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    withdrawals: list[Withdrawal] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    acknowledged: list[Seen] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    strange: list[Place] = field(default_factory=list)
