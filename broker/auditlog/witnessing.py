"""Have each log's newest checkpoint cosigned by witnesses (c2sp.org/tlog-witness), and show the result.

    each round, each log:  checkpoint -> to each witness, with a consistency proof from what it cosigned last
                           -> verify the cosignatures -> `checkpoint.w`, beside `checkpoint`

`checkpoint.w` never gets smaller, and one that satisfies the quorum is never replaced by one that does not: while a
witness is away, readers keep the last tree that enough of them have seen. What a witness cosigned last is remembered
from there; who was asked with a wrong size answers with the right one (409).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from broker.audit.log.directory import CHECKPOINT, LogDirectory
from broker.audit.log.note import Note, NoteError, SignatureLine, open_note, render, split_note
from broker.audit.log.policy import Policy, Witness
from broker.audit.log.tiles import TileReader
from broker.auditlog.asking import Alarming, NotCosigned, ask, body_of, checkpoint_of
from broker.errors import BrokerError, ConfigError, told
from broker.tls import client_context, may_be_asked

log = structlog.get_logger("broker.auditlog")

CONNECTIONS: Final = 4  # to one witness: some logs are asked for at the same time


@dataclass(frozen=True, slots=True)
class WitnessingConfig:
    """Whom to ask, and when.

    Args:
        policy: its witnesses are asked, those that have a URL; its quorum says what `checkpoint.w` must have.
        every_s: from one round to the next. timeout_s: for one answer.
        alarm_pause_s: for how long a witness is left alone about a log after an alarm.
        ca_file: PEM; without it the authorities of the operating system count.
        insecure_plaintext: allow http to another machine. Cosignatures are verified all the same.

    Raises:
        ConfigError: `auditlog.witness`.
    """

    policy: Policy
    every_s: float = 10.0
    timeout_s: float = 5.0
    alarm_pause_s: float = 600.0
    ca_file: Path | None = None
    insecure_plaintext: bool = False

    def __post_init__(self) -> None:
        if not self.witnesses:
            raise ConfigError("No witness in the trust policy has a URL: nobody can be asked.", code="auditlog.witness")
        for witness in self.witnesses:
            if not may_be_asked(witness.url or "", plaintext=self.insecure_plaintext):
                raise ConfigError(
                    f"The URL of the witness {witness.name} is not https://host/path, without login or query.",
                    code="auditlog.witness",
                )

    @property
    def witnesses(self) -> tuple[Witness, ...]:
        """Those that are asked."""
        return tuple(witness for witness in self.policy.witnesses if witness.url is not None)

    def context(self) -> ssl.SSLContext:
        """Of TLS."""
        return client_context(self.ca_file, "auditlog.witness")


class WitnessingMetrics:
    """What is counted; `log` is the name of the log's folder, `witness` its name in the policy."""

    def __init__(self, registry: CollectorRegistry) -> None:
        both = ("log", "witness")
        self.size = Gauge("broker_auditlog_cosigned_leaves", "Leaves cosigned last.", both, registry=registry)
        self.shown = Gauge(
            "broker_auditlog_shown_leaves", "Leaves of the checkpoint that witnesses are asked about.", ("log",),
            registry=registry,
        )  # fmt: skip
        self.alarm = Gauge(
            "broker_auditlog_witness_alarm", "1: this witness does not see one history, or signs wrongly.", both,
            registry=registry,
        )  # fmt: skip
        self.failures = Counter(
            "broker_auditlog_witness_failures_total", "Questions without a cosignature, by kind.", ("witness", "kind"),
            registry=registry,
        )  # fmt: skip
        self.quorum_at = Gauge(
            "broker_auditlog_quorum_timestamp_seconds", "When the quorum cosigned last.", ("log",), registry=registry
        )


@dataclass(slots=True)
class _Log:
    """One log in one round.

    Args:
        note: its checkpoint. cosigned: `checkpoint.w`, opened; None if nobody known cosigned it.
    """

    directory: LogDirectory
    note: bytes
    shown: bytes | None
    cosigned: Note | None
    reader: TileReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = TileReader(self.directory.read, checkpoint_of(self.note).size)

    @property
    def id(self) -> str:
        """For metrics."""
        return self.directory.path.name

    @property
    def text(self) -> str:
        """What is to be cosigned."""
        return split_note(self.note)[0]

    @property
    def signed_anew(self) -> bool:
        """Whether the log signed what is cosigned with another key since."""
        if self.shown is None or self.cosigned is None or self.cosigned.text != self.text:
            return False
        return not set(split_note(self.note)[1]).issubset(split_note(self.shown)[1])

    def remembered(self, witness: Witness) -> int:
        """The size that `checkpoint.w` has this witness's cosignature on; 0 if none."""
        key = (witness.verifier.name, witness.verifier.key_id)
        if self.cosigned is None or key not in [(each.name, each.key_id) for each in self.cosigned.verified]:
            return 0
        return int(self.cosigned.text.split("\n")[1])


