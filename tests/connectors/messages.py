"""Makes a UWLR answer of an EDEXML class list: the same elements, in a namespace, an answer and an envelope."""

from __future__ import annotations

import re

NAMESPACE = "http://www.edustandaard.nl/leerresultaten/2/leerlinggegevens"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_root = re.compile(r"<EDEX\b[^>]*>")


def as_uwlr(text: str, *, envelope: bool = False) -> str:
    """The answer that holds what the class list holds; the lines stay where they were."""
    xsi = ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    before, after = f'<leerlinggegevens_antwoord xmlns="{NAMESPACE}"{xsi}>', "</leerlinggegevens_antwoord>"
    if envelope:
        before, after = f'<s:Envelope xmlns:s="{SOAP}"><s:Body>{before}', f"{after}</s:Body></s:Envelope>"
    return _root.sub(f"{before}<leerlinggegevens>", text, count=1).replace("</EDEX>", f"</leerlinggegevens>{after}")
