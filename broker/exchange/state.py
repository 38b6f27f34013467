"""The state of one lane: where it stands, what it delivered, what it parked.

It is written to the compacted topics `lane.state` and `parked` in each of the lane's transactions, and read back
from there when a worker takes the lane over. It changes only by `adopt`, after the commit.

    lane.state   key <lane>          LaneHead: next offset, sequence numbers, counters
                 key <lane>#<slot>   16 bytes for each delivery: the duplicate window, a ring of slots
                 key <lane>#@<slot>  24 bytes for each business object (`objects`): a ring as well
                 key <lane>#!<duty>  what the broker told this party of its duties (`duties`)
                 key <lane>#?        8 bytes for each quarantined record that was not replayed: its offset, oldest first
                 key <lane>#w        what was counted since the last window leaf (`windows`)
                 key <lane>#~<flow>  32 bytes: the running hash of a flow
    parked       key <lane>#<number> 32 bytes: what it waits for, 4: its last day, then the InputRecord
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING
from zlib import crc32

from broker.exchange.model import LANE_STATE, PARKED, InputRecord, Outgoing, Parked, StateDelta
from broker.exchange.objects import ObjectMemory
from broker.exchange.ring import Ring
from broker.exchange.windows import Window
from broker.limits import DEFAULT, Limits
from broker.schemas import catalogue

if TYPE_CHECKING:
    from broker.exchange.duties import Moment

ID_BYTES = 16
VAULT_KEY_BYTES = 32
OFFSET_BYTES = 8


def delivery_id(event_id: str, receiver: str) -> bytes:
    """What the duplicate window remembers: an event, for one receiver. What was refused may be sent again."""
    return blake2b(f"{event_id}\x00{receiver}".encode(), digest_size=ID_BYTES).digest()


def lane_partition(lane: str, partitions: int) -> int:
    """Where a lane's own records go in `lane.state`, `parked` and the audit topics; never changes."""
    return crc32(lane.encode()) % max(partitions, 1)


def lane_input(lane: str) -> tuple[str, int]:
    """Topic and partition of a lane's input: it is called `<group>.in.<party>.<partition>`."""
    before, _, partition = lane.rpartition(".")
    return f"in.{before.partition('.in.')[2]}", int(partition)


