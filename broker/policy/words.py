"""The words that rules, routes and agreements are written in (`docs/reference`, design section 3)."""

from __future__ import annotations

from typing import Final, Literal, get_args

Process = Literal["BestellenLeveren", "Toegang", "Gebruik", "Terugkoppelen"]
Sector = Literal["PO", "VO", "MBO"]
Role = Literal["SIS", "SHOP", "PUBLISHER", "PORTAL"]
ReceiverRole = Literal["SIS", "SHOP", "PUBLISHER", "PORTAL", "VAULT"]
# Where a route may end. What goes to the registry is about nobody, so no rule of the policy speaks of it.
Destination = Literal["SIS", "SHOP", "PUBLISHER", "PORTAL", "VAULT", "REGISTRY"]
ProductType = Literal["ordinary", "legal-test", "norm-test"]
LawfulBasis = Literal["wettelijke_plicht", "publieke_taak", "overeenkomst", "toestemming", "gerechtvaardigd_belang"]

PROCESSES: Final[tuple[Process, ...]] = get_args(Process)
SECTORS: Final[tuple[Sector, ...]] = get_args(Sector)
ROLES: Final[tuple[Role, ...]] = get_args(Role)
RECEIVER_ROLES: Final[tuple[ReceiverRole, ...]] = get_args(ReceiverRole)
DESTINATIONS: Final[tuple[Destination, ...]] = get_args(Destination)
PRODUCT_TYPES: Final[tuple[ProductType, ...]] = get_args(ProductType)

ROLE_MEANINGS: Final[dict[Destination, str]] = {
    "SIS": "the school's administration",
    "SHOP": "the shop",
    "PUBLISHER": "the publisher",
    "PORTAL": "the portal",
    "VAULT": "the broker's own vault of identities",
    "REGISTRY": "the broker's own registry",
}
BASIS_MEANINGS: Final[dict[str, str]] = {
    "wettelijke_plicht": "legal obligation (GDPR 6(1)(c))",
    "publieke_taak": "public task (GDPR 6(1)(e))",
    "overeenkomst": "contract (GDPR 6(1)(b))",
    "toestemming": "consent (GDPR 6(1)(a))",
    "gerechtvaardigd_belang": "legitimate interest (GDPR 6(1)(f))",
    "geen": "none, so it never passes",
}
