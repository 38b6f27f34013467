"""A Kafka cluster in memory: logs, transactions, groups. What it answers is what Kafka 4 answers, also where that hurts.

Everything here happens at once, in the cluster; that requests and answers take time, get lost or come twice is the
network's (`network`). Modelled, each with its source in Kafka's documentation or in what was seen on a real one:

- producer ids with epochs; InitProducerId ends an open transaction with a higher epoch, and shuts the older owner out;
- a commit is decided at once, its markers come to each partition at a moment of their own, and until the last has come
  the next transaction is answered CONCURRENT_TRANSACTIONS;
- a transaction that is open for too long is aborted by the cluster;
- the last stable offset of a partition; aborted records are there and are not to be read;
- KAFKA-20734: without leaders for a moment, a transaction is "completed" and its markers are not written: what it wrote
  stays open, and shares the fate of the producer's next marker there;
- groups with generations, eager rebalances, sessions that end; committed offsets that are old or not there at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    IllegalGenerationError,
    InvalidProducerEpoch,
    InvalidTxnState,
    ProducerFenced,
    RebalanceInProgressError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import OffsetAndTimestamp

from tests.simulation.loop import NOBODY, SimLoop, SimTime

MARKER_S = 0.02  # most seconds until a marker is written


class Item(NamedTuple):
    """What a producer writes."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True, eq=False)
class Entry:
    """One place of a log: a record, or a transaction's marker (`item` is None).

    Attributes:
        outcome: None as long as its transaction is open; then whether it was committed.
        stable_at: seconds, when that came out.
    """

    offset: int
    at: float
    item: Item | None
    pid: int | None = None
    outcome: bool | None = True
    stable_at: float = 0.0


class Log:
    """One partition."""

    def __init__(self, place: TopicPartition) -> None:
        self.place = place
        self.entries: list[Entry] = []
        self.start = 0
        self.open: dict[int, list[Entry]] = {}  # by producer id, what its open transaction wrote
        self.written: dict[tuple[int, int, int], int] = {}  # producer id, epoch, sequence -> offset
        self.waiting: list[Callable[[], None]] = []

    @property
    def end(self) -> int:
        """The high watermark."""
        return self.start + len(self.entries)

    @property
    def stable(self) -> int:
        """The last stable offset."""
        if not self.open:
            return self.start + len(self.entries)
        return min([entries[0].offset for entries in self.open.values()])

    def append(self, item: Item | None, at: float, pid: int | None = None) -> Entry:
        """Write one record (or a marker, for which nothing waits)."""
        entry = Entry(self.end, at, item, pid, stable_at=at)
        self.entries.append(entry)
        return entry

    def settle(self, pid: int, commit: bool, at: float) -> None:
        """Write a marker: it decides over everything that this producer has open here."""
        for entry in self.open.pop(pid, ()):
            entry.outcome, entry.stable_at = commit, at
        self.append(None, at)
        self.moved()

    def moved(self) -> None:
        """Somebody may have waited for this."""
        waiting, self.waiting = self.waiting, []
        for tell in waiting:
            tell()

    def committed(self) -> list[Entry]:
        """All records that a read_committed reader sees, in order."""
        stable = self.stable
        return [e for e in self.entries if e.item is not None and e.outcome and e.offset < stable]


@dataclass(slots=True, eq=False)
class Transactional:
    """What the coordinator knows of one transactional id."""

    id: str
    pid: int
    epoch: int = 0
    state: str = "empty"  # empty, open, ending
    commit: bool = False  # of the last one
    places: set[TopicPartition] = field(default_factory=set)
    timeout: float = 10.0
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class Member:
    """One consumer in a group."""

    id: str
    topics: frozenset[str]
    session_s: float
    seen: float
    joining: asyncio.Future[Any] | None = None


@dataclass(slots=True, eq=False)
class Group:
    """A consumer group."""

    members: dict[str, Member] = field(default_factory=dict)
    generation: int = 0
    joining: bool = False
    deadline: asyncio.TimerHandle | None = None
    offsets: dict[TopicPartition, int] = field(default_factory=dict)


class Fetched(NamedTuple):
    """The answer for one partition."""

    records: list[ConsumerRecord]
    position: int
    end: int
    stable: int


