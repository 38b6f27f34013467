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

    A confirmation counts if it is of the same party, about the same school, and names the agreement: the log does not
    say which request it answers, so one that names none could be about anything.
    """
    asked: dict[tuple[str, str, str], DestroyRequest] = {}
    confirmed: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for leaf in leaves:
        said = leaf.get("control", {})
        if said.get("kind") not in (REQUESTED, CONFIRMED) or "agreement_id" not in said:
            continue
        about = (str(said["party"]), str(said["school"]), str(said["agreement_id"]))
        if said["kind"] == CONFIRMED:
            confirmed[about] = max(confirmed[about], said["at"])
        elif "deadline" in said:
            asked[about] = DestroyRequest(*about, _EPOCH + timedelta(days=said["deadline"]), said["at"])
    return tuple(request for about, request in asked.items() if confirmed.get(about, -1) < request.asked_at)
