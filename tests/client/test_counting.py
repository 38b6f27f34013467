"""A book of counts: one file, one process, notes that are sent until Kafka has them. Kafka is a list here."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError
from typer.testing import CliRunner

from broker.audit.count import Count
from broker.audit.log.note import Verifier
from broker.cli import build, party
from broker.client import Consumer, CountBook, Producer, Profile, counting
from broker.client.counting import COUNT_KEY, count_signer
from broker.client.profile import CONNECTION_FILE, KEYS_FOLDER, RECORD_KEY_SECRET
from broker.errors import BrokerError, ConfigError
from broker.kafka.connection import KafkaConnection
from broker.keys import FileKeys, MemoryKeys
from tests.audit.test_count import LANE, ORIGIN
from tests.client.test_tally import trace, true_root
from tests.exchange.world import PORTAL

FLOW = f"{LANE}/out.{PORTAL}.usage/0"
NOWHERE = KafkaConnection("127.0.0.1:1", insecure_plaintext=True)


@dataclass
class Topic:
    """`audit.counts`, and its producer.

    Attributes:
        fails: what each sending meets. then: how many records are taken before it. ends_with: what `stop` meets.
    """

    notes: list[bytes] = field(default_factory=list)
    fails: BaseException | None = None
    then: int = 0
    ends_with: BaseException | None = None

    def __call__(self, **_settings: Any) -> Topic:
        """A producer."""
        return self

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Close."""
        if self.ends_with is not None:
            raise self.ends_with

    async def partitions_for(self, topic: str) -> set[int]:
        """See aiokafka."""
        assert topic == "audit.counts"
        return {0}

    async def send_and_wait(self, topic: str, note: bytes, *, partition: int) -> None:
        """See aiokafka."""
        assert (topic, partition) == ("audit.counts", 0)
        if self.fails is not None and not self.then:
            raise self.fails
        self.then = max(0, self.then - 1)
        self.notes.append(note)


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    """Kafka takes everything."""
    made = Topic()
    monkeypatch.setattr(counting, "AIOKafkaProducer", made)
    return made


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    """Of the portal, with a key to count with."""
    folder = tmp_path / PORTAL
    keys = FileKeys(folder / KEYS_FOLDER)
    keys.create_secret(RECORD_KEY_SECRET)
    keys.create_secret(COUNT_KEY)
    return Profile(PORTAL, NOWHERE, keys, folder)


def book(profile: Profile, told: list[str] | None = None, **changes: Any) -> CountBook:
    """One that says things to a list."""
    settings: dict[str, Any] = {"origin": ORIGIN, "tell": ([] if told is None else told).append, **changes}
    return CountBook(profile, **settings)


def read(its: CountBook, *numbers: int) -> None:
    """Records of the flow were processed."""
    for number in numbers:
        its.read(FLOW, number, trace(number))


def opened(profile: Profile, notes: list[bytes]) -> Iterator[tuple[int, int]]:
    """The numbers of the notes, each verified."""
    keys = {PORTAL: [Verifier.parse(count_signer(profile).vkey)]}
    for note in notes:
        count = Count.open(note, keys, ORIGIN)
        assert count.root == true_root(count.last)
        yield count.first, count.last


async def test_it_sends_signed_counts_at_the_end_and_goes_on_the_next_time(profile: Profile, topic: Topic) -> None:
    """From one file, that only its owner may read."""
    for numbers in ((1, 2), (2, 3, 4), ()):
        its = book(profile)
        await its.open()
        read(its, *numbers)
        await its.close()
    assert list(opened(profile, topic.notes)) == [(1, 2), (3, 4)]
    file = profile.folder / "counts.json" if profile.folder else Path()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_bytes())["flows"][FLOW][0] == 4


async def test_it_sends_now_and_then(profile: Profile, topic: Topic) -> None:
    """Without being asked."""
    its = book(profile, every_s=0.01)
    await its.open()
    read(its, 1)
    async with asyncio.timeout(20):
        while not topic.notes:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)
        read(its, 2)
        while len(topic.notes) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await its.close()
    assert list(opened(profile, topic.notes)) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("error", [KafkaConnectionError(), TopicAuthorizationFailedError()], ids=["away", "denied"])
