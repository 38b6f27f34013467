"""A link that a school switches on by an event is seeded, one that it switches off is silent; an ended agreement asks.

On a real Kafka, with the worker killed in between: what the broker asks of a party, it asks exactly once (adr 7).
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from broker.audit.leaf import canonical
from broker.client import (
    Connection,
    Consumer,
    Control,
    Event,
    Identity,
    Licence,
    Producer,
    Received,
    Roster,
    Subject,
    answer_seed,
    pupil,
)
from broker.demo import story
from broker.demo.stage import Stage
from broker.registry.registry import record_of
from broker.registry.store import change
from tests.e2e.watch import PATIENCE_SECONDS, outcomes, raw, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(280)]

SHOP, PORTAL, PUBLISHER, SIS = story.SHOP, story.PORTAL, story.PUBLISHER, story.SIS
OLD, NEW = "po-licence-winkel-portaal", "5eed5eed-0000-4000-8000-0000000000aa"
ROSTER = "5eed5eed-0000-4000-8000-0000000000bb"
ECK_ID, LEFT = (f"https://ketenid.nl/pilot/{four * 32}" for four in ("5eed", "1eff"))
FIRST, SECOND, THIRD, FOURTH, FIFTH = (f"5eed5eed-0000-4000-8000-00000000000{n}" for n in range(5))
ENDED = "vwo-po-portaal"


def licence(entitlement_id: str, revision: int = 1, kind: str = "") -> Event:
    """A licence of the pupil; a higher revision changes it, if nothing else is said."""
    kind = kind or ("GRANT" if revision == 1 else "CHANGE")
    begins: dict[str, Any] = {"start_date": date(2026, 8, revision)}
    stops: dict[str, Any] = {"effective_at": datetime.now(UTC), "reason_code": "ON_HOLD"}
    body = Licence(
        entitlement_id=entitlement_id, revision=revision, product_id=story.BOOK, entitlement_type="SCHOOL_INDIVIDUAL",
        **(begins if kind in ("GRANT", "CHANGE") else stops),
    )  # fmt: skip
    return Event(kind=kind, school=story.PO_SCHOOL, sector="PO", subject=pupil(eck_id=ECK_ID), body=body)


def link(kind: str, connection_id: str, **changes: str) -> Event:
    """The school's word on the link from shop to portal, for both sides."""
    values = {"sender": SHOP, "receiver": PORTAL, "service": "licence", "process": "BESTELLEN_LEVEREN"} | changes
    body = Connection(connection_id=connection_id, side="BOTH", **values)
    return Event(kind=kind, school=story.PO_SCHOOL, sector="PO", body=body)


def roster(kind: str, las_key: str | None = None, **fields: Any) -> Event:
    """Something about the school's groups."""
    subject = Subject() if las_key is None else pupil(las_key=las_key)
    return Event(kind=kind, school=story.PO_SCHOOL, sector="PO", subject=subject, body=Roster(**fields))


async def say(scene: Stage, party: str, *events: Event) -> list[set[tuple[str | None, str]]]:
    """Send and wait; gives receivers and codes of each."""
    sent = await send(scene, party, list(events))
    told = await outcomes(scene, party, sent)
    return [{(r.receiver, r.code) for r in told[one.event_id][0].results} for one in sent]


async def read(
    scene: Stage, party: str, family: str, enough: Callable[[list[Received]], bool] = lambda _: True
) -> list[Received]:
    """All that a party gets of a family, once it is enough, and what comes within two seconds after."""
    found: list[Received] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    async with Consumer(scene.profile(party), family, group=f"read-{time.time_ns()}") as consumer:
        while True:
            found += [r async for r in consumer.events(idle_seconds=2.0)]
            if enough(found):
                assert consumer.gaps == []
                return found
            assert time.monotonic() < deadline, f"{len(found)} of {family} came to {party}"


def asked(kind: str, **about: Any) -> Callable[[list[Received]], list[Received]]:
    """Picks what the broker asked."""

    def pick(found: list[Received]) -> list[Received]:
        mine = [r for r in found if r.event.kind == kind]
        return [r for r in mine if all(getattr(r.event.body, name) == value for name, value in about.items())]

    return pick


