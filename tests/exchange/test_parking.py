"""Events for a pupil who is not enrolled yet wait, in order, bounded, and never for ever."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from broker.client import Progress, Subject
from broker.exchange import LaneState, Outcome, Views, exchange
from broker.exchange.model import LANE_STATE, PARKED
from broker.exchange.setaside import first_due
from broker.limits import Limits
from broker.policy import Routes
from broker.policy.document import canonical
from broker.registry import Registry
from broker.wire import TRACEPARENT
from tests.exchange.world import DELTA, PORTAL, SHOP, SIS, World, enrolment, event, make_world, usage

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

LATE = Subject("PUPIL", None, (("LAS_KEY", "L0099"),))
MAYA = "https://ketenid.nl/pilot/" + "f5" * 64
DAY_MS = 86_400_000


def route_progress_to_the_shop(world: World) -> None:
    """A route that the policy does not follow: progress may not go to a shop (gate 4)."""
    routes = [
        route.model_copy(update={"kinds": (*route.kinds, "PROGRESS")})
        if (route.family, route.receiver_role) == ("usage", "SHOP") and "USE" in route.kinds
        else route
        for route in world.registry.routes
    ]
    world.registry = world.registry.with_changes({"routes/current": Routes(routes).record()})


def test_events_of_an_unknown_pupil_wait_and_come_in_order_after_the_enrolment(school: World) -> None:
    """Three events wait; the enrolment comes on the SIS's lane; the next call of this lane releases them in order."""
    decisions = school.send(DELTA, *[event(subject=LATE, body=usage(frequency=n)) for n in (1, 2, 3)])
    assert {d.outcome for d in decisions} == {Outcome.PARKED}
    assert school.delivered(PORTAL) == []
    school.send(SIS, enrolment(MAYA, "L0099"))
    school.run(DELTA)
    assert [d.subject["eck_id"] for d in school.delivered(PORTAL)] == [MAYA] * 3
    statuses = [r["outcome"] for s in school.statuses(DELTA) for r in s["results"]]
    assert statuses.count("PARKED") == 3
    assert school.state(DELTA).parked == {}


def test_a_call_releases_no_more_than_it_is_told_to_and_says_that_more_is_due(school: World) -> None:
    """None, then one at a time, in order: which one comes first is known before. So a guilty one can be found."""
    sent = [event(subject=LATE) for _ in range(2)]
    school.send(DELTA, *sent)
    school.send(SIS, enrolment(MAYA, "L0099"))
    state, keys = school.state(DELTA), school.exchange_keys
    views = Views(school.registry, school.vault, school.partitions)
    none = exchange(state, [], replace(views, released=0), keys, school.now_ms, state.next_offset)
    assert (none.decisions, none.delta.parked, none.more) == ([], {}, True)
    one = exchange(state, [], replace(views, released=1), keys, school.now_ms, state.next_offset)
    assert list(one.delta.parked) == [first_due(state, views, school.now_ms)] == [0]
    assert one.more
    state.adopt(one.delta)
    last = exchange(state, [], replace(views, released=1), keys, school.now_ms, state.next_offset)
    assert list(last.delta.parked) == [first_due(state, views, school.now_ms)] == [1]
    assert not last.more


def test_the_event_that_would_end_first_is_known_before(school: World) -> None:
    """What waited too long goes before what can go on; of what is not due, none."""
    school.send(DELTA, event(subject=LATE))
    state, views = school.state(DELTA), Views(school.registry, school.vault, school.partitions)
    assert first_due(state, views, school.now_ms) is None
    later = school.now_ms + 40 * DAY_MS
    assert first_due(state, views, later) == 0
    step = exchange(state, [], replace(views, released=1), school.exchange_keys, later, state.next_offset)
    assert [d.code for d in step.decisions] == ["parked.expired"]


def test_a_later_event_of_the_same_pupil_does_not_overtake(school: World) -> None:
    """What waits goes first, also when the enrolment and the next event come in one moment."""
    first, second = event(subject=LATE), event(subject=LATE)
    school.send(DELTA, first)
    school.send(SIS, enrolment(MAYA, "L0099"))
    school.send(DELTA, second)
    assert [d.envelope["event_id"] for d in school.delivered(PORTAL)] == [first.event_id, second.event_id]


def test_other_pupils_are_not_held_up(school: World) -> None:
    """Emma's event passes while the other waits."""
    decisions = school.send(DELTA, event(subject=LATE), event())
    assert decisions[0].outcome is Outcome.PARKED
    assert {d.outcome for d in decisions[1:]} == {Outcome.DELIVERED}


