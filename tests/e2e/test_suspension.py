"""A party that is suspended on a real Kafka, under load, by the commands that an operator types."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import TopicAuthorizationFailedError
from click.testing import Result
from typer.testing import CliRunner

from broker.app.cluster import Wanted, wanted_of
from broker.app.farewell import remove
from broker.app.renewal import rotate
from broker.app.suspension import Suspension, apply_to_cluster, resume, suspend, suspended_parties
from broker.cli import build
from broker.client import Profile
from broker.data import data_path
from broker.demo.stage import Stage
from broker.errors import ConfigError, TransientError
from broker.kafka.access import party_acls
from broker.kafka.admin import Admin
from broker.kafka.bindings import any_acl
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import check
from broker.kafka.quota_requests import alter_quotas, describe_quotas
from broker.kafka.quotas import Difference, of_user
from broker.kafka.rights import give_rights, has_rights
from broker.registry import load
from tests.e2e.watch import raw
from tests.e2e.withdrawing import (
    KEPT,
    LIMIT_SECONDS,
    PO_PORTAL,
    VO_PORTAL,
    Load,
    Outputs,
    enrol,
    known_pupils,
    late,
)
from tests.engine.machine import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
PARTY, KEY = VO_PORTAL.receiver, f"suspension/{VO_PORTAL.receiver}"
REASON = "its password was found in public"
ASKED_SECONDS = LIMIT_SECONDS - 1.0


class OpenClient:
    """A producer and a consumer of a party that are open, and go on until Kafka refuses them.

    Attributes:
        refused: seconds since 1970 of the first refusal, of each of the two.
        last: of the last record that Kafka took, and that it gave.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        settings = connection.aiokafka()
        self._producer = AIOKafkaProducer(**settings, acks="all")
        self._consumer = AIOKafkaConsumer(f"out.{PARTY}.usage", **settings, isolation_level="read_committed")
        self.refused: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> OpenClient:
        await self._producer.start()
        await self._consumer.start()
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._producer.stop()
        await self._consumer.stop()

    async def _write(self) -> None:
        while "write" not in self.refused:
            try:
                await self._producer.send_and_wait(f"in.{PARTY}", b"whatever", key=b"k" * 32)
                self.last["write"] = time.time()
            except TopicAuthorizationFailedError:
                self.refused["write"] = time.time()
            await asyncio.sleep(0.02)

    async def _read(self) -> None:
        while "read" not in self.refused:
            try:
                await self._consumer.getone()
                self.last["read"] = time.time()
            except TopicAuthorizationFailedError:
                self.refused["read"] = time.time()


