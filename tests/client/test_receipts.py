"""What a party keeps of what it got, and the receipts that are made with it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from broker.audit.receipt import Receipt, ReceiptError, verify
from broker.client.receipts import Evidence, receipt
from broker.errors import AccessDenied, ContractError
from broker.wire import AUDIT_SALT
from tests.auditserve.office import Office
from tests.exchange.world import DELTA, PORTAL


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Two schools of two boards, and what was delivered to their parties."""
    return Office(tmp_path)


def evidence(office: Office) -> Evidence:
    """Of the first record that the portal got."""
    record = office.world.topic(f"out.{PORTAL}.usage")[0]
    event = office.world.delivered(PORTAL)[0].envelope["event_id"]
    return Evidence(event, PORTAL, record.value or b"", dict(record.headers)[AUDIT_SALT])


async def test_a_receiver_asks_for_the_receipt_of_what_it_got(office: Office) -> None:
    """The file holds without the service; the salt was not sent, and another record gets none."""
    own = evidence(office)
    async with office.open() as server:
        service = office.service(server, PORTAL)
        made = Receipt.parse(await receipt(service, own))
        assert verify(made, service.verifiers, own.record).side == "out"
        with pytest.raises(ReceiptError):
            await receipt(service, Evidence(own.event, own.receiver, b"another", own.salt))
        with pytest.raises(AccessDenied):
            await receipt(office.service(server, DELTA), Evidence(own.event, DELTA, own.record, own.salt))
    assert not any(own.salt in leaf or own.salt.hex().encode() in leaf for leaf in office.recorded.leaves)


def test_evidence_is_kept_for_its_owner_alone(office: Office, tmp_path: Path) -> None:
    """Kept twice, as after a crash, it is the same two files."""
    own, folder = evidence(office), tmp_path / "new" / "evidence"
    for _ in range(2):
        own.keep(folder)
    value, salt = folder / f"{own.event}.value", folder / f"{own.event}.salt"
    assert sorted(folder.iterdir()) == [salt, value]
    assert (value.read_bytes(), salt.read_bytes()) == (own.record, own.salt)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (value, salt)} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert own.record.hex() not in repr(own)
    assert str(own.salt) not in repr(own)


def test_an_event_can_not_choose_where_its_evidence_goes(tmp_path: Path) -> None:
    """Its id comes from outside: what is no uuid is no name of a file."""
    with pytest.raises(ContractError):
        Evidence("../elsewhere", PORTAL, b"record", bytes(32)).keep(tmp_path / "evidence")
    assert list(tmp_path.iterdir()) == []