async def test_what_could_not_be_sent_is_kept_told_and_sent_first(
    profile: Profile, topic: Topic, error: Exception
) -> None:
    """To the byte, by the next program; nothing of the party's work stops for it."""
    topic.fails, told = error, list[str]()
    first = book(profile, told)
    await first.open()
    read(first, 1, 2)
    await first.close()
    assert "counts could not be sent, and are kept" in told[0]
    assert ("audit.counts" in told[0]) == isinstance(error, TopicAuthorizationFailedError)
    topic.fails = None
    second = book(profile, told, every_s=3600)
    await second.open()
    read(second, 3)
    async with asyncio.timeout(20):
        while not topic.notes:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)
    await second.close()
    assert list(opened(profile, topic.notes)) == [(1, 2), (3, 3)]
    assert len(told) == 1


class Killed(Exception):
    """Stands for a kill -9: nothing after it is done."""


async def test_killed_after_a_note_was_sent_the_same_note_comes_again(profile: Profile, topic: Topic) -> None:
    """The keeper knows it; another one with other numbers would be a gap."""
    topic.fails, topic.then = Killed(), 1
    first = book(profile)
    await first.open()
    read(first, 1, 2)
    first.read(FLOW[:-1] + "1", 1, trace(1))
    with pytest.raises(Killed):
        await first.close()
    topic.fails = None
    second = book(profile)
    await second.open()
    read(second, 3)
    await second.close()
    assert topic.notes[0] == topic.notes[1]
    assert sorted(opened(profile, topic.notes)) == [(1, 1), (1, 2), (1, 2), (3, 3)]


async def test_two_processes_do_not_count_over_each_other(profile: Profile, topic: Topic) -> None:
    """The second says so; consumers and producers of one program share a book, which ends with the last of them."""
    its = book(profile)
    await its.open()
    await its.open()
    with pytest.raises(ConfigError) as error:
        await book(profile).open()
    assert error.value.code == "count.busy"
    other = book(profile, file="counts-usage.json")
    await other.open()
    await other.close()
    await its.close()
    read(its, 1)
    assert topic.notes == []
    await its.close()
    assert len(topic.notes) == 1
    again = book(profile)
    await again.open()
    await again.close()


async def test_a_client_that_does_not_come_up_leaves_the_book_to_others(profile: Profile, topic: Topic) -> None:
    """Whether it sends or receives."""
    del topic
    its = book(profile)
    for client in (Consumer(profile, "usage", counting=its), Producer(profile, counting=its)):
        with pytest.raises(BrokerError):
            await client.start()
        other = book(profile)
        await other.open()
        await other.close()


async def test_what_is_not_on_the_disk_is_not_sent(profile: Profile, topic: Topic) -> None:
    """A file that can not be written is an error: the reading group must not go on without it."""
    told = list[str]()
    its = book(profile, told)
    await its.open()
    read(its, 1)
    assert profile.folder is not None
    (profile.folder / "counts.json.new").mkdir()
    with pytest.raises(ConfigError) as error:
        await its.save()
    assert error.value.code == "count.file"
    with pytest.raises(ConfigError):
        await its.begin(f"in.{PORTAL}", 0)
    with pytest.raises(ConfigError):
        await its.tell()
    assert topic.notes == []
    (profile.folder / "counts.json.new").rmdir()
    await its.save()
    assert json.loads((profile.folder / "counts.json").read_bytes())["flows"][FLOW][0] == 1
    await its.close()
    assert list(opened(profile, topic.notes)) == [(1, 1)]


def test_an_older_version_that_comes_late_does_not_replace_a_newer_one(profile: Profile) -> None:
    """Who waited for its thread was cancelled, and the thread went on."""
    its = book(profile)
    its._write(2, b"newer")
    its._write(1, b"older")
    assert profile.folder is not None
    assert (profile.folder / "counts.json").read_bytes() == b"newer"


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "list": b"[]",
    "newer": b'{"v":2}',
    "half": b'{"v":1,"origin":"x","party":"portaal-plein","flows":{"a":[1]}}',
    "root": b'{"v":1,"origin":"broker.example/audit/test","party":"portaal-plein","flows":{"a":[1,"00",1]}}',
    "another-party": b'{"v":1,"origin":"broker.example/audit/test","party":"x","flows":{},"inputs":{},"unsent":{}}',
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_book_that_can_not_be_read_is_never_begun_anew(profile: Profile, name: str) -> None:
    """It would count from 1, over what was said before."""
    assert profile.folder is not None
    (profile.folder / "counts.json").write_bytes(BROKEN[name])
    for _ in range(2):
        with pytest.raises(ConfigError) as error:
            await book(profile).open()
        assert error.value.code in ("count.file", "count.origin")


