"""In use: a day at the publisher, with the mistakes that a day has."""

from __future__ import annotations

from dataclasses import replace

from aiokafka import AIOKafkaProducer

from broker.client import Event
from broker.crypto import DataKeyMaker
from broker.demo import story
from broker.demo.chain import Told
from broker.demo.telling import Chapter, Counts, Year


async def play(year: Year) -> Chapter:
    """Everybody works; three parties see it differently. Then what goes wrong, and a pupil who is not enrolled yet."""
    chapter = Chapter("September", "lessons begin")
    events = list(story.usage_day(story.class_lists(), year.now))
    early = story.early_bird(year.now)
    year.usage = await year.chain.send_all(story.PUBLISHER, [(_what(event), event) for event in events])
    waiting = await year.chain.send(story.PUBLISHER, "usage of a pupil who is not enrolled yet", early)
    example = next(e for e in events if e.kind == "USE" and e.school == story.PO_SCHOOL and e.subject.eck_id)
    wrong = await year.chain.send_all(story.PUBLISHER, list(story.mistakes(example).items()))
    wrong.append(await _damaged(year, example))
    stranger = replace(example, event_id=story.new_id())
    wrong.append(await year.chain.send(story.STRANGER, "a publisher that no school connected", stranger))
    parked = Told(waiting.what, waiting.sender, waiting.event, waiting.results)
    year.mistakes = {t.event.event_id: t.what for t in (waiting, *wrong)}
    enrolled = await year.chain.send(
        story.SIS, "the administration enrols that pupil", story.enrolment_of_latecomer(year.now)
    )
    await year.chain.again(waiting)
    released = Told(
        "… and that usage goes on by itself", waiting.sender, waiting.event, waiting.results, waiting.arrived
    )
    year.usage.append(waiting)
    pupils = len({event.subject for event in events})
    chapter.said = [
        f"{len(events)} events of {pupils} pupils in primary, special, secondary and vocational education.",
        "The publisher knows most by ECK iD, some still by the school's own key, and swaps nothing itself.",
        "One event each, three receivers:",
    ]
    chapter.shown = [*_of_one_pupil(year), parked, enrolled, released, *wrong]
    chapter.counts = _counted(year)
    return chapter


def _what(event: Event) -> str:
    return {"ACTIVATION": "first use of a book", "USE": "a week of use", "PROGRESS": "progress in a chapter"}[
        event.kind
    ]


def _of_one_pupil(year: Year) -> list[Told]:
    """The three events of a pupil who has an ECK iD, and of whom progress was told."""
    progress = next(t for t in year.usage if t.event.kind == "PROGRESS" and t.event.subject.eck_id)
    return [t for t in year.usage if t.event.subject == progress.event.subject]


def _counted(year: Year) -> Counts:
    receivers = sorted({receiver for t in year.usage for receiver in t.arrived})
    kinds = ("ACTIVATION", "USE", "PROGRESS")
    rows = [
        (kind, *(sum(r in t.arrived for t in year.usage if t.event.kind == kind) for r in receivers)) for kind in kinds
    ]
    return Counts(("received", *receivers), rows)


async def _damaged(year: Year, example: Event) -> Told:
    """An event whose last bytes are lost, as a broken client sends it."""
    profile = year.stage.profile(story.PUBLISHER)
    broker = year.stage.keys.recipient_keys("broker")[0]
    event = replace(example, event_id=story.new_id())
    client = year.chain.producer(story.PUBLISHER)
    key, value, headers = client.seal(event, DataKeyMaker(broker.jwk, broker.kid))
    raw = AIOKafkaProducer(**profile.connection.aiokafka(), acks="all", enable_idempotence=True)
    await raw.start()
    try:
        await raw.send_and_wait(f"in.{story.PUBLISHER}", value[:-7], key=key, partition=0, headers=headers)
    finally:
        await raw.stop()
    year.chain.sent[story.PUBLISHER] += 1
    status = await year.chain.outcome(story.PUBLISHER, ())
    # The broker could not read its id, so it goes by one that was made from where it stands.
    return Told(
        "an event cut off on its way", story.PUBLISHER, replace(event, event_id=status.event_id), status.results
    )
