"""`broker demo`: interrupted it leaves nothing behind; run again in the same folder, it tells the whole school year."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from broker.data import data_path
from broker.demo import story
from broker.demo.thisyear import of_this_year
from broker.registry import Registry, load_document, records_of
from broker.registry.files import check
from broker.registry.models import RegistryDocument
from tests.test_package import processes_of

pytestmark = pytest.mark.timeout(600)
kafka = pytest.mark.kafka


class Told(NamedTuple):
    """What a run printed, and the facts that it wrote."""

    interrupted: int
    left_over: list[str]
    printed: str
    facts: dict[str, Any]

    def event(self, what: str) -> dict[str, Any]:
        """The one event with these words in its description."""
        (found,) = [e for c in self.facts["chapters"] for e in c["events"] if what in e["what"]]
        return found  # type: ignore[no-any-return]

    def got(self, what: str, receiver: str) -> set[str]:
        """Attributes that a receiver got of an event."""
        return set(self.event(what)["arrived"][receiver]["got"])

    def codes(self, what: str) -> set[str]:
        """The codes of an event's outcomes."""
        return {result["code"] for result in self.event(what)["results"]}


def _listen_to_ctrl_c() -> None:
    """A run in the background of a shell ignores SIGINT, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Ctrl-C in the middle of the year; then a full run in the same folder, plain, since there is no terminal."""
    home = tmp_path_factory.mktemp("year") / "demo"
    command = [sys.executable, "-m", "broker", "demo", "--home", str(home)]
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=_listen_to_ctrl_c
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "the schools order" in line:
            break
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    left_over = processes_of(home)

    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left_over += processes_of(home)
    return Told(running.returncode, left_over, done.stdout, json.loads((home / "report.json").read_text("utf-8")))


@kafka
def test_an_interrupted_demo_leaves_no_process_and_the_next_one_is_whole(told: Told) -> None:
    """Exit code 130 the first time; the second time eleven chapters, and no process either."""
    assert told.interrupted == 130
    assert told.left_over == []
    assert len(told.facts["chapters"]) == 11
    assert "\x1b[" not in told.printed, "no colours where there is no terminal"
    for chapter in told.facts["chapters"]:
        assert f"{chapter['season']}: {chapter['title']}" in told.printed


@kafka
def test_no_id_of_a_person_is_printed(told: Told) -> None:
    """Neither an ECK iD, nor a number of the state, nor a key of an administration."""
    for text in ("ketenid.nl", story.TEST_BSN, "L0001", "K0001", "S260101"):
        assert text not in told.printed


@kafka
def test_class_lists_reach_the_vault_and_nobody_else(told: Told) -> None:
    """Every pupil and teacher of four lists; the numbers of the state were dropped before."""
    assert told.facts["class_lists"]["99PA/PO"]["pgn_dropped"] == 3
    for row in told.facts["chapters"][0]["counts"]["rows"]:
        assert row[-1] == row[3] + row[4], "pupils and staff"
    assert not any("identity" in kind for party in told.facts["parties"].values() for kind in party["received"])


@kafka
def test_a_digital_line_has_the_eck_id_a_paper_line_a_pseudonym_and_the_publishers_line_nobody(told: Told) -> None:
    """And the address comes only where a parcel comes home."""
    ids = {
        what: told.event(what)["arrived"][receiver]["known_as"]
        for what, receiver in {
            "digital book for Julia": story.SHOP, "paper workbook for Julia": story.SHOP,
            "digital trade book": story.SHOP, "at the publisher": story.PUBLISHER,
        }.items()
    }  # fmt: skip
    assert ids == {
        "digital book for Julia": "ECK iD", "paper workbook for Julia": "pseudonym",
        "digital trade book": "ECK iD", "at the publisher": "(no person)",
    }  # fmt: skip
    assert told.got("her address", story.SHOP) == {"givenName", "familyName", "homeAddress"}
    assert told.codes("a home address in PO") == {"gate.policy"}


