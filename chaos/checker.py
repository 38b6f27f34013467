"""Judges a history: is anything lost, doubled, out of order, or without audit? Knows nothing of the broker's code.

What it asks (promises P1, P2, P7):

- every input that Kafka acknowledged is there, and has exactly one final decision for each receiver, or one for all
  when nobody receives it; only what is about somebody who never came may wait;
- every delivery that the audit tells of is there once, every output has its leaf, under the same number;
- numbers of outputs run without a gap, in the order of the partition;
- status and quarantine say what the audit says; a lane's own record of where it stands agrees with all of it;
- outputs about one pupil to one receiver come in the order of the sender's partition, parked ones included;
- an event that is sent again under its id is delivered once, and not taken for a duplicate of what never was;
- nothing but closing kinds leaves later than the deadline after a withdrawal;
- nothing was read that is not there in the end (an aborted transaction), and no reader missed a number.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from chaos.history import Decision, History, Output, Place, Withdrawal

FINAL = frozenset({"delivered", "refused", "quarantined", "duplicate", "expired"})
INTERIM = "parked"
NO_RECORD = frozenset({"vault", "registry"})  # receivers that get no record of their own
CLOSING = frozenset(
    {"CREDIT", "CREDITED", "CANCEL", "REVOKE", "EXPIRE", "LEAVE", "RETRACT", "DESTROY_REQUEST", "DESTROY_CONFIRM"}
)
DEADLINE_MS = 5_000


@dataclass(slots=True)
class Verdict:
    """What is wrong; empty lists: nothing. Each entry says what, and where to look.

    Attributes:
        lost: inputs without a final decision, deliveries without their record, told decisions that nobody wrote.
        doubled: more than one of what must be one.
        reordered: out of order, or with a gap in the numbers.
        unaudited: outputs, quarantine records or statuses without a leaf.
        late: after a withdrawal's deadline. aborted: read, and not there in the end.
        disagreeing: a lane's own state says something else than the rest, or a record is not of its topic.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    unaudited: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    disagreeing: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether all is as promised."""
        return not any(found for _, found in self.all())

    def all(self) -> Iterable[tuple[str, list[str]]]:
        """Every list with its name."""
        return ((name, getattr(self, name)) for name in self.__dataclass_fields__)

    def __str__(self) -> str:
        lines = [f"{name}: {text}" for name, found in self.all() for text in found[:5]]
        return "\n".join(lines) or "clean"


def check(history: History) -> Verdict:
    """Judge a history of a run that came to rest: nothing is under way any more."""
    found = Verdict()
    by_source: defaultdict[Place, list[Decision]] = defaultdict(list)
    for decision in history.decisions:
        if decision.source is not None:
            by_source[decision.source].append(decision)
    waiting = _check_inputs(found, history, by_source)
    _check_duplicates(found, history)
    _check_outputs(found, history)
    _check_numbers(found, history.outputs)
    _check_told(found, history, by_source)
    _check_lanes(found, history, waiting)
    _check_order(found, history.outputs)
    _check_withdrawals(found, history)
    found.disagreeing += [f"{place} is not what its topic holds" for place in history.strange]
    there = {(output.place, output.event) for output in history.outputs}
    found.aborted += [f"{seen.place} {seen.event}" for seen in history.seen if (seen.place, seen.event) not in there]
    found.lost += [f"a reader missed {gap}" for gap in history.gaps]
    return found


