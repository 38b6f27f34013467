"""The views: what they hold, that they go on where they were, and that they know when they are stale."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from broker.engine import CompactedTail, KafkaClients, TopicTail, VaultView, topic_identity
from broker.engine.overlay import VaultOverlay
from broker.engine.store import Store, StoreFull
from broker.engine.topicview import _Proof
from broker.engine.views import CurrentViews, RegistryView
from broker.errors import ConfigError, TransientError
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from tests.engine.machine import OWN, create_topics, put, some_registry, until

DAY = 86_400.0
UNREACHED = KafkaConnection("127.0.0.1:1", insecure_plaintext=True)


def record(key: bytes, value: bytes | None) -> ConsumerRecord[bytes, bytes]:
    """As a consumer gives it."""
    return ConsumerRecord("vault.identity", 0, 0, 0, 0, key, value, None, len(key), len(value or b""), ())


@asynccontextmanager
async def following(view: TopicTail) -> AsyncIterator[None]:
    """Run a view until it has caught up, and stop it afterwards."""
    task = asyncio.create_task(view.run())
    try:
        waiting = asyncio.create_task(view.loaded())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=30)
        if task.done():
            waiting.cancel()
            task.result()
        await waiting
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if isinstance(view, VaultView):
            view.close()


def value_of(view: VaultView, key: bytes) -> bytes | None:
    """Look one key up."""
    with view.reading() as reader:
        return reader.get(key)


class Reads(VaultView):
    """Counts what is read from Kafka."""

    applied = 0

    async def _apply(self, records, read):  # type: ignore[no-untyped-def]
        self.applied += len(records)
        await super()._apply(records, read)


def vault(connection: KafkaConnection, folder: Path, topic: str) -> Reads:
    """A view of a vault topic of the test's own."""
    return Reads(KafkaClients(connection), topic_identity(connection, topic), folder, topic=topic)


@pytest.mark.kafka
async def test_a_vault_view_goes_on_where_it_was(connection: KafkaConnection, group: str, tmp_path: Path) -> None:
    """After a restart only what is new is read; deletions of meanwhile are followed; the file is its owner's alone."""
    create_topics(connection, {group: 2}, **{"cleanup.policy": "compact"})
    for number in range(10):
        await put(connection, group, f"k{number}", b"v%d" % number, number % 2)
    first = vault(connection, tmp_path, group)
    async with following(first):
        assert first.applied == 10
        assert value_of(first, b"k3") == b"v3"
        assert value_of(first, b"none") is None
        assert len(first) == 10
        await put(connection, group, "k3", b"changed", 1)
        await until(lambda: value_of(first, b"k3") == b"changed", "followed")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}  # noqa: ASYNC240
    assert modes == {"data": 0o700, "data.mdb": 0o600, "lock.mdb": 0o600, "lock": 0o600}
    await put(connection, group, "k4", None, 0)
    await put(connection, group, "k11", b"new", 1)
    second = vault(connection, tmp_path, group)
    async with following(second):
        assert second.applied == 2
        assert value_of(second, b"k4") is None
        assert value_of(second, b"k3") == b"changed"
        assert value_of(second, b"k11") == b"new"


@pytest.mark.kafka
async def test_a_file_of_another_cluster_is_rebuilt(connection: KafkaConnection, group: str, tmp_path: Path) -> None:
    """A copy of another cluster's vault, or of a topic that was made anew, is thrown away."""
    create_topics(connection, {group: 1}, **{"cleanup.policy": "compact"})
    await put(connection, group, "mine", b"1")
    store = Store(tmp_path, "other-cluster/other-topic", max_absence_s=DAY)
    store.apply({b"foreign": b"secret"}, {0: 1}, time.time())
    store.close()
    view = vault(connection, tmp_path, group)
    async with following(view):
        assert view.applied == 1
        assert value_of(view, b"foreign") is None
        assert value_of(view, b"mine") == b"1"


