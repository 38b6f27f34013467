"""A new key takes the place of the one that signs the logs: on a real Kafka, and with the auditor's own verifier."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from broker.audit import verify
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import CHECKPOINT, COSIGNED, KEY, LogDirectory
from broker.audit.log.note import split_note
from broker.audit.log.tiles import TileBuilder
from broker.audit.rotation import Announced, KeyChange, vkey_of
from broker.auditlog import builder as module
from broker.auditlog.book import SECRET, LogName, SigningKeys, number_of, secret_of
from broker.auditlog.rotation import DAY_MS, announce, change_of, destroy_old, make_next, require_over
from broker.cli import build
from broker.errors import ConfigError
from broker.exchange.model import AUDIT_CONTROL
from broker.keys import FileKeys, MemoryKeys
from tests.auditlog.conftest import Desk
from tests.auditlog.test_builder import Killed, _kill, values
from tests.engine.machine import create_topics

NOW = 1_795_305_600_000
BASE = "broker.example/audit"


def accepts(folder: Path, *vkeys: str) -> bool:
    """Whether the auditor's verifier accepts a log, with these keys and no others."""
    keys = [word for vkey in vkeys for word in ("--key", vkey)]
    return verify.main(["log", str(folder), "--entries", "hashes", *keys]) == 0


def signatures(desk: Desk) -> int:
    """How many the checkpoint that readers see has."""
    return len(split_note(desk.directory().checkpoint() or b"")[1])


@pytest.fixture
def seeds() -> MemoryKeys:
    """One signing key."""
    keys = MemoryKeys()
    keys.create_secret(SECRET)
    return keys


async def test_no_reader_is_shut_out_while_the_key_changes(desk: Desk, seeds: MemoryKeys, tmp_path: Path) -> None:
    """The builder is not restarted; a log that does not grow is signed again; what the old key signed stays good."""
    desk = replace(desk, keys=SigningKeys(seeds))
    folder = desk.directory().path
    await desk.write(*values(0, 300))
    async with desk.building():
        await desk.until_size(300)
        (old,) = desk.keys.vkeys(desk.name())
        before = tmp_path / "old.checkpoint"
        before.write_bytes((folder / CHECKPOINT).read_bytes())

        make_next(seeds, desk.base)  # the overlap
        await desk.until(lambda: signatures(desk) == 2)
        new = desk.keys.vkeys(desk.name())[1]
        assert accepts(folder, old)
        assert accepts(folder, new)
        await desk.write(*values(300, 320))
        await desk.until_size(320)
        assert accepts(folder, old)
        assert accepts(folder, new)

        assert destroy_old(seeds) == [SECRET]  # its end
        await desk.write(*values(320, 340))
        await desk.until_size(340)
    assert desk.seen.failures == []
    assert not accepts(folder, old)
    assert accepts(folder, new)
    assert (folder / KEY).read_text() == f"{old}\n{new}\n"
    now = str(folder / CHECKPOINT)
    assert verify.main(["consistency", str(before), now, "--log", str(folder)]) == 0
    assert verify.main(["consistency", str(before), now, "--log", str(folder), "--key", new]) != 0
    assert desk.leaves() == values(0, 340)


async def test_two_builders_of_which_one_has_not_got_the_new_key_make_one_log(desk: Desk, seeds: MemoryKeys) -> None:
    """Their checkpoints differ in signatures only; who knows the old key reads both; in the end both keys have signed."""
    both = MemoryKeys()
    both._secrets = dict(seeds._secrets)
    make_next(both, desk.base)
    behind, ahead = (replace(desk, keys=SigningKeys(keys)) for keys in (seeds, both))
    (old,) = behind.keys.vkeys(desk.name())
    sizes = []
    async with behind.building(), ahead.building():
        for round_ in range(10):
            await desk.write(*values(round_ * 30, round_ * 30 + 30))
            if (shown := behind.shown()) is not None:  # opened with the old key alone
                sizes.append(shown.size)
        await behind.until_size(300)
        await desk.until(lambda: signatures(desk) == 2)
    assert sizes == sorted(sizes)
    assert not any(stopped for _, stopped in desk.seen.failures)
    assert ahead.leaves() == values(0, 300)
    assert (desk.directory().path / KEY).read_text().splitlines() == ahead.keys.vkeys(desk.name())
    assert accepts(desk.directory().path, old)


