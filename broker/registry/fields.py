"""The forms of ids, addresses and texts in registry entries."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from broker.identity.formats import is_brin6, is_product_id, is_school_id
from broker.identity.pgn import find_pgn

ALL_OF_BOARD: Final = "all of board"
ALL: Final = "all"


def _school_id(text: str) -> str:
    if not is_school_id(text):
        raise ValueError("must be a BRIN such as 99PA, or a BRIN6 such as 99PA00")
    return text


def _location_id(text: str) -> str:
    if not is_brin6(text):
        raise ValueError("must be a BRIN6 such as 99PA00")
    return text


def _product_id(text: str) -> str:
    if not is_product_id(text):
        raise ValueError("must be a GTIN-13 or ISBN-13 with the right check digit, or a uuid")
    return text


def _web_address(text: str) -> str:
    if not re.fullmatch(r"https://[a-z0-9.-]+(:[0-9]+)?(/[!-~]*)?", text):
        raise ValueError("must be an https:// address")
    return text


def _no_pgn(text: str) -> str:
    if find_pgn(text):
        raise ValueError("goes into the audit for ever, and holds what may be a number of the state; leave it out")
    return text


PartyId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$")]
EntryId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
SchoolId = Annotated[str, AfterValidator(_school_id)]
LocationId = Annotated[str, AfterValidator(_location_id)]
ProductId = Annotated[str, AfterValidator(_product_id)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Text = Annotated[str, Field(min_length=1, max_length=2_000)]
Reason = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_no_pgn)]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


def is_location_of(location: str, school: str) -> bool:
    """Whether a BRIN6 is of this school; a school that is itself a location has none."""
    return location[:4] == school


def named_twice(**names: Iterable[Hashable]) -> None:
    """Refuse the first field that names something twice.

    Raises:
        ValueError: with the field's name.
    """
    for field, values in names.items():
        listed = list(values)
        if len(set(listed)) != len(listed):
            raise ValueError(f"{field}: names something twice")
