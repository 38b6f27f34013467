"""The auditor's verifier: one file, to be run from a USB stick, without a network and without the rest of the project.

    python verify.py log DIR --key VKEY                 is the log whole, and what its signed checkpoint says?
    python verify.py window DIR --key VKEY              and was no decision left out of it, none added or moved?
    python verify.py receipt FILE --policy POLICY       is this decision in the log, and of these bytes (--value)?
    python verify.py consistency OLD NEW --log DIR      is NEW an extension of OLD, or was history rewritten?

It needs Python 3.11 and `cryptography`, and shares no code with the log's writer: a mistake in one is not a mistake in
both. Formats: C2SP tlog-tiles, tlog-checkpoint, signed-note (Ed25519), cosignature/v1, tlog-proof and tlog-policy;
the tree is that of RFC 6962. Rules of windows: R1 inputs, R2 receivers, R3 numbers and hashes, R6 counts, R7 erasures
(R4, R5, counts that parties signed, are not checked). Exit codes: 0 it holds, 1 it does not, 2 it could not be checked.
"""

from __future__ import annotations

import argparse
import hmac
import json
import re
import sys
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from secrets import randbelow
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH: Final = 256  # hashes of a full tile, entries of a full bundle (tlog-tiles)
NOTE_BYTES, RECEIPT_BYTES, VALUE_BYTES, BUNDLE_BYTES = 1 << 17, 1 << 20, 1 << 26, WIDTH * (2 + 0xFFFF)
SHOWN_FINDINGS, SAMPLE_EVERY, FOLDER_DEPTH = 50, 32, 4
LATE_MS, OPEN_LEAVES = 180_000, 1_000_000  # a window lasts a minute; more leaves than these in one are a finding
LEAVES: Final = ({"ldv", "x"}, {"control"}, {"window"}, {"count"}, {"epoch"}, {"key"}, {"erased"}, {"digest"})
_HASH, _NUMBER, _SIGNED = "[A-Za-z0-9+/]{43}=", "(0|[1-9][0-9]{0,18})", r"— [^\s+\x00-\x1f\ufffd]+ [A-Za-z0-9+/=]+\n"
CHECKPOINT: Final = re.compile(rf"([^\x00-\x1f\ufffd]+)\n{_NUMBER}\n({_HASH})\n\n((?:{_SIGNED})+)")
_PROOF: Final = rf"c2sp\.org/tlog-proof@v1\nextra ([A-Za-z0-9+/=]+)\nindex {_NUMBER}\n((?:{_HASH}\n){{0,63}})\n(.+)"
HOW: Final = "log: which entries are parsed, not only hashed: odd ones and 1 in 32 by chance (default), all, or none"


def say(text: str) -> None:
    """A line on stdout. Names of folders and texts in files are not ours: nothing of them may steer a terminal."""
    print("".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text))


class Findings:
    """Prints and counts what does not hold. A ValueError is a finding too, an OSError what could not be checked."""

    count = 0
    see: Callable[[bytes], object] = len  # is shown each entry of a log, in order

    def __call__(self, sentence: object) -> None:
        self.count += 1
        if self.count <= SHOWN_FINDINGS:
            say(f"FINDING: {sentence}" + " Further ones are only counted." * (self.count == SHOWN_FINDINGS))


def read(path: Path | str, limit: int) -> bytes:
    """A regular file of at most `limit` bytes; no pipe or device, which could keep us waiting for ever."""
    if not Path(path).is_file():
        raise OSError(f"{path} is missing or is no file.")
    with Path(path).open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path} is larger than the {limit} bytes that its format allows.")
    return data


def unbase64(text: str, what: str, altchars: bytes = b"+/") -> bytes:
    """RFC 4648; only the one canonical writing, else some bits of a file would mean nothing."""
    try:
        data = b64decode(text, altchars, validate=True)
    except ValueError:
        data = b""
    if b64encode(data, altchars).decode() != text:
        raise ValueError(f"{what} is not canonical base64.")
    return data


class Trust(NamedTuple):
    """Whose signatures count, and which witnesses must have signed: `groups` has a threshold and members by name."""

    keys: dict[tuple[str, bytes], tuple[bytes, str]]  # by name and id: the public key and, if of a witness, whose
    groups: dict[str, tuple[int, Sequence[str]]]
    quorum: str

    def witnessed(self, names: Collection[str]) -> bool:
        """Whether these witnesses are a quorum. Groups stand in the order of the policy, members before groups."""
        hold = {"none", *names}
        for name, (threshold, members) in self.groups.items():
            if len(hold.intersection(members)) >= threshold:
                hold.add(name)
        return self.quorum in hold


