"""What a folder of files does not take away from a registry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.registry import (
    Board,
    ConnectionSide,
    KeyInUse,
    Party,
    PublicKey,
    Registry,
    School,
    Succession,
    Suspension,
    records_of,
)
from broker.registry.keep import Kept, keep, keep_connections, keep_keys, kept_connections
from broker.registry.models import Entry, RegistryDocument, key_of
from broker.registry.registry import record_of
from tests.registry.entries import board, entries, jwk, party, school, side, succession

SENDER, RECEIVER = "connection/c1/sender", "connection/c1/receiver"


def records(*found: Entry) -> dict[str, bytes]:
    """As they stand on Kafka."""
    return {key_of(entry): record_of(entry) for entry in found}


def one(which: str = "sender", **changes: Any) -> dict[str, bytes]:
    """One side of a connection."""
    return records(ConnectionSide.model_validate(side(which, **changes)))


FOLDER = {key: value for key, value in records(*entries()).items() if not key.startswith("connection/")}


def test_connections_that_the_folder_does_not_name_are_kept() -> None:
    """They were made by events of the schools' own systems."""
    made = {**one("sender"), **one("receiver")}
    assert keep_connections(FOLDER, FOLDER | made) == FOLDER | made
    assert keep_connections(FOLDER, FOLDER | made, "remove") == FOLDER
    assert kept_connections(FOLDER, FOLDER | made) == Kept((RECEIVER, SENDER), ())


def test_which_keys_are_in_use_is_kept() -> None:
    """No folder has them; without them workers would write under older keys, which may be destroyed by now."""
    entry = KeyInUse(
        id="vault-records",
        version="vault-records.2",
        older=("vault-records",),
        since=datetime(2026, 11, 30, tzinfo=UTC),
    )
    assert keep(FOLDER, FOLDER | records(entry)) == FOLDER | records(entry)
    registry = Registry.from_records(FOLDER | records(entry))
    assert (registry.secret_in_use("vault-records"), registry.secret_in_use("school-keys")) == (2, 1)


@pytest.mark.parametrize(
    "gone", ["school/99PA", "party/uitgeverij-delta", "party/portaal-plein"], ids=lambda key: key.partition("/")[0]
)
def test_connections_go_with_their_school_and_their_parties(gone: str) -> None:
    """Else a folder without a school or a party could never be applied."""
    made = {**one("sender"), **one("receiver")}
    fewer = {key: value for key, value in FOLDER.items() if key != gone}
    assert keep_connections(fewer, FOLDER | made) == fewer


def test_connections_go_with_their_location() -> None:
    """A location that the folder's school does not have any more."""
    there = FOLDER | records(School.model_validate(school(locations=["99PA01"])))
    made = one(location="99PA01")
    assert keep_connections(there, there | made) == there | made
    assert keep_connections(FOLDER, there | made) == FOLDER


@pytest.mark.parametrize("unnamed", ["keep", "remove"])
@pytest.mark.parametrize(
    ("in_folder", "in_registry", "kept"),
    [
        ("2026-07-01T10:00:00Z", "2026-07-01T10:00:01Z", True),
        ("2026-07-01T10:00:00Z", "2026-07-01T10:00:00Z", False),
        ("2026-07-01T10:00:01Z", "2026-07-01T10:00:00Z", False),
        ("2026-07-01T12:00:00+02:00", "2026-07-01T10:00:01Z", True),
        ("2026-07-01T10:00:00Z", "2026-07-01T11:00:00+02:00", False),
    ],
)
def test_a_newer_word_than_the_folders_is_kept(unnamed: Any, in_folder: str, in_registry: str, kept: bool) -> None:
    """A school that switched a link off is not overruled by a file that was written before; moments are compared."""
    desired, current = one(at=in_folder), one(at=in_registry, state="revoked")
    found = keep_connections(FOLDER | desired, FOLDER | current, unnamed)
    ended = {"at": in_registry, "accepted_by": "uitgeverij-delta", "mandate": "sis-noord"}
    assert found == FOLDER | (current if kept else one(at=in_folder, ended=ended))
    assert kept_connections(FOLDER | desired, found) == Kept((), (SENDER,) if kept else ())


REVOKED: dict[str, Any] = {"state": "revoked", "at": "2026-07-01T10:00:00Z", "products": ["8717927130834"]}
ENDED = {
    "at": REVOKED["at"],
    "accepted_by": "uitgeverij-delta",
    "mandate": "sis-noord",
    "products": REVOKED["products"],
}
ANEW: dict[str, Any] = {"state": "offered", "at": "2026-07-02T10:00:00Z", "ended": ENDED}


