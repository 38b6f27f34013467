"""What the registry does not know: keys and topics that are there, pupils that were counted, requests to destroy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broker.season.destroyed import DestroyRequest
from broker.season.people import PupilCounts


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about an installation; what was not looked at is None, and nothing is found about it then.

    Attributes:
        has_keys: whether the registry is one that holds the parties' keys; a folder of files need not.
        topics: names of all topics.
        pupils: by school as the vault has it (it may be a former BRIN) and sector.
        destroy: requests, of the broker and of schools, that nobody confirmed.
    """

    has_keys: bool = False
    topics: frozenset[str] | None = None
    pupils: Mapping[tuple[str, str], PupilCounts] | None = None
    destroy: tuple[DestroyRequest, ...] | None = None

    def not_looked_at(self) -> Iterator[str]:
        """What is None, in words."""
        if not self.has_keys:
            yield "keys of parties"
        if self.topics is None:
            yield "topics"
        if self.pupils is None:
            yield "pupils"
        if self.destroy is None:
            yield "requests to destroy"
