"""Which notes on `audit.counts` become leaves of the control log: what a party signed, of a flow that can be, once.

Nobody can take anything out of that log again. So no text of a party's own comes into it, and of each party only so
many leaves an hour.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from broker.audit.count import Count, CountError
from broker.audit.leaf import canonical
from broker.audit.log.note import NoteError, Verifier, render, split_note
from broker.kafka.topics import MOST_PARTITIONS, PARTY_ID
from broker.schemas import catalogue

MOST_NOTE_BYTES: Final = 4_096
MOST_AN_HOUR: Final = 10_000  # leaves of one party: it counts each flow once an hour, and has a few hundred flows
HOUR_MS: Final = 3_600_000
_PARTY: Final = f"({PARTY_ID.pattern})"
_PARTITION: Final = f"({'|'.join(map(str, range(MOST_PARTITIONS)))})"
_RECEIVED: Final = re.compile(rf"exchange\.in\.{_PARTY}\.{_PARTITION}/out\.{_PARTY}\.([a-z-]+)/{_PARTITION}")
_SENT: Final = re.compile(rf"in\.{_PARTY}/{_PARTITION}")


@dataclass(frozen=True, slots=True)
class Last:
    """The last count of a flow that became a leaf: its last number, and the SHA-256 of its text, in hex."""

    last: int
    text: str


class Refused(Exception):
    """Why a note is passed over: `length`, `note`, `flow`, `duplicate`, `backwards` or `often`."""


class Budget:
    """How many leaves each party may have in an hour of Kafka's clock: nobody can shorten the control log again.

    Args:
        most: leaves of one party.
    """

    def __init__(self, most: int = MOST_AN_HOUR) -> None:
        self._most = most
        self._spent: dict[str, tuple[int, int]] = {}  # hour and leaves, of those parties alone whose key is known

    def spend(self, party: str, at_ms: int) -> bool:
        """Whether there may be one more leaf; it is spent then.

        Args:
            at_ms: when Kafka took the note, milliseconds since 1970.
        """
        hour = at_ms // HOUR_MS
        since, number = self._spent.get(party, (hour, 0))
        if hour > since:  # a clock that goes back begins no hour anew
            since, number = hour, 0
        if number >= self._most:
            return False
        self._spent[party] = since, number + 1
        return True


@dataclass(frozen=True, slots=True)
class Kept:
    """What comes of some notes.

    Args:
        leaves: for the control log, in order. flows: what changes of the last counts.
        refused: how many were passed over, by reason. often: the parties that had no more leaves this hour.
    """

    leaves: list[bytes]
    flows: dict[str, Last]
    refused: Mapping[str, int]
    often: frozenset[str] = frozenset()


def judge(
    notes: Iterable[tuple[bytes | None, int]],
    keys: Mapping[str, Sequence[Verifier]],
    origin: str,
    flows: Mapping[str, Last],
    budget: Budget,
) -> Kept:
    """Which notes become leaves.

    Args:
        notes: each with when Kafka took it, milliseconds since 1970.
        keys: verifier keys of each party there is; of one that counts nothing, none.
        origin: of the installation's logs. flows: their last counts.
    """
    leaves, new, refused, often = list[bytes](), dict[str, Last](), Counter[str](), set[str]()
    for note, at_ms in notes:
        try:
            count, leaf = _good(note, keys, origin)
            mine = Last(count.last, sha256(count.text().encode()).hexdigest())
            last = new.get(count.flow) or flows.get(count.flow)
            if last is not None and count.first <= last.last:
                raise Refused("duplicate" if mine == last else "backwards")
            if not budget.spend(count.party, at_ms):
                often.add(count.party)
                raise Refused("often")
        except Refused as reason:
            refused[str(reason)] += 1
        else:
            leaves.append(leaf)
            new[count.flow] = mine
    return Kept(leaves, new, refused, frozenset(often))


def _good(note: bytes | None, keys: Mapping[str, Sequence[Verifier]], origin: str) -> tuple[Count, bytes]:
    """A count and its leaf; other signatures on the note are left out, since anything can stand there."""
    if note is None or len(note) > MOST_NOTE_BYTES:
        raise Refused("length")
    try:
        count = Count.open(note, keys, origin)
        text, signatures = split_note(note)
    except (CountError, NoteError):
        raise Refused("note") from None
    if not _is_flow(count.flow, keys):
        raise Refused("flow")  # else a party could write texts of its own into a log that nobody can shorten
    own = {(key.name, key.key_id) for key in keys[count.party]}
    signature = next(line for line in signatures if (line.name, line.key_id) in own)
    return count, canonical({"count": {"note": render(text, [signature]).decode()}, "v": 1})


def _is_flow(text: str, parties: Container[str]) -> bool:
    """Whether there can be such a flow; of each party they are so few that the last count of each can be kept."""
    if _SENT.fullmatch(text):
        return True
    form = _RECEIVED.fullmatch(text)
    return form is not None and form[1] in parties and form[4] in {name for name, _ in catalogue().families}