def objects(found: list[Received]) -> Counter[tuple[str, str, int]]:
    """Which versions of which licences came, and how often."""
    return Counter((r.event.kind, r.event.body.entitlement_id, r.event.body.revision) for r in found)  # type: ignore[attr-defined]


async def control_log(scene: Stage, kind: str, **about: Any) -> list[dict[str, Any]]:
    """Leaves of `audit.control`."""
    read = raw(scene.connections["auditor"], lambda t: t == "audit.control")
    found = [json.loads(r.value)["control"] async for r in read]
    return [leaf for leaf in found if leaf["kind"] == kind and about.items() <= leaf.items()]


def kill(scene: Stage) -> None:
    """kill -9, and another worker in its place."""
    victim = scene.workers[-1]
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    scene.start_worker(len(scene.workers) + 1)


@pytest.fixture(scope="module", autouse=True)
def _no_surprise(scene: Stage) -> Iterator[None]:
    """Whatever happened, one worker is alive at the end: it was not killed by what it read."""
    yield
    assert scene.workers[-1].poll() is None


async def test_a_link_that_is_switched_on_is_seeded_and_one_that_is_switched_off_is_silent(scene: Stage) -> None:
    """From the school's event to the new receiver's last object, with kill -9 of the worker in between."""
    enrol = Event(
        kind="ENROL", school=story.PO_SCHOOL, sector="PO", subject=pupil(eck_id=ECK_ID, las_key="L0001"), body=Identity()
    )  # fmt: skip
    assert await say(scene, SIS, enrol, link("REVOKE", OLD)) == [
        {("vault", "ok.vault")}, {("registry", "ok.link"), (SHOP, "ok"), (PORTAL, "ok")},
    ]  # fmt: skip
    archive = [
        licence(FIRST), licence(FIRST, 2), licence(SECOND), licence(SECOND, 2, "BLOCK"),
        licence(FIFTH), licence(FIFTH, 2, "REVOKE"),
    ]  # fmt: skip
    said = await say(scene, SHOP, *archive)
    for told, event in zip(said, archive, strict=True):  # blocks go another way, and what closes something still passes
        assert told == {(PUBLISHER, "ok")} | ({(PORTAL, "ok")} if event.kind in ("BLOCK", "REVOKE") else set())

    assert ("registry", "ok.link") in (await say(scene, SIS, link("ACCEPT", NEW)))[0]
    kill(scene)
    request = asked("SEED_REQUEST", connection_id=NEW)
    (first,) = request(await read(scene, SHOP, "control", lambda found: bool(request(found))))
    assert (first.event.sender, first.event.school) == ("broker", story.PO_SCHOOL)
    assert (first.event.body.other_party, first.event.body.service) == (PORTAL, "licence")  # type: ignore[attr-defined]

    async with Producer(scene.profile(SHOP)) as producer:
        assert [await answer_seed(producer, first.event, archive) for _ in range(2)] == [3, 3]
    (last,) = await say(scene, SHOP, licence(THIRD))
    assert {code for _, code in last} == {"ok"}
    newest = Counter([("CHANGE", FIRST, 2), ("GRANT", SECOND, 1), ("BLOCK", SECOND, 2)])
    others = Counter([("BLOCK", SECOND, 2), ("REVOKE", FIFTH, 2), ("GRANT", THIRD, 1)])
    came = await read(scene, PORTAL, "licence", lambda found: newest + others <= objects(found))
    assert objects(came) == newest + others
    seed = [r for r in came if r.event.correlation == first.event.event_id]
    assert objects(seed) == newest, "what makes each what it is now, once, though it was answered twice"
    assert [r.event.kind for r in seed if r.event.body.entitlement_id == SECOND] == ["GRANT", "BLOCK"]  # type: ignore[attr-defined]
    done = asked("SEED_DONE", connection_id=NEW)
    (told,) = done(await read(scene, PORTAL, "control", lambda found: bool(done(found))))
    assert (told.event.body.count, told.event.sender) == (3, SHOP)  # type: ignore[attr-defined]
    assert told.event.body.control_id == first.event.body.control_id  # type: ignore[attr-defined]

    assert ("registry", "ok.link") in (await say(scene, SIS, link("REVOKE", NEW)))[0]
    assert await say(scene, SHOP, licence(FOURTH)) == [{(PUBLISHER, "ok")}]
    assert objects(await read(scene, PORTAL, "licence", lambda found: len(found) >= 6)) == newest + others
    assert len(request(await read(scene, SHOP, "control", bool))) == 1, "asked exactly once"
    assert len(await control_log(scene, "seed-requested", connection_id=NEW)) == 1


