"""Steps about what a sender is told, and about what stands in the audit log, in quarantine and on the control log."""

from __future__ import annotations

import json
import re
from typing import Any

from pytest_bdd import parsers, then

from broker.exchange.outcomes import meaning
from broker.schemas import catalogue, unframe
from broker.season import unconfirmed
from tests.scenarios.words import (
    CONTROL,
    MESSAGE,
    MESSAGES,
    NAME,
    PARTIES,
    PARTY,
    PARTY_LIST,
    attribute,
    field,
    listed,
    parties,
)
from tests.scenarios.world import Chain

_CONTROL = "|".join(re.sub(r"^(\w+)", r"\1s?", words) for words in CONTROL)
Table = list[list[str]]


# ---- what a sender is told


def _told(chain: Chain, sender: str, what: str | None = None, who: str | None = None) -> list[dict[str, Any]]:
    """The newest answer to the last message that a party sent, or to the last of a kind."""
    for party, event in reversed(chain.sent):
        if party != PARTIES[sender] or (what and (event.family, event.kind) != MESSAGES[what]):
            continue
        if who and not _named(chain, who, event.subject):
            continue
        answers = [s for s in chain.statuses(party) if s["event_id"] == event.event_id]
        assert answers, "no answer"
        results: list[dict[str, Any]] = answers[-1]["results"]
        return results
    raise AssertionError(f"{sender} sent no such message")


def _named(chain: Chain, who: str, subject: Any) -> bool:
    person = chain.person(who)
    ids = {value for _, value in subject.user_ids}
    own = {
        person.id_at(school, t)
        for school in person.at
        for t in ("LAS_KEY", "LEERLINGNUMMER", "MEDEWERKERNUMMER", "NL_EDU_PERSON_REAL_ID")
    }
    return subject.eck_id in {person.eck_id(s) for s in ("PO", "VO", "MBO")} or bool(ids & own)


@then(
    parsers.re(
        rf'(?P<sender>{PARTY}) is told "(?P<code>[a-z._]+)"(?: about the (?P<what>{MESSAGE})(?: (?:for|of|about) (?P<who>{NAME}))?)?'
    )
)
def is_told(chain: Chain, sender: str, code: str, what: str | None, who: str | None) -> None:
    """One answer, for all receivers."""
    assert {r["code"] for r in _told(chain, sender, what, who)} == {code}


@then(parsers.re(rf'(?P<sender>{PARTY}) is told "(?P<code>[a-z._]+)" for (?P<names>{PARTY_LIST})'))
def is_told_for(chain: Chain, sender: str, code: str, names: str) -> None:
    """The answer for these receivers, among others."""
    results = {r["receiver"]: r["code"] for r in _told(chain, sender)}
    assert {party: results.get(party) for party in parties(names)} == dict.fromkeys(parties(names), code)


@then(parsers.re(rf"(?P<sender>{PARTY}) is told for each receiver"))
def is_told_each(chain: Chain, sender: str, datatable: Table) -> None:
    """The answers for all receivers, no more and no fewer."""
    results = {r["receiver"]: r["code"] for r in _told(chain, sender)}
    assert results == {PARTIES[name]: code.strip('"') for name, code in datatable}


@then(parsers.re(rf'(?P<sender>{PARTY}) is told so in the words "(?P<sentence>.+)"'))
def in_the_words(chain: Chain, sender: str, sentence: str) -> None:
    """The sentence that comes along."""
    results = _told(chain, sender)
    assert {r["sentence"] for r in results} == {sentence}
    assert {meaning(r["code"]).sentence for r in results} == {sentence}


@then(parsers.re(rf"(?P<sender>{PARTY}) is told that it is about the (?P<words>.+)"))
def about_the_field(chain: Chain, sender: str, words: str) -> None:
    """The field that is wrong."""
    assert {r["field"] for r in _told(chain, sender)} == {field(words) if words != "ECK iD" else "eck_id"}


@then(parsers.re(rf"(?P<sender>{PARTY}) is told that the registry has it"))
def registry_has_it(chain: Chain, sender: str) -> None:
    """A link that was offered, accepted, declined or switched off."""
    results = {r["receiver"]: r["code"] for r in _told(chain, sender)}
    assert results.get("registry") == "ok.link", results


@then(parsers.re(rf"(?P<sender>{PARTY}) is told exactly the same for both"))
def the_same_for_both(chain: Chain, sender: str) -> None:
    """The last two messages of a party got the same answer, word for word (it names only who was asked for)."""
    last = [event for party, event in chain.sent if party == PARTIES[sender]][-2:]
    answers = [[s["results"] for s in chain.statuses(PARTIES[sender]) if s["event_id"] == e.event_id][-1] for e in last]
    assert len(answers) == 2
    assert [{**r, "receiver": None, "field": None} for r in answers[0]] == [
        {**r, "receiver": None, "field": None} for r in answers[1]
    ]


# ---- waiting


@then("the message waits")
@then(parsers.re(r"(?P<count>\d+) messages wait"))
def waits(chain: Chain, count: str = "1") -> None:
    """Parked, for an enrolment that is to come."""
    assert sum(len(state.parked) for state in chain.states.values()) == int(count)


@then("nothing waits any more")
def nothing_waits(chain: Chain) -> None:
    """See `waits`."""
    waits(chain, "0")


# ---- the audit log


