"""Tests of `broker.witness.server`: HTTP, restarts in the middle, requests at once, alarms and evidence."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from broker.audit import verify
from broker.audit.log.note import open_note
from broker.errors import ConfigError
from broker.kafka.pki import DevelopmentCA
from broker.witness.cosign import MAX_BODY_BYTES, Cosigned, Refused, TrustedLogs
from broker.witness.server import Listening, Witness, WitnessServer
from broker.witness.state import State, StateDamaged, origin_hash
from tests.witness.logs import NOW, ORIGIN, OTHER, GrowingLog, cosigner, request
from tests.witness.test_state import Disk, Killed, opened, steps_of_one_replacing

LOG, FORK = GrowingLog(), GrowingLog(forked_at=1)
KEY = cosigner()


def witness_on(state: State) -> Witness:
    """Of two logs."""
    trusted = TrustedLogs([LOG.signer.verifier, GrowingLog(OTHER).signer.verifier])
    return Witness(state, KEY, trusted, clock=lambda: NOW + 0.9)


@asynccontextmanager
async def serving(
    folder: Path, listening: Listening | None = None
) -> AsyncIterator[tuple[str, WitnessServer, Witness]]:
    """A witness that listens; its address."""
    with opened(folder) as state:
        witness = witness_on(state)
        async with WitnessServer(witness, listening or Listening(http=("127.0.0.1", 0))) as server:
            yield f"http://127.0.0.1:{server.port}", server, witness


async def post(url: str, body: bytes, path: str = "/add-checkpoint") -> tuple[int, str, bytes]:
    """Status, type and body of the answer."""
    async with aiohttp.ClientSession() as session, session.post(url + path, data=body) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.read()


async def get(url: str) -> tuple[int, bytes]:
    """Status and body."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.read()


def evidence(folder: Path) -> list[str]:
    """Names of what was kept."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(("fork-", "unproven-")))


# ---- HTTP


async def test_a_checkpoint_is_cosigned_over_http(tmp_path: Path) -> None:
    """200, signature lines alone, and what monitors read is that checkpoint with both signatures."""
    async with serving(tmp_path) as (url, server, _):
        status, _, lines = await post(url, LOG.body(0, 3))
        assert status == 200
        whole = LOG.checkpoint(3).text().encode() + b"\n" + lines
        assert open_note(whole, [KEY.verifier]).verified[0].time_s == NOW
        status, note = await get(f"{url}/{origin_hash(ORIGIN)}/checkpoint")
        assert status == 200
        assert len(open_note(note, [KEY.verifier, LOG.signer.verifier]).verified) == 2
        assert (await get(f"{url}/{origin_hash(OTHER)}/checkpoint"))[0] == 404
        assert (await get(f"{url}/{origin_hash('unknown')}/checkpoint"))[0] == 404
        assert (await get(f"http://127.0.0.1:{server.http_port}/healthz"))[0] == 200
        metrics = (await get(f"http://127.0.0.1:{server.http_port}/metrics"))[1].decode()
        assert 'broker_witness_answers_total{status="200"} 1.0' in metrics
        assert f'broker_witness_leaves{{origin="{ORIGIN}"}} 3.0' in metrics


async def test_each_status_reaches_the_client(tmp_path: Path) -> None:
    """With 409 the body is the size alone, of the type that the protocol names."""
    async with serving(tmp_path) as (url, _, _):
        assert (await post(url, LOG.body(0, 3)))[0] == 200
        assert (await post(url, b"garbage"))[0] == 400
        assert (await post(url, GrowingLog(seed="somebody else").body(0, 3)))[0] == 403
        assert (await post(url, GrowingLog("broker.example/unknown").body(0, 3)))[0] == 404
        assert (await post(url, LOG.body(0, 4))) == (409, "text/x.tlog.size", b"3\n")
        assert (await post(url, FORK.body(3, 4)))[0] == 422
        assert (await get(f"{url}/add-checkpoint"))[0] == 405
        assert (await post(url, LOG.body(0, 3), "/somewhere"))[0] == 404


async def test_a_body_that_is_too_large_is_not_taken(tmp_path: Path) -> None:
    """Whether its length is told before or not."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(MAX_BODY_BYTES // 16)

    async with serving(tmp_path) as (url, _, _), aiohttp.ClientSession() as session:
        for body in (bytes(MAX_BODY_BYTES + 1), chunks()):
            async with session.post(f"{url}/add-checkpoint", data=body) as answer:
                assert answer.status == 413
        assert (await post(url, LOG.body(0, 3)))[0] == 200