def _check_inputs(found: Verdict, history: History, by_source: dict[Place, list[Decision]]) -> Counter[str]:
    """Every input is decided once; gives how many wait in each input partition."""
    waiting: Counter[str] = Counter()
    for item in history.inputs:
        decisions = by_source.get(item.place, ())
        final = [decision for decision in decisions if decision.outcome in FINAL]
        parked = len(decisions) - len(final)
        if parked > 1:
            found.doubled.append(f"{item.place} was parked {parked} times")
        if not final:
            if parked:
                waiting[_partition(item.place)] += 1
                if item.pupil not in history.absent:
                    found.lost.append(f"{item.place} still waits, and whom it is about has come")
            else:
                found.lost.append(f"{item.place} has no decision")
        receivers = Counter(decision.receiver for decision in final)
        found.doubled += [f"{item.place} was decided {n} times for {r}" for r, n in receivers.items() if n > 1]
        if None in receivers and len(receivers) > 1:
            found.doubled.append(f"{item.place} was decided for all and for {sorted(map(str, receivers))}")
    known = {item.place: item.event for item in history.inputs}
    found.doubled += [f"a decision about {source}, which is no input" for source in by_source if source not in known]
    found.lost += [
        f"{told.place} is not there, or another event; Kafka had acknowledged {told.event}"
        for told in history.acknowledged
        if known.get(told.place) != told.event
    ]
    return waiting


def _check_duplicates(found: Verdict, history: History) -> None:
    """What is called a duplicate was delivered under the same id, from the same topic."""
    delivered, reached = set(), set()
    for decision in history.decisions:
        if decision.outcome == "delivered" and decision.source is not None:
            topic = decision.source.topic
            delivered.add((topic, decision.event, decision.receiver))
            reached.add((topic, decision.event))
    for decision in history.decisions:
        if decision.outcome == "duplicate" and decision.source is not None:
            topic, to = decision.source.topic, decision.receiver
            known = (topic, decision.event) in reached if to is None else (topic, decision.event, to) in delivered
            if not known:
                found.lost.append(f"{decision.source} is called a duplicate for {to}, which never had it")


def _check_outputs(found: Verdict, history: History) -> None:
    """Each delivery has its one record, each record its one leaf."""
    leaves: Counter[tuple[object, ...]] = Counter(
        (d.flow, d.seq, d.event, d.receiver) for d in history.decisions if d.flow is not None
    )
    records: Counter[tuple[object, ...]] = Counter(
        (_partition(o.place), o.seq, o.event, o.receiver) for o in history.outputs
    )
    for key in leaves.keys() | records.keys():
        told, there = leaves[key], records[key]
        if there > told:
            (found.doubled if told else found.unaudited).append(f"{key} is there {there} times, with {told} leaves")
        elif told > there:
            (found.doubled if there else found.lost).append(f"{key} was delivered {told} times, and is there {there}")
    reached = Counter((o.event, o.sender, o.receiver) for o in history.outputs)
    found.doubled += [f"event {event} reached {to} {n} times" for (event, _, to), n in reached.items() if n > 1]
    events = {item.place: item.event for item in history.inputs}
    found.disagreeing += [
        f"{output.place} holds event {output.event}, and its leaf names {output.source}, which does not"
        for output in history.outputs
        if output.source is not None and events.get(output.source) != output.event
    ]
    found.lost += [
        f"{decision.source} is said to be delivered to {decision.receiver}, nowhere"
        for decision in history.decisions
        if decision.outcome == "delivered" and decision.flow is None and decision.receiver not in NO_RECORD
    ]


def _check_numbers(found: Verdict, outputs: list[Output]) -> None:
    """What a lane wrote to one partition is numbered from 1, in the order in which it stands there."""
    flows: defaultdict[tuple[str, str], list[Output]] = defaultdict(list)
    for output in outputs:
        flows[output.lane, _partition(output.place)].append(output)
    for (lane, flow), written in flows.items():
        numbers = [output.seq for output in sorted(written, key=lambda output: output.place.offset)]
        if numbers != list(range(1, len(numbers) + 1)):
            wrong = next(n for n, seq in enumerate(numbers) if seq != n + 1)
            found.reordered.append(f"{flow} of {lane}: {numbers[max(0, wrong - 2) : wrong + 3]} at its {wrong + 1}th")


