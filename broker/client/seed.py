"""Answering a SEED_REQUEST: the current objects for a new receiver, then a statement that this was all.

The broker keeps no objects (docs/adr/0007); when a school's connection came on, it asks the sender for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from broker.client.compaction import compacted
from broker.client.producer import Producer
from broker.client.records import Control, Event
from broker.crypto import derived_uuid
from broker.errors import ContractError
from broker.schemas import catalogue

BRIN_CHARS: Final = 4


def seed_of(request: Event, objects: Iterable[Event]) -> list[Event]:
    """What answers a SEED_REQUEST: the objects for the new receiver, and SEED_DONE with their count at the end.

    The same answer has the same event ids: who crashed and answers again sends nothing twice, since the broker then
    tells `event.duplicate`.

    Args:
        request, objects: see `answer_seed`.

    Raises:
        ContractError: `kind.unknown`, if the event is no SEED_REQUEST.
    """
    body = request.body
    if not isinstance(body, Control) or request.kind != "SEED_REQUEST" or body.other_party is None:
        raise ContractError("this event is no SEED_REQUEST", code="kind.unknown", field="kind")
    receiver, correlation = body.other_party, request.event_id
    mine = (event for event in objects if _is_asked_for(event, request, body))
    seed = [
        replace(
            event,
            event_id=derived_uuid("seed/v1", request.event_id, event.event_id),
            receiver=receiver,
            sender=None,
            correlation=correlation,
        )
        for event in compacted(mine)
    ]
    done = Control(
        control_id=body.control_id,
        reason_code=body.reason_code,
        connection_id=body.connection_id,
        service=body.service,
        count=len(seed),
    )
    last = Event(
        event_id=derived_uuid("seed-done/v1", request.event_id, *(event.event_id for event in seed)),
        kind="SEED_DONE",
        school=request.school,
        sector=request.sector,
        receiver=receiver,
        correlation=correlation,
        body=done,
    )
    return [*seed, last]


def _is_asked_for(event: Event, request: Event, asked: Control) -> bool:
    """Whether it is the sender's own word, and of the service, the school or its one location, and the products that
    are asked for; what is about no product goes with any."""
    named = event.school if len(request.school) > BRIN_CHARS else event.school[:BRIN_CHARS]
    if named != request.school or event.family != asked.service or event.sender not in (None, request.receiver):
        return False
    name = catalogue().family(event.family).product_field
    product = None if name is None else getattr(event.body, name)
    return asked.products is None or product is None or product in asked.products


async def answer_seed(producer: Producer, request: Event, objects: Iterable[Event]) -> int:
    """Send what a new receiver needs to begin, and SEED_DONE with the count.

    Args:
        request: the SEED_REQUEST, as `Consumer` gave it.
        objects: what the sender said of this service for the school of the request, any number of versions each; of
            other schools, locations, products, families or senders nothing is sent.

    Returns:
        How many events were sent; of each object as many as it takes (`compaction`).

    Raises:
        ContractError: `kind.unknown`, if the event is no SEED_REQUEST; else as `Producer.send_many`.
        TransientError: as `Producer.send_many`; answer again, nothing is delivered twice.
    """
    *seed, done = seed_of(request, objects)
    await producer.send_many(seed)
    await producer.send(done)  # after Kafka has all others
    return len(seed)
