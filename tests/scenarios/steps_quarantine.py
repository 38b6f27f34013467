"""Steps about what was set aside: looking inside, and having the broker look at it again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytest_bdd import parsers, then, when

from broker.errors import ConfigError
from broker.exchange import InputRecord
from broker.quarantine.content import Line, lines, open_entry, replay_headers
from broker.quarantine.entries import Entry, Quarantine
from tests.scenarios.words import PARTIES, PARTY, SCHOOL, field
from tests.scenarios.world import Chain


def _quarantine(chain: Chain, party: str) -> Quarantine:
    return Quarantine.read(out.value for out in chain.topic(f"quarantine.{party}"))


def _newest(chain: Chain, party: str) -> Entry:
    found = _quarantine(chain, party).entries
    assert found, "nothing was set aside"
    return found[-1]


def _replay(chain: Chain, party: str, entry: Entry) -> None:
    """As the sender's own command does it: with its own key, into its own topic."""
    record: InputRecord = open_entry(entry, chain.party_keys[party].private_key).record
    chain.run(party, replace(record, headers=tuple(replay_headers(record))))
    chain.wake()


@when(parsers.re(rf"(?P<sender>{PARTY}) replays the message"))
def replays(chain: Chain, sender: str) -> None:
    """What was set aside last."""
    party = PARTIES[sender]
    _replay(chain, party, _newest(chain, party))


@when(parsers.re(rf"(?P<sender>{PARTY}) replays the same message a second time"))
def replays_again(chain: Chain, sender: str) -> None:
    """What was replayed already."""
    party = PARTIES[sender]
    found = _quarantine(chain, party)
    (entry,) = [e for e in found.entries if found.state(e.place) == "replayed"]
    _replay(chain, party, entry)


@then(parsers.re(r"in quarantine it is (?P<state>open|replayed)"))
def in_quarantine(chain: Chain, state: str) -> None:
    """As a list shows it to its sender and to the operator."""
    party = chain.sent[-1][0]
    assert _quarantine(chain, party).state(_newest(chain, party).place) == state


@then("the audit log leads from the replay to the first try")
def linked(chain: Chain) -> None:
    """The last decision names the place of an earlier one, about the same message."""
    last = chain.event_leaves()[-1]
    first = [x for x in chain.event_leaves() if "in" in x and x["in"].items() >= last["replay_of"].items()]
    assert [(x["event"], x["decision"]) for x in first] == [(last["event"], "quarantined")]


@when(parsers.re(rf'(?P<school>{SCHOOL}) says that its local ids look like "(?P<form>.+)" from now on'))
def declares(chain: Chain, school: str, form: str) -> None:
    """A declared form is not taken for a number of the state."""
    chain.change(f"school/{chain.brin(school)}", local_id_form=form)


# ---- looking inside


def _inside(chain: Chain, reader: str) -> list[Line]:
    """What somebody sees who opens what was set aside last with a key of his own."""
    keys = chain.keys if reader == "the operator" else chain.party_keys[PARTIES[reader]]
    entry = _newest(chain, chain.sent[-1][0])
    return lines(open_entry(entry, keys.private_key), entry.field)


@then(parsers.re(rf'the operator and (?P<sender>{PARTY}), who look inside, see "(?P<text>.+)"'))
def see(chain: Chain, sender: str, text: str) -> None:
    """The same for both; nothing else is wrong with it."""
    for reader in ("the operator", sender):
        assert [line.text for line in _inside(chain, reader) if line.remark] == [text]


@then(parsers.re(r"they are told that it is about the (?P<words>.+)"))
def told_where(chain: Chain, words: str) -> None:
    """The field stands in the list and beside the text."""
    assert _newest(chain, chain.sent[-1][0]).field == field(words)
    assert [line.where for line in _inside(chain, "the operator") if line.remark] == [f"body.{field(words)}"]


@then(parsers.re(rf"(?P<other>{PARTY}) can not look inside"))
def can_not_look(chain: Chain, other: str) -> None:
    """It is sealed for two."""
    with pytest.raises(ConfigError, match="none of these private keys"):
        _inside(chain, other)
