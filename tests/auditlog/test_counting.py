"""Counts become leaves: the good ones, once, whenever the process is killed; the others are told by their reason."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker.audit import verify
from broker.audit.count import Count
from broker.audit.log.note import Signer
from broker.audit.told import LeafError, Other, read_count, read_gap, read_leaf
from broker.auditlog import counting as module
from broker.auditlog.counting import CountKeeper, KeeperConfig, KeeperMetrics, Places, read_state, tell
from broker.auditlog.folders import count_leaf
from broker.auditlog.judging import HOUR_MS, MOST_NOTE_BYTES, Budget, Kept, Last, judge
from broker.engine import CompactedTail, KafkaClients, RegistryView
from broker.engine.transaction import LaneProducer
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.registry import Party
from broker.registry.registry import record_of
from tests.audit.test_count import KEYS, LANE, ORIGIN, VKEYS
from tests.auditlog.conftest import PATIENCE_S
from tests.auditlog.test_builder import Killed, _kill
from tests.engine.machine import create_topics
from tests.exchange.world import DELTA, PORTAL, SIS
from tests.registry.entries import party

FLOW = f"{LANE}/out.{PORTAL}.usage/0"
FAST = KeeperConfig(idle_s=0.1, backoff_s=(0.05, 0.2))


def a_count(first: int, last: int, flow: str = FLOW, **changes: str) -> Count:
    """Of the portal, or of Delta if it is of what that sent."""
    who = DELTA if flow.startswith("in.") else PORTAL
    return Count(changes.get("origin", ORIGIN), who, flow, first, last, bytes([last % 256]) * 32)


def note(first: int, last: int, flow: str = FLOW, **changes: str) -> bytes:
    """Signed by its party."""
    count = a_count(first, last, flow, **changes)
    return count.sign(KEYS[count.party])


def leaf(first: int, last: int, flow: str = FLOW) -> bytes:
    """What becomes of it."""
    text = json.dumps(note(first, last, flow).decode(), ensure_ascii=False)
    return f'{{"count":{{"note":{text}}},"v":1}}'.encode()


def judged(
    *notes: bytes | None, flows: Mapping[str, Last] | None = None, at_ms: int = 0, budget: Budget | None = None
) -> Kept:
    """What comes of these, of which Kafka took each at this moment."""
    return judge([(one, at_ms) for one in notes], VKEYS, ORIGIN, flows or {}, budget or Budget())


def test_a_good_count_becomes_a_leaf_that_reads_back() -> None:
    """As canonical JSON, its note to the byte; verifier and reconciler know the kind."""
    kept = judged(note(1, 5), note(6, 9))
    assert kept.leaves == [leaf(1, 5), leaf(6, 9)]
    assert kept.refused == {}
    for number, made in enumerate(kept.leaves):
        assert read_gap(made) is None
        assert read_leaf(made) == Other("count")
        assert verify.parse(made, verify.LEAVES, dict)["count"]["note"].encode() == read_count(made)
        assert count_leaf(number, made, VKEYS) == (f"leaf {number} of the control log", read_count(made))
        assert Count.open(read_count(made) or b"", VKEYS, ORIGIN).flow == FLOW
    assert count_leaf(0, kept.leaves[0], {DELTA}) is None


FOREIGN = Signer(PORTAL, Ed25519PrivateKey.from_private_bytes(b"x" * 32))
BAD: dict[str, tuple[str, bytes | None]] = {
    "nothing": ("length", None),
    "too-long": ("length", note(1, 5) + b"x" * MOST_NOTE_BYTES),
    "no-note": ("note", b"Emma de Vries"),
    "no-text": ("note", b"\xff\n\n"),
    "another-key": ("note", a_count(1, 5).sign(FOREIGN)),
    "other-logs": ("note", note(1, 5, origin="other.example/audit")),
    "free-text": ("flow", note(1, 5, f"Emma-de-Vries.in.{DELTA}.0/out.{PORTAL}.usage/0")),
    "no-family": ("flow", note(1, 5, f"{LANE}/out.{PORTAL}.emma/0")),
    "no-party": ("flow", note(1, 5, f"exchange.in.emma-de-vries.0/out.{PORTAL}.usage/0")),
    "no-partition": ("flow", note(1, 5, f"{LANE}/out.{PORTAL}.usage/12")),
    "spelled-otherwise": ("flow", note(1, 5, f"{LANE}/out.{PORTAL}.usage/00")),
    "no-input": ("flow", note(1, 5, f"in.{DELTA}/12")),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_good_is_passed_over_by_its_reason(name: str) -> None:
    """And keeps nothing behind it from being a leaf."""
    reason, bad = BAD[name]
    kept = judged(bad, note(1, 5))
    assert kept.refused == {reason: 1}
    assert kept.leaves == [leaf(1, 5)]


@pytest.mark.parametrize("apart", [False, True], ids=["at-once", "apart"])
def test_a_count_that_comes_again_or_goes_backwards_is_no_leaf(*, apart: bool) -> None:
    """In the same batch, or in a later one; a gap is a leaf, since the reconciler finds it. Flows do not mix."""
    notes = [note(1, 5), note(1, 5), note(3, 9), note(1, 4), note(6, 6), note(9, 9), note(0, 3, f"in.{DELTA}/1")]
    flows, leaves, refused = dict[str, Last](), list[bytes](), dict[str, int]()
    for batch in [[one] for one in notes] if apart else [notes]:
        kept = judged(*batch, flows=flows)
        flows |= kept.flows
        leaves += kept.leaves
        for reason, number in kept.refused.items():
            refused[reason] = refused.get(reason, 0) + number
    assert leaves == [leaf(1, 5), leaf(6, 6), leaf(9, 9), leaf(0, 3, f"in.{DELTA}/1")]
    assert refused == {"duplicate": 1, "backwards": 2}


def test_a_party_has_so_many_leaves_an_hour_and_no_more() -> None:
    """Nobody can shorten the log again. By Kafka's clock, whatever it does; another party is not concerned."""
    budget, flows = Budget(2), dict[str, Last]()
    for at_ms, notes, leaves, refused in (
        (HOUR_MS, [note(1, 1), note(2, 2), note(3, 3), note(0, 3, f"in.{DELTA}/1")], 3, 1),
        (2 * HOUR_MS - 1, [note(3, 3)], 0, 1),
        (2 * HOUR_MS, [note(3, 3)], 1, 0),
        (HOUR_MS, [note(4, 4), note(5, 5)], 1, 1),
        (2 * HOUR_MS, [note(5, 5)], 0, 1),
        (9 * HOUR_MS, [note(5, 5)], 1, 0),
    ):
        kept = judged(*notes, flows=flows, at_ms=at_ms, budget=budget)
        flows |= kept.flows
        assert (len(kept.leaves), kept.refused.get("often", 0)) == (leaves, refused)
        assert kept.often == ({PORTAL} if refused else set()), "the operator must know whom to call"


