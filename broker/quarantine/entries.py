"""What stands on the quarantine topics: entries, and what became of them. Nothing in here opens anything."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Self

from broker.errors import ConfigError, ContractError
from broker.schemas import catalogue, unframe

PREFIX: Final = "quarantine."
OPEN, REPLAYED, DROPPED = "open", "replayed", "dropped"
STATES: Final = (OPEN, REPLAYED, DROPPED)
_PLACE: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})/([0-9]{1,5})/([0-9]{1,18})")


class Place(NamedTuple):
    """Where a quarantined record stood: its name for people, as `<party>/<partition>/<offset>`."""

    party: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `broker quarantine list` shows.

        Raises:
            ConfigError: `quarantine.place`.
        """
        found = _PLACE.fullmatch(text)
        if found is None:
            raise ConfigError(
                "A place is PARTY/PARTITION/OFFSET, as `broker quarantine list` shows it in its first column.",
                code="quarantine.place",
            )
        return cls(found[1], int(found[2]), int(found[3]))

    @property
    def topic(self) -> str:
        """The topic that the record came in by."""
        return f"in.{self.party}"

    def json(self) -> dict[str, Any]:
        """As audit leaves name a record."""
        return {"offset": self.offset, "partition": self.partition, "topic": self.topic}

    def __str__(self) -> str:
        return f"{self.party}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A quarantined record. Its repr shows no sealed bytes either.

    Args:
        decided: milliseconds since 1970.
        whole: whether all of the record is there; else it was too large.
        recipients: JWEs of the data secret, of which a private key opens one.
    """

    place: Place
    event_id: str
    code: str
    field: str | None
    rule: str | None
    school: str | None
    receiver: str | None
    decided: int
    whole: bool
    recipients: tuple[bytes, ...] = dataclasses.field(repr=False)
    content: bytes = dataclasses.field(repr=False)
    subject: bytes | None = dataclasses.field(repr=False)
    body: bytes | None = dataclasses.field(repr=False)

    @property
    def time(self) -> datetime:
        """When it was decided."""
        return moment(self.decided)


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of an entry.

    Args:
        at: milliseconds since 1970. by: the party that replayed, or the operator who dropped.
        replay: offset of the replay.
    """

    place: Place
    state: str
    at: int
    by: str
    reason: str | None
    replay: int | None


@dataclass(slots=True)
class Quarantine:
    """All that some quarantine topics hold.

    Attributes:
        unknown: records of another version of the broker, which this one can not read.
    """

    entries: list[Entry] = dataclasses.field(default_factory=list)
    handled: dict[Place, Handled] = dataclasses.field(default_factory=dict)
    unknown: int = 0

    @classmethod
    def read(cls, values: Iterable[bytes | None]) -> Self:
        """Take the records of the topics, each topic's in order."""
        found, known = cls(), catalogue()
        for value in values:
            try:
                fingerprint, data = unframe(value)
                if fingerprint == known["quarantine.v1"].fingerprint:
                    found.entries.append(_entry(known["quarantine.v1"].decode(data)))
                elif fingerprint == known["handled.v1"].fingerprint:
                    found._take(_handled(known["handled.v1"].decode(data)))
                else:
                    found.unknown += 1
            except ContractError:
                found.unknown += 1
        return found

    def state(self, place: Place) -> str:
        """`open`, `replayed` or `dropped`."""
        handled = self.handled.get(place)
        return OPEN if handled is None else handled.state

    def at(self, place: Place) -> list[Entry]:
        """The entries of one record: more than one where it was decided for several receivers.

        Raises:
            ConfigError: `quarantine.unknown`.
        """
        found = [entry for entry in self.entries if entry.place == place]
        if not found:
            raise ConfigError(
                f"Nothing of {place} is in quarantine; it is kept for 29 days. See `broker quarantine list`.",
                code="quarantine.unknown",
            )
        return found

    def require_open(self, place: Place) -> list[Entry]:
        """The entries of a record that nobody dealt with yet.

        Raises:
            ConfigError: `quarantine.unknown` or `quarantine.handled`.
        """
        found = self.at(place)
        handled = self.handled.get(place)
        if handled is not None:
            again = f"; the replay is {place._replace(offset=handled.replay)}" if handled.replay is not None else ""
            raise ConfigError(
                f"{place} was {handled.state} by {handled.by} on {moment(handled.at):%Y-%m-%d %H:%M} UTC{again}. "
                "Each is dealt with once.",
                code="quarantine.handled",
            )
        return found

    def _take(self, handled: Handled) -> None:
        known = self.handled.get(handled.place)
        # That it was replayed is a fact of the data, whatever was said of it before or after.
        if known is None or known.state != REPLAYED:
            self.handled[handled.place] = handled


def moment(milliseconds: int) -> datetime:
    """A time of the broker's records."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _place(datum: dict[str, Any]) -> Place:
    return Place(datum["topic"].partition(".")[2], datum["partition"], datum["offset"])


def _entry(datum: dict[str, Any]) -> Entry:
    return Entry(
        _place(datum), datum["event_id"], datum["code"], datum["field"], datum["rule"], datum["school"],
        datum["receiver"], datum["decided"], datum["whole"], tuple(token.encode() for token in datum["recipients"]),
        datum["content"], datum["subject"], datum["body"],
    )  # fmt: skip


def _handled(datum: dict[str, Any]) -> Handled:
    state = datum["state"].lower()
    return Handled(_place(datum), state, datum["at"], datum["by"], datum["reason"], datum["replay"])
