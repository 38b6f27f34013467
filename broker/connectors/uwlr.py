"""Reads UWLR pupil data (2.2, and 2.3 as far as its sources say): `check`, `pupils`, `employees`.

The answer to HaalLeerlinggegevens, `leerlinggegevens_antwoord`, bare or in its SOAP 1.1 envelope; the header is not
read. It gives what an EDEXML file of the same school gives. Both profiles are read, the smalle set and the LVS-set:
they leave elements out and add none. What is read, dropped, a problem or a warning: `broker.connectors.class_list`.

**2.3.** Its schema was not to be had. Known of it are the agreement's own list of changes (EduStandaard, "UWLR 2.3",
June 2020) and a message in the public test code of a school's test system, with `xsdversie` 2.3 and the namespace of
2.2. The pupil's ECK iD is the key, and the LAS key may be missing beside it; other fields (the birth date in the smalle
set, initials and the four digits of a personal number in the LVS-set) went, and are not asked for here. All else of a
2.3 answer is read as 2.2 has it. A pupil with neither is a problem, and a teacher needs a key in both.

**Where we judge otherwise than the XSD of 2.2, on purpose:** as `broker.connectors.edexml` lists for EDEXML, and

stricter
    9. Keys, eckids and references are checked. The XSD means to, but its rules look for elements without a namespace.
wider
    10. A pupil needs no key from 2.3 on.

Source: UWLR 2.2 (EduStandaard, 2017), `UWLR_Leerlinggegevens_v2p2.xsd` and what it includes.
"""

from __future__ import annotations

from typing import Final

from broker.connectors.class_list import ClassListReader
from broker.connectors.structure import UWLR

__all__ = ["READER", "check", "employees", "pupils"]

READER: Final = ClassListReader(UWLR)
check, pupils, employees = READER.check, READER.pupils, READER.employees
