"""The shipped policy, cell by cell. The table here is written by hand, from domain.md section 3."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy import (
    CHECKED_BY_EXCHANGE,
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

# The whole policy, by hand from domain.md section 3 (an X marks what this project decided beside it). Four columns:
# BestellenLeveren, Toegang, Gebruik, Terugkoppelen; three letters each: PO VO MBO; "." means that no rule speaks.
# Keys: `*` every party; a role; a role with a product type; `*` with a product type. The one that names more holds.
# The vault gets only what is written for it. `if`: conditions, wherever it passes; `if ROLE`: for that role.
NEVER = {"*": "DDD DDD DDD DDD"}
REFUSED = {"*": "RRR RRR RRR RRR", "VAULT": "RRR RRR RRR RRR"}
FOR_THE_VAULT = NEVER | {"VAULT": "AAA ... ... ..."}
OWN_ID = {
    "SIS": "AAA AAA AAA AAA",
    "VAULT": "AAA ... ... ...",
    "if": "no-eck-id",
    "if SIS": "own-school-sis",
    "if VAULT": "",
}
ADDRESS_CONDITIONS = "no-school-account parents-informed no-objection"
EXPECTED: dict[str, dict[str, str]] = {
    "eckId": {"*": "AAA AAA AAA AAA", "VAULT": "AAA ... ... ...", "if": "covenant-attested", "if VAULT": ""},
    "lasKey": {"*": "CCC CCC CCC CCC"} | OWN_ID,
    "leerlingnummer": {"*": "DCC DCC DCC DCC"} | OWN_ID,
    "nlEduPersonProfileId": {"*": "DCC DCC DCC DCC"} | OWN_ID,
    "nlEduPersonRealId": {"*": "DDD CCC DDD DDD", "VAULT": "AAA ... ... ..."},
    "uid": {"*": "DDD AAA DDD DDD"},
    "bsn": REFUSED,
    "onderwijsnummer": REFUSED,
    "sofinummer": REFUSED,
    "rijksregisternummer": REFUSED,
    "hPgn": REFUSED,
    "stampseudoniem": REFUSED,
    "bsnOndwnr4": NEVER,
    # X: the sources allow a teacher's number, here it needs an agreement: no directly identifying attribute is ever A.
    "employeeNumber": {"*": "DDD CCC CCC CCC"} | OWN_ID | {"if": ""},
    "teacherEckId": {"*": "DDD AAA CCC AAA", "if": "covenant-attested"},
    "givenName": {"*": "DDD CCC CCC DDD", "SHOP": "DCC CCC CCC DDD"},
    "familyName": {"*": "DDD CCC DDD DDD", "SHOP": "DCC CCC DDD DDD", "PUBLISHER ordinary": "DDD TTT DDD DDD"},
    "familyNamePrefix": {"*": "DDD CCC DDD DDD", "SHOP": "DCC CCC DDD DDD", "PUBLISHER ordinary": "DDD DDD DDD DDD"},
    "givenNames": NEVER,
    # A test's own attribute set goes to its maker (domain.md 10.4): to no portal, shop or administration.
    "initials": NEVER | {"PUBLISHER legal-test": "DDD CCC DDD DDD"},
    "birthDate": NEVER | {"PUBLISHER legal-test": "DDD CDD DDD DDD", "PUBLISHER norm-test": "DDD CDD DDD DDD"},
    "gender": NEVER | {"PUBLISHER legal-test": "DDD CDD DDD DDD", "PUBLISHER norm-test": "DDD CDD DDD DDD"},
    "startYear3": NEVER | {"PUBLISHER norm-test": "DDD CDD DDD DDD"},
    "affiliation": {"*": "DDD AAA DDD DDD"},
    "schoolId": {"*": "AAA AAA AAA AAA"},
    "yearGroup": {"*": "CCC AAA CCC CCC"},
    "groupId": {"*": "AAA AAA CCC CCC"},
    "groupName": {"*": "DDD CCC CCC DDD"},
    "nlEduPersonUnit": {"*": "DDD CCC CCC DDD"},
    "schoolSubjectId": {"*": "AAA CCC CCC AAA"},
    "studyCode": {"*": "AAA CCC CCC AAA"},
    "level": {"*": "AAA CCC CCC AAA"},
    "location": {"*": "CCC DDD DDD DDD"},  # X
    "enrolmentDates": FOR_THE_VAULT,  # X
    "schoolEmail": {"*": "DCC CCC DDD DDD"},
    "schoolUsername": {"*": "DCC CCC DDD DDD"},
    "privateEmail": {"*": "DCC CCC DDD DDD", "if": ADDRESS_CONDITIONS},
    "parentEmail": {"*": "CCD CCD DDD DDD", "if": ADDRESS_CONDITIONS},
    "homeAddress": NEVER | {"SHOP": "DCC DDD DDD DDD", "if": "home-delivery"},
    "phone": NEVER,
    "photo": NEVER,
    "ipAddress": NEVER,
    "deviceId": NEVER,
    "ethnicity": NEVER,
    "countryOfOrigin": NEVER,
    "weightFactor": NEVER,
    "postcode": NEVER,
    "teacherName": {"*": "DDD CCC DDD DDD"},
    "teacherEmail": {"*": "DDD CCC DDD DDD"},
    "contactFlags": FOR_THE_VAULT,  # X
    "ageGroup": FOR_THE_VAULT,  # X
    "consents": FOR_THE_VAULT,  # X
    "licenceDates": {"*": "AAA AAA CCC DDD"},
    "licenceStatus": {"*": "AAA AAA CCC DDD"},
    "activationCode": {"*": "AAA AAA CCC DDD", "PORTAL": "DDD DDD DDD DDD"},
    # To the shop only if the payment model needs it; the publisher is who tells it.
    "usageDates": {"*": "DDD DDD AAA DDD", "SHOP": "DDD DDD CCC DDD", "PUBLISHER": "... ... ... ..."},
    "usageFrequency": {"*": "DDD DDD AAA DDD", "SHOP": "DDD DDD CCC DDD", "PUBLISHER": "... ... ... ..."},
    "progressStatus": {"*": "... ... ... ...", "PORTAL": "DDD DDD CCC DDD"},
    "progressDuration": {"*": "... ... ... ...", "PORTAL": "DDD DDD CCC DDD"},
    "progressNote": {"*": "... ... ... ...", "PORTAL": "DDD DDD CCC CCC"},
    "progressUrl": {"*": "... ... ... ...", "PORTAL": "DDD DDD CCC CCC"},
    "progressFollowUp": {"*": "... ... ... ...", "PORTAL": "DDD DDD CCC CCC"},
    "personalNeeds": NEVER | {"PUBLISHER legal-test": "DDD DDD CCC DDD", "PUBLISHER norm-test": "DDD DDD CCC DDD"},
    "extraTime": NEVER | {"PUBLISHER legal-test": "DDD DDD CCC DDD", "PUBLISHER norm-test": "DDD DDD CCC DDD"},
    "score": {"*": "... ... ... ...", "SIS": "DDD DDD DDD AAA", "PORTAL": "DDD DDD DDD AAA"},
    "normTerm": {"*": "... ... ... ...", "SIS": "DDD DDD DDD AAA", "PORTAL": "DDD DDD DDD AAA"},
    "resultUrl": {"*": "... ... ... ...", "SIS": "DDD DDD DDD CCC", "PORTAL": "DDD DDD DDD CCC"},
    "comment": {"*": "... ... ... ...", "SIS": "DDD DDD DDD DDC"},
    "irregularities": {"*": "... ... ... ...", "SIS": "DDD DDD DDD DDC"},
}
CONDITIONS_BY_PROCESS = {("eckId", "BestellenLeveren"): "covenant-attested digital-line"}
EVERY_CELL = list(itertools.product(PROCESSES, SECTORS, RECEIVER_ROLES, PRODUCT_TYPES))


def expected(attribute: str, process: str, sector: str, role: str, product_type: str) -> str:
    """The letter of the table above."""
    row = EXPECTED[attribute]
    keys = (f"{role} {product_type}", f"* {product_type}", role, "*") if role != "VAULT" else ("VAULT",)
    found = next((row[key] for key in keys if key in row), "... ... ... ...")
    return found.split()[PROCESSES.index(process)][SECTORS.index(sector)]  # type: ignore[arg-type]


def expected_conditions(attribute: str, process: str, role: str) -> tuple[str, ...]:
    """What must hold besides, where the attribute passes."""
    row = EXPECTED[attribute]
    found = row.get(f"if {role}", row.get("if", ""))
    if role != "VAULT":
        found = CONDITIONS_BY_PROCESS.get((attribute, process), found)
    return tuple(found.split())


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
    """The table above has exactly the attributes of the policy."""
    assert EXPECTED.keys() == POLICY.attributes


@pytest.mark.parametrize("attribute", EXPECTED)
def test_r10_r11_every_cell_of_the_policy_is_as_agreed(attribute: str) -> None:
    """What is allowed passes and nothing else does, in each process and sector, for each role and product type."""
    for process, sector, role, product_type in EVERY_CELL:
        letter = expected(attribute, process, sector, role, product_type)
        where = f"{attribute} {process} {sector} {role} {product_type}"
        assert effect(process, sector, role, attribute, product_type) == letter, where
        if letter in "ACT":
            cell = POLICY.cell(process, sector, role, attribute, product_type)
            assert cell is not None
            assert cell.rule.conditions == expected_conditions(attribute, process, role), where


@pytest.mark.parametrize("attribute", EXPECTED)
def test_r15_whatever_passes_has_its_conditions_checked(attribute: str) -> None:
    """An attribute under conditions passes only for a caller who checks all of them; for one who misses any, never."""
    for process, sector, role, product_type in EVERY_CELL:
        conditions = expected_conditions(attribute, process, role)
        if expected(attribute, process, sector, role, product_type) not in "ACT" or not conditions:
            continue
        for missing in conditions:
            found = POLICY.projection(
                process, sector, role, product_type, [attribute], [attribute], checked=CONDITIONS.keys() - {missing}
            )
            assert found.dropped == ((attribute, f"condition:{missing}"),)
            assert not found.kept
            assert not found.transformed
        found = POLICY.projection(process, sector, role, product_type, [attribute], [attribute])
        assert found.conditions == {attribute: conditions}


def test_the_exchange_checks_every_condition_that_exists() -> None:
    """None is left that would drop an attribute for ever."""
    assert CONDITIONS.keys() == CHECKED_BY_EXCHANGE


@pytest.mark.parametrize(("product_type", "expected"), [("ordinary", "D"), ("legal-test", "C"), ("norm-test", "C")])
def test_need_of_support_goes_to_test_systems_only(product_type: str, expected: str) -> None:
    """What reveals something about health passes only to the publisher of a test, under an agreement."""
    for sector, attribute in itertools.product(SECTORS, ("personalNeeds", "extraTime")):
        assert effect("Gebruik", sector, "PUBLISHER", attribute, product_type) == expected
        for role in ("SIS", "SHOP", "PORTAL"):
            assert effect("Gebruik", sector, role, attribute, product_type) == "D"


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("attribute", ["gender", "birthDate"])
def test_r10_po_has_no_gender_and_no_birth_date(process: str, attribute: str) -> None:
    """R10: since school year 2018-2019 neither passes in PO, in no process, to nobody, whatever an agreement names."""
    for role in RECEIVER_ROLES:
        found = POLICY.projection(process, "PO", role, "ordinary", [attribute], [attribute], checked=CONDITIONS)
        assert not found.kept
        assert not found.transformed


def test_r10_tests_with_a_legal_attribute_set_are_the_one_exception() -> None:
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
    """Fails closed, whatever the agreement names."""
    asked = ("Toegang", "PO", "PORTAL", "ordinary", ["parentEmail"], ["parentEmail"])
    assert POLICY.projection(*asked, checked=()).dropped == (("parentEmail", "condition:no-school-account"),)
    assert POLICY.projection(*asked).kept == ("parentEmail",)


@pytest.mark.parametrize("attribute", ["privateEmail", "parentEmail"])
def test_r24_an_address_of_home_passes_only_under_an_agreement_and_three_conditions(attribute: str) -> None:
    """Named in the agreement, no school account, parents informed, no objection; a parent's never in MBO."""
    passes = {
        (process, sector)
        for process, sector, role, product_type in EVERY_CELL
        if effect(process, sector, role, attribute, product_type) == "C"
    }
    sectors = {"privateEmail": ("VO", "MBO"), "parentEmail": ("PO", "VO")}[attribute]
    in_orders = {("BestellenLeveren", sector) for sector in sectors}
    in_access = {("Toegang", sector) for sector in (SECTORS if attribute == "privateEmail" else sectors)}
    assert passes == in_orders | in_access
    for process, sector in passes:
        found = POLICY.projection(process, sector, "SHOP", "ordinary", [attribute], [attribute])
        assert found.conditions == {attribute: ("no-school-account", "parents-informed", "no-objection")}
        assert POLICY.projection(process, sector, "SHOP", "ordinary", [attribute], []).dropped == (
            (attribute, NOT_IN_AGREEMENT),
        )


