"""What an operator may write down about parties, schools, agreements and connections."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.audit.log.note import Cosigner, Signer
from broker.kafka import access
from broker.policy.document import problems_of
from broker.policy.words import PROCESSES, PRODUCT_TYPES
from broker.registry import (
    Agreement,
    Board,
    ConnectionSide,
    KeyInUse,
    Party,
    PublicKey,
    RegistryDocument,
    School,
    Succession,
    Suspension,
    TemporaryException,
)
from broker.registry.models import KINDS, LOCAL_IDS, RESERVED, Entry, key_of
from broker.registry.registry import record_of
from tests.registry.entries import (
    BOOK,
    OTHER_BOOK,
    TODAY,
    agreement,
    board,
    exception,
    jwk,
    party,
    school,
    side,
    succession,
)

# R16, and what the domain adds to it: each of these must be there.
REQUIRED = (
    "id", "version", "model", "board", "schools", "party", "products", "processes", "attributes", "access",
    "storage_country", "retention", "privacy_contact", "incident_contact", "security_measures",
    "incident_arrangements", "subprocessors", "valid_from", "valid_until",
)  # fmt: skip


OF_A_PROCESSOR = ("model", "incident_arrangements", "subprocessors")


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
    assert required == set(REQUIRED) - set(OF_A_PROCESSOR)


def controller(**changes: Any) -> dict[str, Any]:
    """A shop in its own right: a notice, and nothing that only a processor has."""
    given = {"position": "controller", "notice": "https://winkel.example/privacy"}
    return agreement(**given | dict.fromkeys(OF_A_PROCESSOR, ...) | changes)


def test_a_controller_has_a_notice_instead_of_a_processor_agreement() -> None:
    """Domain, section 10.13: where parents or adult students buy; whoever says nothing is a processor."""
    assert Agreement.model_validate(agreement()).position == "processor"
    found = Agreement.model_validate(controller())
    assert (found.position, found.model, found.subprocessors) == ("controller", None, None)
    assert problems(Agreement, controller(notice=...)) == ["notice: is missing"]
    assert problems(Agreement, controller(notice="http://winkel.example")) == ["notice: must be an https:// address"]
    assert problems(Agreement, controller(position="joint"))[0].startswith("position: ")


@pytest.mark.parametrize("field", [name for name in REQUIRED if name not in OF_A_PROCESSOR])
def test_a_controller_tells_all_the_rest(field: str) -> None:
    """R16 asks what, who, where and how long of everybody."""
    assert problems(Agreement, controller(**{field: ...})) == [f"{field}: is missing"]


@pytest.mark.parametrize("name", sorted(LOCAL_IDS))
def test_a_local_id_needs_its_last_day(name: str) -> None:
    """R13: the hybrid period ends, for each agreement on a day that it tells; not later than the agreement itself."""
    with_id = agreement(attributes=["yearGroup", name])
    assert problems(Agreement, with_id) == [f"document: local_ids_until: is missing, and attributes names {name} (R13)"]
    assert problems(Agreement, with_id | {"local_ids_until": "2027-08-01"}) == [
        "document: local_ids_until: lies after valid_until"
    ]
    assert Agreement.model_validate(with_id | {"local_ids_until": "2027-07-31"})


@given(
    st.permutations([*sorted(LOCAL_IDS), "yearGroup", "groupId"]),
    st.integers(0, 5),
    st.dates(date(2026, 1, 1), date(2027, 7, 31)),
    st.dates(date(2025, 1, 1), date(2028, 12, 31)),
)
def test_local_ids_are_named_until_their_last_day(names: list[str], many: int, until: date, on: date) -> None:
    """On it they still are, a day later only the others; these are always named, in their order."""
    chosen = tuple(names[:many])
    found = Agreement.model_validate(agreement(attributes=chosen, local_ids_until=until))
    others = tuple(name for name in chosen if name not in LOCAL_IDS)
    assert found.named(on) == (chosen if on <= until else others)


def test_an_agreement_without_local_ids_names_the_same_every_day() -> None:
    """Nothing of it ends before the agreement does."""
    found = Agreement.model_validate(agreement())
    assert found.named(found.valid_from) == found.named(found.valid_until) == ("yearGroup",)


def test_the_agreement_says_for_which_products_a_parent_is_asked() -> None:
    """R26: free tools; bought material needs no consent. What it does not know gets the stricter word."""
    free = {"id": OTHER_BOOK, "type": "ordinary", "does": "woordspel", "consent": "under-16"}
    bought = {"id": BOOK, "type": "ordinary", "does": "rekenen"}
    both = Agreement.model_validate(agreement(products=[bought, free]))
    assert both.consent_for(BOOK) == "not-needed"
    assert both.consent_for(OTHER_BOOK) == "under-16"
    assert both.consent_for("9780306406157") == "under-16"
    assert both.consent_for(None) == "not-needed"
    assert Agreement.model_validate(agreement(products=[free])).consent_for(None) == "under-16"
    assert problems(Agreement, agreement(products=[free | {"consent": "always"}]))[0].startswith("products[0].consent")


def test_an_agreement_may_be_for_one_location() -> None:
    """BRIN6: events of exactly that location; an agreement for the school is for all of its locations."""
    one = Agreement.model_validate(agreement(schools=["99PA01"]))
    assert one.covers("99PA", BOOK, "Gebruik", TODAY, "99PA01")
    assert not one.covers("99PA", BOOK, "Gebruik", TODAY, "99PA00")
    assert not one.covers("99PA", BOOK, "Gebruik", TODAY)
    for schools in (["99PA"], "all of board"):
        assert Agreement.model_validate(agreement(schools=schools)).covers("99PA", BOOK, "Gebruik", TODAY, "99PA01")


@pytest.mark.parametrize(("product_type", "process"), list(product(PRODUCT_TYPES, PROCESSES)))
def test_every_product_type_and_process_can_be_agreed(product_type: str, process: str) -> None:
    """The words of the policy are the words of agreements."""
    found = Agreement.model_validate(
        agreement(
            products=[{"id": BOOK, "type": product_type, "does": "x"}],
            processes=[{"process": process, "purpose": "x", "basis": "publieke_taak"}],
        )
    )
    assert found.product_type(BOOK) == product_type
    assert [p for p in PROCESSES if found.covers("99PA", BOOK, p, TODAY)] == [process]


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


def count_key(name: str = "portaal-plein", seed: bytes = b"k", kind: type[Signer | Cosigner] = Signer) -> str:
    """A key of signed counts, as text."""
    return kind(name, Ed25519PrivateKey.from_private_bytes(seed * 32)).vkey


def test_the_keys_of_a_partys_counts_are_its_own() -> None:
    """Several overlap while rotation lasts; a party that does not count has none, and nothing of it in its record."""
    both = [count_key(), count_key(seed=b"l")]
    made = Party.model_validate(party(count_keys=both))
    assert [key.vkey for key in made.count_verifiers()] == both
    silent = Party.model_validate(party())
    assert silent.count_verifiers() == []
    assert b"count_keys" not in record_of(silent)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([count_key(name="portaal-dom")], "count_keys[0]: must be named portaal-plein"),
        ([count_key(), count_key(seed=b"l")[:-4] + "AAAA"], "count_keys[1]: the key id of a verifier key does not"),
        (["a secret"], "count_keys[0]: a verifier key is not"),
        ([count_key(kind=Cosigner)], "count_keys[0]: is the key of a witness"),
        ([count_key(), count_key()], "count_keys: names something twice"),
        ([], "count_keys"),
    ],
    ids=["another-party", "damaged", "no-key", "witness", "twice", "none"],
)
def test_a_wrong_count_key_is_refused(keys: list[str], message: str) -> None:
    """By its place, and never by what stands there: it may be a private key."""
    found = "\n".join(problems(Party, party(count_keys=keys)))
    assert message in found
    assert "a secret" not in found


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mandated_until": "2024-07-31"}, "mandated_until: lies before mandated_from"),
        ({"locations": ["99PB00"]}, "locations: 99PB00 is no location of 99PA"),
        ({"locations": ["99PA"]}, "locations[0]: must be a BRIN6"),
        ({"locations": ["99PA00", "99PA00"]}, "locations: names something twice"),
        ({"id": "99PA01", "locations": ["99PA01"]}, "locations: 99PA01 is no location of 99PA01"),
        ({"id": "99PA01", "locations": ["99PA02"]}, "locations: 99PA02 is no location of 99PA01"),
        ({"formerly": ["99PA"]}, "formerly: 99PA is what it is called now"),
        ({"formerly": ["99PB", "99PB"]}, "formerly: names something twice"),
        ({"formerly": ["school"]}, "formerly[0]: must be a BRIN"),
        ({"sectors": ["PO", "PO"]}, "sectors: names something twice"),
    ],
)
def test_a_school_with_wrong_locations_names_or_days_is_refused(changes: dict[str, Any], message: str) -> None:
    """A location begins with the school's BRIN; a location that is registered itself has none."""
    assert message in "\n".join(problems(School, school(**changes)))


