"""The school switches a link off, and on again: it stops at once, and the receiver begins anew with a seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from broker.client import Connection, Control, Event, Received, Usage
from broker.client.seed import answer_seed
from broker.demo import story
from broker.demo.chain import Told
from broker.demo.story import new_id
from broker.demo.telling import Chapter, Counts, Year

LINK: Final = "po-usage-delta-portaal"


async def play(year: Year) -> Chapter:
    """REVOKE, what is refused and what still passes; ACCEPT, SEED_REQUEST, the objects, SEED_DONE."""
    chapter = Chapter("April", "a school switches a link off")
    example = next(t for t in year.usage if t.event.school == story.PO_SCHOOL and t.event.kind == "USE" and t.arrived)
    revoked = await year.chain.send(story.SIS, "the school ends usage to the portal", _link(year, "REVOKE"))
    use = _next(year, example)
    refused = await year.chain.send(story.PUBLISHER, "usage for the portal", replace(use, receiver=story.PORTAL))
    others = await year.chain.send(story.PUBLISHER, "usage for whoever may have it", replace(use, event_id=new_id()))
    retract = _next(year, example, kind="RETRACT")
    closing = await year.chain.send(story.PUBLISHER, "a mistake is taken back (closing)", retract)
    before = {r.event.event_id for r in year.chain.received[story.PUBLISHER, "control"]}
    accepted = await year.chain.send(story.SIS, "the school switches it on again", _link(year, "ACCEPT"))
    year.usage += [others, closing]
    rows = await _seed(year, before)
    chapter.said = [
        "No operator is needed: the school's own administration sends a connection event.",
        "It holds for the very next event. What was sent before can still be taken back; nothing else passes.",
    ]
    chapter.shown = [revoked, refused, others, closing, accepted]
    chapter.counts = Counts(("step", "who", "what"), rows)
    chapter.ending = [
        "Only this link was off. All that the portal had missed came with the seed, newest version of each object."
    ]
    return chapter


def _link(year: Year, kind: str) -> Event:
    body = Connection(
        connection_id=LINK, side="BOTH", sender=story.PUBLISHER, receiver=story.PORTAL, service="usage",
        process="GEBRUIK",
    )  # fmt: skip
    return year.about_nobody(kind, story.PO_SCHOOL, "PO", body)


def _next(year: Year, example: Told, kind: str = "USE") -> Event:
    """The next thing that happens with the same use: a later revision of the object."""
    body = example.event.body
    assert isinstance(body, Usage)  # noqa: S101 - for the type checker
    revision = 3 if kind == "RETRACT" else 2
    return replace(
        example.event, kind=kind, event_id=new_id(), created=year.now, sender=None,
        body=replace(body, revision=revision, usage_date=year.today),
    )  # fmt: skip


async def _seed(year: Year, before: set[str]) -> list[tuple[str, str, str]]:
    """The broker asks the sender for its objects; the sender answers with the client's own function.

    Args:
        before: ids of what the broker asked earlier: at the start of the demo all links came on.
    """

    def is_request(received: Received) -> bool:
        body = received.event.body
        return isinstance(body, Control) and body.connection_id == LINK and received.event.event_id not in before

    request = await year.chain.arrival(story.PUBLISHER, "control", is_request, "the SEED_REQUEST")
    objects = [t.event for t in year.usage if t.event.school == story.PO_SCHOOL]
    count = await answer_seed(year.chain.producer(story.PUBLISHER), request.event, objects)
    year.chain.sent[story.PUBLISHER] += count + 1
    came = await year.chain.arrivals(
        story.PORTAL, "usage", lambda r: r.event.correlation == request.event.event_id, count
    )
    done = await year.chain.arrival(
        story.PORTAL, "control", lambda r: r.event.correlation == request.event.event_id, "the SEED_DONE"
    )
    told = getattr(done.event.body, "count", None)
    return [
        ("SEED_REQUEST", f"broker → {story.PUBLISHER}", f"asks for the current objects of {LINK}"),
        ("the objects", f"{story.PUBLISHER} → {story.PORTAL}", f"{len(came)} received, out of {len(objects)} versions"),
        ("SEED_DONE", f"{story.PUBLISHER} → {story.PORTAL}", f"says that {told} were sent"),
    ]
