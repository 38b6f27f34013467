"""The words of the feature files, and what they stand for: parties, schools, products, kinds of messages, fields.

A field or attribute is called by its own name with spaces (`given_name`, `givenName`: given name); only what would be
unclear that way has a word of its own below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any, Final

from broker.schemas import Family

PARTIES: Final = {
    "the SIS": "sis-noord",
    "SIS Zuid": "sis-zuid",
    "publisher Delta": "uitgeverij-delta",
    "publisher Oost": "uitgeverij-oost",
    "publisher West": "uitgeverij-west",
    "the portal": "portaal-plein",
    "the shop": "winkel-boekhuis",
    "the support staff": "hulp-extern",
}
# Name -> BRIN, and the sector of most of its pupils. De Vlinder is no part of the example: a scenario adds it.
SCHOOLS: Final = {
    "De Regenboog": ("99PA", "PO"),
    "De Vlinder": ("99PB", "PO"),
    "Het Kompas": ("99VA", "VO"),
    "De Werf": ("99MA", "MBO"),
}
# Het Kompas gets another number in one scenario.
NUMBERS: Final = {brin: name for name, (brin, _) in SCHOOLS.items()} | {"99VB": "Het Kompas"}
BOARDS: Final = {"Horizon": "bestuur-horizon", "Kompas": "bestuur-kompas", "Vakwijs": "bestuur-vakwijs"}
PRODUCTS: Final = {
    "the arithmetic book": "8717927130834",
    "the workbook": "9789493113862",
    "the language course": "2099000000019",
    "the doorstroomtoets": "2099000000026",
    "the growth test": "2099000000033",
    "the trade book": "2099000000040",
    "the word game": "5f0c1f0a-5d0e-4a57-9f6e-0d3a4b7c9e11",
}
MESSAGES: Final = {
    # the school orders at the shop
    "order": ("order", "ORDER"),
    "changed order": ("order", "CHANGE"),
    "cancelled order": ("order", "CANCEL"),
    "delivery address": ("order", "DELIVERY_ADDRESS"),
    # the shop orders at the publisher
    "order line": ("order", "LINE"),
    "changed order line": ("order", "LINE_CHANGE"),
    "cancelled order line": ("order", "LINE_CANCEL"),
    "credit request": ("order", "CREDIT"),
    # answers
    "order confirmation": ("order", "CONFIRMED"),
    "declined order": ("order", "DECLINED"),
    "shipping notice": ("order", "SHIPPED"),
    "back-order notice": ("order", "BACKORDER"),
    "return notice": ("order", "RETURNED"),
    "credit note": ("order", "CREDITED"),
    "licence": ("licence", "GRANT"),
    "changed licence": ("licence", "CHANGE"),
    "transferred licence": ("licence", "TRANSFER"),
    "licence block": ("licence", "BLOCK"),
    "reinstated licence": ("licence", "REINSTATE"),
    "licence revocation": ("licence", "REVOKE"),
    "licence expiry": ("licence", "EXPIRE"),
    "licence confirmation": ("licence", "CONFIRM"),
    "licence activation": ("licence", "ACTIVATE"),
    "first use": ("usage", "ACTIVATION"),
    "use": ("usage", "USE"),
    "progress report": ("usage", "PROGRESS"),
    "retracted use": ("usage", "RETRACT"),
    "result": ("result", "RESULT"),
    "corrected result": ("result", "CORRECTION"),
    "retracted result": ("result", "RETRACT"),
    "result receipt": ("result", "RECEIPT"),
    "group": ("roster", "GROUP"),
    "group membership": ("roster", "MEMBERSHIP"),
    "teaching assignment": ("roster", "SUBJECT_TAUGHT"),
    "departure": ("roster", "LEAVE"),
    "link offer": ("connection", "OFFER"),
    "link acceptance": ("connection", "ACCEPT"),
    "link refusal": ("connection", "DECLINE"),
    "link withdrawal": ("connection", "REVOKE"),
    "request to destroy": ("control", "DESTROY_REQUEST"),
    "confirmation of destruction": ("control", "DESTROY_CONFIRM"),
    "request for all current data": ("control", "SEED_REQUEST"),
    "end of all current data": ("control", "SEED_DONE"),
}
# Messages that begin an object of their own; the others are about the one of before.
BEGINS: Final = frozenset({"ORDER", "LINE", "GRANT", "ACTIVATION", "USE", "PROGRESS", "RESULT"})
# What a link is for: the family, and the process that most such links are for.
SERVICES: Final = {
    "orders": ("order", "BestellenLeveren"),
    "licences": ("licence", "BestellenLeveren"),
    "use": ("usage", "Gebruik"),
    "results": ("result", "Terugkoppelen"),
    "groups": ("roster", "Toegang"),
}
IDS: Final = {
    "ECK iD": "ECK_ID",
    "local id": "LAS_KEY",
    "pupil number": "LEERLINGNUMMER",
    "login name": "NL_EDU_PERSON_REAL_ID",
    "employee number": "MEDEWERKERNUMMER",
    "a pseudonym of its own": "RECEIVER_PSEUDONYM",
}
CONTROL: Final = {
    "change of the registry": "registry",
    "incident": "incident",
    "request for all current data": "seed-requested",
    "request to destroy": "destroy-requested",
    "confirmation of destruction": "destroy-confirmed",
}
_FIELDS: Final = {
    "product": "product_id",
    "pieces": "quantity",
    "reason": "reason_code",
    "holder": "entitlement_type",
    "group": "group_id",
    "groups": "group_ids",
    "school subject": "school_subject_id",
    "test": "assessment_id",
    "taken on": "assessment_date",
    "grade": "value",
    "logins": "frequency",
}
_ATTRIBUTES: Final = {
    "ECK iD": "eckId",
    "pseudonym": "receiverPseudonym",
    "local id": "lasKey",
    "pupil number": "leerlingnummer",
}

NAME: Final = r"(?:M[rs] )?[A-Z][a-z]+"
DAY: Final = r"\d{1,2} [A-Z][a-z]+ \d{4}"


def one_of(words: Iterable[str]) -> str:
    """A pattern for any of these words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


