"""Who is who, who agreed to what, and what is switched on: models, YAML files, and the view that the gates ask."""

from broker.registry.diff import Change, diff
from broker.registry.files import check, load, load_document, load_succession, records_of, with_keys
from broker.registry.models import (
    Agreement,
    Board,
    ConnectionSide,
    KeyInUse,
    Party,
    ProcessPurpose,
    Product,
    PublicKey,
    RegistryDocument,
    School,
    Succession,
    Suspension,
    TemporaryException,
)
from broker.registry.registry import POLICY_KEY, ROUTES_KEY, Registry, receivable_families

__all__ = [
    "POLICY_KEY",
    "ROUTES_KEY",
    "Agreement",
    "Board",
    "Change",
    "ConnectionSide",
    "KeyInUse",
    "Party",
    "ProcessPurpose",
    "Product",
    "PublicKey",
    "Registry",
    "RegistryDocument",
    "School",
    "Succession",
    "Suspension",
    "TemporaryException",
    "check",
    "diff",
    "load",
    "load_document",
    "load_succession",
    "receivable_families",
    "records_of",
    "with_keys",
]