@pytest.mark.kafka
async def test_an_offset_that_does_not_exist_makes_the_view_begin_again(
    connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    """A copy that is ahead of the log (a restored backup, say) is rebuilt."""
    create_topics(connection, {group: 1}, **{"cleanup.policy": "compact"})
    await put(connection, group, "k", b"1")
    store = Store(tmp_path, await asyncio.to_thread(topic_identity(connection, group)), max_absence_s=DAY)
    store.apply({b"ahead": b"x"}, {0: 999}, time.time())
    store.close()
    view = vault(connection, tmp_path, group)
    async with following(view):
        await until(lambda: value_of(view, b"k") == b"1", "rebuilt")
        assert value_of(view, b"ahead") is None


@pytest.mark.kafka
async def test_the_identity_of_a_topic_changes_when_it_is_made_anew(connection: KafkaConnection, group: str) -> None:
    """Same name, another topic."""
    from confluent_kafka.admin import AdminClient

    create_topics(connection, {group: 1})
    ask = topic_identity(connection, group)
    before = await asyncio.to_thread(ask)
    admin = AdminClient(connection.confluent())
    await asyncio.to_thread(lambda: [f.result() for f in admin.delete_topics([group]).values()])
    await until(lambda: group not in admin.list_topics(timeout=5).topics, "deleted")
    create_topics(connection, {group: 1})
    assert await asyncio.to_thread(ask) != before


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_views_survive_the_end_of_kafka(tmp_path: Path) -> None:
    """Kafka is killed and comes back: the view becomes stale within seconds, then is current again and complete."""
    with EmbeddedKafka(tmp_path / "kafka", heap_mb=192) as kafka:
        connection = kafka.admin_connection()
        create_topics(connection, OWN)
        await put(connection, "registry", "version", b"1")
        registry = RegistryView(KafkaClients(connection, request_timeout_ms=3000), some_registry)
        held = vault(connection, tmp_path / "vault", "vault.identity")
        current = CurrentViews(registry, held, 2.0)
        async with following(registry), following(held):
            assert current.require_current().version == "1"
            await asyncio.to_thread(kafka.kill)
            await until(lambda: current.age_s > 2.0, "stale", 10)
            with pytest.raises(TransientError, match="could not be proven current") as caught:
                current.require_current()
            assert caught.value.code == "view.stale"
            await asyncio.to_thread(kafka.start)
            await put(connection, "registry", "version", b"2")
            await current.wait_current(60)
            await until(lambda: registry.current.version == "2", "current again", 30)


@pytest.mark.kafka
async def test_a_compacted_tail_holds_the_last_value_of_each_key(connection: KafkaConnection, group: str) -> None:
    """Tombstones remove; keys are found by the group before `#`."""
    create_topics(connection, {group: 2}, **{"cleanup.policy": "compact"})
    for key, value, partition in (("a", b"1", 0), ("a#0", b"x", 0), ("b#1", b"y", 1), ("a", b"2", 0), ("b#1", None, 1)):
        await put(connection, group, key, value, partition)
    tail = CompactedTail(KafkaClients(connection), group)
    async with following(tail):
        assert tail.values == {"a": b"2", "a#0": b"x"}
        assert dict(tail.of("a")) == {"a": b"2", "a#0": b"x"}
        assert tail.of("b") == {}
        offset = await put(connection, group, "c", b"3", 1)
        await asyncio.wait_for(tail.passed({1: offset}), 10)
        assert tail.of("c") == {"c": b"3"}
        assert tail.age_s < 2.0
        assert not tail.has_passed(1, offset + 5)


def test_a_copy_that_was_absent_too_long_is_rebuilt(tmp_path: Path) -> None:
    """Deletions of meanwhile may be compacted away: who was deleted must not live on in the copy."""
    for absence, kept in ((60.0, b"v"), (DAY, None)):
        folder = tmp_path / str(absence)
        store = Store(folder, "c/t", max_absence_s=3600)
        store._head = type(store._head)("c/t", {}, 0.0)
        store.apply({b"k": b"v"}, {0: 1}, time.time() - absence)
        store.close()
        again = Store(folder, "c/t", max_absence_s=3600)
        with again.reading() as reader:
            assert reader.get(b"k") == kept
        assert again.offsets == ({0: 1} if kept else {})
        again.close()


def test_a_store_grows_when_it_is_full(tmp_path: Path) -> None:
    """A full map writes nothing and says so; doubled, it takes the same change."""
    store = Store(tmp_path, "c/t", max_absence_s=DAY, map_bytes=1 << 18)
    big = {b"%032d" % n: bytes(1000) for n in range(500)}
    with pytest.raises(StoreFull):
        store.apply(big, {0: 500}, time.time())
    assert len(store) == 0
    assert store.offsets == {}
    while True:
        store.grow()
        try:
            store.apply(big, {0: 500}, time.time())
        except StoreFull:
            continue
        break
    assert len(store) == 500
    store.close()


def test_a_damaged_store_is_made_anew(tmp_path: Path) -> None:
    """It is only a copy."""
    store = Store(tmp_path, "c/t", max_absence_s=DAY)
    store.apply({b"k": b"v"}, {0: 1}, time.time())
    store.close()
    (tmp_path / "data" / "data.mdb").write_bytes(b"not lmdb" * 1000)
    again = Store(tmp_path, "c/t", max_absence_s=DAY)
    assert again.offsets == {}
    assert len(again) == 0
    again.close()


def test_two_workers_cannot_share_a_state_folder(tmp_path: Path) -> None:
    """The second is told what to do."""
    store = Store(tmp_path, "c/t", max_absence_s=DAY)
    with pytest.raises(ConfigError, match="folder of its own") as caught:
        Store(tmp_path, "c/t", max_absence_s=DAY)
    assert caught.value.code == "state.locked"
    store.close()
    Store(tmp_path, "c/t", max_absence_s=DAY).close()


def test_a_read_transaction_stands_still(tmp_path: Path) -> None:
    """What is written meanwhile is seen by the next one only."""
    store = Store(tmp_path, "c/t", max_absence_s=DAY)
    with store.reading() as reader:
        store.apply({b"k": b"v"}, {0: 1}, time.time())
        assert reader.get(b"k") is None
        assert reader.get(b"x" * 600) is None
    with store.reading() as reader:
        assert reader.get(b"k") == b"v"
    store.close()


def test_a_proof_counts_from_the_request_not_from_the_response() -> None:
    """A process that was stopped for a minute finds an old response: it proves nothing about this minute."""
    proof = _Proof(confirmed=float("-inf"))
    proof.look(stamp=1, looked_before=100.0, position=5, end=5)
    assert proof.confirmed == float("-inf"), "no request is known to have been sent after anything"
    proof.look(stamp=2, looked_before=100.2, position=5, end=5)
    assert proof.confirmed == 100.0
    # stopped here for a minute; the response in the socket was asked for before
    proof.look(stamp=3, looked_before=100.4, position=5, end=5)
    assert proof.confirmed == 100.2
    proof.look(stamp=4, looked_before=160.5, position=5, end=7)
    assert proof.confirmed == 100.2, "something is left to read"
    proof.look(stamp=4, looked_before=160.6, position=7, end=7)
    assert proof.confirmed == 100.4


def test_what_an_open_transaction_holds_back_counts_as_unread() -> None:
    """Behind one writer's open transaction another's withdrawal may be committed: being at the stable end is no proof."""
    proof = _Proof(confirmed=float("-inf"))
    proof.look(stamp=1, looked_before=100.0, position=5, end=5)
    proof.look(stamp=2, looked_before=100.2, position=5, end=9)
    proof.look(stamp=3, looked_before=100.4, position=5, end=12)
    assert proof.confirmed == float("-inf")
    # Writers follow each other without a pause, and the reader is always a little behind: that is current enough.
    proof.look(stamp=4, looked_before=100.6, position=9, end=15)
    assert proof.confirmed == 100.0
    proof.look(stamp=5, looked_before=100.8, position=12, end=20)
    assert proof.confirmed == 100.2


def test_an_overlay_is_read_first_and_let_go_once_the_view_has_passed() -> None:
    """A deletion counts as well; only what the view has read is forgotten."""

    class Below:
        def get(self, key: bytes) -> bytes | None:  # noqa: ARG002
            return b"below"

    overlay = VaultOverlay()
    assert overlay.over(Below()).get(b"a") == b"below"
    overlay.add(0, 10, b"a", b"own")
    overlay.add(1, 20, b"b", None)
    reader = overlay.over(Below())
    assert [reader.get(k) for k in (b"a", b"b", b"c")] == [b"own", None, b"below"]
    overlay.prune({0: 10, 1: 21})
    assert overlay.over(Below()).get(b"a") == b"own"
    assert overlay.over(Below()).get(b"b") == b"below"
    overlay.prune({0: 11})
    assert len(overlay) == 0


async def test_a_cancellation_that_a_library_leaks_does_not_end_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka lets its own CancelledError escape while Kafka is away: the view tries again; a real one ends it."""
    tries = 0

    class Leaking:
        def __init__(self, **_: object) -> None:
            pass

        async def start(self) -> None:
            nonlocal tries
            tries += 1
            raise asyncio.CancelledError

        async def stop(self) -> None:
            raise asyncio.CancelledError

    monkeypatch.setattr("broker.engine.clients.ClosingConsumer", Leaking)
    monkeypatch.setattr("broker.engine.topicview.RETRY_S", 0.0)
    nowhere = KafkaConnection("127.0.0.1:1", insecure_plaintext=True)
    task = asyncio.create_task(TopicTail(KafkaClients(nowhere), "t").run())
    await until(lambda: tries >= 3, "tries again")
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_was_opened_of_a_record_goes_when_the_view_sees_that_it_changed(tmp_path: Path) -> None:
    """Told before anybody else hears of it, and after the store has it; of all, when the view begins anew."""
    view, told = VaultView(KafkaClients(UNREACHED), lambda: "a vault", tmp_path), list[object]()
    await view._start_offsets()

    def evict(keys: Iterable[bytes] | None) -> None:
        told.append(None if keys is None else [(key, value_of(view, key)) for key in keys])

    view.evict, view.on_change = evict, lambda keys: told.append(len(keys))
    records = [record(b"a", b"1"), record(b"b", b"1"), record(b"a", None)]
    await view._apply(records[:2], {0: 2})
    await view._apply(records[2:], {0: 3})
    await view._apply([], {0: 4})
    await view._clear()
    view.close()
    assert told == [[(b"a", b"1"), (b"b", b"1")], 2, [(b"a", None)], 1, None]
