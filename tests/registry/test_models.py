"""What an operator may write down about parties, schools, agreements and connections."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from broker.kafka import access
from broker.policy.document import problems_of
from broker.registry import Agreement, Board, ConnectionSide, Party, PublicKey, School
from broker.registry.models import RESERVED
from tests.registry.entries import BOOK, TODAY, agreement, board, jwk, party, school, side

# R16, and what the domain adds to it: each of these must be there.
REQUIRED = (
    "id", "version", "model", "board", "schools", "party", "products", "processes", "attributes", "access",
    "storage_country", "retention", "privacy_contact", "incident_contact", "security_measures",
    "incident_arrangements", "subprocessors", "valid_from", "valid_until",
)  # fmt: skip


def problems(model: type[Any], document: dict[str, Any]) -> list[str]:
    """What is wrong with a document, in sentences."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(document)
    return problems_of(caught.value)


@pytest.mark.parametrize("field", REQUIRED)
def test_an_incomplete_agreement_names_the_missing_field(field: str) -> None:
    """R16: what an agreement does not say is asked for by name."""
    assert problems(Agreement, agreement(**{field: ...})) == [f"{field}: is missing"]


@pytest.mark.parametrize("field", ["access", "retention", "privacy_contact", "security_measures"])
def test_an_empty_field_is_not_a_filled_one(field: str) -> None:
    """Blanks do not count as an answer."""
    assert problems(Agreement, agreement(**{field: "   "}))[0].startswith(f"{field}: ")


def test_all_required_fields_are_covered_by_the_test_above() -> None:
    """A field that is added to the model must be added to the list."""
    required = {name for name, field in Agreement.model_fields.items() if field.is_required()}
    assert required == set(REQUIRED)


def test_storage_outside_the_eea_needs_a_basis() -> None:
    """R22; Iceland is inside, the United Kingdom outside."""
    assert problems(Agreement, agreement(storage_country="GB")) == [
        "document: outside_eea_basis: is missing, and GB lies outside the EEA (R22)"
    ]
    assert Agreement.model_validate(agreement(storage_country="GB", outside_eea_basis="adequaatheidsbesluit"))
    assert Agreement.model_validate(agreement(storage_country="IS"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid_until": "2025-12-31"}, "valid_until: lies before valid_from"),
        ({"attributes": ["a", "a"]}, "attributes: names something twice"),
        ({"schools": ["99PA", "99PA"]}, "schools: names something twice"),
        ({"schools": ["school"]}, "must be a BRIN such as 99PA"),
        ({"schools": []}, "schools"),
        ({"schools": "some"}, "schools"),
        ({"products": [{"id": "8717927130835", "type": "ordinary", "does": "x"}]}, "right check digit"),
        ({"products": [{"id": 8717927130834, "type": "ordinary", "does": "x"}]}, "write numbers in quotes"),
        ({"products": [{"id": BOOK, "type": "ordinary"}]}, r"products[0].does: is missing"),
        ({"processes": [{"process": "Gebruik", "purpose": "x"}]}, r"processes[0].basis: is missing"),
        ({"processes": [{"process": "Gebruik", "purpose": "x", "basis": "handig"}]}, "basis"),
        ({"model": "2.0"}, "model"),
        ({"version": "1.0-beta"}, "version"),
        ({"remark": "x"}, "remark: is not a known field"),
    ],
)
def test_an_agreement_with_a_mistake_is_refused(changes: dict[str, Any], message: str) -> None:
    """With the field, and what is wrong with it."""
    assert message in "\n".join(problems(Agreement, agreement(**changes)))


def test_an_agreement_covers_what_it_says_and_nothing_else() -> None:
    """School, product, process, first and last day."""
    found = Agreement.model_validate(agreement(schools=["99PA"]))
    assert found.covers("99PA", BOOK, "Gebruik", TODAY)
    assert found.covers("99PA", None, "Gebruik", TODAY)
    assert found.covers("99PA", BOOK, "Gebruik", found.valid_from)
    assert found.covers("99PA", BOOK, "Gebruik", found.valid_until)
    assert not found.covers("99PB", BOOK, "Gebruik", TODAY)
    assert not found.covers("99PA", "9789493113862", "Gebruik", TODAY)
    assert not found.covers("99PA", BOOK, "Toegang", TODAY)
    assert not found.covers("99PA", BOOK, "Gebruik", TODAY.replace(year=2028))
    assert not found.covers("99PA", BOOK, "Gebruik", TODAY.replace(year=2025))


def test_a_product_that_an_agreement_does_not_have_is_ordinary() -> None:
    """The strictest type: only a test that is named as one gets a test's attribute set."""
    found = Agreement.model_validate(agreement(products=[{"id": BOOK, "type": "legal-test", "does": "toets"}]))
    assert found.product_type(BOOK) == "legal-test"
    assert found.product_type("9789493113862") == "ordinary"
    assert found.product_type(None) == "ordinary"


def test_a_private_key_is_refused_and_not_shown() -> None:
    """Whoever pastes a whole key is told to replace it; the message does not repeat it."""
    whole = jwk(private=True)
    with pytest.raises(ValidationError) as caught:
        PublicKey.model_validate({"kid": "k1", "jwk": whole})
    assert "holds a private key" in str(caught.value)
    assert whole["d"] not in str(caught.value)
    assert PublicKey.model_validate({"kid": "k1", "jwk": {n: v for n, v in whole.items() if n != "d"}})


