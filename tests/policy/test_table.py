"""The shipped policy, cell by cell. The tables here are written by hand, from domain.md section 3 and the brief."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy import (
    CONDITIONS,
    DEFAULT_DENY,
    NOT_IN_AGREEMENT,
    PROCESSES,
    PRODUCT_TYPES,
    RECEIVER_ROLES,
    ROLES,
    SECTORS,
    Policy,
)

POLICY = Policy.load()

# Process Gebruik, ordinary product. Columns: receiver roles; letters: PO VO MBO; "." means that no rule speaks.
COLUMNS = ("SIS", "SHOP", "PUBLISHER", "PORTAL", "VAULT")
GEBRUIK = {
    "eckId": "AAA AAA AAA AAA ...",
    "lasKey": "AAA CCC CCC CCC ...",
    "leerlingnummer": "AAA DCC DCC DCC ...",
    "nlEduPersonProfileId": "AAA DCC DCC DCC ...",
    "nlEduPersonRealId": "DDD DDD DDD DDD ...",
    "uid": "DDD DDD DDD DDD ...",
    "bsn": "RRR RRR RRR RRR RRR",
    "onderwijsnummer": "RRR RRR RRR RRR RRR",
    "sofinummer": "RRR RRR RRR RRR RRR",
    "rijksregisternummer": "RRR RRR RRR RRR RRR",
    "hPgn": "RRR RRR RRR RRR RRR",
    "stampseudoniem": "RRR RRR RRR RRR RRR",
    "bsnOndwnr4": "DDD DDD DDD DDD ...",
    "employeeNumber": "AAA CCC CCC CCC ...",
    "teacherEckId": "CCC CCC CCC CCC ...",
    "givenName": "CCC CCC CCC CCC ...",
    "familyName": "DDD DDD DDD DDD ...",
    "familyNamePrefix": "DDD DDD DDD DDD ...",
    "givenNames": "DDD DDD DDD DDD ...",
    "initials": "DDD DDD DDD DDD ...",
    "birthDate": "DDD DDD DDD DDD ...",
    "gender": "DDD DDD DDD DDD ...",
    "startYear3": "DDD DDD DDD DDD ...",
    "affiliation": "DDD DDD DDD DDD ...",
    "schoolId": "AAA AAA AAA AAA ...",
    "yearGroup": "CCC CCC CCC CCC ...",
    "groupId": "CCC CCC CCC CCC ...",
    "groupName": "CCC CCC CCC CCC ...",
    "nlEduPersonUnit": "CCC CCC CCC CCC ...",
    "schoolSubjectId": "CCC CCC CCC CCC ...",
    "studyCode": "CCC CCC CCC CCC ...",
    "level": "CCC CCC CCC CCC ...",
    "location": "DDD DDD DDD DDD ...",
    "enrolmentDates": "DDD DDD DDD DDD ...",
    "schoolEmail": "DDD DDD DDD DDD ...",
    "schoolUsername": "DDD DDD DDD DDD ...",
    "privateEmail": "DDD DDD DDD DDD ...",
    "parentEmail": "DDD DDD DDD DDD ...",
    "homeAddress": "DDD DDD DDD DDD ...",
    "phone": "DDD DDD DDD DDD ...",
    "photo": "DDD DDD DDD DDD ...",
    "ipAddress": "DDD DDD DDD DDD ...",
    "deviceId": "DDD DDD DDD DDD ...",
    "ethnicity": "DDD DDD DDD DDD ...",
    "countryOfOrigin": "DDD DDD DDD DDD ...",
    "weightFactor": "DDD DDD DDD DDD ...",
    "postcode": "DDD DDD DDD DDD ...",
    "teacherName": "DDD DDD DDD DDD ...",
    "teacherEmail": "DDD DDD DDD DDD ...",
    "licenceDates": "CCC CCC CCC CCC ...",
    "licenceStatus": "CCC CCC CCC CCC ...",
    "activationCode": "CCC CCC CCC DDD ...",
    "usageDates": "AAA CCC ... AAA ...",
    "usageFrequency": "AAA CCC ... AAA ...",
    "progressStatus": "... ... ... CCC ...",
    "progressDuration": "... ... ... CCC ...",
    "progressNote": "... ... ... CCC ...",
    "progressUrl": "... ... ... CCC ...",
    "progressFollowUp": "... ... ... CCC ...",
    "personalNeeds": "DDD DDD DDD DDD ...",
    "extraTime": "DDD DDD DDD DDD ...",
    "score": "DDD ... ... DDD ...",
    "normTerm": "DDD ... ... DDD ...",
    "comment": "DDD ... ... ... ...",
    "irregularities": "DDD ... ... ... ...",
}
CELLS = [
    (attribute, role, sector, letter)
    for attribute, columns in GEBRUIK.items()
    for role, letters in zip(COLUMNS, columns.split(), strict=True)
    for sector, letter in zip(SECTORS, letters, strict=True)
]


def effect(process: str, sector: str, role: str, attribute: str, product_type: str = "ordinary") -> str:
    """The effect as it shows from outside: what happens with and without an agreement that names the attribute."""
    without, with_it = (
        POLICY.projection(process, sector, role, product_type, [attribute], names, checked=CONDITIONS)
        for names in ((), (attribute,))
    )
    if without.rejected:
        return "R"
    if with_it.transformed:
        return "T"
    if without.kept:
        return "A"
    if with_it.kept:
        assert without.dropped == ((attribute, NOT_IN_AGREEMENT),)
        return "C"
    assert without.dropped == with_it.dropped
    return "." if without.dropped == ((attribute, DEFAULT_DENY),) else "D"


def test_the_expected_table_is_complete() -> None:
    """The table above has exactly the attributes of the policy, and all receiver roles."""
    assert GEBRUIK.keys() == POLICY.attributes
    assert set(COLUMNS) == set(RECEIVER_ROLES)


@pytest.mark.parametrize("attribute", GEBRUIK)
def test_every_cell_of_gebruik_is_as_agreed(attribute: str) -> None:
    """For each sector and receiver role the policy does what the hand-written table says."""
    for name, role, sector, letter in CELLS:
        if name == attribute:
            assert effect("Gebruik", sector, role, name) == letter, f"{name} {sector} {role}"


@pytest.mark.parametrize(("product_type", "expected"), [("ordinary", "D"), ("legal-test", "C"), ("norm-test", "C")])
def test_need_of_support_goes_to_test_systems_only(product_type: str, expected: str) -> None:
    """What reveals something about health passes only to the publisher of a test, under an agreement."""
    for sector, attribute in itertools.product(SECTORS, ("personalNeeds", "extraTime")):
        assert effect("Gebruik", sector, "PUBLISHER", attribute, product_type) == expected
        for role in ("SIS", "SHOP", "PORTAL"):
            assert effect("Gebruik", sector, role, attribute, product_type) == "D"


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("attribute", ["gender", "birthDate"])
def test_po_has_no_gender_and_no_birth_date(process: str, attribute: str) -> None:
    """R10: since school year 2018-2019 neither passes in PO, in no process, to nobody, whatever an agreement names."""
    for role in RECEIVER_ROLES:
        found = POLICY.projection(process, "PO", role, "ordinary", [attribute], [attribute], checked=CONDITIONS)
        assert not found.kept
        assert not found.transformed


def test_tests_with_a_legal_attribute_set_are_the_one_exception_to_r10() -> None:
    """Only at login (Toegang) in PO, only for test products, only under an agreement."""
    exceptions = {
        (process, sector, product_type, attribute, effect(process, sector, "PUBLISHER", attribute, product_type))
        for process, sector, product_type, attribute in itertools.product(
            PROCESSES, SECTORS, PRODUCT_TYPES, ("gender", "birthDate")
        )
        if effect(process, sector, "PUBLISHER", attribute, product_type) != "D"
    }
    assert exceptions == {
        ("Toegang", "PO", product_type, attribute, "C")
        for product_type in ("legal-test", "norm-test")
        for attribute in ("gender", "birthDate")
    }


@pytest.mark.parametrize(
    "attribute", ["bsn", "onderwijsnummer", "sofinummer", "rijksregisternummer", "hPgn", "stampseudoniem"]
)
def test_a_pgn_is_refused_everywhere(attribute: str) -> None:
    """P5: no process, sector, role or product makes an exception; not even the vault."""
    for process, sector, role, product_type in itertools.product(PROCESSES, SECTORS, RECEIVER_ROLES, PRODUCT_TYPES):
        found = POLICY.projection(process, sector, role, product_type, [attribute], [attribute])
        assert found.rejected == {attribute}


def test_no_directly_identifying_attribute_passes_without_an_agreement() -> None:
    """The only exceptions: the vault, and the school's own administration that gets back its own ids."""
    identifying = {name for row in POLICY.rows if row.cls == "identifying" for name in row.attributes}
    for process, sector, role, product_type in itertools.product(PROCESSES, SECTORS, ROLES, PRODUCT_TYPES):
        found = POLICY.projection(process, sector, role, product_type, identifying, (), checked=CONDITIONS)
        passing = {*found.kept, *found.transformed}
        own = {name for name in passing if "own-school-sis" in found.conditions.get(name, ())}
        assert passing == own
        assert not own or role == "SIS"


