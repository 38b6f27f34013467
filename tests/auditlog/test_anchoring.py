"""Anchors: what the logs show, stamped by `openssl ts`, and verified by it and by us."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs
from typer.testing import CliRunner

from broker.audit import anchor as anchors
from broker.audit.anchor import AnchorError, authorities_in, check_token, parse_text, request_for, text_of
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import CHECKPOINT, KEY, HistoryDiffers
from broker.audit.log.note import NoteError, Signer, render
from broker.audit.signed import keys_beside_logs
from broker.auditlog import anchoring
from broker.auditlog.anchoring import AnchorFolder, AnchorService, Authority, anchor, mirror_anchors, session_for
from broker.cli import build
from broker.errors import ConfigError, TransientError
from tests.auditlog.test_mirroring import LEAVES, Source
from tests.auditlog.tsa import OPENSSL, REASON, Tsa, serving

pytestmark = pytest.mark.skipif(OPENSSL is None, reason=REASON)


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    """The authority that is trusted."""
    return Tsa(tmp_path_factory.mktemp("tsa") / "one")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Two logs, of which one has a cosigned checkpoint that lags."""
    root = tmp_path / "logs"
    one, other = Source(root), Source(root, origin="broker.example/audit/control/1", seed=b"\1" * 32)
    one.grow(600, cosign=True)
    one.grow(700)
    other.grow(5)
    return root


def authority(tsa: Tsa, url: str) -> Authority:
    """With its certificate."""
    return Authority(url, tuple(authorities_in(tsa.ca)))


async def stamp(logs: Path, tsa: Tsa, answer: Callable[[bytes], Any] | None = None, **more: Any) -> Any:
    """Ask once."""
    async with serving(answer or tsa.answer) as (url, _):
        asked = authority(tsa, url)
        async with session_for(asked) as session:
            return await anchor(logs, asked, session, **more)


def verify(logs: Path, tsa: Tsa, hour: str, *more: str) -> tuple[int, str]:
    """`broker audit anchor`: exit code, and all that it says."""
    text, token = AnchorFolder(logs).files(hour)
    words = ["audit", "anchor", str(text), str(token), "--tsa-ca", str(tsa.ca), "--logs", str(logs), *more]
    done = CliRunner().invoke(build("audit"), words)
    return done.exit_code, done.output + str(done.exception or "")


async def test_what_the_logs_show_is_stamped_and_verifies_years_later(logs: Path, tsa: Tsa) -> None:
    """By `openssl ts -verify` and by us; the logs have grown on since. Nothing but a hash left the machine."""
    async with serving(tsa.answer) as (url, came):
        asked = authority(tsa, url)
        async with session_for(asked) as session:
            hour, at = await anchor(logs, asked, session) or ("", None)
            assert await anchor(logs, asked, session) is None  # there is one of this hour
    assert len(came) == 1
    assert re.fullmatch(r"20\d{8}", hour)
    text, token = AnchorFolder(logs).files(hour)
    assert sha256(text.read_bytes()).digest() in came[0]
    assert b"broker.example" not in came[0]
    assert [(a.checkpoint.origin, a.checkpoint.size) for a in parse_text(text.read_bytes())] == [
        ("broker.example/audit/control/1", 5), ("broker.example/audit/p0/1", 600), ("broker.example/audit/p0/1", 700),
    ]  # fmt: skip
    assert tsa.openssl_verifies(text, token)
    assert at is not None
    code, said = verify(logs, tsa, hour)
    assert (code, f"VERIFIED: stamped at {at:%F %T} UTC; 3 checkpoints of 2 logs." in said) == (0, True)


async def test_each_bit_of_what_was_stamped_counts(logs: Path, tsa: Tsa) -> None:
    """The texts and their signatures; and openssl says the same."""
    hour, _ = await stamp(logs, tsa)
    file, token = AnchorFolder(logs).files(hour)
    good, answer, known = file.read_bytes(), token.read_bytes(), authorities_in(tsa.ca)
    for at in range(len(good)):
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises(AnchorError):
            check_token(answer, changed, known)
    file.write_bytes(good.replace(b"\n700\n", b"\n701\n"))
    assert not tsa.openssl_verifies(file, token)
    assert verify(logs, tsa, hour)[0] == 1


