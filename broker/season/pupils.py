"""What is missing for pupils, counted per school and sector, and what was asked to be destroyed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from functools import lru_cache
from typing import Final

from broker.policy import Policy
from broker.season.codes import Finding
from broker.season.destroyed import BROKER, DestroyRequest
from broker.season.look import Look, listed

INFORMED: Final = "parents-informed"


def pupil_findings(look: Look) -> Iterator[Finding]:
    """Counts of the vault; nothing where nobody counted."""
    if look.pupils is None:
        return
    school = look.school.id
    if not sum(counts.pupils for counts in look.pupils.values()) and (look.on or look.in_year):
        yield Finding(school, "pupils.none", "the vault has no pupil of this school.", look.school.sis, count=0)
    consent = sorted({p.id for a in look.in_year for p in a.products if p.consent == "under-16"})
    mail = mail_attributes(look.entries.registry.policy)
    mailing = sorted({a.id for a in look.in_year if not mail.isdisjoint(a.attributes)})
    for sector, counts in look.pupils.items():
        of = f"of {counts.pupils} pupils in {sector}"
        told = {
            "pupils.no-eck-id": (counts.no_eck_id, f"{counts.no_eck_id} {of} have no ECK iD.", ()),
            "pupils.age-unknown": (
                counts.age_unknown if consent else 0,
                f"{of} it is unknown of {counts.age_unknown} whether they are under 16; product {listed(consent)}"
                " needs consent.",
                tuple(consent),
            ),
            "pupils.parents-not-told": (
                counts.parents_unknown if mailing else 0,
                f"{of} it is unknown of {counts.parents_unknown} whether the parents were informed;"
                f" {listed(mailing)} names e-mail addresses.",
                tuple(mailing),
            ),
            "pupils.left": (counts.left, f"{counts.left} pupils in {sector} have left by {look.start}.", ()),
        }
        for code, (count, says, about) in told.items():
            if count:
                yield Finding(school, code, says, look.school.sis, about, sector, count)


@lru_cache(maxsize=2)
def mail_attributes(policy: Policy) -> frozenset[str]:
    """The addresses that pass only where parents were informed (R24): as the policy's conditions say."""
    return frozenset(
        name for row in policy.rows if any(INFORMED in rule.conditions for rule in row.rules) for name in row.attributes
    )


def destroy_findings(look: Look) -> Iterator[Finding]:
    """Requests to destroy that nobody confirmed."""
    requests = [request for request in look.facts.destroy or () if request.school == look.school.id]
    yield from destroy_findings_of(requests, look.day, look.end)


def destroy_findings_of(requests: Iterable[DestroyRequest], day: date, end: date) -> Iterator[Finding]:
    """The same about any requests: a school may have gone from the registry with what was asked about it open.

    Args:
        day: today. end: later deadlines are left out.
    """
    for request in requests:
        if request.deadline <= end:
            code = "destroy.overdue" if request.deadline < day else "destroy.open"
            own = request.sender == BROKER
            what = f"what it had under {request.agreement}" if own else f"what {request.sender} asked of it"
            about = (request.agreement,) if own and request.agreement else (request.control_id,)
            says = f"{request.party} was asked to destroy {what}, by {request.deadline}, and has not confirmed."
            yield Finding(request.school, code, says, request.party, about, on=request.deadline)
