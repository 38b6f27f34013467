"""The auditor's verifier: one file, to be run from a USB stick, without a network and without the rest of the project.

    python verify.py log DIR --key VKEY                 is the log whole, and what its signed checkpoint says?
    python verify.py receipt FILE --policy POLICY       is this decision in the log, and of these bytes (--value)?
    python verify.py consistency OLD NEW --log DIR      is NEW an extension of OLD, or was history rewritten?

It needs Python 3.11 and `cryptography`, and shares no code with the log's writer: a mistake in one is not a mistake in
both. Formats: C2SP tlog-tiles, tlog-checkpoint, signed-note (Ed25519), cosignature/v1, tlog-proof and tlog-policy;
the tree is that of RFC 6962. Exit codes: 0 it holds, 1 it does not hold, 2 it could not be checked.
"""

from __future__ import annotations

import argparse
import hmac
import json
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping, Sequence
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
LEAVES: Final = ({"ldv", "x"}, {"control"}, {"window"}, {"count"}, {"epoch"}, {"key"}, {"erased"}, {"digest"})
_HASH, _NUMBER, _SIGNED = "[A-Za-z0-9+/]{43}=", "(0|[1-9][0-9]{0,18})", r"— [^\s+\x00-\x1f\ufffd]+ [A-Za-z0-9+/=]+\n"
CHECKPOINT: Final = re.compile(rf"([^\x00-\x1f\ufffd]+)\n{_NUMBER}\n({_HASH})\n\n((?:{_SIGNED})+)")
_PROOF: Final = rf"c2sp\.org/tlog-proof@v1\nextra ([A-Za-z0-9+/=]+)\nindex {_NUMBER}\n((?:{_HASH}\n){{0,63}})\n(.+)"
HOW: Final = """log: every entry is hashed. "shape" (default): each must also look like a decision; other kinds and a
random 1 in 32 are parsed. "all": each is parsed as canonical JSON of a known kind, slower. "hashes": none is parsed."""


def say(text: str) -> None:
    """A line on stdout. Names of folders and texts in files are not ours: nothing of them may steer a terminal."""
    print("".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text))


class Findings:
    """Prints and counts what does not hold. A ValueError is a finding too, an OSError what could not be checked."""

    count = 0

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
            twice = data[1:] in {public for public, _ in trust.keys.values()}
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
            raw, every = levels[0] if how != "hashes" else [], {"shape": SAMPLE_EVERY}.get(how, 1)
            odd = {i for i, e in enumerate(raw) if e[:8] != b'{"ldv":{' or e[-2:] != b"}}" or b'},"v":1,"x":{' not in e}
            for i in sorted(odd.union(range(randbelow(every), len(raw), every))):  # no writer can know which
                if not parse(raw[i], LEAVES, dict):
                    find(f"Bundle {name}: entry {start + i} is not canonical JSON of a known kind of leaf.")
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
    """`log DIR`: one log, or each log in the folders below."""
    folder, done = Path(args.files[0]), list[Checkpoint]()
    depths = range(1 if (folder / "checkpoint").exists() else FOLDER_DEPTH + 1)
    folders = [path.parent for depth in depths for path in sorted(folder.glob("*/" * depth + "checkpoint"))]
    if not folders:
        raise OSError(f"{folder} holds no file `checkpoint`, and no folder in it does.")
    trust = trust_of(args, folders)
    olds = [Checkpoint.open(path, trust) for path in args.old or []]
    for each in folders:
        try:
            now, path = Checkpoint.open(each / "checkpoint", trust), each / "checkpoint.w"
            cosigned = Checkpoint.open(path, trust) if path.exists() else now  # the newest that witnesses signed
            if not (trust.witnessed(now.witnesses) or trust.witnessed(cosigned.witnesses)):
                find(f"{each}: no checkpoint has the signatures of witnesses that the policy asks for (quorum).")
            before = [*dict.fromkeys([now, cosigned]), *(old for old in olds if old.origin == now.origin)]
            roots = walk(each, now.size, {old.size for old in before}, args.entries or "shape", find)
            for old in before:
                compare_roots(old, now, roots.get(old.size, b""), find)
            done.append(now)
        except (ValueError, OSError) as error:
            find(f"{error} Of {each} nothing beyond that was checked.")
    if len({log.origin for log in done}) < len(done):
        find("Two folders hold a log of the same origin: one stands where another log should.")
    for old in (old for old in olds if all(old.origin != log.origin for log in done)):
        find(f"{old.where} is of the origin {old.origin!a:.200}, of which no whole log is here.")
    return "; ".join(map(str, done)) or "no log was read to its end"