def test_a_mandate_holds_from_its_first_day_through_its_last() -> None:
    """For the school's SIS, and for nobody else; without a last day it goes on."""
    found = School.model_validate(school(mandated_until="2027-07-31", locations=["99PA00", "99PA01"]))
    days = {date(2024, 7, 31): False, date(2024, 8, 1): True, date(2027, 7, 31): True, date(2027, 8, 1): False}
    assert {day: found.mandated("sis-noord", day) for day in days} == days
    assert not any(found.mandated("sis-zuid", day) for day in days)
    assert School.model_validate(school()).mandated("sis-noord", date(2099, 1, 1))


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
        ({"process": "Bestellen"}, "process"),
        ({"location": "99PB00"}, "location: 99PB00 is no location of 99PA"),
        ({"location": "99PA"}, "location: must be a BRIN6"),
    ],
)
def test_a_connection_side_with_a_mistake_is_refused(changes: dict[str, Any], message: str) -> None:
    """An acceptance says by whom, and by whose mandate; times have a zone."""
    assert message in "\n".join(problems(ConnectionSide, side(**changes)))


def test_an_offer_needs_nobody_who_accepted_it() -> None:
    """Not before it is accepted."""
    assert ConnectionSide.model_validate(side(state="offered", accepted_by=None, mandate=None))


