"""Schemas: classification, single-object framing, the catalogue of families, compatibility."""

from broker.schemas.catalogue import Catalogue, Family, Kind, catalogue
from broker.schemas.framing import frame, unframe
from broker.schemas.model import CLASSES, PERSONAL, SCREENED, Field, JsonObject, Schema, load, parse

__all__ = [
    "CLASSES",
    "PERSONAL",
    "SCREENED",
    "Catalogue",
    "Family",
    "Field",
    "JsonObject",
    "Kind",
    "Schema",
    "catalogue",
    "frame",
    "load",
    "parse",
    "unframe",
]
