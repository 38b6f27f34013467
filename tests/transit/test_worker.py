"""A whole installation whose keys are wrapped: the worker starts on them, and goes on while the server is sealed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.client import Event, Identity, Sent, pupil
from broker.demo import story
from broker.demo.stage import Stage, stage
from broker.keys import FileKeys
from broker.keys.files import key_files
from broker.registry import brokerkeys
from tests.e2e.watch import PATIENCE_SECONDS, outcomes, send
from tests.transit.engine import FakeTransit, transit_engine
from tests.transit.policies import as_role

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stage, FakeTransit]]:
    """The stage with keys that are wrapped from the first, and what its worker asks."""
    with transit_engine(tmp_path / "engine") as engine:
        as_role(engine, "operator", tmp_path, monkeypatch)
        with stage(tmp_path / "home") as built:
            yield built, engine


def enrol(number: int) -> Event:
    """A pupil comes to school."""
    subject = pupil(eck_id=f"https://ketenid.nl/pilot/{number:0128x}", las_key=f"L{number:04}")
    return Event(kind="ENROL", school=story.PO_SCHOOL, sector="PO", subject=subject, body=Identity())


def test_a_worker_serves_with_wrapped_keys_and_needs_no_server_until_there_is_a_new_one(
    scene: tuple[Stage, FakeTransit], tmp_path: Path
) -> None:
    """Its folder holds ciphertext alone. With the server sealed it goes on; what is sealed for a new key waits, and is
    lost no more than anything else."""
    built, engine = scene
    log = built.home / "worker-1.log"
    assert all(path.read_bytes().startswith(b"vault:v1:") for path in key_files(built.home / "keys"))

    async def told(sent: list[Sent]) -> set[str]:
        found = await outcomes(built, story.SIS, sent)
        return {result.code for one in sent for status in found[one.event_id] for result in status.results}

    async def decided(number: int) -> set[str]:
        return await told(await send(built, story.SIS, [enrol(number)]))

    async def sealed_for_the_new_one() -> set[str]:
        await brokerkeys.publish(built.connections["operator"], [newer], "annelies", "test")
        sent = await send(built, story.SIS, [enrol(3)])
        end = time.monotonic() + PATIENCE_SECONDS
        while not any(b"keys.opening" in line for line in log.read_bytes().splitlines()):
            assert time.monotonic() < end, "the lane never stood in front of it"
            await asyncio.sleep(0.05)
        engine.sealed = False
        return await told(sent)

    assert "ok.vault" in asyncio.run(decided(1))
    apart = FileKeys(tmp_path / "apart", built.keys.wrapping)
    newer = apart.create("broker")
    engine.sealed = True
    assert "ok.vault" in asyncio.run(decided(2))
    (tmp_path / "apart" / f"{newer.kid}.jwk").rename(built.home / "keys" / f"{newer.kid}.jwk")
    assert "ok.vault" in asyncio.run(sealed_for_the_new_one())
    assert b"set_aside" not in log.read_bytes()
