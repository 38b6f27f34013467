"""Requests to destroy and their confirmations, as `audit.control` has them (`broker.exchange.errand`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

REQUESTED: Final = "destroy-requested"
CONFIRMED: Final = "destroy-confirmed"
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class DestroyRequest:
    """What the broker asked a party to destroy, when an agreement ended.

    Args:
        deadline: last day for it.
        asked_at: milliseconds since 1970.
    """

    party: str
    school: str
    agreement: str
    deadline: date
    asked_at: int


def unconfirmed(leaves: Iterable[Mapping[str, Any]]) -> tuple[DestroyRequest, ...]:
    """The requests of a control log that were not confirmed since.

    A confirmation counts if it is of the same party, about the same school, and answers the request by its
    `control_id` or names its agreement.
    """
    asked: dict[tuple[str, str, str], tuple[DestroyRequest, str | None]] = {}
    confirmed: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    answered: set[tuple[str, str, str]] = set()
    for leaf in leaves:
        said = leaf.get("control", {})
        if said.get("kind") not in (REQUESTED, CONFIRMED):
            continue
        party, school = str(said["party"]), str(said["school"])
        if said["kind"] == CONFIRMED:
            about = (party, school, str(said.get("agreement_id")))
            confirmed[about] = max(confirmed[about], said["at"])
            answered.add((party, school, str(said.get("control_id"))))
        elif "deadline" in said and "agreement_id" in said:
            about = (party, school, str(said["agreement_id"]))
            request = DestroyRequest(*about, _EPOCH + timedelta(days=said["deadline"]), said["at"])
            asked[about] = request, said.get("event")
    return tuple(
        request
        for about, (request, control_id) in asked.items()
        if confirmed.get(about, -1) < request.asked_at and (request.party, request.school, control_id) not in answered
    )
