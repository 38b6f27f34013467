"""Who takes part: the mandate of the school's SIS, and keys, topics and attestations of the parties."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from broker.policy import PRODUCT_TYPES
from broker.registry import Party, receivable_families
from broker.season.codes import Finding
from broker.season.look import Look, listed

# A proposal of this project: no source says how long an attestation counts.
ATTESTATION_COUNTS: Final = timedelta(days=2 * 365)
ECK_ID: Final = "eckId"
ATTESTED: Final = "covenant-attested"


def mandate_findings(look: Look) -> Iterator[Finding]:
    """Whether somebody may speak for the school on the first day, and until the last (R5)."""
    school, start, end = look.school, look.start, look.end
    until = school.mandated_until
    if school.mandated_from > start:
        says = f"the mandate of {school.sis} begins on {school.mandated_from} only."
        yield Finding(school.id, "mandate.missing", says, school.sis, on=school.mandated_from)
    elif until is not None and until < start:
        says = f"the mandate of {school.sis} ends on {until}."
        yield Finding(school.id, "mandate.missing", says, school.sis, on=until)
    elif until is not None and until < end:
        yield Finding(school.id, "mandate.ends", f"the mandate of {school.sis} ends on {until}.", school.sis, on=until)


def party_findings(look: Look) -> Iterator[Finding]:
    """Keys and topics of those who exchange something about the school, and attestations of who receives."""
    for party in look.receivers:
        if look.facts.has_keys and not party.keys:
            yield Finding(look.school.id, "party.key", f"{party.id} has no recipient key.", party.id)
        if _gets_eck_ids(look, party):
            yield from _attestation(look, party)
    if look.facts.topics is not None:
        for party in look.everybody:
            if missing := sorted(_topics(look, party) - look.facts.topics):
                says = f"{party.id} has no {listed(missing)}."
                yield Finding(look.school.id, "party.topics", says, party.id, tuple(missing))


def _attestation(look: Look, party: Party) -> Iterator[Finding]:
    since = party.eck_id_attested_on
    if party.covenant == "geen":
        says = f"{party.id} does not take part in the covenant."
        yield Finding(look.school.id, "attestation.none", says, party.id)
    elif since is None or since > look.start:
        when = "has no attestation" if since is None else f"is attested from {since} only"
        yield Finding(look.school.id, "attestation.missing", f"{party.id} {when}.", party.id, on=since)
    elif since + ATTESTATION_COUNTS < look.start:
        yield Finding(look.school.id, "attestation.old", f"{party.id} was attested on {since}.", party.id, on=since)


def _gets_eck_ids(look: Look, party: Party) -> bool:
    """Whether the policy would give this receiver the ECK iD of a pupil of the school, if it were attested."""
    processes = {s.process for s, _ in look.on if s.receiver == party.id}
    processes |= {p.process for agreement in look.in_year if agreement.party == party.id for p in agreement.processes}
    cells = (
        look.entries.registry.policy.cell(process, sector, role, ECK_ID, product_type)
        for process in processes
        for sector in look.school.sectors
        for role in party.roles
        for product_type in PRODUCT_TYPES
    )
    return any(cell is not None and cell.effect == "A" and ATTESTED in cell.rule.conditions for cell in cells)


def _topics(look: Look, party: Party) -> set[str]:
    families = receivable_families(look.entries.registry, party.id)
    own = {f"{name}.{party.id}" for name in ("in", "status", "quarantine")}
    return own | {f"out.{party.id}.{family}" for family in families}