async def test_a_link_for_groups_is_seeded_with_each_group_and_pupil_once(scene: Stage) -> None:
    """The newest of each, and nobody who left."""
    way = {"sender": SIS, "service": "roster", "process": "TOEGANG"}
    archive = [
        roster("GROUP", group_id="g7", group_name="7"), roster("MEMBERSHIP", "L0001", group_ids=("g7",)),
        roster("MEMBERSHIP", "L0009", group_ids=("g7",)), roster("GROUP", group_id="g7", group_name="7a"),
        roster("LEAVE", "L0009"), roster("MEMBERSHIP", "L0001", group_ids=("g7", "g8")),
    ]  # fmt: skip
    left = Event(
        kind="ENROL", school=story.PO_SCHOOL, sector="PO", subject=pupil(eck_id=LEFT, las_key="L0009"), body=Identity()
    )  # fmt: skip
    said = await say(scene, SIS, left, *archive)
    assert all((PORTAL, "ok") in one for one in said[1:]), said
    await say(scene, SIS, link("REVOKE", "po-roster-sis-portaal", **way), link("ACCEPT", ROSTER, **way))
    request = asked("SEED_REQUEST", connection_id=ROSTER)
    (first,) = request(await read(scene, SIS, "control", lambda found: bool(request(found))))
    async with Producer(scene.profile(SIS)) as producer:
        assert await answer_seed(producer, first.event, archive) == 2

    def seed(found: list[Received]) -> list[Received]:
        return [r for r in found if r.event.correlation == first.event.event_id]

    group, membership = seed(await read(scene, PORTAL, "roster", lambda found: len(seed(found)) >= 2))
    # A group and a pupil have keys of their own, and so no order between them.
    seeded = {r.event.kind: r.event.body.group_ids for r in (group, membership)}  # type: ignore[attr-defined]
    assert seeded == {"GROUP": None, "MEMBERSHIP": ("g7", "g8")}


async def test_the_end_of_an_agreement_asks_once_to_destroy_and_what_is_confirmed_stands_beside_it(
    scene: Stage,
) -> None:
    """Also after another worker took over, and another change of the registry."""
    (agreement,) = [a for a in scene.registry.agreements_of(PORTAL) if a.id == ENDED]
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    over = record_of(agreement.model_copy(update={"valid_until": yesterday, "local_ids_until": yesterday}))
    request = asked("DESTROY_REQUEST", agreement_id=ENDED)
    assert request(await read(scene, PORTAL, "control")) == []
    await change(scene.connections["operator"], {f"agreement/{ENDED}": over}, "test", "the agreement ends")
    (first,) = request(await read(scene, PORTAL, "control", lambda found: bool(request(found))))
    assert (first.event.sender, first.event.school, first.event.agreement) == ("broker", story.PO_SCHOOL, ENDED)
    assert first.event.body.deadline >= yesterday + timedelta(days=30)  # type: ignore[attr-defined]

    scene.workers[-1].terminate()
    scene.workers[-1].wait(60)
    scene.start_worker(len(scene.workers) + 1)
    board = scene.registry.boards["bestuur-vakwijs"]
    renamed = canonical(board.model_dump(mode="json", exclude_none=True) | {"name": "Vakwijs"})
    await change(scene.connections["operator"], {f"board/{board.id}": renamed}, "test", "something else")
    body = replace(first.event.body, count=3, deadline=None)
    confirm = Event(kind="DESTROY_CONFIRM", school=story.PO_SCHOOL, sector="PO", receiver=SIS, body=body)
    assert isinstance(confirm.body, Control)
    assert await say(scene, PORTAL, confirm) == [{(SIS, "ok")}]
    assert len(request(await read(scene, PORTAL, "control", bool))) == 1
    (wanted,) = await control_log(scene, "destroy-requested", agreement_id=ENDED)
    (answered,) = await control_log(scene, "destroy-confirmed", agreement_id=ENDED)
    assert (wanted["party"], answered["party"], answered["count"]) == (PORTAL, PORTAL, 3)
