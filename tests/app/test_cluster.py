"""What a registry means for Kafka: who has rights, and how much each may ask."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from broker.app.cluster import loads_of, wanted_of
from broker.data import data_path
from broker.kafka.quotas import of_user
from broker.registry import Registry, Suspension, load_document, records_of
from broker.registry.models import RegistryDocument
from broker.registry.parties import PartyQuota
from broker.registry.registry import record_of


@pytest.fixture(scope="module")
def document() -> RegistryDocument:
    """The example registry."""
    return load_document(data_path("examples") / "registry")


def test_a_party_counts_the_schools_it_works_for_and_its_entry_overrides(document: RegistryDocument) -> None:
    """An administration those that name it, others those of the boards that they have an agreement with."""
    own = PartyQuota(in_bytes_per_s=30_000_000)
    parties = [p.model_copy(update={"quota": own}) if p.id == "portaal-plein" else p for p in document.parties]
    # An administration without an agreement: the schools that name it are all that speaks for it.
    agreements = [agreement for agreement in document.agreements if agreement.party != "sis-noord"]
    changed = {"parties": tuple(parties), "agreements": tuple(agreements)}
    registry = Registry.from_records(records_of(document.model_copy(update=changed)))
    loads = loads_of(registry, registry.parties)
    for party in document.parties:
        boards = {agreement.board for agreement in agreements if agreement.party == party.id}
        schools = [s.id for s in document.schools if party.id == s.sis or s.board in boards]
        assert (loads[party.id].schools, loads[party.id].roles) == (len(schools), frozenset(party.roles))
    assert {loads[party].schools for party in ("sis-noord", "sis-zuid")} == {2, 1}
    found = {quota.entity: quota.limits for quota in wanted_of(registry, suspended=()).quotas or ()}
    assert found[of_user("portaal-plein")]["producer_byte_rate"] == 30_000_000
    # By its role and three schools: what the entry does not say.
    assert found[of_user("portaal-plein")]["consumer_byte_rate"] == 4_000_000 + 40_000 * loads["portaal-plein"].schools


@pytest.mark.parametrize("known_by", ["the topic", "the registry itself"])
def test_a_suspended_party_has_no_rights_and_keeps_topics_and_quota(document: RegistryDocument, known_by: str) -> None:
    """Who reads a folder has to ask the topic; who reads the topic has it there. Let in again it has its quota at once."""
    registry = Registry.from_records(records_of(document))
    whole = wanted_of(registry, suspended=())
    said = Suspension(id="sis-zuid", since=datetime(2026, 11, 30, tzinfo=UTC), reason="login stolen", by="operator")
    changed = registry.with_changes({"suspension/sis-zuid": record_of(said)})
    by_topic = known_by == "the topic"
    less = wanted_of(registry if by_topic else changed, suspended=["sis-zuid"] if by_topic else ())
    assert (less.topics, less.quotas) == (whole.topics, whole.quotas)
    assert {acl.user for acl in whole.acls or ()} - {acl.user for acl in less.acls or ()} == {"sis-zuid"}
