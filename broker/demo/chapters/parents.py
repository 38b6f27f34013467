"""A parent's e-mail address: only if the agreement names it, parents were told, and they do not object."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Final

from broker.client import ContactFlags, Event, Identity
from broker.demo import story
from broker.demo.chain import Told
from broker.demo.chapters.roster import membership
from broker.demo.telling import Chapter, Year
from broker.errors import BrokerError
from broker.registry import Agreement, store
from broker.registry.registry import record_of

AGREEMENT: Final = "vwo-po-delta"
NEW_VERSION: Final = "1.1"
PATIENCE_SECONDS: Final = 30.0


async def play(year: Year) -> Chapter:
    """Before the agreement names it, after, and after an objection: the event passes each time."""
    chapter = Chapter("November", "the parents have a say")
    pupil = year.pupil(story.PO_SCHOOL, "PO", 2)
    body = membership(pupil, parent_email="ouder@mail.example")

    def member() -> Event:
        return year.event("MEMBERSHIP", pupil, body)

    said = await _school_says(year, pupil, "the parents were told, nobody objects", objection=False)
    before = await _to_publisher(year, "a parent's address, before the agreement", member())
    await _new_agreement(year)
    started = time.monotonic()
    after = await _under_new_agreement(year, member)
    seconds = time.monotonic() - started
    objection = await _school_says(year, pupil, "the parents object", objection=True)
    stopped = await _to_publisher(year, "… and after the objection", member())
    chapter.said = [
        "A pupil without school account: a parent gets the mail on how to log in.",
        "Delta's agreement does not name that address.",
        f"Then board and publisher sign version {NEW_VERSION}, which does; it held {seconds:.1f} s after the operator",
        "had applied it.",
        "Later the parents object: the address stops, the pupil's place in class still arrives.",
    ]
    chapter.shown = [said, before, after, objection, stopped]
    return chapter


async def _school_says(year: Year, pupil: story.Person, what: str, *, objection: bool) -> Told:
    flags = ContactFlags(school_account=False, parents_informed=True, objection=objection)
    return await year.chain.send(story.SIS, what, year.event("CHANGE", pupil, Identity(contact_flags=flags)))


async def _to_publisher(year: Year, what: str, event: Event) -> Told:
    return await year.chain.send(story.SIS, what, replace(event, receiver=story.PUBLISHER))


async def _new_agreement(year: Year) -> None:
    """What an operator does with `broker registry apply` after both signed."""
    operator = year.stage.connections["operator"]
    records = await store.read_records(operator)
    old = json.loads(records[f"agreement/{AGREEMENT}"])
    changed = Agreement.model_validate(
        old | {"version": NEW_VERSION, "attributes": [*old["attributes"], "parentEmail"]}
    )
    year.agreements[f"{AGREEMENT}/{NEW_VERSION}"] = changed
    reason = "bestuur-horizon en Delta: adres van een ouder, voor wie geen schoolaccount heeft"
    await store.change(operator, {f"agreement/{AGREEMENT}": record_of(changed)}, "demo", reason)


async def _under_new_agreement(year: Year, member: object) -> Told:
    """Send until the worker has read the change: it takes a moment, and nobody tells a party of it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        told = await _to_publisher(year, f"… under version {NEW_VERSION}", member())  # type: ignore[operator]
        if getattr(told.arrived[story.PUBLISHER].event.body, "parent_email", None) is not None:
            return told
        await asyncio.sleep(0.1)
    raise BrokerError(f"version {NEW_VERSION} of {AGREEMENT} does not hold", code="demo.incomplete")
