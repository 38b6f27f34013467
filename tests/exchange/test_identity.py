"""What identity events do to the vault."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from uuid import uuid4

import pytest

from broker.client import ContactFlags, Event, Identity, Subject
from broker.exchange import Outcome
from broker.identity.vault import Flags
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


def ids(*las_keys: str) -> tuple[tuple[str, str], ...]:
    """Local ids."""
    return tuple(("LAS_KEY", key) for key in las_keys)


def change(
    kind: str, eck_id: str | None, new: tuple[str, ...], previous: tuple[str, ...] = (), who: str = "PUPIL"
) -> Event:
    """An identity event of this kind."""
    return replace(enrolment(), kind=kind, subject=Subject(who, eck_id, ids(*new), ids(*previous)))


def test_a_replace_that_names_an_id_on_both_sides_keeps_it(school: World) -> None:
    """Another ECK iD under the LAS key that stays: the LAS key still leads to her."""
    other = "https://ketenid.nl/pilot/" + "d4" * 64
    assert school.send(SIS, change("REPLACE", other, ("L0001",), ("L0001",)))[0].code == "ok.vault"
    assert {d.code for d in school.send(DELTA, event(subject=by_las_key("L0001")))} == {"ok"}
    assert {d.code for d in school.send(DELTA, event())} == {"subject.unknown"}
    assert school.delivered(PORTAL)[0].subject["eck_id"] == other


KINDS = ("ENROL", "CHANGE", "LEAVE", "MERGE", "REPLACE", "ERASE")


@pytest.mark.parametrize("kind", KINDS)
def test_who_left_long_ago_is_told_of_as_before_while_the_mandate_lasts(school: World, kind: str) -> None:
    """Into the vault nothing closes: no term runs out, and after the mandate's last day no kind has one."""
    long_ago = Identity(left_on=date(2020, 7, 31))
    school.send(SIS, replace(change("LEAVE", EMMA, ("L0001",)), body=long_ago))
    previous = ("L0001",) if kind in ("MERGE", "REPLACE") else ()
    sent = replace(change(kind, EMMA, ("L0001",), previous), body=long_ago)
    kept = dict(school.vault)
    assert [d.code for d in school.send(SIS, sent)] == ["ok.vault"]
    school.vault = kept
    school.edit("school/99PA", mandated_until="2026-11-23")
    assert [d.code for d in school.send(SIS, replace(sent, event_id=str(uuid4())))] == ["school.not_yours"]


