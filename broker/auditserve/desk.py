"""Answers questions: who asks, what he may have, what is found; and that he asked is in the audit before he has it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from broker.app.ldv_boards import Boards
from broker.audit.ldv import LdvLine
from broker.audit.leaf import lookup_tag
from broker.audit.query import Found, Query
from broker.audit.signed import keys_beside_logs, keys_in_file
from broker.audit.store import Row, Store, Wanted
from broker.auditserve import lezen
from broker.auditserve.answers import answer_of
from broker.auditserve.people import keys_of, tags_of
from broker.auditserve.questions import MOST_ROWS, Asked, Find, Lines, People, Receipt, parse, wanted_of
from broker.auditserve.record import Recorder, query_leaf
from broker.auditserve.rights import Asker, Keys, Question, Right, Scope, asker, right, schools_of
from broker.errors import AccessDenied, BrokerError, TransientError
from broker.exchange.model import VaultReader
from broker.identity.vault import VaultCipher
from broker.registry import Registry

AT_ONCE: Final = 4  # each reads files and hashes in a thread of its own
EACH_AT_ONCE: Final = 2  # of one asker
QUESTION_S: Final = 20.0
Keep = Callable[[Sequence[Row]], Iterable[Row]]
#: Codes of answers that were found and are not given.
WITHHELD: Final = frozenset({lezen.TOO_MANY, lezen.UNPROVEN})


class Vault(Protocol):
    """Where the enrolments are."""

    def reading(self) -> AbstractContextManager[VaultReader]:
        """The vault at one moment. Nothing may be awaited inside."""


class Views(Protocol):
    """Registry and vault; `broker.engine.views.CurrentViews` is one."""

    @property
    def vault(self) -> Vault:
        """The vault."""

    def require_current(self) -> Registry:
        """The registry, if both are proven current.

        Raises:
            TransientError: they are not.
        """


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found.

    Args:
        found: in the order of time.
        logs: of each log its checkpoint note, and how many of its leaves the store knows of.
    """

    found: list[Found]
    logs: dict[str, tuple[bytes, int]]


@dataclass(frozen=True, slots=True)
class Source:
    """A store and the logs that it was made from.

    Args:
        keys: file of the logs' public keys; None: those that lie beside the logs, which show damage.
    """

    store: Path
    logs: Path
    keys: Path | None = None

    def look(self, wanted: Wanted, until: float, keep: Keep = iter) -> Seen:
        """Find leaves, each with its proof; all in one thread.

        Args:
            until: when to give up, in seconds of `time.monotonic`. keep: see `Query.find`.

        Raises:
            TransientError: `audit.too_long`.
            ConfigError, NoteError: store, logs or keys are not as they must be.
        """
        known = keys_beside_logs(self.logs) if self.keys is None else keys_in_file(self.keys)
        with Store(self.store, read_only=True) as store:
            store.hold()
            query = Query(store, self.logs, known, paths=True)
            logs = {origin: (log.note, store.position(origin)[0]) for origin, log in query.logs.items()}
            store.give_up_at(until)
            return Seen(query.find(wanted, lambda rows: _in_time(keep(rows), until)), logs)


