"""The example registry, written for one school year, moved to the school year that it is: the demo works in any."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from broker.client import school_year_of
from broker.registry.models import RegistryDocument

WRITTEN_FOR: Final = 2026  # the files of examples/registry: school year 2026-2027
Entry = TypeVar("Entry", bound=BaseModel)


def of_this_year(document: RegistryDocument, now: datetime) -> RegistryDocument:
    """The document with all its dates moved by whole years, so that they stand to today as they were meant.

    What came into its state in August does so now, if that day is still to come: a link that is on is on.

    Args:
        now: with a time zone.
    """
    years = int(school_year_of(now.date())[:4]) - WRITTEN_FOR
    moved = {
        name: tuple(_moved(entry, years, now) for entry in getattr(document, name))
        for name in type(document).model_fields
    }
    return document.model_copy(update=moved)


def _moved(entry: Entry, years: int, now: datetime) -> Entry:
    dates: Mapping[str, Any] = {
        name: _shifted(value, years, now)
        for name in type(entry).model_fields
        if isinstance(value := getattr(entry, name), date)
    }
    return entry.model_copy(update=dates)


def _shifted(value: date, years: int, now: datetime) -> date:
    """So many years on; 29 February becomes the 28th where there is none."""
    try:
        moved = value.replace(year=value.year + years)
    except ValueError:
        moved = value.replace(year=value.year + years, day=28)
    return min(moved, now) if isinstance(moved, datetime) else moved
