"""What can be found, and what each of it means: one table, for the command, for machines and for the documentation.

`docs/howto/preseason.md` holds `reference()` word for word; a test sees to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Severity(StrEnum):
    """How urgent a finding is."""

    BLOCKS = "blocks"
    SOON = "soon"
    NOTE = "note"


RANK: Final = MappingProxyType({severity: number for number, severity in enumerate(Severity)})

SEVERITIES: Final[Mapping[Severity, str]] = MappingProxyType({
    Severity.BLOCKS: "goes wrong on the first day: what is meant to flow will not",
    Severity.SOON: "goes wrong later in the year, or for some pupils; or is overdue, while delivery goes on",
    Severity.NOTE: "good to know; often meant so",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code stands for.

    Args:
        means: what was found. todo: what to do, and who.
    """

    severity: Severity
    means: str
    todo: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found at one school.

    Args:
        school: id of the registered school.
        code: key of `CODES`.
        says: a sentence: what is so, where, since or until when.
        party: that it is about, if it is about one.
        about: ids of agreements, connections, exceptions, topics or products.
        sector: of the pupils that were counted.
        count: how many pupils, where pupils were counted.
        on: the day on which it begins or ends, where there is one.
    """

    school: str
    code: str
    says: str
    party: str | None = None
    about: tuple[str, ...] = ()
    sector: str | None = None
    count: int | None = None
    on: date | None = None

    @property
    def meaning(self) -> Meaning:
        """What its code stands for."""
        return CODES[self.code]

    @property
    def severity(self) -> Severity:
        """How urgent it is."""
        return self.meaning.severity


_BLOCKS, _SOON, _NOTE = Severity.BLOCKS, Severity.SOON, Severity.NOTE

CODES: Final[Mapping[str, Meaning]] = MappingProxyType({
    # ---- the school and its SIS
    "mandate.missing": Meaning(
        _BLOCKS, "on the first day nobody has the board's mandate to speak for the school: no enrolment is taken in,"
        " and no link of the school counts",
        "have the board give or prolong the mandate; set `mandated_until`, or `sis` and `mandated_from`, of the school",
    ),
    "mandate.ends": Meaning(
        _SOON, "the mandate of the school's SIS ends in the course of the year",
        "ask the board who is to have it afterwards, and prolong it before that day or name the next SIS: the day after"
        " it all links are off, and a change of SIS leaves them off until the new one confirms",
    ),
    # ---- agreements (gate 2)
    "agreement.missing": Meaning(
        _BLOCKS, "a link is on, but its receiver has no agreement for process or product on the first day (R27)",
        "have board and supplier conclude or renew the agreement, or have the school switch the link off",
    ),
    "agreement.not-renewed": Meaning(
        _BLOCKS, "an agreement that no link asks for ends before the first day, and none follows",
        "have board and supplier renew it; if the supplier leaves there is nothing to do: it is asked to destroy",
    ),
    "agreement.ends": Meaning(
        _SOON, "an agreement ends in the course of the year and none follows",
        "have it renewed before that day; deliveries stop the day after, and the receiver is asked to destroy",
    ),
    "agreement.locations": Meaning(
        _SOON, "a link is on for all of the school, but the agreement names only some locations",
        "have the agreement name the school, or the link a location; events that name no covered location are refused",
    ),
    # ---- connections (gate 3)
    "connection.half": Meaning(
        _BLOCKS, "a link was accepted by one side only; the other has not answered",
        "have the other side, or the school's SIS for it, accept or decline",
    ),
    "connection.void": Meaning(
        _BLOCKS, "a link was accepted on both sides, but does not count",
        "have the school's present SIS confirm it, with both sides about the same link and a product that they share",
    ),
    "connection.offered": Meaning(
        _SOON, "a link was offered, and nobody accepted it yet",
        "have the school's SIS accept it on both sides, or decline",
    ),
    "connection.none": Meaning(
        _NOTE, "there is an agreement, and the route asks for a link that the school never made",
        "ask the school whether it wants the link; without one nothing of this goes to the receiver",
    ),
    "connection.declined": Meaning(
        _NOTE, "there is an agreement, and a side declined the link",
        "nothing, if the school meant it; else offer it anew",
    ),
    "connection.revoked": Meaning(
        _NOTE, "there is an agreement, and the link was switched off",
        "nothing, if the school meant it; else have both sides accept it anew",
    ),
    # ---- parties
    "party.key": Meaning(
        _BLOCKS, "a receiver has no recipient key in the registry: nothing can be sealed for it",
        "ask the party for its public key (`broker keys export`), or make its profile with `broker party add`",
    ),
    "party.topics": Meaning(
        _BLOCKS, "topics of a party are missing",
        "run `broker topics plan --registry` and `broker topics apply --registry`",
    ),
    "attestation.missing": Meaning(
        _BLOCKS, "a receiver takes part in the covenant, but has no security attestation on the first day: no ECK iD"
        " goes there, so it will not recognise pupils",
        "ask the supplier for its attestation and set `eck_id_attested_on` of the party",
    ),
    "attestation.old": Meaning(
        _NOTE, "a receiver's security attestation is more than two years old on the first day (a term of this project:"
        " no source states one)",
        "ask the supplier for a newer one",
    ),
    "attestation.none": Meaning(
        _NOTE, "a receiver is outside the covenant: it gets a pseudonym of its own instead of the ECK iD",
        "nothing, if it is outside the chain; else ask why it does not take part",
    ),
    # ---- the hybrid period (R13)
    "local-ids.depend": Meaning(
        _BLOCKS, "the period for local ids is over on the first day, and pupils have no ECK iD: the receiver will know"
        " them by no id that it knows",
        "have the SIS fetch and send the ECK iDs of these pupils, or agree on a later `local_ids_until`",
    ),
    "local-ids.ended": Meaning(
        _SOON, "the period for local ids is over on the first day; pupils were not counted, so it may matter or not",
        "run this with --keys on the worker's connection, or ask the SIS how many pupils have no ECK iD",
    ),
    "local-ids.ends": Meaning(
        _SOON, "the period for local ids ends in the course of the year",
        "have the SIS send the missing ECK iDs before that day",
    ),
    # ---- exceptions and consent
    "exception.ends": Meaning(
        _NOTE, "a temporary exception ends, by itself (R21)",
        "nothing; what is to stay belongs in the agreement",
    ),
    "consent.needed": Meaning(
        _NOTE, "an agreement has products for which a pupil under 16 needs a parent's consent (R26)",
        "have the school collect consents before the first lesson; they go with the identity events of its SIS",
    ),
    # ---- pupils, counted
    "pupils.none": Meaning(
        _SOON, "no pupil of the school is in the vault: events about them wait, and then expire",
        "have the SIS send its class list",
    ),
    "pupils.no-eck-id": Meaning(
        _SOON, "pupils have no ECK iD",
        "have the SIS fetch and send them; receivers without agreement on local ids get a pseudonym of their own",
    ),
    "pupils.age-unknown": Meaning(
        _SOON, "of pupils nobody said whether they are under 16, and a product needs consent below that age: they count"
        " as under 16",
        "have the SIS send `under_16` with the identity events",
    ),
    "pupils.parents-not-told": Meaning(
        _SOON, "of pupils nobody said whether the parents were informed, and an agreement names e-mail addresses (R24):"
        " these do not pass",
        "have the school inform the parents, and the SIS send `contact_flags`",
    ),
    "pupils.left": Meaning(
        _NOTE, "pupils have left before the first day and are still in the vault",
        "nothing for what closes their affairs; have the SIS send ERASE once the school's own term is over",
    ),
    # ---- requests to destroy
    "destroy.overdue": Meaning(
        _SOON, "a receiver was asked to destroy, the deadline passed, and it did not confirm (R22, R23)",
        "ask its privacy contact for the confirmation; judge whether it is an incident",
    ),
    "destroy.open": Meaning(
        _NOTE, "a receiver was asked to destroy and has not confirmed yet; the deadline is before or in the year",
        "nothing until the deadline",
    ),
})  # fmt: skip


def reference() -> str:
    """The tables of severities and codes, in Markdown."""
    lines = ["| severity | means |", "|---|---|"]
    lines += [f"| {severity.value} | {means} |" for severity, means in SEVERITIES.items()]
    lines += ["", "| code | severity | what was found | what to do |", "|---|---|---|---|"]
    lines += [f"| `{code}` | {m.severity.value} | {m.means} | {m.todo} |" for code, m in CODES.items()]
    return "\n".join(lines) + "\n"
