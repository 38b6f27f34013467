"""The look ahead: each code is found where it should be, alone, and nothing is found where nothing is wrong."""

from __future__ import annotations

from datetime import date

import pytest

from broker.errors import ConfigError
from broker.season import CODES, DestroyRequest, Entries, Facts, PupilCounts, SchoolYear, Severity, preseason
from broker.season.pupils import mail_attributes
from tests.registry import entries
from tests.registry.entries import BOOK, OTHER_BOOK
from tests.season.small import BRIN, DELTA, PORTAL, SIS, TODAY, YEAR, agreement, codes, link, look, one, small

FREE = {"id": BOOK, "type": "ordinary", "does": "woordspel", "consent": "under-16"}
OVER = {"local_ids_until": "2027-07-31", "attributes": ["lasKey"]}
MAIL = {"attributes": ["privateEmail"]}
ENDS_IN_YEAR, ENDS_BEFORE = {"valid_until": "2028-03-31"}, {"valid_until": "2027-07-31"}
TOGETHER = {"accepted_by": SIS}


def counted(sector: str = "PO", **counts: int) -> Facts:
    """Pupils of the school."""
    return Facts(pupils={(BRIN, sector): PupilCounts(**{"pupils": 30} | counts)})


def asked(deadline: date) -> Facts:
    """One request to destroy."""
    return Facts(destroy=(DestroyRequest(PORTAL, BRIN, "vwo-0", deadline, 0, "c-0"),))


def sides(sender: str | None, receiver: str | None) -> list[dict[str, object]]:
    """A link whose sides are in these states."""
    return [
        entries.side(which, **TOGETHER | {"state": state})
        for which, state in (("sender", sender), ("receiver", receiver))
        if state is not None
    ]


CASES: dict[str, list[tuple[Entries, Facts | None]]] = {
    "mandate.missing": [
        (small(school={"mandated_until": "2027-07-31"}), None),
        (small(school={"mandated_from": "2027-08-02"}, sides=[], agreements=[]), None),
    ],
    "mandate.ends": [
        (small(school={"mandated_until": "2028-07-30"}), None),
        (small(school={"mandated_until": "2027-08-01"}), None),
    ],
    "agreement.missing": [
        (small(agreements=[]), None),
        (small(agreements=[agreement(**ENDS_BEFORE)]), None),
        (small(agreements=[agreement(valid_from="2027-08-02")]), None),
        (small(sides=link(products=[OTHER_BOOK])), None),
        (small(sides=link(process="Toegang", service="roster", sender=SIS, accepted_by=SIS), agreements=[]), None),
    ],
    "agreement.not-renewed": [(small(agreements=[agreement(**ENDS_BEFORE)], sides=[]), None)],
    "agreement.ends": [
        (small(agreements=[agreement(valid_until="2028-07-30")]), None),
        (small(agreements=[agreement(**ENDS_IN_YEAR)]), None),
        (small(agreements=[agreement(**ENDS_IN_YEAR), agreement(id="vwo-2", valid_from="2028-04-02")]), None),
    ],
    "agreement.locations": [
        (small(school={"locations": ["99PA01"]}, agreements=[agreement(schools=["99PA01"])]), None)
    ],
    "connection.half": [
        (small(sides=sides("accepted", "offered")), None),
        (small(sides=sides("accepted", None)), None),
        (small(sides=sides("offered", "accepted"), agreements=[]), None),
    ],
    "connection.void": [
        (small(sides=link(mandate="sis-zuid", accepted_by="sis-zuid")), None),
        (small(sides=link(at="2024-07-31T10:00:00Z")), None),
        (small(sides=[entries.side("sender", products=[BOOK]), entries.side("receiver", products=[OTHER_BOOK])]), None),
        (small(sides=[entries.side("sender"), entries.side("receiver", service="result")]), None),
    ],
    "connection.offered": [
        (small(sides=sides("offered", None)), None),
        (small(sides=sides("offered", "offered")), None),
    ],
    "connection.none": [(small(sides=[]), None)],
    "connection.declined": [(small(sides=sides("accepted", "declined")), None)],
    "connection.revoked": [(small(sides=sides("revoked", "accepted")), None)],
    "party.key": [(small(), Facts(has_keys=True))],
    "party.topics": [(small(), Facts(topics=frozenset()))],
    "attestation.missing": [
        (small(portal={"eck_id_attested_on": None}), None),
        (small(portal={"eck_id_attested_on": "2027-08-02"}), None),
    ],
    "attestation.old": [(small(portal={"eck_id_attested_on": "2025-07-31"}), None)],
    "attestation.none": [(small(portal={"covenant": "geen"}), None)],
    "local-ids.depend": [(small(agreements=[agreement(**OVER)]), counted(no_eck_id=3))],
    "local-ids.ended": [(small(agreements=[agreement(**OVER)]), None)],
    "local-ids.ends": [(small(agreements=[agreement(**OVER | {"local_ids_until": "2027-08-01"})]), None)],
    "exception.ends": [
        (small(exceptions=[entries.exception(start="2027-05-01", end="2027-06-01")]), None),
        (small(exceptions=[entries.exception(start="2027-09-01", end="2027-09-10")]), None),
        (
            small(exceptions=[entries.exception(school="all of board", board="horizon", start="2028-01-01", end="2028-02-01")]),
            None,
        ),
    ],
    "consent.needed": [(small(agreements=[agreement(products=[FREE])]), None)],
    "pupils.none": [(small(), Facts(pupils={})), (small(), counted(pupils=0))],
    "pupils.no-eck-id": [(small(), counted(no_eck_id=3))],
    "pupils.age-unknown": [(small(agreements=[agreement(products=[FREE])]), counted(age_unknown=3))],
    "pupils.parents-not-told": [(small(agreements=[agreement(**MAIL)]), counted(parents_unknown=3))],
    "pupils.left": [(small(), counted(left=3))],
    "destroy.overdue": [(small(), asked(date(2027, 5, 31)))],
    "destroy.open": [(small(), asked(TODAY))],
}  # fmt: skip

