"""When the exchange itself fails on one event: what is written instead, so that the events behind it can go on.

The engine finds out which event it is (`broker.engine.blame`). Nothing of the steps that may have failed runs here: the
event is quarantined as it came, with an incident and a status, by what is known without looking into it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from broker.days import day_of
from broker.errors import ContractError
from broker.exchange.decide import Account
from broker.exchange.journal import Journal
from broker.exchange.keys import ExchangeKeys
from broker.exchange.model import LANE_STATE, PARKED, InputRecord, Parked, StateDelta, Step, Views
from broker.exchange.open import open_envelope
from broker.exchange.parking import Parking
from broker.exchange.state import LaneState
from broker.limits import DEFAULT, Limits


def set_aside(
    state: LaneState,
    guilty: InputRecord | Parked,
    views: Views,
    keys: ExchangeKeys,
    now_ms: int,
    next_offset: int,
    limits: Limits = DEFAULT,
    *,
    brief: bool = False,
) -> Step:
    """Decide over one event without looking into it: `internal.error`. Looks at nothing that waits: hence `more`.

    Args:
        next_offset: behind an input record; where the lane stands anyhow for a parked one.
        brief: quarantine no more than the beginning of its value, when the whole could not be written.

    Raises:
        TransientError: as `exchange`.
    """
    keys.use(views.registry)
    record = guilty.record if isinstance(guilty, Parked) else guilty
    if brief:
        limits = replace(limits, record_bytes=min(limits.record_bytes, limits.quarantined_bytes))
    delta = StateDelta(next_offset, next_parked=state.next_parked, incidents=dict(state.incidents))
    journal = Journal(state, delta, views, keys, now_ms, limits)
    account = Account.of(record, now_ms)
    # Its sender looks for the event by this id. If not even that can be read, the place will do.
    with suppress(Exception):
        account.claim_event_id(open_envelope(record, DEFAULT)[0]["event_id"])
    decision = journal.refuse(account, ContractError("the exchange failed on it", code="internal.error"))
    journal.tell(account, [decision])
    journal.window.inputs += not isinstance(guilty, Parked)
    if isinstance(guilty, Parked):
        delta.parked[guilty.number] = None
    counts = (views.partitions(topic) for topic in (LANE_STATE, PARKED))
    return Step([*journal.outgoing, *state.records(delta, *counts)], journal.decisions, delta, more=True)


def first_due(state: LaneState, views: Views, now_ms: int, limits: Limits = DEFAULT) -> int | None:
    """Number of the parked event that a call of the exchange would release or end first; None: none is due."""
    parking = Parking(state, StateDelta(state.next_offset, next_parked=state.next_parked), limits)
    ended = parking.expired(day_of(now_ms))
    if ended:
        return ended[0].number
    arrived = parking.keys() if views.arrived is None else views.arrived
    due = [key for key in arrived if parking.waits(key) and views.vault.get(key) is not None]
    return min((number for key in due for number in parking.numbers(key)), default=None)
