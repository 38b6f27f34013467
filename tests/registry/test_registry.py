"""What the gates ask of the registry."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.data import data_path
from broker.errors import ConfigError
from broker.policy import Policy, Routes
from broker.registry import Agreement, ConnectionSide, Party, Registry, School, load, receivable_families
from broker.registry.models import Entry, key_of
from broker.registry.registry import POLICY_KEY, ROUTES_KEY, parse_record, record_of
from tests.registry.entries import BOOK, OTHER_BOOK, TODAY, agreement, entries, party, school, side

LINK = ("99PA", "uitgeverij-delta", "portaal-plein", "usage")


def records(found: Iterable[Entry]) -> dict[str, bytes | None]:
    """As they stand on Kafka, policy and routes with them."""
    return {
        POLICY_KEY: Policy.load().record(),
        ROUTES_KEY: Routes.load().record(),
        **{key_of(entry): record_of(entry) for entry in found},
    }


def registry(**changes: Any) -> Registry:
    """A small registry with changed entries."""
    return Registry.from_records(records(entries(**changes)))


@pytest.fixture(scope="module")
def demo() -> Registry:
    """The example that ships."""
    return load(data_path("examples") / "registry")


# ---- connections


def test_a_link_that_both_sides_accepted_is_on() -> None:
    """For its school, parties and service; and for nothing else."""
    found = registry()
    assert found.connected(*LINK, BOOK)
    assert found.connected(*LINK, None)
    assert found.connection_exists(*LINK)
    assert found.connected_receivers("99PA", "uitgeverij-delta", "usage") == ("portaal-plein",)
    assert not found.connected("99PB", *LINK[1:], BOOK)
    assert not found.connected("99PA", "portaal-plein", "uitgeverij-delta", "usage", BOOK)
    assert not found.connected("99PA", "uitgeverij-delta", "sis-noord", "usage", BOOK)
    assert not found.connected(*LINK[:3], "result", BOOK)


@pytest.mark.parametrize("which", ["sender", "receiver"])
@pytest.mark.parametrize(
    "changes",
    [
        {"state": "offered"},
        {"state": "declined"},
        {"state": "revoked"},
        {"accepted_by": "uitgeverij-oost"},  # not this side's party, not the school's SIS
        {"mandate": "sis-zuid"},  # not the SIS that the board gave its mandate
        {"mandate": "portaal-plein"},
        {"at": "2024-07-31T23:59:59Z"},  # before the mandate began
        {"receiver": "sis-noord"},  # the sides speak of different links
        {"school": "99PB"},
        {"service": "result"},
    ],
)
def test_one_side_that_does_not_count_switches_the_link_off(which: str, changes: dict[str, Any]) -> None:
    """R5: both sides, each by its own party or the school's SIS, each under the board's mandate."""
    assert not registry(**{which: changes}).connected(*LINK, BOOK)


def test_each_side_may_be_accepted_by_the_schools_administration() -> None:
    """In the place of a party that has no screen for it."""
    found = registry(sender={"accepted_by": "sis-noord"}, receiver={"accepted_by": "sis-noord"})
    assert found.connected(*LINK, BOOK)


@pytest.mark.parametrize(("which", "by"), [("sender", "portaal-plein"), ("receiver", "uitgeverij-delta")])
def test_a_party_can_not_accept_the_other_side(which: str, by: str) -> None:
    """A supplier that says yes for both has no connection."""
    assert not registry(**{which: {"accepted_by": by}}).connected(*LINK, BOOK)


def test_another_administration_switches_links_off_until_it_confirms_them() -> None:
    """The mandate is the board's to give: what the former SIS said does not hold any more."""
    found = registry(school={"sis": "sis-zuid"})
    assert not found.connected(*LINK, BOOK)
    confirmed = {"mandate": "sis-zuid"}
    assert registry(school={"sis": "sis-zuid"}, sender=confirmed, receiver=confirmed).connected(*LINK, BOOK)


@pytest.mark.parametrize("which", ["sender", "receiver"])
def test_half_a_connection_is_none(which: str) -> None:
    """One record alone grants nothing, also while the other is still on its way."""
    found = registry().with_changes({f"connection/c1/{which}": None})
    assert not found.connected(*LINK, BOOK)
    assert not found.connection_exists(*LINK)