@pytest.mark.parametrize("unnamed", ["keep", "remove"])
@pytest.mark.parametrize("stands", [REVOKED, ANEW], ids=["revoked", "offered anew"])
@pytest.mark.parametrize("state", ["offered", "declined", "accepted"])
@pytest.mark.parametrize("at", ["2026-07-02T10:00:00Z", "2026-08-01T10:00:00Z"])
def test_a_folder_with_a_newer_word_does_not_undo_that_a_side_was_on(
    unnamed: Any, stands: dict[str, Any], state: str, at: str
) -> None:
    """It has the newer word, and not what was before it; applied again it changes nothing, and nothing was kept back."""
    desired, current = one(state=state, at=at), one(**stands)
    found = keep_connections(FOLDER | desired, FOLDER | current, unnamed)
    assert found == FOLDER | one(state=state, at=at, ended=ENDED)
    assert keep_connections(FOLDER | desired, found, unnamed) == found
    assert kept_connections(FOLDER | desired, found) == Kept((), ())


@pytest.mark.parametrize(
    "wanted",
    [
        {"state": "revoked"},  # it ended later than that
        {"state": "offered", "ended": {**ENDED, "at": "2026-06-30T10:00:00Z"}},  # the operator knows better
        {"state": "offered", "service": "result", "process": "Terugkoppelen"},  # another link
    ],
    ids=["revoked", "with an end", "another link"],
)
def test_a_folder_that_says_it_all_is_followed(wanted: dict[str, Any]) -> None:
    """Where nothing is left out, there is nothing to keep."""
    desired = FOLDER | one(at="2026-08-01T10:00:00Z", **wanted)
    for stands in (REVOKED, ANEW):
        assert keep_connections(desired, FOLDER | one(**stands)) == desired


def test_what_was_never_accepted_has_no_end_to_keep() -> None:
    """Offered before, declined now."""
    desired = FOLDER | one(state="declined", at="2026-08-01T10:00:00Z")
    assert keep_connections(desired, FOLDER | one(state="offered")) == desired


hours = st.integers(0, 9)
some = st.dictionaries(st.tuples(st.sampled_from(["c1", "c2"]), st.sampled_from(["sender", "receiver"])), hours)


@given(some, some)
def test_keeping_twice_keeps_nothing_more(
    wanted: dict[tuple[str, str], int], there: dict[tuple[str, str], int]
) -> None:
    """Applied again, a folder changes nothing: what it wants and what it keeps is a fixed point."""

    def sides(found: dict[tuple[str, str], int]) -> dict[str, bytes]:
        made = (one(which, id=name, at=f"2026-07-01T0{hour}:00:00Z") for (name, which), hour in found.items())
        return {key: value for each in made for key, value in each.items()}

    desired, current = FOLDER | sides(wanted), FOLDER | sides(there)
    for unnamed in ("keep", "remove"):
        once = keep(desired, current, unnamed)  # type: ignore[arg-type]
        assert keep(desired, once, unnamed) == once  # type: ignore[arg-type]
        assert once.keys() == desired.keys() | (current.keys() if unnamed == "keep" else set())


def test_a_party_keeps_the_keys_that_its_file_does_not_have() -> None:
    """And gets those that the file has."""
    key, other = (PublicKey(kid=kid, jwk=jwk()) for kid in ("k1", "k2"))
    without, with_one, with_other = (
        records(Party.model_validate(party()).model_copy(update={"keys": keys})) for keys in ((), (key,), (other,))
    )
    assert keep_keys(without, with_one) == with_one
    assert keep_keys(with_other, with_one) == with_other
    assert keep_keys(without, {}) == without
    assert keep_keys({}, with_one) == {}


def test_a_succession_stays_though_the_folder_does_not_name_it() -> None:
    """So an older folder, in which the predecessor is still there, does not undo it: the check refuses it."""
    made = records(Succession.model_validate(succession()))
    assert keep(FOLDER, FOLDER | made) == FOLDER | made
    again = records(Succession.model_validate(succession(reason="anders")))
    assert keep(FOLDER | again, FOLDER | made) == FOLDER | again


def test_nothing_else_is_kept() -> None:
    """Files say what there is."""
    there = records(Board.model_validate(board(id="elders")))
    assert keep(FOLDER, FOLDER | there) == FOLDER
    document = RegistryDocument(boards=(Board.model_validate(board()),))
    assert records_of(document).keys() == {"board/horizon", "policy/current", "routes/current"}


def test_a_suspension_is_lifted_by_no_folder() -> None:
    """It is begun and ended by commands; it stays even if the folder does not have its party any more."""
    shut_out = records(
        Suspension(id="uitgeverij-delta", since=datetime(2026, 11, 24, tzinfo=UTC), reason="stolen", by="operator")
    )
    assert keep(FOLDER, FOLDER | shut_out, "remove") == FOLDER | shut_out
    fewer = {key: value for key, value in FOLDER.items() if key != "party/uitgeverij-delta"}
    assert shut_out.items() <= keep(fewer, FOLDER | shut_out).items()