def test_r25_the_school_account_has_no_such_conditions() -> None:
    """It is what pupils should log in with: an agreement that names it is enough."""
    for process in ("BestellenLeveren", "Toegang"):
        found = POLICY.projection(process, "VO", "PUBLISHER", "ordinary", ["schoolEmail"], ["schoolEmail"])
        assert found.kept == ("schoolEmail",)
        assert not found.conditions


def test_r10_a_home_address_goes_to_the_shop_alone_for_a_delivery_at_home() -> None:
    """To nobody else, in no other process, and never in PO."""
    passes = {
        (process, sector, role)
        for process, sector, role, product_type in EVERY_CELL
        if effect(process, sector, role, "homeAddress", product_type) != "D" and role != "VAULT"
    }
    assert passes == {("BestellenLeveren", "VO", "SHOP"), ("BestellenLeveren", "MBO", "SHOP")}
    found = POLICY.projection("BestellenLeveren", "VO", "SHOP", "ordinary", ["homeAddress"], ["homeAddress"])
    assert found.conditions == {"homeAddress": ("home-delivery",)}


def test_r10_the_legal_attribute_set_is_initials_birth_date_and_gender() -> None:
    """At login for a legal test, under an agreement that names each; birth date and gender in PO only."""
    asked = ["initials", "birthDate", "gender", "startYear3", "givenNames", "postcode"]
    for sector, legal in (("PO", ("initials", "birthDate", "gender")), ("VO", ("initials",)), ("MBO", ("initials",))):
        found = POLICY.projection("Toegang", sector, "PUBLISHER", "legal-test", asked, asked)
        assert found.kept == legal
        assert POLICY.projection("Toegang", sector, "PUBLISHER", "legal-test", asked, []).kept == ()
        for process in set(PROCESSES) - {"Toegang"}:
            assert POLICY.projection(process, sector, "PUBLISHER", "legal-test", asked, asked).kept == ()