PARTY: Final = one_of(PARTIES)
PARTY_LIST: Final = rf"(?:{PARTY})(?:(?:, | and )(?:{PARTY}))*"
SCHOOL: Final = one_of(SCHOOLS)
PRODUCT: Final = one_of(PRODUCTS)
MESSAGE: Final = one_of(MESSAGES)
IDENTIFIER: Final = one_of(IDS)


def listed(text: str) -> list[str]:
    """`a, b and c` as three."""
    return [part for part in re.split(r", | and ", text) if part]


def parties(text: str) -> list[str]:
    """The ids of parties that are listed by name."""
    return [PARTIES[name] for name in listed(text)]


def day(text: str) -> date:
    """`24 November 2026`."""
    return datetime.strptime(text, "%d %B %Y").replace(tzinfo=UTC).date()


def field(words: str) -> str:
    """The schema's name of a field."""
    return _FIELDS.get(words, words.replace(" ", "_").lower())


def attribute(words: str) -> str:
    """The policy's name of an attribute."""
    first, *others = words.split()
    return _ATTRIBUTES.get(words, first.lower() + "".join(word.title() for word in others))


def value(text: str, family: Family, name: str) -> Any:
    """What a word of a table stands for in a field of a family."""
    if text in PRODUCTS:
        return PRODUCTS[text]
    if text in PARTIES:
        return PARTIES[text]
    if name == "service":
        return SERVICES[text][0]
    declared = next((f["type"] for f in family.schema.document["fields"] if f["name"] == name), None)
    assert declared is not None, f"{family.name} has no field {name}"
    return _read(text, next((t for t in declared if t != "null"), "null") if isinstance(declared, list) else declared)


def _read(text: str, declared: Any) -> Any:
    if declared == "string":
        return text
    if declared == "int":
        return int(text)
    if declared == "boolean":
        return {"yes": True, "no": False}[text]
    if declared.get("logicalType") == "date":
        return (day(text) - date(1970, 1, 1)).days
    if declared.get("logicalType") == "timestamp-millis":
        return int(datetime.combine(day(text), datetime.min.time(), UTC).timestamp() * 1000)
    if declared["type"] == "enum":
        return text.upper().replace(" ", "_").replace("-", "_")
    if declared["type"] == "array":
        return [_read(part, declared["items"]) for part in listed(text)]
    if declared["type"] == "record":
        return _RECORDS[declared["name"]](text)
    return text


def _address(text: str) -> dict[str, str | None]:
    """`Dorpsstraat 12, 1234 AB Ons Dorp`."""
    found = re.fullmatch(r"(.+) (\d+), (\d{4} [A-Z]{2}) (.+)", text)
    assert found is not None, text
    street, number, postal_code, city = found.groups()
    return {
        "street": street, "house_number": number, "house_number_addition": None,
        "postal_code": postal_code, "city": city, "country_code": "NL",
    }  # fmt: skip


def _progress(text: str) -> dict[str, Any]:
    return {"status": text.upper().replace(" ", "_"), "assignable_unit_id": None, "course_id": None, "at": None}


def _level(text: str) -> dict[str, str]:
    domain, level = text.split(" ", 1)
    return {"domain": domain.upper(), "level": level}


_RECORDS: Final = {"HomeAddress": _address, "Progress": _progress, "ReferenceLevel": _level}