@kafka
def test_a_licence_goes_to_publisher_and_portal_and_its_code_to_the_publisher_only(told: Told) -> None:
    """Both answer; the first login activates."""
    assert "activationCode" in told.got("a licence for the digital book", story.PUBLISHER)
    assert "activationCode" not in told.got("a licence for the digital book", story.PORTAL)
    for what in ("the publisher has it ready", "the portal shows the link", "first login"):
        assert told.got(what, story.SHOP) >= {"licenceStatus"}


@kafka
def test_one_event_is_seen_differently_by_its_receivers(told: Told) -> None:
    """Use: the shop settles on the day; how often is not its business."""
    assert told.got("a week of use", story.PORTAL) == {"usageDates", "usageFrequency", "yearGroup"}
    assert told.got("a week of use", story.SHOP) == {"usageDates"}
    kept = list(told.facts["same_event"]["kept"].values())
    assert any(one != other for one in kept for other in kept)


@kafka
def test_what_goes_wrong_is_told_and_what_waits_goes_on(told: Told) -> None:
    """Every mistake has its code; the pupil who was not enrolled yet loses nothing."""
    codes = {row["code"] for row in told.facts["not_delivered"]}
    assert codes == {
        "gate.policy", "subject.waiting", "school.not_yours", "product.unknown", "subject.unknown", "event.duplicate",
        "schema.truncated", "object.stale", "pgn.bsn", "gate.connection", "subject.left",
    }  # fmt: skip
    assert told.got("goes on by itself", story.PORTAL) == {"usageDates"}
    assert [incident["code"] for incident in told.facts["audit"]["incidents"]] == ["pgn.bsn"]


@kafka
def test_a_supplier_that_asks_for_everything_gets_what_it_may_have(told: Told) -> None:
    """What was held back is told by name, with the reason."""
    arrival = told.event("all there is to know")["arrived"][story.TEST_PUBLISHER]
    assert set(arrival["got"]) == {"groupId", "groupName", "level", "yearGroup", "givenName", "familyName"}
    assert arrival["shortened"] == ["familyName"]
    reasons = {name: reason["because"] for name, reason in arrival["held_back"].items()}
    assert reasons["birthDate"] == reasons["gender"] == reasons["initials"] == "policy"
    assert reasons["schoolEmail"] == "agreement"
    assert reasons["parentEmail"] == "condition"


@kafka
def test_a_parents_address_passes_by_agreement_until_they_object(told: Told) -> None:
    """Not before the agreement names it, not after the objection; the event passes each time."""
    passed = [
        "parentEmail" in told.got(what, story.PUBLISHER)
        for what in ("before the agreement", "under version", "after the objection")
    ]
    assert passed == [False, True, False]
    assert told.event("under version")["arrived"][story.PUBLISHER]["agreement"] == "vwo-po-delta/1.1"


@kafka
def test_external_support_gets_a_pseudonym_of_its_own_and_remarks_go_to_mbo_only(told: Told) -> None:
    """And the school's receipt names no pupil."""
    first = told.event("'s result")["arrived"]
    assert {party: arrival["known_as"] for party, arrival in first.items()} == {
        story.SUPPORT: "pseudonym", story.PORTAL: "ECK iD", story.SIS: "ECK iD + school's key",
    }  # fmt: skip
    assert told.event("has booked it")["arrived"][story.TEST_PUBLISHER]["known_as"] == "(no person)"
    assert "irregularities" in told.got("an MBO result", story.MBO_SIS)
    assert "irregularities" not in told.got("an MBO result", story.PORTAL)


