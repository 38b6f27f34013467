"""Steps about who can open and compare what: sealed parts, record keys, tokens, the vault."""

from __future__ import annotations

import json

import pytest
from pytest_bdd import parsers, then

from broker.audit.leaf import is_decision
from broker.crypto import DataKey, DataKeyOpener, unseal
from broker.errors import BrokerError
from broker.exchange import Outgoing
from broker.exchange.model import AUDIT_EVENTS
from broker.wire import DATA_KEY, decode_envelope
from tests.scenarios.words import NAME, PARTIES, PARTY, PARTY_LIST, listed, parties
from tests.scenarios.world import Chain

_PARTS = {"who it is about": "subject", "the rest": "body"}
_IDS = ("LAS_KEY", "LEERLINGNUMMER", "NL_EDU_PERSON_REAL_ID", "MEDEWERKERNUMMER")


def _open(record: Outgoing, key: DataKey, part: str) -> bytes:
    """One of the two sealed parts, with the key of that part only."""
    envelope, associated = decode_envelope(record.value)
    cipher = {"subject": key.subject, "body": key.body}[part]
    return unseal(cipher, envelope[part], associated + part.encode(), part)


@then(
    parsers.re(
        rf"(?P<name>{PARTY}) can open (?P<one>who it is about|the rest) without opening (?P<other>who it is about|the rest)"
    )
)
def one_part(chain: Chain, name: str, one: str, other: str) -> None:
    """Each part has a key of its own, and the one does not open the other."""
    record = chain.last_read[PARTIES[name]].record
    key = DataKeyOpener(chain.party_keys[PARTIES[name]].private_key).open(dict(record.headers)[DATA_KEY])
    assert _open(record, key, _PARTS[one])
    only = {"subject": key.subject, "body": key.body}[_PARTS[one]]
    envelope, associated = decode_envelope(record.value)
    part = _PARTS[other]
    for name_of_part in (part, _PARTS[one]):
        with pytest.raises(BrokerError):
            unseal(only, envelope[part], associated + name_of_part.encode(), part)


@then(parsers.re(rf"(?P<who>{PARTY}|the broker) can not open what (?P<name>{PARTY}) got"))
def can_not_open(chain: Chain, who: str, name: str) -> None:
    """It is sealed for its receiver alone."""
    record = chain.last_read[PARTIES[name]].record
    keys = chain.keys if who == "the broker" else chain.party_keys[PARTIES[who]]
    with pytest.raises(BrokerError):
        DataKeyOpener(keys.private_key).open(dict(record.headers)[DATA_KEY])


@then(parsers.re(rf"no id of (?P<names>{NAME}(?: and {NAME})*) can be read (?P<where>anywhere|in the vault)"))
def no_id_readable(chain: Chain, names: str, where: str) -> None:
    """Neither the ECK iD nor a local id, in any record that the broker wrote."""
    stored = [part for o in chain.outgoing for part in (o.key, o.value, *(v for _, v in o.headers)) if part]
    if where == "in the vault":
        stored = [part for item in chain.vault.items() for part in item]
    assert stored
    for name in listed(names):
        person = chain.person(name)
        ids = [person.id_at(school, t) for school in person.at for t in _IDS]
        for text in [*ids, *(person.eck_id(sector)[-64:] for sector in person.at.values())]:
            assert not any(text.encode() in part for part in stored), name


@then(parsers.re(rf"(?P<names>{PARTY_LIST}) have it under different keys"))
def different_keys(chain: Chain, names: str) -> None:
    """Nobody can put two parties' records side by side."""
    keys = [chain.last_read[party].record.key for party in parties(names)]
    assert len(set(keys)) == len(keys)


@then(parsers.re(rf"(?P<name>{PARTY}) does not find (?P<one>{NAME}) and (?P<other>{NAME}) under one key"))
def two_keys(chain: Chain, name: str, one: str, other: str) -> None:
    """Each pupil has a key of his own."""
    keys = [o.key for o in chain.outgoing if o.topic.startswith(f"out.{PARTIES[name]}.")]
    assert len(keys) == len(set(keys)) == 2


@then(parsers.re(rf"the audit log calls (?P<who>{NAME}) by another name each time"))
def other_tokens(chain: Chain, who: str) -> None:
    """Two leaves of one person can not be linked by who reads the log."""
    values = (o.value or b"" for o in chain.topic(AUDIT_EVENTS))
    leaves = [json.loads(value)["ldv"]["attributes"] for value in values if is_decision(value)]
    tokens = [leaf["dpl.core.data_subject_id"] for leaf in leaves]
    assert len(tokens) == len(set(tokens)) > 1