def test_a_connection_says_for_which_process_it_is() -> None:
    """Domain, section 10.12: a connection names service, products, process and, where wanted, the location."""
    document = side()
    del document["process"]
    assert problems(ConnectionSide, document) == ["process: is missing"]
    about = ConnectionSide.model_validate(side(location="99PA01")).about()
    assert about == ("99PA", "uitgeverij-delta", "portaal-plein", "usage", "Gebruik", "99PA01")


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-07-01T00:00:00+02:00", date(2026, 7, 1)),
        ("2026-06-30T22:00:00Z", date(2026, 7, 1)),
        ("2026-06-30T21:59:59Z", date(2026, 6, 30)),
        ("2026-12-31T22:59:59Z", date(2026, 12, 31)),
        ("2026-12-31T23:00:00Z", date(2027, 1, 1)),
    ],
)
def test_the_day_of_a_side_is_one_of_the_netherlands(at: str, day: date) -> None:
    """One moment is one day, in whatever zone somebody wrote it."""
    assert ConnectionSide.model_validate(side(at=at)).day == day


ENDED: dict[str, Any] = {"at": "2026-10-01T10:00:00Z", "accepted_by": "uitgeverij-delta", "mandate": "sis-noord"}


@pytest.mark.parametrize("state", ["offered", "declined"])
@pytest.mark.parametrize("now", [{}, {"accepted_by": "sis-noord", "mandate": "sis-noord"}])
def test_a_side_that_was_revoked_still_says_how_it_ended_whatever_is_said_of_it_later(
    state: str, now: dict[str, Any]
) -> None:
    """When, who had accepted it under whose mandate, and for what; beside what is said of it now."""
    none = {"accepted_by": None, "mandate": None}
    ended = ENDED | {"products": [BOOK]}
    later = ConnectionSide.model_validate(side(state=state, at="2026-11-01T10:00:00Z", ended=ended, **none | now))
    then = ConnectionSide.model_validate(side(state="revoked", **ended))
    assert later.acceptances() == (then,)
    assert later.ending() == then.ending() == later.ended
    assert later.products == "all"