def test_a_connection_is_for_the_products_that_both_sides_name() -> None:
    """Their intersection; a link without any common product is off."""
    found = registry(sender={"products": [BOOK, OTHER_BOOK]}, receiver={"products": [BOOK]})
    assert found.connected(*LINK, BOOK)
    assert not found.connected(*LINK, OTHER_BOOK)
    assert found.connected(*LINK, None)
    apart = registry(sender={"products": [OTHER_BOOK]}, receiver={"products": [BOOK]})
    assert not apart.connected(*LINK, None)
    assert apart.connected_receivers("99PA", "uitgeverij-delta", "usage") == ()


def test_a_revoked_link_is_off_but_was_there() -> None:
    """Closing kinds still pass for a while; a link that was only offered or declined never was."""
    found = registry(receiver={"state": "revoked"})
    assert not found.connected(*LINK, BOOK)
    assert found.connection_exists(*LINK)
    for state in ("offered", "declined"):
        assert not registry(receiver={"state": state}).connection_exists(*LINK)


# ---- agreements


def test_the_agreement_must_cover_school_product_process_and_day() -> None:
    """Gate 2, on the first and the last day too."""
    found = registry()
    assert found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY) is not None
    assert found.agreement("99PA", "portaal-plein", None, "Gebruik", TODAY) is not None
    assert found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", date(2027, 7, 31)) is not None
    assert found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", date(2027, 8, 1)) is None
    assert found.agreement("99PA", "portaal-plein", OTHER_BOOK, "Gebruik", TODAY) is None
    assert found.agreement("99PA", "portaal-plein", BOOK, "Toegang", TODAY) is None
    assert found.agreement("99PA", "sis-noord", BOOK, "Gebruik", TODAY) is None
    assert found.agreement("99ZZ", "portaal-plein", BOOK, "Gebruik", TODAY) is None


def test_an_agreement_of_another_board_does_not_count() -> None:
    """Even if it names the school: a board decides over its own schools only."""
    foreign = registry(agreement={"board": "elders", "schools": ["99PA"]})
    assert foreign.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY) is None


def test_the_newest_agreement_wins() -> None:
    """By its first day, then its version as a number."""
    newer = [
        Agreement.model_validate(agreement(id="vwo-2", valid_from="2026-08-01")),
        Agreement.model_validate(agreement(id="vwo-3", valid_from="2026-08-01", version="1.10")),
        Agreement.model_validate(agreement(id="vwo-4", valid_from="2026-08-01", version="1.9")),
        Agreement.model_validate(agreement(id="vwo-5", valid_from="2027-01-01")),
    ]
    found = Registry.from_records(records([*entries(), *newer]))
    chosen = found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY)
    assert chosen is not None
    assert chosen.id == "vwo-3"
    assert found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY) is chosen  # remembered
    before = found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", date(2026, 7, 31))
    assert before is not None
    assert before.id == "vwo-1"


def test_products_are_known_by_agreements() -> None:
    """Per school, receiver and process; a product of any agreement is known."""
    found = registry()
    assert found.products("99PA", "portaal-plein", "Gebruik") == {BOOK}
    assert found.products("99PA", "portaal-plein", "Toegang") == frozenset()
    assert found.products("99ZZ", "portaal-plein", "Gebruik") == frozenset()
    assert found.known_product(BOOK)
    assert not found.known_product(OTHER_BOOK)


# ---- who serves whom


def test_a_party_serves_the_schools_that_it_has_to_do_with() -> None:
    """Its mandated SIS, an agreement, or a link that is on; all others get one and the same answer (P8)."""
    found = registry()
    assert found.serves("sis-noord", "99PA")
    assert found.serves("portaal-plein", "99PA")  # agreement
    assert found.serves("uitgeverij-delta", "99PA")  # link
    assert not found.serves("uitgeverij-oost", "99PA")
    assert not found.serves("sis-noord", "99ZZ")
    assert not registry(receiver={"state": "revoked"}).serves("uitgeverij-delta", "99PA")
    one_school = registry(agreement={"schools": ["99PB"]}, receiver={"state": "revoked"})
    assert not one_school.serves("portaal-plein", "99PA")


def test_a_mandate_that_has_not_begun_does_not_serve() -> None:
    """Where the caller says which day it is."""
    found = registry()
    assert found.serves("sis-noord", "99PA", date(2024, 8, 1))
    assert not found.serves("sis-noord", "99PA", date(2024, 7, 31))