async def test_requests_at_once_end_on_one_history(tmp_path: Path) -> None:
    """Many sizes of one log and of its fork together: what is cosigned never forks, and the state is the largest."""
    async with serving(tmp_path) as (url, _, witness):
        assert (await post(url, LOG.body(0, 1)))[0] == 200
        answers = await asyncio.gather(*(post(url, log.body(1, n)) for n in range(2, 12) for log in (LOG, FORK)))
        asked = [(n, log) for n in range(2, 12) for log in (LOG, FORK)]
        cosigned = [each for each, (status, _, _) in zip(asked, answers, strict=True) if status == 200]
        assert len(cosigned) == 1
        assert {status for status, _, _ in answers} <= {200, 409}
        size, log = cosigned[0]
        assert (witness.last(origin_hash(ORIGIN)) or b"").startswith(log.checkpoint(size).text().encode())


async def test_a_log_does_not_see_another_ones_state(tmp_path: Path) -> None:
    """Each origin begins for itself."""
    async with serving(tmp_path) as (url, _, _):
        assert (await post(url, LOG.body(0, 3)))[0] == 200
        assert (await post(url, GrowingLog(OTHER).body(0, 7)))[0] == 200
        assert (await post(url, LOG.body(3, 4)))[0] == 200


async def test_a_state_that_fails_gives_500_and_no_cosignature(tmp_path: Path) -> None:
    """The cosignature was made, and does not leave the house."""
    async with serving(tmp_path) as (url, _, _):
        assert (await post(url, LOG.body(0, 3)))[0] == 200
        (tmp_path / origin_hash(ORIGIN)).write_bytes(b"damaged")
        with capture_logs() as logs:
            status, _, said = await post(url, LOG.body(0, 3))
            assert (await get(f"{url}/{origin_hash(ORIGIN)}/checkpoint"))[0] == 500
        assert status == 500
        assert "—".encode() not in said
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["witness.failed"] * 2


# ---- restarts


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_step_it_never_cosigns_two_histories(tmp_path: Path, after: bool) -> None:
    """The answer was not given; after the restart the log and its fork both ask, in the worst order."""
    for step in range(1, 1 + len(steps_of_one_replacing(tmp_path / "steps"))):
        for first in (LOG, FORK):
            folder = tmp_path / f"{step}-{first is LOG}"
            with opened(folder) as state:
                assert isinstance(witness_on(state).add(LOG.body(0, 1)), Cosigned)
                killed = witness_on(state)
                with pytest.MonkeyPatch.context() as patch:
                    Disk(patch, step, after, Killed())
                    with pytest.raises(Killed):
                        killed.add(LOG.body(1, 5))
            cosigned = set()
            with opened(folder) as state:
                witness = witness_on(state)
                for log in (first, LOG, FORK):
                    for old in (1, 5):
                        given = witness.add(log.body(old, 5))
                        cosigned |= {given.note.partition(b"\n\n")[0]} if isinstance(given, Cosigned) else set()
            assert len(cosigned) == 1, step


def test_the_answer_is_given_only_after_the_disk_has_it(tmp_path: Path) -> None:
    """A disk that fails after the rename gives no cosignature, and none until a restart."""
    steps = steps_of_one_replacing(tmp_path / "steps")
    with opened(tmp_path / "state") as state:
        witness = witness_on(state)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, len(steps) - 1, False, OSError(5, "Input/output error"))
            with pytest.raises(OSError, match="Input/output"):
                witness.add(LOG.body(0, 3))
        with pytest.raises(StateDamaged):
            witness.add(LOG.body(0, 3))
    with opened(tmp_path / "state") as state:
        assert isinstance(witness_on(state).add(LOG.body(3, 3)), Cosigned)


def test_a_rollback_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    """A smaller tree of the very same log."""
    with opened(tmp_path) as state:
        assert isinstance(witness_on(state).add(LOG.body(0, 9)), Cosigned)
    with opened(tmp_path) as state:
        refused = witness_on(state).add(LOG.body(0, 8))
        assert isinstance(refused, Refused)
        assert (refused.status, refused.size) == (409, 9)


# ---- alarms