# Found beside it, because one follows from the other.
ALONG = {
    "local-ids.depend": ["pupils.no-eck-id"],
    "pupils.age-unknown": ["consent.needed"],
    "party.topics": ["party.topics"] * 2,
}


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    """Also with everything looked at; what could be missing is not."""
    found = small()
    keys = (entries.jwk(),)
    portal = {"keys": [{"kid": "k1", "jwk": keys[0]}]}
    topics = frozenset(f"{kind}.{name}" for kind in ("in", "status", "quarantine") for name in (PORTAL, SIS, DELTA))
    topics |= {f"out.{name}.{family}" for name in (PORTAL, SIS, DELTA) for family in
               ("usage", "licence", "result", "roster", "order", "connection", "control")}  # fmt: skip
    facts = Facts(has_keys=True, topics=topics, pupils={(BRIN, "PO"): PupilCounts(pupils=30)}, destroy=())
    assert look(found) == []
    assert look(small(portal=portal), facts) == []
    assert list(facts.not_looked_at()) == []


@pytest.mark.parametrize(
    ("code", "found", "facts"),
    [pytest.param(code, *case, id=f"{code}-{n}") for code, cases in CASES.items() for n, case in enumerate(cases)],
)
def test_one_thing_that_is_wrong_is_found_and_nothing_else(code: str, found: Entries, facts: Facts | None) -> None:
    """Each code by what makes it, and a sentence that ends."""
    findings = look(found, facts)
    assert sorted(codes(findings)) == sorted([code, *ALONG.get(code, [])])
    for finding in findings:
        assert finding.school == BRIN
        assert finding.says.endswith(".")
        assert finding.meaning.todo


def test_every_code_has_a_case() -> None:
    """A code that nothing leads to would be documented for nobody."""
    assert CASES.keys() == CODES.keys()


