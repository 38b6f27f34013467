"""The pure exchange beside the same job without sealing, gates and audit.

Both take the same 300-byte usage events and make one output for one receiver. The bare job decodes envelope, subject and
body, drops the same fields, and encodes all three again: what any forwarding service would do. CPU time per event, the
two in turn, best of several rounds each.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from dataclasses import replace
from io import StringIO
from typing import Any

from broker.client import Event, Subject
from broker.schemas import catalogue
from broker.schemas.outputs import role_schema
from tests.exchange.world import DELTA, EMMA, PORTAL, SIS, World, enrolment, event, make_world, usage

BATCH = 1000
ROUNDS = 7


def run() -> dict[str, Any]:
    """Measure; gives microseconds of CPU per event, the ratio, and the profile's largest parts."""
    world = _world()
    sample = event(receiver=PORTAL, body=usage(frequency=3, group_id="7a", year_group="7"))
    bare_inputs = _bare_inputs(sample)
    ours, bare = [], []
    for _ in range(ROUNDS):
        records = [world.record(DELTA, replace(sample, event_id=_uuid(i))) for i in range(BATCH)]
        inputs = [replace(r, offset=world.state(DELTA).next_offset + i) for i, r in enumerate(records)]
        started = time.process_time()
        step = world.step(DELTA, inputs)
        ours.append((time.process_time() - started) / BATCH)
        assert {d.code for d in step.decisions} == {"ok"}
        started = time.process_time()
        _bare(bare_inputs, world)
        bare.append((time.process_time() - started) / BATCH)
    return {
        "input_bytes": len(records[0].value or b""),
        "exchange_us": min(ours) * 1e6,
        "bare_us": min(bare) * 1e6,
        "ratio": min(ours) / min(bare),
        "rounds": [[o * 1e6, b * 1e6] for o, b in zip(ours, bare, strict=True)],
        "profile": _profile(world, inputs),
    }


def _world() -> World:
    world = make_world()
    world.send(SIS, enrolment())
    return world


def _bare_inputs(sample: Event) -> list[tuple[bytes, bytes, bytes]]:
    envelope = catalogue()["envelope.v1"]
    datum = {
        "event_id": sample.event_id, "family": "usage", "kind": sample.kind, "body_schema": b"x" * 8,
        "school": sample.school, "sector": sample.sector, "school_year": "2026-2027", "sender": DELTA,
        "receiver": PORTAL, "created": 1_795_500_000_000, "correlation": None, "agreement": None,
        "subject": b"", "body": b"",
    }  # fmt: skip
    subject = catalogue()["subject.v1"].encode(Subject("PUPIL", EMMA).datum())
    body = catalogue().family("usage").schema.encode(sample.body.datum())
    return [(envelope.encode(datum), subject, body)] * BATCH


def _bare(inputs: list[tuple[bytes, bytes, bytes]], world: World) -> list[tuple[bytes, bytes, bytes]]:
    family, envelope, subject = catalogue().family("usage"), catalogue()["envelope.v1"], catalogue()["subject.v1"]
    route = next(r for r in world.registry.routes if r.receiver_role == "PORTAL" and r.family == "usage")
    schema = role_schema(family, world.registry.policy, route, "PO")
    names = [f.name for f in schema.fields]
    done = []
    for head, who, what in inputs:
        clear, person, body = envelope.decode(head), subject.decode(who), family.schema.decode(what)
        kept = {name: body[name] for name in names}
        done.append((envelope.encode(clear), subject.encode(person), schema.encode(kept)))
    return done


def _profile(world: World, inputs: Any) -> list[str]:
    profile = cProfile.Profile()
    profile.runcall(world.step, DELTA, inputs)
    text = StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(18)
    return [line for line in text.getvalue().splitlines() if line.strip()]


def _uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"
