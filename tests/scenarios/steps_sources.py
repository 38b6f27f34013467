"""Steps about where things come from: a school's class list, and the rules that parties agree on."""

from __future__ import annotations

import io
import json
import re
from typing import Any

from pytest_bdd import given, parsers, then, when

from broker.client import Event, Subject
from broker.connectors import edexml, uwlr
from broker.connectors.products import products
from broker.errors import ConfigError, ContractError
from broker.policy import Policy
from broker.policy.difference import passing
from broker.registry.registry import POLICY_KEY
from broker.schemas import catalogue
from tests.connectors.messages import as_uwlr
from tests.scenarios.bodies import Body
from tests.scenarios.words import NAME, SCHOOL, attribute
from tests.scenarios.world import Chain

Table = list[list[str]]

# What is known of an administration's way of writing beyond the standard's least: text -> what stands there instead.
_DIALECTS: dict[str, tuple[tuple[str, str], ...]] = {
    "ParnasSys": (
        ("</brincode>", "</brincode><dependancecode>00</dependancecode><auteur>M. Bedacht</auteur>"),
        ('<groep key="G6"/>', '<geslacht>9</geslacht><groep key="G6"/>'),
    ),
    # A combination group is a group of year C; each pupil's year stands with the pupil.
    "ESIS": (
        ("<jaargroep>6</jaargroep></groep>", "<jaargroep>C</jaargroep></groep>"),
        ('<groep key="G6"/>', '<jaargroep>6</jaargroep><groep key="G6"/>'),
    ),
    "EDUscope": (),
    "School OAS": (),
}
_BY = "|".join(_DIALECTS)

# ---- the class list


@when(parsers.re(rf"the SIS reads the class list of (?P<school>{SCHOOL})"))
def reads_class_list(chain: Chain, school: str, datatable: Table) -> None:
    """An EDEXML file, as administrations export it; the connector makes enrolments of it and sends them."""
    names, *rows = datatable
    pupils = [dict(zip(names, row, strict=True)) for row in rows]
    _import(chain, school, _class_list(chain, school, pupils))


@when(
    parsers.re(
        rf'the SIS reads the class list of (?P<school>{SCHOOL}), with "(?P<key>.+)" as the key of (?P<name>{NAME})'
    )
)
def reads_wrong_class_list(chain: Chain, school: str, key: str, name: str) -> None:
    """A file in which a number of the state stands where the local id should."""
    _import(chain, school, _class_list(chain, school, [{"name": name, "ECK iD": "yes", "bsn": "", "key": key}]))


@when(
    parsers.re(
        rf"the SIS reads the class list of (?P<school>{SCHOOL}) that (?P<by>{_BY}) wrote in "
        r"(?P<standard>EDEXML|UWLR) (?P<version>\d\.\d)"
    )
)
def reads_list_of_a_product(chain: Chain, school: str, by: str, standard: str, version: str, datatable: Table) -> None:
    """A file or an answer in the dialect of an administration, read with the configuration for it."""
    names, *rows = datatable
    text = _class_list(chain, school, [dict(zip(names, row, strict=True)) for row in rows]).decode()
    for old, new in _DIALECTS[by]:
        assert old in text
        text = text.replace(old, new)
    text = text.replace("</school>", f"<xsdversie>{version}</xsdversie></school>")
    if version == "2.3":
        text = re.sub(r'<leerling key="[^"]+" eckid', "<leerling eckid", text)
    file = as_uwlr(text, envelope=True) if standard == "UWLR" else text
    _import(chain, school, file.encode(), standard.lower(), by)


@when(
    parsers.re(
        rf"the SIS reads a class list of (?P<school>{SCHOOL}) of which (?P<by>{_BY}) wrote the school's particulars in "
        "another order"
    )
)
def reads_list_in_another_order(chain: Chain, school: str, by: str) -> None:
    """The BRIN before the school year."""
    text = _class_list(chain, school, [{"name": "Emma", "ECK iD": "yes", "bsn": ""}]).decode()
    changed = re.sub(r"<school>(<schooljaar>.*?</schooljaar>)(<brincode>.*?</brincode>)", r"<school>\2\1", text)
    assert changed != text
    _import(chain, school, changed.encode(), "edexml", by)


@then(parsers.re(r"the connector says that it left out (?P<count>\d+) numbers? of the state"))
def left_out(chain: Chain, count: str) -> None:
    """Counted, and looked at no further."""
    assert chain.report is not None
    assert chain.report.usable
    assert chain.report.pgn_dropped == int(count)


@then(parsers.re(r'the connector refuses the list, because of "(?P<why>.+)"'))
def list_refused(chain: Chain, why: str) -> None:
    """Nothing of it may be sent."""
    assert chain.report is not None
    assert not chain.report.usable
    assert any(why in problem.reason for problem in chain.report.problems)
    assert why in chain.refused


