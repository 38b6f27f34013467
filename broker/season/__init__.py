"""The start of a school year, looked at beforehand: what would go wrong, per school, and what to do about it.

Pure: from the registry, a day, a school year and some counts to findings. No value of a person comes in or goes out;
pupils are counted, per school and sector.
"""

from broker.season.calendar import SchoolYear
from broker.season.check import preseason
from broker.season.codes import CODES, Finding, Meaning, Severity, reference
from broker.season.destroyed import DestroyRequest, unconfirmed
from broker.season.entries import Entries
from broker.season.facts import Facts
from broker.season.people import Census, PupilCounts

__all__ = [
    "CODES",
    "Census",
    "DestroyRequest",
    "Entries",
    "Facts",
    "Finding",
    "Meaning",
    "PupilCounts",
    "SchoolYear",
    "Severity",
    "preseason",
    "reference",
    "unconfirmed",
]
