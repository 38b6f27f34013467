"""Steps about what a receiver got: which message, of whom, by which id, with what; and that it is all."""

from __future__ import annotations

import re

from pytest_bdd import parsers, then

from broker.schemas import Family, Field, catalogue
from tests.exchange.world import Delivered
from tests.scenarios.words import (
    IDENTIFIER,
    IDS,
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
    value,
)
from tests.scenarios.world import Chain

Table = list[list[str]]

_IDS = rf"(?:(?:an? |her |his |its own )?(?:{IDENTIFIER}))(?: and (?:{IDENTIFIER}))*"


_MANY = "|".join(re.sub(r"^(\w+)", r"\1s", words) for words in MESSAGES if " " in words)

# ---- which message


@then(
    parsers.re(
        rf"(?P<only>only )?(?P<names>{PARTY_LIST}) gets? (?:an? |the )?(?P<what>{MESSAGE})(?: (?:for|of|about) (?P<who>{NAME}))?"
    )
)
def gets(chain: Chain, only: str | None, names: str, what: str, who: str | None) -> None:
    """The next message that each of these did not yet read; with `only`, and nobody has anything else."""
    for party in parties(names):
        waiting = chain.unread.get(party, [])
        assert waiting, f"{party} got nothing{_else(chain)}"
        found = waiting.pop(0)
        got = found.envelope["family"], found.envelope["kind"]
        assert got == MESSAGES[what], f"{party} got {_called(found)}"
        _is_about(chain, found, who)
        chain.last_read[party] = found
    if only:
        nobody(chain)


@then(parsers.re(rf"(?P<names>{PARTY_LIST}) gets? nothing(?: else)?"))
def gets_nothing(chain: Chain, names: str) -> None:
    """Nothing that was not yet checked."""
    for party in parties(names):
        assert not chain.unread.get(party), f"{party} got {[_called(d) for d in chain.unread[party]]}"


@then("nobody gets anything")
@then("nobody else gets anything")
def nobody(chain: Chain) -> None:
    """All that was sent out was checked."""
    assert not any(chain.unread.values()), _else(chain)


@then(parsers.re(rf"nobody gets an? (?P<what>{MESSAGE})"))
def nobody_gets(chain: Chain, what: str) -> None:
    """No such message is with anybody; others may be."""
    found = [party for party, waiting in chain.unread.items() if what in map(_called, waiting)]
    assert not found


@then(parsers.re(rf"(?P<name>{PARTY}) gets (?P<count>\d+) (?P<what>{_MANY})"))
def gets_many(chain: Chain, name: str, count: str, what: str) -> None:
    """So many of one kind, and nothing else."""
    waiting = chain.unread.pop(PARTIES[name], [])
    one = re.sub(r"^(\w+?)s\b", r"\1", what)
    assert [_called(d) for d in waiting] == [one] * int(count)


# ---- of whom


@then(parsers.re(rf"(?P<names>{PARTY_LIST}) knows? (?P<who>{NAME}) by (?P<ids>{_IDS}) only"))
def knows_by(chain: Chain, names: str, who: str, ids: str) -> None:
    """Exactly these ids are in the last message that each of them read."""
    wanted = {IDS[_bare(word)] for word in listed(ids)}
    for party in parties(names):
        subject = chain.last_read[party].subject
        found = {i["type"] for i in subject["user_ids"]} | ({"ECK_ID"} if subject["eck_id"] else set())
        assert found == wanted, f"{party} knows {who} by {sorted(found)}"
        _is_about(chain, chain.last_read[party], who)


@then(parsers.re(rf"(?P<name>{PARTY}) has (?P<count>one|two) pseudonyms? for (?P<who>{NAME})"))
def so_many_pseudonyms(chain: Chain, name: str, count: str, who: str) -> None:
    """Another one at another school: who has them can not see that she is the same."""
    found = {
        text
        for (party, whom), text in chain.pseudonyms.items()
        if party == PARTIES[name] and whom.startswith(f"{who} ")
    }
    assert len(found) == {"one": 1, "two": 2}[count]


@then(parsers.re(rf"(?P<names>{PARTY_LIST}) finds? it with what (?:it|they) had of (?P<who>{NAME})"))
def same_record_key(chain: Chain, names: str, who: str) -> None:
    """The record's key is the one of all earlier messages about this person, and of nobody else at this receiver."""
    for party in parties(names):
        keys = {o.key for o in chain.topic(f"out.{party}.{chain.last_read[party].envelope['family']}")}
        assert keys == {chain.last_read[party].record.key}


# ---- with what