async def test_no_changed_answer_is_taken_for_another_time_or_text(logs: Path, tsa: Tsa) -> None:
    """A flipped bit is refused, or is none that counts: what is told stays the same. Nothing else is raised."""
    text = text_of(logs)
    answer, known = tsa.answer(request_for(text).as_bytes()), authorities_in(tsa.ca)
    at, accepted = check_token(answer, text, known), 0
    for bit in range(0, len(answer) * 8, 5):
        changed = bytearray(answer)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert check_token(bytes(changed), text, known) == at
            accepted += 1
        except AnchorError:
            pass
    assert accepted < len(answer) * 8 / 5 / 2


async def test_a_log_that_was_taken_back_rewritten_or_removed_is_found(logs: Path, tsa: Tsa, tmp_path: Path) -> None:
    """The anchor is the witness that nobody can ask for another answer."""
    hour, _ = await stamp(logs, tsa)
    (tmp_path / "keys").write_text("".join((logs / each / KEY).read_text() for each in ("p0-1", "control-1")))
    (logs / "p0-1").rename(tmp_path / "away")
    assert "no log of that origin" in verify(logs, tsa, hour, "--key-file", str(tmp_path / "keys"))[1]
    shorter = Source(logs)
    shorter.grow(650)
    code, said = verify(logs, tsa, hour)
    assert (code, "of 700 leaves: the log has 650 leaves only" in said, "of 600" in said) == (1, True, False)
    (logs / "p0-1").rename(tmp_path / "shorter")
    Source(logs).grow(900, [*LEAVES[:650], *(b"x" + leaf for leaf in LEAVES[650:])])
    code, said = verify(logs, tsa, hour)
    assert (code, "of 700 leaves: it is not shown" in said) == (1, True)


async def test_an_anchored_checkpoint_must_be_signed_by_its_log(logs: Path, tsa: Tsa, tmp_path: Path) -> None:
    """With keys from elsewhere; a key that was retired since still counts."""
    hour, _ = await stamp(logs, tsa)
    forger = Source(tmp_path / "forger", seed=b"\2" * 32)
    forger.grow(1)
    (tmp_path / "keys").write_text(f"{forger.signer.vkey}\n")
    code, said = verify(logs, tsa, hour, "--key-file", str(tmp_path / "keys"))
    assert (code, "no signature of a key that is known" in said) == (1, True)
    log = Source(logs)
    new = Signer(log.origin, Ed25519PrivateKey.from_private_bytes(b"\3" * 32))
    log.directory.show_key(new.verifier.vkey)
    log.grow(700)
    text = Checkpoint(log.origin, 700, log.builder.edge.root()).text()
    log.directory.publish(render(text, [new.sign(text)]))
    assert verify(logs, tsa, hour)[0] == 0


def test_the_key_of_another_log_does_not_sign_for_this_one(logs: Path) -> None:
    """It is known, and its signature is good; it is of another name."""
    other = Source(logs, origin="broker.example/audit/control/1", seed=b"\1" * 32)
    known = keys_beside_logs(logs)
    (mine,) = (each for each in parse_text(text_of(logs)) if each.checkpoint.size == 700)
    text = mine.checkpoint.text()
    forged = anchors.Anchored.read(render(text, [other.signer.sign(text)]))
    assert list(anchors.findings([mine], logs, known)) == []
    (found,) = anchors.findings([forged], logs, known)
    assert "not signed by its log" in found


async def test_another_authority_is_not_trusted(logs: Path, tsa: Tsa, tmp_path: Path) -> None:
    """A certificate of any other root; what it stamped is no anchor."""
    other = Tsa(tmp_path / "other")
    with pytest.raises(AnchorError, match="certificates"):
        await stamp(logs, tsa, other.answer)
    text = text_of(logs)
    answer = tsa.answer(request_for(text).as_bytes())
    with pytest.raises(AnchorError, match="certificates"):
        check_token(answer, text, authorities_in(other.ca))
    assert not AnchorFolder(logs).hours()


