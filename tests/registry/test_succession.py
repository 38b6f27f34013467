"""Boards merge and BRINs change: what goes over, what ends, and that nothing widens."""

from __future__ import annotations

import json
from datetime import date, timedelta
from functools import cache
from itertools import product
from typing import Any

import pytest

from broker.data import data_path
from broker.errors import ConfigError
from broker.registry import Registry, Succession, check, load_document, records_of
from broker.registry.keep import keep
from broker.registry.registry import parse_record
from broker.registry.store import changed
from broker.registry.succession import changes
from tests.registry.entries import BOOK, succession

DAY = date(2026, 11, 1)
BEFORE = DAY - timedelta(days=1)
CHOICES = list(product(("carry", "end"), repeat=2))
PORTAL_LINK = ("uitgeverij-delta", "portaal-plein", "usage", "Gebruik")


@cache
def example() -> dict[str, bytes]:
    """The records of the example."""
    return records_of(load_document(data_path("examples") / "registry"))


def edited(**entries: dict[str, Any] | None) -> dict[str, bytes]:
    """The example with fields of some entries changed; `__` in a name is a slash, `_` a dash."""
    found = dict(example())
    for name, fields in entries.items():
        key = name.replace("__", "/").replace("_", "-")
        document = json.loads(found[key]) if key in found else {}
        found[key] = json.dumps(document | (fields or {})).encode()
    return found


def merger(**given: Any) -> Succession:
    """The board of the primary schools goes up in that of the secondary school."""
    whole = {"predecessor": "bestuur-horizon", "successor": "bestuur-kompas", "first_day": DAY} | given
    return Succession.model_validate(succession(**whole))


def renamed(**given: Any) -> Succession:
    """The secondary school gets another BRIN."""
    whole = {"what": "school", "predecessor": "99VA", "successor": "99VB", "first_day": DAY} | given
    return Succession.model_validate(succession(**whole))


def after(records: dict[str, bytes], made: Succession) -> dict[str, bytes]:
    """All records after a succession, which passes the check."""
    found = changed(records, changes(records, made))
    check(found)
    assert found[f"succession/{made.id}"]
    return found


def of(records: dict[str, bytes], kind: str) -> dict[str, Any]:
    """All entries of a kind, by id and side."""
    return {
        key.partition("/")[2]: parse_record(key, value) for key, value in records.items() if key.startswith(f"{kind}/")
    }


@pytest.mark.parametrize(("agreements", "connections"), CHOICES)
def test_a_board_that_merges_takes_its_schools_along(agreements: str, connections: str) -> None:
    """What was agreed and switched on for them goes over or ends, as the succession says, and nothing else changes."""
    made = merger(agreements=agreements, connections=connections)
    new = after(example(), made)
    old, found = Registry.from_records(example()), Registry.from_records(new)
    assert "bestuur-horizon" not in found.boards
    assert found.schools["99PA"].board == "bestuur-kompas"
    asked = ("99PA", "portaal-plein", BOOK, "Gebruik")
    before, now = old.agreement(*asked, DAY), found.agreement(*asked, DAY)
    assert before is not None
    ids = {name for name, a in of(new, "agreement").items() if a.board == "bestuur-kompas"}
    assert {"vwo-po-portaal", "vwo-vo-portaal"} <= ids
    moved = of(new, "agreement")["vwo-po-portaal"]
    assert moved.schools == ("99PA",)
    assert moved.valid_until == (before.valid_until if agreements == "carry" else BEFORE)
    ended = found.ended_agreement("99PA", "hulp-extern", None, "Terugkoppelen", DAY, 62)
    if agreements == "carry":
        assert now == moved
        assert ended is None
    else:
        assert now is None
        assert ended is not None
        assert moved.local_ids_until == BEFORE
    way = ("99PA", *PORTAL_LINK)
    assert found.connected(*way, BOOK) is (connections == "carry")
    assert found.revoked_on(*way, BOOK) == (None if connections == "carry" else DAY)
    assert found.connected("99VA", *PORTAL_LINK, BOOK)
    assert found.links_from("sis-zuid") == old.links_from("sis-zuid")