CONFLICTS = {
    "REPLACE that takes another pupil's LAS key": change("REPLACE", EMMA, ("L0002",), ("L0001",)),
    "REPLACE that takes another pupil's ECK iD": change("REPLACE", NOAH, ("N1",), ("L0001",)),
    "REPLACE of two pupils": change("REPLACE", EMMA, ("N1",), ("L0001", "L0002")),
    "ENROL that takes another pupil's ECK iD": change("ENROL", NOAH, ("L0001",)),
    "CHANGE that takes another pupil's LAS key": change("CHANGE", EMMA, ("L0001", "L0002")),
    "LEAVE of two pupils": replace(change("LEAVE", EMMA, ("L0002",)), body=Identity(left_on=date(2026, 11, 1))),
    "ERASE of two pupils": change("ERASE", EMMA, ("L0002",)),
    "ENROL of a pupil as an employee": change("ENROL", EMMA, ("L0001",), who="EMPLOYEE"),
    "ERASE of a pupil as an employee": change("ERASE", EMMA, ("L0001",), who="EMPLOYEE"),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_an_identity_event_over_two_people_changes_nothing(school: World, name: str) -> None:
    """Refused as a conflict; both pupils stay who they were."""
    before = dict(school.vault)
    assert [d.code for d in school.send(SIS, CONFLICTS[name])] == ["subject.conflict"]
    assert school.vault == before


def test_a_pupil_and_an_employee_do_not_merge(school: World) -> None:
    """Neither way round: their data are under other rules."""
    school.send(SIS, change("ENROL", None, ("E7",), who="EMPLOYEE"))
    before = dict(school.vault)
    for sent in (
        change("MERGE", EMMA, ("L0001",), ("E7",)),
        change("MERGE", None, ("E7",), ("L0001",), who="EMPLOYEE"),
    ):
        assert [d.code for d in school.send(SIS, sent)] == ["subject.conflict"]
    assert school.vault == before


def test_in_a_merge_the_enrolment_that_the_event_names_goes_on(school: World) -> None:
    """Also when its ids are among the previous ones: the receivers know her under the same key as before."""
    school.send(DELTA, event(receiver=PORTAL))
    school.send(SIS, change("ENROL", None, ("DUBBEL",)))
    assert school.send(SIS, change("MERGE", EMMA, ("L0001",), ("L0001", "DUBBEL")))[0].code == "ok.vault"
    school.send(DELTA, event(receiver=PORTAL, subject=by_las_key("DUBBEL")))
    first, second = school.delivered(PORTAL)
    assert first.record.key == second.record.key


def test_a_merge_of_one_and_the_same_changes_nothing(school: World) -> None:
    """The SIS repeats itself."""
    before = set(school.vault)
    assert school.send(SIS, change("MERGE", EMMA, ("L0001",), ("L0001",)))[0].code == "ok.vault"
    assert set(school.vault) == before


@pytest.mark.parametrize("where", ["what goes on", "what ends"])
def test_a_merge_undoes_no_objection(school: World, where: str) -> None:
    """What restricts one of two enrolments restricts the person, until the school says otherwise."""
    free = ContactFlags(school_account=False, parents_informed=True, objection=False)
    restricted = ContactFlags(school_account=True, parents_informed=False, objection=True)
    ours, other = (restricted, free) if where == "what goes on" else (free, restricted)
    school.send(SIS, enrolment(body=Identity(contact_flags=ours, under_16=ours is restricted)))
    school.send(SIS, enrolment(None, "DUBBEL", body=Identity(contact_flags=other, under_16=other is restricted)))
    merge = change("MERGE", EMMA, ("L0001",), ("DUBBEL",))
    assert school.send(SIS, replace(merge, body=Identity()))[0].code == "ok.vault"
    assert flags_of(school) == Flags(school_account=True, parents_informed=False, objection=True, under_16=True)
    school.send(SIS, replace(change("CHANGE", EMMA, ("L0001",)), body=Identity(contact_flags=free, under_16=False)))
    assert flags_of(school) == Flags(school_account=False, parents_informed=True, objection=False, under_16=False)


def test_a_merge_with_an_enrolment_that_says_nothing_leaves_what_was_said(school: World) -> None:
    """A second enrolment made by mistake has no flags: it does not take the school's word away."""
    free = ContactFlags(school_account=False, parents_informed=True, objection=False)
    school.send(SIS, enrolment(body=Identity(contact_flags=free, under_16=False)), enrolment(None, "DUBBEL"))
    school.send(SIS, replace(change("MERGE", EMMA, ("L0001",), ("DUBBEL",)), body=Identity()))
    assert flags_of(school) == Flags(school_account=False, parents_informed=True, objection=False, under_16=False)


def flags_of(world: World) -> Flags:
    """Emma's, as the vault has them."""
    vault = world.exchange_keys.vault
    person = vault.find(world.vault, vault.key("PO", "99PA", "ECK_ID", EMMA))
    assert person is not None
    return person.flags


def test_who_left_and_enrols_again_is_the_same_person(school: World) -> None:
    """Back after the summer: events pass again, under the same record key."""
    school.send(DELTA, event(receiver=PORTAL))
    school.send(SIS, replace(enrolment(), kind="LEAVE", body=Identity(left_on=date(2026, 11, 20))))
    assert [d.code for d in school.send(DELTA, event(receiver=PORTAL))] == ["subject.left"]
    school.send(SIS, enrolment())
    assert [d.code for d in school.send(DELTA, event(receiver=PORTAL))] == ["ok"]
    first, second = school.delivered(PORTAL)
    assert first.record.key == second.record.key


def test_who_was_erased_and_enrols_again_is_somebody_new(school: World) -> None:
    """Nothing leads from the new enrolment to the old one: other record key, other pseudonym."""
    school.send(DELTA, event(receiver=PORTAL))
    school.send(SIS, change("ERASE", EMMA, ("L0001",)), enrolment())
    school.send(DELTA, event(receiver=PORTAL))
    first, second = school.delivered(PORTAL)
    assert first.record.key != second.record.key


def test_within_a_batch_the_last_word_about_an_id_stands(school: World) -> None:
    """Erased, and its LAS key given to somebody else, in one batch: on Kafka in that order, too."""
    school.send(
        SIS, change("ERASE", EMMA, ("L0001",)), change("ENROL", None, ("L0001",)), change("ENROL", EMMA, ("N2",))
    )
    school.send(DELTA, event(receiver=PORTAL, subject=by_las_key("L0001")), event(receiver=PORTAL))
    first, second = school.delivered(PORTAL)
    assert first.subject["eck_id"] is None
    assert second.subject["eck_id"] == EMMA
    assert first.record.key != second.record.key


def test_an_enrolment_does_not_gather_ids_without_end(school: World) -> None:
    """Each change rewrites all: a SIS that invents a LAS key every night is stopped, and nothing is changed by it."""
    codes = [school.send(SIS, change("ENROL", EMMA, tuple(f"X{n}-{i}" for i in range(10))))[0].code for n in range(5)]
    assert codes == ["ok.vault"] * 3 + ["list.too_long"] * 2
    assert len(school.vault) == 1 + 31 + 2


def test_the_same_local_id_in_another_sector_is_another_pupil(school: World) -> None:
    """A school with two sectors: an enrolment counts in its own only (domain, section 10.11)."""
    school.edit("school/99PA", sectors=["PO", "VO"])
    assert school.send(DELTA, event(receiver=PORTAL, sector="VO"))[0].code == "subject.unknown"
    school.send(SIS, enrolment(None, "L0001", sector="VO"))
    school.send(DELTA, event(receiver=PORTAL, sector="VO", subject=by_las_key("L0001")))
    assert school.delivered(PORTAL)[0].subject["eck_id"] is None


def test_what_was_opened_of_an_erased_pupil_is_not_kept_in_memory(school: World) -> None:
    """The next look at an erased id evicts it (audit design, section 4)."""
    school.send(DELTA, event())
    school.send(SIS, change("ERASE", EMMA, ("L0001",)))
    school.send(DELTA, event(), event(subject=by_las_key("L0001")))
    assert EMMA not in {record.eck_id for _, record in school.exchange_keys.vault._cache.values()}


def test_a_merge_of_two_eck_ids_must_say_which_goes_on(school: World) -> None:
    """Two enrolments with different ECK iDs: without one named the event is refused, and both stay."""
    subject = Subject("PUPIL", None, (("LAS_KEY", "L0001"),), (("LAS_KEY", "L0002"),))
    decisions = school.send(SIS, replace(enrolment(), kind="MERGE", subject=subject))
    assert [(d.code, d.field) for d in decisions] == [("subject.conflict", "eck_id")]
    assert {d.outcome for d in school.send(DELTA, event(subject=Subject("PUPIL", NOAH)))} == {Outcome.DELIVERED}


def test_a_change_does_not_undo_a_departure_and_a_new_enrolment_does(school: World) -> None:
    """CHANGE leaves alone what it does not name; ENROL begins again."""
    left = replace(enrolment(), kind="LEAVE", body=Identity(left_on=event().created.date() - timedelta(days=2)))
    school.send(SIS, left, replace(enrolment(), kind="CHANGE", body=Identity(year_group="8")))
    assert {d.code for d in school.send(DELTA, event())} == {"subject.left"}
    school.send(SIS, enrolment())
    assert {d.outcome for d in school.send(DELTA, event())} == {Outcome.DELIVERED}
