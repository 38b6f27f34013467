"""Reads an EDEXML class list (2.1; a file in 2.0 is one without eckids): `check`, `pupils`, `employees`.

What is read, dropped, a problem or a warning: `broker.connectors.class_list`.

**Where we judge otherwise than the XSD, on purpose:**

stricter
    1. `brincode` is required: an event names a Dutch school (the XSD also takes a Flemish number or nothing).
    2. Digits are 0-9 and capitals A-Z where the XSD says `\\p{Nd}` and `\\p{Lu}`.
    3. Keys are compared after Unicode normalisation (NFC), may not be blank, and may not be a PGN.
    4. A document type declaration, other encodings than those listed in the reader, a file over the limits.
    5. No `xsi:` attributes but the schema location on the root and types inside additions.
wider
    6. School years are a pattern; the XSD's list ends with 2024-2025.
    7. The content of `toevoegingen` and of the personal numbers is not checked, because it is not read.
    8. Any two capitals are a country; an empty eckid is an absent one; white space in an empty element is nothing.

Source: EDEXML 2.1 (EduStandaard, 2017), `EDEXML.structuur.xsd` and what it includes; its history says what 2.1 added.
"""

from __future__ import annotations

from typing import Final

from broker.connectors.class_list import ClassListReader
from broker.connectors.report import Enrolment, Problem, Report
from broker.connectors.structure import EDEXML
from broker.connectors.xml_reader import Limits

__all__ = ["READER", "Enrolment", "Limits", "Problem", "Report", "check", "employees", "pupils"]

READER: Final = ClassListReader(EDEXML)
check, pupils, employees = READER.check, READER.pupils, READER.employees