def test_a_location_is_not_its_school() -> None:
    """BRIN and BRIN6 are two entries: permission for one is none for the other."""
    found = registry()
    assert found.school("99PA00") is None
    assert not found.connected("99PA00", *LINK[1:], BOOK)


# ---- records, versions, changes


def test_records_make_the_same_registry_again(demo: Registry) -> None:
    """Round trip: entry to record to entry, for every entry of the example."""
    for key, content in demo._contents.items():
        if isinstance(content, (Policy, Routes)):
            assert parse_record(key, content.record()).record() == content.record()  # type: ignore[union-attr]
        else:
            assert parse_record(key, record_of(content)) == content


def test_any_change_changes_the_version_and_only_a_change() -> None:
    """Equal records have equal versions, in whatever order and by whatever way they came."""
    all_records = records(entries())
    found = Registry.from_records(all_records)
    assert Registry.from_records(dict(reversed(all_records.items()))).version == found.version
    versions = {found.version}
    for key in all_records:
        fewer = found.with_changes({key: None})
        assert fewer.version not in versions
        versions.add(fewer.version)
        assert fewer.with_changes({key: all_records[key]}).version == found.version


def test_a_change_leaves_the_old_registry_as_it_was() -> None:
    """A lane that is in the middle of a batch sees one registry."""
    old = registry()
    new = old.with_changes({"connection/c1/sender": None})
    assert old.connected(*LINK, BOOK)
    assert not new.connected(*LINK, BOOK)
    assert new is not old
    assert new != old


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=25))
def test_changes_one_by_one_end_where_all_at_once_do(steps: list[tuple[int, bool]]) -> None:
    """A follower that joins later sees the same registry as one that saw every change."""
    keys = list(ALL)
    followed, stand = Registry.from_records({}), {}
    for number, there in steps:
        key = keys[number]
        value = ALL[key] if there else None
        followed = followed.with_changes({key: value})
        stand[key] = value
    at_once = Registry.from_records(stand)
    assert followed.version == at_once.version
    assert followed.connected(*LINK, BOOK) == at_once.connected(*LINK, BOOK)
    assert followed.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY) == at_once.agreement(
        "99PA", "portaal-plein", BOOK, "Gebruik", TODAY
    )


ALL = records(entries())


def changed(*found: Entry) -> Registry:
    """The small registry, in which these entries changed while it was followed."""
    return registry().with_changes({key_of(entry): record_of(entry) for entry in found})


def test_a_withdrawn_agreement_is_gone_at_once() -> None:
    """P7: removed, ended, or for another product: what was valid a moment ago is not any more."""
    asked = ("99PA", "portaal-plein", BOOK, "Gebruik", TODAY)
    assert registry().agreement(*asked) is not None
    removed = registry().with_changes({"agreement/vwo-1": None})
    assert removed.agreement(*asked) is None
    assert not removed.known_product(BOOK)
    assert not removed.with_changes({"connection/c1/sender": None}).serves("portaal-plein", "99PA")
    for changes in ({"valid_until": "2026-11-23"}, {"party": "sis-noord"}, {"board": "elders"}):
        assert changed(Agreement.model_validate(agreement(**changes))).agreement(*asked) is None
    moved = changed(Agreement.model_validate(agreement(party="sis-noord")))
    assert moved.agreement("99PA", "sis-noord", BOOK, "Gebruik", TODAY) is not None


def test_a_withdrawn_connection_is_off_at_once() -> None:
    """P7: revoked or moved to another school by one record, or the school's mandate went to another SIS."""
    for entry in (
        ConnectionSide.model_validate(side("receiver", state="revoked")),
        ConnectionSide.model_validate(side("receiver", school="99PB")),
        School.model_validate(school(sis="sis-zuid")),
        School.model_validate(school(mandated_from="2026-11-01")),
    ):
        found = changed(entry)
        assert not found.connected(*LINK, BOOK)
        assert found.connected_receivers("99PA", "uitgeverij-delta", "usage") == ()
        assert not found.serves("uitgeverij-delta", "99PA")


def test_what_did_not_change_is_not_worked_out_anew() -> None:
    """A change in a country of schools costs what it touches."""
    old = registry()
    new = old.with_changes({"party/nobody": None})
    assert new.policy is old.policy
    assert new.routes is old.routes
    assert new._links["99PA"] is old._links["99PA"]
    assert new._agreements is old._agreements


