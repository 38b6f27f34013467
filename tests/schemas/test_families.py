"""The shipped families: their kinds, what each may hold, and the order in which one sender may tell of an object."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import pytest

from broker.policy import Routes
from broker.schemas import PERSONAL, Family, Kind, catalogue

FAMILIES = {name: catalogue().family(name) for name, _ in catalogue().families}
KINDS = [(family, kind) for family in FAMILIES.values() for kind in family.kinds.values()]

# By hand, from domain.md section 4.
KIND_NAMES = {
    "order": "ORDER CHANGE CANCEL DELIVERY_ADDRESS LINE LINE_CHANGE LINE_CANCEL CREDIT"
    " CONFIRMED DECLINED SHIPPED BACKORDER RETURNED CREDITED",
    "licence": "GRANT CONFIRM CHANGE ACTIVATE BLOCK REVOKE REINSTATE EXPIRE TRANSFER",
    "usage": "ACTIVATION USE PROGRESS RETRACT",
    "result": "RESULT CORRECTION RETRACT RECEIPT",
    "identity": "ENROL CHANGE LEAVE MERGE REPLACE ERASE",
    "roster": "GROUP MEMBERSHIP SUBJECT_TAUGHT LEAVE",
    "connection": "OFFER ACCEPT DECLINE REVOKE",
    "control": "DESTROY_REQUEST DESTROY_CONFIRM STATUS SEED_REQUEST SEED_DONE",
}
PROPERTIES = {  # product, object, revision, dated, digital, addressees
    "order": ("product_id", "order_id", "revision", None, "material", ()),
    "licence": ("product_id", "entitlement_id", "revision", None, True, ()),
    "usage": ("product_id", "usage_id", "revision", None, True, ()),
    "result": ("product_id", "result_id", "revision", "assessment_date", True, ()),
    "identity": (None, None, None, None, False, ()),
    "roster": ("product_id", None, None, None, True, ()),
    "connection": (None, "connection_id", None, None, False, ("sender", "receiver")),
    "control": (None, "control_id", None, None, False, ("other_party",)),
}
# What one sender may say of one object: some stories that may be told, and some that may not.
STORIES = {
    "order": [
        "ORDER CHANGE CHANGE CANCEL",
        "ORDER DELIVERY_ADDRESS CHANGE DELIVERY_ADDRESS CANCEL",
        "DELIVERY_ADDRESS DELIVERY_ADDRESS",
        "LINE LINE_CHANGE LINE_CANCEL",
        "LINE CREDIT CREDIT LINE_CANCEL CREDIT",
        "CONFIRMED SHIPPED RETURNED CREDITED",
        "BACKORDER CONFIRMED SHIPPED SHIPPED",
        "DECLINED CONFIRMED SHIPPED",
        "SHIPPED RETURNED CREDITED RETURNED",
    ],
    "licence": [
        "GRANT CHANGE BLOCK REINSTATE CHANGE TRANSFER REVOKE",
        "GRANT BLOCK REVOKE",
        "GRANT EXPIRE",
        "GRANT TRANSFER TRANSFER EXPIRE",
        "CONFIRM CONFIRM ACTIVATE CONFIRM",
        "ACTIVATE CONFIRM",
    ],
    "result": ["RESULT CORRECTION CORRECTION RETRACT", "RESULT RETRACT", "RECEIPT RECEIPT"],
    "usage": ["USE USE RETRACT", "ACTIVATION ACTIVATION RETRACT", "PROGRESS PROGRESS RETRACT", "USE PROGRESS USE"],
}
NOT_STORIES = {
    "order": [
        "CHANGE", "CANCEL", "ORDER ORDER", "ORDER CANCEL CHANGE", "ORDER CANCEL CANCEL", "ORDER LINE", "LINE CANCEL",
        "LINE_CHANGE", "LINE LINE_CANCEL LINE_CHANGE", "CREDIT", "RETURNED", "CREDITED", "ORDER SHIPPED",
        "CONFIRMED CHANGE", "DELIVERY_ADDRESS ORDER", "LINE DELIVERY_ADDRESS",
    ],
    "licence": [
        "CHANGE", "BLOCK", "REVOKE", "GRANT GRANT", "GRANT REINSTATE", "GRANT BLOCK BLOCK", "GRANT BLOCK CHANGE",
        "GRANT REVOKE REINSTATE", "GRANT REVOKE REVOKE", "GRANT EXPIRE CHANGE", "ACTIVATE ACTIVATE", "GRANT ACTIVATE",
        "CONFIRM REVOKE",
    ],
    "result": [
        "CORRECTION", "RETRACT", "RESULT RESULT", "RESULT RETRACT CORRECTION", "RESULT RETRACT RETRACT",
        "RESULT RECEIPT", "RECEIPT CORRECTION",
    ],
    "usage": ["RETRACT", "USE RETRACT USE", "USE RETRACT RETRACT", "ACTIVATION RETRACT PROGRESS"],
}  # fmt: skip


def may_tell(family: Family, story: str) -> bool:
    """Whether one sender may say these kinds of one object, in this order."""
    names = story.split()
    return family.kinds[names[0]].first and all(
        before in family.kinds[after].after for before, after in pairwise(names)
    )


def types_of(family: Family) -> dict[str, Any]:
    """Field name -> type as written."""
    return {f["name"]: f["type"] for f in family.schema.document["fields"]}


def test_the_families_have_the_kinds_of_the_domain() -> None:
    """All of them and no others."""
    assert {name: set(family.kinds) for name, family in FAMILIES.items()} == {
        name: set(kinds.split()) for name, kinds in KIND_NAMES.items()
    }


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_properties_of_each_family_are_as_agreed(name: str) -> None:
    """Which fields name product, object, revision and day; whether it is about digital material; whom it concerns."""
    family = FAMILIES[name]
    assert PROPERTIES[name] == (
        family.product_field, family.object_field, family.revision_field, family.dated_field, family.digital,
        family.addressees,
    )  # fmt: skip


@pytest.mark.parametrize(("family", "kind"), KINDS, ids=lambda one: one.name)
def test_what_a_kind_needs_is_something_it_may_hold(family: Family, kind: Kind) -> None:
    """Required fields may be filled, and an essential attribute has a field that is required, so it can be there."""
    assert not set(kind.requires) & set(kind.unused)
    by_name = {f.name: f for f in family.schema.fields}
    for attribute in kind.essential:
        assert any(f.attribute == attribute and f.name in kind.requires for f in family.schema.fields), attribute
    assert all(by_name[name].nullable for name in kind.requires), "what can not be null needs no mention"
    if kind.needs_product:
        assert family.product_field not in kind.unused


@pytest.mark.parametrize(("family", "kind"), KINDS, ids=lambda one: one.name)
def test_a_kind_about_nobody_may_hold_nothing_of_a_person_by_name(family: Family, kind: Kind) -> None:
    """What has no subject has no names, addresses, scores or numbers either; only groups, codes and free group names."""
    if kind.subject != "none":
        return
    filled = {f.attribute for f in family.schema.fields if f.cls in PERSONAL and f.name not in kind.unused}
    assert filled <= {"groupId", "groupName", "schoolSubjectId", "level", "yearGroup"}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_field_is_of_use_to_some_kind(family: Family) -> None:
    """A field that no kind may fill would be there for nothing."""
    never = set.intersection(*(set(kind.unused) for kind in family.kinds.values()))
    assert not never


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_personal_field_is_null_by_default(family: Family) -> None:
    """So that it can be dropped, and its receiver reads null."""
    for declared in family.schema.document["fields"]:
        if "attribute" in declared:
            assert declared["type"][0] == "null", declared["name"]
            assert declared["default"] is None


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_no_business_field_has_room_for_a_sentence(family: Family) -> None:
    """A business text passes every policy, so it is an id or a code: none is called a name, a note or a comment."""
    for declared in family.schema.fields:
        if declared.cls == "business":
            assert not any(word in declared.name for word in ("name", "note", "comment", "text", "message", "email"))


@pytest.mark.parametrize("name", PROPERTIES)
def test_an_object_is_identified_by_a_uuid(name: str) -> None:
    """But for a connection, whose id people choose."""
    family = FAMILIES[name]
    if family.object_field is not None:
        assert (family.object_field in family.uuid_fields) == (name != "connection")
        assert not isinstance(types_of(family)[family.object_field], list)
    if family.revision_field is not None:
        assert types_of(family)[family.revision_field] == "int"


def test_the_day_of_a_result_is_that_of_the_test() -> None:
    """A result that was in flight when the pupil left is dated before the end."""
    assert not FAMILIES["result"].dated_in_ms
    assert types_of(FAMILIES["result"])["assessment_date"][1]["logicalType"] == "date"
    for kind in ("RESULT", "CORRECTION"):
        assert "assessment_date" in FAMILIES["result"].kinds[kind].requires


def test_whether_an_order_is_digital_is_said_each_time() -> None:
    """Law limits the ECK iD to digital material: a line that does not say what it is could carry it by mistake."""
    material = types_of(FAMILIES["order"])["material"]
    assert material["type"] == "enum"
    assert material["symbols"][0] == "DIGITAL"


@pytest.mark.parametrize(("name", "story"), [(n, s) for n, stories in STORIES.items() for s in stories])
def test_a_story_that_may_be_told(name: str, story: str) -> None:
    """One sender, one object, in this order."""
    assert may_tell(FAMILIES[name], story)


@pytest.mark.parametrize(("name", "story"), [(n, s) for n, stories in NOT_STORIES.items() for s in stories])
def test_a_story_that_may_not_be_told(name: str, story: str) -> None:
    """Nothing ends twice, nothing goes on after its end, and nobody answers himself."""
    assert not may_tell(FAMILIES[name], story)


@pytest.mark.parametrize("name", STORIES)
def test_the_stories_use_every_step_of_every_kind(name: str) -> None:
    """Each kind can be reached, and none is reached from a kind that other senders say."""
    family = FAMILIES[name]
    assert all(kind.ordered for kind in family.kinds.values())
    told = {kind for story in STORIES[name] for kind in story.split()}
    assert told == set(family.kinds)
    roles: dict[str, set[str]] = {}
    for route in Routes.load():
        for kind in route.kinds if route.family == name else ():
            roles.setdefault(kind, set()).add(route.sender_role)
    for before, after in product(family.kinds, family.kinds.values()):
        if before in after.after:
            assert roles[before] & roles[after.name], f"{after.name} after {before}"


def test_what_is_a_fact_or_kept_elsewhere_has_no_order() -> None:
    """Roster counts no versions; the vault and the registry hold enrolments and connections themselves."""
    for name in FAMILIES.keys() - STORIES.keys():
        assert not any(kind.ordered for kind in FAMILIES[name].kinds.values())


def test_after_an_end_nothing_is_said_that_begins_the_object_anew() -> None:
    """What ends an object is followed by nothing, but for the credit of a line that was cancelled."""
    after_an_end = {
        (family.name, kind.name)
        for family, kind in KINDS
        if any(before in family.ending for before in kind.after)
    }  # fmt: skip
    assert after_an_end == {("order", "CREDIT")}
    assert {(family.name, name) for family in FAMILIES.values() for name in family.ending} == {
        ("licence", "REVOKE"), ("licence", "EXPIRE"), ("order", "CANCEL"), ("order", "LINE_CANCEL"),
        ("result", "RETRACT"), ("usage", "RETRACT"), ("roster", "LEAVE"),
    }  # fmt: skip


@pytest.mark.parametrize(("family", "kind"), KINDS, ids=lambda one: one.name)
def test_a_kind_that_names_its_object_itself_names_it_by_what_it_may_hold(family: Family, kind: Kind) -> None:
    """A field that is always null would make all objects one, and so would a subject that is nobody."""
    for name in kind.object:
        assert name not in kind.unused
        assert name != "subject" or kind.subject == "required"


def test_usage_remembers_corrections_and_the_others_all() -> None:
    """A million first versions a day would push out everything else."""
    assert {name for name, family in FAMILIES.items() if family.remembers == "corrections"} == {"usage"}
    assert {family.remembers for family in FAMILIES.values()} == {"corrections", "all"}


def test_a_delivery_address_is_an_event_of_its_own() -> None:
    """No other kind of order has room for it, and it has room for little else."""
    family = FAMILIES["order"]
    for kind in family.kinds.values():
        private = {"home_address", "given_name", "family_name_prefix", "family_name"}
        assert private.isdisjoint(kind.unused) == (kind.name == "DELIVERY_ADDRESS")
        if kind.name != "DELIVERY_ADDRESS":
            assert private <= set(kind.unused)


def test_a_shops_orders_at_a_publisher_are_about_nobody() -> None:
    """Domain, section 4: no pupil field at all."""
    for kind in ("LINE", "LINE_CHANGE", "LINE_CANCEL", "CREDIT"):
        assert FAMILIES["order"].kinds[kind].subject == "none"


def test_who_leaves_a_group_takes_nothing_along() -> None:
    """LEAVE tells that access ends, and nothing else."""
    leave = FAMILIES["roster"].kinds["LEAVE"]
    nullable = {f.name for f in FAMILIES["roster"].schema.fields}
    assert set(leave.unused) == nullable - {"product_id"}


def test_what_a_school_tells_of_consents_goes_nowhere_but_to_the_vault() -> None:
    """R24, R26: flags and consents are in identity alone."""
    for name, family in FAMILIES.items():
        here = {"contactFlags", "ageGroup", "consents"} & set(family.attributes)
        assert bool(here) == (name == "identity")


def test_of_an_enrolment_no_date_is_asked_but_the_last_day() -> None:
    """R28: nothing depends on the first one. An order for who comes in August goes on once he is enrolled."""
    dates = [f["name"] for f in FAMILIES["identity"].schema.document["fields"] if "logicalType" in str(f["type"])]
    assert dates == ["left_on"]
