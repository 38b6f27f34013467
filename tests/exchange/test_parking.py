"""Events for a pupil who is not enrolled yet wait, in order, bounded, and never for ever."""

from __future__ import annotations

from broker.client import Subject
from broker.exchange import LaneState, Outcome
from broker.exchange.model import LANE_STATE, PARKED
from broker.limits import Limits
from tests.exchange.world import DELTA, PORTAL, SIS, World, enrolment, event, make_world, usage

LATE = Subject("PUPIL", None, (("LAS_KEY", "L0099"),))
MAYA = "https://ketenid.nl/pilot/" + "f5" * 64
DAY_MS = 86_400_000


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
    assert [d.outcome for d in decisions][0] is Outcome.PARKED
    assert {d.outcome for d in decisions[1:]} == {Outcome.DELIVERED}


def test_a_parked_event_goes_through_all_gates_again(school: World) -> None:
    """The connection ended while it waited: it is refused for who needed one."""
    from broker.registry import Registry

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
