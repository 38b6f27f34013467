"""Logs in a folder, grown from what the exchange's test world wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.leaf import lookup_tag
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import LogDirectory
from broker.audit.log.note import Signer, render
from broker.audit.log.tiles import TileBuilder
from broker.audit.signed import SignedLog
from broker.exchange.model import AUDIT_EVENTS, AUDIT_INDEX
from tests.exchange.world import DELTA, EMMA, SIS, World, enrolment, event, make_world

ORIGIN = "broker.example/audit/p0/1"


@dataclass
class GrowingLog:
    """A log whose builder is the test."""

    root: Path
    origin: str = ORIGIN
    builder: TileBuilder = field(default_factory=TileBuilder)

    def __post_init__(self) -> None:
        seed = self.origin.encode().ljust(32, b".")[:32]
        self.signer = Signer(self.origin, Ed25519PrivateKey.from_private_bytes(seed))
        self.folder = self.root / "-".join(self.origin.split("/")[-2:])
        self.directory = LogDirectory(self.folder)
        self.directory.show_key(self.signer.vkey)

    def grow(self, entries: Sequence[bytes]) -> SignedLog:
        """Add entries and sign."""
        growth = self.builder.append(entries)
        self.directory.write_immutable(growth.files)
        text = Checkpoint(self.origin, growth.size, growth.root).text()
        self.directory.publish(render(text, [self.signer.sign(text)]))
        return self.signed()

    def signed(self) -> SignedLog:
        """As a reader sees it."""
        found = SignedLog.open(self.directory, [self.signer.verifier])
        assert found is not None
        return found


def audit_events(world: World) -> list[bytes]:
    """All leaves, those of windows too."""
    return [out.value or b"" for out in world.topic(AUDIT_EVENTS)]


def audit_index(world: World) -> list[bytes]:
    """All entries."""
    return [out.value or b"" for out in world.topic(AUDIT_INDEX)]


def tag_of(world: World, eck_id: str = EMMA, school: str = "99PA", sector: str = "PO") -> bytes:
    """The tag of a pupil who is enrolled."""
    vault = world.exchange_keys.vault
    person = vault.find(world.vault, vault.key(sector, school, "ECK_ID", eck_id))
    assert person is not None
    return lookup_tag(person.subject_key)


def busy_world() -> World:
    """Enrolled, delivered, repeated, refused."""
    world = make_world()
    world.send(SIS, enrolment())
    once = event()
    world.send(DELTA, once, once, event(receiver="portaal-plein"), event(school="00AA"))
    return world