def test_a_side_says_of_itself_whether_it_was_ever_accepted() -> None:
    """Accepted: it is. Revoked: it was, as it stands. Offered or declined and nothing else: never. Then what was before."""
    stands = {
        state: ConnectionSide.model_validate(side(state=state))
        for state in ("accepted", "revoked", "offered", "declined")
    }
    assert {state: one.acceptances() for state, one in stands.items()} == {
        "accepted": (stands["accepted"],), "revoked": (stands["revoked"],), "offered": (), "declined": (),
    }  # fmt: skip
    anew = ConnectionSide.model_validate(side(state="accepted", ended=ENDED))
    assert [(one.state, one.at) for one in anew.acceptances()] == [("accepted", anew.at), ("revoked", anew.ended.at)]
    endings = {state: one.ending() for state, one in stands.items()}
    revoked = endings.pop("revoked")
    assert revoked is not None
    assert revoked.at == stands["revoked"].at
    assert set(endings.values()) == {None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ended": ENDED, "state": "revoked"}, "ended: a side that is revoked says itself how it ended"),
        ({"accepted_at": "2026-06-01T10:00:00Z"}, "accepted_at: is of a revoked side"),
        ({"accepted_at": "2026-06-01T10:00:00Z", "state": "offered"}, "accepted_at: is of a revoked side"),
        ({"accepted_at": "2099-06-01T10:00:00Z", "state": "revoked"}, "accepted_at: is of a revoked side"),
        ({"ended": ENDED | {"mandate": None}, "state": "offered"}, "ended.mandate"),
        ({"ended": ENDED | {"accepted_by": None}, "state": "offered"}, "ended.accepted_by"),
        ({"ended": ENDED | {"at": "2026-10-01T10:00:00"}, "state": "offered"}, "ended.at"),
        ({"ended": ENDED | {"products": []}, "state": "offered"}, "ended.products"),
    ],
)
def test_an_end_with_a_mistake_is_refused(changes: dict[str, Any], message: str) -> None:
    """A side that is revoked is its own end; an end is complete, since the closing term hangs on it."""
    assert message in "\n".join(problems(ConnectionSide, side(**changes)))


# ---- exceptions and successions


def test_an_exception_says_all_that_r21_asks() -> None:
    """What, for whom, why, by whose word, when parents knew, from when until when."""
    for field in exception():
        document = exception()
        del document[field]
        assert f"{field}: is missing" in problems(TemporaryException, document)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"school": "all of board"}, "board: belongs to `school: all of board`"),
        ({"board": "horizon"}, "board: belongs to `school: all of board`"),
        ({"end": "2026-11-15"}, "end: lies before start"),
        ({"end": "2027-11-17"}, "end: makes it longer than 366 days"),
        ({"parents_informed_on": "2026-11-17"}, "parents_informed_on: lies after start"),
        ({"attributes": []}, "attributes"),
        ({"attributes": ["groupId", "groupId"]}, "attributes: names something twice"),
        ({"process": "Inloggen"}, "process"),
        ({"reason": "   "}, "reason"),
        ({"reason": "voor leerling 182071649"}, "reason: goes into the audit for ever"),
        ({"approved_by": "182071649"}, "approved_by: goes into the audit for ever"),
    ],
)
def test_an_exception_with_a_mistake_is_refused(changes: dict[str, Any], message: str) -> None:
    """R21: temporary, with the parents informed before it begins."""
    found = "\n".join(problems(TemporaryException, exception(**changes)))
    assert message in found
    assert "182071649" not in found


