"""A party that is shut out for now: one record, `suspension/<party>`, beside its entry and not in any folder of files.

It says no more than that the party is closed. Agreements, connections and keys stay as they are, so that nothing has to
be agreed anew once it is lifted (docs/adr/0017).
"""

from __future__ import annotations

from typing import Final

from pydantic import AwareDatetime

from broker.policy.document import Written
from broker.registry.fields import PartyId, Reason

KIND: Final = "suspension"


class Suspension(Written):
    """A party that may neither send nor receive.

    Args:
        id: of the party.
        since: when the operator said so.
        reason, by: why and who; both stand in the audit for ever, so they hold no personal data of pupils.
    """

    id: PartyId
    since: AwareDatetime
    reason: Reason
    by: Reason


def suspension_key(party: str) -> str:
    """The key of a party's suspension on the topic `registry`."""
    return f"{KIND}/{party}"