async def test_a_book_is_of_one_name(profile: Profile, topic: Topic) -> None:
    """Of logs; and one name has a form."""
    its = book(profile)
    await its.open()
    read(its, 1)
    await its.close()
    del topic
    with pytest.raises(ConfigError) as error:
        await book(profile, origin="other.example/audit").open()
    assert error.value.code == "count.origin"
    with pytest.raises(ConfigError) as error:
        book(profile, origin="two words")
    assert error.value.code == "count.origin"


def test_who_has_no_key_or_no_folder_is_told_what_to_do(profile: Profile, tmp_path: Path) -> None:
    """Before anything starts."""
    with pytest.raises(ConfigError, match=f"broker party count-key {PORTAL}") as error:
        book(Profile(PORTAL, NOWHERE, MemoryKeys(), tmp_path))
    assert error.value.code == "count.key"
    with pytest.raises(ConfigError) as error:
        book(Profile(PORTAL, NOWHERE, profile.keys))
    assert error.value.code == "count.folder"


def test_a_book_is_used_in_one_event_loop(profile: Profile, topic: Topic) -> None:
    """Two blocking clients have a loop each."""
    del topic
    its, loops = book(profile), [asyncio.new_event_loop() for _ in range(2)]
    try:
        loops[0].run_until_complete(its.open())
        with pytest.raises(ConfigError) as error:
            loops[1].run_until_complete(its.open())
        assert error.value.code == "count.loop"
        loops[0].run_until_complete(its.close())
    finally:
        for loop in loops:
            loop.close()


def test_the_command_prints_the_key_for_the_registry(tmp_path: Path) -> None:
    """The same one each time; the private half stays in the profile."""
    folder = tmp_path / PORTAL
    folder.mkdir()
    KafkaConnection("127.0.0.1:1", username=PORTAL, password="x").to_file(folder / CONNECTION_FILE)
    arguments = ["party", "count-key", PORTAL, "--profiles", str(tmp_path)]
    first, second = (CliRunner().invoke(build("party"), arguments) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert first.stdout == second.stdout
    assert first.stdout == f"count_keys:\n- {count_signer(Profile.load(folder)).vkey}\n"
    seed = (folder / KEYS_FOLDER / f"{COUNT_KEY}.secret").read_text().strip()
    assert seed not in first.output
    assert party.COUNT_KEY == COUNT_KEY


def test_outcomes_are_not_counted(tmp_path: Path) -> None:
    """They have no flow."""
    folder = tmp_path / PORTAL
    folder.mkdir()
    KafkaConnection("127.0.0.1:1", username=PORTAL, password="x").to_file(folder / CONNECTION_FILE)
    done = CliRunner().invoke(
        build("receive"), ["receive", PORTAL, "status", "--count", ORIGIN, "--profiles", str(tmp_path)]
    )
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == "count.status"


@pytest.mark.parametrize("where", ["fails", "ends_with"])
async def test_a_cancellation_of_kafka_s_client_itself_is_a_failure_like_others(
    profile: Profile, topic: Topic, where: str
) -> None:
    """aiokafka lets one of its own tasks' escape while Kafka is away: who receives must not be ended by it."""
    setattr(topic, where, asyncio.CancelledError())
    told = list[str]()
    its = book(profile, told)
    await its.open()
    read(its, 1, 2)
    await its.close()
    assert [sentence.rpartition(": ")[2] for sentence in told] == (["CancelledError"] if where == "fails" else [])
    topic.fails = topic.ends_with = None
    its = book(profile)
    await its.open()
    await its.close()
    assert list(opened(profile, topic.notes)) == [(1, 2)]


async def test_who_is_told_to_end_while_counts_are_sent_ends(profile: Profile, topic: Topic) -> None:
    """That is no failure of Kafka's client."""
    sending = asyncio.Event()

    async def waits(*_: object, **__: object) -> None:
        sending.set()
        await asyncio.Event().wait()

    topic.send_and_wait = waits  # type: ignore[method-assign,assignment]
    its = book(profile)
    await its.open()
    read(its, 1)
    closing = asyncio.create_task(its.close())
    await sending.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