class Witnessing:
    """Asks witnesses, round after round.

    Args:
        root: folder of all logs. config: whom to ask. registry: for metrics.
    """

    def __init__(self, root: Path, config: WitnessingConfig, registry: CollectorRegistry) -> None:
        self._root, self._config, self.metrics = root, config, WitnessingMetrics(registry)
        # Which log it is, the caller knows: these are our own folders.
        self._quorum = Policy((), config.policy.witnesses, config.policy.groups, config.policy.quorum)
        self._directories: dict[Path, LogDirectory] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        self._paused: dict[tuple[str, str], float] = {}
        self._told: dict[tuple[str, str], str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        connector = aiohttp.TCPConnector(ssl=self._config.context(), limit_per_host=CONNECTIONS)
        timeout = aiohttp.ClientTimeout(total=self._config.timeout_s)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            while True:
                began = time.monotonic()
                await self.round(session)
                await asyncio.sleep(max(0.0, self._config.every_s - (time.monotonic() - began)))

    async def round(self, session: aiohttp.ClientSession) -> None:
        """Ask each witness about each log that has grown since it cosigned."""
        folders = await asyncio.to_thread(lambda: sorted(self._root.glob(f"*/{CHECKPOINT}")))
        await asyncio.gather(*(self._log(session, path.parent) for path in folders))

    async def _log(self, session: aiohttp.ClientSession, folder: Path) -> None:
        try:
            one = await asyncio.to_thread(self._read, folder)
            given = await asyncio.gather(*(self._witness(session, one, each) for each in self._config.witnesses))
            lines = [line for line in given if line is not None]
            if lines or one.signed_anew:
                await asyncio.to_thread(self._show, one, lines)
        except (BrokerError, OSError) as error:
            self._warn((folder.name, ""), "files", told(error))

    def _read(self, folder: Path) -> _Log:
        directory = self._directories.setdefault(folder, LogDirectory(folder))
        shown = directory.cosigned()
        return _Log(directory, directory.checkpoint() or b"", shown, None if shown is None else self._open(shown))

    def _open(self, note: bytes) -> Note | None:
        try:
            return open_note(note, self._quorum.verifiers)
        except NoteError:
            return None

    def _satisfied(self, note: Note | None) -> bool:
        return note is not None and self._quorum.satisfied(note)

    # ---- one witness

    async def _witness(self, session: aiohttp.ClientSession, one: _Log, witness: Witness) -> SignatureLine | None:
        key = (one.id, witness.name)
        self.metrics.shown.labels(one.id).set(one.reader.size)
        if one.remembered(witness) == one.reader.size:
            self.metrics.size.labels(*key).set(one.reader.size)
            return None
        if time.monotonic() < self._paused.get(key, 0.0):
            return None
        try:
            line = await self._ask(session, one, witness)
        except Alarming as error:
            self.metrics.alarm.labels(*key).set(1)
            self.metrics.failures.labels(witness.name, "alarm").inc()
            self._paused[key] = time.monotonic() + self._config.alarm_pause_s
            log.error(  # noqa: TRY400 -- the sentence says what to do; a stack does not
                "auditlog.witness.alarm", log=one.id, witness=witness.name, error=str(error),
                retry_s=self._config.alarm_pause_s,
            )  # fmt: skip
            return None
        except BrokerError as error:
            self._warn(key, error.kind if isinstance(error, NotCosigned) else "files", str(error))
            return None
        self.metrics.alarm.labels(*key).set(0)
        self.metrics.size.labels(*key).set(one.reader.size)
        self._told.pop(key, None)
        return line

    async def _ask(self, session: aiohttp.ClientSession, one: _Log, witness: Witness) -> SignatureLine:
        key, size = (one.id, witness.name), one.reader.size
        for _ in range(2):  # once more with the size that the witness tells
            old = self._sizes.get(key, one.remembered(witness))
            if old > size:
                self._sizes.pop(key, None)
                await self._require_newer(one, witness, old)
            body = await asyncio.to_thread(body_of, old, one.note, one.reader)
            answer = await ask(session, witness, body, one.note)
            if isinstance(answer, SignatureLine):
                self._sizes[key] = size
                return answer
            self._sizes[key] = answer
        raise NotCosigned(f"the witness {witness.name} told two sizes, one after the other", "409")

    async def _require_newer(self, one: _Log, witness: Witness, old: int) -> None:
        """A witness knows a larger tree: fine if another process of ours showed it by now."""
        now = await asyncio.to_thread(one.directory.checkpoint)
        if now is not None and checkpoint_of(now).size >= old:
            raise NotCosigned(f"the log {one.id} has grown while the witness {witness.name} was asked", "grown")
        raise Alarming(
            f"The witness {witness.name} cosigned a tree of {old} leaves of the log {one.id}, which shows fewer. "
            f"Leaves were taken back, by a restored backup perhaps, or somebody else has the log's key."
        )

    def _warn(self, key: tuple[str, str], kind: str, text: str) -> None:
        """Count, and say it when it is new: a witness may be away for days."""
        self.metrics.failures.labels(key[1], kind).inc()
        self.metrics.size.labels(*key)  # 0 is told too, as long as it never answered: an alert compares it
        if self._told.get(key) != kind:
            self._told[key] = kind
            log.warning("auditlog.witness.failed", log=key[0], witness=key[1], error=text)

    # ---- the result

    def _show(self, one: _Log, lines: list[SignatureLine]) -> None:
        """Write `checkpoint.w`, if it is worth more than the one that is there."""
        cosigners = {(each.verifier.name, each.verifier.key_id) for each in self._config.policy.witnesses}
        log_lines = [line for line in split_note(one.note)[1] if (line.name, line.key_id) not in cosigners]
        before: list[SignatureLine] = []
        if one.shown is not None and one.cosigned is not None and one.cosigned.text == one.text:
            before = [line for line in split_note(one.shown)[1] if (line.name, line.key_id) in cosigners]
        whole = {(line.name, line.key_id): line for line in (*before, *lines)}
        note = render(one.text, [*log_lines, *whole.values()])
        enough = self._satisfied(self._open(note))
        if enough or one.cosigned is None or one.cosigned.text == one.text or not self._satisfied(one.cosigned):
            one.directory.publish_cosigned(note)
        if enough and lines:
            self.metrics.quorum_at.labels(one.id).set(time.time())
