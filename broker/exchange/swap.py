"""Step 4, swap: from the ids that came in to the person in the vault, and what the vault learns.

Local id -> ECK iD through the vault; ECK iD -> known at this school. Both only within the event's own school and
sector: the id of a pupil of another school is as unknown as one that does not exist (promise P8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from broker.errors import AccessDenied, ContractError
from broker.exchange.open import Opened
from broker.identity.vault import ECK_ID, Flags, Reader, VaultCipher, VaultRecord, new_subject_key
from broker.limits import Limits
from broker.policy import Closing
from broker.schemas import JsonObject

# Attributes of bodies that name a person, and the type of the id that stands there.
_NAMED: Final[Mapping[str, str]] = MappingProxyType({"teacherEckId": ECK_ID, "employeeNumber": "MEDEWERKERNUMMER"})


@dataclass(frozen=True, slots=True)
class Waiting:
    """The local id is not known yet: the event waits for this vault key."""

    key: bytes


@dataclass(frozen=True, slots=True)
class VaultChange:
    """What an identity event does to the vault: new records, and tombstones, by vault key.

    Args:
        person: whom it is about; as he is after it, or was before he was erased.
    """

    person: VaultRecord
    writes: dict[bytes, bytes | None]
    erases: bool = False


def find_person(event: Opened, vault: VaultCipher, reader: Reader) -> VaultRecord | Waiting | None:
    """Whom the event is about; None if it is about nobody.

    Raises:
        AccessDenied: `subject.unknown`, `subject.conflict` or `subject.left`.
    """
    subject = event.subject
    if not event.about_somebody:
        return None
    found = [r for i in subject["user_ids"] if (r := _find(event, vault, reader, i["type"], i["value"])) is not None]
    if subject["eck_id"] is not None:
        by_eck_id = _find(event, vault, reader, ECK_ID, subject["eck_id"])
        if by_eck_id is None:
            raise AccessDenied("not known at this school", code="subject.unknown", field="eck_id")
        found.insert(0, by_eck_id)
    if not found:
        first = subject["user_ids"][0]
        return Waiting(vault.key(event.envelope["sector"], event.school.id, first["type"], first["value"]))
    person = found[0]
    if any(other.subject_key != person.subject_key for other in found) or person.kind != subject["kind"]:
        raise AccessDenied("ids of different people", code="subject.conflict", field="subject")
    return person


def check_people(event: Opened, vault: VaultCipher, reader: Reader) -> None:
    """Whom the body names beside the subject, such as the teacher who booked a result, must be of this school too.

    Raises:
        AccessDenied: `subject.unknown`, naming the field.
    """
    for field in event.family.schema.fields:
        id_type = _NAMED.get(field.attribute or "")
        value = event.body[field.name] if id_type is not None else None
        if value is None:
            continue
        person = _find(event, vault, reader, id_type or "", value)
        if person is None or person.kind != "EMPLOYEE":  # a pupil is named in the subject, nowhere else
            raise AccessDenied("not known at this school", code="subject.unknown", field=field.name)


def check_left(event: Opened, person: VaultRecord, closing: Closing | None, day: int) -> bool:
    """Whether the event only closes the affairs of a person who left the school.

    Args:
        day: today, in days since 1970: a sender's clock opens nothing.

    Raises:
        AccessDenied: `subject.left`, if he left and this does not (or not any more) close anything.
    """
    left_on = person.left_on
    if left_on is None or day <= left_on:
        return False
    if closing is None or day - left_on > closing.days or (closing.dated_before_end and not event.happened_by(left_on)):
        raise AccessDenied("left the school", code="subject.left")
    return True


def _find(event: Opened, vault: VaultCipher, reader: Reader, id_type: str, value: str) -> VaultRecord | None:
    """Look an id up at the event's school, and under the BRINs that it had before."""
    for school in (event.school.id, *event.school.formerly):
        record = vault.find(reader, vault.key(event.envelope["sector"], school, id_type, value))
        if record is not None:
            return record
    return None


def waiting_key(event: Opened, vault: VaultCipher, waits: Callable[[bytes], bool]) -> bytes | None:
    """The vault key that earlier events of this person wait for, if they do: this one must wait behind them."""
    for user_id in event.subject["user_ids"]:
        key = vault.key(event.envelope["sector"], event.school.id, user_id["type"], user_id["value"])
        if waits(key):
            return key
    return None