def test_a_parked_event_goes_through_all_gates_again(school: World) -> None:
    """The connection ended while it waited: it is refused for who needed one."""
    school.send(DELTA, event(subject=LATE, receiver=PORTAL))
    kept = {k: v for k, v in school.records.items() if not k.startswith("connection/")}
    school.registry = Registry.from_records(kept)
    school.send(SIS, enrolment(MAYA, "L0099"))
    assert [d.code for d in school.run(DELTA).decisions] == ["gate.connection"]
    assert school.state(DELTA).parked == {}


def test_a_parked_event_expires_with_a_decision_and_a_status(school: World) -> None:
    """After 30 days it ends, never silently (R28)."""
    school.send(DELTA, event(subject=LATE))
    school.now_ms += 31 * DAY_MS
    assert [d.outcome for d in school.run(DELTA).decisions] == [Outcome.EXPIRED]
    assert school.statuses(DELTA)[-1]["results"][0]["code"] == "parked.expired"
    assert school.run(DELTA).outgoing == []


def test_parking_is_bounded(world: World) -> None:
    """A supplier can not fill the lane with ids of nobody."""
    world = make_world(Limits(parked_per_subject=2, parked_per_lane=3))
    decisions = world.send(DELTA, *[event(subject=LATE) for _ in range(3)])
    assert [d.code for d in decisions] == ["subject.waiting", "subject.waiting", "parked.full"]
    others = [Subject("PUPIL", None, (("LAS_KEY", f"X{n}"),)) for n in range(2)]
    assert [d.code for d in world.send(DELTA, *[event(subject=s) for s in others])] == [
        "subject.waiting",
        "parked.full",
    ]


def test_state_read_back_from_kafka_is_the_state_that_was_left(school: World) -> None:
    """Take-over: window, sequence numbers and parked events come back from what the transactions wrote."""
    school.send(DELTA, *[event() for _ in range(5)], event(subject=LATE))
    left = school.state(DELTA)
    states = {
        (o.key or b"").decode(): o.value or b""
        for o in school.topic(LANE_STATE)
        if left.lane in (o.key or b"").decode()
    }
    parked = {(o.key or b"").decode(): o.value for o in school.topic(PARKED)}
    loaded = LaneState.load(left.lane, states, {k: v for k, v in parked.items() if v is not None})
    assert loaded == left


def test_a_call_without_anything_to_do_writes_nothing(school: World) -> None:
    """An idle lane makes no transaction."""
    assert school.run(DELTA).outgoing == []


def test_what_waits_has_no_final_decision_yet_and_gets_one_per_receiver(world: World) -> None:
    """The shop may not have it, and that is decided once: when the event goes on, not when it is parked (promise P1)."""
    route_progress_to_the_shop(world)
    sent = event(kind="PROGRESS", subject=LATE, body=usage(progress=Progress(status="STARTED")))
    assert [d.code for d in world.send(DELTA, sent)] == ["subject.waiting"]
    world.send(SIS, enrolment(MAYA, "L0099"))
    decisions = world.run(DELTA).decisions
    assert {(d.receiver, d.code) for d in decisions} == {(SHOP, "gate.policy"), (PORTAL, "ok")}
    of_delta = [leaf["x"] for leaf in map(json.loads, world.leaves()) if leaf["x"]["sender"] == DELTA]
    final = [(x["receiver"], x["decision"]) for x in of_delta if x["decision"] != "parked"]
    assert sorted(final) == [(PORTAL, "delivered"), (SHOP, "refused")]


def test_every_decision_that_is_audited_is_told_as_well(world: World) -> None:
    """An event that is refused for its person is refused as a whole, on audit and status alike (promise P10)."""
    route_progress_to_the_shop(world)
    decisions = world.send(DELTA, event(kind="PROGRESS", body=usage(progress=Progress(status="STARTED"))))
    assert [d.code for d in decisions] == ["subject.unknown"]
    told = [r["code"] for status in world.statuses(DELTA) for r in status["results"]]
    assert told == [json.loads(leaf)["x"]["code"] for leaf in world.leaves()] == ["subject.unknown"]


def test_events_under_several_ids_of_one_pupil_keep_their_order(world: World) -> None:
    """By LAS key, by both ids, by LAS key: the second waits behind the first, the third behind both."""
    both = Subject("PUPIL", None, (("LEERLINGNUMMER", "77"), ("LAS_KEY", "L0099")))
    sent = [event(subject=s, receiver=PORTAL) for s in (LATE, both, LATE, both)]
    for one in sent:  # in batches of their own
        world.send(DELTA, one)
    world.send(SIS, enrolment(MAYA, "L0099"))
    world.run(DELTA)
    assert [d.envelope["event_id"] for d in world.delivered(PORTAL)] == [e.event_id for e in sent]