def _of_another_question(tsa: Tsa, text: bytes) -> Callable[[bytes], bytes]:
    return lambda _: tsa.answer(request_for(text).as_bytes())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: web.Response(status=503), "answers 503"),
        (lambda _: web.Response(text="<html>"), "answers 200, and no time stamp"),
        (lambda _: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "answers 302"),
        (lambda _: b"not a time stamp", "does not show"),
        (lambda _: bytes(anchors.MAX_TOKEN_BYTES + 1), "more than"),
        (lambda _: b"", "does not show"),
    ],
    ids=["503", "html", "redirect", "garbage", "too long", "empty"],
)
async def test_a_bad_answer_is_told_and_leaves_nothing(logs: Path, tsa: Tsa, answer: Any, why: str) -> None:
    """No file of it, and no redirect is followed."""
    with pytest.raises((AnchorError, TransientError), match=why):
        await stamp(logs, tsa, answer)
    assert not AnchorFolder(logs).path.exists()


async def test_an_old_answer_is_not_taken_for_a_new_one(logs: Path, tsa: Tsa) -> None:
    """Same text, another nonce: somebody in between kept an answer of yesterday."""
    with pytest.raises(AnchorError, match="Nonce"):
        await stamp(logs, tsa, _of_another_question(tsa, text_of(logs)))


async def test_two_clocks_that_differ_are_told(logs: Path, tsa: Tsa) -> None:
    """Ours or the authority's is wrong: an anchor with a wrong hour is not kept."""
    later = (datetime.now(UTC) + timedelta(minutes=11)).timestamp()
    with pytest.raises(AnchorError, match="one of the two is wrong"):
        await stamp(logs, tsa, clock=lambda: later)
    assert not AnchorFolder(logs).hours()


async def test_an_authority_that_is_away_is_told(logs: Path, tsa: Tsa) -> None:
    """Nobody listens there any more."""
    async with serving(tsa.answer) as (url, _):
        pass
    asked = authority(tsa, url)
    async with session_for(asked) as session:
        with pytest.raises(TransientError, match="can not be reached"):
            await anchor(logs, asked, session)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://tsa.example/tsr", True), ("http://127.0.0.1:1/", True), ("http://tsa.example/", False),
        ("https://olga:x@tsa.example/", False), ("ftp://tsa.example/", False), ("tsa.example", False),
    ],
)  # fmt: skip
def test_http_to_another_machine_needs_a_flag_that_says_so(tsa: Tsa, url: str, good: bool) -> None:
    """The answer is signed all the same; that it is asked for can be seen and held up."""
    known = tuple(authorities_in(tsa.ca))
    if good:
        Authority(url, known)
    else:
        with pytest.raises(ConfigError, match="https://host/path"):
            Authority(url, known)
    if url.startswith("http://"):
        Authority(url, known, insecure_plaintext=True)
    with pytest.raises(ConfigError, match="which authority"):
        replace(Authority("https://tsa.example/", known), certificates=())


def test_certificates_that_are_none_are_told(tmp_path: Path) -> None:
    """Before anybody is asked."""
    (tmp_path / "ca").write_text("none")
    with pytest.raises(ConfigError, match="can not be read as certificates"):
        authorities_in(tmp_path / "ca")


@pytest.mark.parametrize("change", ["swap", "twice", "cut", "more", "empty"])
def test_the_text_of_an_anchor_has_one_form(logs: Path, change: str) -> None:
    """So that nobody can read something else into what was stamped."""
    notes = [each.note for each in parse_text(text_of(logs))]
    made = {
        "swap": notes[::-1], "twice": [notes[0], *notes], "cut": [*notes[:2], notes[2][:-1]],
        "more": [*notes, b"\n"], "empty": [],
    }  # fmt: skip
    with pytest.raises((AnchorError, NoteError)):
        parse_text(b"".join(made[change]))
    assert b"".join(notes) == text_of(logs)


