"""Tests of `broker.app.keys`: a start waits for the transit server, and what runs goes on without it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.app.keys import keep_open, kept_open, wait_for_keys
from broker.errors import BrokerError, ConfigError, TransientError
from broker.keys import FileKeys
from broker.keys.open import open_keys
from tests.transit.engine import FakeTransit

Become = Callable[..., Path]
DEADLINE_S = 30.0


@pytest.fixture
def operators(set_up: Become, tmp_path: Path) -> FileKeys:
    """The folder as the operator has it, with one secret; the environment is a service's."""
    set_up("operator")
    keys = open_keys(tmp_path / "keys")
    keys.create_secret("vault-mac")
    set_up("service")
    return keys


def until(holds: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


async def soon(holds: Callable[[], bool]) -> None:
    """Wait for it, while others work."""
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def code_of(call: Callable[[], object]) -> str | None:
    """Code of the error of ours that a call raises; None if it raises none."""
    try:
        call()
    except BrokerError as error:
        return error.code
    return None


def test_a_start_waits_for_a_server_that_is_sealed_and_says_so_once(operators: FileKeys, engine: FakeTransit) -> None:
    """As it waits for Kafka; when the server is unsealed, all keys are open."""
    engine.sealed, found = True, list[FileKeys]()
    with capture_logs() as logs:
        thread = threading.Thread(
            target=lambda: found.append(wait_for_keys(operators.folder, pause_s=0.01)), daemon=True
        )
        asked = len(engine.requests)
        thread.start()
        until(lambda: len(engine.requests) >= asked + 3)
        assert found == []
        engine.sealed = False
        thread.join(DEADLINE_S)
    engine.sealed = True
    assert len(found[0].secret("vault-mac")) == 32
    assert [(entry["event"], entry["code"]) for entry in logs] == [("keys.away", "transit.sealed")]


def test_a_start_does_not_wait_for_what_waiting_does_not_mend(operators: FileKeys, engine: FakeTransit) -> None:
    """A token that is refused is told at once."""
    engine.tokens.clear()
    with pytest.raises(ConfigError) as caught:
        wait_for_keys(operators.folder)
    assert caught.value.code == "transit.denied"


async def test_a_new_key_is_opened_apart_and_nobody_waits_for_the_server(
    operators: FileKeys, engine: FakeTransit
) -> None:
    """A lane that needs it tries again; a server that is away is told, keeps nothing else, and is asked again."""
    keys = wait_for_keys(operators.folder)
    engine.sealed = False
    made = operators.create("broker")  # by the operator's own login
    engine.sealed = True
    with capture_logs() as logs:
        task = asyncio.create_task(keep_open(keys, look_s=0.01))
        await soon(lambda: any(entry["code"] == "transit.sealed" for entry in logs))
        assert code_of(lambda: keys.private_key(made.kid)) == "keys.opening"
        with pytest.raises(TransientError):
            keys.recipient_keys("broker")
        assert len(keys.secret("vault-mac")) == 32
        engine.sealed = False
        await soon(lambda: code_of(lambda: keys.private_key(made.kid)) is None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    private = keys.private_key(made.kid)
    assert private is not None
    assert private["x"] == made.jwk["x"]


async def test_a_file_that_does_not_open_keeps_no_other_closed(operators: FileKeys) -> None:
    """It is told; what came beside it is open."""
    keys = wait_for_keys(operators.folder)
    (operators.folder / "a-bad.secret").write_bytes(b"vault:v1:AAAA\n")
    (operators.folder / "a-bad.secret").chmod(0o600)
    operators.create_secret("record-keys")
    with capture_logs() as logs:
        async with kept_open(keys):
            await soon(lambda: bool(logs))
            assert len(keys.secret("record-keys")) == 32
    assert [entry["code"] for entry in logs] == ["keys.damaged"]


async def test_a_token_that_can_be_renewed_is_renewed(operators: FileKeys, engine: FakeTransit, set_up: Become) -> None:
    """At once, so that the process knows how long it lives, and not at each look."""
    set_up("service", renewable=True, lease_s=3600)
    keys = wait_for_keys(operators.folder)
    looks = [0]
    real = keys.open_all

    def counted() -> None:
        looks[0] += 1
        real()

    keys.open_all = counted  # type: ignore[method-assign]
    task = asyncio.create_task(keep_open(keys, look_s=0.01))
    await soon(lambda: looks[0] >= 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert engine.asked("auth/token/renew-self") == 1


async def test_a_file_that_does_not_open_keeps_no_token_from_being_renewed(
    operators: FileKeys, engine: FakeTransit, set_up: Become
) -> None:
    """Else the token would end, and no other key would open either."""
    set_up("service", renewable=True, lease_s=3600)
    keys = wait_for_keys(operators.folder)
    (operators.folder / "a-bad.secret").write_bytes(b"vault:v1:AAAA\n")
    (operators.folder / "a-bad.secret").chmod(0o600)
    async with kept_open(keys):
        await soon(lambda: engine.asked("auth/token/renew-self") == 1)


async def test_a_token_that_can_not_be_renewed_is_no_failure(operators: FileKeys, engine: FakeTransit) -> None:
    """It has no end, or somebody else puts a new one into the file; a line a minute would hide those that count."""
    keys, looks = wait_for_keys(operators.folder), [0]
    real = keys.open_all

    def counted() -> None:
        looks[0] += 1
        real()

    keys.open_all = counted  # type: ignore[method-assign]
    with capture_logs() as logs:
        task = asyncio.create_task(keep_open(keys, look_s=0.01))
        await soon(lambda: looks[0] >= 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert engine.asked("auth/token/renew-self") == 1
    assert logs == []


async def test_a_folder_that_can_not_be_read_for_a_moment_ends_nothing(operators: FileKeys) -> None:
    """As a network's file system does: it is told, and looked at again."""
    keys, failures = wait_for_keys(operators.folder), [OSError(116, "Stale file handle")] * 2
    real, looks = keys.open_all, [0]

    def failing() -> None:
        looks[0] += 1
        if failures:
            raise failures.pop()
        real()

    keys.open_all = failing  # type: ignore[method-assign]
    with capture_logs() as logs:
        task = asyncio.create_task(keep_open(keys, look_s=0.01))
        await soon(lambda: looks[0] >= 3 or task.done())
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [entry["code"] for entry in logs] == ["keys.folder"]


async def test_keys_in_clear_need_no_looking_after(tmp_path: Path) -> None:
    """It ends at once, and so it does where a service has no keys."""
    FileKeys(tmp_path).create_secret("vault-mac")
    await asyncio.wait_for(keep_open(wait_for_keys(tmp_path)), DEADLINE_S)
    await asyncio.wait_for(keep_open(None), DEADLINE_S)