def change_vault(event: Opened, vault: VaultCipher, reader: Reader, limits: Limits) -> VaultChange:
    """What an identity event changes.

    ENROL makes or completes an enrolment, CHANGE completes one, LEAVE ends it, REPLACE puts new ids in the place of
    the previous ones, MERGE makes two enrolments one, ERASE forgets. The subject keys of enrolments that end in a MERGE
    are kept in the one that goes on, so that what is asked of the person, or erased, is whole.

    Raises:
        AccessDenied: `subject.unknown` or `subject.conflict`.
        ContractError: `list.too_long`, if the enrolment would gather more ids, or merged ones, than allowed.
    """
    kind, subject = event.envelope["kind"], event.subject
    known = _by_subject_key(_lookup(event, vault, reader, "user_ids", subject["eck_id"]))
    previous = _by_subject_key(_lookup(event, vault, reader, "previous_user_ids", None))
    if kind in ("REPLACE", "MERGE"):
        if not previous:
            raise AccessDenied("the previous ids are not known", code="subject.unknown", field="previous_user_ids")
        # Those that the event names come last: the last of them goes on.
        known = {key: record for key, record in previous.items() if key not in known} | known
    if not known and kind != "ENROL":
        raise AccessDenied("not known at this school", code="subject.unknown", field="subject")
    if len(known) > 1 and kind != "MERGE":
        raise AccessDenied("ids of different enrolments", code="subject.conflict", field="subject")
    people = list(known.values())
    # The enrolment that the event names goes on; in a MERGE the other's key is used no more, and is kept.
    person = people[-1] if people else _newcomer(event)
    if any(record.kind != subject["kind"] for record in people):
        raise AccessDenied("a pupil is no employee", code="subject.conflict", field="kind")
    old_keys = {key for record in people for key in vault.keys(record)}
    if kind == "ERASE":
        return VaultChange(person, dict.fromkeys(old_keys), erases=True)
    changed = _changed(event, person, people)
    if len(changed.user_ids) > limits.enrolment_ids:
        raise ContractError("too many ids of one enrolment", code="list.too_long", field="user_ids")
    if len(changed.former_keys) > limits.merged_enrolments:
        raise ContractError("too many merged enrolments", code="list.too_long", field="previous_user_ids")
    writes: dict[bytes, bytes | None] = dict.fromkeys(old_keys)
    writes.update({key: vault.encrypt(key, changed) for key in vault.keys(changed)})
    return VaultChange(changed, writes)


def _changed(event: Opened, person: VaultRecord, people: list[VaultRecord]) -> VaultRecord:
    kind, subject, body = event.envelope["kind"], event.subject, event.body
    ids = dict.fromkeys(i for record in people for i in record.user_ids)
    if kind == "REPLACE":  # first: an id that is named on both sides stays
        for gone in _pairs(subject, "previous_user_ids"):
            ids.pop(gone, None)
    ids.update(dict.fromkeys(_pairs(subject, "user_ids")))
    eck_id = subject["eck_id"] or person.eck_id or next((r.eck_id for r in people if r.eck_id), None)
    if kind not in ("REPLACE", "MERGE") and person.eck_id is not None and eck_id != person.eck_id:
        # An ECK iD does not change within an enrolment: another one is another person, or a REPLACE.
        raise AccessDenied("another ECK iD for a known id", code="subject.conflict", field="eck_id")
    eck_ids = {record.eck_id for record in people if record.eck_id}
    if kind == "MERGE" and len(eck_ids) > 1 and subject["eck_id"] is None:
        raise AccessDenied("which ECK iD goes on is not said", code="subject.conflict", field="eck_id")
    # ENROL is the enrolment as it is now, and so may begin one again; CHANGE leaves alone what it does not name.
    left_on = body["left_on"] if kind == "ENROL" or body["left_on"] is not None else person.left_on
    keys = dict.fromkeys(key for record in people for key in record.subject_keys if key != person.subject_key)
    return replace(
        person, school=event.school.id, eck_id=eck_id, user_ids=tuple(ids), left_on=left_on,
        flags=_flags(event, _restricted(person, people)), former_keys=tuple(keys),
    )  # fmt: skip


def _restricted(person: VaultRecord, people: list[VaultRecord]) -> Flags:
    """The flags of the enrolment that goes on, with what restricts it in those that end: an objection is not undone."""
    flags = [record.flags for record in people]
    return replace(
        person.flags,
        school_account=True if any(f.school_account for f in flags) else person.flags.school_account,
        parents_informed=False if any(f.parents_informed is False for f in flags) else person.flags.parents_informed,
        objection=True if any(f.objection for f in flags) else person.flags.objection,
        under_16=True if any(f.under_16 for f in flags) else person.flags.under_16,
    )


def _flags(event: Opened, before: Flags) -> Flags:
    """What the school says about the person; what an event leaves out stays as it was."""
    body = event.body
    contact, under_16, consents = body["contact_flags"], body["under_16"], body["consents"]
    if contact is not None:
        told = {name: value for name, value in contact.items() if value is not None}
        before = replace(before, **told)
    if under_16 is not None:
        before = replace(before, under_16=under_16)
    if consents is not None:  # the whole list: a consent that is not in it any more was withdrawn
        before = replace(before, consents=tuple((c["product_id"], c["reference"]) for c in consents))
    return before


def _newcomer(event: Opened) -> VaultRecord:
    return VaultRecord(
        event.school.id, event.envelope["sector"], event.subject["kind"], None, (), None, new_subject_key()
    )


def _lookup(event: Opened, vault: VaultCipher, reader: Reader, ids: str, eck_id: str | None) -> Iterator[VaultRecord]:
    pairs = list(_pairs(event.subject, ids)) + ([(ECK_ID, eck_id)] if eck_id else [])
    for id_type, value in pairs:
        record = _find(event, vault, reader, id_type, value)
        if record is not None:
            yield record


def _by_subject_key(records: Iterator[VaultRecord]) -> dict[bytes, VaultRecord]:
    return {record.subject_key: record for record in records}


def _pairs(subject: JsonObject, name: str) -> Iterator[tuple[str, str]]:
    return ((i["type"], i["value"]) for i in subject[name])
