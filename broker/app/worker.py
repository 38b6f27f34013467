"""A worker: a Faust app that holds the exchange as a service, and an agent for live statistics.

Faust brings life cycle, signals and crash propagation. The data plane is a service with a consumer of its own (ADR 1);
agents do only what may miss a message.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import faust
import structlog
from aiokafka.errors import KafkaConnectionError
from mode import Service

from broker.app import logs
from broker.app.health import HealthServer, answering
from broker.app.keys import keep_open, wait_for_keys
from broker.app.metrics import Metrics
from broker.app.renewing import keep_renewing
from broker.app.rolling import keep_rolling
from broker.app.scrape import watch_disk
from broker.engine import DataPlane, KafkaClients, RegistryView, VaultView, topic_identity
from broker.errors import BrokerError, ConfigError, TransientError
from broker.exchange import ExchangeKeys, InputRecord, LaneState, Parked, Step, Views, exchange, set_aside
from broker.exchange.model import AUDIT_CONTROL, VAULT
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import check
from broker.keys import FileKeys
from broker.keys.open import open_keys
from broker.registry import Registry
from broker.settings import WorkerSettings

log = structlog.get_logger("broker.worker")

STOP_S: Final = 18.0
ANEW_S: Final = 1.0


@dataclass(slots=True)
class Ending:
    """How the data plane ended; outlives the app."""

    failure: BaseException | None = None
    served: bool = False  # whether it ever came so far


class ExchangeService(Service):
    """The data plane as a part of the Faust app."""

    def __init__(
        self,
        settings: WorkerSettings,
        connection: KafkaConnection,
        metrics: Metrics,
        ending: Ending,
        keys: FileKeys | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._folder = keys or open_keys(settings.keys)
        self._settings, self._connection, self._metrics, self._ending = settings, connection, metrics, ending
        self._keys = ExchangeKeys(self._folder)
        self._plane: DataPlane | None = None
        self._ready = False
        self._http = HealthServer(lambda: ending.failure is None, self._is_ready, metrics.text)

    async def on_start(self) -> None:
        """Called by mode. Returns at once: views may take minutes, and signals must be heard meanwhile."""
        settings, config = self._settings, self._settings.engine()
        clients = KafkaClients.of_engine(self._connection, config)
        vault = VaultView(clients, topic_identity(self._connection, VAULT), settings.state / "vault")
        vault.evict = self._keys.vault.evict
        registry = RegistryView(clients)
        self._plane = plane = DataPlane(
            clients, self._process, registry, vault,
            outputs=lambda topic: output_topics(topic, registry.current), config=config, observer=self._metrics,
            on_loaded=freeze_heap, set_aside=self._set_aside,
        )  # fmt: skip
        self._metrics.watch(plane, self._is_ready)
        watch_disk(self._metrics.registry, settings.state)
        self._metrics.certificates.watch("kafka-ca", self._connection.ca_file)
        if settings.http_port:
            await self._http.start(settings.http_host, settings.http_port)

    @Service.task
    async def _work(self) -> None:
        if self._plane is not None:
            try:
                await self._plane.run()
            except Exception as error:
                self._ending.failure = error
                text = str(error) if isinstance(error, BrokerError) else None
                log.critical("worker.failed", code=getattr(error, "code", "worker.error"), text=text, exc_info=error)
                raise

    @Service.task
    async def _say_ready(self) -> None:
        if self._plane is not None:
            with suppress(Exception):  # `_work` reports it
                lanes = await self._plane.ready()
                self._ready = self._ending.served = True
                log.info("worker.ready", lanes=lanes, text=f"ready: {lanes} lanes", http_port=self._http.port)

    @Service.task
    async def _open_keys(self) -> None:
        await keep_open(self._folder)

    @Service.task
    async def _roll(self) -> None:
        await keep_rolling(self._connection, self._metrics.rolled)

    @Service.task
    async def _renew(self) -> None:
        await keep_renewing(self._folder, self._keys.renew)

    async def on_stop(self) -> None:
        """Called by mode."""
        log.info("worker.stopping")
        _end_for_sure(1 if self._ending.failure else 0)
        if self._plane is not None:
            await self._plane.stop()
        await self._http.stop()

    def _is_ready(self) -> bool:
        plane = self._plane
        if not self._ready or plane is None or plane.views.age_s > 2 * self._settings.view_age_s:
            return False
        try:
            self._keys.use(plane.views.registry.current)
        except TransientError:  # a key is in use that is not here: whoever replaces pods must not go on
            return False
        return True

    def _process(
        self, state: LaneState, inputs: Sequence[InputRecord], views: Views, now_ms: int, next_offset: int
    ) -> Step:
        return exchange(state, inputs, views, self._keys, now_ms, next_offset)

    def _set_aside(
        self,
        state: LaneState,
        guilty: InputRecord | Parked,
        views: Views,
        now_ms: int,
        next_offset: int,
        *,
        brief: bool,
    ) -> Step:
        return set_aside(state, guilty, views, self._keys, now_ms, next_offset, brief=brief)


def freeze_heap() -> None:
    """Take what is there by now, the first registry above all, out of the garbage collector's sight.

    At a million connections a full collection takes 13 s of CPU, in which nobody sends a heartbeat; once they are
    frozen, less than 0.1 ms (`bench connections`). A registry has no cycles: what a change replaces goes with its last
    reference, frozen or not. Nothing is collected before, since building leaves no garbage, and what importing left,
    some 2,000 small objects, may stay. The collection afterwards has next to nothing to look at; it tells the collector
    how little is left to it, else the next full one would wait for a quarter of what is frozen.
    """
    gc.freeze()
    gc.collect()


def output_topics(topic: str, registry: Registry) -> list[str]:
    """Where an input topic may lead by the route table: to every party in a role that a role of the sender reaches."""
    sender = registry.party(topic.partition(".")[2])
    roles = () if sender is None else sender.roles
    reached = {(route.receiver_role, route.family) for route in registry.routes if route.sender_role in roles}
    return [
        f"out.{party.id}.{family}"
        for party in registry.parties.values()
        for role, family in reached
        if role in party.roles
    ]


def create_app(settings: WorkerSettings, ending: Ending | None = None, keys: FileKeys | None = None) -> faust.App:
    """The worker's Faust app, with the exchange as a service of it.

    Args:
        keys: those of the settings, if they are open already.
    """
    connection, metrics = settings.kafka(), Metrics()
    reported = ending or Ending()
    folder = keys or open_keys(settings.keys)
    ExchangeKeys(folder)  # what is missing shows before anything starts
    app = faust.App(
        f"{settings.group}-control",
        broker=connection.faust_broker_url(),
        broker_credentials=connection.faust_credentials(),
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,  # no topics of Faust's own
        topic_allow_declare=False,
        datadir=str(settings.state / "faust"),
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        broker_request_timeout=20.0,
        broker_session_timeout=15.0,
        broker_heartbeat_interval=2.0,
        producer_request_timeout=10.0,
        consumer_auto_offset_reset="latest",
        worker_redirect_stdouts=False,
    )

    @app.service
    class Exchange(ExchangeService):
        def __init__(self, **options: Any) -> None:
            super().__init__(settings, connection, metrics, reported, folder, **options)

    @app.agent(app.topic(AUDIT_CONTROL, value_serializer="raw"))
    async def count_incidents(leaves: Any) -> None:
        """Live statistics; a lost message is a lost tick of a counter."""
        async for leaf in leaves:
            if b'"incident"' in leaf:
                metrics.incident()

    return app


def run_worker(settings: WorkerSettings) -> int:
    """Run until SIGTERM or SIGINT; the exit code.

    Raises:
        ConfigError: Kafka does not let us in; a key is missing.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold keys and pupils' data
    logs.configure(settings.log_level)
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with answering(settings.http_host, settings.http_port, Metrics().text):
        wait_for_kafka(settings.kafka())
        opened = wait_for_keys(settings.keys)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    ending = Ending()
    app = create_app(settings, ending, opened)
    worker = faust.Worker(app, loop=loop, quiet=True, redirect_stdouts=False, override_logging=False)
    worker.spinner = None  # it writes to the terminal
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        code = 1 if ending.failure is not None else int(end.code or 0)
        if code and ending.failure is None and not ending.served and _is_about_kafka(end):
            _begin_anew()
    log.info("worker.ended", code=str(code))
    return code


