"""Every outcome code there is, with the sentence a sender reads on `status.<party>` (promise P10).

A code is stable: suppliers' software acts on it. `docs/reference/outcomes.md` is generated from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from broker.exchange.model import Outcome


class Meaning(NamedTuple):
    """What a code means.

    Args:
        outcome: the decision it always goes with.
        sentence: what happened and what to do, without any value.
        incident: whether it is recorded as an incident as well (promise P5).
    """

    outcome: Outcome
    sentence: str
    incident: bool = False


_Q, _R = Outcome.QUARANTINED, Outcome.REFUSED

CODES: Final[Mapping[str, Meaning]] = MappingProxyType({
    # final and good
    "ok": Meaning(Outcome.DELIVERED, "Delivered."),
    "ok.unchecked": Meaning(Outcome.DELIVERED, "Delivered; what you said of this object before is not known here (any more), so its order was not checked."),
    "ok.duty": Meaning(Outcome.DELIVERED, "Told by the broker itself, since the registry changed."),
    "ok.link": Meaning(Outcome.DELIVERED, "The connection stands in the registry."),
    "ok.vault": Meaning(Outcome.DELIVERED, "The enrolment stands in the vault."),
    "event.duplicate": Meaning(Outcome.DUPLICATE, "This event was delivered before under the same event id; nothing was done."),
    "subject.waiting": Meaning(Outcome.PARKED, "The local id is not known at the school yet; the event waits for the enrolment."),
    "parked.expired": Meaning(Outcome.EXPIRED, "The event waited for an enrolment that did not come; send it again once the pupil is enrolled."),
    # replays out of quarantine
    "replay.form": Meaning(_R, "The header `replay-of` must be the offset, in decimal, of an earlier record of the same partition."),
    "replay.unknown": Meaning(_R, "The record that `replay-of` names does not wait in quarantine: it was replayed before, was never there, or is too long ago."),
    # open: the bytes
    "record.too_large": Meaning(_Q, "The record is larger than allowed; split it."),
    "headers.too_large": Meaning(_Q, "The headers together are larger than allowed."),
    "headers.repeated": Meaning(_Q, "The header `data-key`, `traceparent` or `replay-of` is there twice."),
    "key.form": Meaning(_Q, "The record key must be 32 bytes: a keyed hash of the pupil or of the school, never an id itself."),
    "frame.empty": Meaning(_Q, "The record has no value."),
    "frame.marker": Meaning(_Q, "The value is not an Avro single object (it must begin with C3 01 and a fingerprint)."),
    "schema.unknown": Meaning(_Q, "The schema's fingerprint is not known here; use a schema from the topic `schemas`."),
    "schema.truncated": Meaning(_Q, "The bytes are not a whole record of their schema."),
    "schema.trailing": Meaning(_Q, "Bytes follow the record; write one record per Kafka record."),
    "schema.utf8": Meaning(_Q, "A string is not valid UTF-8."),
    "seal.missing": Meaning(_Q, "The header `data-key` is missing; seal both parts for the broker's key."),
    "seal.header": Meaning(_Q, "The header `data-key` is not a JWE of the agreed form, or it is damaged."),
    "seal.recipient": Meaning(_Q, "The event is sealed for a key that is not (or no longer) the broker's; fetch the newest from `broker.keys`."),
    "seal.broken": Meaning(_Q, "A sealed part does not open: it was changed, swapped, or sealed for another envelope."),
    # the broker's own
    "internal.error": Meaning(_Q, "The broker failed on this event, which is a fault of the broker and not of yours. Nothing was delivered; its operator was told, and decides what becomes of the event.", incident=True),
    # check: the content
    "sender.forged": Meaning(_Q, "The envelope names another sender than the party that owns this topic.", incident=True),
    "pgn.bsn": Meaning(_Q, "A field holds what looks like a BSN; it may never be sent. Remove it and send again.", incident=True),
    "pgn.onderwijsnummer": Meaning(_Q, "A field holds what looks like an onderwijsnummer; it may never be sent. Remove it and send again.", incident=True),
    "pgn.hpgn": Meaning(_Q, "A field holds what looks like an hPGN; it may never be sent. Remove it and send again.", incident=True),
    "pgn.stampseudoniem": Meaning(_Q, "A field holds a stampseudoniem; it may never be sent. Remove it and send again.", incident=True),
    "text.too_long": Meaning(_Q, "A string is longer than allowed."),
    "text.control_character": Meaning(_Q, "A string holds a control character such as NUL."),
    "list.too_long": Meaning(_Q, "A list has more items than allowed."),
    "envelope.form": Meaning(_Q, "A field of the envelope does not have its form."),
    "party.unknown": Meaning(_R, "The sender is not registered (any more)."),
    "party.suspended": Meaning(_R, "Your party is suspended: nothing of it is taken, and nothing goes to it. Ask the operator why; send again once that is over."),
    "school.not_yours": Meaning(_R, "The school is not one that this party serves."),
    "school.sector": Meaning(_R, "The school has no such sector."),
    "school_year.form": Meaning(_R, "The school year is not the previous, the current or the next one."),
    "created.out_of_range": Meaning(_R, "The event's time lies in the future or too far back; check the clock."),
    "kind.unknown": Meaning(_R, "The family has no such kind."),
    "field.missing": Meaning(_R, "A field that this kind needs is empty."),
    "field.unused": Meaning(_R, "A field is filled in that this kind does not use; send it empty."),
    "field.form": Meaning(_R, "A field does not have its form."),
    "subject.missing": Meaning(_R, "The family needs a subject with at least one id."),
    "code.form": Meaning(_R, "A business code is at most 100 of A-Z, a-z, 0-9, `.`, `_`, `:`, `/`, `+`, `-`, without nine digits in a row (they could be a PGN)."),
    "subject.kind": Meaning(_R, "An event of this kind is about a pupil, or about an employee; the subject is the other."),
    "subject.not_allowed": Meaning(_R, "An event of this kind to this receiver may be about nobody; send it without subject."),
    "identifier.form": Meaning(_R, "An identifier of the subject does not have its form."),
    "product.unknown": Meaning(_R, "No agreement knows this product."),
    "object.transition": Meaning(_R, "This kind can not follow what you said of this object before; see the family's schema for the order."),
    "object.stale": Meaning(_R, "The revision is not higher than the one that you sent of this object before."),
    # authorise: the gates
    "gate.route": Meaning(_R, "There is no route for this family and kind between the parties' roles."),
    "gate.agreement": Meaning(_R, "No agreement (or not one that is valid today) covers this receiver, product and process."),
    "gate.connection": Meaning(_R, "The school has no connection to this receiver that both sides accepted."),
    "gate.policy": Meaning(_R, "The policy does not let pass what this kind of event is about."),
    "gate.receivers": Meaning(_R, "No receiver is connected for this school, so nobody got the event."),
    "gate.ended": Meaning(_R, "The connection or agreement ended before that which the event tells happened."),
    "consent.missing": Meaning(_R, "The product needs the parents' consent for a pupil under 16, and the school has told of none."),
    "receiver.suspended": Meaning(_R, "The receiver is suspended, so it gets nothing for now; send again once that is over."),
    "receiver.key": Meaning(_R, "The receiver has published no key to seal for."),
    "receiver.topic": Meaning(_R, "The receiver has no topic for this family yet."),
    "policy.rejected": Meaning(_Q, "The event holds an attribute that may never be sent.", incident=True),
    # connections
    "link.not_yours": Meaning(_R, "Only the SIS with the board's mandate accepts for a school; a party offers, declines or revokes its own side only."),
    "link.parties": Meaning(_R, "Sender and receiver of a connection must be two registered parties."),
    "link.route": Meaning(_R, "There is no route for this service and process between the parties' roles."),
    "link.conflict": Meaning(_R, "The connection's id stands for another link already; choose a new id."),
    "link.form": Meaning(_R, "The id of a connection that is not known yet must be a UUID in lower case; products that it names must be GTIN-13s or UUIDs."),
    # swap: the identity
    "subject.unknown": Meaning(_R, "The identifier is not known at this school."),
    "subject.left": Meaning(_R, "The pupil left the school; only what closes something still passes, for a while."),
    "subject.conflict": Meaning(_R, "The ids given belong to different enrolments; send MERGE first."),
    "parked.full": Meaning(_R, "Too many events wait for this or other enrolments; send it again later."),
})  # fmt: skip


def meaning(code: str) -> Meaning:
    """Look a code up; an unknown one is a programming error."""
    return CODES[code]


def reference() -> str:
    """The table as a page: `docs/reference/outcomes.md`."""
    lines = [
        "# Outcome codes",
        "",
        "What a sender can read on `status.<party>`, with the sentence that comes along. Codes are stable: software may",
        "act on them. This page is generated from `broker/exchange/outcomes.py` by `make docs`.",
        "",
        "| code | outcome | sentence | incident |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{code}` | {what.outcome.value.lower()} | {what.sentence} | {'yes' if what.incident else ''} |"
        for code, what in CODES.items()
    ]
    return "\n".join(lines) + "\n"
