"""The demo's school year, from class list to credit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.cli.audit import read_decisions, read_topic
from broker.client import Received, Status
from broker.demo import auditlog, story
from broker.demo.chain import Chain, Told
from broker.demo.chapters import CHAPTERS
from broker.demo.stage import Stage
from broker.demo.telling import Year
from broker.exchange.model import AUDIT_CONTROL

Say = Callable[[str], None]


@dataclass(slots=True)
class Lived:
    """All that happened.

    Attributes:
        told: every event that was sent, in order. sent: how many, by sender.
        statuses: outcomes by sender, in the order they came.
        received: by receiver and family.
        leaves, control: audit records, parsed. logs: what the verifier said of each signed log.
    """

    year: Year
    told: list[Told]
    sent: dict[str, int]
    statuses: dict[str, list[Status]]
    received: dict[tuple[str, str], list[Received]]
    leaves: list[dict[str, Any]]
    control: list[dict[str, Any]]
    logs: list[dict[str, Any]]


async def live(stage: Stage, say: Say) -> Lived:
    """Live the year through.

    Raises:
        BrokerError: `demo.incomplete`, if something does not come in time; `demo.surprise`, if it comes to a party
            that was not to get it.
    """
    agreements = {
        f"{a.id}/{a.version}": a for party in stage.registry.parties for a in stage.registry.agreements_of(party)
    }
    say("the parties connect: each with its own login, each to its own topics")
    async with Chain(stage) as chain:
        year = Year(stage, chain, story.today(), agreements=agreements)
        for play in CHAPTERS:
            started = time.monotonic()
            chapter = await play(year)
            year.chapters.append(chapter)
            say(f"{chapter.season}: {chapter.title} ({time.monotonic() - started:.1f} s)")
        chain.check_whole()
    say("the auditor reads")
    auditor = stage.home / "connections" / "auditor.json"
    leaves, control = await asyncio.gather(read_decisions(auditor, 2.0), read_topic(auditor, AUDIT_CONTROL, 2.0))
    say("and holds the signed logs against what was signed")
    await asyncio.to_thread(auditlog.until_signed, stage.home, len(leaves), len(control))
    logs = auditlog.verified(stage.home)
    return Lived(year, chain.told, dict(chain.sent), chain.statuses, chain.received, leaves, control, logs)
