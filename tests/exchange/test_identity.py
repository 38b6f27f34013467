"""What identity events do to the vault."""

from __future__ import annotations

from dataclasses import replace

from broker.client import Identity, Subject
from broker.exchange import Outcome
from tests.exchange.world import DELTA, EMMA, NOAH, PORTAL, SIS, World, enrolment, event


def by_las_key(key: str) -> Subject:
    """A pupil known by LAS key only."""
    return Subject("PUPIL", None, (("LAS_KEY", key),))


def test_an_enrolment_is_delivered_to_the_vault_and_nothing_of_it_is_readable(world: World) -> None:
    """The vault's keys are hashes, its values ciphertext."""
    assert world.send(SIS, enrolment())[0].code == "ok.vault"
    assert len(world.vault) == 2  # under the LAS key and under the ECK iD
    everything = b"".join([*world.vault, *world.vault.values()])
    assert EMMA.encode() not in everything
    assert b"L0001" not in everything


def test_only_the_schools_own_sis_may_enrol(world: World) -> None:
    """A publisher has no route for identity events; nothing is written."""
    decisions = world.send(DELTA, enrolment())
    assert decisions[0].outcome is Outcome.REFUSED
    assert world.vault == {}


def test_enrolling_again_changes_nothing_but_is_no_error(school: World) -> None:
    """A SIS sends its class list every night."""
    before = set(school.vault)
    assert school.send(SIS, enrolment())[0].code == "ok.vault"
    assert set(school.vault) == before


def test_an_eck_id_that_comes_later_completes_the_enrolment(world: World) -> None:
    """First without ECK iD, then with: the same person, to the same receivers' keys."""
    world.send(SIS, enrolment(None))
    world.send(DELTA, event(subject=by_las_key("L0001")))
    world.send(SIS, enrolment(EMMA))
    world.send(DELTA, event(subject=by_las_key("L0001")))
    before, after = world.delivered(PORTAL)
    assert before.subject["eck_id"] is None
    assert after.subject["eck_id"] == EMMA
    assert before.record.key == after.record.key


def test_another_eck_id_for_a_known_pupil_is_a_conflict(school: World) -> None:
    """An ECK iD does not change by accident; REPLACE is for that."""
    assert school.send(SIS, enrolment("https://ketenid.nl/pilot/" + "d4" * 64))[0].code == "subject.conflict"


def test_ids_of_two_pupils_in_one_event_are_a_conflict(school: World) -> None:
    """Emma's ECK iD with Noah's LAS key is nobody."""
    sent = event(subject=Subject("PUPIL", EMMA, (("LAS_KEY", "L0002"),)))
    assert {d.code for d in school.send(DELTA, sent)} == {"subject.conflict"}


def test_a_replaced_id_is_known_and_the_old_one_is_not(school: World) -> None:
    """The school's administration gave Emma another LAS key."""
    subject = Subject("PUPIL", EMMA, (("LAS_KEY", "N9"),), (("LAS_KEY", "L0001"),))
    assert school.send(SIS, replace(enrolment(), kind="REPLACE", subject=subject))[0].code == "ok.vault"
    assert {d.outcome for d in school.send(DELTA, event(subject=by_las_key("N9")))} == {Outcome.DELIVERED}
    assert {d.code for d in school.send(DELTA, event(subject=by_las_key("L0001")))} == {"subject.waiting"}


def test_merged_enrolments_are_one_person(school: World) -> None:
    """Enrolled twice by mistake: both LAS keys lead to the ECK iD that goes on."""
    school.send(SIS, enrolment(None, "DUBBEL"))
    subject = Subject("PUPIL", EMMA, (("LAS_KEY", "L0001"),), (("LAS_KEY", "DUBBEL"),))
    assert school.send(SIS, replace(enrolment(), kind="MERGE", subject=subject))[0].code == "ok.vault"
    school.send(DELTA, event(subject=by_las_key("DUBBEL")))
    assert school.delivered(PORTAL)[0].subject["eck_id"] == EMMA


def test_an_erased_pupil_leaves_nothing_in_the_vault(school: World) -> None:
    """Tombstones under each of his ids; Noah stays."""
    school.send(SIS, replace(enrolment(), kind="ERASE"))
    assert len(school.vault) == 2
    assert {d.code for d in school.send(DELTA, event())} == {"subject.unknown"}
    assert {d.outcome for d in school.send(DELTA, event(subject=Subject("PUPIL", NOAH)))} == {Outcome.DELIVERED}


def test_leaving_needs_a_date_and_a_known_pupil(school: World) -> None:
    """LEAVE without `left_on` is refused, and so is one of nobody."""
    assert school.send(SIS, replace(enrolment(), kind="LEAVE", body=Identity()))[0].code == "field.missing"
    stranger = replace(enrolment(None, "X1"), kind="CHANGE")
    assert school.send(SIS, stranger)[0].code == "subject.unknown"
