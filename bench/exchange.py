"""The pure exchange beside the same job without sealing, gates and audit.

Both take the same usage events of about 300 bytes, as many as the engine's batch has, and make one output for one
receiver. The bare job is what any forwarding service would do with plain fastavro: decode envelope, subject and body,
drop the same fields, and encode twice, the output and one copy for its own log. The exchange does all of that, and
unseals, checks, screens, authorises, looks the pupil up, seals, and writes audit leaf and status.

CPU time of this process only; the two run in turn, batch by batch, so that what else the machine does hits both. The
ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import cProfile
import gc
import io
import pstats
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import fastavro

from broker.client import Event, Subject
from broker.engine import EngineConfig
from broker.exchange import InputRecord
from broker.exchange.model import AUDIT_EVENTS
from broker.limits import DEFAULT
from broker.schemas import catalogue, frame, unframe
from broker.schemas.outputs import role_schema
from tests.exchange.world import DELTA, PORTAL, SIS, World, enrolment, event, make_world, usage

BATCH: Final = EngineConfig().batch_records
PUPILS: Final = 200
WARM_UP: Final = 4
WINDOW: Final = DEFAULT.window_slots * DEFAULT.window_slot_ids
BATCHES: Final = 18  # made beforehand and used in turn: together more events than the duplicate window remembers

Plain = list[tuple[bytes, bytes, bytes]]


def run(seconds: float = 20.0) -> dict[str, Any]:
    """Measure for some seconds; gives microseconds of CPU per event, the ratio, and the profile's largest parts."""
    world = make_world()
    for number in range(PUPILS):
        world.send(SIS, enrolment(_eck_id(number), f"L{number:04}"))
    bare, names = _bare_job(world)
    ours_us: list[float] = []
    bare_us: list[float] = []
    made = [[_event(number % PUPILS) for number in range(BATCH)] for _ in range(BATCHES)]
    batches = [(_inputs(world, events), [_plain(sent) for sent in events]) for events in made]
    sizes = {len(record.value or b"") for inputs, _ in batches for record in inputs}
    assert WINDOW < BATCH * BATCHES
    end = time.monotonic() + seconds
    while len(ours_us) <= WARM_UP or time.monotonic() < end:
        inputs, plain = batches[len(ours_us) % BATCHES]
        gc.collect()
        if len(ours_us) % 2:
            bare_us.append(_cpu_us(lambda: bare(plain)))  # noqa: B023 - called at once
            ours_us.append(_step(world, inputs))
        else:
            ours_us.append(_step(world, inputs))
            bare_us.append(_cpu_us(lambda: bare(plain)))  # noqa: B023 - called at once
    ours_us, bare_us = ours_us[WARM_UP:], bare_us[WARM_UP:]
    ratios = [o / b for o, b in zip(ours_us, bare_us, strict=True)]
    return {
        "input_bytes": [min(sizes), max(sizes)],
        "rounds": len(ratios),
        "events_per_round": BATCH,
        "exchange_us": statistics.median(ours_us),
        "exchange_least_us": min(ours_us),
        "bare_us": statistics.median(bare_us),
        "bare_least_us": min(bare_us),
        "ratio": statistics.median(ratios),
        "ratio_of_least": min(ours_us) / min(bare_us),
        "ratio_quartiles": statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios,
        "fields_kept": names,
        "measured_us": [ours_us, bare_us],
        "profile": _profile(world),
    }


def _step(world: World, inputs: list[InputRecord]) -> float:
    """One batch through the exchange, which is then adopted: the duplicate window is as full as in a long run."""
    step: Any = None

    def work() -> None:
        nonlocal step
        step = world.step(DELTA, inputs)

    cpu_us = _cpu_us(work)
    assert {decision.code for decision in step.decisions} == {"ok"}
    assert sum(out.topic == AUDIT_EVENTS for out in step.outgoing) == len(inputs)
    world.state(DELTA).adopt(step.delta)
    return cpu_us


def _cpu_us(work: Callable[[], object]) -> float:
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / BATCH / 1000


def _inputs(world: World, events: list[Event]) -> list[InputRecord]:
    first = world.state(DELTA).next_offset
    return [replace(world.record(DELTA, sent), offset=first + number) for number, sent in enumerate(events)]


def _event(number: int) -> Event:
    body = usage(frequency=3, group_id="7a", year_group="7")
    subject = Subject("PUPIL", None, (("LAS_KEY", f"L{number:04}"),))
    return event(event_id=str(uuid4()), receiver=PORTAL, subject=subject, body=body)


def _eck_id(number: int) -> str:
    return f"https://ketenid.nl/pilot/{number:0128x}"


# ---- the same job without sealing, gates and audit


def _plain(sent: Event) -> tuple[bytes, bytes, bytes]:
    """The event's three parts in clear."""
    envelope, family = catalogue()["envelope.v1"], catalogue().family("usage")
    datum = {
        "event_id": sent.event_id, "family": "usage", "kind": sent.kind, "body_schema": family.schema.fingerprint,
        "school": sent.school, "sector": sent.sector, "school_year": "2026-2027", "sender": DELTA,
        "receiver": PORTAL, "created": 1_795_500_000_000, "correlation": None, "agreement": None,
        "subject": b"", "body": b"",
    }  # fmt: skip
    return (
        frame(envelope.fingerprint, envelope.encode(datum)),
        catalogue()["subject.v1"].encode(sent.subject.datum()),
        family.schema.encode(sent.body.datum()),
    )


def _bare_job(world: World) -> tuple[Callable[[Plain], Plain], list[str]]:
    family, envelope = catalogue().family("usage"), catalogue()["envelope.v1"]
    route = next(r for r in world.registry.routes if r.receiver_role == "PORTAL" and r.family == "usage")
    output = role_schema(family, world.registry.policy, route, "PO")
    names = [field.name for field in output.fields]
    head, who, what, kept = envelope.parsed, catalogue()["subject.v1"].parsed, family.schema.parsed, output.parsed
    read, write = fastavro.schemaless_reader, fastavro.schemaless_writer

    def encoded(schema: Any, datum: Any) -> bytes:
        out = io.BytesIO()
        write(out, schema, datum)
        return out.getvalue()

    def bare(inputs: Plain) -> Plain:
        done: Plain = []
        for value, subject, body in inputs:
            clear: Any = read(io.BytesIO(unframe(value)[1]), head, None)
            person: Any = read(io.BytesIO(subject), who, None)
            datum: Any = read(io.BytesIO(body), what, None)
            shown = {name: datum[name] for name in names}
            for _ in ("output", "copy"):
                framed = frame(envelope.fingerprint, encoded(head, clear))
                done.append((framed, encoded(who, person), encoded(kept, shown)))
        return done

    return bare, names


def _profile(world: World) -> list[dict[str, Any]]:
    """Where the time goes, by function; the profiler itself makes many small calls look dearer than they are."""
    inputs = _inputs(world, [_event(number % PUPILS) for number in range(BATCH)])
    profile = cProfile.Profile()
    profile.runcall(world.step, DELTA, inputs)
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(own for _, _, own, _, _ in stats.values())
    rows: list[dict[str, Any]] = [
        {
            "function": name if path == "~" else f"{path.rpartition('/')[2]}:{name}",
            "calls_per_event": calls / BATCH,
            "own_share": own / whole,
            "with_callees_share": cumulative / whole,
        }
        for (path, _, name), (_, calls, own, cumulative, _) in stats.items()
    ]
    return sorted(rows, key=lambda row: -row["own_share"])[:25]