@pytest.mark.parametrize(
    "changes",
    [{"kty": "RSA"}, {"crv": "P-384"}, {"x": "AAAA"}, {"x": "!"}, {"y": "A" * 43}, {"use": "enc"}, {"x": ...}],
)
def test_a_key_that_is_no_point_of_p256_is_refused(changes: dict[str, Any]) -> None:
    """Nothing is ever sealed for it, so it is found out here and not at the first delivery."""
    wrong = {name: value for name, value in (jwk() | changes).items() if value is not ...}
    with pytest.raises(ValidationError):
        PublicKey.model_validate({"kid": "k1", "jwk": wrong})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "Plein"}, "id"),
        ({"id": "pl"}, "id"),
        ({"id": "-plein"}, "id"),
        ({"id": "plein.nl"}, "id"),
        ({"id": "p" * 41}, "id"),
        ({"id": "vault"}, "is a word of the broker's own"),
        ({"id": "broker"}, "is a word of the broker's own"),
        ({"id": "exchange"}, "is a word of the broker's own"),
        ({"roles": []}, "roles"),
        ({"roles": ["VAULT"]}, "roles"),
        ({"roles": ["SIS", "SIS"]}, "names a role twice"),
        ({"covenant": "ja"}, "covenant"),
        ({"oin": "123"}, "must be an OIN"),
        ({"processor_url": "http://plein.example/"}, "must be an https:// address"),
        ({"processor_url": "https://plein.example/ x"}, "must be an https:// address"),
    ],
)
def test_a_party_with_a_mistake_is_refused(changes: dict[str, Any], message: str) -> None:
    """Its id becomes part of topic names and ACLs, so it has a narrow form."""
    assert message in "\n".join(problems(Party, party(**changes)))


def test_two_keys_of_a_party_have_two_ids() -> None:
    """A reader finds its key by the id."""
    key = {"kid": "k1", "jwk": jwk()}
    assert problems(Party, party(keys=[key, key])) == ["keys: two keys have one kid"]


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, False),
        ({"eck_id_attested_on": "2026-01-01"}, True),
        ({"eck_id_attested_on": "2026-01-01", "covenant": "medestander"}, True),
        ({"eck_id_attested_on": "2026-01-01", "covenant": "geen"}, False),
    ],
)
def test_the_eck_id_is_for_attested_parties_of_the_covenant(changes: dict[str, Any], may: bool) -> None:
    """Domain, section 10.13: both, the covenant and the dated attestation."""
    assert Party.model_validate(party(**changes)).may_hold_eck_id is may


@pytest.mark.parametrize("form", [".*", ".+", "[^x]*", "(?s).{0,200}", "[0-9a-f]{64}", "https://ketenid.nl/.*"])
def test_a_form_of_local_ids_that_fits_anything_is_refused(form: str) -> None:
    """It would switch the screen for PGNs off."""
    assert "so wide that it fits anything" in problems(School, school(local_id_form=form))[0]


def test_a_form_of_local_ids_must_be_a_regular_expression() -> None:
    """And may be one for nine digits: that is what the form is for (domain, section 10.15)."""
    assert "is not a regular expression" in problems(School, school(local_id_form="[0-9"))[0]
    assert School.model_validate(school(local_id_form="[0-9]{9}")).local_id_form == "[0-9]{9}"


@pytest.mark.parametrize(
    "changes", [{"id": "99pa"}, {"id": "99PA0"}, {"sectors": []}, {"sectors": ["HO"]}, {"sis": "X"}]
)
def test_a_school_with_a_mistake_is_refused(changes: dict[str, Any]) -> None:
    """BRIN or BRIN6, known sectors, a party as SIS."""
    assert problems(School, school(**changes))
    assert School.model_validate(school(id="99PA01"))


def test_a_board_has_a_register_on_the_web() -> None:
    """The audit points to it."""
    assert problems(Board, board(processing_register="register.docx")) == [
        "processing_register: must be an https:// address"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accepted_by": None}, "accepted_by: is missing, and the state is accepted"),
        ({"mandate": None}, "mandate: is missing, and the state is accepted"),
        ({"mandate": None, "state": "revoked"}, "mandate: is missing, and the state is revoked"),
        ({"receiver": "uitgeverij-delta"}, "receiver: is the sender itself"),
        ({"at": "2026-07-01T10:00:00"}, "at"),
        ({"state": "on"}, "state"),
        ({"side": "school"}, "side"),
        ({"products": []}, "products"),
        ({"products": "some"}, "products"),
        ({"service": "Usage"}, "service"),
    ],
)
def test_a_connection_side_with_a_mistake_is_refused(changes: dict[str, Any], message: str) -> None:
    """An acceptance says by whom, and by whose mandate; times have a zone."""
    assert message in "\n".join(problems(ConnectionSide, side(**changes)))


def test_an_offer_needs_nobody_who_accepted_it() -> None:
    """Not before it is accepted."""
    assert ConnectionSide.model_validate(side(state="offered", accepted_by=None, mandate=None))


def test_entries_can_not_be_changed() -> None:
    """A registry that was checked stays as it was checked."""
    with pytest.raises(ValidationError):
        Party.model_validate(party()).name = "Other"  # type: ignore[misc]


def test_names_of_the_brokers_own_users_are_no_party_ids() -> None:
    """A party of that name would have a service's consumer groups and rights."""
    assert access.RESERVED <= RESERVED
