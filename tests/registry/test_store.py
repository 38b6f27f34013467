"""The registry on a real Kafka: a change is one transaction, with its audit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from broker.audit import leaf
from broker.data import data_path
from broker.errors import ConfigError, TransientError
from broker.kafka.connection import KafkaConnection
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.publish import SCHEMAS
from broker.kafka.reading import looking
from broker.registry import (
    Change,
    PublicKey,
    Registry,
    Succession,
    load_document,
    records_of,
    store,
    with_keys,
)
from broker.registry.succession import changes as changes_of
from tests.registry.entries import jwk, succession

EXAMPLE = data_path("examples") / "registry"
AT = 1_795_305_600_000
LINK = "connection/po-usage-delta-portaal/receiver"


def example() -> dict[str, bytes]:
    """The records of the example."""
    return records_of(load_document(EXAMPLE))


def revoked(records: dict[str, bytes]) -> bytes:
    """The school's link to the portal, switched off at the portal's side."""
    document = json.loads(records[LINK]) | {"state": "revoked", "at": "2026-11-24T12:00:00Z"}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


async def apply(connection: KafkaConnection, desired: dict[str, bytes], **how: Any) -> list[Change]:
    """Apply as one operator, at one time."""
    return await store.apply(connection, desired, "annelies", "test", clock=lambda: AT, **how)


class Log:
    """What was written to `audit.control` since the beginning of a test."""

    def __init__(self, connection: KafkaConnection) -> None:
        self.connection, self.start = connection, 0

    async def leaves(self) -> list[bytes]:
        """Committed leaves, in order."""
        partition = TopicPartition(store.AUDIT_CONTROL, 0)
        consumer = looking(self.connection)
        await consumer.start()
        try:
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            consumer.seek(partition, self.start)
            found = []
            async with asyncio.timeout(20):
                while await consumer.position(partition) < end:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found += [record.value for record in records]
            self.start = end
            return found
        finally:
            await consumer.stop()


@pytest.fixture
async def connection(kafka: EmbeddedKafka) -> AsyncIterator[KafkaConnection]:
    """An empty registry; what other tests had there comes back afterwards."""
    found = kafka.admin_connection()
    admin = AdminClient(found.confluent())
    there = admin.list_topics(timeout=10).topics
    for name in (store.REGISTRY, SCHEMAS, store.AUDIT_CONTROL):
        if name not in there:
            policy = "delete" if name == store.AUDIT_CONTROL else "compact"
            for made in admin.create_topics([NewTopic(name, 1, 1, config={"cleanup.policy": policy})]).values():
                made.result(20)
    before = await store.read_records(found)
    await write(found, dict.fromkeys(before))
    yield found
    await write(found, dict.fromkeys(await store.read_records(found)) | before)


async def write(connection: KafkaConnection, records: dict[str, bytes | None]) -> None:
    """Write records as no operator would."""
    producer = AIOKafkaProducer(**connection.aiokafka())
    await producer.start()
    try:
        for key, value in records.items():
            await producer.send_and_wait(store.REGISTRY, value, key=key.encode(), partition=0)
    finally:
        await producer.stop()


@pytest.fixture
async def log(connection: KafkaConnection) -> Log:
    """The control log, from here on."""
    found = Log(connection)
    await found.leaves()
    return found


@pytest.mark.kafka
async def test_what_was_applied_is_read_again(connection: KafkaConnection, log: Log) -> None:
    """Records to the byte, so version and answers are the same; a second time there is nothing to do."""
    desired = example()
    changes = await apply(connection, desired)
    assert {change.key for change in changes} == desired.keys()
    assert {change.action for change in changes} == {"add"}
    found = await store.read_records(connection)
    assert found == desired
    assert Registry.from_records(found).version == Registry.from_records(desired).version
    assert len(await log.leaves()) == len(desired)
    assert await apply(connection, desired) == []
    assert await log.leaves() == []


@pytest.mark.kafka
async def test_each_change_has_its_leaf_with_before_and_after(connection: KafkaConnection, log: Log) -> None:
    """The history lives in the audit log: the full change, who, why and when, in canonical JSON."""
    desired = example()
    await apply(connection, desired)
    await log.leaves()
    after = revoked(desired)
    assert await store.change(connection, {LINK: after}, "annelies", "ouders ✓", clock=lambda: AT) == [
        Change(LINK, "change", ("at", "state"))
    ]
    (found,) = await log.leaves()
    expected = {
        "key": LINK, "action": "change", "before": json.loads(desired[LINK]), "after": json.loads(after),
        "operator": "annelies", "reason": "ouders ✓", "at": AT,
    }  # fmt: skip
    assert found == leaf.control_leaf("registry", expected)
    registry = Registry.from_records(await store.read_records(connection))
    assert not registry.connected("99PA", "uitgeverij-delta", "portaal-plein", "usage", "Gebruik", None)
    assert registry.connected("99VA", "uitgeverij-delta", "portaal-plein", "usage", "Gebruik", None)


@pytest.mark.kafka
async def test_what_is_not_desired_is_removed(connection: KafkaConnection, log: Log) -> None:
    """With a tombstone, and a leaf that keeps what it was."""
    desired = example()
    await apply(connection, desired)
    await log.leaves()
    gone = "party/uitgeverij-oost"
    fewer = {key: value for key, value in desired.items() if key != gone}
    assert await apply(connection, fewer) == [Change(gone, "remove")]
    assert gone not in await store.read_records(connection)
    (found,) = (json.loads(value)["control"] for value in await log.leaves())
    assert found["before"] == json.loads(desired[gone])
    assert found["after"] is None


@pytest.mark.kafka
async def test_connections_made_by_events_stay_when_a_folder_is_applied(connection: KafkaConnection, log: Log) -> None:
    """A folder knows nothing of what schools switched on or off since; only who says so removes what it does not name."""
    folder = example()
    await apply(connection, folder)
    made = {
        f"connection/made-by-event/{which}": json.dumps(
            json.loads(folder[f"connection/po-usage-delta-portaal/{which}"]) | {"id": "made-by-event"}
        ).encode()
        for which in ("sender", "receiver")
    }
    switched_off = {LINK: revoked(folder)}
    await store.change(connection, {**made, **switched_off}, "exchange", "events", clock=lambda: AT)
    await log.leaves()
    assert await apply(connection, folder) == []
    assert await log.leaves() == []
    fewer = {key: value for key, value in folder.items() if not key.startswith("connection/vo-usage-delta-sis/")}
    assert await apply(connection, fewer) == []
    assert await store.read_records(connection) == {**folder, **made, **switched_off}
    removed = await apply(connection, fewer, unnamed_connections="remove")
    assert {change.key for change in removed} == {*made, *(folder.keys() - fewer.keys())}
    assert {change.action for change in removed} == {"remove"}
    assert await store.read_records(connection) == {**fewer, **switched_off}
    newer = json.loads(folder[LINK]) | {"at": "2026-11-24T12:00:01Z"}
    assert await apply(connection, {**fewer, LINK: json.dumps(newer).encode()}) == [
        Change(LINK, "change", ("at", "ended", "state"))  # that it had been on before stays on record
    ]


@pytest.mark.kafka
async def test_a_succession_is_one_transaction_on_what_stands_there(connection: KafkaConnection, log: Log) -> None:
    """All changes and its own record, each with its leaf; afterwards the old folder is refused."""
    await apply(connection, example())
    await log.leaves()
    made = Succession.model_validate(
        succession(predecessor="bestuur-horizon", successor="bestuur-kompas", first_day="2026-11-01")
    )
    changes = await store.succeed(connection, made, "annelies", "fusie", clock=lambda: AT)
    expected = changes_of(example(), made)
    assert {change.key for change in changes} == expected.keys()
    assert await store.read_records(connection) == store.changed(example(), expected)
    leaves = [json.loads(value)["control"] for value in await log.leaves()]
    assert {leaf["key"] for leaf in leaves} == expected.keys()
    with pytest.raises(ConfigError, match="the board bestuur-horizon is there, though bestuur-kompas took its place"):
        await apply(connection, example())
    with pytest.raises(ConfigError, match="was made already"):
        await store.succeed(connection, made, "annelies", "nog eens")
    assert await log.leaves() == []


@pytest.mark.kafka
async def test_a_change_that_does_not_fit_writes_nothing(connection: KafkaConnection, log: Log) -> None:
    """The whole registry is checked as it would be, also when only one record changes."""
    await apply(connection, example())
    await log.leaves()
    before = await store.read_records(connection)
    with pytest.raises(ConfigError, match="there is no board bestuur-kompas"):
        await store.change(connection, {"board/bestuur-kompas": None}, "annelies", "opheffing")
    for operator, reason in (("annelies", " "), ("", "omdat"), ("annelies", "x" * 501), ("annelies", "van 182071649")):
        with pytest.raises(ConfigError, match="goes into the audit for ever") as caught:
            await store.change(connection, {LINK: None}, operator, reason)
        assert "182071649" not in str(caught.value)
    assert await store.read_records(connection) == before
    assert await log.leaves() == []


@pytest.mark.kafka
async def test_a_change_that_fails_half_way_writes_nothing(
    connection: KafkaConnection, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registry without audit, or audit without registry, can not be."""
    await apply(connection, example())
    await log.leaves()
    before = await store.read_records(connection)
    send, calls = AIOKafkaProducer.send, []

    async def failing(self: AIOKafkaProducer, topic: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(topic)
        if len(calls) == 4:
            raise ProducerFenced
        return await send(self, topic, *args, **kwargs)

    monkeypatch.setattr(AIOKafkaProducer, "send", failing)
    fewer = {key: value for key, value in before.items() if not key.startswith("connection/")}
    with pytest.raises(TransientError) as caught:
        await apply(connection, fewer, unnamed_connections="remove")
    assert caught.value.code == "registry.busy"
    monkeypatch.undo()
    assert await store.read_records(connection) == before
    assert await log.leaves() == []


@pytest.mark.kafka
async def test_of_two_operators_at_once_no_change_is_lost(connection: KafkaConnection, log: Log) -> None:
    """Each either builds on the other's change or is told to run again; the log tells the same story."""
    desired = example()
    await apply(connection, desired)
    await log.leaves()
    keys = [f"connection/{name}/receiver" for name in ("po-usage-delta-portaal", "vo-usage-delta-portaal")]
    done = await asyncio.gather(
        *(store.change(connection, {key: None}, "annelies", "tegelijk") for key in keys), return_exceptions=True
    )
    assert all(isinstance(one, (list, TransientError)) for one in done), done
    assert any(isinstance(one, list) for one in done)
    found = await store.read_records(connection)
    removed = {key for key, one in zip(keys, done, strict=True) if isinstance(one, list)}
    assert set(desired) - set(found) == removed
    assert {json.loads(value)["control"]["key"] for value in await log.leaves()} == removed


@pytest.mark.kafka
async def test_a_party_keeps_the_keys_that_its_file_does_not_have(connection: KafkaConnection) -> None:
    """Files say who a party is; its keys come and go by another command."""
    document = load_document(EXAMPLE)
    key = PublicKey(kid="k1", jwk=jwk())
    await apply(connection, records_of(with_keys(document, {"sis-noord": [key]})))
    assert await apply(connection, records_of(document)) == []
    registry = Registry.from_records(await store.read_records(connection))
    assert registry.parties["sis-noord"].keys == (key,)
    other = PublicKey(kid="k2", jwk=jwk())
    changes = await apply(connection, records_of(with_keys(document, {"sis-noord": [other, key]})))
    assert changes == [Change("party/sis-noord", "change", ("keys",))]


@pytest.mark.kafka
async def test_a_wrong_password_is_told_as_such(connection: KafkaConnection) -> None:
    """And nothing was begun."""
    stranger = replace(connection, password="wrong")
    for action in (store.read_records(stranger), apply(stranger, example())):
        with pytest.raises(ConfigError) as caught:
            await action
        assert caught.value.code.startswith("kafka.")


@pytest.mark.kafka
async def test_plan_apply_get_and_list(connection: KafkaConnection, tmp_path: Path) -> None:
    """The commands: a plan exits with 2 while something differs, and shows what."""
    from broker.cli.registry import app

    file = tmp_path / "operator.json"
    connection.to_file(file)

    async def broker(*words: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--connection", str(file)])
        return result.exit_code, result.stdout

    code, shown = await broker("plan", str(EXAMPLE), "--json")
    assert code == 2
    assert {json.loads(line)["action"] for line in shown.splitlines()} == {"add"}
    code, shown = await broker("apply", str(EXAMPLE), "--reason", "eerste keer", "--operator", "annelies")
    assert code == 0
    assert "add\tparty/sis-noord" in shown
    assert await broker("plan", str(EXAMPLE)) == (0, "no difference\n")
    code, shown = await broker("get", "party/sis-noord")
    assert json.loads(shown)["roles"] == ["SIS"]
    code, shown = await broker("get", "party/sis-oost")
    assert code == 1
    code, shown = await broker("list", "--kind", "school")
    assert "school/99PA\tDe Regenboog" in shown
    assert "party/" not in shown
    code, shown = await broker("list", "--json")
    assert len(shown.splitlines()) == len(example())
    for kind, line in (
        ("exception", "exception/afstandsonderwijs-2027\t2027-01-18 to 2027-01-29"),
        ("succession", "succession/werkplaats-naar-vakwijs\tbestuur-werkplaats -> bestuur-vakwijs"),
        ("agreement", "agreement/hulp-vo\t1.0"),
        ("connection", "connection/po-usage-delta-sis/sender\taccepted"),
    ):
        assert line in (await broker("list", "--kind", kind))[1]
    code, shown = await broker("get", "exception/afstandsonderwijs-2027")
    assert json.loads(shown)["attributes"] == ["schoolEmail"]


@pytest.mark.kafka
async def test_plan_and_apply_say_which_connections_they_keep(connection: KafkaConnection, tmp_path: Path) -> None:
    """And `--prune-connections` removes those that the folder does not name."""
    from broker.cli.registry import app

    file = tmp_path / "operator.json"
    connection.to_file(file)
    folder = example()
    await apply(connection, folder)
    side = json.loads(folder[LINK]) | {"id": "made-by-event"}
    made = {"connection/made-by-event/receiver": json.dumps(side).encode(), LINK: revoked(folder)}
    await store.change(connection, made, "exchange", "events")

    async def broker(*words: str) -> tuple[int, str, str]:
        command = [*words, str(EXAMPLE), "--connection", str(file)]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
        return result.exit_code, result.stdout, " ".join(result.stderr.split())

    kept = "kept: 1 connection sides that the folder does not name (--prune-connections removes them)"
    newer = "kept: 1 connection sides that are newer than in the folder"
    for command in (["plan"], ["apply", "--reason", "opnieuw"]):
        code, shown, told = await broker(*command)
        assert (code, shown) == (0, "no difference\n")
        assert kept in told
        assert newer in told
    code, shown, told = await broker("plan", "--prune-connections")
    assert code == 2
    assert "remove\tconnection/made-by-event/receiver" in shown
    code, shown, told = await broker("apply", "--prune-connections", "--reason", "opruimen")
    assert code == 0
    assert "remove\tconnection/made-by-event/receiver" in shown
    assert kept not in told
    assert newer in told


@pytest.mark.kafka
async def test_the_command_of_a_succession_shows_it_first(
    connection: KafkaConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--dry-run` writes nothing, before its first day it is refused, and then it is made."""
    from broker.cli import registry as command

    file, wanted = tmp_path / "operator.json", tmp_path / "succession.yaml"
    connection.to_file(file)
    await apply(connection, example())
    made = succession(what="school", predecessor="99VA", successor="99VB", first_day="2027-08-01")
    wanted.write_text(json.dumps({"successions": [made]}), "utf-8")

    async def broker(*words: str) -> tuple[int, str, str]:
        line = ["succeed", str(wanted), "--connection", str(file), "--reason", "verhuizing", *words]
        result = await asyncio.to_thread(CliRunner().invoke, command.app, line)
        return result.exit_code, result.stdout, str(result.exception)

    before = await store.read_records(connection)
    for words, expected in ((["--dry-run"], 0), ([], 1)):
        monkeypatch.setattr(command, "_today", lambda: date(2027, 7, 31))
        code, shown, told = await broker(*words)
        assert code == expected
        assert "remove\tschool/99VA" in shown
        assert "add\tsuccession/s1" in shown
        assert await store.read_records(connection) == before
    assert "begins on 2027-08-01, and it is 2027-07-31" in told
    monkeypatch.setattr(command, "_today", lambda: date(2027, 8, 1))
    code, shown, told = await broker("--json", "--operator", "annelies")
    assert code == 0
    assert {"key": "school/99VB", "action": "add", "fields": []} in map(json.loads, shown.splitlines())
    after = await store.read_records(connection)
    assert json.loads(after["school/99VB"])["formerly"] == ["99VA"]
    assert "school/99VA" not in after


def test_a_leaf_that_would_be_too_long_names_what_was_by_its_hash() -> None:
    """An earlier leaf has it whole; what is too long even so is refused before anything is written."""
    before, after = (json.dumps({"text": letter * 40_000}).encode() for letter in "ab")
    changed = Change("party/x", "change", ("text",))
    found = json.loads(store.control_leaf(changed, before, after, "o", "r", AT))["control"]
    assert found["before"] == {"sha256": sha256(before).hexdigest()}
    assert found["after"] == json.loads(after)
    with pytest.raises(ConfigError, match="too large for the audit log"):
        store.control_leaf(changed, None, json.dumps({"text": "a" * 70_000}).encode(), "o", "r", AT)


class Hidden:
    """A consumer to which the log ends before the change until the producer has ended one more transaction."""

    def __init__(self, producer: Marking, needs: int) -> None:
        self.producer, self.needs = producer, needs

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Where a read_committed reader's log ends."""
        return dict.fromkeys(places, 8 if len(self.producer.marked) >= self.needs else 5)


class Marking:
    """A producer that notes which partitions each of its transactions ended in."""

    def __init__(self) -> None:
        self.marked: list[set[TopicPartition]] = []
        self._txn_manager = self

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """One more."""
        self.marked.append(set())
        yield

    def maybe_add_partition_to_txn(self, place: TopicPartition) -> None:
        """See aiokafka."""
        self.marked[-1].add(place)


@pytest.mark.parametrize(("needs", "code"), [(0, None), (1, None), (2, None), (9, "registry.unseen")])
async def test_a_change_that_was_acknowledged_and_not_marked_is_marked_again(
    needs: int, code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KAFKA-20734: it would keep every worker waiting. What stays hidden is an error that says so."""
    producer = Marking()
    monkeypatch.setattr("broker.kafka.reading.ClosingConsumer", lambda **_: Hidden(producer, needs))
    monkeypatch.setattr(store, "SEEN_LOOKS", 1)
    monkeypatch.setattr(store, "SEEN_PAUSE_S", 0.0)
    nowhere = KafkaConnection("127.0.0.1:1", insecure_plaintext=True)
    if code is None:
        await store.see_committed(nowhere, producer, 7)
        assert producer.marked == [{TopicPartition("registry", 0), TopicPartition("audit.control", 0)}] * needs
    else:
        with pytest.raises(TransientError) as caught:
            await store.see_committed(nowhere, producer, 7)
        assert caught.value.code == code


def test_a_record_that_nobody_can_read_can_be_replaced() -> None:
    """Its leaf names it by its hash; the change that puts the registry right must not fail on what is wrong."""
    leaf = json.loads(store.control_leaf(Change("party/x", "change"), b"no JSON", b"{}", "o", "r", AT))
    assert leaf["control"]["before"] == {"sha256": sha256(b"no JSON").hexdigest()}


def test_a_whole_change_of_the_shipped_policy_fits_into_a_leaf() -> None:
    """With room to grow."""
    policy = example()["policy/current"]
    found = store.control_leaf(Change("policy/current", "add"), None, policy, "o", "r", AT)
    assert len(found) < store.MAX_LEAF_BYTES * 0.7
