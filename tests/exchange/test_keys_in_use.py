"""Secrets that are replaced: a lane writes under the version that the registry names, or decides nothing."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest

from broker.audit.indexing import index_log, index_people
from broker.audit.store import Store, Wanted
from broker.errors import TransientError
from broker.exchange import Views, set_aside
from broker.exchange.keys import BROKER, ExchangeKeys, VaultVersions, vault_cipher
from broker.identity.vault import RECORDS, SCHOOLS, SchoolKeys, VaultCipher
from broker.keys import MemoryKeys, secret_of, versions
from tests.audit.signed_world import GrowingLog, audit_events, audit_index, tag_of
from tests.exchange.world import DELTA, EMMA, NOAH, SIS, World, enrolment, event, make_world


@pytest.fixture
def world() -> World:
    """With keys of its own, and one pupil."""
    world = make_world()
    world.keys = deepcopy(world.keys)
    world.exchange_keys = ExchangeKeys(world.keys)
    assert [d.code for d in world.send(SIS, enrolment(EMMA, "L0001"))] == ["ok.vault"]
    return world


def bring_into_use(world: World, *names: str) -> None:
    """The registry says that the second version is written with."""
    for name in names:
        entry = {
            "id": name, "version": secret_of(name, 2), "older": [name], "since": "2026-11-30T12:00:00Z",
        }  # fmt: skip
        world.registry = world.registry.with_changes({f"key/{name}": json.dumps(entry).encode()})


def second(keys: MemoryKeys, *names: str) -> None:
    """Make second versions."""
    for name in names:
        keys.create_secret(secret_of(name, 2))


@pytest.mark.parametrize("name", [RECORDS, SCHOOLS])
def test_a_lane_that_has_not_the_version_in_use_decides_nothing(world: World, name: str) -> None:
    """Neither over an event that needs no vault nor by setting one aside. Once the key is there it goes on, and finds
    who was enrolled before."""
    bring_into_use(world, name)
    record = world.record(DELTA, event())
    views = Views(world.registry, world.vault, world.partitions)
    before = len(world.outgoing)
    with pytest.raises(TransientError) as caught:
        world.run(DELTA, record)
    assert caught.value.code == "keys.behind"
    with pytest.raises(TransientError):
        set_aside(world.state(DELTA), record, views, world.exchange_keys, world.now_ms, record.offset + 1)
    assert len(world.outgoing) == before
    second(world.keys, name)
    world.exchange_keys.renew(VaultVersions.read(world.keys))
    assert "ok" in {decision.code for decision in world.run(DELTA, record).decisions}


def test_a_lane_that_has_not_the_key_that_senders_seal_for_refuses_nothing(world: World) -> None:
    """It waits: a refusal would be final, and the sender right. One that was destroyed by hand, with a newer one made,
    holds up nobody."""
    (older,) = world.keys.recipient_keys(BROKER)
    elsewhere = deepcopy(world.keys)
    newer = elsewhere.create(BROKER)
    entry = {"id": BROKER, "version": newer.kid, "older": [older.kid], "since": "2026-11-30T12:00:00Z"}
    world.registry = world.registry.with_changes({f"key/{BROKER}": json.dumps(entry).encode()})
    with pytest.raises(TransientError) as caught:
        world.run(DELTA, world.record(DELTA, event()))
    assert caught.value.code == "keys.behind"
    ExchangeKeys(elsewhere).use(world.registry)
    elsewhere.create(BROKER)
    elsewhere.destroy(newer.kid)
    ExchangeKeys(elsewhere).use(world.registry)


def test_what_is_written_is_under_the_versions_in_use_and_no_older_one_is_needed(world: World) -> None:
    """That a newer version is there is not enough: others may not have it yet."""
    second(world.keys, RECORDS, SCHOOLS)
    world.exchange_keys.renew(VaultVersions.read(world.keys))
    first = VaultCipher(world.keys.secret("vault-mac"), world.keys.secret(RECORDS), world.keys.secret(SCHOOLS))
    world.send(SIS, enrolment(NOAH, "L0002"))
    assert all(first.decrypt(key, raw) for key, raw in world.vault.items())
    bring_into_use(world, RECORDS, SCHOOLS)
    world.send(
        SIS, *(enrolment(eck_id, las_key, kind="CHANGE") for eck_id, las_key in ((EMMA, "L0001"), (NOAH, "L0002")))
    )
    newest = VaultCipher(
        world.keys.secret("vault-mac"),
        world.keys.secret(secret_of(RECORDS, 2)),
        world.keys.secret(secret_of(SCHOOLS, 2)),
    )
    assert {newest.decrypt(key, raw).eck_id for key, raw in world.vault.items()} == {EMMA, NOAH}
    assert vault_cipher(world.keys).find(world.vault, newest.key("PO", "99PA", "LAS_KEY", "L0002"))


def test_a_person_is_found_by_entries_of_before_and_after(world: World, tmp_path: Path) -> None:
    """The index opens entries under either master, as long as it has both."""
    world.send(DELTA, event())
    entries = len(audit_index(world))
    second(world.keys, SCHOOLS)
    world.exchange_keys.renew(VaultVersions.read(world.keys))
    bring_into_use(world, SCHOOLS)
    world.send(DELTA, event())
    all_entries = audit_index(world)
    assert len(all_entries) > entries
    with Store(tmp_path / "store") as store:
        index_log(store, GrowingLog(tmp_path / "log").grow(audit_events(world)))
        with store.transaction():
            assert index_people(store, all_entries, SchoolKeys(versions(world.keys, SCHOOLS))) == len(all_entries)
        assert len(store.find(Wanted(tag=tag_of(world)))) == len(all_entries)