@pytest.mark.parametrize(
    "found",
    [
        small(agreements=[agreement(**ENDS_BEFORE), agreement(id="vwo-2", valid_from="2027-08-01")]),
        small(agreements=[agreement(**ENDS_IN_YEAR), agreement(id="vwo-2", valid_from="2028-04-01")]),
        small(agreements=[agreement(**ENDS_BEFORE), agreement(id="vwo-2", valid_from="2027-01-01")]),
        small(sides=[entries.side("sender", products=[BOOK]), entries.side("receiver", products=[BOOK, OTHER_BOOK])]),
        small(sides=[*link(), *link("c0", state="revoked")]),
        small(sides=[*link(), entries.side("sender", id="c2", state="offered")]),
        small(sides=sides("revoked", "revoked"), agreements=[]),
        small(agreements=[agreement(**OVER | {"local_ids_until": "2028-07-31", "valid_until": "2028-08-31"})]),
        small(agreements=[agreement(valid_until="2027-05-31")], sides=[]),
        small(exceptions=[entries.exception(start="2027-05-01", end="2027-05-31")]),
        small(exceptions=[entries.exception(start="2028-07-01", end="2028-08-01")]),
        small(school={"mandated_until": "2028-07-31"}),
        small(portal={"eck_id_attested_on": "2025-08-01"}),
    ],
    ids=[
        "renewed on the day", "renewed in the year", "renewed with overlap", "products that both sides have", "revoked and made anew",
        "offered anew while on", "revoked and no agreement", "local ids beyond the year", "ended long ago",
        "exception that is over", "exception beyond the year", "mandate to the last day", "attested in time",
    ],
)  # fmt: skip
def test_what_looks_wrong_and_is_not(found: Entries) -> None:
    """Something follows, or it is over, or it lasts to the end."""
    assert [finding for finding in look(found) if finding.code != "local-ids.ends"] == []


def test_pupils_with_an_eck_id_depend_on_no_local_id() -> None:
    """The period is over, everybody was counted, and nobody needs it."""
    assert look(small(agreements=[agreement(**OVER)]), counted()) == []


def test_a_link_for_some_products_needs_an_agreement_for_each() -> None:
    """Both sides' products together; the finding names those without, and the links."""
    found = look(small(sides=link(products=[BOOK, OTHER_BOOK])))
    finding = one(found, "agreement.missing")
    assert OTHER_BOOK in finding.says
    assert BOOK not in finding.says
    assert finding.about == ("c1",)


def test_links_that_need_the_same_are_one_finding() -> None:
    """One agreement to renew is one thing to do, whatever number of links waits for it."""
    second = link("c2", sender="uitgeverij-oost", accepted_by=SIS)
    found = look(small(sides=[*link(), *second], agreements=[agreement(**ENDS_BEFORE)]))
    assert one(found, "agreement.missing").about == ("vwo-1", "c1", "c2")


def test_a_link_whose_agreement_ends_a_day_before_the_year_does_is_told_with_the_link() -> None:
    """31 July is a day of school too."""
    found = look(small(agreements=[agreement(valid_until="2028-07-30")]))
    assert one(found, "agreement.ends").about == ("vwo-1", "c1")


def test_a_gap_says_what_ended_and_what_begins() -> None:
    """So that the reader knows which of the two to change."""
    later = agreement(id="vwo-2", valid_from="2027-09-01")
    says = one(look(small(agreements=[agreement(**ENDS_BEFORE), later])), "agreement.missing").says
    assert "vwo-1 ended on 2027-07-31" in says
    assert "begins on 2027-09-01" in says


def test_a_year_that_has_begun_is_looked_at_from_today() -> None:
    """What ended in September is not there in October, and what ends in March still comes."""
    october = date(2027, 10, 1)
    ended = small(agreements=[agreement(valid_until="2027-09-30")])
    assert codes(look(ended, day=october)) == ["agreement.missing"]
    assert codes(look(small(agreements=[agreement(**ENDS_IN_YEAR)]), day=october)) == ["agreement.ends"]


def test_a_year_that_is_over_is_refused() -> None:
    """Nothing can be done about it."""
    with pytest.raises(ConfigError, match="is over"):
        look(small(), day=date(2028, 8, 1))


def test_one_school_can_be_asked_for() -> None:
    """By its BRIN or a location of it; another one is an error that names it."""
    found = small(school={"locations": ["99PA01"]}, agreements=[])
    assert codes(preseason(found, TODAY, YEAR, school="99PA01")) == ["agreement.missing"]
    with pytest.raises(ConfigError, match="99ZZ"):
        preseason(found, TODAY, YEAR, school="99ZZ")


def test_requests_about_a_school_that_is_gone_are_told_too() -> None:
    """What was given there may still be somewhere."""
    facts = Facts(destroy=(DestroyRequest(PORTAL, "99ZZ", "vwo-0", date(2027, 5, 1), 0, "c-0"),))
    assert [(f.school, f.code) for f in look(small(), facts)] == [("99ZZ", "destroy.overdue")]
    assert preseason(small(), TODAY, YEAR, facts, BRIN) == []


