"""The client and the commands as a supplier's developer uses them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from broker.client import Consumer, Event, Identity, SyncConsumer, SyncProducer, Usage, pupil
from broker.demo import story
from broker.demo.stage import Stage
from broker.errors import ConfigError, ContractError
from tests.e2e.watch import outcomes, send

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
ECK_ID = "https://ketenid.nl/pilot/" + "0e" * 64


@pytest.fixture(scope="module")
def enrolled(scene: Stage) -> Stage:
    """One pupil is enrolled."""
    enrol = Event(
        kind="ENROL",
        school=story.PO_SCHOOL,
        sector="PO",
        subject=pupil(eck_id=ECK_ID, las_key="L0001"),
        body=Identity(),
    )

    async def work() -> None:
        await outcomes(scene, story.SIS, await send(scene, story.SIS, [enrol]))

    asyncio.run(work())
    return scene


def use(frequency: int) -> Event:
    """A usage event of that pupil."""
    body = Usage(
        entitlement_id=story.new_id(), product_id=story.BOOK, usage_type="WEEKLY_USAGE",
        usage_date=story.today().date(), frequency=frequency,
    )  # fmt: skip
    return Event(kind="USE", school=story.PO_SCHOOL, sector="PO", subject=pupil(eck_id=ECK_ID), body=body)


def frequencies(scene: Stage, group: str, most: int | None = None) -> list[int | None]:
    """What a reading group of the portal gets with the blocking client."""
    found: list[int | None] = []
    with SyncConsumer(scene.profile(story.PORTAL), "usage", group=group) as consumer:
        for received in consumer.events(idle_seconds=5.0):
            found.append(received.event.body.frequency)
            if len(found) == most:
                break
    return found


def test_the_blocking_client_sends_and_receives_and_goes_on_where_it_was(enrolled: Stage) -> None:
    """Each group has its place; the event that was being handled when it stopped comes again (at least once)."""
    with SyncProducer(enrolled.profile(story.PUBLISHER)) as producer:
        sent = producer.send_many([use(n) for n in (1, 2, 3)])
        sent.append(producer.send(use(4)))
    assert {s.topic for s in sent} == {f"in.{story.PUBLISHER}"}
    assert frequencies(enrolled, "all") == [1, 2, 3, 4]
    assert frequencies(enrolled, "all") == []
    assert frequencies(enrolled, "some", most=2) == [1, 2]
    assert frequencies(enrolled, "some") == [2, 3, 4]


def test_many_events_are_sent_only_if_all_are_right(enrolled: Stage) -> None:
    """An unknown kind in the third: the first two are not sent either, so the whole can be sent again."""
    wrong = replace(use(7))
    object.__setattr__(wrong, "kind", "FLY")
    with SyncProducer(enrolled.profile(story.PUBLISHER)) as producer, pytest.raises(ContractError, match="event 3"):
        producer.send_many([use(5), use(6), wrong])
    assert not {5, 6} & set(frequencies(enrolled, "checked"))


def test_what_a_command_showed_counts_as_read(enrolled: Stage) -> None:
    """`broker receive --max 1` goes on with the next one."""
    arguments = ("receive", story.PORTAL, "usage", "--json", "--group", "one", "--max", "1", "--profiles")
    first, second = (_broker(*arguments, str(enrolled.home / "profiles")) for _ in range(2))
    assert json.loads(first)["event_id"] != json.loads(second)["event_id"]


async def test_a_family_without_topic_is_a_clear_error(enrolled: Stage) -> None:
    """Not a loop of retries."""
    with pytest.raises(ConfigError, match=r"out\.portaal-plein\.identity") as caught:
        async with Consumer(enrolled.profile(story.PORTAL), "identity"):
            pass
    assert caught.value.code == "topic.missing"


def test_json_lines_go_in_and_come_out(enrolled: Stage, tmp_path: Path) -> None:
    """`broker send` and `broker receive --json`: data to stdout, everything else to stderr."""
    file = tmp_path / "events.jsonl"
    event = use(77)
    file.write_text(json.dumps({n: v for n, v in event.json().items() if v is not None}) + "\n\n", "utf-8")
    profiles = ("--profiles", str(enrolled.home / "profiles"))
    sent = _broker("send", story.PUBLISHER, "usage", str(file), "--json", *profiles)
    assert json.loads(sent)["event_id"] == event.event_id
    lines = _broker(
        "receive", story.PORTAL, "usage", "--json", "--group", "json", "--idle", "5", *profiles
    ).splitlines()
    (mine,) = [line for line in map(json.loads, lines) if line["event_id"] == event.event_id]
    assert mine["body"]["frequency"] == 77
    assert mine["subject"]["eck_id"] == ECK_ID
    told = _broker("receive", story.PUBLISHER, "status", "--json", "--idle", "5", *profiles).splitlines()
    (status,) = [line for line in map(json.loads, told) if line["event_id"] == event.event_id]
    assert {r["outcome"] for r in status["results"]} == {"DELIVERED"}


def test_a_wrong_line_sends_nothing(enrolled: Stage, tmp_path: Path) -> None:
    """All lines are checked first; the message names line and field, not the value."""
    file = tmp_path / "events.jsonl"
    good = json.dumps(use(1).json())
    file.write_text(f'{good}\n{{"kind": "USE", "colour": "SECRET"}}\n', "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "broker", "send", story.PUBLISHER, "usage", str(file), "--profiles", str(enrolled.home / "profiles")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert "line 2" in done.stderr
    assert "colour" in done.stderr
    assert "SECRET" not in done.stderr
    assert "Traceback" not in done.stderr


def _broker(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "broker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