@pytest.mark.parametrize("how", ["carry", "end"])
def test_no_agreement_widens_when_boards_merge(how: str) -> None:
    """What either board had for all of its schools is for those by name: nobody agreed for the other's."""
    new = Registry.from_records(after(example(), merger(agreements=how)))
    seen = set()
    for party in ("sis-noord", "portaal-plein", "winkel-boekhuis", "uitgeverij-delta", "uitgeverij-west"):
        for agreement in new.agreements_of(party):
            if agreement.board == "bestuur-kompas":
                mine, others = ("99PA", "99VA") if agreement.id.startswith("vwo-po-") else ("99VA", "99PA")
                assert agreement.is_for(mine, None, "BestellenLeveren")
                assert not agreement.is_for(others, None, "BestellenLeveren")
                seen.add(agreement.id)
    assert len(seen) == 10


def test_a_board_that_had_no_schools_yet_keeps_its_agreements_for_all() -> None:
    """It was founded for the merger, and agreed beforehand for the schools that come."""
    new = edited(board__bestuur_nieuw={"id": "bestuur-nieuw", "name": "N", "processing_register": "https://n.example"})
    document = json.loads(new["agreement/vwo-po-delta"]) | {"id": "vwo-nieuw", "board": "bestuur-nieuw"}
    new["agreement/vwo-nieuw"] = json.dumps(document).encode()
    new["exception/x1"] = board_exception(board="bestuur-nieuw")["exception/x1"]
    found = after(new, merger(successor="bestuur-nieuw", agreements="end"))
    assert found["exception/x1"] == new["exception/x1"]
    answer = Registry.from_records(found).agreement("99PA", "uitgeverij-delta", BOOK, "Toegang", DAY)
    assert answer is not None
    assert (answer.id, answer.schools) == ("vwo-nieuw", "all of board")


def test_an_agreement_that_would_begin_after_the_end_is_removed() -> None:
    """It never held; and an agreement of a board without schools is for nobody."""
    later = edited(agreement__vwo_po_delta={"valid_from": DAY.isoformat()})
    assert "agreement/vwo-po-delta" not in after(later, merger(agreements="end"))
    assert "agreement/vwo-po-delta" in after(later, merger(agreements="carry"))
    nobody = edited(
        board__bestuur_leeg={"id": "bestuur-leeg", "name": "Leeg", "processing_register": "https://l.example"}
    )
    document = json.loads(nobody["agreement/vwo-po-delta"]) | {"id": "vwo-leeg", "board": "bestuur-leeg"}
    nobody["agreement/vwo-leeg"] = json.dumps(document).encode()
    made = Succession.model_validate(succession(predecessor="bestuur-leeg", successor="bestuur-kompas"))
    assert "agreement/vwo-leeg" not in after(nobody, made)


def test_an_agreement_that_ended_before_keeps_its_last_day() -> None:
    """An end never makes anything longer."""
    ended = edited(agreement__vwo_po_delta={"valid_until": "2026-03-31"})
    for how in ("carry", "end"):
        found = of(after(ended, merger(agreements=how)), "agreement")["vwo-po-delta"]
        assert found.valid_until == date(2026, 3, 31)


def board_exception(**changes: Any) -> dict[str, bytes]:
    """The example with an exception for all schools of the old board."""
    given = json.loads(example()["exception/afstandsonderwijs-2027"])
    del given["school"]
    document = given | {"id": "x1", "school": "all of board", "board": "bestuur-horizon"} | changes
    return {**example(), "exception/x1": json.dumps(document).encode()}


def test_exceptions_of_a_board_go_with_its_agreements() -> None:
    """Carried, they are for each of its schools by name; one for a single school stays that school's."""
    carried = of(after(board_exception(), merger()), "exception")
    assert {name: x.school for name, x in carried.items()} == {"afstandsonderwijs-2027": "99VA", "x1.99PA": "99PA"}
    assert of(after(board_exception(), merger(agreements="end")), "exception").keys() == {"afstandsonderwijs-2027"}


def test_exceptions_of_the_successor_do_not_widen() -> None:
    """One for all of its schools becomes one for each that it had: no parent of another school was informed (R21)."""
    there = board_exception(board="bestuur-kompas")
    found = Registry.from_records(after(there, merger()))
    asked = ("portaal-plein", "Toegang", date(2027, 1, 20))
    assert [x.id for x in found.exceptions("99VA", *asked)] == ["afstandsonderwijs-2027", "x1.99VA"]
    assert found.exceptions("99PA", *asked) == ()