def _class_list(chain: Chain, school: str, pupils: list[dict[str, str]]) -> bytes:
    lines = []
    for row in pupils:
        person, brin = chain.person(row["name"]), chain.brin(school)
        person.with_eck_id = row["ECK iD"] == "yes"
        eck_id = f' eckid="{person.eck_id(person.at[brin])}"' if person.with_eck_id else ""
        number = f"<bsn>{row['bsn']}</bsn>" if row["bsn"] else ""
        lines.append(
            f'<leerling key="{row.get("key") or person.local(brin)[1]}"{eck_id}><achternaam>Jansen</achternaam>'
            f'<roepnaam>{person.name}</roepnaam><geboortedatum>2016-05-03</geboortedatum><groep key="G6"/>{number}</leerling>'
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><EDEX><school><schooljaar>2026-2027</schooljaar>'
        f"<brincode>{chain.brin(school)}</brincode></school>"
        '<groepen><groep key="G6"><naam>Groep 6</naam><jaargroep>6</jaargroep></groep></groepen>'
        f"<leerlingen>{''.join(lines)}</leerlingen></EDEX>"
    ).encode()


def _import(chain: Chain, school: str, file: bytes, standard: str = "edexml", by: str | None = None) -> None:
    reader = {"edexml": edexml.READER, "uwlr": uwlr.READER}[standard]
    product = next(one for one in products().values() if one.name == by) if by is not None else None
    chain.report = reader.check(io.BytesIO(file), product=product)
    brin = chain.brin(school)
    empty: dict[str, Any] = {f.name: None for f in catalogue().family("identity").schema.fields}
    try:
        for found in list(reader.pupils(io.BytesIO(file), product=product)):  # all or none, as the command does
            body: Any = Body("identity", empty | {"year_group": found.year_group, "group_ids": list(found.group_keys)})
            subject = Subject(found.kind, found.eck_id, (("LAS_KEY", found.las_key),) if found.las_key else ())
            event = Event(kind="ENROL", school=brin, sector="PO", created=chain.now, subject=subject, body=body)
            chain.exchange(chain.registry.schools[brin].sis, event)
    except ContractError as error:
        chain.refused = str(error)


# ---- rules


def _rule(document: dict[str, Any], rule_id: str) -> dict[str, Any]:
    return next(rule for row in document["attributes"] for rule in row["rules"] if rule["id"] == rule_id)


@when(parsers.re(r'somebody proposes that the rule "(?P<rule>.+)" (?P<change>.+)'))
def proposes(chain: Chain, rule: str, change: str) -> None:
    """A change of the policy, that does not hold yet."""
    document = json.loads(chain.registry.policy.record())
    found = _rule(document, rule)
    match change.split():
        case ["becomes", "never", "in", process]:
            found["effects"][process] = ["D", "D", "D"]
        case ["has", "no", what]:
            found.pop(what)
        case ["has", "the", "basis", basis]:
            found["basis"] = basis.strip('"')
        case _:
            raise AssertionError(change)
    try:
        chain.proposal = Policy.from_record(json.dumps(document).encode())
    except ConfigError as error:
        chain.refused = str(error)


@when("the proposal is taken")
def proposal_taken(chain: Chain) -> None:
    """From now on it holds."""
    assert chain.proposal is not None
    chain.apply({POLICY_KEY: chain.proposal.record()})
    chain.wake()


@given(parsers.re(r"the policy has no rule for (?P<what>.+)"))
def no_rule(chain: Chain, what: str) -> None:
    """Nobody decided over this attribute."""
    document = json.loads(chain.registry.policy.record())
    document["attributes"] = [row for row in document["attributes"] if attribute(what) not in row["attributes"]]
    chain.apply({POLICY_KEY: Policy.from_record(json.dumps(document).encode()).record()}, checked=False)
    chain.wake()


@then(parsers.re(r'the difference says "(?P<sentence>.+)"'))
def difference_says(chain: Chain, sentence: str) -> None:
    """One line of what would change."""
    assert chain.proposal is not None
    lines = [change.sentence() for change in passing(chain.registry.policy, chain.proposal)]
    assert sentence in lines, lines
    chain.differences = [line for line in lines if line != sentence]


@then("the difference says nothing else")
def difference_says_no_more(chain: Chain) -> None:
    """All lines were read."""
    assert chain.differences == []


@then(parsers.re(r'the proposal is refused, because of "(?P<why>.+)"'))
def proposal_refused(chain: Chain, why: str) -> None:
    """It never becomes a policy."""
    assert chain.proposal is None
    assert why in chain.refused, chain.refused


@then(parsers.re(r"the proposal is refused: (?P<what>\w+) is missing"))
def proposal_misses(chain: Chain, what: str) -> None:
    """The part of the rule that is missing is named."""
    assert chain.proposal is None
    assert f".{what}: is missing" in chain.refused, chain.refused


@then("the audit log names the new version of the policy")
def new_version(chain: Chain) -> None:
    """In the leaf of the last delivery."""
    assert chain.proposal is not None
    assert chain.event_leaves()[-1]["policy"] == chain.proposal.version