@dataclass(slots=True)
class LaneState:
    """See the module.

    What a batch asks about the parked events is kept ready: a full lane must not cost each batch a look at all.

    Attributes:
        lane: `<group>.<topic>.<partition>`.
        parked: by number. waiting: numbers by the vault key they wait for. last_days: numbers by their last day.
        parked_bytes: of all their values.
        quarantined: offsets of the records that a replay may name, in the order in which they were set aside.
        counted: since the last window leaf. roots: running hash by flow.
        duties_seen: what the duties were last worked out for; not on Kafka.
    """

    lane: str
    next_offset: int = 0
    flows: dict[str, int] = field(default_factory=dict)
    delivered: set[bytes] = field(default_factory=set)
    parked: dict[int, Parked] = field(default_factory=dict)
    waiting: dict[bytes, list[int]] = field(default_factory=dict)
    last_days: dict[int, set[int]] = field(default_factory=dict)
    parked_bytes: int = 0
    next_parked: int = 0
    incidents: dict[str, int] = field(default_factory=dict)
    duties: dict[str, str] = field(default_factory=dict)
    quarantined: dict[int, None] = field(default_factory=dict)
    counted: Window = field(default_factory=Window)
    roots: dict[str, bytes] = field(default_factory=dict)
    duties_seen: Moment | None = field(default=None, compare=False)
    limits: Limits = DEFAULT
    window: Ring = field(init=False)
    objects: ObjectMemory = field(init=False)

    def __post_init__(self) -> None:
        self.window = Ring(ID_BYTES, self.limits.window_slots, self.limits.window_slot_ids)
        self.objects = ObjectMemory.sized(self.limits)

    @classmethod
    def load(
        cls,
        lane: str,
        states: Mapping[str, bytes],
        parked: Mapping[str, bytes],
        *,
        start: int = 0,
        limits: Limits = DEFAULT,
    ) -> LaneState:
        """Build the state from what the topics hold under this lane's keys.

        Args:
            states: of `lane.state`; at least all keys of this lane.
            parked: of `parked`; at least all keys of this lane.
            start: where to begin when the lane never committed anything.
        """
        state = cls(lane, next_offset=start, limits=limits)
        if (head := states.get(lane)) is not None:
            datum = catalogue()["lane.v1"].decode(head)
            state.next_offset, state.flows = datum["next_offset"], datum["flows"]
            state.window.slot, state.next_parked = datum["slot"], datum["next_parked"]
            state.incidents = datum["incidents"]
            state.objects.load(_slots(states, f"{lane}#@", limits.object_slots), datum["object_slot"])
        for slot, ids in _slots(states, f"{lane}#", limits.window_slots).items():
            state.delivered.update(state.window.load(slot, ids))
        waiting = states.get(f"{lane}#?", b"")
        state.quarantined = dict.fromkeys(
            int.from_bytes(waiting[i : i + OFFSET_BYTES]) for i in range(0, len(waiting), OFFSET_BYTES)
        )
        state.duties = {name: marker.decode() for name, marker in _named(states, f"{lane}#!").items()}
        counted = states.get(f"{lane}#w")
        state.counted = Window() if counted is None else Window.unpack(counted)
        state.roots = _named(states, f"{lane}#~")
        mine = sorted((int(k.rpartition("#")[2]), v) for k, v in parked.items() if k.rpartition("#")[0] == lane)
        for number, value in mine:
            state._park(unpack_parked(number, value))
        return state

    def adopt(self, delta: StateDelta) -> None:
        """Move on, after the transaction with this delta was committed."""
        self.next_offset, self.next_parked = delta.next_offset, delta.next_parked
        self.flows.update(delta.flows)
        self.incidents = delta.incidents
        filled = self.window.filled(delta.delivered)
        for slot in filled:
            self.delivered.difference_update(self.window.content.get(slot, ()))
        for ids in filled.values():
            self.delivered.update(ids)
        self.window.adopt(filled)
        self.objects.adopt(delta.objects)
        self.duties_seen = delta.duties_seen or self.duties_seen
        if delta.quarantined is not None:
            self.quarantined = delta.quarantined
        self.counted = delta.window or self.counted
        self.roots.update(delta.roots)
        for name, marker in delta.duties.items():
            if marker is None:
                self.duties.pop(name, None)
            else:
                self.duties[name] = marker
        for number, event in delta.parked.items():
            if event is None:
                self._release(number)
            else:
                self._park(event)

    def records(self, delta: StateDelta, state_partitions: int, parked_partitions: int) -> list[Outgoing]:
        """The records that put this delta on Kafka, to be written in the same transaction."""
        home = lane_partition(self.lane, state_partitions)
        delivered, objects = self.window.filled(delta.delivered), self.objects.filled(delta.objects)
        head = catalogue()["lane.v1"].encode(
            {
                "next_offset": delta.next_offset,
                "flows": self.flows | delta.flows,
                "slot": self.window.next_slot(delivered),
                "next_parked": delta.next_parked,
                "incidents": delta.incidents,
                "object_slot": self.objects.ring.next_slot(objects),
            }
        )
        own: dict[str, bytes | None] = {f"{self.lane}#{slot}": b"".join(ids) for slot, ids in delivered.items()}
        own |= {f"{self.lane}#@{slot}": b"".join(entries) for slot, entries in objects.items()}
        own |= {f"{self.lane}#!{name}": None if m is None else m.encode() for name, m in delta.duties.items()}
        own |= {f"{self.lane}#~{flow}": root for flow, root in delta.roots.items()}
        if delta.window is not None and delta.window != self.counted:
            own[f"{self.lane}#w"] = delta.window.pack()
        if delta.quarantined is not None:
            waiting = b"".join(offset.to_bytes(OFFSET_BYTES) for offset in delta.quarantined)
            own[f"{self.lane}#?"] = waiting or None
        out = [Outgoing(LANE_STATE, home, key.encode(), value) for key, value in own.items()]
        home = lane_partition(self.lane, parked_partitions)
        out += [
            Outgoing(PARKED, home, f"{self.lane}#{number}".encode(), None if event is None else _pack(event))
            for number, event in delta.parked.items()
        ]
        out.append(Outgoing(LANE_STATE, lane_partition(self.lane, state_partitions), self.lane.encode(), head))
        return out

    @property
    def is_timed(self) -> bool:
        """Whether time alone can ask something of the lane: an event that waits, a window that is open."""
        return bool(self.parked) or self.counted.began_ms is not None

    # ---- parked events

    def _park(self, event: Parked) -> None:
        self.parked[event.number] = event
        self.waiting.setdefault(event.waits_for, []).append(event.number)
        self.last_days.setdefault(event.expires, set()).add(event.number)
        self.parked_bytes += len(event.record.value or b"")

    def _release(self, number: int) -> None:
        event = self.parked.pop(number)
        numbers = self.waiting[event.waits_for]
        numbers.remove(number)
        if not numbers:
            del self.waiting[event.waits_for]
        of_day = self.last_days[event.expires]
        of_day.remove(number)
        if not of_day:
            del self.last_days[event.expires]
        self.parked_bytes -= len(event.record.value or b"")


def _slots(states: Mapping[str, bytes], prefix: str, count: int) -> dict[int, bytes]:
    found = ((slot, states.get(f"{prefix}{slot}")) for slot in range(count))
    return {slot: data for slot, data in found if data is not None}


def _named(states: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    return {key.removeprefix(prefix): value for key, value in states.items() if key.startswith(prefix)}


def _pack(event: Parked) -> bytes:
    record = event.record
    return event.waits_for + event.expires.to_bytes(4) + pack_record(record)


def pack_record(record: InputRecord) -> bytes:
    """A whole input record in `record.v1`, for parking and for quarantine."""
    return catalogue()["record.v1"].encode(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": record.key,
            "value": record.value,
            "headers": [{"name": name, "value": value} for name, value in record.headers],
        }
    )


def unpack_record(data: bytes) -> InputRecord:
    """The inverse of `pack_record`."""
    datum = catalogue()["record.v1"].decode(data)
    headers = tuple((h["name"], h["value"]) for h in datum.pop("headers"))
    return InputRecord(**datum, headers=headers)


def unpack_parked(number: int, value: bytes) -> Parked:
    """Read a record of `parked`."""
    expires, record = value[VAULT_KEY_BYTES : VAULT_KEY_BYTES + 4], value[VAULT_KEY_BYTES + 4 :]
    return Parked(number, value[:VAULT_KEY_BYTES], int.from_bytes(expires), unpack_record(record))
