"""A unique marker in every field is found nowhere but inside a part that its intended receiver opened."""

from __future__ import annotations

import urllib.request
from base64 import b64encode, urlsafe_b64encode
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from broker.client import Event, Identity, Progress, Subject, Usage
from broker.demo import story
from broker.demo.stage import Stage
from broker.schemas import catalogue
from tests.e2e.watch import outcomes, raw, received, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

ECK_HEX = "ca9a41" * 21 + "ca"
ECK_ID = f"https://ketenid.nl/pilot/{ECK_HEX}"
BSN = "111222333"  # a well-known test number
MARKERS = {
    "las_key": "CANARYLASKEY",
    "unknown_las_key": "CANARYUNKNOWN",
    "previous": "CANARYPREVIOUS",
    "year_group": "CANARYYEARGROUP",
    "group": "CANARYGROUP",
    "location": "CANARYLOCATION",
    "activation_code": "CANARYACTIVATION",
    "note": "CANARYNOTE",
    "url": "https://canary.example/CANARYURL",
    "unit": "CANARYUNIT",
    "course": "CANARYCOURSE",
    "duration": "CANARYDURATION",
    "eck_id": ECK_HEX,
    "usage_id": "ca9a4100-0000-4000-8000-00000000ca9a",
    "entitlement_id": "ca9a4200-0000-4000-8000-00000000ca9a",
    "bsn": BSN,
}
EXPIRY = date(2027, 3, 14)


def identity() -> Event:
    """An enrolment with a marker in every field."""
    return Event(
        kind="ENROL", school="99PA", sector="PO",
        subject=Subject("PUPIL", ECK_ID, (("LAS_KEY", MARKERS["las_key"]),)),
        body=Identity(
            enrolled_from=date(2026, 8, 1), year_group=MARKERS["year_group"], group_ids=(MARKERS["group"],),
            location=MARKERS["location"],
        ),
    )  # fmt: skip


def usage(kind: str = "PROGRESS") -> Event:
    """A usage event with a marker in every field that takes a text."""
    return Event(
        kind=kind, school="99PA", sector="PO", subject=Subject("PUPIL", ECK_ID),
        body=Usage(
            usage_id=MARKERS["usage_id"], entitlement_id=MARKERS["entitlement_id"], product_id=story.BOOK,
            usage_type="WEEKLY_USAGE", usage_date=date(2026, 11, 3),
            frequency=7, expiration_date=EXPIRY, activation_code=MARKERS["activation_code"],
            year_group=MARKERS["year_group"], group_id=MARKERS["group"], progress_note=MARKERS["note"],
            progress_url=MARKERS["url"], progress_follow_up=True, progress_duration=MARKERS["duration"],
            progress=Progress(status="STARTED", assignable_unit_id=MARKERS["unit"], course_id=MARKERS["course"]),
        ),
    )  # fmt: skip


def test_every_text_field_of_the_families_has_a_marker() -> None:
    """The canary is complete: a new text field makes this test fail until it has a marker (a product is no secret)."""
    texts = {
        f["name"]
        for family in catalogue().families.values()
        for f in family.schema.document["fields"]
        if f["name"] != "product_id" and "string" in str(f["type"])
    }
    filled = {name for event in (identity(), usage()) for name, value in event.json()["body"].items() if value}
    assert texts <= filled


async def test_no_marker_is_anywhere_in_clear(scene: Stage) -> None:
    """Topics (aborted records too), keys, headers, logs, metrics, the workers' files and Kafka's own files."""
    await outcomes(scene, story.SIS, await send(scene, story.SIS, [identity()]))
    good = usage()
    bad = [
        replace(good, event_id=story.new_id(), body=replace(good.body, progress_note=f"CANARYNOTE bel {BSN}")),
        replace(good, event_id=story.new_id(), school="99ZZ"),
        replace(good, event_id=story.new_id(), subject=Subject("PUPIL", None, (("LAS_KEY", MARKERS["unknown_las_key"]),))),
        replace(good, event_id=story.new_id(), kind="USE", body=replace(good.body, product_id="9780306406157")),
    ]  # fmt: skip
    await outcomes(scene, story.PUBLISHER, await send(scene, story.PUBLISHER, [good, usage("USE"), *bad]))
    again = replace(
        identity(), event_id=story.new_id(), kind="REPLACE",
        subject=Subject("PUPIL", ECK_ID, (("LAS_KEY", MARKERS["previous"]),), (("LAS_KEY", MARKERS["las_key"]),)),
    )  # fmt: skip
    await outcomes(scene, story.SIS, await send(scene, story.SIS, [again]))

    found = await received(scene, story.PORTAL, count=2)
    assert {r.event.subject.eck_id for r in found} == {ECK_ID}, "the intended receiver does read it"
    assert MARKERS["unit"] in str([r.event.json() for r in found])
    assert MARKERS["activation_code"] not in str([r.event.json() for r in found])

    needles = {form for marker in MARKERS.values() for form in _forms(marker)}
    topics: set[str] = set()
    async for record in raw(
        scene.kafka.admin_connection(), lambda t: not t.startswith("__"), isolation="read_uncommitted"
    ):
        topics.add(record.topic)
        parts = [record.key or b"", record.value or b"", *(n.encode() + b"=" + v for n, v in record.headers)]
        for part in parts:
            assert not _hits(part, needles), f"in clear on {record.topic}"
    assert {"vault.identity", "audit.events", "audit.control", "parked", "lane.state"} <= topics
    with urllib.request.urlopen(f"http://127.0.0.1:{scene.ports[0]}/metrics", timeout=5) as answer:
        metrics = answer.read()
    assert b"broker_decisions_total" in metrics
    assert not _hits(metrics, needles)
    for path in _files(scene.home):
        # Kafka allocates its index files ahead: 10 MiB of zeros each, which need no search.
        assert not _hits(path.read_bytes().rstrip(b"\x00"), needles), f"in clear in {path.relative_to(scene.home)}"


def _files(home: Path) -> list[Path]:
    """Everything the installation wrote to disk."""
    return [p for p in home.rglob("*") if p.is_file()]


def _forms(marker: str) -> set[bytes]:
    """A marker as it might be written."""
    raw_bytes = marker.encode()
    forms = {raw_bytes, raw_bytes.hex().encode(), marker.encode("utf-16-le")}
    for shift in range(3):  # base64 of it at each alignment, without the ends that depend on the neighbours
        padded = b"\x00" * shift + raw_bytes
        for encode in (b64encode, urlsafe_b64encode):
            forms.add(encode(padded)[4 if shift else 0 : -4])
    return {form for form in forms if len(form) >= 6}


def _hits(data: bytes, needles: set[bytes]) -> set[bytes]:
    return {needle for needle in needles if needle in data}