class MemoryCluster:
    """See the module.

    Attributes:
        leaderless: while True, transactions end without their markers (KAFKA-20734).
        markers_skipped, aborted: how often that happened; for the schedule's own account of what it saw.
    """

    def __init__(self, loop: SimLoop, time: SimTime, topics: Mapping[str, int]) -> None:
        self.loop, self.time = loop, time
        self.logs = {
            place: Log(place)
            for topic, count in topics.items()
            for n in range(count)
            for place in [TopicPartition(topic, n)]
        }
        self.counts = dict(topics)
        self.transactional: dict[str, Transactional] = {}
        self.groups: dict[str, Group] = {}
        self.leaderless = False
        self.markers_skipped = self.aborted = 0
        self._members = 0

    def log(self, place: TopicPartition) -> Log:
        """One partition's log."""
        if (found := self.logs.get(place)) is None:
            raise UnknownTopicOrPartitionError
        return found

    def later(self, seconds: float, what: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Something that the cluster does by itself."""
        return self.loop.call_later(seconds, what, *args, context=NOBODY)

    # ---- records without a transaction

    def write(self, place: TopicPartition, items: Iterable[Item]) -> int:
        """What a party or an operator writes; committed at once. The last offset."""
        log = self.log(place)
        for item in items:
            log.append(item, self.time.time())
        log.moved()
        return log.end - 1

    # ---- transactions

    def init_producer(self, transactional_id: str, timeout: float) -> tuple[int, int]:
        """InitProducerId."""
        known = self.transactional.get(transactional_id)
        if known is None:
            known = self.transactional[transactional_id] = Transactional(transactional_id, len(self.transactional) + 1)
        elif known.state == "ending":
            raise ConcurrentTransactions
        elif known.state == "open":
            known.epoch += 1
            self._end(known, commit=False)
            raise ConcurrentTransactions
        known.epoch, known.timeout, known.commit = known.epoch + 1, timeout, False
        return known.pid, known.epoch

    def add_partitions(self, transactional_id: str, epoch: int, places: Iterable[TopicPartition]) -> None:
        """AddPartitionsToTxn."""
        known = self._owned(transactional_id, epoch)
        if known.state == "ending":
            raise ConcurrentTransactions
        for place in places:
            self.log(place)
        if known.state == "empty":
            known.state = "open"
            known.timer = self.later(known.timeout, self._expire, known, known.epoch)
        known.places.update(places)

    def produce(
        self, transactional_id: str, epoch: int, place: TopicPartition, sequence: int, items: Sequence[Item]
    ) -> int:
        """Produce, verified with the coordinator; the offset of the first record. A repetition is told from a new one."""
        known = self._owned(transactional_id, epoch)
        log = self.log(place)
        if (before := log.written.get((known.pid, epoch, sequence))) is not None:
            return before
        if known.state != "open" or place not in known.places:
            raise InvalidTxnState
        first = log.end
        entries = [log.append(item, self.time.time(), known.pid) for item in items]
        for entry in entries:
            entry.outcome = None
        log.open.setdefault(known.pid, []).extend(entries)
        log.written[known.pid, epoch, sequence] = first
        return first

    def end_transaction(self, transactional_id: str, epoch: int, commit: bool) -> None:
        """EndTxn. To say it twice does no harm, to say two things does."""
        known = self._owned(transactional_id, epoch)
        if known.state == "open":
            self._end(known, commit)
        elif known.commit != commit:
            raise InvalidTxnState

    def _owned(self, transactional_id: str, epoch: int) -> Transactional:
        known = self.transactional[transactional_id]
        if epoch != known.epoch:
            raise ProducerFenced if epoch < known.epoch - 1 else InvalidProducerEpoch
        return known

    def _expire(self, known: Transactional, epoch: int) -> None:
        if known.state == "open" and known.epoch == epoch:
            known.epoch += 1
            self._end(known, commit=False)

    def _end(self, known: Transactional, commit: bool) -> None:
        known.state, known.commit = "ending", commit
        self.aborted += not commit
        if known.timer is not None:
            known.timer.cancel()
        places, known.places = sorted(known.places), set()
        if self.leaderless:
            self.markers_skipped += 1
            known.state = "empty"
            return
        left = set(places)

        def mark(place: TopicPartition) -> None:
            self.logs[place].settle(known.pid, commit, self.time.time())
            left.discard(place)
            if not left:
                known.state = "empty"

        for place in places:
            self.later(MARKER_S * self.loop.random.random(), mark, place)
        if not places:
            known.state = "empty"

    # ---- reading

    def fetch(self, wanted: Mapping[TopicPartition, int], most: int) -> dict[TopicPartition, Fetched]:
        """What read_committed readers get; positions pass aborted records and markers."""
        return {place: self._fetch(self.log(place), position, most) for place, position in wanted.items()}

    def _fetch(self, log: Log, position: int, most: int) -> Fetched:
        stable = log.stable
        end = min(stable, position + most)
        entries = log.entries[position - log.start : max(0, end - log.start)]
        records = [_record(log.place, entry) for entry in entries if entry.item is not None and entry.outcome]
        return Fetched(records, max(position, end), log.end, stable)

    def has_news(self, wanted: Mapping[TopicPartition, int]) -> bool:
        """Whether a fetch would not be empty, or has to fail."""
        return any(
            (log := self.log(place)).stable > position or not log.start <= position <= log.end
            for place, position in wanted.items()
        )

    def out_of_range(self, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Positions that are not there."""
        return {p: o for p, o in wanted.items() if not (log := self.log(p)).start <= o <= log.end}

    def when_news(self, wanted: Iterable[TopicPartition], tell: Callable[[], None]) -> None:
        """Call once something was written to one of them."""
        for place in wanted:
            self.log(place).waiting.append(tell)

    def first_since(self, place: TopicPartition, at: float) -> Any:
        """ListOffsets by time."""
        found = (e for e in self.log(place).entries if e.at >= at)
        return next((OffsetAndTimestamp(e.offset, int(e.at * 1000)) for e in found), None)

    # ---- groups

    def join(
        self, group_id: str, member_id: str | None, topics: frozenset[str], session_s: float, rebalance_s: float
    ) -> asyncio.Future[tuple[str, int, list[TopicPartition]]]:
        """JoinGroup and SyncGroup: the answer comes when all have joined, or those that did not are thrown out."""
        group = self.groups.setdefault(group_id, Group())
        if member_id is None:
            self._members += 1
            member_id = f"member-{self._members}"
            group.members[member_id] = Member(member_id, topics, session_s, self.loop.time())
            self.later(session_s, self._check_session, group, member_id)
        member = self._member(group, member_id)
        answer: asyncio.Future[Any] = self.loop.create_future()
        member.topics, member.seen, member.joining = topics, self.loop.time(), answer
        self._rebalance(group, rebalance_s)
        if all(m.joining is not None for m in group.members.values()):
            self._complete(group)
        return answer

    def heartbeat(self, group_id: str, member_id: str, generation: int) -> None:
        """Heartbeat."""
        group = self.groups[group_id]
        member = self._member(group, member_id)
        member.seen = self.loop.time()
        if group.joining:
            raise RebalanceInProgressError
        if generation != group.generation:
            raise IllegalGenerationError

    def leave(self, group_id: str, member_id: str) -> None:
        """LeaveGroup."""
        group = self.groups[group_id]
        if group.members.pop(member_id, None) is not None:
            self._rebalance(group, 5.0)

    def commit_offsets(
        self, group_id: str, member_id: str, generation: int, offsets: Mapping[TopicPartition, int]
    ) -> None:
        """OffsetCommit."""
        group = self.groups[group_id]
        self._member(group, member_id)
        if generation != group.generation:
            raise IllegalGenerationError
        group.offsets.update(offsets)

    def committed_offset(self, group_id: str, place: TopicPartition) -> int | None:
        """OffsetFetch as aiokafka asks it: without `require_stable`, and believing a coordinator that just loads."""
        offset = self.groups[group_id].offsets.get(place)
        chance = self.loop.random.random()
        if offset is None or chance < 0.1:
            return None
        return self.loop.random.randrange(offset + 1) if chance < 0.2 else offset

    def _member(self, group: Group, member_id: str) -> Member:
        if (member := group.members.get(member_id)) is None:
            raise UnknownMemberIdError
        return member

    def _check_session(self, group: Group, member_id: str) -> None:
        member = group.members.get(member_id)
        if member is None:
            return
        left = member.seen + member.session_s - self.loop.time()
        if left > 0 or member.joining is not None:
            self.later(max(left, member.session_s / 2), self._check_session, group, member_id)
            return
        del group.members[member_id]
        self._rebalance(group, 5.0)

    def _rebalance(self, group: Group, seconds: float) -> None:
        if group.joining:
            return
        group.joining = True
        group.deadline = self.later(seconds, self._complete, group)

    def _complete(self, group: Group) -> None:
        """The end of a rebalance: who did not join is out, the others share the partitions."""
        if group.deadline is not None:
            group.deadline.cancel()
        group.members = {name: member for name, member in group.members.items() if member.joining is not None}
        group.generation, group.joining = group.generation + 1, False
        members = sorted(group.members.values(), key=lambda member: member.id)
        places = sorted(p for p in self.logs if any(p.topic in member.topics for member in members))
        for number, member in enumerate(members):
            mine = [p for n, p in enumerate(places) if n % len(members) == number]
            joining, member.joining, member.seen = member.joining, None, self.loop.time()
            if joining is not None and not joining.done():
                joining.set_result((member.id, group.generation, mine))


def _record(place: TopicPartition, entry: Entry) -> ConsumerRecord:
    item = entry.item
    assert item is not None
    return ConsumerRecord(
        place.topic, place.partition, entry.offset, int(entry.at * 1000), 1, item.key, item.value, None,
        len(item.key or b""), len(item.value or b""), item.headers,
    )  # fmt: skip
