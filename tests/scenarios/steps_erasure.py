"""Steps about who is erased: what the audit log says of it, and that nothing leads to the person any more."""

from __future__ import annotations

import json

from pytest_bdd import parsers, then, when

from broker.audit.index import forgets, open_entry
from broker.audit.leaf import Commitments, Ids, is_decision, lookup_tag
from broker.exchange.model import AUDIT_EVENTS, AUDIT_INDEX
from broker.identity.vault import VaultRecord
from tests.scenarios.words import NAME, SCHOOL
from tests.scenarios.world import Chain


def _people(chain: Chain) -> list[VaultRecord]:
    vault = chain.exchange_keys.vault
    return [vault.decrypt(key, value) for key, value in chain.vault.items()]


def _keys_of(chain: Chain, name: str) -> set[bytes]:
    person = chain.person(name)
    ids = {person.eck_id(sector) for sector in person.at.values()}
    return {key for record in _people(chain) if record.eck_id in ids for key in record.subject_keys}


def _led_to(chain: Chain, keys: set[bytes]) -> int:
    """How many leaves have a token that was made with one of these keys."""
    found = 0
    for out in chain.topic(AUDIT_EVENTS):
        if is_decision(out.value or b""):
            line = json.loads(out.value or b"")["ldv"]
            ids = Ids(bytes.fromhex(line["trace_id"]), bytes.fromhex(line["span_id"]))
            found += line["attributes"].get("dpl.core.data_subject_id") in {
                Commitments(key, ids).token() for key in keys
            }
    return found


@when(parsers.re(rf"the SIS erases (?P<name>{NAME}) at (?P<school>{SCHOOL})"))
def erases(chain: Chain, name: str, school: str) -> None:
    """The administration has the broker forget somebody; the test remembers the keys, to look for them."""
    chain.destroyed[name] = _keys_of(chain, name)
    chain.identity(chain.person(name), "ERASE", chain.brin(school))


@then(parsers.re(rf"the audit log tells of (?P<count>\d+) erasures? at (?P<school>{SCHOOL}), and not of whom"))
def audit_tells(chain: Chain, count: str, school: str) -> None:
    """Event, school, time and a number of its own, and nothing else."""
    leaves = [json.loads(out.value or b"") for out in chain.topic(AUDIT_EVENTS)]
    erased = [leaf["erased"] for leaf in leaves if "erased" in leaf]
    assert [leaf["school"] for leaf in erased] == [chain.brin(school)] * int(count)
    assert all(leaf.keys() == {"event", "id", "school", "time"} for leaf in erased)


@then(parsers.re(rf"no key is left by which the audit log leads to (?P<name>{NAME})"))
def no_key_is_left(chain: Chain, name: str) -> None:
    """There were leaves of hers, and no record of the vault makes their tokens; the index is told all her tags."""
    keys = chain.destroyed[name]
    assert keys
    assert _led_to(chain, keys) > 0
    assert not {key for record in _people(chain) for key in record.subject_keys} & keys
    assert {lookup_tag(key) for key in keys} == set(_forgotten(chain))


@then(parsers.re(rf"(?P<count>\d+) keys of (?P<name>{NAME}) are forgotten"))
def are_forgotten(chain: Chain, count: str, name: str) -> None:
    """By the index, one for each enrolment that she had."""
    assert len(chain.destroyed[name]) == len(_forgotten(chain)) == int(count)


@then(parsers.re(rf"the audit log still leads to (?P<name>{NAME})"))
def still_leads(chain: Chain, name: str) -> None:
    """To whoever may ask for it: leaves have tokens of the key that is in the vault."""
    assert _led_to(chain, _keys_of(chain, name)) > 0


def _forgotten(chain: Chain) -> list[bytes]:
    """Tags that the index is told to forget; all schools of these stories are one."""
    entries = [out.value or b"" for out in chain.topic(AUDIT_INDEX)]
    cipher = chain.exchange_keys.vault.school_cipher(chain.brin("De Regenboog"))
    return [open_entry(cipher, entry).tag for entry in entries if forgets(entry)]
