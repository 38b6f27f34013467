"""Whose signatures make a checkpoint good (c2sp.org/tlog-policy): the trust file of a reader.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <member> ...
    quorum <name of a witness or group, or none>

A checkpoint is good if one of the logs signed it, under its own name, and the quorum cosigned it.

Two rules are not the specification's. It forbids two `log` lines with one public key; here they may have it under
different names, since one key signs all logs of a broker and an auditor has one file for them. A program that keeps to
the specification needs a file for each log. And a key of a log may not be a witness's: it would witness itself.
`verify.py` has the same two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.note import COSIGNATURE, ED25519, Note, NoteError, Verifier, open_note
from broker.errors import ConfigError

NONE: Final = "none"
MAX_LINES: Final = 1000  # a reader should take 32 logs, 32 witnesses and 32 groups at least

_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_SPACE: Final = re.compile(r"[ \t]+")  # no other counts as white space
_WORD: Final = re.compile(r"[^\x00-\x20\x7f]+")


def _problem(message: str) -> ConfigError:
    return ConfigError(message, code="log.policy")


@dataclass(frozen=True, slots=True)
class KnownLog:
    """A log whose checkpoints are accepted; the name of its key is its origin."""

    verifier: Verifier
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness; `name` is of this file, not of its key."""

    name: str
    verifier: Verifier
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses and groups, of which at least `needed` must have witnessed."""

    name: str
    needed: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Logs, witnesses and a quorum.

    Args:
        logs: any of them may have signed; with none the caller must know the log's signature to be good.
        witnesses: those that may cosign.
        groups: each names only what stands before it.
        quorum: a witness, a group, or `none`.

    Raises:
        ConfigError: `log.policy`.
    """

    logs: tuple[KnownLog, ...]
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NONE

    def __post_init__(self) -> None:
        self._check_keys()
        self._check_names()

    def _check_keys(self) -> None:
        if any(log.verifier.kind != ED25519 for log in self.logs):
            raise _problem("the key of a log is not of type 1 (Ed25519)")
        if any(witness.verifier.kind != COSIGNATURE for witness in self.witnesses):
            raise _problem("the key of a witness is not of type 4 (cosignature/v1)")
        logs = [(log.verifier.name, log.verifier.public) for log in self.logs]
        witnesses = [witness.verifier.public for witness in self.witnesses]
        if len(logs) != len(set(logs)):
            raise _problem("two lines have the same key of the same log; keep one of them")
        if len(witnesses) != len(set(witnesses)):
            raise _problem("two witnesses have the same public key, which would count twice; keep one of them")
        if not {public for _, public in logs}.isdisjoint(witnesses):
            raise _problem("a witness has the public key of a log, which would witness itself")
        if any(url is not None and _WORD.fullmatch(url) is None for url in (x.url for x in self.logs + self.witnesses)):
            raise _problem("a URL is empty or has white space in it")

    def _check_names(self) -> None:
        names = {NONE}
        used: set[str] = set()
        for witness in self.witnesses:
            _define(names, witness.name)
        for group in self.groups:
            if not 1 <= group.needed <= len(group.members):
                raise _problem(f"the group {group.name} needs {group.needed} of {len(group.members)} members")
            for member in group.members:
                if member == NONE or member not in names:
                    raise _problem(f"the group {group.name} has a member that no line before it defines")
                if member in used:
                    raise _problem(f"a member of the group {group.name} is listed twice; it would count twice")
                used.add(member)
            _define(names, group.name)
        if self.quorum not in names:
            raise _problem("the quorum names neither a witness nor a group that is defined before it, nor none")

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """All keys, to open a note with."""
        return (*(log.verifier for log in self.logs), *(witness.verifier for witness in self.witnesses))

    def satisfied(self, note: Note) -> bool:
        """Whether the signatures that were checked are enough.

        Args:
            note: a checkpoint, opened with `verifiers` (more may have been known).

        Raises:
            NoteError: if its text is not a checkpoint.
        """
        origin = Checkpoint.parse(note.text).origin
        signed = {(signature.name, signature.key_id) for signature in note.verified}
        by_log = any(v.name == origin and (v.name, v.key_id) in signed for v in (log.verifier for log in self.logs))
        if self.logs and not by_log:
            return False
        witnessed = {w.name for w in self.witnesses if (w.verifier.name, w.verifier.key_id) in signed} | {NONE}
        for group in self.groups:
            if sum(member in witnessed for member in group.members) >= group.needed:
                witnessed.add(group.name)
        return self.quorum in witnessed

    def open(self, data: bytes) -> Note:
        """Open a signed checkpoint that satisfies this policy.

        Raises:
            NoteError: if it does not, or is not a checkpoint.
        """
        note = open_note(data, self.verifiers)
        if not self.satisfied(note):
            raise NoteError("the checkpoint does not have the signatures that the trust policy asks for")
        return note

    def render(self) -> bytes:
        """The file: one line each, in the order that parsing needs."""
        lines = [_line("log", log.verifier.vkey, log.url) for log in self.logs]
        lines += [_line("witness", w.name, w.verifier.vkey, w.url) for w in self.witnesses]
        lines += [_line("group", group.name, _needed(group), *group.members) for group in self.groups]
        return "".join([*lines, _line("quorum", self.quorum)]).encode("utf-8", "surrogateescape")

    @classmethod
    def parse(cls, data: bytes) -> Policy:
        """Read a file.

        Raises:
            ConfigError: `log.policy`, with the number of the line.
        """
        if _FORBIDDEN.search(data) or not data.endswith(b"\n") or data.count(b"\n") > MAX_LINES:
            raise _problem(
                f"a trust policy is lines that each end in a newline, without control characters, at most {MAX_LINES}"
            )
        # Octets above 0x7F are opaque here, also where they are not UTF-8.
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        parsed = _Parsed()
        for number, line in enumerate(lines, 1):
            items = _SPACE.split(line.strip(" \t"))
            if items != [""] and not items[0].startswith("#"):
                try:
                    parsed.add(items)
                except (ConfigError, NoteError) as error:
                    raise _problem(f"trust policy, line {number}: {error}") from None
        if parsed.quorum is None:
            raise _problem("a trust policy needs a line `quorum <name>`; `quorum none` asks for no witness")
        return parsed.policy(parsed.quorum)