def test_pupils_of_a_former_brin_count_for_the_school() -> None:
    """They stay known under it."""
    facts = Facts(pupils={("99ZZ", "PO"): PupilCounts(pupils=2, no_eck_id=1), (BRIN, "PO"): PupilCounts(pupils=1)})
    finding = one(look(small(school={"formerly": ["99ZZ"]}), facts), "pupils.no-eck-id")
    assert (finding.count, finding.says) == (1, "1 of 3 pupils in PO have no ECK iD.")


def test_consents_are_counted_for_the_product_that_lacks_most() -> None:
    """Of pupils who are under 16, or of whom nobody said."""
    facts = counted(may_need_consent=10)
    assert facts.pupils is not None
    facts.pupils[BRIN, "PO"].consents[BOOK] = 4
    finding = one(look(small(agreements=[agreement(products=[FREE])]), facts), "consent.needed")
    assert finding.count == 6


def test_a_party_with_two_roles_waits_for_no_link_of_another_schools_sis() -> None:
    """A SIS receives what is of its own school; as a portal it may wait for links."""
    found = small(portal={"roles": ["SIS"]}, sides=[])
    assert "connection.none" not in codes(look(found))


def test_what_needs_no_link_in_another_role_waits_for_none() -> None:
    """A publisher that is a portal too gets licences by its agreement; its class lists need a link."""
    ordering = agreement(processes=[{"process": "BestellenLeveren", "purpose": "x", "basis": "publieke_taak"}])
    found = look(small(portal={"roles": ["PUBLISHER", "PORTAL"]}, agreements=[ordering], sides=[]))
    assert codes(found) == ["connection.none"]
    assert "roster" in found[0].says


def test_a_deadline_after_the_year_is_left_for_then() -> None:
    """The last day of the year still counts."""
    assert codes(look(small(), asked(date(2028, 7, 31)))) == ["destroy.open"]
    assert look(small(), asked(date(2028, 8, 1))) == []


def test_urgent_findings_come_first() -> None:
    """Per school: what blocks, what comes soon, what is good to know."""
    found = look(
        small(agreements=[agreement(**ENDS_BEFORE, products=[FREE])], portal={"covenant": "geen"}), asked(TODAY)
    )
    ranks = [list(Severity).index(f.severity) for f in found]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) > 1


def test_mail_attributes_are_those_of_the_policy() -> None:
    """Whatever passes only where parents were informed (R24)."""
    assert mail_attributes(small().registry.policy) == {"privateEmail", "parentEmail"}


def test_the_examples_have_something_to_tell() -> None:
    """The registry that everybody starts with: what ends in July 2027 blocks the year after it, and not this one."""
    from broker.data import data_path
    from broker.registry import load_document, records_of

    found = Entries.of(records_of(load_document(data_path("examples") / "registry")))
    blocking = [f.about for f in preseason(found, TODAY, YEAR) if f.severity is Severity.BLOCKS]
    assert blocking == [("vwo-po-hulp", "po-result-west-hulp"), ("hulp-vo", "vo-result-west-hulp")]
    this = preseason(found, date(2026, 11, 24), SchoolYear(2026))
    assert [f for f in this if f.severity is Severity.BLOCKS] == []


@pytest.mark.parametrize(
    ("sender", "agreement", "about", "says"),
    [
        ("broker", "vwo-0", "vwo-0", "what it had under vwo-0"),
        (SIS, "vwo-0", "c-0", f"what {SIS} asked of it"),
        (SIS, None, "c-0", f"what {SIS} asked of it"),
    ],
)
def test_a_request_to_destroy_is_listed_whoever_asked(
    sender: str, agreement: str | None, about: str, says: str
) -> None:
    """What a school asked is found by the id of its request."""
    request = DestroyRequest(PORTAL, BRIN, agreement, date(2027, 5, 31), 0, "c-0", sender)
    (found,) = look(small(), Facts(destroy=(request,)))
    assert (found.code, found.party, found.about) == ("destroy.overdue", PORTAL, (about,))
    assert says in found.says