def test_killed_between_its_two_files_an_hour_has_no_anchor(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try takes the texts anew; a whole anchor is never replaced."""
    folder = AnchorFolder(logs)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(anchoring, "sync_folder", die)
        with pytest.raises(KeyboardInterrupt):
            folder.store("2026113008", b"old", b"old stamp")
    assert folder.hours() == []
    assert folder.store("2026113008", b"new", b"new stamp")
    assert not folder.store("2026113008", b"third", b"third stamp")
    assert [file.read_bytes() for file in folder.files("2026113008")] == [b"new", b"new stamp"]


def test_two_at_once_do_not_mix_their_files(logs: Path) -> None:
    """One waits for its next try."""
    folder = AnchorFolder(logs)
    folder.path.mkdir()
    with folder._alone(), pytest.raises(TransientError, match="another process"):
        folder.store("2026113008", b"x", b"y")
    assert folder.hours() == []


def test_anchors_are_mirrored_and_never_replaced(logs: Path, tmp_path: Path) -> None:
    """Half an anchor is none; another one of the same hour is kept, and told."""
    source, target = AnchorFolder(logs), AnchorFolder(tmp_path / "copy")
    source.store("2026113007", b"a", b"b")
    (source.path / "2026113008.txt").write_bytes(b"half")
    assert mirror_anchors(logs, tmp_path / "copy") == 1
    assert mirror_anchors(logs, tmp_path / "copy") == 0
    assert target.hours() == ["2026113007"]
    source.files("2026113007")[1].write_bytes(b"c")
    with pytest.raises(HistoryDiffers, match="2026113007"):
        mirror_anchors(logs, tmp_path / "copy")
    assert target.files("2026113007")[1].read_bytes() == b"b"


def test_an_anchor_that_can_not_be_copied_keeps_back_no_later_one(logs: Path, tmp_path: Path) -> None:
    """Of one hour another is there, of another the text is gone; both are named, and the third is copied."""
    source, target = AnchorFolder(logs), AnchorFolder(tmp_path / "copy")
    for hour in ("2026113006", "2026113007", "2026113008"):
        source.store(hour, b"a", b"b")
    target.store("2026113006", b"another", b"b")
    source.files("2026113007")[0].unlink()
    with pytest.raises(HistoryDiffers, match="2026113006, 2026113007"):
        mirror_anchors(logs, tmp_path / "copy")
    assert target.hours() == ["2026113006", "2026113008"]
    assert target.files("2026113006")[0].read_bytes() == b"another"


async def test_the_service_counts_and_goes_on(logs: Path, tsa: Tsa) -> None:
    """A failure is told and tried again sooner; the time of the last anchor is a metric, also of a process before."""
    answers = [web.Response(status=500), tsa.answer]

    def answer(question: bytes) -> Any:
        first = answers.pop(0)
        return first(question) if callable(first) else first

    async with serving(answer) as (url, _):
        service = AnchorService(logs, authority(tsa, url), every_s=3600)
        async with session_for(authority(tsa, url)) as session:
            with capture_logs() as said:
                assert await service.round(session) == 60.0
            assert [line["event"] for line in said] == ["auditlog.anchor.failed"]
            assert _metric(service, "anchor_timestamp_seconds") == 0
            assert await service.round(session) == 3600
            assert await service.round(session) == 3600  # there is one of this hour: nobody is asked
    assert _metric(service, "anchor_failures_total", code="auditlog.anchor") == 1
    at = _metric(service, "anchor_timestamp_seconds")
    again = AnchorService(logs, authority(tsa, url))
    again._remember()
    assert _metric(again, "anchor_timestamp_seconds") == at
    (hour,) = AnchorFolder(logs).hours()
    AnchorFolder(logs).files(hour)[1].write_bytes(b"damaged")
    with capture_logs() as said:
        AnchorService(logs, authority(tsa, url))._remember()
    assert [line["event"] for line in said] == ["auditlog.anchor.damaged"]


def _metric(service: AnchorService, name: str, **labels: str) -> float | None:
    return service.metrics.registry.get_sample_value(f"broker_auditlog_{name}", labels)


async def test_the_command_stamps_once(logs: Path, tsa: Tsa) -> None:
    """And says so; again in the same hour it has nothing to do."""
    async with serving(tsa.answer) as (url, came):
        words = ["auditlog", "anchor", "--tsa", url, "--tsa-ca", str(tsa.ca), "--logs", str(logs)]
        for told in ("anchor/20", "already"):
            done = await asyncio.to_thread(CliRunner().invoke, build("auditlog"), words)
            assert done.exit_code == 0, done.output
            assert told in done.output
    assert len(came) == 1
    assert (logs / "p0-1" / CHECKPOINT).exists()


async def test_the_service_runs_until_it_is_told(logs: Path, tsa: Tsa) -> None:
    """It stamps at its start, serves its metrics, and ends."""
    async with serving(tsa.answer) as (url, _):
        task = asyncio.create_task(AnchorService(logs, authority(tsa, url), http=("127.0.0.1", 0)).run())
        async with asyncio.timeout(30):
            while not AnchorFolder(logs).hours():  # noqa: ASYNC110 - a folder has no event
                await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