class _Parsed:
    """The lines so far."""

    def __init__(self) -> None:
        self.logs: list[KnownLog] = []
        self.witnesses: list[Witness] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None

    def add(self, items: list[str]) -> None:
        match items:
            case ["log", vkey, *url] if len(url) <= 1:
                self.logs.append(KnownLog(Verifier.parse(vkey), *url))
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self.witnesses.append(Witness(name, Verifier.parse(vkey), *url))
            case ["group", name, needed, *members] if members:
                self.groups.append(Group(name, _number(needed, len(members)), tuple(members)))
            case ["quorum", name]:
                if self.quorum is not None:
                    raise _problem("this is a second quorum; there must be one")
                self.quorum = name
            case _:
                raise _problem("this is not a log, witness, group or quorum with what belongs to it")
        # Here and not at the end only: a line may name what stands before it, not what comes after.
        self.policy(self.quorum or NONE)

    def policy(self, quorum: str) -> Policy:
        return Policy(tuple(self.logs), tuple(self.witnesses), tuple(self.groups), quorum)


def _define(names: set[str], name: str) -> None:
    if name in names or _WORD.fullmatch(name) is None:
        raise _problem("the name of a witness or group is defined twice, or is not a name")
    names.add(name)


def _number(text: str, members: int) -> int:
    if text in ("all", "any"):
        return members if text == "all" else 1
    if re.fullmatch(r"[1-9][0-9]{0,3}", text) is None:
        raise _problem("a group needs `all`, `any` or a decimal number of its members")
    return int(text)


def _needed(group: Group) -> str:
    if group.needed == len(group.members):
        return "all"
    return "any" if group.needed == 1 else str(group.needed)


def _line(*items: str | None) -> str:
    return " ".join(item for item in items if item is not None) + "\n"