def run_receipt(args: argparse.Namespace, find: Findings) -> str:
    """`receipt FILE`: a tlog-proof. Its extra data is not signed, so no bit of it may be free."""
    where, trust = args.files[0], trust_of(args, [Path(args.files[0]).parent])
    found = re.fullmatch(_PROOF, read(where, RECEIPT_BYTES).decode(errors="surrogateescape"), re.DOTALL)
    if found is None:
        raise ValueError(f"{where} is not a tlog-proof with extra data, an index, a path and a checkpoint.")
    index, extra = int(found[2]), parse(unbase64(found[1], f"The extra data of {where}"), [{"entry", "salt"}], str)
    if not extra or len(extra["salt"]) != 43:
        raise ValueError(f"The extra data of {where} is not canonical JSON of an entry, a salt of 32 bytes and v = 1.")
    salt, entry = unbase64(extra["salt"] + "=", f"The salt in {where}", b"-_"), extra["entry"].encode()
    path = [unbase64(line, f"A path hash of {where}") for line in found[3].split("\n")[:-1]]
    leaf, now = parse(entry, LEAVES, dict), Checkpoint.open(where, trust, found[4].encode(errors="surrogateescape"))
    if not trust.witnessed(now.witnesses):
        find(f"The checkpoint in {where} has not the signatures of witnesses that the policy asks for (quorum).")
    if not leaf:
        find(f"The entry in {where} is not canonical JSON of a known kind of leaf.")
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
    if not path or size < 2:
        if path or size != 1 or index != 0:
            raise ValueError("The path of the receipt does not fit its index and the size of the tree.")
        return node
    half = 1 << (size - 1).bit_length() - 1
    if index < half:
        return sha256(b"\x01" + climb(node, index, half, path[:-1]) + path[-1]).digest()
    return sha256(b"\x01" + path[-1] + climb(node, index - half, size - half, path[:-1])).digest()


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
    keys = "".join(f"log {line}\n" for text in texts for line in text.split("\n"))
    return read_policy(f"{keys}quorum none", "--key" if args.key else ", ".join(paths))


def main(arguments: Sequence[str] | None = None, program: str = "verify.py") -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(program, "%(prog)s log DIR | receipt FILE | consistency OLD NEW --log DIR")
    parser.add_argument("command", choices=("log", "receipt", "consistency"))
    parser.add_argument("files", nargs="+", help="DIR holds `checkpoint` and `tile`, or folders that do")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--key", action="append", help="verifier key (vkey) of a log; may be repeated")
    keys.add_argument("--key-file", help="file of verifier keys, one a line; default: log.vkey beside what is checked")
    keys.add_argument("--policy", help="tlog-policy file: logs, witnesses, quorum (consistency asks for no quorum)")
    parser.add_argument("--old", action="append", help="log: a checkpoint from before that DIR must extend; repeatable")
    parser.add_argument("--entries", choices=("shape", "all", "hashes"), help=HOW)
    parser.add_argument("--value", help="receipt: file with the bytes that were sent or received")
    parser.add_argument("--log", help="consistency: folder with the tiles")
    args, find = parser.parse_intermixed_args(arguments), Findings()
    run = {"log": run_log, "receipt": run_receipt, "consistency": run_consistency}[args.command]
    takes = {"log": ("old", "entries"), "receipt": ("value",), "consistency": ("log",)}[args.command]
    given = {name for name in ("log", "value", "old", "entries") if getattr(args, name) is not None}
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