@pytest.mark.parametrize("role", ["SIS", "SHOP", "PORTAL", "VAULT"])
@pytest.mark.parametrize("product_type", ["legal-test", "norm-test"])
def test_r10_a_tests_attribute_set_goes_to_its_maker_alone(role: str, product_type: str) -> None:
    """The law names what the test's maker gets: nobody else has any of it for a test, whatever his agreement names."""
    asked = ["initials", "birthDate", "gender", "startYear3", "personalNeeds", "extraTime"]
    for process, sector in itertools.product(PROCESSES, SECTORS):
        found = POLICY.projection(process, sector, role, product_type, asked, asked)
        assert (found.kept, dict(found.transformed)) == ((), {})
        assert set(POLICY.possible(process, sector, role, asked).values()) == {"never"}


def test_r19_an_employees_number_needs_an_agreement_and_goes_with_no_order() -> None:
    """A teacher waits for no ECK iD: his number under an agreement, else a pseudonym of the receiver's own."""
    for sector in SECTORS:
        for process, letter in zip(PROCESSES, "DCCC", strict=True):
            assert effect(process, sector, "PUBLISHER", "employeeNumber") == letter
        found = POLICY.projection("Toegang", sector, "PUBLISHER", "ordinary", ["employeeNumber"], ["employeeNumber"])
        assert not found.conditions


def test_r3_the_eck_id_passes_to_the_attested_alone_and_with_digital_material_alone() -> None:
    """Law limits its use to digital materials and tests; in an order the line must be digital."""
    for process, sector, role in itertools.product(PROCESSES, SECTORS, ROLES):
        conditions = POLICY.projection(process, sector, role, "ordinary", ["eckId"], []).conditions["eckId"]
        assert "covenant-attested" in conditions
        assert ("digital-line" in conditions) == (process == "BestellenLeveren")


def test_r24_r26_what_the_school_says_of_a_pupil_for_our_gates_leaves_the_broker_to_nobody() -> None:
    """Objections, ages and consents are for the vault."""
    asked = ["contactFlags", "ageGroup", "consents"]
    for process, sector, role, product_type in EVERY_CELL:
        found = POLICY.projection(process, sector, role, product_type, asked, asked)
        assert bool(found.kept) == (role == "VAULT" and process == "BestellenLeveren")


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
