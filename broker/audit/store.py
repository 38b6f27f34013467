"""Where leaves stand: a SQLite file to look them up in. It proves nothing; what is found is proven in the log.

    logs       a log, and how far it was read
    words      names that occur in many leaves, once each
    leaves     what a leaf is found by (`Coordinates`)
    tags       which leaves are about one person: the only rows that lead to a person, and erased with the person
    waiting    entries of `audit.index` whose leaf is not signed yet, or that erase a person; sealed, as they came
    positions  how far `audit.index` was read
    forgotten  a hash of each tag that was erased, so that an entry that comes late does not bring it back

Everything but `tags` and `waiting` can be made again from the logs. All that belongs together is written in one
transaction, so a process that was killed goes on from its last position.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

from broker.audit.coordinates import Coordinates
from broker.errors import ConfigError, TransientError
from broker.identity.formats import is_uuid

TAG_BYTES: Final = 16
VERSION: Final = 2
_BUSY_MS: Final = 10_000
_LOOK_EVERY: Final = 10_000  # steps of SQLite's machine between two looks at the clock
_FORGOTTEN: Final = b"audit/forgotten/v1"
_WORDS: Final = ("school", "sender", "receiver", "process", "family", "kind", "decision", "code", "activity")
_TAGS: Final = (
    "CREATE TABLE {} (tag BLOB NOT NULL, log INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (tag, log, idx)) "
    "WITHOUT ROWID"
)
_WORD: Final = "(SELECT id FROM words WHERE word = ?)"
_SCHEMA: Final = """
CREATE TABLE logs (id INTEGER PRIMARY KEY, origin TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, root BLOB NOT NULL);
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE);
CREATE TABLE leaves (
  log INTEGER NOT NULL, idx INTEGER NOT NULL, time INTEGER NOT NULL,
  school INTEGER, sender INTEGER, receiver INTEGER, process INTEGER, family INTEGER, kind INTEGER,
  decision INTEGER, code INTEGER, activity INTEGER, event BLOB NOT NULL, span BLOB NOT NULL, trace BLOB,
  PRIMARY KEY (log, idx)
) WITHOUT ROWID;
CREATE INDEX leaves_time ON leaves (time);
CREATE INDEX leaves_school ON leaves (school, time);
CREATE INDEX leaves_sender ON leaves (sender, time);
CREATE INDEX leaves_receiver ON leaves (receiver, time);
CREATE INDEX leaves_process ON leaves (process, time);
CREATE INDEX leaves_decision ON leaves (decision, time);
CREATE INDEX leaves_code ON leaves (code, time);
CREATE INDEX leaves_activity ON leaves (activity, time);
CREATE INDEX leaves_event ON leaves (event);
CREATE INDEX leaves_trace ON leaves (trace);
CREATE INDEX leaves_span ON leaves (span);
CREATE TABLE waiting (span BLOB NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (span, entry)) WITHOUT ROWID;
CREATE TABLE positions (source TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE forgotten (hash BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class Place(NamedTuple):
    """Where a row stands in the order of time: milliseconds since 1970, and of several of one moment log and index."""

    time: int
    origin: str
    number: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for; None: whatever it is.

    Args:
        party: as sender or receiver. since_ms, until_ms: milliseconds since 1970, the second not included.
        tag: 16 bytes, of a person. most: rows; the newest of them are given if there are more.
        schools: of any of these; of an empty tuple nothing is found.
        tags: of any of these, since a person whose enrolments were merged has more than one.
        before: only what stands before this row in the order of time: the next page of older ones.
        activity: URI of a processing activity. trace: 16 bytes; of both the line itself says so (LDV).
    """

    school: str | None = None
    party: str | None = None
    process: str | None = None
    event: str | None = None
    decision: str | None = None
    code: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    tag: bytes | None = None
    most: int = 1_000
    schools: tuple[str, ...] | None = None
    tags: tuple[bytes, ...] | None = None
    before: Place | None = None
    activity: str | None = None
    trace: bytes | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A leaf that was found.

    Args:
        origin: of its log. index: its place there.
    """

    origin: str
    index: int
    leaf: Coordinates


class Store:
    """A store; made if the file is not there. Use `with`.

    Args:
        read_only: nothing can be written through this one; the file must be there.

    Raises:
        ConfigError: `audit.store`, if the file is something else.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._ids: dict[str, int] = {}
        self._read_only = read_only
        if read_only and not path.is_file():
            raise ConfigError(f"{path} is not there. Make it: broker audit index.", code="audit.store")
        try:
            if not read_only:
                path.touch(mode=0o600)  # it leads to persons; SQLite gives its journal the same rights
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._open(path)
            except BaseException:
                self._db.close()
                raise
        except (sqlite3.DatabaseError, OSError) as error:
            raise ConfigError(
                f"{path} can not be opened as a store of the audit ({type(error).__name__}). Look at the path and its "
                "rights; or name a new file, which `broker audit index` fills from the logs.",
                code="audit.store",
            ) from error

    def _open(self, path: Path) -> None:
        settings = ("secure_delete=ON", f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=NORMAL")
        for setting in (f"busy_timeout={_BUSY_MS}", "query_only=ON") if self._read_only else settings:
            self._db.execute(f"PRAGMA {setting}")
        if not self._read_only and self._empty():
            with self.transaction():
                if self._empty():  # another process may have been faster
                    for statement in (*_SCHEMA.split(";"), _TAGS.format("tags")):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version={VERSION}")
        if self._db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            raise ConfigError(
                f"{path} is not a store of this version of the audit. Name a new file; `broker audit index` fills it "
                "from the logs.",
                code="audit.store",
            )

    def _empty(self) -> bool:
        return not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside stays, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself ends one when the disk is full
                self._db.execute("ROLLBACK")
            self._ids.clear()  # words of this transaction are gone again
            raise

    def hold(self) -> None:
        """All that is read from now on is of this moment. Open the logs after it: they have all that was indexed."""
        self._db.execute("BEGIN")
        self._db.execute("SELECT 1 FROM logs LIMIT 1")  # the moment is that of the first look

    # ---- logs

    def position(self, origin: str) -> tuple[int, bytes | None]:
        """How many leaves of a log were read, and the root of the tree of that size; (0, None) before the first."""
        found = self._db.execute("SELECT size, root FROM logs WHERE origin = ?", (origin,)).fetchone()
        return (found[0], found[1]) if found else (0, None)

    def add(self, origin: str, leaves: Iterable[tuple[int, Coordinates]], size: int, root: bytes) -> None:
        """Take leaves in, and remember that the log was read up to `size`. Within a transaction.

        A place that is there already is left as it is.
        """
        self._db.execute(
            "INSERT INTO logs (origin, size, root) VALUES (?, ?, ?) "
            "ON CONFLICT (origin) DO UPDATE SET size = excluded.size, root = excluded.root",
            (origin, size, root),
        )
        log = self._log(origin)
        rows = [
            (log, index, leaf.time, *self._words(leaf), _event(leaf.event), leaf.span, leaf.trace)
            for index, leaf in leaves
        ]
        self._db.executemany(f"INSERT OR IGNORE INTO leaves VALUES ({','.join('?' * 15)})", rows)  # noqa: S608

    def _log(self, origin: str) -> int:
        found: int = self._db.execute("SELECT id FROM logs WHERE origin = ?", (origin,)).fetchone()[0]
        return found

    def _words(self, leaf: Coordinates) -> list[int | None]:
        return [self._word(getattr(leaf, name)) for name in _WORDS]

    def _word(self, word: str | None) -> int | None:
        if word is None:
            return None
        found = self._ids.get(word)
        if found is None:
            self._db.execute("INSERT OR IGNORE INTO words (word) VALUES (?)", (word,))
            found = self._ids[word] = self._db.execute("SELECT id FROM words WHERE word = ?", (word,)).fetchone()[0]
        return found

    # ---- people

    def offset(self, source: str) -> int | None:
        """Where to go on reading a partition of `audit.index`; None before the first time."""
        found = self._db.execute("SELECT next FROM positions WHERE source = ?", (source,)).fetchone()
        return found[0] if found else None

    def read_up_to(self, source: str, next_offset: int) -> None:
        """Remember where to go on. Within the transaction in which its entries are taken in."""
        self._db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", (source, next_offset))

    def wait(self, span: bytes, entry: bytes) -> None:
        """Keep an entry until its leaf is there."""
        self._db.execute("INSERT OR IGNORE INTO waiting VALUES (?, ?)", (span, entry))

    def arrived(self) -> list[bytes]:
        """Entries that wait no longer: a leaf with their span is there."""
        query = "SELECT entry FROM waiting WHERE EXISTS (SELECT 1 FROM leaves WHERE leaves.span = waiting.span)"
        return [entry for (entry,) in self._db.execute(query)]

    def waiting(self) -> int:
        """How many entries wait."""
        found: int = self._db.execute("SELECT count(*) FROM waiting").fetchone()[0]
        return found

    def places(self, span: bytes) -> list[tuple[str, int, str | None, int]]:
        """Log, place, school and time of the leaves with a span, the newest first.

        One, unless a log was begun anew or an input topic was (`input-reset`), whose offsets come once more.
        """
        query = (
            "SELECT origin, idx, word, time FROM leaves JOIN logs ON logs.id = log "
            "LEFT JOIN words ON words.id = school WHERE span = ? ORDER BY time DESC, log DESC, idx DESC"
        )
        return list(self._db.execute(query, (span,)))

    def tag(self, tag: bytes, origin: str, index: int) -> None:
        """Say that a leaf is about this person, unless the person was erased."""
        if not self._db.execute("SELECT 1 FROM forgotten WHERE hash = ?", (_hash(tag),)).fetchone():
            self._db.execute("INSERT OR IGNORE INTO tags VALUES (?, ?, ?)", (tag, self._log(origin), index))

    def settle(self, span: bytes, entry: bytes) -> None:
        """An entry waits no longer."""
        self._db.execute("DELETE FROM waiting WHERE span = ? AND entry = ?", (span, entry))

    def forget(self, *tags: bytes) -> int:
        """Erase persons: no row leads to them any more, and none can come back.

        The table is written anew each time, a second for each million rows: give the tags of one day together. What
        SQLite deletes it overwrites (`secure_delete`), but not the copies that were left behind in a page when its rows
        were moved to another one. Only a page that is given up is overwritten as a whole.

        Returns:
            How many rows went.

        Raises:
            TransientError: `audit.store_busy`: the rows are deleted, but a reader still holds the file's journal, in
                which they stand. Call it again until it returns.
        """
        with self.transaction():
            gone = 0
            for tag in tags:
                gone += self._db.execute("DELETE FROM tags WHERE tag = ?", (tag,)).rowcount
                self._db.execute("INSERT OR IGNORE INTO forgotten VALUES (?)", (_hash(tag),))
            self._db.execute(_TAGS.format("kept"))
            self._db.execute("INSERT INTO kept SELECT * FROM tags ORDER BY tag, log, idx")
            self._db.execute("DROP TABLE tags")
            self._db.execute("ALTER TABLE kept RENAME TO tags")
        # The journal has pages as they were before: only its end makes the rows go for good.
        if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise TransientError(
                "the persons' rows are deleted, but another process reads the store, whose journal still has them; "
                "end it and erase the persons again",
                code="audit.store_busy",
            )
        return gone

    # ---- find

    def give_up_at(self, moment: float) -> None:
        """Let no question run longer than to this moment, in seconds of `time.monotonic`."""
        self._db.set_progress_handler(lambda: time.monotonic() > moment, _LOOK_EVERY)

    def find(self, wanted: Wanted) -> list[Row]:
        """The newest leaves that are as wanted, in the order of time.

        Raises:
            TransientError: `audit.too_long`, if it takes longer than `give_up_at` allows.
        """
        terms, values = ["1"], list[object]()
        # A plus keeps SQLite from the index of a column: an event has few leaves, a school fewer than a party.
        of_school = wanted.school is not None or wanted.schools is not None
        few = wanted.event is not None or wanted.trace is not None
        school, other = "+" if few else "", "+" if few or of_school else ""
        for column in ("school", "process", "decision", "code", "activity"):
            word = getattr(wanted, column)
            if word is not None:
                terms.append(f"{school if column == 'school' else other}l.{column} = {_WORD}")
                values.append(word)
        for term, value in (
            ("l.event = ?", None if wanted.event is None else _event(wanted.event)),
            ("l.trace = ?", wanted.trace),
            ("l.time >= ?", wanted.since_ms),
            ("l.time < ?", wanted.until_ms),
            ("t.tag = ?", wanted.tag),
        ):
            if value is not None:
                terms.append(term)
                values.append(value)
        if wanted.before is not None:
            terms += ["l.time <= ?", "(l.time, l.log, l.idx) < (?, (SELECT id FROM logs WHERE origin = ?), ?)"]
            values += [wanted.before.time, *wanted.before]
        # One question for each of several: one with OR would read and sort all that there is, whatever `most` is.
        schools, tags = wanted.schools, wanted.tags
        sides = None if wanted.party is None else ("sender", "receiver")
        found = set[tuple[int, int, int]]()
        for one, side, tag in product(*((None,) if several is None else several for several in (schools, sides, tags))):
            more = list[tuple[str, object]]()
            more += [] if one is None else [(f"{school}l.school = {_WORD}", one)]
            more += [] if side is None else [(f"{other}l.{side!s} = {_WORD}", wanted.party)]
            more += [] if tag is None else [("t.tag = ?", tag)]
            found |= self._newest([*terms, *(t for t, _ in more)], [*values, *(v for _, v in more)], wanted)
        return [self._row(place) for place in sorted(found)[-wanted.most :]]

    def _newest(self, terms: list[str], values: list[object], wanted: Wanted) -> set[tuple[int, int, int]]:
        """Time, log and number of the newest; what else a row has is read of those alone that are given in the end."""
        # CROSS JOIN keeps SQLite's planner at the person's few rows, whatever it thinks of the others.
        about = wanted.tag is not None or wanted.tags is not None
        source = "tags t CROSS JOIN leaves l ON l.log = t.log AND l.idx = t.idx" if about else "leaves l"
        query = (
            f"SELECT l.time, l.log, l.idx FROM {source} WHERE {' AND '.join(terms)} "  # noqa: S608
            "ORDER BY l.time DESC, l.log DESC, l.idx DESC LIMIT ?"
        )  # only names of this module are put into the text
        return set(self._asked(query, [*values, wanted.most]))

    def _row(self, place: tuple[int, int, int]) -> Row:
        words = ", ".join(f"(SELECT word FROM words WHERE id = l.{name})" for name in _WORDS)  # noqa: S608
        query = (
            f"SELECT l.time, l.idx, (SELECT origin FROM logs WHERE id = l.log), l.event, l.span, l.trace, "  # noqa: S608
            f"{words} FROM leaves l WHERE l.log = ? AND l.idx = ?"
        )
        ((time, index, origin, event, span, trace, *said),) = self._asked(query, place[1:])
        text = str(UUID(bytes=event)) if isinstance(event, bytes) else event
        names = dict(zip(_WORDS, said, strict=True))
        return Row(origin, index, Coordinates(time=time, event=text, span=span, trace=trace, **names))

    def _asked(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            raise TransientError(
                "The question takes too long. Ask for a shorter time, a school or an event.", code="audit.too_long"
            ) from None


def _event(event: str) -> bytes | str:
    """The 16 bytes of an id of an event, which is a uuid; any other text as it is."""
    return UUID(event).bytes if is_uuid(event) else event


def _hash(tag: bytes) -> bytes:
    return sha256(_FORGOTTEN + tag).digest()