def _check_told(found: Verdict, history: History, by_source: dict[Place, list[Decision]]) -> None:
    """Status and quarantine say what the audit says, once."""
    told: defaultdict[Place, Counter[tuple[str, str | None, str]]] = defaultdict(Counter)
    for status in history.statuses:
        told[status.source].update(status.results)
    for source in by_source.keys() | told.keys():
        decided = Counter((d.outcome, d.receiver, d.code) for d in by_source.get(source, ()))
        if missing := decided - told[source]:
            found.lost.append(f"{source}: its sender was not told {dict(missing)}")
        if extra := told[source] - decided:
            where = found.doubled if extra.keys() <= decided.keys() else found.unaudited
            where.append(f"{source}: its sender was told {dict(extra)}, which was not decided so often")
    kept = Counter(item.source for item in history.quarantined)
    for source in by_source.keys() | kept.keys():
        number = sum(d.outcome == "quarantined" for d in by_source.get(source, ()))
        if number > kept[source]:
            found.lost.append(f"{source} is said to be in quarantine")
        elif kept[source] > number:
            (found.doubled if number else found.unaudited).append(f"{source} is in quarantine {kept[source]} times")


def _check_lanes(found: Verdict, history: History, waiting: Counter[str]) -> None:
    """A lane's own record of where it stands agrees with what it did."""
    last: dict[tuple[str, str], int] = {}
    for output in history.outputs:
        flow = output.lane, _partition(output.place)
        last[flow] = max(last.get(flow, 0), output.seq)
    for name, end in history.ends.items():
        lane = history.lanes.get(name)
        if lane is None:
            if end:
                found.lost.append(f"{name}: no lane stands for {end} records")
            continue
        if lane.next_offset != end:
            found.disagreeing.append(f"{name} ends at {end}, its lane stands at {lane.next_offset}")
        if lane.parked != waiting[name]:
            found.disagreeing.append(f"{name}: {lane.parked} are parked, by the audit {waiting[name]}")
        flows = {flow: number for (of, flow), number in last.items() if of == name}
        if dict(lane.flows) != flows:
            found.disagreeing.append(f"{name}: numbers {dict(lane.flows)}, by the outputs {flows}")


def _check_order(found: Verdict, outputs: list[Output]) -> None:
    """Outputs about one pupil to one receiver come in the order of the sender's partition."""
    ways: defaultdict[tuple[str, str, str, str], list[Output]] = defaultdict(list)
    for output in outputs:
        if output.pupil is not None and output.source is not None:
            ways[_partition(output.source), output.pupil, output.receiver, output.family].append(output)
    for way, written in ways.items():
        if len({output.place.partition for output in written}) > 1:
            found.reordered.append(f"{way} is spread over partitions")
            continue
        written.sort(key=lambda output: output.place.offset)
        offsets = [output.source.offset for output in written if output.source is not None]
        if offsets != sorted(offsets):
            found.reordered.append(f"{way}: inputs {offsets}")


def _check_withdrawals(found: Verdict, history: History) -> None:
    for gone in history.withdrawals:
        found.late += [
            f"{output.place} {output.kind}, written {output.at_ms - gone.at_ms} ms after the withdrawal, and not "
            "committed when the deadline had passed"
            for output in history.outputs
            if (output.sender, output.receiver, output.family) == (gone.sender, gone.receiver, gone.family)
            and gone.school in (None, output.school)
            and output.kind not in CLOSING
            and _is_late(output, gone)
        ]


def _is_late(output: Output, gone: Withdrawal) -> bool:
    if gone.ends is None:
        return output.at_ms > gone.at_ms + DEADLINE_MS
    offset, name = output.place.offset, _partition(output.place)
    return offset >= gone.ends.get(name, 0) and not any(
        low <= offset < high for low, high in (gone.behind or {}).get(name, ())
    )


def _partition(place: Place) -> str:
    return f"{place.topic}/{place.partition}"
