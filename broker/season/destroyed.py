"""Requests to destroy and their confirmations, as `audit.control` has them (`broker.exchange.errand`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from broker.days import date_of, day_of

REQUESTED: Final = "destroy-requested"
CONFIRMED: Final = "destroy-confirmed"
BROKER: Final = "broker"  # as sender: the broker itself asked


@dataclass(frozen=True, slots=True)
class DestroyRequest:
    """What a party was asked to destroy: by the broker when an agreement ended, or by a school's SIS.

    Args:
        agreement: that it is about; a school need not name one.
        deadline: last day for it.
        asked_at: milliseconds since 1970.
        control_id: of the request; who answers repeats it.
        sender: who asked.
    """

    party: str
    school: str
    agreement: str | None
    deadline: date
    asked_at: int
    control_id: str
    sender: str = BROKER

    def is_answered_by(self, confirmation: Mapping[str, Any], *, of_another: bool) -> bool:
        """Whether a confirmation of this party, about this school, is the answer.

        Args:
            of_another: the confirmation has the id of another request.
        """
        if confirmation["control_id"] == self.control_id:
            return True
        return (
            self.sender == BROKER
            and not of_another
            and confirmation.get("agreement_id") == self.agreement
            and bool(confirmation["at"] >= self.asked_at)
        )


def unconfirmed(leaves: Iterable[Mapping[str, Any]]) -> tuple[DestroyRequest, ...]:
    """The requests of a control log that were not confirmed, whoever asked.

    A confirmation counts if it is of the same party, about the same school. It answers the request whose `control_id`
    it has; one that has no request's id answers what the broker asked, before it, about the agreement that it names.
    Of two requests of the broker about one agreement the later one counts: it asks for all that the first one did.
    """
    said = [leaf["control"] for leaf in leaves if leaf.get("control", {}).get("kind") in (REQUESTED, CONFIRMED)]
    asked: dict[tuple[str, str, str, str], DestroyRequest] = {}
    ids: set[tuple[str, str, str]] = set()
    confirmed: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in said:
        party, school = one["party"], one["school"]
        if one["kind"] == CONFIRMED:
            confirmed.setdefault((party, school), []).append(one)
            continue
        # A sender's deadline that can be no day is not in the leaf: the request is overdue from the day it came.
        deadline = one.get("deadline", day_of(one["at"]))
        # Leaves of before both were told name the event, and are the broker's.
        control_id, sender = one.get("control_id", one.get("event", "")), one.get("sender", BROKER)
        request = DestroyRequest(
            party, school, one.get("agreement_id"), date_of(deadline), one["at"], control_id, sender
        )  # fmt: skip
        ids.add((party, school, request.control_id))
        about = str(request.agreement) if request.sender == BROKER else request.control_id
        asked[party, school, request.sender, about] = request
    return tuple(
        request
        for request in asked.values()
        if not any(
            request.is_answered_by(one, of_another=(request.party, request.school, one["control_id"]) in ids)
            for one in confirmed.get((request.party, request.school), ())
        )
    )
