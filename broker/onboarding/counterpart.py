"""The counterpart at play: it enrols the pupils of a party's sandbox and sends the party one event of each family."""

from __future__ import annotations

import time
from datetime import date
from typing import Final, NamedTuple

from broker.client import Event, Producer, Profile, StatusConsumer
from broker.client.records_material import new_id
from broker.onboarding.sandbox import COUNTERPART, Sandbox, class_list, events
from broker.policy import Routes

PATIENCE_SECONDS: Final = 60.0
UNDECIDED: Final = "undecided"


class Played(NamedTuple):
    """One event and what became of it.

    Args:
        code: of its outcome; `undecided`, if none came in time.
    """

    family: str
    kind: str
    code: str

    @property
    def ok(self) -> bool:
        """Whether it came where it should."""
        return self.code.partition(".")[0] == "ok"


async def play(profile: Profile, sandbox: Sandbox, routes: Routes, today: date) -> list[Played]:
    """Send everything, and wait for the outcome of each.

    Args:
        profile: of the counterpart.

    Raises:
        BrokerError: it can not connect, or what it has to send is not right.
    """
    enrolled = class_list(sandbox.school, _fresh) if sandbox.sis == COUNTERPART else []
    sent = [*enrolled, *events(sandbox, COUNTERPART, routes, today, _fresh)]
    if not sent:
        return []
    async with Producer(profile) as producer:
        await producer.send_many(enrolled)
        await producer.send_many(sent[len(enrolled) :])
    codes = await _outcomes(profile, sandbox, sent)
    return [Played(event.family, event.kind, codes.get(event.event_id, UNDECIDED)) for event in sent]


async def _outcomes(profile: Profile, sandbox: Sandbox, sent: list[Event]) -> dict[str, str]:
    """The last code that was told of each event."""
    wanted = {event.event_id for event in sent}
    found: dict[str, str] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    async with StatusConsumer(profile, group=f"sandbox-{sandbox.party}") as statuses:
        while wanted - found.keys() and time.monotonic() < deadline:
            async for status in statuses.statuses(idle_seconds=1.0):
                if status.event_id in wanted:
                    found[status.event_id] = status.results[-1].code
                if not wanted - found.keys():
                    break
        statuses.done()
    return found


def _fresh(_what: str) -> str:
    return new_id()
