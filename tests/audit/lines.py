"""Lines and leaves that tests of the Logboek share: the two of the audit design, and what the exchange really writes."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from broker.audit.leaf import canonical
from broker.client import Subject
from tests.audit.test_leaf import GOLDEN_LINE
from tests.exchange.first_lane import first_lane
from tests.exchange.world import DELTA, EMMA, NOAH, PORTAL, SIS, enrolment, event, make_world, usage

# The first example line of the audit design, section 1.2: of a form that is not written any more.
RECEIVED = (
    b'{"ldv":{"attributes":{"dpl.core.data_subject_id":"pv2HXOyNuqj06ALvgBRk-A",'
    b'"dpl.core.data_subject_id_type":"https://broker.example/begrippen/subject-token/v1",'
    b'"dpl.core.foreign_operation.processor":"https://sis.school.example/",'
    b'"dpl.core.processing_activity_id":"https://register.bestuur.example/verwerkingen/lm-bestellen/3"},'
    b'"end_time":1795305600001,"name":"Bestelling ontvangen","parent_span_id":"b7ad6b7169203331",'
    b'"resource":{"attributes":{"service.name":"broker","service.version":"0.1.0"}},"span_id":"00f067aa0ba902b7",'
    b'"start_time":1795305600000,"status":"Unset","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"},"v":1,'
    b'"x":{"decision":"received","event":"order.v1","flow":"in/99XX/sis-a/BL/p3","seq":41,'
    b'"value":"wF1KQovafY8q6eqeRXB5xGXAdMdVOuxNuaRqsiDqYY0"}}'
)
DELIVERED = GOLDEN_LINE.encode()

LATE = Subject("PUPIL", None, (("LAS_KEY", "L0099"),))
DAY_MS = 86_400_000
OUTCOMES = frozenset({"delivered", "refused", "quarantined", "duplicate", "expired", "parked"})
#: What the events below say of people, in clear; none of it may be in a leaf or in what is exported.
PERSONAL = (EMMA, NOAH, "L0001", "L0002", "L0099", "182071649")


def changed(**ldv: Any) -> bytes:
    """The golden leaf with other fields in its line; None takes one away."""
    document = json.loads(DELIVERED)
    document["ldv"] = {name: value for name, value in (document["ldv"] | ldv).items() if value is not None}
    return canonical(document)


def with_attributes(**attributes: Any) -> bytes:
    """The golden leaf with other attributes, __ for a dot; None takes one away."""
    given = {name.replace("__", "."): value for name, value in attributes.items()}
    old = json.loads(DELIVERED)["ldv"]["attributes"]
    return changed(attributes={name: value for name, value in (old | given).items() if value is not None})


@cache
def written() -> tuple[bytes, ...]:
    """Leaves of real decisions of every outcome, and of a duty that the broker itself told."""
    world = make_world()
    world.send(SIS, enrolment(), enrolment(NOAH, "L0002"))
    first = event()
    world.send(DELTA, first, event(subject=Subject("PUPIL", NOAH), body=usage(frequency=3)))
    world.send(DELTA, first)
    world.send(DELTA, event(school="99ZZ"))
    world.send(DELTA, event(subject=Subject("PUPIL", None, (("LAS_KEY", "182071649"),))))
    world.run(DELTA, world.raw(DELTA, value=b"\x00\x01 no event"))
    world.send(DELTA, event(subject=LATE))
    world.now_ms += 31 * DAY_MS
    world.run(DELTA)
    world.cut_off(PORTAL, "99PA")
    world.send(DELTA, event(receiver=PORTAL))
    duties = first_lane()
    duties.run(DELTA)
    return (*world.leaves(), *duties.leaves())
