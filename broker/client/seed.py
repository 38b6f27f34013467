"""Answering a SEED_REQUEST: the current objects for a new receiver, then a statement that this was all.

The broker keeps no objects (docs/adr/0007); when a school's connection came on, it asks the sender for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from broker.client.producer import Producer
from broker.client.records import (
    Control,  # fmt: skip
    Event,
)
from broker.errors import ContractError
from broker.schemas import catalogue


def compacted(events: Iterable[Event]) -> list[Event]:
    """The newest of each business object, in the order in which these newest ones came.

    Newest is the highest revision where the family counts them, else the last. Events of a family without objects
    (facts, such as an enrolment) all stay.
    """
    kept: dict[tuple[str, Any], Event] = {}
    for event in events:
        family = catalogue().family(event.family)
        name, counter = family.object_field, family.revision_field
        key = (event.family, event.event_id if name is None else getattr(event.body, name))
        before = kept.get(key)
        if before is not None and counter is not None:
            if getattr(event.body, counter) < getattr(before.body, counter):
                continue
        kept.pop(key, None)
        kept[key] = event
    return list(kept.values())


async def answer_seed(producer: Producer, request: Event, objects: Iterable[Event]) -> int:
    """Send what a new receiver needs to begin, and SEED_DONE with the count.

    Args:
        request: the SEED_REQUEST, as `Consumer` gave it.
        objects: what the sender holds of this service for the school of the request, any number of versions each; of
            other schools or families nothing is sent.

    Returns:
        How many objects were sent.

    Raises:
        ContractError: `kind.unknown`, if the event is no SEED_REQUEST; else as `Producer.send_many`.
    """
    body = request.body
    if not isinstance(body, Control) or request.kind != "SEED_REQUEST" or body.other_party is None:
        raise ContractError("this event is no SEED_REQUEST", code="kind.unknown", field="kind")
    mine = (e for e in objects if e.family == body.service and e.school[:4] == request.school[:4])
    seed = [
        replace(event, event_id=str(uuid4()), receiver=body.other_party, sender=None, correlation=request.event_id)
        for event in compacted(mine)
    ]
    await producer.send_many(seed)
    done = Control(
        control_id=str(uuid4()),
        reason_code="CONNECTION_ACCEPTED",
        connection_id=body.connection_id,
        service=body.service,
        count=len(seed),
    )
    await producer.send(
        Event(
            kind="SEED_DONE",
            school=request.school,
            sector=request.sector,
            receiver=body.other_party,
            correlation=request.event_id,
            body=done,
        )
    )
    return len(seed)