def test_offers_of_a_board_whose_connections_end_are_declined() -> None:
    """Else somebody could still accept them; what was declined or revoked before stays as it is."""
    end = {"at": "2026-09-01T10:00:00Z", "accepted_by": "uitgeverij-delta", "mandate": "sis-noord"}
    sides = {
        "connection__po_usage_delta_sis__sender": {
            "state": "offered",
            "accepted_by": None,
            "mandate": None,
            "ended": end,
        },
        "connection__po_usage_delta_portaal__sender": {"state": "revoked", "at": "2026-08-01T00:00:00Z"},
        "connection__po_usage_delta_portaal__receiver": {"at": "2026-12-01T00:00:00Z"},
    }
    found = of(after(edited(**sides), merger(connections="end")), "connection")
    assert found["po-usage-delta-sis/sender"].state == "declined"
    (last,) = found["po-usage-delta-sis/sender"].acceptances()
    assert last.day == date(2026, 9, 1), "how it ended before it was offered stays on record"
    assert found["po-usage-delta-sis/receiver"].state == "revoked"
    assert found["po-usage-delta-sis/receiver"].at.isoformat() == "2026-11-01T00:00:00+00:00"
    assert found["po-usage-delta-portaal/sender"].day == date(2026, 8, 1)
    assert found["po-usage-delta-portaal/receiver"].day == date(2026, 12, 1), "never earlier than what was said last"


# ---- schools


@pytest.mark.parametrize(("agreements", "connections", "identities"), list(product(("carry", "end"), repeat=3)))
def test_a_school_whose_brin_changes_takes_along_what_is_carried(
    agreements: str, connections: str, identities: str
) -> None:
    """Each of the three goes over or ends by itself."""
    made = renamed(agreements=agreements, connections=connections, identities=identities)
    new = after(example(), made)
    old, found = Registry.from_records(example()), Registry.from_records(new)
    assert found.school("99VA") is None
    school = found.schools["99VB"]
    assert school.locations == ("99VB00", "99VB01")
    assert school.formerly == (("99VA",) if identities == "carry" else ())
    assert (school.name, school.board, school.sis) == ("Het Kompas", "bestuur-kompas", "sis-noord")
    assert b"99VA" not in b"".join(v for k, v in new.items() if k.partition("/")[0] in ("agreement", "connection"))
    asked = ("99VB", "portaal-plein", BOOK, "Gebruik")
    assert (found.agreement(*asked, DAY) is not None) is (agreements == "carry")
    assert (found.ended_agreement(*asked, DAY, 1) is not None) is (agreements == "end")
    place = ("99VB", "hulp-extern", None, "Terugkoppelen")
    assert (found.agreement(*place, DAY, "99VB01") is not None) is (agreements == "carry")
    assert found.agreement(*place, DAY, "99VB00") is None
    way = ("99VB", *PORTAL_LINK)
    assert found.connected(*way, BOOK) is (connections == "carry")
    assert found.revoked_on(*way, BOOK) == (None if connections == "carry" else DAY)
    here = ("99VB", "uitgeverij-west", "hulp-extern", "result", "Terugkoppelen", None)
    assert found.connected(*here, "99VB01") is (connections == "carry")
    assert not found.connected(*here, "99VB00")
    exceptions = found.exceptions("99VB", "portaal-plein", "Toegang", date(2027, 1, 20))
    assert bool(exceptions) is (agreements == "carry")
    if connections == "carry":
        for party in found.parties:
            assert found.links_from(party) == old.links_from(party), "no link is switched on anew"
    for party in ("portaal-plein", "winkel-boekhuis"):
        assert found.agreement("99PA", party, BOOK, "Gebruik", DAY) == old.agreement(
            "99PA", party, BOOK, "Gebruik", DAY
        )


def test_brins_that_a_school_had_before_stay_known() -> None:
    """A pupil of two numbers ago is still found; unless pupils are to be enrolled anew."""
    twice = edited(school__99VA={"formerly": ["99VX"]})
    assert of(after(twice, renamed()), "school")["99VB"].formerly == ("99VX", "99VA")
    assert of(after(twice, renamed(identities="end")), "school")["99VB"].formerly == ()


def two_schools(*, schools: Any = "all of board") -> dict[str, bytes]:
    """The example, in which the old board has two schools and one agreement with these."""
    found = edited(agreement__vwo_po_portaal={"schools": schools})
    other = json.loads(found["school/99PA"]) | {"id": "99PB", "name": "De Wolk"}
    return {**found, "school/99PB": json.dumps(other).encode()}