@kafka
def test_the_legal_attribute_set_passes_for_that_test_in_primary_education_only(told: Told) -> None:
    """Birth date and gender: to the test's publisher, for the test, in PO."""
    legal = {"birthDate", "gender"}
    seen = {
        (what, receiver): legal & set(arrival["got"])
        for what in ("(PO) takes the legal test", "for the language course", "(VSO: rules of VO)")
        for receiver, arrival in told.event(what)["arrived"].items()
    }
    assert {place for place, got in seen.items() if got} == {("(PO) takes the legal test", story.TEST_PUBLISHER)}
    assert seen["(PO) takes the legal test", story.TEST_PUBLISHER] == legal
    assert "initials" in told.got("(PO) takes the legal test", story.TEST_PUBLISHER)
    assert "initials" not in told.got("for the language course", story.TEST_PUBLISHER)


@kafka
def test_a_withdrawal_holds_at_once_and_a_link_that_comes_on_is_seeded(told: Told) -> None:
    """Refused by name, gone from the others' copies; a retraction passes; then all current objects, counted."""
    assert told.codes("usage for the portal") == {"gate.connection"}
    assert story.PORTAL not in told.event("usage for whoever")["arrived"]
    assert told.got("a mistake is taken back", story.PORTAL) == set()
    request, objects, done = (row[2] for row in told.facts["chapters"][9]["counts"]["rows"])
    assert "po-usage-delta-portaal" in request
    count = int(objects.split()[0])
    assert count > 60
    assert f"says that {count} were sent" == done


@kafka
def test_who_left_is_closed_and_what_was_under_way_arrives(told: Told) -> None:
    """A result of the day before passes, one of the day after does not; the credit names nobody."""
    assert story.SIS in told.event("a test of the day before")["arrived"]
    assert told.codes("a test of the day after") == {"subject.left"}
    assert told.event("a credit")["arrived"][story.PUBLISHER]["known_as"] == "(no person)"


@kafka
def test_the_audit_has_one_leaf_for_each_delivery(told: Told) -> None:
    """Those that senders were told of, and the broker's own requests."""
    delivered = sum(
        count for outcome in told.facts["outcomes"].values() for code, count in outcome.items() if code.startswith("ok")
    )
    audit = told.facts["audit"]
    assert audit["by_decision"]["delivered"] == delivered + audit["duties"]


# The last day of a school year and the first of the next, a leap day, and days all over some years.
DAYS = [
    datetime(2026, 7, 31, 23, 59, tzinfo=UTC),
    datetime(2026, 8, 1, tzinfo=UTC),
    datetime(2028, 2, 29, 12, tzinfo=UTC),
    *(datetime(2027, 3, 1, 12, tzinfo=UTC) + timedelta(days=250 * n) for n in range(5)),
]


@pytest.fixture(scope="module")
def written() -> RegistryDocument:
    """The example registry as its files have it."""
    return load_document(data_path("examples") / "registry")


@pytest.mark.parametrize("now", DAYS, ids=lambda day: f"{day:%Y-%m-%d}")
def test_the_demos_registry_holds_on_any_day(written: RegistryDocument, now: datetime) -> None:
    """Whatever today is: valid, the administrations have their mandate, and agreements and links cover the story."""
    records = records_of(of_this_year(written, now))
    check(records)
    registry, day = Registry.from_records(records), now.date()
    for one in story.class_lists():
        assert registry.schools[one.school].mandated(one.sis, day)
        assert registry.agreement(one.school, story.PORTAL, story.BOOK, "Gebruik", day)
        assert registry.connected(one.school, story.PUBLISHER, story.PORTAL, "usage", "Gebruik", story.BOOK, None)
    assert registry.agreement(story.PO_SCHOOL, story.TEST_PUBLISHER, story.LEGAL_TEST, "Toegang", day)
    assert registry.agreement(story.PO_SCHOOL, story.SUPPORT, story.NORM_TEST, "Terugkoppelen", day)
    assert all(side.at <= now for side in registry.link("mbo-order-sis-winkel") or ())
    assert registry.parties[story.SHOP].eck_id_attested_on is not None
    assert registry.parties[story.SHOP].eck_id_attested_on <= day  # type: ignore[operator]