@pytest.mark.parametrize(("old", "status"), [(3, 422), (0, 409)])
def test_a_fork_calls_a_person_and_is_kept(
    tmp_path: Path, old: int, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error in the log, a metric, and both notes, that prove it to anybody: whatever old size was named."""
    with opened(tmp_path) as state:
        witness = witness_on(state)
        assert isinstance(witness.add(LOG.body(0, 3)), Cosigned)
        with capture_logs() as logs:
            for _ in range(2):
                refused = witness.add(request(old, [], FORK.note(3)))
                assert isinstance(refused, Refused)
                assert refused.status == status
        assert [(line["event"], line["log_level"], line["kept"]) for line in logs] == [
            ("witness.fork", "error", True)
        ] * 2
        names = evidence(tmp_path)
        assert [name.partition(".")[2] for name in names] == ["cosigned", "shown"]
        assert names[0].startswith(logs[0]["evidence"])
        notes = [open_note((tmp_path / name).read_bytes(), [LOG.signer.verifier]) for name in names]
        assert [note.text for note in notes] == [LOG.checkpoint(3).text(), FORK.checkpoint(3).text()]
        assert _alarms(witness, "fork") == 2.0
        files = [str(tmp_path / name) for name in names]
        assert verify.main(["consistency", *files, "--log", str(tmp_path), "--key", LOG.signer.vkey]) == 1
        assert "FORK: one log signed two different trees of the same size" in capsys.readouterr().out


def test_a_tree_that_does_not_continue_the_last_one_is_kept(tmp_path: Path) -> None:
    """It proves nothing by itself, so it has another name."""
    with opened(tmp_path) as state:
        witness = witness_on(state)
        assert isinstance(witness.add(LOG.body(0, 3)), Cosigned)
        assert isinstance(witness.add(FORK.body(3, 5)), Refused)
        assert [name.partition("-")[0] for name in evidence(tmp_path)] == ["unproven", "unproven"]
        assert (_alarms(witness, "fork"), _alarms(witness, "unproven")) == (0.0, 1.0)


def test_what_the_log_did_not_sign_raises_no_alarm(tmp_path: Path) -> None:
    """Else anybody could call people and fill the disk."""
    with opened(tmp_path) as state:
        witness = witness_on(state)
        assert isinstance(witness.add(LOG.body(0, 3)), Cosigned)
        with capture_logs() as logs:
            assert isinstance(witness.add(GrowingLog(seed="somebody else", forked_at=1).body(3, 3)), Refused)
            assert isinstance(witness.add(request(0, [bytes(32)], LOG.note(5))), Refused)
        assert (logs, evidence(tmp_path)) == ([], [])


def test_evidence_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many of one kind nothing more is kept; each is told all the same."""
    monkeypatch.setattr("broker.witness.server.MAX_EVIDENCE", 1)
    with opened(tmp_path) as state, capture_logs() as logs:
        witness = witness_on(state)
        witness.add(LOG.body(0, 3))
        witness.add(FORK.body(3, 5))
        witness.add(FORK.body(3, 6))
        witness.add(FORK.body(3, 3))
    assert [line["kept"] for line in logs] == [True, False, True]
    assert len(evidence(tmp_path)) == 4


def test_an_alarm_is_told_also_where_nothing_can_be_kept(tmp_path: Path) -> None:
    """A full disk: the refusal stands, and the line says that there are no files."""
    with opened(tmp_path) as state, capture_logs() as logs:
        witness = witness_on(state)
        witness.add(LOG.body(0, 3))
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, 2, False, OSError(28, "No space left on device"))
            refused = witness.add(FORK.body(3, 3))
        assert isinstance(refused, Refused)
        assert [line["kept"] for line in logs] == [False]
        witness.add(FORK.body(3, 3))
        assert [line["kept"] for line in logs] == [False, True]


def _alarms(witness: Witness, kind: str) -> float | None:
    labels = {"origin": ORIGIN, "kind": kind}
    return witness.metrics.registry.get_sample_value("broker_witness_alarms_total", labels)


# ---- where it listens


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "witness.example"])  # noqa: S104
def test_beyond_this_machine_it_wants_tls(host: str) -> None:
    """Or a flag whose name says what that means."""
    with pytest.raises(ConfigError, match="without TLS"):
        Listening(host)
    assert Listening(host, insecure_plaintext=True).context() is None


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    """Before it listens; and one without its key."""
    (tmp_path / "cert").write_text("none")
    with pytest.raises(ConfigError, match="both"):
        Listening(cert_file=tmp_path / "cert")
    with pytest.raises(ConfigError, match="no certificate"):
        Listening(cert_file=tmp_path / "cert", cert_key_file=tmp_path / "cert").context()


async def test_it_serves_tls(tmp_path: Path) -> None:
    """With its certificate; who does not trust that gets nothing."""
    authority = DevelopmentCA(tmp_path / "ca")
    authority.prepare()
    authority.issue_broker(1)
    listening = Listening(cert_file=tmp_path / "ca/broker-1.pem", cert_key_file=tmp_path / "ca/broker-1.key")
    async with serving(tmp_path / "state", listening) as (_, server, _), aiohttp.ClientSession() as session:
        url = f"https://localhost:{server.port}/add-checkpoint"
        trusting = ssl.create_default_context(cafile=authority.ca_file)
        async with session.post(url, data=LOG.body(0, 3), ssl=trusting) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.post(url, data=LOG.body(0, 3))