@then(parsers.re(rf"it tells (?P<names>{PARTY_LIST})"))
def tells(chain: Chain, names: str, datatable: Table) -> None:
    """These fields, among others."""
    for party in parties(names):
        read = chain.last_read[party]
        family = _family(read)
        for words, text in datatable:
            name = field(words)
            wanted = None if text == "nothing" else value(text, family, name)
            assert name in read.body, f"{party} has no place for {name}"
            assert read.body[name] == wanted, f"{party} reads {name} = {read.body[name]}"


@then(
    parsers.re(
        rf"about (?P<who>{NAME}|the group|nobody) (?P<names>{PARTY_LIST}) sees? (?P<what>only (?P<only>.+)|nothing more)"
    )
)
def sees_only(chain: Chain, who: str, names: str, what: str, only: str | None) -> None:
    """Of all fields that say something of a person, exactly these are filled in."""
    wanted = {field(words) for words in listed(only)} if only else set()
    for party in parties(names):
        filled = {
            f.name for f in _personal(chain.last_read[party]) if chain.last_read[party].body.get(f.name) is not None
        }
        assert filled == wanted, f"{party} sees {sorted(filled)}"


@then(parsers.re(rf"what (?P<names>{PARTY_LIST}) gets? has no place for (?P<what>.+)"))
def no_place(chain: Chain, names: str, what: str) -> None:
    """Not in the receiver's form at all: it can not be filled by mistake."""
    for party in parties(names):
        read = chain.last_read[party]
        for words in listed(what):
            assert field(words) in {f.name for f in _family(read).schema.fields}, f"there is no field {field(words)}"
            assert field(words) not in read.body, f"{party} has a place for {words}"


@then(parsers.re(rf"what (?P<names>{PARTY_LIST}) gets? leaves empty (?P<what>.+)"))
def left_empty(chain: Chain, names: str, what: str) -> None:
    """In the form, and not filled in."""
    for party in parties(names):
        body = chain.last_read[party].body
        for words in listed(what):
            assert field(words) in body, f"{party} has no place for {words}"
            assert body[field(words)] is None, f"{party} sees {words}"


# ---- helpers


def _bare(words: str) -> str:
    for article in ("her ", "his ", "its own "):
        words = words.removeprefix(article)
    return words


def _family(read: Delivered) -> Family:
    return catalogue().family(read.envelope["family"])


def _personal(read: Delivered) -> list[Field]:
    return [f for f in _family(read).schema.fields if f.attribute is not None]


def _called(found: Delivered) -> str:
    about = found.envelope["family"], found.envelope["kind"]
    return next((words for words, meant in MESSAGES.items() if meant == about), str(about))


def _else(chain: Chain) -> str:
    return "".join(
        f"; {party} got {[_called(d) for d in waiting]}" for party, waiting in chain.unread.items() if waiting
    )


def _is_about(chain: Chain, found: Delivered, who: str | None) -> None:
    """Whether a message is about somebody, by whatever id the receiver has."""
    if who is None:
        assert found.subject["kind"] == "NONE", f"{found.receiver} got it about somebody"
        return
    person, school, sector = chain.person(who), found.envelope["school"][:4], found.envelope["sector"]
    assert found.subject["kind"] == person.kind
    if found.subject["eck_id"] is not None:
        assert found.subject["eck_id"] == person.eck_id(sector), f"not {who}'s ECK iD"
    for user_id in found.subject["user_ids"]:
        if user_id["type"] == "RECEIVER_PSEUDONYM":
            key = found.receiver, f"{who} {school}"
            assert chain.pseudonyms.setdefault(key, user_id["value"]) == user_id["value"], f"not {who}'s pseudonym"
            others = {text for other, text in chain.pseudonyms.items() if other != key}
            assert user_id["value"] not in others, f"{who}'s pseudonym is another's as well"
        else:
            assert user_id["value"] == person.id_at(school, user_id["type"]), f"not {who}'s {user_id['type']}"


def _attribute_names(text: str) -> set[str]:
    return {attribute(words) for words in listed(text)}


# ---- the forms themselves


@then(
    parsers.re(
        r"in (?P<where>PO|VO|MBO) no form (?:for (?P<process>\w+) )?(?:of (?P<role>publisher|shop|SIS|portal) )?has a place for (?P<what>.+)"
    )
)
def no_form(chain: Chain, where: str, process: str | None, role: str | None, what: str) -> None:
    """Of no receiver (or none in this role), in no message."""
    for name, names in chain.forms().items():
        _, _, of_process, sector, of_role = name.split(".")
        if sector == where and process in (None, of_process) and (role is None or role.upper() == of_role):
            assert not names & {field(w) for w in listed(what)}, name


@then(parsers.re(r"no form of the (?P<role>shop|portal) has a place for (?P<what>.+)"))
def no_form_of(chain: Chain, role: str, what: str) -> None:
    """In no process, sector and message."""
    for name, names in chain.forms().items():
        if name.endswith(f".{role.upper()}"):
            assert not names & {field(w) for w in listed(what)}, name