def test_the_operator_reads_who_counts_too_often() -> None:
    """By the party's id, which its signature proves; of other notes it is not known whose they are."""
    with capture_logs() as lines:
        tell(judged(note(1, 1), note(2, 2), b"nothing", budget=Budget(1)), KeeperMetrics(), 7, 9)
    assert [(line["event"], line.get("reason"), line.get("parties")) for line in lines] == [
        ("counts.refused", "often", None), ("counts.refused", "note", None), ("counts.often", None, [PORTAL]),
    ]  # fmt: skip


def test_who_repeats_a_note_spends_nothing() -> None:
    """The client sends one again that it has no answer for."""
    kept = judged(*[note(1, 5)] * 9, note(6, 6), budget=Budget(2))
    assert kept.leaves == [leaf(1, 5), leaf(6, 6)]
    assert kept.refused == {"duplicate": 8}


def test_other_signatures_on_a_note_do_not_come_into_the_log() -> None:
    """Anything could stand there."""
    extra = "— emma.de.vries AAAAAAAAAAAA\n".encode()
    text, _, own = note(1, 5).rpartition(b"\n\n")
    for signatures in (own + extra, extra + own):
        kept = judged(text + b"\n\n" + signatures)
        assert kept.leaves == [leaf(1, 5)]


@given(st.lists(st.binary() | st.binary().map(lambda data: note(1, 5)[: len(data) * 9] + data)))
def test_no_bytes_stop_the_keeper(notes: Sequence[bytes]) -> None:
    """Each is a leaf, or has a reason."""
    kept = judged(*notes)
    assert len(kept.leaves) + sum(kept.refused.values()) == len(notes)