def read_policy(text: str, where: str) -> Trust:
    """A tlog-policy. Names are opaque octets; a vkey is `name+hex(id)+base64(type ‖ public)` (signed-note)."""
    trust, quorum = Trust({}, {}, ""), list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        words, vkey, witness = [word for word in re.split("[ \t]+", line) if word], "", ""
        names = {"none", *trust.groups, *(witness for _, witness in trust.keys.values())} - {""}
        match words if not "".join(words).startswith("#") else []:
            case []:
                continue
            case ["log", vkey] | ["log", vkey, _]:
                pass
            case ["witness", witness, vkey] | ["witness", witness, vkey, _] if witness not in names:
                pass
            case ["group", name, need, *of] if name not in names and of and names.issuperset(of):
                need = {"any": "1", "all": str(len(of))}.get(need, need)
                trust.groups[name] = int(need) if re.fullmatch("[1-9][0-9]{0,5}", need) else 0, of
            case ["quorum", name] if name in names:
                quorum.append(name)
            case _:
                raise OSError(f"{where}, line {number}: no line of a policy, or a name undefined before it, or twice.")
        if words[0] in ("log", "witness"):
            found = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})", vkey)
            name, data = (found[1], b64decode(found[3])) if found else ("", b"-")
            made = sha256(name.encode(errors="surrogateescape") + b"\n" + data).digest()[:4]
            # All logs of a broker may be signed with one key, under the name of each; no witness may count twice.
            twice = (name, made) in trust.keys or data[1:] in {key for key, of in trust.keys.values() if witness or of}
            if not found or data[0] != (4 if witness else 1) or made.hex() != found[2] or twice:
                raise OSError(f"{where}, line {number}: no Ed25519 verifier key of the type for this, or one twice.")
            trust.keys[name, made] = data[1:], witness
    members = ["none", *(member for _, of in trust.groups.values() for member in of)]
    wrong = len({*members}) < len(members) or any(not 0 < need <= len(of) for need, of in trust.groups.values())
    if wrong or len(quorum) != 1 or all(w for _, w in trust.keys.values()) or re.search("[\0-\x08\x0b-\x1f\x7f]", text):
        raise OSError(f"{where} needs a log, one quorum line, thresholds that can be met, nobody in two groups.")
    return trust._replace(quorum=quorum[0])


class Checkpoint(NamedTuple):
    """A checkpoint whose signatures were verified: that of a key of its log, and those of these witnesses."""

    where: str
    origin: str
    size: int
    root: bytes
    key: str
    witnesses: frozenset[str]

    def __str__(self) -> str:
        root = b64encode(self.root).decode()
        return f"size {self.size}, root {root}, origin {self.origin!a:.200}, signed by key {self.key!a:.200}"

    @classmethod
    def open(cls, path: Path | str, trust: Trust, data: bytes | None = None) -> Checkpoint:
        """Verify: signatures of unknown keys are ignored, a wrong one of a known key refuses all (signed-note)."""
        data = read(path, NOTE_BYTES) if data is None else data
        found = CHECKPOINT.fullmatch(data.decode(errors="replace"))
        if found is None:
            raise ValueError(f"{path} has no checkpoint: just origin, size, root, a blank line, signatures.")
        body, root = data[: data.index(b"\n\n") + 1], unbase64(found[3], f"The root in {path}")
        signer, witnesses = "", set()
        for line in found[4].split("\n")[:-1]:
            _, name, encoded = line.split(" ")
            blob = unbase64(encoded, f"A signature in {path}")
            public, witness = trust.keys.get((name, blob[:4]), (b"", ""))
            time = int.from_bytes(blob[4:12], "big")  # tlog-cosignature, "Ed25519 signed message"
            message = b"cosignature/v1\ntime %d\n" % time + body if witness else body
            try:
                if public:
                    Ed25519PublicKey.from_public_bytes(public).verify(blob[12 if witness else 4 :], message)
            except (InvalidSignature, ValueError) as error:
                raise ValueError(f"{path} has a wrong signature under a known key, {name!a:.200}.") from error
            witnesses |= {witness} - {""}
            if public and not witness and name == found[1]:
                signer = f"{name}+{blob[:4].hex()}"
        if not signer:
            raise ValueError(f"{path} (origin {found[1]!a:.200}) is not signed by a known key of that origin.")
        return cls(str(path), found[1], int(found[2]), root, signer, frozenset(witnesses))


