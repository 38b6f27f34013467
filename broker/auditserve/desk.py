"""Answers questions: who asks, what he may have, what is found; and that he asked is in the audit before he has it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from broker.audit.query import Found, Query
from broker.audit.signed import keys_beside_logs, keys_in_file
from broker.audit.store import Store, Wanted
from broker.auditserve.answers import answer_of
from broker.auditserve.people import tags_of
from broker.auditserve.questions import Asked, Find, People, Receipt, parse, wanted_of
from broker.auditserve.record import Recorder, query_leaf
from broker.auditserve.rights import Asker, Keys, Question, Right, Scope, asker, right, schools_of
from broker.errors import AccessDenied, TransientError
from broker.exchange.model import VaultReader
from broker.identity.vault import VaultCipher
from broker.registry import Registry

AT_ONCE: Final = 4  # each reads files and hashes in a thread of its own
QUESTION_S: Final = 20.0


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

    def look(self, wanted: Wanted, until: float) -> Seen:
        """Find leaves, each with its proof; all in one thread.

        Args:
            until: when to give up, in seconds of `time.monotonic`.

        Raises:
            TransientError: `audit.too_long`.
            ConfigError, NoteError: store, logs or keys are not as they must be.
        """
        known = keys_beside_logs(self.logs) if self.keys is None else keys_in_file(self.keys)
        with Store(self.store, read_only=True) as store:
            query = Query(store, self.logs, known, paths=True)
            logs = {origin: (log.note, store.position(origin)[0]) for origin, log in query.logs.items()}
            store.give_up_at(until)
            return Seen(query.find(wanted), logs)


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

    async def answer(self, name: str, question: Question, body: bytes) -> dict[str, Any]:
        """The answer as JSON.

        Args:
            name: from the asker's certificate. body: of the request.

        Raises:
            AccessDenied: `audit.who`, `audit.denied`, `audit.scope`; `audit.event`, `audit.person`: there is no such
                one that the asker may see.
            ContractError: the question is not as it must be.
            TransientError: nothing can be said now.
            BrokerError, OSError, sqlite3.Error: store, logs or keys of the service are not as they must be.
        """
        registry = self._views.require_current()
        who = asker(registry, name)
        asked = parse(question, body)
        at_ms = self._clock_ms()
        wanted = wanted_of(asked, at_ms)
        try:
            narrowed = self._narrowed(registry, who, right(who.role, question), asked, wanted)
        except AccessDenied:
            await self._recorder.write(query_leaf(who, question, asked, registry, at_ms, rows=None))
            raise
        seen = Seen([], {}) if narrowed is None else await self._look(narrowed)
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
            names = next((names for names in schools.values() if asked.school in names), None)
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
        raise AccessDenied("That is no school of this board.", code="audit.scope")

    async def _look(self, wanted: Wanted) -> Seen:
        until = time.monotonic() + QUESTION_S
        try:
            async with asyncio.timeout(QUESTION_S), self._at_once:
                return await asyncio.to_thread(self._source.look, wanted, until)
        except TimeoutError:
            raise TransientError("There is too much to do just now. Ask again later.", code="audit.busy") from None


def _fits(found: Found, wanted: Wanted) -> bool:
    """Whether the leaf itself is one that may be seen: the store, which led to it, proves nothing."""
    leaf = found.leaf
    return (wanted.schools is None or leaf.school in wanted.schools) and wanted.party in (
        None, leaf.sender, leaf.receiver,
    )  # fmt: skip


def _nobody() -> AccessDenied:
    return AccessDenied("Nobody is known by this id at a school of this board.", code="audit.person")