@pytest.mark.parametrize(
    "data",
    [b'{"count":{"note":1},"v":1}', b'{"count":{"note":"a","x":"b"},"v":1}', b'{"count":"a","v":1}',
     b'{"control":{},"count":{"note":"a"},"v":1}', b'{"count": {"note":"a"},"v":1}'],
    ids=["number", "more", "text", "two-kinds", "spaces"],
)  # fmt: skip
def test_a_count_leaf_of_another_form_is_refused(data: bytes) -> None:
    """The reconciler says so."""
    with pytest.raises(LeafError):
        read_count(data)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"last":1}'], ids=["empty", "nothing", "list", "half"])
def test_a_state_that_can_not_be_read_is_never_guessed(data: bytes) -> None:
    """Where it stands decides whether a count becomes two leaves."""
    with pytest.raises(ConfigError) as error:
        read_state({FLOW: data}, "@audit.counts/0")
    assert error.value.code == "counts.state"


# ---- on a real Kafka


@dataclass
class Office:
    """Topics of a keeper of one's own."""

    connection: KafkaConnection
    places: Places
    registry_topic: str
    metrics: KeeperMetrics = field(default_factory=KeeperMetrics)

    async def write(self, topic: str, *values: bytes, key: bytes | None = None) -> None:
        """As a party does."""
        producer = AIOKafkaProducer(**self.connection.aiokafka())
        await producer.start()
        try:
            for value in values:
                await producer.send_and_wait(topic, value, key=key, partition=0)
        finally:
            await producer.stop()

    async def count(self, *notes: bytes) -> None:
        """Parties send these."""
        await self.write(self.places.source.topic, *notes)

    async def register(self, who: str, *keys: Signer) -> None:
        """The registry's word on the keys of a party."""
        entry = Party.model_validate(party(id=who, count_keys=[key.vkey for key in keys] or None))
        await self.write(self.registry_topic, record_of(entry), key=f"party/{who}".encode())

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[CountKeeper]:
        """A keeper that runs meanwhile."""
        clients = KafkaClients(self.connection)
        view = RegistryView(clients, topic=self.registry_topic)
        tail = CompactedTail(clients, self.places.state.topic)
        name = f"count-keeper-{self.places.state.topic}"
        keeper = CountKeeper(ORIGIN, clients, view, tail, self.metrics, FAST, self.places, name)
        tasks = [asyncio.create_task(work) for work in (view.run(), tail.run(), keeper.run())]
        try:
            yield keeper
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def value(self, name: str, **labels: str) -> float:
        """Of a metric."""
        return self.metrics.registry.get_sample_value(name, labels) or 0

    async def until(self, name: str, number: float, **labels: str) -> None:
        """Wait until a metric is so high."""
        async with asyncio.timeout(PATIENCE_S):
            while self.value(name, **labels) < number:  # noqa: ASYNC110 - metrics tell nobody that they changed
                await asyncio.sleep(0.02)

    async def until_leaf(self, wanted: bytes) -> None:
        """Wait until it stands in the control log."""
        async with asyncio.timeout(PATIENCE_S):
            while wanted not in await self.leaves():  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(0.05)

    async def leaves(self) -> list[bytes]:
        """What a read_committed reader finds in the control log."""
        place = self.places.control
        consumer = KafkaClients(self.connection).consumer(isolation_level="read_committed", auto_offset_reset="none")
        await consumer.start()
        try:
            consumer.assign([place])
            consumer.seek(place, 0)
            end, found = (await consumer.end_offsets([place]))[place], list[bytes]()
            while await consumer.position(place) < end:
                found += [record.value for record in (await consumer.getmany(place, timeout_ms=200)).get(place, [])]
            return found
        finally:
            await consumer.stop()