def test_an_enrolment_in_the_same_lane_releases_before_the_next_event_of_the_batch(world: World) -> None:
    """A SIS that is a publisher as well: enrolment and events in one batch, nothing overtakes, each released once."""
    world.edit(f"party/{SIS}", roles=["SIS", "PUBLISHER"])
    for side in ("sender", "receiver"):
        link = json.loads(world.records[f"connection/po-usage-delta-portaal/{side}"])
        by = SIS if side == "sender" else PORTAL
        link |= {"id": "x", "sender": SIS, "accepted_by": by}
        world.registry = world.registry.with_changes({f"connection/x/{side}": canonical(link)})
    sent = [event(subject=LATE, receiver=PORTAL) for _ in range(3)]
    step = world.run(SIS, *[world.record(SIS, e) for e in (sent[0], sent[1], enrolment(MAYA, "L0099"), sent[2])])
    assert [d.code for d in step.decisions] == ["subject.waiting", "subject.waiting", "ok.vault", "ok", "ok", "ok"]
    assert [d.envelope["event_id"] for d in world.delivered(PORTAL)] == [e.event_id for e in sent]
    assert world.topic(PARKED) == []
    assert world.state(SIS).parked == {}
    assert world.state(SIS).waiting == {}


def test_parking_is_bounded_in_bytes(world: World) -> None:
    """Large events of nobody do not fill a worker's memory; room that comes free is used again."""
    size = len(world.record(DELTA, event(subject=LATE)).value or b"")
    world = make_world(Limits(parked_bytes_per_lane=2 * size + size // 2))
    events = [event(subject=LATE, receiver=PORTAL) for _ in range(3)]
    assert [d.code for d in world.send(DELTA, *events)] == ["subject.waiting", "subject.waiting", "parked.full"]
    assert [d.code for d in world.send(DELTA, events[2])] == ["parked.full"]
    world.send(SIS, enrolment(MAYA, "L0099"))
    again = event(subject=Subject("PUPIL", None, (("LAS_KEY", "L0098"),)), receiver=PORTAL)
    assert [d.code for d in world.send(DELTA, again)] == ["ok", "ok", "subject.waiting"]


def test_a_parked_event_that_can_not_be_read_any_more_still_expires(world: World) -> None:
    """Parked under other limits by an older version: it ends under the id of its place, and the lane goes on."""
    world.send(DELTA, event(subject=LATE))
    world.now_ms += 31 * DAY_MS
    world.limits = Limits(record_bytes=10)
    assert [d.code for d in world.run(DELTA).decisions] == ["parked.expired"]
    assert world.state(DELTA).parked == {}


def test_only_the_headers_that_open_it_are_parked(world: World) -> None:
    """Others that came in are dropped: what a sender puts in them is in clear."""
    record = world.record(DELTA, event(subject=LATE))
    world.run(DELTA, replace(record, headers=(*record.headers, ("x-leerling", b"Emma"))))
    assert b"Emma" not in b"".join(o.value or b"" for o in world.outgoing)


@pytest.mark.parametrize(("trace", "kept"), [(b"Emma de Vries", False), (TRACE, True), (TRACE + b" Emma", False)])
def test_a_trace_that_is_none_is_not_parked(world: World, trace: bytes, kept: bool) -> None:
    """It would be a text of the sender, in clear for as long as the event waits."""
    record = world.record(DELTA, event(subject=LATE))
    step = world.run(DELTA, replace(record, headers=(*record.headers, (TRACEPARENT, trace))))
    assert [d.code for d in step.decisions] == ["subject.waiting"]
    (parked,) = step.delta.parked.values()
    assert parked is not None
    assert dict(parked.record.headers).get(TRACEPARENT) == (trace if kept else None)
    assert kept or not [o for o in world.outgoing if b"Emma" in (o.value or b"")]


def test_a_call_releases_no_more_than_one_transaction_should_take() -> None:
    """Ten pupils of three events each, at most seven a call: the rest is asked for at once, and each keeps his order."""
    world = make_world(Limits(released_per_batch=7))
    pupils = [Subject("PUPIL", None, (("LAS_KEY", f"L1{n:03}"),)) for n in range(10)]
    sent = [event(subject=pupil, receiver=PORTAL) for _ in range(3) for pupil in pupils]
    world.send(DELTA, *sent)
    for n in range(10):
        world.send(SIS, enrolment(f"https://ketenid.nl/pilot/{n:0128x}", f"L1{n:03}"))
    steps = [world.run(DELTA) for _ in range(5)]
    assert [len(step.decisions) for step in steps] == [7, 7, 7, 7, 2]
    assert [step.more for step in steps] == [True] * 4 + [False]
    assert [d.envelope["event_id"] for d in world.delivered(PORTAL)] == [e.event_id for e in sent]


def test_who_is_not_released_yet_is_not_overtaken_under_another_id() -> None:
    """The publisher knows the ECK iD by now and uses it, while earlier events by the local id still wait for their turn."""
    world = make_world(Limits(released_per_batch=1))
    early = [event(subject=LATE, receiver=PORTAL) for _ in range(3)]
    world.send(DELTA, *early)
    world.send(SIS, enrolment(MAYA, "L0099"))
    late = event(subject=Subject("PUPIL", MAYA), receiver=PORTAL)
    assert [d.code for d in world.send(DELTA, late)] == ["ok", "subject.waiting"]
    while world.run(DELTA).more:
        pass
    assert [d.envelope["event_id"] for d in world.delivered(PORTAL)] == [e.event_id for e in (*early, late)]


def test_a_batch_asks_the_vault_for_nobody_who_waits_but_those_who_arrived() -> None:
    """A lane full of events for strangers costs a batch no look at each of them; without word of who came, it does."""
    world = make_world()
    strangers = [Subject("PUPIL", None, (("LAS_KEY", f"L1{n:03}"),)) for n in range(20)]
    world.send(DELTA, *[event(subject=one, receiver=PORTAL) for one in strangers])
    world.send(SIS, enrolment(), enrolment(MAYA, "L1007"))
    state, asked = world.state(DELTA), list[bytes]()
    came = next(key for key in state.waiting if key in world.vault)

    class Asked:
        def get(self, key: bytes) -> bytes | None:
            asked.append(key)
            return world.vault.get(key)

    def codes(arrived: set[bytes] | None) -> list[str]:
        asked.clear()
        views = Views(world.registry, Asked(), world.partitions, arrived)
        record = world.record(DELTA, event(receiver=PORTAL))
        step = exchange(state, [record], views, world.exchange_keys, world.now_ms, record.offset + 1, world.limits)
        return [d.code for d in step.decisions]

    assert codes(set()) == ["ok"]
    assert not state.waiting.keys() & asked
    assert codes({came, b"of another lane".ljust(32)}) == codes(None) == ["ok", "ok"]
    assert codes({came})
    assert state.waiting.keys() & asked == {came}


def test_those_who_waited_too_long_are_ended_a_transaction_at_a_time() -> None:
    """The oldest first, each told."""
    world = make_world(Limits(released_per_batch=2))
    world.send(DELTA, *[event(subject=LATE) for _ in range(5)])
    world.now_ms += 31 * DAY_MS
    assert [len(world.run(DELTA).decisions) for _ in range(4)] == [2, 2, 1, 0]
    assert world.state(DELTA).parked == {}


def test_what_is_for_the_next_school_year_waits_until_thirty_days_into_it() -> None:
    """Ordered in June for a pupil who comes in August: it is there when he comes, and ends on 31 August if he does not."""
    june = datetime(2027, 6, 15, 9, tzinfo=UTC)
    for day, outcome in ((date(2027, 8, 30), Outcome.DELIVERED), (date(2027, 9, 1), Outcome.EXPIRED)):
        world = make_world()
        world.now_ms = int(june.timestamp() * 1000)
        order = event(subject=LATE, receiver=PORTAL, created=june, school_year="2027-2028")
        assert [d.outcome for d in world.send(DELTA, order)] == [Outcome.PARKED]
        world.now_ms = int(datetime(day.year, day.month, day.day, 9, tzinfo=UTC).timestamp() * 1000)
        if outcome is Outcome.DELIVERED:
            world.send(SIS, enrolment(MAYA, "L0099", created=june))
        assert [d.outcome for d in world.run(DELTA).decisions] == [outcome]


@pytest.mark.parametrize("end", ["expires", "is refused"])
def test_that_an_event_waits_and_what_becomes_of_it_are_two_actions(school: World, end: str) -> None:
    """Each has a leaf with a span of its own, also where neither names a receiver (LDV: one line for each span)."""
    school.send(DELTA, event(subject=LATE, receiver=PORTAL))
    if end == "expires":
        school.now_ms += 31 * DAY_MS
    else:
        school.send(SIS, enrolment(MAYA, "L0099"))
        school.edit(f"party/{DELTA}", roles=["SHOP"])
    school.run(DELTA)
    lines = [json.loads(leaf) for leaf in school.leaves()]
    mine = [leaf["ldv"] for leaf in lines if leaf["x"]["in"]["topic"] == f"in.{DELTA}" and "receiver" not in leaf["x"]]
    assert len(mine) == 2
    assert len({line["span_id"] for line in mine}) == 2
    assert len({line["trace_id"] for line in mine}) == 1