def _leaf(chain: Chain, party: str, decision: str = "delivered") -> dict[str, Any]:
    found = [x for x in chain.event_leaves() if x.get("receiver") == party and x["decision"] == decision]
    assert found, f"the audit log has no {decision} for {party}"
    return found[-1]


@then(parsers.re(rf"the audit log says that (?P<name>{PARTY}) got exactly (?P<what>.+)"))
def audit_kept(chain: Chain, name: str, what: str) -> None:
    """Names of attributes that may have been in its last message, filled in or not."""
    kept = set(_leaf(chain, PARTIES[name])["kept"])
    assert kept == _attributes(what), sorted(kept)


@then(parsers.re(rf"the audit log says that (?P<name>{PARTY}) did not get (?P<what>.+)"))
def audit_dropped(chain: Chain, name: str, what: str) -> None:
    """Names among those that were taken out of its last message."""
    leaf = _leaf(chain, PARTIES[name])
    assert _attributes(what) <= set(leaf["dropped"]), leaf["dropped"]
    assert not _attributes(what) & set(leaf["kept"])


@then(parsers.re(rf"the audit log books what (?P<names>{PARTY_LIST}) got under (?P<process>\w+)"))
def audit_process(chain: Chain, names: str, process: str) -> None:
    """The one process that the last message of each belongs to."""
    assert {_leaf(chain, party)["process"] for party in parties(names)} == {process}


@then(
    parsers.re(rf'the audit log rests what (?P<name>{PARTY}) got on the (?P<what>agreement|exception) "(?P<entry>.+)"')
)
def audit_rests(chain: Chain, name: str, what: str, entry: str) -> None:
    """The agreement, or an exception to it, that the delivery rests on."""
    leaf = _leaf(chain, PARTIES[name])
    found = [leaf["agreement"].split("/")[0]] if what == "agreement" else leaf.get("exceptions", [])
    assert found == [entry]


@then(parsers.re(rf"the audit log rests what (?P<name>{PARTY}) got on no exception"))
def audit_no_exception(chain: Chain, name: str) -> None:
    """It passes by the agreement alone."""
    assert "exceptions" not in _leaf(chain, PARTIES[name])


@then(parsers.re(r'the audit log has the refusal "(?P<code>[a-z._]+)"'))
def audit_refusal(chain: Chain, code: str) -> None:
    """A refusal is written down as well."""
    assert code in {x["code"] for x in chain.event_leaves() if x["decision"] == "refused"}


@then("the audit log tells the two deliveries apart by nothing but their bytes")
def audit_same(chain: Chain) -> None:
    """What was filled in changes nothing in what the log says was kept and dropped."""
    first, second = [x for x in chain.event_leaves() if x["decision"] == "delivered"][-2:]
    assert (first["kept"], first["dropped"], first["receiver"]) == (
        second["kept"],
        second["dropped"],
        second["receiver"],
    )


@then(parsers.re(r'"(?P<text>.+)" can be read nowhere'))
def nowhere_readable(chain: Chain, text: str) -> None:
    """Not in any record that the broker wrote: messages, audit, answers, quarantine, its own memory."""
    for out in chain.outgoing:
        for part in (out.key or b"", out.value or b"", *(v for _, v in out.headers)):
            assert text.encode() not in part, out.topic


def _attributes(text: str) -> set[str]:
    return {attribute(words) for words in listed(text)}


# ---- quarantine, incidents, control log


@then(parsers.re(r'the message is in quarantine for "(?P<code>[a-z._]+)", sealed for its sender and the operator'))
def quarantined(chain: Chain, code: str) -> None:
    """With its whole content, sealed for two."""
    party = chain.sent[-1][0]
    records = [catalogue()["quarantine.v1"].decode(unframe(o.value)[1]) for o in chain.topic(f"quarantine.{party}")]
    assert [r["code"] for r in records][-1:] == [code]
    assert len(records[-1]["recipients"]) == 2


@then("nothing is in quarantine")
def nothing_quarantined(chain: Chain) -> None:
    """Nothing of anybody."""
    assert not [o for o in chain.outgoing if o.topic.startswith("quarantine.")]


@then(
    parsers.re(rf"the control log holds (?P<count>an?|no|\d+) (?P<what>{_CONTROL})(?: (?:to|by|of) (?P<name>{PARTY}))?")
)
def control_log(chain: Chain, count: str, what: str, name: str | None) -> None:
    """So many of a kind, since the story began."""
    kind = CONTROL[re.sub(r"^(\w+?)s\b", r"\1", what)]
    found = [leaf for leaf in chain.control_leaves() if leaf["kind"] == kind]
    if name:
        found = [
            leaf for leaf in found if PARTIES[name] in (leaf.get("party"), leaf.get("sender"), leaf.get("operator"))
        ]
    wanted = {"a": 1, "an": 1, "no": 0}.get(count)
    assert len(found) == (int(count) if wanted is None else wanted), json.dumps(found)


@then(parsers.re(r"(?P<count>no|\d+) requests? to destroy (?:is|are) overdue"))
def destroy_overdue(chain: Chain, count: str) -> None:
    """As `broker preseason check` reads the control log: the last day is past, and nobody confirmed."""
    found = [
        r for r in unconfirmed({"control": leaf} for leaf in chain.control_leaves()) if r.deadline < chain.now.date()
    ]
    assert len(found) == (0 if count == "no" else int(count)), found