class Desk:
    """Answers one question at a time, several at once.

    Args:
        cipher: with the keys of the vault. It should remember no records (`remembered=0`).
        clock_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        source: Source,
        views: Views,
        cipher: VaultCipher,
        recorder: Recorder,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._source, self._views, self._cipher, self._recorder = source, views, cipher, recorder
        self._clock_ms = clock_ms
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._each_at_once = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(EACH_AT_ONCE))

    async def answer(self, name: str, question: Question, body: bytes) -> dict[str, Any]:
        """The answer as JSON.

        Args:
            name: from the asker's certificate. body: of the request.

        Raises:
            AccessDenied: `audit.who`, `audit.denied`, `audit.scope`; `audit.event`, `audit.person`: there is no such
                one that the asker may see.
            ContractError: the question is not as it must be; `audit.too_many`.
            TransientError: nothing can be said now.
            ConfigError: `audit.unproven`, of lines of the Logboek.
            BrokerError, OSError, sqlite3.Error: store, logs or keys of the service are not as they must be.
        """
        registry = self._views.require_current()
        who = asker(registry, name)
        asked = parse(question, body)
        at_ms = self._clock_ms()
        wanted = wanted_of(asked, at_ms)
        try:
            may = right(who.role, question)
            if isinstance(asked, Lines):
                lines = await self._lines(registry, who, may, asked, wanted)
            else:
                narrowed = self._narrowed(registry, who, may, asked, wanted)
        except BrokerError as error:
            if isinstance(error, AccessDenied) or error.code in WITHHELD:
                await self._recorder.write(query_leaf(who, question, asked, registry, at_ms, rows=None))
            raise
        if isinstance(asked, Lines):
            await self._recorder.write(query_leaf(who, question, asked, registry, at_ms, rows=len(lines)))
            return lezen.answer_of(lines)
        seen = Seen([], {}) if narrowed is None else await self._look(who, narrowed)
        found = [one for one in seen.found if narrowed is not None and _fits(one, narrowed)]
        if isinstance(asked, Receipt):
            delivered = (asked.receiver, "delivered")
            found = [one for one in found if (one.leaf.receiver, one.leaf.decision) == delivered][-1:]
        await self._recorder.write(query_leaf(who, question, asked, registry, at_ms, rows=len(found)))
        if narrowed is None:
            raise _nobody()
        if not found and not isinstance(asked, Find | People):
            raise AccessDenied("No leaf that you may see speaks of this event or delivery.", code="audit.event")
        more = isinstance(asked, Find | People) and len(seen.found) == asked.most
        return answer_of(found, seen.logs, seen.found[0] if more else None)

    def _narrowed(self, registry: Registry, who: Asker, may: Right, asked: Asked, wanted: Wanted) -> Wanted | None:
        """What is wanted, of what the asker may see; None: nobody is known by the id that was asked for.

        Raises:
            AccessDenied: `audit.scope`; `audit.person`.
        """
        if may.scope is Scope.ITS_OWN:
            if isinstance(asked, Find):
                if asked.party not in (None, who.id):
                    raise AccessDenied("A party may ask only for leaves of its own.", code="audit.scope")
                wanted = replace(wanted, school=asked.school)
            return replace(wanted, party=who.id)
        schools = schools_of(registry, who.id)
        if isinstance(asked, People):
            names = _called(schools, asked.school)
            if may.keys is not Keys.ITS_SCHOOL or names is None:
                raise _nobody()  # the same answer as for a pupil who is not known: probing tells nothing
            with self._views.vault.reading() as reader:
                tags = tags_of(self._cipher, reader, names, asked.sector, asked.type, asked.value)
            return replace(wanted, schools=names, tags=tags) if tags else None
        if not isinstance(asked, Find) or asked.school is None:
            return replace(wanted, schools=tuple(name for names in schools.values() for name in names))
        if asked.school in schools:
            return replace(wanted, schools=schools[asked.school])
        if any(asked.school in names for names in schools.values()):  # a location, or a BRIN that it had before
            return replace(wanted, schools=(asked.school,))
        raise _not_its_school()

    async def _lines(self, registry: Registry, who: Asker, may: Right, asked: Lines, wanted: Wanted) -> list[LdvLine]:
        """Lines of the Logboek of a board.

        Raises:
            AccessDenied: `audit.scope`. ContractError: `audit.too_many`. ConfigError: `audit.unproven`.
        """
        boards, schools, keys = Boards(registry), schools_of(registry, who.id), tuple[bytes, ...]()
        if asked.person is not None:
            kind, value = asked.person
            names = _called(schools, kind.school)
            if may.keys is not Keys.ITS_SCHOOL or names is None:
                raise _not_its_school()
            with self._views.vault.reading() as reader:
                keys = keys_of(self._cipher, reader, names, kind.sector, kind.type, value)
            wanted = replace(wanted, schools=names, tags=tuple(lookup_tag(key) for key in keys))
        elif asked.activity is not None:
            named = boards.named(asked.activity)
            if named and who.id not in named:
                return []
            if named != {who.id}:  # then it is the school that says whose line it is
                names = tuple(name for several in schools.values() for name in several)
                wanted = replace(wanted, schools=names, most=MOST_ROWS + 1)
        reading = lezen.Reading(boards, who.id, asked, keys, wanted.most)
        return reading.lines((await self._look(who, wanted, reading.keep)).found)

    async def _look(self, who: Asker, wanted: Wanted, keep: Keep = iter) -> Seen:
        until = time.monotonic() + QUESTION_S
        try:
            async with asyncio.timeout(QUESTION_S), self._each_at_once[who.id], self._at_once:
                return await asyncio.to_thread(self._source.look, wanted, until, keep)
        except TimeoutError:
            raise TransientError("There is too much to do just now. Ask again later.", code="audit.busy") from None


def _in_time(rows: Iterable[Row], until: float) -> Iterator[Row]:
    """The rows, each of which takes a proof.

    Raises:
        TransientError: `audit.too_long`.
    """
    for row in rows:
        if time.monotonic() > until:
            raise TransientError("The question takes too long. Ask for a shorter time, or less.", code="audit.too_long")
        yield row


def _fits(found: Found, wanted: Wanted) -> bool:
    """Whether the leaf itself is one that may be seen: the store, which led to it, proves nothing."""
    leaf = found.leaf
    return (wanted.schools is None or leaf.school in wanted.schools) and wanted.party in (
        None, leaf.sender, leaf.receiver,
    )  # fmt: skip


def _called(schools: Mapping[str, tuple[str, ...]], school: str) -> tuple[str, ...] | None:
    """All names of the school that has this one; None if it is none of these schools."""
    return next((names for names in schools.values() if school in names), None)


def _not_its_school() -> AccessDenied:
    return AccessDenied("That is no school of this board.", code="audit.scope")


def _nobody() -> AccessDenied:
    return AccessDenied("Nobody is known by this id at a school of this board.", code="audit.person")