def fold(hashes: Sequence[bytes]) -> bytes:
    """Root over one or more hashes (RFC 6962 section 2.1): paired level by level, an odd last one rises as it is."""
    while len(hashes) > 1:
        pairs, odd = iter(hashes), hashes[len(hashes) & ~1 :]
        hashes = [*[sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)], *odd]
    return hashes[0]


def walk(folder: Path, size: int, sizes: Collection[int], how: str, find: Findings) -> dict[int, bytes]:
    """The roots at `sizes`, from the entries or, `how` "tiles", from those; of each level it holds one tile only."""
    roots, levels = {0: sha256(b"").digest()}, [list[bytes]() for _ in range(9)]  # 256^9 is above any size
    for number in range(-(-size // WIDTH)):
        start, level = number * WIDTH, 0
        name, levels[0] = load(folder, 0 if how == "tiles" else "entries", number, min(WIDTH, size - start))
        if how != "tiles":
            raw, every = levels[0] if how in ("shape", "all") else [], {"shape": SAMPLE_EVERY}.get(how, 1)
            odd = {i for i, e in enumerate(raw) if e[:8] != b'{"ldv":{' or e[-2:] != b"}}" or b'},"v":1,"x":{' not in e}
            for i in sorted(odd.union(range(randbelow(every), len(raw), every))):  # no writer can know which
                if not parse(raw[i], LEAVES, dict):
                    find(f"Bundle {name}: entry {start + i} is not canonical JSON of a known kind of leaf.")
            for entry in levels[0]:
                find.see(entry)
            levels[0] = [sha256(b"\x00" + entry).digest() for entry in levels[0]]
        for wanted in (wanted for wanted in sizes if start < wanted <= start + WIDTH):
            roots[wanted] = fold(levels[0][: wanted - start])
            for upper in levels[1:]:
                roots[wanted] = fold([*upper, roots[wanted]])
        while len(levels[level]) == WIDTH:
            compare_tile(folder, level, number >> 8 * level, levels[level], how, find)
            levels[level + 1].append(fold(levels[level]))
            levels[level], level = [], level + 1
    for level, hashes in enumerate(levels):
        compare_tile(folder, level, size >> 8 * (level + 1), hashes, how, find)
    return roots


# A decision: index, input offset (None: a duty), (decision, receiver, process), flow and number if any, trace ‖ span.
Leaf = tuple[int, int | None, tuple[str, str, str], str | None, int, bytes]


class Lane:
    """One reader of an input partition, between two of its leaves."""

    def __init__(self, founded: bool) -> None:
        self.founded, self.number, self.next, self.base, self.highest, self.since = founded, 0, 0, 0, -1, -1
        self.leaves, self.parts, self.parked = list[Leaf](), list[dict[str, Any]](), set[int]()
        self.flows: dict[str, tuple[int, bytes]] = {}  # last number and running hash, as the last window told them


class Windows:
    """Reads all leaves of one log, and judges each window when its leaf comes. `gaps`: lost input, for all logs.

    A lane counts what it writes: `count`, `first` and `next` of its input, leaves by decision, receiver and process,
    and for each flow the numbers and a hash that runs on: SHA-256(hash ‖ trace ‖ span), from 32 zero bytes.
    """

    def __init__(self, where: Path, gaps: list[dict[str, Any]], find: Findings) -> None:
        self.where, self.gaps, self.find, self.lanes = where, gaps, find, dict[str, Lane]()
        self.index, self.founded, self.newest, self.judged, self.erased = -1, True, 0, 0, dict[str, str]()

    def __call__(self, entry: bytes) -> None:
        """Read the next leaf."""
        self.index += 1
        leaf = parse(entry, LEAVES, dict)
        try:
            if "x" in leaf:
                self.decision(leaf["ldv"], leaf["x"])
            elif "window" in leaf:
                self.window(leaf["window"])
            elif "erased" in leaf:  # the ERASE of the first one of an epoch may be in the log before
                if not self.erased.pop(whole(leaf["erased"]["id"], str), "") and (self.founded or self.judged):
                    self.find(f"R7, {self.where}: entry {self.index} is of an erasure that no ERASE before it asked.")
            elif str((told := leaf.get("control", {})).get("kind")).startswith("input-"):
                ends = {name: whole(told[name], int) for name in ("first", "last", "next_offset")}
                self.gaps.append({"place": place_of(told), "kind": told["kind"], **ends})
            elif not leaf:
                raise ValueError
            self.founded &= "epoch" not in leaf
        except (ValueError, TypeError, LookupError, AttributeError):
            self.find(f"R0, {self.where}: entry {self.index} can not be read as a decision, a window or another leaf.")

    def lane(self, place: str, at: int) -> Lane:
        """The lane of an input partition, of which a leaf was written at a time."""
        lane, self.newest = self.lanes.setdefault(place, Lane(self.founded)), max(self.newest, at)
        lane.since = at if lane.since < 0 else lane.since
        return lane

    def decision(self, ldv: dict[str, Any], x: dict[str, Any]) -> None:
        """A decision: its span follows from its input and receiver, and is so unlike any other's."""
        receiver, source, ids = whole(x.get("receiver", ""), str), x.get("in"), ldv["trace_id"] + ldv["span_id"]
        place, offset = (place_of(source), whole(source["offset"], int)) if source else (f"in.{receiver}/0", None)
        decision, process, flow = whole(x["decision"], str), whole(x.get("process", ""), str), x.get("flow")
        if re.fullmatch("[0-9a-f]{48}", ids) is None or (flow is None) != ("seq" not in x):
            raise ValueError
        flow, seq = (None, 0) if flow is None else (whole(flow, str), whole(x["seq"], int))
        to, (topic, _, part) = ("\0waits" if decision == "parked" else "") + receiver, place.rpartition("/")
        of = f"{topic}\0{part}\0{offset}\0{to}" if source else f"duty/{whole(x['event'], str)}\x000\x000\0{receiver}"
        span, lane = sha256(b"audit/span/v1" + of.encode()).digest()[:8], self.lane(place, whole(ldv["end_time"], int))
        if (span if any(span) else b"\1" + span[1:]) != bytes.fromhex(ids)[16:]:
            self.tell("R2", place, lane.number + 1, f"entry {self.index} has not the span of its input and receiver.")
        if lane.parts:
            self.tell("R6", place, lane.number + 1, f"entry {self.index} stands between the parts of a window.")
            lane.parts = []
        if (x.get("family"), x.get("kind"), decision) == ("identity", "ERASE", "delivered"):  # its leaf must follow
            number = sha256(f"audit/erased/v1{topic}\0{part}\0{offset}".encode()).digest()[:16]
            self.erased[b64encode(number, b"-_").decode().rstrip("=")] = place
        lane.leaves.append((self.index, offset, (decision, receiver, process), flow, seq, bytes.fromhex(ids)))
        if len(lane.leaves) > OPEN_LEAVES:
            self.tell("R6", place, lane.number + 1, f"{OPEN_LEAVES} leaves are in no window; they are not looked at.")
            lane.leaves = []

    def window(self, window: dict[str, Any]) -> None:
        """A window, or a part of one."""
        no, part, parts = (whole(window[name], int) for name in ("no", "part", "parts"))
        place = place_of(window["input"])
        lane = self.lane(place, whole(window["to"], int))
        if not whole(window["lane"], str).endswith("." + place.replace("/", ".")):
            raise ValueError
        common = {name: window[name] for name in window if name not in ("counts", "flows", "part")}
        if any(each[name] != common[name] for each in lane.parts for name in common) or part != len(lane.parts) + 1:
            self.tell("R6", place, no, f"part {part} of {parts} does not follow the parts before it.")
            lane.parts = []
        lane.parts.append(window)
        if part < parts:
            return
        told, said = ([each for part in lane.parts for each in part[name]] for name in ("counts", "flows"))
        counts = [((each["decision"], each["party"], each["process"]), whole(each["n"], int)) for each in told]
        ends = ((whole(each["flow"], str), whole(each["first"], int), whole(each["last"], int)) for each in said)
        flows = [(*end, unbase64(each["root"] + "=", "A hash", b"-_")) for end, each in zip(ends, said, strict=True)]
        source = {name: whole(window["input"][name], int) for name in ("count", "first", "next")}
        for each in [each for each, of in self.erased.items() if of == place]:
            self.tell("R7", self.erased.pop(each), no, "a person was erased, and no leaf tells it.")
        if lane.founded:
            found = [*self.inputs(lane, place, source), *numbers(lane, flows)]
            if no != lane.number + 1:
                found.append(("R6", f"it stands where window {lane.number + 1} should."))
            there, total = sorted(Counter(key for _, _, key, *_ in lane.leaves).items()), whole(window["leaves"], int)
            if sorted(counts) != there or total != len(lane.leaves):
                found.append(("R6", f"its counts, of {total} leaves, are not those of the {len(lane.leaves)} there."))
            for rule, sentence in found:
                self.tell(rule, place, no, sentence)
        else:  # what was before it is in another log
            lane.base, lane.highest = source["next"], source["next"] - 1
            lane.parked = {at for _, at, key, *_ in lane.leaves if key[0] == "parked" and at is not None}
        lane.founded, lane.number, lane.next, lane.since, lane.leaves, lane.parts = True, no, source["next"], -1, [], []
        lane.flows.update({name: (last, root) for name, _, last, root in flows})
        self.judged += 1

    def inputs(self, lane: Lane, place: str, source: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        """R1 and R2: all leaves of an input stand together, inputs rise, and only what waited comes again."""
        fresh, run, to, moved = list[int](), -1, set[str](), False
        gaps = [gap for gap in self.gaps if gap["place"] == place]
        back = next((g for g in gaps if g["kind"] == "input-reset" and g["next_offset"] <= source["next"]), None)
        of_input = ((entry, offset, key) for entry, offset, key, *_ in lane.leaves if offset is not None)
        for entry, offset, (decision, receiver, _) in of_input:
            if offset != run:
                run, to = offset, set()
                if offset in lane.parked:
                    lane.parked.remove(offset)
                elif offset > lane.highest or (back and not moved and offset >= back["next_offset"]):
                    moved |= offset <= lane.highest
                    lane.highest = offset
                    fresh.append(offset)
                elif offset >= lane.base:
                    yield "R1", f"entry {entry} decides over offset {offset}, which was decided over before."
            if receiver in to:
                yield "R2", f"entry {entry} decides over offset {offset} again for one receiver."
            to.add(receiver)
            if decision == "parked":
                lane.parked.add(offset)
                run = -1
        if source["count"] != len(fresh):
            yield "R1", f"it counts {source['count']} input records, and {len(fresh)} have leaves."
        if back and (moved or source["next"] <= lane.highest):
            lane.highest = source["next"] - 1
            return self.gaps.remove(back)
        own = range(source["first"], source["next"])
        if source["count"] > len(own) or any(offset not in own for offset in fresh):
            yield "R1", "its leaves name other input offsets than it does."
        lost = [gap for gap in gaps if gap["kind"] == "input-lost" and gap["first"] <= lane.next]
        if source["first"] != lane.next and not any(lane.next < source["first"] <= gap["last"] + 1 for gap in lost):
            yield "R1", f"its input begins at offset {source['first']}, and the window before ended at {lane.next}."

    def end(self, now: int) -> None:
        """What is in no window: late lanes are findings, others are told."""
        for place, lane in ((place, lane) for place, lane in self.lanes.items() if lane.since >= 0):
            what = f"{len(lane.leaves)} leaves are in no window, the oldest for {(now - lane.since) // 1000} s."
            say(f"OPEN, not checked: {self.where}, lane {place!a:.200}, window {lane.number + 1}: {what}")
            if now - lane.since > LATE_MS:
                self.tell("R6", place, lane.number + 1, what)

    def tell(self, rule: str, place: str, no: int, sentence: str) -> None:
        """A finding."""
        self.find(f"{rule}, {self.where}, lane {place!a:.200}, window {no}: {sentence}")


def numbers(lane: Lane, said: Sequence[tuple[str, int, int, bytes]]) -> Iterator[tuple[str, str]]:
    """R3: the numbers of each flow follow each other, and its hash runs on."""
    flows: dict[str, list[tuple[int, bytes]]] = {name: [] for name, *_ in said}
    for *_, flow, seq, ids in lane.leaves:
        if flow is not None:
            flows.setdefault(flow, []).append((seq, ids))
    if len(flows) > len(said) or not all(flows.values()):
        yield "R3", "it does not tell of the flows that its leaves are of."
    for name, first, last, root in said:
        (before, its), found = lane.flows.get(name, (0, bytes(32))), flows[name]
        if (first, last) != (before + 1, before + len(found)) or [seq for seq, _ in found] != [*range(first, last + 1)]:
            yield "R3", f"a flow stood at number {before}, {len(found)} leaves are there, it tells {first} to {last}."
        for _, ids in found:
            its = sha256(its + ids).digest()
        if its != root:
            yield "R3", f"the running hash of a flow up to number {last} is not that of the leaves."


def whole(value: Any, kind: type) -> Any:
    """A number from 0 on, or a text."""
    if (kind is int and value < 0) or type(value) is not kind:
        raise TypeError
    return value


def place_of(source: Mapping[str, Any]) -> str:
    """Topic and partition of an input."""
    return f"{whole(source['topic'], str)}/{whole(source['partition'], int)}"


def compare_tile(folder: Path, level: int, number: int, hashes: list[bytes], how: str, find: Findings) -> None:
    """Is the stored tile what the entries give?"""
    name, stored = load(folder, level, number, len(hashes)) if hashes and how != "tiles" else ("", hashes)
    if wrong := [number * WIDTH + i for i, one in enumerate(hashes) if one != stored[i]]:
        find(f"Tile {name} is not what the entries give, from {'hash' if level else 'entry'} {wrong[0]} on.")


def load(folder: Path, level: int | str, number: int, width: int) -> tuple[str, list[bytes]]:
    """Name and first `width` hashes of a tile or entries of a bundle; of the full one if the partial one is gone."""
    groups = re.findall("...", f"{number:0{-(-len(str(number)) // 3) * 3}}")
    name = "/".join(["tile", str(level), *(f"x{group}" for group in groups[:-1]), groups[-1]])
    full = width == WIDTH or not ((folder / f"{name}.p/{width}").exists() or not (folder / name).exists())
    name, real = (name, WIDTH) if full else (f"{name}.p/{width}", width)
    data, found, at, head = read(folder / name, BUNDLE_BYTES), list[bytes](), 0, 2 if level == "entries" else 0
    while len(found) < real and at + 1 < len(data):
        end = at + (2 + (data[at] << 8 | data[at + 1]) if head else 32)
        found.append(data[at + head : end])
        at = end
    if len(found) < real or at != len(data):
        raise ValueError(f"{folder / name} is cut off or has bytes at its end that do not belong: it must hold {real}.")
    return name, found[:width]


_WHOLE: Final[Any] = {"parse_int": lambda text: int(text) if abs(float(text)) < 1 << 53 else Decimal(text)}
_decode: Final = json.JSONDecoder(parse_float=Decimal, parse_constant=Decimal, **_WHOLE).decode
_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def parse(data: bytes, shapes: Collection[Collection[str]], kind: type) -> dict[str, Any]:
    """Members of canonical JSON (RFC 8785, no floats) with v = 1, if all of a kind and named as a shape, else none."""
    try:
        value = _decode(data.decode())
        same = _encode(value).encode() == data and repr(value.pop("v")) == "1"
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}
    return value if same and value.keys() in shapes and all(isinstance(each, kind) for each in value.values()) else {}


def compare_roots(old: Checkpoint, new: Checkpoint, root: bytes, find: Findings) -> None:
    """Say why a tree is no extension of an older one, in words to be quoted; `root` is that of its first entries."""
    why = f"REWRITTEN: what was signed as the first {old.size} entries now has the root {b64encode(root).decode()}."
    if old.origin != new.origin:
        why = "ANOTHER LOG: the two checkpoints are not of one origin."
    elif old.size > new.size:
        why = "ROLLED BACK: the checkpoint signed earlier is of more entries."
    elif old.size == new.size and old.root != new.root:
        why = "FORK: one log signed two different trees of the same size."
    elif root == old.root:
        return
    find(f"{why} {old.where}: {old}. {new.where}: {new}.")


def run_log(args: argparse.Namespace, find: Findings) -> str:
    """`log DIR` and `window DIR`: one log, or each log in the folders below."""
    folder, done, gaps, windows = Path(args.files[0]), list[Checkpoint](), list[dict[str, Any]](), list[Windows]()
    depths = range(1 if (folder / "checkpoint").exists() else FOLDER_DEPTH + 1)
    folders = [path.parent for depth in depths for path in sorted(folder.glob("*/" * depth + "checkpoint"))]
    if not folders:
        raise OSError(f"{folder} holds no file `checkpoint`, and no folder in it does.")
    trust = trust_of(args, folders)
    olds = [Checkpoint.open(path, trust) for path in args.old or []]
    how = "windows" if args.command == "window" else args.entries or "shape"
    # The control log first: it tells of input that was lost.
    for each in sorted(folders, key=lambda path: not path.name.startswith("control")):
        find.see = Windows(each, gaps, find) if how == "windows" else len
        windows += [find.see] if isinstance(find.see, Windows) else []
        try:
            now, path = Checkpoint.open(each / "checkpoint", trust), each / "checkpoint.w"
            cosigned = Checkpoint.open(path, trust) if path.exists() else now  # the newest that witnesses signed
            if not (trust.witnessed(now.witnesses) or trust.witnessed(cosigned.witnesses)):
                find(f"{each}: no checkpoint has the signatures of witnesses that the policy asks for (quorum).")
            before = [*dict.fromkeys([now, cosigned]), *(old for old in olds if old.origin == now.origin)]
            roots = walk(each, now.size, {old.size for old in before}, how, find)
            for old in before:
                compare_roots(old, now, roots.get(old.size, b""), find)
            done.append(now)
        except (ValueError, OSError) as error:
            find(f"{error} Of {each} nothing beyond that was checked.")
    if len({log.origin for log in done}) < len(done):
        find("Two folders hold a log of the same origin: one stands where another log should.")
    for old in (old for old in olds if all(old.origin != log.origin for log in done)):
        find(f"{old.where} is of the origin {old.origin!a:.200}, of which no whole log is here.")
    for its in windows:
        its.end(max(of.newest for of in windows) if args.now is None else args.now)
    judged = f"; {sum(each.judged for each in windows)} windows were judged" if windows else ""
    return ("; ".join(map(str, done)) or "no log was read to its end") + judged


def run_receipt(args: argparse.Namespace, find: Findings) -> str:
    """`receipt FILE`: a tlog-proof. Its extra data is not signed: no bit may be free. An erasure alone has no salt."""
    where, trust = args.files[0], trust_of(args, [Path(args.files[0]).parent])
    found = re.fullmatch(_PROOF, read(where, RECEIPT_BYTES).decode(errors="surrogateescape"), re.DOTALL)
    if found is None:
        raise ValueError(f"{where} is not a tlog-proof with extra data, an index, a path and a checkpoint.")
    extra = parse(unbase64(found[1], f"The extra data of {where}"), ({"entry", "salt"}, {"entry"}), str)
    entry, salted = extra.get("entry", "").encode(), extra.get("salt", "A" * 43)
    leaf, now = parse(entry, LEAVES, dict), Checkpoint.open(where, trust, found[4].encode(errors="surrogateescape"))
    if not leaf or len(salted) != 43 or ("salt" in extra) == ("erased" in leaf):
        raise ValueError(f"{where} is not canonical JSON of a known kind of leaf, v = 1 and, unless erased, a salt.")
    salt = unbase64(salted + "=", f"The salt in {where}", b"-_")
    index, path = int(found[2]), [unbase64(line, f"A path hash of {where}") for line in found[3].split("\n")[:-1]]
    if not trust.witnessed(now.witnesses):
        find(f"The checkpoint in {where} has not the signatures of witnesses that the policy asks for (quorum).")
    if climb(sha256(b"\x00" + entry).digest(), index, now.size, path) != now.root:
        find(f"The entry in {where} is not entry {index} of the tree that its checkpoint was signed for.")
    said = "The value was not checked: that needs --value."
    if args.value is not None:
        parts = b"".join(len(p).to_bytes(4, "big") + p for p in (b"audit/value/v1", read(args.value, VALUE_BYTES)))
        made, x = b64encode(hmac.digest(salt, parts, "sha256"), b"-_")[:-1].decode(), leaf.get("x", {})
        source = x["in"].get("value") if isinstance(x.get("in"), dict) else None
        said = f"{args.value} is, byte for byte, what {'came in' if made == source else 'went out'}."
        if made not in (x.get("value"), source):
            find(f"{args.value} is not the value that the leaf in {where} commits to.")
    if not find.count:
        say(f"The leaf says: {told(leaf)} {said}")
    return f"entry {index} of {now}"


def climb(node: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf hash and its path, from the leaf upwards, lead to (RFC 6962 section 2.1.1)."""
    inner = (index ^ size - 1).bit_length()  # the level from which on the node is the last one: others stand left of it
    if index >= size or len(path) != inner + (index >> inner).bit_count():
        raise ValueError("The path of the receipt does not fit its index and the size of the tree.")
    for level, other in enumerate(path):
        left = level >= inner or index >> level & 1
        node = sha256(b"\x01" + (other + node if left else node + other)).digest()
    return node


def told(leaf: Mapping[str, Any]) -> str:
    """What a leaf says, in a sentence: names only, as a leaf holds no values."""
    if "x" not in leaf:
        return f"no decision about an event, but {_encode(leaf)!a:.1000}"
    x, end, names = leaf["x"], leaf["ldv"].get("end_time"), ("event", "sender", "receiver", "decision", "kept")
    when = datetime.fromtimestamp(end / 1000, UTC) if type(end) is int and 0 <= end < 1 << 47 else "an unknown time"
    return f"at {when}, " + ", ".join(f"{name} {x.get(name, 'not named')!a:.400}" for name in names) + "."


def run_consistency(args: argparse.Namespace, find: Findings) -> str:
    """`consistency OLD NEW`: the roots at both sizes, from the tiles with the leaf hashes."""
    folder, trust = Path(args.log), trust_of(args, [Path(args.log)])
    old, new = (Checkpoint.open(path, trust) for path in args.files)
    roots = {old.size: old.root}
    if old.origin == new.origin and old.size < new.size:
        roots = walk(folder, new.size, {old.size, new.size}, "tiles", find)
        if roots[new.size] != new.root:
            raise OSError(f"The tiles in {folder} do not lead to the root of {new.where}, so they prove nothing.")
    compare_roots(old, new, roots[old.size], find)
    return f"{new.where} ({new}) after {old.where} ({old})"


def trust_of(args: argparse.Namespace, folders: Sequence[Path]) -> Trust:
    """Policy, keys or key file; else the keys beside the logs, which is then said."""
    if args.policy:
        return read_policy(read(args.policy, NOTE_BYTES).decode(errors="surrogateescape"), args.policy)
    paths = [args.key_file] if args.key_file else [str(folder / "log.vkey") for folder in folders]
    texts = args.key or [read(path, NOTE_BYTES).decode(errors="surrogateescape").removesuffix("\n") for path in paths]
    if not (args.key or args.key_file):
        say(f"NOTE: keys from {', '.join(paths)} beside the log; compare with the published ones: {', '.join(texts)}")
    keys = "".join(f"log {line}\n" for text in (args.key or dict.fromkeys(texts)) for line in text.split("\n"))
    return read_policy(f"{keys}quorum none", "--key" if args.key else ", ".join(paths))


def main(arguments: Sequence[str] | None = None, program: str = "verify.py") -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(program, "%(prog)s log|window DIR | receipt FILE | consistency OLD NEW --log DIR")
    parser.add_argument("command", choices=("log", "window", "receipt", "consistency"))
    parser.add_argument("files", nargs="+", help="DIR holds `checkpoint` and `tile`, or folders that do")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--key", action="append", help="verifier key (vkey) of a log; may be repeated")
    keys.add_argument("--key-file", help="file of verifier keys, one a line; default: log.vkey beside what is checked")
    keys.add_argument("--policy", help="tlog-policy file: logs, witnesses, quorum (consistency asks for no quorum)")
    parser.add_argument("--old", action="append", help="log: a checkpoint from before that DIR must extend; repeatable")
    parser.add_argument("--entries", choices=("shape", "all", "hashes"), help=HOW)
    parser.add_argument("--value", help="receipt: file with the bytes that were sent or received")
    parser.add_argument("--now", type=int, help="window: ms since 1970 at which no window may be late; default: newest")
    parser.add_argument("--log", help="consistency: folder with the tiles")
    args, find = parser.parse_intermixed_args(arguments), Findings()
    run = {"log": run_log, "window": run_log, "receipt": run_receipt, "consistency": run_consistency}[args.command]
    takes = {"log": ("old", "entries"), "window": ("old", "now"), "receipt": ("value",)}.get(args.command, ("log",))
    given = {name for name in ("log", "value", "old", "entries", "now") if getattr(args, name) is not None}
    if len(args.files) != 1 + (run is run_consistency) or not given.issubset(takes) or (given < {"log"} == {*takes}):
        parser.error(f"`{args.command}` does not take these arguments, or not so few")
    try:
        what = run(args, find)
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and not find.count:
            say(f"NOT VERIFIED: it could not be checked. {error}")
            return 2
        what = "the check ended there"
        find(error)
    say(f"NOT VERIFIED: {find.count} finding(s); {what}." if find.count else f"VERIFIED: {what}.")
    return 1 if find.count else 0


if __name__ == "__main__":
    sys.exit(main())
