"""Receipts: what shows, without the broker, that a party was given exactly this.

    service = Service.of("https://audit.broker.example:8470", cert, cert_key, ca, keys_in_file(published))
    async for received in consumer:
        ...
        file.write_bytes(await receipt(service, received))

A receipt can be made when the leaf is signed and indexed, seconds to minutes after the record came, and as long as the
audit is kept. Whoever may need one later keeps `Evidence` with the event: record and salt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from broker.auditserve.client import Service, receipt_of
from broker.auditserve.rights import Question
from broker.client.consumer import Received
from broker.durable import sync_folder, write_over
from broker.errors import ContractError
from broker.identity.formats import is_uuid

VALUE: Final = ".value"
SALT: Final = ".salt"
PRIVATE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a receipt is made with. Its repr shows nothing of it.

    Args:
        event: id of the event. receiver: the party that got it.
        record: value of the record. salt: 32 bytes, from its header `audit-salt`.
    """

    event: str
    receiver: str
    record: bytes = field(repr=False)
    salt: bytes = field(repr=False)

    @classmethod
    def of(cls, received: Received) -> Self:
        """That of an event that came in."""
        return cls(received.event.event_id, received.event.receiver or "", received.record, received.salt)

    def keep(self, folder: Path) -> None:
        """Write it as `<event>.value` and `<event>.salt`, which only this user may read.

        The salt proves what the record says of a pupil, so it is personal data as the record is.

        Raises:
            ContractError: `event.id`: the event has no id that can be the name of a file.
        """
        if not is_uuid(self.event):
            raise ContractError("the event has no uuid, so its evidence has no name", code="event.id")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for suffix, data in ((VALUE, self.record), (SALT, self.salt)):
            write_over(folder / f"{self.event}{suffix}", data, PRIVATE)
        sync_folder(folder)


async def receipt(service: Service, evidence: Evidence) -> bytes:
    """Ask for the proof of a delivery and make the receipt, the file `.tlog-proof`, here. The salt is not sent.

    Raises:
        AccessDenied: `audit.event`: it is not signed or indexed yet, or nothing of it was delivered to you.
        ContractError: `audit.unproven`, `receipt`: what the service shows is not in a log that you know, or speaks of
            another record than you got. TransientError: ask again later.
        ConfigError: `audit.service`.
    """
    answer = await service.ask(Question.RECEIPT, {"event": evidence.event, "receiver": evidence.receiver})
    return receipt_of(answer, evidence.salt, service.verifiers, evidence.record)