@pytest.mark.parametrize("missing", [POLICY_KEY, ROUTES_KEY, "school/99PA", "board/horizon", "party/sis-noord"])
def test_what_is_missing_grants_nothing(missing: str) -> None:
    """A follower may see half of a change for a moment: no error, and nothing more passes than before."""
    found = registry().with_changes({missing: None})
    assert found.version
    if missing == POLICY_KEY:
        assert not found.policy.projection("Gebruik", "PO", "PORTAL", "ordinary", ["eckId"], ["eckId"]).kept
    elif missing == ROUTES_KEY:
        assert found.routes.find("usage", "USE", ("PUBLISHER",)) == ()
    elif missing == "school/99PA":
        assert not found.connected(*LINK, BOOK)
        assert found.agreement("99PA", "portaal-plein", BOOK, "Gebruik", TODAY) is None
    elif missing == "board/horizon":
        assert found.board_of("99PA") is None
    else:
        assert found.party("sis-noord") is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("party/x", b"{", "party/x: 1 problem.\n  document: Invalid JSON"),
        ("party/portaal-plein", b'{"id":"portaal-plein"}', "party/portaal-plein"),
        ("toy/x", b"{}", "is of no kind that is known here"),
        ("", b"{}", "is of no kind that is known here"),
        ("party/other", record_of(Party.model_validate(party())), "stands another entry: party/portaal-plein"),
        ("connection/c1/receiver", record_of(ConnectionSide.model_validate(side())), "stands another entry"),
        ("school/99PB", record_of(School.model_validate(school())), "stands another entry: school/99PA"),
    ],
)
def test_a_record_that_is_not_what_its_key_says_is_refused(key: str, value: bytes, message: str) -> None:
    """A follower stops with the record's key; it never guesses."""
    with pytest.raises(ConfigError, match=message):
        Registry.from_records({key: value})


# ---- the example


def test_the_example_connects_what_the_demo_needs(demo: Registry) -> None:
    """Usage flows from Delta to portal and SIS of both schools, and to the shop without a link."""
    for found in ("99PA", "99VA"):
        assert demo.connected_receivers(found, "uitgeverij-delta", "usage") == ("portaal-plein", "sis-noord")
        for receiver in ("portaal-plein", "sis-noord", "winkel-boekhuis"):
            for product in (BOOK, OTHER_BOOK):
                assert demo.agreement(found, receiver, product, "Gebruik", TODAY) is not None
        assert not demo.serves("uitgeverij-oost", found)
    assert demo.school("99PA").sectors == ("PO",)  # type: ignore[union-attr]
    assert demo.school("99VA").sectors == ("VO",)  # type: ignore[union-attr]
    assert len(demo.boards) == 2
    assert all(found.keys == () for found in demo.parties.values())


def test_the_examples_shop_gets_no_usage_frequency(demo: Registry) -> None:
    """Its agreement does not name it, so the policy drops it."""
    found = demo.agreement("99PA", "winkel-boekhuis", BOOK, "Gebruik", TODAY)
    assert found is not None
    asked = ("usageDates", "usageFrequency", "activationCode")
    answer = demo.policy.projection("Gebruik", "PO", "SHOP", found.product_type(BOOK), asked, found.attributes)
    assert answer.kept == ("usageDates", "activationCode")
    assert answer.dropped == (("usageFrequency", "not-in-agreement"),)


def test_receivable_families_follow_roles_and_routes(demo: Registry) -> None:
    """From these the output topics are made; a party without a route gets none."""
    assert receivable_families(demo, "portaal-plein") == {"usage"}
    assert receivable_families(demo, "sis-noord") == {"usage"}
    assert receivable_families(demo, "winkel-boekhuis") == {"usage"}
    assert receivable_families(demo, "uitgeverij-delta") == set()
    assert receivable_families(demo, "nobody") == set()


def test_questions_from_events_do_not_fill_the_memory(demo: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Product ids come from events: the remembered answers are bounded."""
    monkeypatch.setattr("broker.registry.registry.AGREEMENT_CACHE", 50)
    for number in range(200):
        assert demo.agreement("99PA", "portaal-plein", f"product-{number}", "Gebruik", TODAY) is None
    assert len(demo._agreements_found) <= 50


def test_the_example_is_where_it_is_shipped() -> None:
    """The demo and the documentation name these files."""
    folder: Path = data_path("examples") / "registry"
    assert {path.name for path in folder.iterdir()} == {
        "agreements.yaml", "connections.yaml", "parties.yaml", "schools.yaml",
    }  # fmt: skip
