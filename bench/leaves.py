"""Leaves as the exchange writes them, as many as wanted: for the benches of the log and its store.

A delivery of each family that goes to a party about a pupil is taken from the real exchange. All that differs from
leaf to leaf is then made anew for each: ids, token, commitments, time, offset, number, school and supplier. So the
leaves have the exchange's lengths, and no two are equal.

The n-th leaf follows from n, so that another process can make the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from random import Random
from typing import Any, Final, NamedTuple

from bench.families import TYPICAL, _eck_id, _input
from broker.audit.coordinates import Coordinates
from broker.audit.leaf import Form, Hole, Ids
from broker.audit.store import TAG_BYTES
from tests.exchange.world import SIS, enrolment, make_world

ROWS_OF_A_SUBJECT: Final = 10
SCHOOLS: Final = 1_000
SUPPLIERS: Final = 50
DAYS: Final = 30
DAY_MS: Final = 86_400_000
BEGIN_MS: Final = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp() * 1000)
ACTIVITY: Final = "https://register.horizon.example/verwerkingen/Gebruik"
BLOCK: Final = 8_192  # leaves whose random bytes are drawn together

_FAMILIES: Final = ("usage", "order", "licence", "result", "roster")
_RANDOM_BYTES: Final = 128  # of a leaf: trace 16, span 8, event 16, token 11, two commitments of 22; the rest unused


class Kind(NamedTuple):
    """What leaves of one kind have in common."""

    form: Form
    said: dict[str, str]  # the members of `Coordinates` that are the same


class One(NamedTuple):
    """What a leaf has of its own."""

    kind: Kind
    drawn: str  # random, in hexadecimal
    time: int
    school: str
    supplier: str


class Leaves:
    """So many leaves, of a tenth as many subjects.

    Args:
        count: of leaves; they are spread evenly over `DAYS` days.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.subjects = max(1, count // ROWS_OF_A_SUBJECT)
        self.kinds = _kinds()
        self.suppliers = [f"leverancier-{number:02}" for number in range(SUPPLIERS)]
        # Few suppliers have most of the leaves: the share of the n-th is as 1/n.
        shares = [1 / (number + 1) for number in range(SUPPLIERS)]
        self._chosen = Random(1).choices(self.suppliers, shares, k=BLOCK)

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """The leaves from `start` up to `end`."""
        for number, one in self._from(start, end):
            drawn, kind = one.drawn, one.kind
            ids = Ids(bytes.fromhex(drawn[:32]), bytes.fromhex(drawn[32:48]))
            own: dict[str, str | int] = {
                "event": _uuid(drawn), "offset": number, "came": drawn[102:145], "school": one.school,
                "supplier": one.supplier, "seq": number + 1, "value": drawn[145:188],
            }  # fmt: skip
            yield kind.form.fill(ids, ACTIVITY, drawn[80:102], one.time, one.time, own)

    def coordinates(self, start: int, end: int) -> Iterator[tuple[int, Coordinates]]:
        """What the store keeps of them, by their place in the log."""
        for number, one in self._from(start, end):
            yield (
                number,
                Coordinates(
                    time=one.time, event=_uuid(one.drawn), span=bytes.fromhex(one.drawn[32:48]), school=one.school,
                    receiver=one.supplier, activity=ACTIVITY, trace=bytes.fromhex(one.drawn[:32]), **one.kind.said,
                ),
            )  # fmt: skip

    def tag(self, subject: int) -> bytes:
        """What a subject's leaves are found by."""
        return sha256(b"%d" % subject).digest()[:TAG_BYTES]

    def of_subject(self, subject: int) -> range:
        """The places of a subject's leaves: far apart, as those of a year are."""
        return range(subject, self.count, self.subjects)

    def _from(self, start: int, end: int) -> Iterator[tuple[int, One]]:
        kinds, chosen, each = self.kinds, self._chosen, 2 * _RANDOM_BYTES
        span_ms = DAYS * DAY_MS
        for first in range(start - start % BLOCK, end, BLOCK):
            drawn = Random(first).randbytes(BLOCK * _RANDOM_BYTES).hex()
            for number in range(max(first, start), min(first + BLOCK, end)):
                at = (number - first) * each
                school = f"{number % self.subjects % SCHOOLS:03}A"
                time = BEGIN_MS + number * span_ms // self.count
                one = One(kinds[number % len(kinds)], drawn[at : at + each], time, school, chosen[number - first])
                yield number, one


def _uuid(drawn: str) -> str:
    return f"{drawn[48:56]}-{drawn[56:60]}-4{drawn[60:63]}-8{drawn[63:66]}-{drawn[66:78]}"


def _kinds() -> list[Kind]:
    """One kind of leaf for each of the families."""
    world = make_world()
    world.send(SIS, *[enrolment(_eck_id(number), f"L{number:04}") for number in range(2)])
    world.outgoing.clear()
    for family in _FAMILIES:
        world.run(TYPICAL[family].sender, _input(world, TYPICAL[family], 1))
    return [_kind(json.loads(leaf)) for leaf in world.leaves()]


def _kind(leaf: dict[str, Any]) -> Kind:
    line, x = leaf["ldv"], leaf["x"]
    said = {name: x[name] for name in ("sender", "decision", "code", "process", "family", "kind") if name in x}
    x |= {name: Hole(name) for name in ("event", "school", "seq", "value")} | {"receiver": Hole("supplier")}
    x["in"] |= {"offset": Hole("offset"), "value": Hole("came")}
    processor = line["attributes"]["dpl.core.foreign_operation.processor"]
    return Kind(Form(line["name"], processor, x, person=True, parent=False), said)
