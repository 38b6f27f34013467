"""Steps about what is agreed and switched on: agreements, exceptions, links, parties, schools and boards."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from pytest_bdd import parsers, step, then, when

from broker.audit.leaf import canonical
from broker.errors import ConfigError
from broker.registry import Succession
from broker.registry.succession import changes
from tests.scenarios.bodies import Body
from tests.scenarios.words import (
    BOARDS,
    DAY,
    MESSAGES,
    PARTIES,
    PARTY,
    PRODUCT,
    PRODUCTS,
    SCHOOL,
    SCHOOLS,
    SERVICES,
    attribute,
    day,
    listed,
    one_of,
)
from tests.scenarios.world import Chain

Table = list[list[str]]
_PROCESS = "BestellenLeveren|Toegang|Gebruik|Terugkoppelen"
_AGREEMENT = rf"the agreement of (?P<school>{SCHOOL}) with (?P<party>{PARTY})"


def _key(chain: Chain, school: str, party: str) -> str:
    return chain.agreement_with(chain.brin(school), PARTIES[party])


# ---- agreements


@step(parsers.re(rf"{_AGREEMENT} also names (?P<what>.+)"))
def names_also(chain: Chain, school: str, party: str, what: str) -> None:
    """One attribute more that may pass, if its conditions hold."""
    key = _key(chain, school, party)
    chain.change(key, attributes=sorted({*chain.document(key)["attributes"], *map(attribute, listed(what))}))


@step(parsers.re(rf"{_AGREEMENT} does not name (?P<what>.+)"))
def names_not(chain: Chain, school: str, party: str, what: str) -> None:
    """It, or another conditional attribute, is not agreed on."""
    key = _key(chain, school, party)
    names = [n for n in chain.document(key)["attributes"] if n not in {attribute(w) for w in listed(what)}]
    chain.change(key, attributes=names, **({} if "lasKey" in names else {"local_ids_until": None}))


@step(parsers.re(rf"{_AGREEMENT} ends on (?P<last>{DAY})"))
def agreement_ends(chain: Chain, school: str, party: str, last: str) -> None:
    """Its last day."""
    key = _key(chain, school, party)
    until = day(last).isoformat()
    local = chain.document(key).get("local_ids_until")
    chain.change(key, valid_until=until, **({"local_ids_until": min(local, until)} if local else {}))


@step(parsers.re(rf"{_AGREEMENT} allows local ids until (?P<last>{DAY})"))
def local_ids_until(chain: Chain, school: str, party: str, last: str) -> None:
    """The hybrid period has an end (R13)."""
    key = _key(chain, school, party)
    names = sorted({*chain.document(key)["attributes"], "lasKey"})
    chain.change(key, attributes=names, local_ids_until=day(last).isoformat())


@step(parsers.re(rf"{_AGREEMENT} names (?P<product>{PRODUCT}) as (?P<type_>ordinary|legal-test|norm-test)"))
def product_is(chain: Chain, school: str, party: str, product: str, type_: str) -> None:
    """What kind of product it is, by the agreement."""
    key = _key(chain, school, party)
    products = [{**p, "type": type_} if p["id"] == PRODUCTS[product] else p for p in chain.document(key)["products"]]
    chain.change(key, products=products)


@step(parsers.re(rf"{_AGREEMENT} is not for (?P<process>{_PROCESS})"))
def process_not_agreed(chain: Chain, school: str, party: str, process: str) -> None:
    """It covers other processes only."""
    key = _key(chain, school, party)
    chain.change(key, processes=[p for p in chain.document(key)["processes"] if p["process"] != process])


@step(parsers.re(rf"the boards have no agreement with (?P<party>{PARTY}) any more"))
def all_agreements_gone(chain: Chain, party: str) -> None:
    """All of them end: yesterday was their last day."""
    last = (chain.now.date() - timedelta(days=1)).isoformat()
    changed: dict[str, bytes | None] = {}
    for key in chain.records:
        if key.startswith("agreement/") and chain.document(key)["party"] == PARTIES[party]:
            changed[key] = canonical(chain.document(key) | {"valid_until": last})
    chain.apply(changed)
    chain.wake()


@step(parsers.re(rf"(?P<school>{SCHOOL}) has no agreement with (?P<party>{PARTY})"))
def no_agreement(chain: Chain, school: str, party: str) -> None:
    """None, not even one that ended."""
    chain.apply({_key(chain, school, party): None})
    chain.wake()


@step(parsers.re(rf"(?P<school>{SCHOOL}) makes with (?P<party>{PARTY}) the same agreement as with (?P<like>{PARTY})"))
def same_agreement(chain: Chain, school: str, party: str, like: str) -> None:
    """A new supplier in the place of, or beside, another."""
    document = chain.document(_key(chain, school, like))
    name = f"nieuw-{PARTIES[party]}"
    chain.apply({f"agreement/{name}": canonical(document | {
        "id": name, "party": PARTIES[party], "valid_from": chain.now.date().isoformat(), "valid_until": "2028-07-31",
    })})  # fmt: skip
    chain.wake()


@step(
    parsers.re(
        rf"an exception gives (?P<party>{PARTY}) (?P<what>.+) of (?P<school>{SCHOOL}) in (?P<process>{_PROCESS}) from (?P<first>{DAY}) to (?P<last>{DAY})(?:, told to the parents on (?P<told>{DAY}))?"
    )
)
def exception(
    chain: Chain, party: str, what: str, school: str, process: str, first: str, last: str, told: str | None
) -> None:
    """For a while, with the parents informed."""
    name = f"uitzondering-{len(chain.records)}"
    try:
        chain.apply({f"exception/{name}": canonical({
            "id": name, "school": chain.brin(school), "receiver": PARTIES[party], "process": process,
            "attributes": [attribute(w) for w in listed(what)], "reason": "Proef", "approved_by": "Directie",
            "parents_informed_on": day(told or first).isoformat(), "start": day(first).isoformat(),
            "end": day(last).isoformat(),
        })})  # fmt: skip
    except ConfigError as error:
        chain.refused = str(error)
    chain.wake()


# ---- what the registry refuses


@when(parsers.re(rf"{_AGREEMENT} is handed in (?:without (?P<without>.+)|with (?P<with_>.+) left empty)"))
def handed_in(chain: Chain, school: str, party: str, without: str | None, with_: str | None) -> None:
    """An agreement in which something is left out."""
    document = chain.document(_key(chain, school, party))
    if without:
        document.pop(without.replace(" ", "_"))
    else:
        document[str(with_).replace(" ", "_")] = ""
    _hand_in(chain, document)


@when(parsers.re(rf"{_AGREEMENT} is handed in, and its process (?P<process>{_PROCESS}) has (?P<change>.+)"))
def handed_in_process(chain: Chain, school: str, party: str, process: str, change: str) -> None:
    """A process without purpose, or with a basis that is none."""
    document = chain.document(_key(chain, school, party))
    for entry in document["processes"]:
        if entry["process"] == process:
            if change == "no purpose":
                entry.pop("purpose")
            elif change == "no basis":
                entry.pop("basis")
            else:
                entry["basis"] = change.removeprefix("the basis ").strip('"')
    _hand_in(chain, document)


@when(parsers.re(rf"{_AGREEMENT} is handed in, and its products do nothing"))
def handed_in_products(chain: Chain, school: str, party: str) -> None:
    """What a product does is left out."""
    document = chain.document(_key(chain, school, party))
    for product in document["products"]:
        product.pop("does")
    _hand_in(chain, document)


@when(parsers.re(rf"{_AGREEMENT} is handed in, and also promises (?P<what>.+)"))
def handed_in_promise(chain: Chain, school: str, party: str, what: str) -> None:
    """An attribute that may never pass."""
    document = chain.document(_key(chain, school, party))
    document["attributes"] = [*document["attributes"], *map(attribute, listed(what))]
    _hand_in(chain, document)


def _hand_in(chain: Chain, document: dict[str, Any]) -> None:
    try:
        chain.apply({f"agreement/{document['id']}": json.dumps(document).encode()})
    except ConfigError as error:
        chain.refused = str(error)


@then(parsers.re(r'the registry refuses it, because of "(?P<what>.+)"'))
def registry_refuses(chain: Chain, what: str) -> None:
    """Nothing was changed, and the reason names what is wrong."""
    assert what in chain.refused, chain.refused or "it was taken"


@then(parsers.re(r"the registry refuses it: (?P<what>.+) is missing"))
def registry_misses(chain: Chain, what: str) -> None:
    """The field that is missing is named."""
    assert f" {what.replace(' ', '_')}: is missing" in chain.refused, chain.refused or "it was taken"


@then(parsers.re(r"the registry refuses it, naming (?P<what>.+)"))
def registry_names(chain: Chain, what: str) -> None:
    """The field that is wrong is named."""
    assert re.search(rf"\b{what.replace(' ', '_')}: ", chain.refused), chain.refused or "it was taken"


@then("the registry takes it")
def registry_takes(chain: Chain) -> None:
    """No objection."""
    assert not chain.refused, chain.refused


# ---- parties, schools, boards


@step(parsers.re(rf"(?P<party>{PARTY}) is (?:not in|leaves) the covenant"))
def out_of_covenant(chain: Chain, party: str) -> None:
    """No ECK iD goes there any more."""
    chain.change(f"party/{PARTIES[party]}", covenant="geen", eck_id_attested_on=None)


@step(parsers.re(rf"(?P<party>{PARTY}) is also a (?P<role>shop|publisher|portal)"))
def also_a(chain: Chain, party: str, role: str) -> None:
    """A party with several roles."""
    roles = chain.document(f"party/{PARTIES[party]}")["roles"]
    chain.change(f"party/{PARTIES[party]}", roles=[*roles, role.upper()])


@step(parsers.re(rf"the mandate of the SIS for (?P<school>{SCHOOL}) (?:ends|ended) on (?P<last>{DAY})"))
def mandate_ended(chain: Chain, school: str, last: str) -> None:
    """It does not speak for the school any more."""
    chain.change(f"school/{chain.brin(school)}", mandated_until=day(last).isoformat())


@step(parsers.re(rf"(?P<school>De Vlinder) is a school of the same board as (?P<like>{SCHOOL}), with the same links"))
def another_school(chain: Chain, school: str, like: str) -> None:
    """One that is no part of the example."""
    new, old = SCHOOLS[school][0], chain.brin(like)
    changed: dict[str, bytes | None] = {
        f"school/{new}": canonical(chain.document(f"school/{old}") | {"id": new, "name": school, "sectors": ["PO"]})
    }
    for key in chain.records:
        if key.startswith("connection/") and chain.document(key)["school"] == old:
            side = chain.document(key)
            side |= {"school": new, "id": f"{new.lower()}-{side['id']}"}
            changed[f"connection/{side['id']}/{side['side']}"] = canonical(side)
    chain.apply(changed)
    chain.wake()


@when(
    parsers.re(
        rf"the board of (?P<old>{one_of(BOARDS)}) merges into that of (?P<new>{one_of(BOARDS)}) on (?P<first>{DAY})"
    )
)
def boards_merge(chain: Chain, old: str, new: str, first: str, datatable: Table) -> None:
    """What goes over and what ends is said, not left to silence."""
    _succeed(chain, "board", BOARDS[old], BOARDS[new], first, dict(datatable))


@when(parsers.re(rf"the number of (?P<school>{SCHOOL}) becomes (?P<new>\w+) on (?P<first>{DAY})"))
def number_changes(chain: Chain, school: str, new: str, first: str, datatable: Table) -> None:
    """A BRIN changes; the school is the same."""
    old = chain.brin(school)
    _succeed(chain, "school", old, new, first, dict(datatable))
    for person in chain.people.values():
        if old in person.at:
            person.at[new] = person.at.pop(old)


def _succeed(chain: Chain, what: str, old: str, new: str, first: str, said: dict[str, str]) -> None:
    words = {"go over": "carry", "end": "end", "stay known": "carry", "are forgotten": "end"}
    document = {
        "id": f"opvolging-{new.lower()}",
        "what": what,
        "predecessor": old,
        "successor": new,
        "first_day": day(first).isoformat(),
        "agreements": words[said.get("agreements", "go over")],
        "connections": words[said.get("links", "go over")],
        "identities": words[said.get("pupils", "stay known")],
        "reason": "Fusie",
    }
    chain.apply(changes(chain.records, Succession.model_validate(document)))
    chain.become(day(first))


# ---- links, by messages


_LINK = (
    rf"the link for (?P<service>{one_of(SERVICES)}) from (?P<from_>{PARTY}) to (?P<to>{PARTY})"
    rf" at (?P<school>{SCHOOL})"
)
_VERBS = {"offers": "OFFER", "accepts": "ACCEPT", "declines": "DECLINE", "switches off": "REVOKE"}


@step(
    parsers.re(
        rf"(?P<sender>{PARTY}) (?P<verb>{one_of(_VERBS)}) {_LINK}"
        rf"(?: for the (?P<side>sender|receiver))?(?:, calling it \"(?P<name>[^\"]+)\")?"
    )
)
def switches(
    chain: Chain,
    sender: str,
    verb: str,
    service: str,
    from_: str,
    to: str,
    school: str,
    side: str | None,
    name: str | None,
) -> None:
    """A connection event; without a side for both. A new link gets a uuid, unless it is called something."""
    brin, sector = chain.brin(school), SCHOOLS[school][1]
    family, process = SERVICES[service]
    known = _connection(chain, brin, PARTIES[from_], PARTIES[to], family, process)
    words = {"Gebruik": "GEBRUIK", "Toegang": "TOEGANG", "Terugkoppelen": "TERUGKOPPELEN"}
    values = {
        "connection_id": name or known or str(uuid5(NAMESPACE_OID, f"{brin} {family} {from_} {to}")),
        "side": (side or "both").upper(), "sender": PARTIES[from_], "receiver": PARTIES[to], "service": family,
        "process": words.get(process, "BESTELLEN_LEVEREN"), "products": None, "location": None,
    }  # fmt: skip
    what = next(w for w, meant in MESSAGES.items() if meant == ("connection", _VERBS[verb]))
    event = chain.event(PARTIES[sender], what, school=brin, said={"sector": sector})
    object.__setattr__(event, "body", Body("connection", values))
    chain.exchange(PARTIES[sender], event)


def _connection(chain: Chain, school: str, sender: str, receiver: str, service: str, process: str) -> str | None:
    wanted = {"school": school, "sender": sender, "receiver": receiver, "service": service, "process": process}
    for key in chain.records:
        if key.startswith("connection/"):
            document = chain.document(key)
            if wanted.items() <= document.items():
                return str(document["id"])
    return None


@then(parsers.re(rf"{_LINK} is (?P<state>on|off)"))
def link_is(chain: Chain, service: str, from_: str, to: str, school: str, state: str) -> None:
    """As the registry holds it."""
    family, process = SERVICES[service]
    on = chain.registry.connected(chain.brin(school), PARTIES[from_], PARTIES[to], family, process, None)
    assert on == (state == "on")


@step(parsers.re(rf"all links of (?P<party>{PARTY}) are switched off"))
def all_links_off(chain: Chain, party: str) -> None:
    """By the operator, at once."""
    changed: dict[str, bytes | None] = {}
    for key in chain.records:
        if key.startswith("connection/") and PARTIES[party] in (
            chain.document(key)["sender"],
            chain.document(key)["receiver"],
        ):
            changed[key] = canonical(chain.document(key) | {"state": "revoked", "at": chain.now.isoformat()})
    chain.apply(changed)
    chain.wake()
