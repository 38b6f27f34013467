"""Between a lane's last look at the registry and its commit, and while a registry is being built (promise P7)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError
from aiokafka.protocol.transaction import EndTxnRequest

from broker.data import data_path
from broker.engine.views import build_registry
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.policy.document import canonical
from broker.registry import load_document, records_of
from tests.engine.machine import create_topics, fast, make_plane, produce, put, read_all, some_registry, until, verify
from tests.engine.test_service import Seen, at_end, numbered

DELTA, PORTAL, SIS = "uitgeverij-delta", "portaal-plein", "sis-noord"
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]


def example_records() -> dict[str, bytes]:
    """The example registry."""
    return records_of(load_document(data_path("examples") / "registry"))


class Once:
    """Does something the first time after it was armed."""

    def __init__(self) -> None:
        self.action: Callable[[], object] | None = None

    def fire(self) -> bool:
        """Whether it was done now."""
        action, self.action = self.action, None
        if action is not None:
            action()
        return action is not None


@pytest.fixture
def before_commit(monkeypatch: pytest.MonkeyPatch) -> Once:
    """Fires after a lane's last own look, before anything of the commit is done."""
    once, commit = Once(), AIOKafkaProducer.commit_transaction

    async def fired(producer: AIOKafkaProducer) -> None:
        once.fire()
        await commit(producer)

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", fired)
    return once


@pytest.fixture
def instead_of_commit(monkeypatch: pytest.MonkeyPatch) -> Once:
    """Fires when a commit goes out, which fails: aiokafka will send it again."""
    once, send = Once(), AIOKafkaClient.send

    async def failing(client: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
        if isinstance(request, EndTxnRequest) and request._transaction_result and once.fire():
            raise NodeNotReadyError
        return await send(client, node, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", failing)
    return once


async def decided_anew(connection: KafkaConnection, group: str, folder: Path, once: Once) -> None:
    """The registry changes at that moment: not one record comes out on the old one, and no time-out is waited for."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    seen = Seen()
    await put(connection, "registry", "version", f"old-{group}".encode())
    async with make_plane(connection, fast(group), folder, observer=seen) as plane:
        await plane.ready()
        view = plane.views.registry
        other = type(view.current)(version=f"new-{group}")
        once.action = lambda: setattr(view, "_registry", other)
        await produce(connection, f"in.{group}", numbered(40))
        await until(lambda: at_end([plane], 40), "all committed")
    assert seen.recomputations >= 1
    assert seen.failures == []
    assert (await verify(connection, [group], 40)).clean
    used = {dict(record.headers)["registry"] for record in await read_all(connection, f"out.{group}.copy")}
    assert used == {f"new-{group}".encode()}


async def test_a_change_after_the_last_look_keeps_the_commit_from_going_out(
    connection: KafkaConnection, group: str, tmp_path: Path, before_commit: Once
) -> None:
    """Others held up the event loop between the two."""
    await decided_anew(connection, group, tmp_path, before_commit)


async def test_a_commit_that_is_sent_again_is_looked_at_again(
    connection: KafkaConnection, group: str, tmp_path: Path, instead_of_commit: Once
) -> None:
    """The first attempt did not get through."""
    await decided_anew(connection, group, tmp_path, instead_of_commit)


async def test_a_process_that_stood_still_before_its_commit_does_not_commit_on_an_old_view(
    connection: KafkaConnection, group: str, tmp_path: Path, before_commit: Once
) -> None:
    """Longer than a view may be old, shorter than the transaction's time-out: Kafka would take the commit."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    seen = Seen()
    async with make_plane(connection, fast(group, view_age_s=1.0), tmp_path, observer=seen) as plane:
        await plane.ready()
        before_commit.action = lambda: time.sleep(1.5)
        await produce(connection, f"in.{group}", numbered(40))
        await until(lambda: at_end([plane], 40), "all committed")
        assert seen.failures == ["TransientError"]
    assert (await verify(connection, [group], 40)).clean


async def test_while_a_registry_is_being_built_the_last_one_ages_and_the_lanes_pause(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """The change was read, and the registry that knows it is not there yet."""
    create_topics(connection, {f"in.{group}": 1, f"out.{group}.copy": 1})
    free, seen = threading.Event(), Seen()
    free.set()

    def slow(*arguments: Any) -> Any:
        assert free.wait(20)
        return some_registry(*arguments)

    config = fast(group, view_age_s=1.0, batch_timeout_s=2.0, request_timeout_s=1.5)
    async with make_plane(connection, config, tmp_path, observer=seen, build=slow) as plane:
        await plane.ready()
        free.clear()
        try:
            await put(connection, "registry", "version", f"new-{group}".encode())
            await until(lambda: plane.views.age_s > 1.0, "the view is stale")
            await produce(connection, f"in.{group}", numbered(40))
            await until(lambda: seen.failures, "the lane waited in vain")
            assert seen.records == 0
        finally:
            free.set()
        await until(lambda: at_end([plane], 40), "goes on")
    used = {dict(record.headers)["registry"] for record in await read_all(connection, f"out.{group}.copy")}
    assert used == {f"new-{group}".encode()}


def test_an_entry_that_can_not_be_read_grants_nothing_and_keeps_nothing_else_from_counting() -> None:
    """An older worker meets what a newer operator wrote: this link is off, and the other one that was revoked as well."""
    records = example_records()
    registry = build_registry(None, records, {})
    links = {"99PA": "po-usage-delta-portaal", "99VA": "vo-usage-delta-portaal"}
    sides = {school: f"connection/{link}/sender" for school, link in links.items()}
    assert all(registry.connected(school, DELTA, PORTAL, "usage", "Gebruik", None) for school in links)
    changes: dict[str, bytes | None] = {
        sides["99PA"]: canonical(json.loads(records[sides["99PA"]]) | {"of_tomorrow": True}),
        sides["99VA"]: canonical(json.loads(records[sides["99VA"]]) | {"state": "revoked"}),
        "kind-of-tomorrow/1": b"{}",
    }
    for built in (build_registry(registry, {}, changes), build_registry(None, {**records, **changes}, {})):
        for school in links:
            on = {to for to in (PORTAL, SIS) if built.connected(school, DELTA, to, "usage", "Gebruik", None)}
            assert on == {SIS}


def test_a_suspension_that_can_not_be_read_suspends_all_the_same() -> None:
    """An older worker meets a newer form of it: to take it for nothing would let in who was shut out."""
    registry = build_registry(None, example_records(), {})
    changes: dict[str, bytes | None] = {f"suspension/{DELTA}": b'{"of_tomorrow": true}', "suspension/No Party": b"{}"}
    built = build_registry(registry, {}, changes)
    assert set(built.suspensions) == {DELTA}
    assert build_registry(built, {}, {f"suspension/{DELTA}": None}).suspensions == {}


@pytest.mark.parametrize("key", ["policy/current", "routes/current"])
def test_without_policy_or_routes_there_is_no_registry(key: str) -> None:
    """Nothing at all could be decided: refusing everything for good would be no answer."""
    registry = build_registry(None, example_records(), {})
    with pytest.raises(ConfigError):
        build_registry(registry, {}, {key: b'{"of_tomorrow": true}'})