@given(st.dates(date(2020, 1, 1), date(2030, 1, 1)), st.integers(0, 365), st.integers(-400, 800))
def test_an_exception_lasts_from_its_first_day_through_its_last(start: date, days: int, later: int) -> None:
    """And ends by itself."""
    end = start + timedelta(days=days)
    found = TemporaryException.model_validate(exception(start=start, end=end, parents_informed_on=start))
    assert found.lasts(start + timedelta(days=later)) is (0 <= later <= days)


def test_an_exception_may_be_for_all_schools_of_a_board() -> None:
    """Which must be said."""
    found = TemporaryException.model_validate(exception(school="all of board", board="horizon"))
    assert (found.school, found.board) == ("all of board", "horizon")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"successor": "horizon"}, "successor: is the predecessor itself"),
        ({"what": "party"}, "what"),
        ({"what": "school"}, "predecessor: must be a BRIN"),
        ({"what": "school", "predecessor": "99PA"}, "successor: must be a BRIN"),
        ({"identities": "end"}, "identities: are the schools' own"),
        ({"agreements": "keep"}, "agreements"),
        ({"reason": "182071649"}, "reason: goes into the audit"),
    ],
)
def test_a_succession_with_a_mistake_is_refused(changes: dict[str, Any], message: str) -> None:
    """What goes over and what ends is said for each, explicitly."""
    assert message in "\n".join(problems(Succession, succession(**changes)))


@pytest.mark.parametrize("field", sorted(succession()))
def test_a_succession_says_everything(field: str) -> None:
    """Nothing goes over by silence."""
    document = succession()
    del document[field]
    assert problems(Succession, document) == [f"{field}: is missing"]


def test_every_kind_of_entry_has_a_key_of_its_own() -> None:
    """And a section in the document of a folder; but for suspensions and keys in use, of which no file says anything."""
    made = [
        Party.model_validate(party()), Board.model_validate(board()), School.model_validate(school()),
        Agreement.model_validate(agreement()), TemporaryException.model_validate(exception()),
        ConnectionSide.model_validate(side()), Succession.model_validate(succession()),
        Suspension(id="portaal-plein", since=datetime(2026, 11, 24, tzinfo=UTC), reason="stolen", by="operator"),
        KeyInUse(id="vault-records", version="vault-records.2", since=datetime(2026, 11, 30, tzinfo=UTC)),
    ]  # fmt: skip
    assert [type(entry) for entry in made] == list(KINDS.values()) == list(get_args(Entry))
    assert [key_of(entry).split("/")[0] for entry in made] == list(KINDS)
    document = RegistryDocument(
        parties=(made[0],), boards=(made[1],), schools=(made[2],), agreements=(made[3],), exceptions=(made[4],),
        connections=(made[5],), successions=(made[6],),
    )  # fmt: skip
    assert list(document.entries()) == made[:-2]


def test_entries_can_not_be_changed() -> None:
    """A registry that was checked stays as it was checked."""
    with pytest.raises(ValidationError):
        Party.model_validate(party()).name = "Other"  # type: ignore[misc]


def test_a_party_may_have_a_quota_of_its_own_within_bounds() -> None:
    """Either number alone; a party without one has the record that it had before there were quotas."""
    made = Party.model_validate(party(quota={"in_bytes_per_s": 40_000_000}))
    assert made.quota is not None
    assert (made.quota.in_bytes_per_s, made.quota.out_bytes_per_s) == (40_000_000, None)
    assert b"quota" not in record_of(Party.model_validate(party()))
    for wrong in (0, -1, 9_999, 1_000_000_001):
        assert problems(Party, party(quota={"out_bytes_per_s": wrong}))[0].startswith("quota.out_bytes_per_s: ")
    assert problems(Party, party(quota={"in_kb_per_s": 1})) == ["quota.in_kb_per_s: is not a known field"]


def test_names_of_the_brokers_own_users_are_no_party_ids() -> None:
    """A party of that name would have a service's consumer groups and rights."""
    assert access.RESERVED <= RESERVED