def test_activation_codes_never_go_to_a_portal() -> None:
    """In no process and sector, whatever its agreement names."""
    for process, sector, product_type in itertools.product(PROCESSES, SECTORS, PRODUCT_TYPES):
        assert effect(process, sector, "PORTAL", "activationCode", product_type) == "D"


def test_the_first_letter_of_a_family_name_is_what_ordinary_material_gets() -> None:
    """A publisher under an agreement gets it transformed, and for a test whole; without agreement not at all."""
    for sector in SECTORS:
        assert effect("Toegang", sector, "PUBLISHER", "familyName") == "T"
        assert effect("Toegang", sector, "PUBLISHER", "familyName", "legal-test") == "C"
        named = POLICY.projection("Toegang", sector, "PUBLISHER", "ordinary", ["familyName"], ["familyName"])
        assert named.transformed == {"familyName": "first_letter"}
        assert named.kept == ()
        unnamed = POLICY.projection("Toegang", sector, "PUBLISHER", "ordinary", ["familyName"], [])
        assert unnamed.dropped == (("familyName", NOT_IN_AGREEMENT),)


def test_an_attribute_with_a_condition_that_nobody_checks_is_dropped() -> None:
    """Fails closed: the parent's e-mail needs flags that the exchange does not know yet."""
    found = POLICY.projection("Toegang", "PO", "PORTAL", "ordinary", ["parentEmail"], ["parentEmail"])
    assert found.dropped == (("parentEmail", "condition:no-school-account"),)
    told = POLICY.projection(
        "Toegang", "PO", "PORTAL", "ordinary", ["parentEmail"], ["parentEmail"], checked=CONDITIONS
    )
    assert told.kept == ("parentEmail",)
    assert told.conditions["parentEmail"] == ("no-school-account", "parents-informed", "no-objection")


