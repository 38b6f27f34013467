"""All kinds of registry entries by name, and the key of each on the topic `registry`.

Each entry is a record. What is incomplete is refused with the name of the missing field (R16).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from broker.policy.document import Written
from broker.registry.agreements import (
    EEA,
    LOCAL_IDS,
    Agreement,
    ProcessPurpose,
    Product,
    TemporaryException,
)
from broker.registry.connections import ConnectionSide
from broker.registry.fields import ALL, ALL_OF_BOARD, EntryId, LocationId, PartyId, ProductId, SchoolId
from broker.registry.keysinuse import KeyInUse
from broker.registry.parties import RESERVED, Board, Party, PublicKey, School, Succession
from broker.registry.suspension import Suspension

__all__ = [
    "ALL",
    "ALL_OF_BOARD",
    "EEA",
    "KINDS",
    "LOCAL_IDS",
    "RESERVED",
    "Agreement",
    "Board",
    "ConnectionSide",
    "Entry",
    "EntryId",
    "KeyInUse",
    "LocationId",
    "Party",
    "PartyId",
    "ProcessPurpose",
    "Product",
    "ProductId",
    "PublicKey",
    "RegistryDocument",
    "School",
    "SchoolId",
    "Succession",
    "Suspension",
    "TemporaryException",
    "key_of",
]

Entry = Party | Board | School | Agreement | TemporaryException | ConnectionSide | Succession | Suspension | KeyInUse
KINDS: Final[Mapping[str, type[Entry]]] = {
    "party": Party,
    "board": Board,
    "school": School,
    "agreement": Agreement,
    "exception": TemporaryException,
    "connection": ConnectionSide,
    "succession": Succession,
    "suspension": Suspension,
    "key": KeyInUse,
}
_KIND_OF: Final = {model: kind for kind, model in KINDS.items()}


class RegistryDocument(Written):
    """All entries of a folder of YAML files."""

    parties: tuple[Party, ...] = ()
    boards: tuple[Board, ...] = ()
    schools: tuple[School, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    exceptions: tuple[TemporaryException, ...] = ()
    connections: tuple[ConnectionSide, ...] = ()
    successions: tuple[Succession, ...] = ()

    def entries(self) -> Iterator[Entry]:
        """All of them."""
        for section in type(self).model_fields:
            yield from getattr(self, section)


def key_of(entry: Entry) -> str:
    """The entry's key on the topic `registry`."""
    key = f"{_KIND_OF[type(entry)]}/{entry.id}"
    return f"{key}/{entry.side}" if isinstance(entry, ConnectionSide) else key
