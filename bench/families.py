"""The pure exchange, family by family: one typical event of each, beside usage.

Every event goes to one receiver (an enrolment to the vault, a connection to the registry as well), all steps on, in
batches of 100. The families run in turn, round by round, so that what else the machine does hits all of them; a
family's ratio is the median of its rounds' ratios to usage. CPU time of this process. Nothing is adopted between
rounds: each round decides over the same events anew.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any, Final, NamedTuple
from uuid import uuid4

from broker.client import (
    AssessmentResult,
    Connection,
    Control,
    Event,
    Identity,
    Licence,
    Order,
    Roster,
    Subject,
)
from broker.client.records import Body
from broker.exchange import InputRecord
from broker.schemas import catalogue
from tests.exchange.world import BOOK, DELTA, NOW, PORTAL, SHOP, SIS, World, enrolment, make_world, usage

BATCH: Final = 100  # small, so that the rounds follow each other closely on a machine that others use
PUPILS: Final = 200
WARM_UP: Final = 2
BESIDE: Final = "usage"
_DAY: Final = date(2026, 11, 24)


class Typical(NamedTuple):
    """One family's event: kind, who sends it to whom, whether it is about a pupil, and its body."""

    kind: str
    sender: str
    receiver: str | None
    about: bool
    body: Callable[[int], Body]


TYPICAL: Final[dict[str, Typical]] = {
    "usage": Typical("USE", DELTA, PORTAL, True, lambda _: usage(frequency=3, group_id="7a", year_group="7")),
    "order": Typical(
        "ORDER", SIS, SHOP, True,
        lambda _: Order(
            order_id=str(uuid4()), product_id=BOOK, material="DIGITAL", quantity=1, delivery="SCHOOL",
            purchase_order_id="2026-117", purchase_order_line_id="12", start_date=_DAY,
        ),
    ),
    "licence": Typical(
        "GRANT", SHOP, PORTAL, True,
        lambda _: Licence(
            entitlement_id=str(uuid4()), product_id=BOOK, entitlement_type="SCHOOL_INDIVIDUAL", status="ENTITLED",
            start_date=_DAY, expiration_date=_DAY, order_id=str(uuid4()),
        ),
    ),
    "result": Typical(
        "RESULT", DELTA, SIS, True,
        lambda _: AssessmentResult(
            result_id=str(uuid4()), product_id=BOOK, assessment_id="REK-M7", assessment_date=_DAY, value="7.5",
            result_type="GRADE_1_10", raw_score=43, max_raw_score=50, attempt=1, final=True, year_group="7",
        ),
    ),
    "roster": Typical(
        "MEMBERSHIP", SIS, PORTAL, True,
        lambda _: Roster(
            group_ids=("7a", "reken-2"), given_name="Emma", family_name="Jansen", level="BO", year_group="7"
        ),
    ),
    "identity": Typical(
        "ENROL", SIS, None, True, lambda _: Identity(group_ids=("7a",), year_group="7")
    ),
    "connection": Typical(
        "OFFER", SIS, DELTA, False,
        lambda _: Connection(side="BOTH", sender=DELTA, receiver=PORTAL, service="usage", process="GEBRUIK"),
    ),
    "control": Typical(
        "STATUS", SIS, DELTA, False, lambda _: Control(code="object.transition", about_object=str(uuid4()))
    ),
}  # fmt: skip


def run(seconds: float = 30.0) -> dict[str, Any]:
    """Measure for some seconds; gives microseconds of CPU per decision for each family, and its ratio to usage."""
    assert TYPICAL.keys() == {name for name, _ in catalogue().families}
    world = make_world()
    for number in range(PUPILS):
        world.send(SIS, enrolment(_eck_id(number), f"L{number:04}"))
    inputs = {family: [_input(world, typical, n) for n in range(BATCH)] for family, typical in TYPICAL.items()}
    decisions = dict.fromkeys(TYPICAL, 0)
    us: dict[str, list[float]] = {family: [] for family in TYPICAL}
    order, end = list(TYPICAL), time.monotonic() + seconds
    while len(us[BESIDE]) <= WARM_UP or time.monotonic() < end:
        order.append(order.pop(0))  # another one begins
        for family in order:
            gc.collect()
            began = time.process_time_ns()
            step = world.step(TYPICAL[family].sender, inputs[family])
            spent = time.process_time_ns() - began
            assert {decision.code.partition(".")[0] for decision in step.decisions} == {"ok"}, family
            decisions[family] = len(step.decisions)
            us[family].append(spent / len(inputs[family]) / 1000)
    us = {family: measured[WARM_UP:] for family, measured in us.items()}
    return {
        "rounds": len(us[BESIDE]),
        "events_per_round": BATCH,
        "families": {
            family: _figures(measured, us[BESIDE], inputs[family], decisions[family]) for family, measured in us.items()
        },
        "measured_us": us,
    }


def _figures(measured: list[float], beside: list[float], inputs: list[InputRecord], decisions: int) -> dict[str, Any]:
    ratios = [mine / its for mine, its in zip(measured, beside, strict=True)]
    each = decisions / len(inputs)
    median = statistics.median(measured)
    return {
        "us_per_event": median,
        "us_per_event_least": min(measured),
        "decisions_per_event": each,
        "decisions_per_s": each / median * 1e6,
        "input_bytes": round(statistics.mean(len(record.value or b"") for record in inputs)),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios,
    }


def _input(world: World, typical: Typical, number: int) -> InputRecord:
    pupil = number % PUPILS
    local = (("LAS_KEY", f"L{pupil:04}"),)
    # Enrolments are those of newcomers: a pupil who is known is looked up and rewritten in place.
    subject = Subject("PUPIL", None, local) if typical.about else Subject()
    if typical.kind == "ENROL":
        subject = Subject("PUPIL", _eck_id(PUPILS + number), (("LAS_KEY", f"N{number:05}"),))
    sent = Event(
        kind=typical.kind, school="99PA", sector="PO", created=NOW, subject=subject, receiver=typical.receiver,
        body=typical.body(number),
    )  # fmt: skip
    record = world.record(typical.sender, sent)
    return replace(record, offset=record.offset + number)


def _eck_id(number: int) -> str:
    return f"https://ketenid.nl/pilot/{number:0128x}"


def rows(r: dict[str, Any]) -> list[tuple[str, str]]:
    """The table."""
    return [
        (
            f"{name}: CPU per event, decisions/s of one core, beside {BESIDE}",
            f"{f['us_per_event']:.0f} us, {f['decisions_per_s']:,.0f}/s, {f['ratio']:.2f}",
        )
        for name, f in r["families"].items()
    ]
