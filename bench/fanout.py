"""One event to one, three and ten receivers: what each further receiver costs.

Progress of pupils, which goes to the connected portals and to nobody else. Three worlds that differ in how many portals
the school has connected; their batches run in turn, and the figure is the median of the rounds' ratios to one receiver.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from dataclasses import replace
from typing import Any, Final

from broker.audit.leaf import canonical
from broker.client import Progress, Subject
from broker.exchange import InputRecord
from broker.keys import MemoryKeys
from tests.exchange.world import DELTA, PORTAL, SIS, World, enrolment, event, make_world, usage

BATCH: Final = 100  # small, so that the rounds follow each other closely on a machine that others use
RECEIVERS: Final = (1, 3, 10)
PUPILS: Final = 200
WARM_UP: Final = 2
_LINK: Final = "po-usage-delta-portaal"


def run(seconds: float = 20.0) -> dict[str, Any]:
    """Measure for some seconds; gives microseconds of CPU per event and the ratios to one receiver."""
    worlds = {count: _world(count) for count in RECEIVERS}
    inputs = {count: [_input(world, n) for n in range(BATCH)] for count, world in worlds.items()}
    us: dict[int, list[float]] = {count: [] for count in RECEIVERS}
    written: dict[int, float] = {}
    order, end = list(RECEIVERS), time.monotonic() + seconds
    while len(us[1]) <= WARM_UP or time.monotonic() < end:
        order.append(order.pop(0))
        for count in order:
            gc.collect()
            began = time.process_time_ns()
            step = worlds[count].step(DELTA, inputs[count])
            us[count].append((time.process_time_ns() - began) / BATCH / 1000)
            assert [d.code for d in step.decisions] == ["ok"] * count * BATCH
            written[count] = sum(len(out.value or b"") for out in step.outgoing) / BATCH
    us = {count: measured[WARM_UP:] for count, measured in us.items()}
    least = min(us[1])
    each = {
        str(count): {
            "us_per_event": statistics.median(measured),
            "us_per_event_least": min(measured),
            "us_per_decision": statistics.median(measured) / count,
            "written_bytes_per_event": written[count],
            "ratio": statistics.median(mine / one for mine, one in zip(measured, us[1], strict=True)),
            "ratio_of_least": min(measured) / least,
        }
        for count, measured in us.items()
    }
    return {"rounds": len(us[1]), "events_per_round": BATCH, "receivers": each, "measured_us": us}


def _world(count: int) -> World:
    """The example registry, with so many portals connected at De Regenboog."""
    world = make_world()
    changes: dict[str, bytes | None] = {}
    for number in range(2, count + 1):
        name = f"portaal-{number}"
        key = MemoryKeys().create(name)
        party = json.loads(world.records[f"party/{PORTAL}"])
        changes[f"party/{name}"] = canonical(party | {"id": name, "keys": [{"kid": key.kid, "jwk": dict(key.jwk)}]})
        agreement = json.loads(world.records["agreement/vwo-po-portaal"])
        changes[f"agreement/vwo-{name}"] = canonical(agreement | {"id": f"vwo-{name}", "party": name})
        for side in ("sender", "receiver"):
            link = json.loads(world.records[f"connection/{_LINK}/{side}"]) | {"id": f"link-{name}", "receiver": name}
            link["accepted_by"] = link["mandate"]  # the school's SIS spoke for both
            changes[f"connection/link-{name}/{side}"] = canonical(link)
    world.registry = world.registry.with_changes(changes)
    for number in range(PUPILS):
        world.send(SIS, enrolment(_eck_id(number), f"L{number:04}"))
    return world


def _input(world: World, number: int) -> InputRecord:
    subject = Subject("PUPIL", None, (("LAS_KEY", f"L{number % PUPILS:04}"),))
    body = usage(progress=Progress(status="STARTED", assignable_unit_id="hoofdstuk-3"), usage_date=None, group_id="7a")
    record = world.record(DELTA, event(kind="PROGRESS", subject=subject, body=body))
    return replace(record, offset=record.offset + number)


def _eck_id(number: int) -> str:
    return f"https://ketenid.nl/pilot/{number:0128x}"


def rows(r: dict[str, Any]) -> list[tuple[str, str]]:
    """The table."""
    return [
        (
            f"{count} receivers: CPU per event, per decision, beside one receiver",
            f"{f['us_per_event']:.0f} us, {f['us_per_decision']:.0f} us, {f['ratio']:.2f}",
        )
        for count, f in r["receivers"].items()
    ]
