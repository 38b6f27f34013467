"""Telling a party its duty: a control event that the broker itself makes, sealed and audited like any other."""

from __future__ import annotations

import os
from typing import Any, Final

from broker.audit.leaf import Commitments, Ids, control_leaf, leaf
from broker.crypto import partition_of
from broker.exchange.calendar import day_of, school_year
from broker.exchange.decide import NAMES, OWN_ACTIVITY
from broker.exchange.duties import FAMILY, Duty
from broker.exchange.journal import Journal
from broker.exchange.keys import BROKER
from broker.exchange.minimise import NOBODY
from broker.exchange.model import Decision, Outcome
from broker.exchange.open import Opened
from broker.exchange.seal import seal_to
from broker.identity.vault import SUBJECT_KEY_BYTES
from broker.registry import Party, Registry
from broker.schemas import catalogue

CODE: Final = "ok.duty"
DESTROYED: Final = "DESTROY_CONFIRM"
_LEAVES: Final = {"SEED_REQUEST": "seed-requested", "DESTROY_REQUEST": "destroy-requested"}


def run_errand(duty: Duty, party: str, journal: Journal) -> bool:
    """Write the control event, its leaf, and what is asked on the control log.

    Returns:
        False if the party can not be told yet: it is not registered, or has no key or no topic.
    """
    topic, found = f"out.{party}.{FAMILY}", journal.registry.party(party)
    partitions = journal.views.partitions(topic)
    if found is None or not found.keys or partitions < 1:
        return False
    family = catalogue().family(FAMILY)
    schema = family.output_schema(())
    body = {f.name: duty.body.get(f.name) for f in schema.fields} | {"control_id": duty.event_id}
    envelope = {
        "event_id": duty.event_id,
        "family": FAMILY,
        "kind": duty.kind,
        "school": duty.location or duty.school,
        "sector": duty.sector,
        "school_year": school_year(day_of(journal.now_ms)),
        "sender": BROKER,
        "created": journal.now_ms,
        "correlation": None,
        "agreement": duty.agreement.id if duty.agreement is not None else None,
    }
    sealed = seal_to(found, envelope, schema, NOBODY, body, journal.keys)
    key = journal.keys.record_key(party, duty.school, duty.event_id)
    ids = Ids.of(f"duty/{duty.event_id}", 0, 0, party, None)
    secrets = Commitments(os.urandom(SUBJECT_KEY_BYTES), ids)
    delivery = journal.output(topic, partition_of(key, partitions), key, sealed, ids, secrets)
    journal.audit(_leaf(duty, found, journal, ids, delivery), Decision(Outcome.DELIVERED, CODE, party))
    asked = {name: value for name, value in duty.body.items() if value is not None}
    said = {**asked, "at": journal.now_ms, "event": duty.event_id, "party": party, "school": duty.school}
    journal.control(control_leaf(_LEAVES[duty.kind], said))
    return True


def confirmation_leaf(event: Opened, event_id: str, registry: Registry, now_ms: int) -> bytes:
    """What a party confirmed to have destroyed, for the control log, beside what was asked.

    `control_id` is that of the request. The agreement is named only if the registry knows it as this party's: what
    stands here stands for ever, and a party's own words do not.
    """
    party, agreement = event.record.party, event.body["agreement_id"]
    known = any(agreement == its.id for its in registry.agreements_of(party))
    return control_leaf(
        "destroy-confirmed",
        {
            **({"agreement_id": agreement} if known else {}),
            "at": now_ms,
            "control_id": event.body["control_id"],
            "count": event.body["count"],
            "event": event_id,
            "party": party,
            "school": event.school.id,
        },
    )


def _leaf(duty: Duty, party: Party, journal: Journal, ids: Ids, delivery: dict[str, Any]) -> bytes:
    evidence: dict[str, Any] = {
        "code": CODE,
        "decision": Outcome.DELIVERED.value.lower(),
        "dropped": (),
        "event": duty.event_id,
        "family": FAMILY,
        "kept": (),
        "kind": duty.kind,
        "policy": journal.registry.policy.version,
        "receiver": party.id,
        "registry": journal.registry.version,
        "school": duty.school,
        "sender": BROKER,
        **delivery,
    }
    if duty.agreement is not None:
        evidence["agreement"] = f"{duty.agreement.id}/{duty.agreement.version}"
    return leaf(
        ids=ids,
        name=f"{FAMILY} {NAMES[Outcome.DELIVERED]}",
        activity=OWN_ACTIVITY,
        processor=str(party.processor_url),
        token=None,
        start_ms=journal.now_ms,
        end_ms=journal.now_ms,
        evidence=evidence,
    )