@pytest.mark.parametrize("schools", ["all of board", ["99PA", "99PB"]])
def test_what_ends_for_one_school_goes_on_for_the_others(schools: Any) -> None:
    """And stays known as ended for the one: its closing kinds, and the request to destroy, rest on it."""
    made = renamed(predecessor="99PA", successor="99PX", agreements="end")
    found = Registry.from_records(after(two_schools(schools=schools), made))
    asked = ("portaal-plein", BOOK, "Gebruik", DAY)
    assert found.agreement("99PX", *asked) is None
    goes_on, ended = found.agreement("99PB", *asked), found.ended_agreement("99PX", *asked, 1)
    assert goes_on is not None
    assert goes_on.schools == ("99PB",)
    assert ended is not None
    assert (ended.id, ended.schools, ended.valid_until) == ("vwo-po-portaal.99PX", ("99PX",), BEFORE)


@pytest.mark.parametrize("schools", ["all of board", ["99PA", "99PB"], ["99PB"]])
def test_what_is_carried_for_one_school_stays_for_the_others(schools: Any) -> None:
    """Only the name changes."""
    made = renamed(predecessor="99PA", successor="99PX")
    found = Registry.from_records(after(two_schools(schools=schools), made))
    asked = ("portaal-plein", BOOK, "Gebruik", DAY)
    assert (found.agreement("99PX", *asked) is not None) is (schools != ["99PB"])
    assert found.agreement("99PB", *asked) is not None


def test_an_agreement_for_other_schools_only_is_left_alone() -> None:
    """What ends for one school is nothing to those that it never was for."""
    there = two_schools(schools=["99PB"])
    made = renamed(predecessor="99PA", successor="99PX", agreements="end")
    assert "agreement/vwo-po-portaal" not in changes(there, made)


def test_an_agreement_that_has_not_begun_ends_without_a_trace() -> None:
    """For the others it goes on."""
    later = two_schools()
    document = json.loads(later["agreement/vwo-po-portaal"]) | {"valid_from": "2027-01-01"}
    made = renamed(predecessor="99PA", successor="99PX", agreements="end")
    found = after({**later, "agreement/vwo-po-portaal": json.dumps(document).encode()}, made)
    assert of(found, "agreement")["vwo-po-portaal"].schools == ("99PB",)
    assert "agreement/vwo-po-portaal.99PX" not in found
    alone = edited(agreement__hulp_vo={"valid_from": "2027-01-01"})
    assert "agreement/hulp-vo" not in after(alone, renamed(agreements="end"))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (merger(successor="nobody"), "there is no board nobody; add it"),
        (renamed(successor="99PA"), "the school 99PA is there already"),
        (renamed(predecessor="99ZZ"), "there is no school 99ZZ"),
        (renamed(successor="99VB01"), "99VB01 is a location itself and can not take over locations"),
        (merger(id="werkplaats-naar-vakwijs"), "the succession werkplaats-naar-vakwijs was made already"),
        (Succession.model_validate(succession()), "there is no board horizon"),
    ],
)  # fmt: skip
def test_a_succession_that_does_not_fit_is_refused(made: Succession, message: str) -> None:
    """Two schools that become one are no change of a BRIN: their pupils may have the same local ids."""
    with pytest.raises(ConfigError, match=message) as caught:
        changes(example(), made)
    assert caught.value.code == "registry.succession"


def test_an_agreement_that_has_the_name_of_what_ended_is_not_overwritten() -> None:
    """The operator gives it another one."""
    there = two_schools()
    document = json.loads(there["agreement/vwo-po-portaal"]) | {"id": "vwo-po-portaal.99PX"}
    made = renamed(predecessor="99PA", successor="99PX", agreements="end")
    with pytest.raises(ConfigError, match=r"agreement/vwo-po-portaal\.99PX is there already"):
        changes({**there, "agreement/vwo-po-portaal.99PX": json.dumps(document).encode()}, made)


def test_only_what_differs_is_changed() -> None:
    """So the difference that is shown, and the audit, hold nothing else."""
    found = changes(example(), renamed())
    assert all(example().get(key) != value for key, value in found.items())
    assert {key.partition("/")[0] for key in found} == {"school", "agreement", "exception", "connection", "succession"}
    assert [key for key, value in found.items() if value is None] == ["school/99VA"]


def test_a_folder_from_before_does_not_undo_a_succession() -> None:
    """It is refused, and told why, since the succession's record stays."""
    new = after(example(), merger())
    with pytest.raises(ConfigError, match="the board bestuur-horizon is there, though bestuur-kompas took its place"):
        check(keep(example(), new))