STEPS: dict[str, tuple[object, str]] = {
    "keys": (LogDirectory, "show_key"),
    "transaction": (module, "write_standing"),
    "checkpoint": (LogDirectory, "publish"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_builder_that_is_killed_while_it_signs_anew_comes_to_it_again(
    desk: Desk, seeds: MemoryKeys, monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool
) -> None:
    """Nothing new comes that would make it sign; the checkpoint that readers see has both signatures all the same."""
    desk = replace(desk, keys=SigningKeys(seeds))
    await desk.write(*values(0, 20))
    async with desk.building():
        await desk.until_size(20)
    with monkeypatch.context() as patch:
        async with desk.building():
            await desk.until(lambda: signatures(desk) == 1)
            where, name = STEPS[step]
            _kill(patch, where, name, 2 if step == "keys" else 1, after=after)  # the first is that of its start
            make_next(seeds, desk.base)
            await desk.until(lambda: any(isinstance(error, Killed) for error, _ in desk.seen.failures))
            await desk.until(lambda: signatures(desk) == 2)
            await desk.write(*values(20, 21))
            await desk.until_size(21)
    assert desk.leaves() == values(0, 21)
    assert (desk.directory().path / KEY).read_text().splitlines() == desk.keys.vkeys(desk.name())


async def test_from_the_new_key_to_the_end_of_the_old_one(desk: Desk, seeds: MemoryKeys, tmp_path: Path) -> None:
    """The leaf stands on the control topic, the log has it, and only then and after its term may the old key go."""
    topics = AdminClient(desk.connection.confluent()).list_topics(timeout=10).topics
    if AUDIT_CONTROL not in topics:
        create_topics(desk.connection, {AUDIT_CONTROL: 1})
    desk = replace(desk, topic=AUDIT_CONTROL, keys=SigningKeys(seeds))
    await desk.write(b'{"control":{"kind":"registry"},"v":1}')
    async with desk.building():
        await desk.until(desk.shown)
        change = make_next(seeds, desk.base)
        with pytest.raises(ConfigError, match="not announced"):
            require_over(change, desk.root, NOW)
        size = (desk.shown() or Checkpoint("x", 1, bytes(32))).size
        (tmp_path / "key.json").write_bytes(change.pack())
        desk.connection.to_file(tmp_path / "operator.json")
        words = ["announce", str(tmp_path / "key.json"), "--connection", str(tmp_path / "operator.json")]
        done = await asyncio.to_thread(run, *words, "--operator", "olga", "--reason", "two years")
        assert done[0] == 0, done
        told = await announce(desk.connection, change, operator="olga", reason="again", now_ms=NOW)
        await desk.until_size(size + 2)
        await desk.until(lambda: signatures(desk) == 2)
    assert Announced.read(desk.leaves()[-1]) == told
    first = Announced.read(desk.leaves()[-2])
    assert first is not None
    assert (first.change, first.operator, first.reason) == (change, "olga", "two years")
    assert first.both_until_ms - first.at_ms == 30 * DAY_MS
    assert told.both_until_ms == NOW + 30 * DAY_MS
    with pytest.raises(ConfigError, match="Both keys are to sign until 2026-12-2"):
        require_over(change, desk.root, told.both_until_ms - 1)
    require_over(change, desk.root, told.both_until_ms)
    destroy_old(seeds)
    assert SigningKeys(seeds).public_keys() == [change.new]


async def test_nobody_announces_without_a_name_and_a_reason(desk: Desk) -> None:
    """They stand in the log for ever."""
    change = KeyChange(BASE, (bytes(32),), bytes(31) + b"x")
    with pytest.raises(ConfigError, match="reason"):
        await announce(desk.connection, change, operator="olga", reason=" ", now_ms=NOW)


# ---- without Kafka


@dataclass
class Logs:
    """Folders of logs that the test signs."""

    root: Path
    seeds: MemoryKeys

    def sign(self, log: str, *entries: bytes, file: str = CHECKPOINT, epoch: int = 1) -> LogDirectory:
        """Grow a log by these entries and sign it with the keys of this moment."""
        name = LogName(BASE, log, epoch)
        directory = LogDirectory(self.root / name.folder)
        keys = SigningKeys(self.seeds)
        note = directory.checkpoint()
        size = 0 if note is None else Checkpoint.parse(split_note(note)[0]).size
        builder = TileBuilder(directory.load_edge(size))
        directory.write_immutable(builder.append(entries).files)
        signed = keys.sign(name, Checkpoint(name.origin, builder.edge.size, builder.edge.root()))
        directory.show_key(*keys.vkeys(name))
        (directory.publish if file == CHECKPOINT else directory.publish_cosigned)(signed)
        return directory


@pytest.fixture
def logs(tmp_path: Path, seeds: MemoryKeys) -> Logs:
    """Two logs and a closed epoch, signed with the first key."""
    logs = Logs(tmp_path / "logs", seeds)
    for log in ("control", "p0"):
        logs.sign(log, b"first")
    logs.sign("p0", b"second", epoch=2)
    return logs


def announced(logs: Logs, until: int = NOW) -> KeyChange:
    """Make the next key, and have the control log announce it."""
    change = make_next(logs.seeds, BASE)
    logs.sign("control", Announced(change, NOW - DAY_MS, until, "olga", "two years").leaf())
    return change


def test_the_old_key_stays_until_the_new_one_has_signed_each_log(logs: Logs) -> None:
    """What witnesses cosigned too; a closed epoch is left as it is."""
    change = announced(logs)
    with pytest.raises(ConfigError, match=r"p0-2 is not signed with the new key"):
        require_over(change, logs.root, NOW)
    logs.sign("p0", epoch=2)
    require_over(change, logs.root, NOW)
    directory = logs.root / "p0-2"
    (directory / COSIGNED).write_bytes((logs.root / "p0-1" / CHECKPOINT).read_bytes())
    with pytest.raises(ConfigError, match=r"p0-2 is not signed with the new key"):
        require_over(change, logs.root, NOW)


def test_the_last_announcement_counts(logs: Logs) -> None:
    """So the term can be made longer, and one of another key says nothing."""
    change = announced(logs)
    logs.sign("p0", epoch=2)
    require_over(change, logs.root, NOW)
    logs.sign("control", Announced(change, NOW, NOW + DAY_MS, "olga", "a witness is late").leaf())
    with pytest.raises(ConfigError, match="Both keys are to sign until"):
        require_over(change, logs.root, NOW)
    other = KeyChange(BASE, change.old, bytes(32))
    with pytest.raises(ConfigError, match="not announced"):
        require_over(other, logs.root, NOW)


def test_an_announcement_that_is_not_in_the_signed_tree_does_not_count(logs: Logs) -> None:
    """Somebody changed the term in the folder: the proof does not fit."""
    change = announced(logs, until=NOW + 10 * DAY_MS)
    logs.sign("p0", epoch=2)
    bundle = logs.root / "control-1" / "tile/entries/000.p/2"
    bundle.write_bytes(bundle.read_bytes().replace(str(NOW + 10 * DAY_MS).encode(), str(NOW).encode()))
    with pytest.raises(ConfigError, match="can not be relied on"):
        require_over(change, logs.root, NOW)


def test_another_installation_has_no_say(logs: Logs) -> None:
    """A mistyped name is not taken for logs that are all signed."""
    change = announced(logs)
    with pytest.raises(ConfigError, match="None of the logs"):
        require_over(replace(change, base="broker.example/other"), logs.root, NOW)


def test_a_second_rotation_does_not_begin_before_the_first_ended(seeds: MemoryKeys) -> None:
    """The third key has the next number; no name is used twice."""
    with pytest.raises(ConfigError, match="One key signs"):
        change_of(seeds, BASE)
    first = make_next(seeds, BASE)
    with pytest.raises(ConfigError, match="under way"):
        make_next(seeds, BASE)
    assert change_of(seeds, BASE) == first
    destroy_old(seeds)
    second = make_next(seeds, BASE)
    assert second.old == (first.new,)
    assert seeds.secret_names() == ("audit-log.2", "audit-log.3")


def test_the_tenth_key_comes_after_the_ninth() -> None:
    """By number, not by letter; what is no signing key is passed over."""
    names = [secret_of(number) for number in (1, 2, 9, 10)]
    assert names == ["audit-log", "audit-log.2", "audit-log.9", "audit-log.10"]
    assert [number_of(name) for name in names] == [1, 2, 9, 10]
    assert [number_of(name) for name in ("audit-log.1", "audit-log.02", "audit-log-x", "vault-mac")] == [None] * 4
    keys = MemoryKeys()
    for name in (*reversed(names), "vault-mac"):
        keys.create_secret(name)
    made = [SigningKeys(_Only(keys, name)).public_keys()[0] for name in names]
    assert SigningKeys(keys).public_keys() == made


class _Only:
    """A folder with one of the secrets of another."""

    def __init__(self, keys: MemoryKeys, name: str) -> None:
        self._keys, self._name = keys, name

    def secret_names(self) -> tuple[str, ...]:
        """One."""
        return (self._name,)

    def secret(self, name: str) -> bytes:
        """Of the other."""
        return self._keys.secret(name)


def test_without_a_key_nothing_begins() -> None:
    """A rotation is none of a first key."""
    for begin in (SigningKeys, lambda keys: make_next(keys, BASE), destroy_old):
        with pytest.raises(ConfigError, match="no key audit-log"):
            begin(MemoryKeys())


# ---- commands


def run(*words: str) -> tuple[int, str, str]:
    """`broker auditlog key ...`: exit code, stdout, and what went wrong."""
    done = CliRunner().invoke(build("auditlog"), ["auditlog", "key", *words])
    return done.exit_code, done.stdout, str(done.exception)


@pytest.fixture
def folder(tmp_path: Path) -> FileKeys:
    """The builder's keys."""
    keys = FileKeys(tmp_path / "keys")
    keys.create_secret(SECRET)
    return keys


def _words(keys: FileKeys, logs: Path) -> Callable[..., list[str]]:
    def words(command: str, *more: str) -> list[str]:
        place = ["--logs", str(logs)] if command == "retire" else []
        return [command, "--name", BASE, "--keys", str(keys.folder), *place, *more]

    return words


def test_the_commands_of_a_rotation(folder: FileKeys, tmp_path: Path) -> None:
    """What is printed is public; the old key goes when it may, or when somebody says that it must."""
    words = _words(folder, tmp_path / "logs")
    code, line, _ = run(*words("new"))
    assert code == 0
    assert set(json.loads(line)["key"]) == {"base", "new", "old"}
    assert all(folder.secret(name).hex() not in line for name in folder.secret_names())
    assert run(*words("show"))[1] == line
    code, _, why = run(*words("retire"))
    assert (code, folder.secret_names()) == (1, ("audit-log", "audit-log.2"))
    assert "No folder in" in why
    signed = Logs(tmp_path / "logs", folder)  # type: ignore[arg-type]
    change, past = KeyChange.unpack(line.encode()), time.time_ns() // 1_000_000 - 1
    told = Announced(change, past - DAY_MS, past, "olga", "two years")
    signed.sign("control", told.leaf())
    assert run(*words("retire"))[0] == 0
    assert folder.secret_names() == ("audit-log.2",)
    assert vkey_of(LogName(BASE, "p0").origin, change.new) == SigningKeys(folder).vkeys(LogName(BASE, "p0"))[0]


def test_a_key_in_other_hands_goes_at_once(folder: FileKeys, tmp_path: Path) -> None:
    """And none of its name is made again by the command that made the first."""
    words = _words(folder, tmp_path / "logs")
    run(*words("new"))
    assert run(*words("retire", "--before-the-overlap-ends"))[0] == 0
    assert folder.secret_names() == ("audit-log.2",)
    with pytest.raises(ConfigError, match="was destroyed"):
        folder.create_secret(SECRET)
    assert run(*words("retire"))[0] == 1


def test_a_retirement_that_was_killed_is_ended_by_the_next(
    folder: FileKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old key signs nothing any more from the first step on."""
    words = _words(folder, tmp_path / "logs")
    run(*words("new"))
    new = SigningKeys(folder).public_keys()[1]

    def die(path: Path) -> Any:
        raise Killed(path)

    with monkeypatch.context() as patch:
        patch.setattr("broker.keys.files.overwrite_and_unlink", die)
        assert run(*words("retire", "--before-the-overlap-ends"))[0] == 1
    assert (folder.folder / "audit-log.secret").exists()
    assert SigningKeys(folder).public_keys() == [new]
    assert run(*words("retire"))[0] == 0
    assert not (folder.folder / "audit-log.secret").exists()
