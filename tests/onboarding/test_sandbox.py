"""The sandbox of a new party: everything that it may send and receive works there, and nothing else gets in or out."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from broker.client.profile import RECORD_KEY_SECRET
from broker.data import data_path
from broker.errors import ConfigError
from broker.keys import MemoryKeys
from broker.onboarding.folder import Added, Newcomer, add_to_folder
from broker.onboarding.sandbox import COUNTERPART, PUPILS, class_list, events
from broker.policy import ROLES, Routes
from broker.registry import PublicKey, Registry, load_document, receivable_families, records_of, with_keys
from tests.exchange.world import World, make_world

PARTY, TODAY = "nieuw-bedrijf", datetime.now(UTC).date()
UNTOLD = {"connection"}  # links are the schools' to switch, and each is a change of the registry


def new_id(_what: str) -> str:
    """A new one each time."""
    return str(uuid4())


def added(folder: Path, *roles: str, party: str = PARTY) -> Added:
    """The example registry with a party more."""
    if not folder.exists():
        shutil.copytree(data_path("examples") / "registry", folder)
    return add_to_folder(folder, Newcomer(party, roles), [], [], TODAY)


def world_of(folder: Path) -> World:
    """A world with this registry, in which everybody has keys."""
    old, document = make_world(), load_document(folder)
    public = {}
    for party in document.parties:
        keys = old.party_keys.setdefault(party.id, MemoryKeys())
        keys.create_secret(RECORD_KEY_SECRET)
        key = (keys.recipient_keys(party.id) or (keys.create(party.id),))[0]
        public[party.id] = [PublicKey(kid=key.kid, jwk=dict(key.jwk))]
    records = dict(records_of(with_keys(document, public)))
    base = Registry.from_records(records)
    return World(records, keys=old.keys, party_keys=old.party_keys, base=base, now_ms=time.time_ns() // 1_000_000)


@pytest.mark.parametrize("roles", [*[(role,) for role in ROLES], ROLES], ids="+".join)
def test_all_that_a_party_may_send_and_receive_goes_to_and_fro_in_its_sandbox(
    tmp_path: Path, roles: tuple[str, ...]
) -> None:
    """Enrolments first, then an event of each family, both ways; each is delivered to whom it names."""
    there = added(tmp_path / "registry", *roles)
    world, sandbox, routes = world_of(tmp_path / "registry"), there.sandbox, Routes.load()
    told = world.send(sandbox.sis, *class_list(sandbox.school, new_id))
    assert {d.code for d in told} == {"ok.vault"}
    for sender, receiver in ((PARTY, COUNTERPART), (COUNTERPART, PARTY)):
        sent = events(sandbox, sender, routes, TODAY, new_id)
        assert [(d.receiver, d.code) for d in world.send(sender, *sent)] == [(receiver, "ok")] * len(sent)
        may = receivable_families(world.registry, receiver)
        assert {event.family for event in sent} <= may
        if receiver == PARTY:
            # Groups come from a school's SIS alone, and that of its sandbox is the party itself.
            left_out = UNTOLD | ({"roster"} & may if "SIS" in roles else set())
            assert {event.family for event in sent} | left_out == may
    for event in events(sandbox, COUNTERPART, routes, TODAY, new_id):
        (got,) = world.delivered(PARTY, event.family)
        assert got.envelope["school"] == sandbox.school


def test_a_sandbox_is_a_way_in_and_out_for_nothing_else(tmp_path: Path) -> None:
    """The two have to do with no other school, others not with this one, and two newcomers not with each other."""
    newcomers = (PARTY, "ander-bedrijf")
    added(tmp_path / "registry", "PUBLISHER")
    registry = added(tmp_path / "registry", *ROLES, party="ander-bedrijf").registry
    served = {
        party: {school for school in registry.schools if registry.serves(party, school)} for party in registry.parties
    }
    own = set().union(*(served[party] for party in newcomers))
    assert [len(served[party]) for party in newcomers] == [1, 1]
    assert len(own) == 2
    assert served[COUNTERPART] == own
    assert not any(schools & own for party, schools in served.items() if party not in (*newcomers, COUNTERPART))
    links = load_document(tmp_path / "registry").connections
    assert all(link.school in own for link in links if COUNTERPART in (link.sender, link.receiver))


def test_a_party_that_is_added_again_changes_nothing(tmp_path: Path) -> None:
    """Not a byte, also when the operator edited a file, and when its entry stands in another one."""
    folder = tmp_path / "registry"
    assert {path.name for path in added(folder, "SHOP").written} == {
        f"party-{PARTY}.yaml", "zandbak.yaml", f"zandbak-{PARTY}.yaml",
    }  # fmt: skip
    entry = folder / f"party-{PARTY}.yaml"
    entry.write_text(entry.read_text("utf-8").replace(f"name: {PARTY}", "name: Nieuw Bedrijf BV"), "utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = added(folder)
    assert (again.written, again.party.name) == ((), "Nieuw Bedrijf BV")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in added(folder, party="portaal-plein").written] == ["zandbak-portaal-plein.yaml"]


@pytest.mark.parametrize(
    ("roles", "party", "code"),
    [((), PARTY, "party.roles"), (("SHOP",), "portaal-plein", "party.roles"), (("BAKER",), PARTY, "registry.invalid")],
    ids=["new and without roles", "other roles than it has", "a role that there is not"],
)
def test_a_party_that_can_not_be_added_leaves_the_folder_as_it_was(
    tmp_path: Path, roles: tuple[str, ...], party: str, code: str
) -> None:
    """No file is left of which the others' checks would then complain."""
    folder = tmp_path / "registry"
    shutil.copytree(data_path("examples") / "registry", folder)
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(ConfigError) as refused:
        added(folder, *roles, party=party)
    assert refused.value.code == code
    assert {path.name for path in folder.iterdir()} == before
    load_document(folder)


def test_a_sandbox_has_people_who_do_not_exist(tmp_path: Path) -> None:
    """Another ECK iD for each pupil of each sandbox, of the pilot's form."""
    schools = ("99ZA", "99ZB")
    found = [event.subject for school in schools for event in class_list(school, new_id)]
    assert len({who.eck_id for who in found}) == len(PUPILS) * len(schools)
    assert all(str(who.eck_id).startswith("https://ketenid.nl/pilot/") for who in found)