def run(scene: Stage, *arguments: str) -> Result:
    """A command of the operator."""
    environment = {
        "BROKER_CONNECTION": str(scene.home / "connections" / "operator.json"),
        "BROKER_PROFILES": str(scene.home / "profiles"),
    }
    result = CliRunner().invoke(build("party", "topics", "registry"), arguments, env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


async def record_of_suspension(scene: Stage) -> ConsumerRecord:
    """The newest record of it on `registry`."""
    found = [r async for r in raw(scene.connections["operator"], lambda t: t == "registry") if r.key == KEY.encode()]
    return found[-1]


async def changes_on_control(scene: Stage) -> list[dict[str, object]]:
    """What `audit.control` says of it."""
    records = raw(scene.connections["auditor"], lambda t: t == "audit.control")
    leaves = [json.loads(record.value)["control"] async for record in records]
    return [leaf for leaf in leaves if leaf.get("key") == KEY]


def monotonic(milliseconds: int) -> float:
    """A moment of Kafka's, in seconds of this process's clock."""
    return time.monotonic() - (time.time() - milliseconds / 1000)


async def test_a_suspended_party_is_cut_off_within_five_seconds_under_load(scene: Stage, tmp_path: Path) -> None:
    """Open connections read and write no more, nothing is delivered, peers go on, all is audited; and it is undone by
    `resume`, with another password."""
    await enrol(scene, *known_pupils())
    flows = (VO_PORTAL, PO_PORTAL, KEPT)
    old = scene.profile(PARTY).connection
    registry, admin = str(data_path("examples") / "registry"), Admin(scene.connections["operator"])
    async with Outputs(scene) as outputs, Load(scene, flows) as load, OpenClient(old) as client:
        await load.flowing()
        await until(lambda: client.last.keys() == {"read", "write"}, "its connections are used")
        await asyncio.to_thread(run, scene, "party", "suspend", PARTY, "--reason", REASON, "--operator", "Ada")
        said = await record_of_suspension(scene)
        at = monotonic(said.timestamp)
        ends = await outputs.ends_at(at + ASKED_SECONDS)
        await until(lambda: client.refused.keys() == {"read", "write"}, "Kafka refuses both")
        await load.more(LIMIT_SECONDS - ASKED_SECONDS + 0.5)
        await load.stop()
        found = await outputs.read(load)
    limit = said.timestamp / 1000 + LIMIT_SECONDS
    for what in ("read", "write"):
        assert client.last[what] < client.refused[what] <= limit, what
    for flow in (VO_PORTAL, PO_PORTAL):
        assert [one for one in found if one.flow == flow], "it was served before"
        assert late(found, flow, ends) == []
        assert set(load.codes(flow, at + LIMIT_SECONDS)) == {"receiver.suspended"}
    assert set(load.codes(KEPT, 0.0)) == {"ok"}, "its peers notice nothing"
    with pytest.raises(ConfigError):
        await check(old)
    # Whoever holds the files against Kafka gives it nothing back, and a second try ends what a first one left.
    assert await asyncio.to_thread(suspended_parties, admin) == {PARTY}
    assert (await asyncio.to_thread(run, scene, "topics", "apply", "--registry", registry)).exit_code == 0
    assert PARTY not in admin.users()
    await asyncio.to_thread(give_rights, admin, party_acls(PARTY))
    assert (await asyncio.to_thread(run, scene, "topics", "plan", "--registry", registry)).exit_code == 2
    await asyncio.to_thread(run, scene, "party", "suspend", PARTY, "--reason", "again", "--operator", "Bob")
    assert (await asyncio.to_thread(run, scene, "topics", "plan", "--registry", registry)).exit_code == 0
    with pytest.raises(ConfigError) as refused:
        await asyncio.to_thread(run, scene, "party", "add", PARTY)
    assert refused.value.code == "party.suspended"

    await asyncio.to_thread(run, scene, "party", "resume", PARTY, "--reason", "new password", "--operator", "Ada")
    new = Profile.load(scene.home / "profiles" / PARTY).connection
    assert new.password != old.password
    with pytest.raises(ConfigError):
        await check(old)
    async with OpenClient(new) as client, Load(scene, flows) as load:
        await load.flowing()
        await until(lambda: client.last.keys() == {"read", "write"}, "it takes part again")
        await load.stop()
    assert (await asyncio.to_thread(run, scene, "topics", "plan", "--registry", registry)).exit_code == 0
    first, second = await changes_on_control(scene)
    assert (first["action"], first["operator"], first["reason"]) == ("add", "Ada", REASON)
    assert (second["action"], second["after"], second["reason"]) == ("remove", None, "new password")
    assert Suspension.model_validate(first["after"]).by == "Ada"


def test_no_service_and_no_unknown_party_is_suspended(scene: Stage) -> None:
    """A word wrongly typed shuts nobody out, least of all the broker itself."""
    for name, code in (("exchange", "party.id"), ("operator", "party.id"), ("portaal-plien", "party.unknown")):
        with pytest.raises(ConfigError) as refused:
            run(scene, "party", "suspend", name, "--reason", "a typing error")
        assert refused.value.code == code
    with pytest.raises(ConfigError) as refused:
        run(scene, "party", "resume", PARTY, "--reason", "it was not")
    assert refused.value.code == "party.not_suspended"


@pytest.fixture
def admin(scene: Stage) -> Iterator[Admin]:
    """The operator's, with a party that takes part before and after."""
    found = Admin(scene.connections["operator"])
    let_in(scene, found)
    assert has_rights(found, party_acls(PARTY))
    yield found
    let_in(scene, found)


def let_in(scene: Stage, admin: Admin) -> None:
    """Resume it, if anything of it is shut out."""
    rights = has_rights(admin, party_acls(PARTY)) and PARTY in admin.users()
    if not rights:
        suspend(admin, PARTY, "Ada", "to begin anew", lambda _: None)
    if PARTY in suspended_parties(admin):
        resume(admin, PARTY, "Ada", "over", scene.home / "profiles" / PARTY / "connection.json", lambda _: None)


def is_shut_out(admin: Admin) -> bool:
    """In the registry, without any right, and without a login."""
    rights = [binding for binding in admin._bindings(any_acl()) if binding.principal == f"User:{PARTY}"]
    return (suspended_parties(admin), rights, PARTY in admin.users()) == ({PARTY}, [], False)


def shut_out_at(admin: Admin, word: str) -> Callable[[str], None]:
    """Listens to a command, and has somebody else suspend the party when it comes to a step."""

    def tell(sentence: str) -> None:
        if sentence.startswith(word):
            suspend(admin, PARTY, "Bob", "seen again", lambda _: None)

    return tell


@pytest.mark.parametrize("step", ["login", "rights"])
def test_a_party_that_is_suspended_while_it_is_resumed_stays_suspended(scene: Stage, admin: Admin, step: str) -> None:
    """Whoever shut it out was told that it is; the other learns that it did not work."""
    suspend(admin, PARTY, "Ada", REASON, lambda _: None)
    file = scene.home / "profiles" / PARTY / "connection.json"
    with pytest.raises(TransientError) as refused:
        resume(admin, PARTY, "Ada", "all clear", file, shut_out_at(admin, step))
    assert refused.value.code == "party.suspended"
    assert is_shut_out(admin)


def test_a_party_that_is_resumed_while_it_is_suspended_anew_is_shut_out_in_the_end(scene: Stage, admin: Admin) -> None:
    """The record was there when the command began, and is gone when it looks once more."""
    suspend(admin, PARTY, "Ada", REASON, lambda _: None)
    suspend(admin, PARTY, "Bob", "again", lambda said: let_in(scene, admin) if said.startswith("login") else None)
    assert is_shut_out(admin)


def test_whoever_applies_topics_while_a_party_is_suspended_gives_it_nothing_back(admin: Admin) -> None:
    """Who is suspended was read, the party is suspended then, and its rights seem to be missing."""
    registry = load(data_path("examples") / "registry")

    def wanted_for(suspended: frozenset[str]) -> Wanted:
        if not suspended:
            suspend(admin, PARTY, "Bob", REASON, lambda _: None)
        return Wanted((), wanted_of(registry, suspended=suspended).acls, None)

    wanted, _ = apply_to_cluster(admin, wanted_for)
    assert is_shut_out(admin)
    assert admin.plan(wanted.topics, wanted.acls) == []
    admin.ensure_user(PARTY, "what a new profile somewhere else has")
    apply_to_cluster(admin, wanted_for)
    assert is_shut_out(admin)


def test_a_party_that_is_suspended_while_its_password_is_replaced_has_no_login(scene: Stage, admin: Admin) -> None:
    """Between the look at who is suspended and the new password."""
    with pytest.raises(ConfigError) as refused:
        rotate(admin, PARTY, "Ada", "yearly", scene.home / "profiles" / PARTY, shut_out_at(admin, "registry"))
    assert refused.value.code == "party.suspended"
    assert is_shut_out(admin)


async def test_a_registry_that_can_not_be_changed_keeps_no_login_open(scene: Stage, admin: Admin) -> None:
    """Rights and login are taken away all the same; the error says what is left to do, and it can be done then."""
    async with AIOKafkaProducer(**admin.connection.aiokafka()) as producer:
        await producer.send_and_wait("registry", b"{", key=b"board/broken", partition=0)
        with pytest.raises(ConfigError):
            await asyncio.to_thread(suspend, admin, PARTY, "Ada", REASON, lambda _: None)
        assert PARTY not in await asyncio.to_thread(admin.users)
        assert not await asyncio.to_thread(has_rights, admin, party_acls(PARTY))
        await producer.send_and_wait("registry", None, key=b"board/broken", partition=0)
    assert await asyncio.to_thread(suspended_parties, admin) == frozenset()
    await asyncio.to_thread(suspend, admin, PARTY, "Ada", REASON, lambda _: None)
    assert await asyncio.to_thread(is_shut_out, admin)


def test_strimzi_is_given_no_document_of_a_suspended_party(scene: Stage, admin: Admin) -> None:
    """With one it would have its login and rights again within two minutes; so Kafka is asked who is suspended."""
    suspend(admin, PARTY, "Ada", REASON, lambda _: None)
    for source in (("--registry", str(data_path("examples") / "registry")), ("--registry-topic",)):
        printed = run(scene, "topics", "strimzi", "--cluster", "exchange", *source)
        assert printed.exit_code == 0, printed.output
        names = {document["metadata"]["name"] for document in yaml.safe_load_all(printed.stdout)}
        assert PARTY not in names
        assert names > {"exchange", "operator", KEPT.receiver}


def test_a_suspension_goes_with_a_party_that_is_in_no_folder_any_more(admin: Admin) -> None:
    """Else nobody of that name could ever come in again; and no limit of it is left on Kafka."""
    party = "lang-geleden"
    admin.ensure_user(party, "a password of before")
    alter_quotas(admin.connection, [Difference(of_user(party), {}, {"producer_byte_rate": 10_000})])
    suspend(admin, party, "Ada", REASON, lambda _: None)
    assert suspended_parties(admin) == {party}
    remove(admin, party, "Ada", "its contract ended", None, lambda _: None)
    assert suspended_parties(admin) == frozenset()
    admin._wait(lambda: of_user(party) not in describe_quotas(admin.connection), "its limit to be gone")
