"""Input that was gone before it was decided over: told by its offsets on the control log, with the step over it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from broker.audit.leaf import control_leaf
from broker.exchange.model import AUDIT_CONTROL, LANE_STATE, PARKED, Outgoing, StateDelta, Step, Views
from broker.exchange.state import LaneState, lane_partition


class Gap(NamedTuple):
    """Where a lane can not go on where it stood.

    Args:
        kind: `input-lost`: Kafka removed the records from `first` up to and including `last`, and nobody decided over
            them. `input-reset`: the topic ends before the lane's position, so it is another one, or lost its end.
            The lane reads again what there is, from `first` up to and including `last`.
        next_offset: where it goes on.
    """

    kind: Literal["input-lost", "input-reset"]
    topic: str
    partition: int
    first: int
    last: int
    next_offset: int


def tell_gap(state: LaneState, gap: Gap, views: Views, now_ms: int) -> Step:
    """Move the lane over a gap, and say so in the same transaction. Looks at nothing that waits: hence `more`."""
    delta = StateDelta(gap.next_offset, next_parked=state.next_parked, incidents=dict(state.incidents))
    content = {
        "at": now_ms,
        "first": gap.first,
        "last": gap.last,
        "next_offset": gap.next_offset,
        "partition": gap.partition,
        "position": state.next_offset,
        "topic": gap.topic,
    }
    home = lane_partition(state.lane, views.partitions(AUDIT_CONTROL))
    leaf = Outgoing(AUDIT_CONTROL, home, None, control_leaf(gap.kind, content))
    counts = (views.partitions(topic) for topic in (LANE_STATE, PARKED))
    return Step([leaf, *state.records(delta, *counts)], [], delta, more=True)
