"""What the exchange writes to `audit.index` leads to each leaf about an enrolled person, and to nothing else."""

from __future__ import annotations

import json
from typing import Any

from broker.audit.index import open_entry, span_of
from broker.client import Subject
from broker.exchange.model import AUDIT_INDEX
from broker.exchange.state import lane_partition
from tests.exchange.world import DELTA, SIS, World, enrolment, event, make_world


def by_tag(world: World, school: str = "99PA") -> dict[bytes, set[str]]:
    """Spans of the leaves by the tag of the person they are about."""
    found: dict[bytes, set[str]] = {}
    for out in world.topic(AUDIT_INDEX):
        span, tag = open_entry(world.exchange_keys.vault.school_cipher(school), out.value or b"")
        found.setdefault(tag, set()).add(span.hex())
    return found


def about_people(world: World) -> list[dict[str, Any]]:
    """The LDV lines that name a person, by a token."""
    lines = [json.loads(leaf)["ldv"] for leaf in world.leaves()]
    return [line for line in lines if "dpl.core.data_subject_id" in line["attributes"]]


def test_each_leaf_that_has_a_token_has_one_entry() -> None:
    """Delivered, repeated, refused after the person was known, enrolled; in the order of the leaves."""
    world = make_world()
    world.send(SIS, enrolment())
    once = event()
    world.send(DELTA, once, once, event(receiver="portaal-plein"), event(school="00AA"))
    entries = [span_of(out.value or b"").hex() for out in world.topic(AUDIT_INDEX)]
    assert entries == [line["span_id"] for line in about_people(world)]
    assert len(entries) > 4
    assert len(world.leaves()) > len(entries)  # some are about nobody who is known


def test_all_leaves_of_one_person_have_one_tag_and_two_persons_have_two() -> None:
    """Also under different local ids of one enrolment."""
    world = make_world()
    other = "https://ketenid.nl/201703/" + "b" * 128
    world.send(SIS, enrolment(), enrolment(other, "L0002"))
    world.send(DELTA, event(), event(), event(subject=Subject("PUPIL", other)))
    tags = by_tag(world)
    assert len(tags) == 2
    assert sum(map(len, tags.values())) == len(about_people(world))


def test_an_entry_is_in_the_partition_of_its_lane() -> None:
    """As its leaf is: who follows one partition of both finds the two together."""
    world = make_world()
    world.partitions = lambda _topic: 4
    world.send(SIS, enrolment())
    world.send(DELTA, event())
    lanes = {f"exchange.in.{party}.1" for party in (SIS, DELTA)}
    assert {out.partition for out in world.topic(AUDIT_INDEX)} == {lane_partition(lane, 4) for lane in lanes}
