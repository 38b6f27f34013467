"""Entries that are right, for tests that make one thing wrong."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from broker.registry import Agreement, Board, ConnectionSide, Party, School, Succession, TemporaryException

BOOK: Final = "8717927130834"
OTHER_BOOK: Final = "9789493113862"
TODAY: Final = date(2026, 11, 24)


def party(**changes: Any) -> dict[str, Any]:
    """A portal."""
    return {
        "id": "portaal-plein", "name": "Plein", "roles": ["PORTAL"], "covenant": "deelnemer",
        "processor_url": "https://plein.example/",
    } | changes  # fmt: skip


def board(**changes: Any) -> dict[str, Any]:
    """A board."""
    return {"id": "horizon", "name": "Horizon", "processing_register": "https://horizon.example/register"} | changes


def school(**changes: Any) -> dict[str, Any]:
    """A school of that board."""
    return {
        "id": "99PA", "name": "De Regenboog", "board": "horizon", "sectors": ["PO"], "sis": "sis-noord",
        "mandated_from": "2024-08-01",
    } | changes  # fmt: skip


def agreement(**changes: Any) -> dict[str, Any]:
    """An agreement of that board with that portal."""
    given = {
        "id": "vwo-1", "version": "1.0", "model": "4.0", "board": "horizon", "schools": "all of board",
        "party": "portaal-plein", "products": [{"id": BOOK, "type": "ordinary", "does": "rekenen"}],
        "processes": [{"process": "Gebruik", "purpose": "inzicht", "basis": "publieke_taak"}],
        "attributes": ["yearGroup"], "access": "docenten", "storage_country": "NL", "retention": "schooljaar",
        "privacy_contact": "p@example", "incident_contact": "i@example", "security_measures": "ISO 27001",
        "incident_arrangements": "24 uur", "subprocessors": [], "valid_from": "2026-01-01", "valid_until": "2027-07-31",
    } | changes  # fmt: skip
    return {name: value for name, value in given.items() if value is not ...}


def side(which: str = "sender", **changes: Any) -> dict[str, Any]:
    """One accepted side of a link from a publisher to that portal."""
    return {
        "id": "c1", "side": which, "school": "99PA", "sender": "uitgeverij-delta", "receiver": "portaal-plein",
        "service": "usage", "process": "Gebruik", "state": "accepted", "mandate": "sis-noord", "at": "2026-07-01T10:00:00Z",
        "accepted_by": "uitgeverij-delta" if which == "sender" else "portaal-plein",
    } | changes  # fmt: skip


def exception(**changes: Any) -> dict[str, Any]:
    """For two weeks that portal gets one attribute more."""
    return {
        "id": "x1", "school": "99PA", "receiver": "portaal-plein", "process": "Gebruik", "attributes": ["groupId"],
        "reason": "school dicht", "approved_by": "directeur", "parents_informed_on": "2026-11-10",
        "start": "2026-11-16", "end": "2026-11-27",
    } | changes  # fmt: skip


def succession(**changes: Any) -> dict[str, Any]:
    """That board goes up in another one, and all goes along."""
    return {
        "id": "s1", "what": "board", "predecessor": "horizon", "successor": "einder", "first_day": "2026-08-01",
        "agreements": "carry", "connections": "carry", "identities": "carry", "reason": "fusie",
    } | changes  # fmt: skip


def jwk(*, private: bool = False) -> dict[str, str]:
    """A fresh key."""
    key = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
    return {
        name: str(value)
        for name, value in key.as_dict(private=private).items()
        if name in ["kty", "crv", "x", "y", "d"]
    }


Some = Party | Board | School | Agreement | ConnectionSide | TemporaryException | Succession


def entries(**changes: Any) -> list[Some]:
    """A small world in which usage flows from a publisher to a portal and a SIS."""
    return [
        Party.model_validate(party()),
        Party.model_validate(party(id="sis-noord", roles=["SIS"])),
        Party.model_validate(party(id="uitgeverij-delta", roles=["PUBLISHER"])),
        Board.model_validate(board()),
        School.model_validate(school(**changes.get("school", {}))),
        Agreement.model_validate(agreement(**changes.get("agreement", {}))),
        ConnectionSide.model_validate(side("sender", **changes.get("sender", {}))),
        ConnectionSide.model_validate(side("receiver", **changes.get("receiver", {}))),
    ]