def test_what_a_role_can_never_have_is_told_apart_from_what_is_conditional() -> None:
    """P4: output schemas are made from this answer."""
    asked = ["usageDates", "usageFrequency", "activationCode", "progressNote", "bsn", "nothing"]
    assert POLICY.possible("Gebruik", "PO", "PORTAL", asked) == {
        "usageDates": "always",
        "usageFrequency": "always",
        "activationCode": "never",
        "progressNote": "conditional",
        "bsn": "never",
        "nothing": "never",
    }
    assert POLICY.possible("Gebruik", "PO", "SHOP", asked) == {
        "usageDates": "conditional",
        "usageFrequency": "conditional",
        "activationCode": "conditional",
        "progressNote": "never",
        "bsn": "never",
        "nothing": "never",
    }


def test_what_never_passes_is_never_in_a_projection() -> None:
    """`possible` and `projection` agree on every cell, so no value can be there for which the schema has no place."""
    for process, sector, role in itertools.product(PROCESSES, SECTORS, RECEIVER_ROLES):
        possible = POLICY.possible(process, sector, role, POLICY.attributes)
        for product_type in PRODUCT_TYPES:
            every = POLICY.projection(
                process, sector, role, product_type, POLICY.attributes, POLICY.attributes, checked=CONDITIONS
            )
            passing = {*every.kept, *every.transformed}
            assert passing <= {name for name, when in possible.items() if when != "never"}
            bare = POLICY.projection(process, sector, role, product_type, POLICY.attributes, (), checked=())
            assert {name for name, when in possible.items() if when == "always"} <= {*bare.kept, *bare.transformed}


words = st.one_of(st.text(max_size=30), st.sampled_from(sorted(POLICY.attributes)))


@given(
    st.one_of(st.sampled_from(PROCESSES), st.text(max_size=10)),
    st.one_of(st.sampled_from(SECTORS), st.text(max_size=5)),
    st.one_of(st.sampled_from(RECEIVER_ROLES), st.text(max_size=10)),
    st.one_of(st.sampled_from(PRODUCT_TYPES), st.text(max_size=10)),
    st.lists(words, max_size=20),
    st.lists(words, max_size=20),
)
def test_no_attribute_outside_the_table_ever_passes(
    process: str, sector: str, role: str, product_type: str, attributes: list[str], named: list[str]
) -> None:
    """P3: whatever is asked, in whatever words and with whatever agreement, what no rule allows is dropped."""
    found = POLICY.projection(process, sector, role, product_type, attributes, named, checked=CONDITIONS)
    dropped = [name for name, _ in found.dropped]
    parts = [*found.kept, *found.transformed, *found.rejected, *dropped]
    assert sorted(parts) == sorted(set(attributes))
    for name in {*found.kept, *found.transformed}:
        cell = POLICY.cell(process, sector, role, name, product_type)
        assert cell is not None
        assert cell.effect in "ACT"
        assert name in named or not cell.needs_agreement
    for name in set(attributes) - POLICY.attributes:
        assert (name, DEFAULT_DENY) in found.dropped


@given(st.sets(st.sampled_from(sorted(POLICY.attributes))), st.sets(st.sampled_from(sorted(POLICY.attributes))))
def test_an_agreement_that_names_more_never_lets_less_pass(few: set[str], more: set[str]) -> None:
    """What passes grows with the agreement, and only by what it names."""
    for role in ROLES:
        small, large = (
            POLICY.projection("Gebruik", "VO", role, "ordinary", POLICY.attributes, names)
            for names in (few, few | more)
        )
        assert set(small.kept) <= set(large.kept)
        assert set(large.kept) - set(small.kept) <= more