def _is_about_kafka(end: BaseException) -> bool:
    """Whether Faust gave up since Kafka did not answer: its own clients do not wait."""
    cause: BaseException | None = end
    while cause is not None and not isinstance(cause, KafkaConnectionError):
        cause = cause.__context__
    return cause is not None


def _begin_anew() -> None:
    """Kafka went away in the middle of the start. Nothing of Faust can be started twice, so the process is."""
    log.warning("worker.anew", text="Kafka went away while the worker started. It begins anew, and waits.")
    time.sleep(ANEW_S)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves, with the same arguments


def wait_for_kafka(connection: KafkaConnection, *, pause_s: float = 3.0, say_s: float = 60.0) -> None:
    """Return once Kafka lets us in; as long as nothing answers there, say so once a minute. A signal ends it.

    Raises:
        ConfigError: it answers, and does not let us in: certificate, login, no TLS.
    """
    began, said = time.monotonic(), float("-inf")
    while True:
        try:
            asyncio.run(check(connection))
        except ConfigError as error:
            if error.code != "kafka.unreachable":
                raise
            now = time.monotonic()
            if now - said >= say_s:
                said = now
                log.warning(
                    "kafka.away", code=error.code, text=f"{error} It is tried again.", seconds=round(now - began)
                )
            time.sleep(pause_s)
        else:
            return


def _end_for_sure(code: int) -> None:
    """A library that hangs while Kafka is away must not keep a pod from ending: open transactions are fenced anyway."""
    timer = threading.Timer(STOP_S, os._exit, (code,))
    timer.daemon = True
    timer.start()
