"""Gate 2 in the coming year: does what flows today rest on an agreement on the first day, and until the last?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from broker.registry import Agreement
from broker.registry.models import LOCAL_IDS
from broker.season.codes import Finding
from broker.season.entries import DAY, Gap
from broker.season.look import Look, listed


class _Need(NamedTuple):
    """What a link asks of its receiver's agreement; product None: any."""

    receiver: str
    process: str
    location: str | None
    product: str | None


def agreement_findings(look: Look) -> Iterator[Finding]:
    """Agreements that links need, and agreements that end though no link asks for them."""
    needs = _needs(look)
    gaps: defaultdict[tuple[str, str, str | None, date], list[tuple[_Need, Gap]]] = defaultdict(list)
    for need in needs:
        gap = look.entries.gap(
            look.school, need.receiver, need.process, need.product, need.location, look.start, look.end
        )
        if gap is not None:
            gaps[need.receiver, need.process, need.location, gap.day].append((need, gap))
    told = set()
    for (receiver, process, location, day), found in sorted(gaps.items(), key=str):
        told.add((receiver, process))
        products = [need.product for need, _ in found if need.product is not None]
        links = sorted({link for need, _ in found for link in needs[need]})
        yield _gap_finding(look, (receiver, process, location), day, found[0][1], products, links)
    yield from _lapses(look, told)


def _needs(look: Look) -> dict[_Need, list[str]]:
    """What the links that are on need, with the links."""
    needs: defaultdict[_Need, list[str]] = defaultdict(list)
    for sender, receiver in look.on:
        named = [set(side.products) for side in (sender, receiver) if isinstance(side.products, tuple)]
        products: list[str | None] = [*sorted(set.intersection(*named))] if named else [None]
        for product in products:
            needs[_Need(sender.receiver, sender.process, sender.location, product)].append(sender.id)
    return needs


def _gap_finding(
    look: Look, way: tuple[str, str, str | None], day: date, gap: Gap, products: list[str], links: list[str]
) -> Finding:
    receiver, process, location = way
    where = f" at {location}" if location else ""
    what = f" (product {listed(products)})" if products else ""
    before, resumes = _around(gap)
    about = (*([gap.before.id] if gap.before else []), *links)
    if day > look.start:
        after = resumes or ", and none follows"
        says = f"{receiver}'s agreement for {process}{where}{what} ends on {day - DAY}{after}."
        return Finding(look.school.id, "agreement.ends", says, receiver, about, on=day - DAY)
    covered = [] if location else [place for place in look.school.locations if _covers(look, way, products, place)]
    if covered:
        says = f"{receiver} has an agreement for {process}{what} at {listed(covered)} only; {listed(links)} is for all."
        return Finding(look.school.id, "agreement.locations", says, receiver, about)
    says = (
        f"{receiver} has no agreement for {process}{where}{what} on {day}{before}{resumes};"
        f" these links are on: {listed(links)}."
    )
    return Finding(look.school.id, "agreement.missing", says, receiver, about, on=day)


def _covers(look: Look, way: tuple[str, str, str | None], products: list[str], place: str) -> bool:
    asked: list[str | None] = [*products] or [None]
    return any(
        look.entries.registry.agreement(look.school.id, way[0], product, way[1], look.start, place) is not None
        for product in asked
    )


def _around(gap: Gap) -> tuple[str, str]:
    before = f"; {gap.before.id} ended on {gap.before.valid_until}" if gap.before else ""
    return before, f"; the next one begins on {gap.resumes}" if gap.resumes else ""


def _lapses(look: Look, told: set[tuple[str, str]]) -> Iterator[Finding]:
    """Agreements that end before the year or in it, where no other follows; what a link told already is left out."""
    for agreement, places in look.agreements:
        if agreement.valid_until >= look.end:
            continue
        after = max(agreement.valid_until + DAY, look.start)
        open_processes = [
            p.process
            for p in agreement.processes
            if (agreement.party, p.process) not in told and _open(look, agreement, p.process, places, after)
        ]
        if not open_processes:
            continue
        code = "agreement.not-renewed" if agreement.valid_until < look.start else "agreement.ends"
        says = (
            f"{agreement.id} with {agreement.party} ends on {agreement.valid_until}, and on {after} there is none for"
            f" {listed(open_processes)}."
        )
        yield Finding(look.school.id, code, says, agreement.party, (agreement.id,), on=agreement.valid_until)


def _open(look: Look, agreement: Agreement, process: str, places: tuple[str | None, ...], after: date) -> bool:
    """Whether some product of an agreement is covered by none on a day."""
    return any(
        look.entries.registry.agreement(look.school.id, agreement.party, product.id, process, after, place) is None
        for product in agreement.products
        for place in places
    )


def local_id_findings(look: Look) -> Iterator[Finding]:
    """Hybrid periods (R13) that end, and how many pupils still depend on them."""
    pupils = look.pupils
    waiting = None if pupils is None else {sector: c.no_eck_id for sector, c in pupils.items() if c.no_eck_id}
    for agreement in look.in_year:
        names, until = sorted(LOCAL_IDS.intersection(agreement.attributes)), agreement.local_ids_until
        if not names or until is None or until > look.end:
            continue
        says = f"{agreement.id} with {agreement.party} allows {listed(names)} until {until}"
        about = (agreement.id,)
        if until >= look.start:
            count = None if waiting is None else sum(waiting.values())
            depends = "" if count is None else f"; {count} pupils have no ECK iD"
            yield Finding(
                look.school.id, "local-ids.ends", f"{says}{depends}.", agreement.party, about, count=count, on=until
            )
        elif waiting is None:
            yield Finding(look.school.id, "local-ids.ended", f"{says}.", agreement.party, about, on=until)
        else:
            for sector, count in waiting.items():
                yield Finding(
                    look.school.id, "local-ids.depend", f"{says}; {count} pupils in {sector} have no ECK iD.",
                    agreement.party, about, sector, count, until,
                )  # fmt: skip


def exception_findings(look: Look) -> Iterator[Finding]:
    """Temporary exceptions (R21) that end before the end of the year."""
    school = look.school
    for exception in look.entries.exceptions:
        ours = exception.school == school.id or (exception.board is not None and exception.board == school.board)
        if ours and look.day <= exception.end <= look.end:
            says = (
                f"{exception.id} lets {listed(exception.attributes)} pass to {exception.receiver} in"
                f" {exception.process} until {exception.end}."
            )
            yield Finding(school.id, "exception.ends", says, exception.receiver, (exception.id,), on=exception.end)


def consent_findings(look: Look) -> Iterator[Finding]:
    """Products for which a pupil under 16 needs a parent's consent (R26)."""
    for agreement in look.in_year:
        products = [product.id for product in agreement.products if product.consent == "under-16"]
        if not products:
            continue
        says = f"{agreement.id} with {agreement.party} asks for consent below 16: product {listed(products)}"
        count = None
        if look.pupils is not None:
            count = max(sum(c.without_consent(product) for c in look.pupils.values()) for product in products)
            says += f"; {count} pupils who are under 16 or of unknown age have none"
        yield Finding(
            look.school.id, "consent.needed", f"{says}.", agreement.party, (agreement.id, *products), count=count
        )