@pytest.fixture
async def office(audited: KafkaConnection) -> Office:
    """Both parties are registered with their keys."""
    name = uuid.uuid4().hex[:8]
    topics = [f"{what}-{name}" for what in ("counts", "control", "state", "registry")]
    create_topics(audited, dict.fromkeys(topics[:2], 1))
    create_topics(audited, dict.fromkeys(topics[2:], 1), **{"cleanup.policy": "compact"})
    made = Office(audited, Places(*(TopicPartition(topic, 0) for topic in topics[:3])), topics[3])
    for who, key in KEYS.items():
        await made.register(who, key)
    return made


LEAVES = "broker_counts_leaves_total"


async def test_counts_become_leaves_and_a_restart_repeats_none(office: Office) -> None:
    """What is refused is counted by reason, once; keys count as the registry has them at that moment.

    Of what a sender sent that does not count itself, its receiver counts all the same.
    """
    new = Signer(PORTAL, Ed25519PrivateKey.from_private_bytes(b"n" * 32))
    await office.count(note(1, 5), b"nothing", note(1, 5), a_count(6, 7).sign(new))
    async with office.keeping():
        await office.until(LEAVES, 1)
        await office.until("broker_counts_refused_total", 2, reason="note")
        await office.register(PORTAL, KEYS[PORTAL], new)
        await office.count(a_count(6, 8).sign(new))
        await office.until(LEAVES, 2)
        await office.register(PORTAL, new)
        await office.count(note(9, 9), a_count(9, 10).sign(new))
        await office.until(LEAVES, 3)
    await office.register(SIS)
    from_sis = f"exchange.in.{SIS}.0/out.{PORTAL}.roster/0"
    async with office.keeping():
        await office.count(note(0, 4, f"in.{DELTA}/1"), note(0, 4, f"in.{DELTA}/1"), a_count(1, 2, from_sis).sign(new))
        await office.until(LEAVES, 5)
        await office.until("broker_counts_refused_total", 2, reason="duplicate")
    found = [
        Count.parse((read_count(one) or b"").decode().partition("\n\n")[0] + "\n") for one in await office.leaves()
    ]
    assert [(count.party, count.first, count.last) for count in found] == [
        (PORTAL, 1, 5), (PORTAL, 6, 8), (PORTAL, 9, 10), (DELTA, 0, 4), (PORTAL, 1, 2),
    ]  # fmt: skip
    assert office.value("broker_counts_refused_total", reason="note") == 3
    assert office.value("broker_counts_behind_records") == 0


STEPS: dict[str, tuple[object, str]] = {
    "take-over": (module, "settle"),
    "transaction": (module, "write_kept"),
    "produced": (LaneProducer, "commit_transaction"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_a_count_becomes_one_leaf(
    office: Office, monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool
) -> None:
    """Before and after the take-over, the transaction, and between what was produced and its commit."""
    where, name = STEPS[step]
    await office.count(note(1, 5), note(0, 3, f"in.{DELTA}/1"))
    with monkeypatch.context() as patch:
        _kill(patch, where, name, 1, after=after)
        async with office.keeping():
            await office.until("broker_counts_failures_total", 1, kind=Killed.__name__)
    async with office.keeping():
        await office.count(note(6, 6))
        await office.until_leaf(leaf(6, 6))
    assert await office.leaves() == [leaf(1, 5), leaf(0, 3, f"in.{DELTA}/1"), leaf(6, 6)]


async def test_two_keepers_at_once_make_one_leaf_of_each(office: Office) -> None:
    """They shut each other out again and again."""
    wanted = [note(n, n) for n in range(1, 13)]
    async with office.keeping(), office.keeping():
        for each in wanted:
            await office.count(each)
        await office.until_leaf(leaf(12, 12))
    assert await office.leaves() == [leaf(n, n) for n in range(1, 13)]


async def test_counts_that_were_removed_unread_are_told(office: Office) -> None:
    """It goes on with the oldest there is."""
    await office.count(note(1, 1))
    async with office.keeping():
        await office.until(LEAVES, 1)
    await office.count(note(2, 2), note(3, 3), note(4, 4))
    admin, place = AdminClient(office.connection.confluent()), Place(office.places.source.topic, 0, 3)
    admin.delete_records([place])[place].result(30)
    async with office.keeping():
        await office.until(LEAVES, 2)
    assert await office.leaves() == [leaf(1, 1), leaf(4, 4)]
    assert office.value("broker_counts_lost_total") == 2
