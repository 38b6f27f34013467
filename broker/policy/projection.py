"""What of an event may pass to a receiver: the answer of the policy, by attribute name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

Possible = Literal["always", "conditional", "never"]

DEFAULT_DENY: Final = "default-deny"
NOT_IN_AGREEMENT: Final = "not-in-agreement"

# Conditions on an attribute, in words. Each is about the person or the receiver, so none can be decided by the
# policy: who asks for a projection says which of them he will check himself.
CONDITIONS: Final[Mapping[str, str]] = MappingProxyType({
    "covenant-attested": "the receiver takes part in the privacy covenant and has a dated security attestation",
    "own-school-sis": "the receiver is the administration that the school's board mandated: its own id goes back",
    "no-eck-id": "the pupil has no ECK iD (UWLR 2.3: the local id is a temporary addition)",
    "digital-line": "it is about digital learning material or a digital test (Regeling pseudonimisering, art. 2)",
    "home-delivery": "physical goods are delivered at home",
    "no-school-account": "the pupil has no school account",
    "parents-informed": "the parents were informed beforehand",
    "no-objection": "the parents (from 16: the pupil) did not object",
})  # fmt: skip

# What the exchange checks for every event: all of them. A condition that a caller does not check is never met.
CHECKED_BY_EXCHANGE: Final = frozenset(CONDITIONS)


@dataclass(frozen=True, slots=True)
class Projection:
    """What may pass; every attribute asked for is in exactly one of the four.

    Attributes:
        kept: pass as they are, provided that their `conditions` hold.
        dropped: (attribute, why): a rule's id, `default-deny`, `not-in-agreement` or `condition:<name>`.
        transformed: attribute -> name of the function that must be applied; `conditions` count here too.
        rejected: an event that holds one is not sent at all, and is an incident.
        conditions: attribute -> names from `CONDITIONS` that the caller has said to check.
    """

    kept: tuple[str, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    transformed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    rejected: frozenset[str] = frozenset()
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
