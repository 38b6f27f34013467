"""A collector of OTLP on a real socket, and leaves and a registry in memory, for tests of the exporter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from broker.app.ldv_leaves import Leaf, Place
from broker.audit.ldv import LdvLine
from broker.audit.leaf import Ids, leaf
from broker.registry import Registry
from tests.audit.test_otlp import lines_in

service: Any = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

FIRST, SECOND = Place("audit.events", 0), Place("audit.events", 1)
PROTOBUF = {"Content-Type": "application/x-protobuf"}
Reply = Callable[["LocalCollector", list[LdvLine]], web.Response]


def taken(_: LocalCollector, __: list[LdvLine]) -> web.Response:
    """All of it."""
    return web.Response(body=b"", headers=PROTOBUF)


def answers(status: int, **headers: str) -> Reply:
    """With a status, and headers (_ for -)."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _, __: web.Response(status=status, headers=given)


def partial(rejected: int) -> Reply:
    """200, but not all of it; with a text that quotes a line."""
    answer = service.ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = "bad span: Emma de Vries"
    return lambda _, __: web.Response(body=answer.SerializeToString(), headers=PROTOBUF)


@dataclass
class LocalCollector:
    """Answers with the replies in turn, the last one for ever.

    Attributes:
        requests: the lines of each, as they came. kept: lines of those that were taken.
        refuses: names of lines that it never takes, in whatever request.
    """

    replies: list[Reply] = field(default_factory=lambda: [taken])
    refuses: set[str] = field(default_factory=set)
    requests: list[list[str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    hangs: asyncio.Event | None = None  # while it is there and not set, no answer
    came: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        """One request."""
        body = await request.read()
        lines = lines_in(body)
        names = [line.name for line in lines]
        self.requests.append(names)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.came.set()
        if self.hangs is not None:
            await self.hangs.wait()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply is taken and self.refuses & set(names):
            return partial(len(self.refuses & set(names)))(self, lines)
        if reply is taken:
            self.kept += names
        return reply(self, lines)

    @property
    def sizes(self) -> list[int]:
        """How many lines each request had."""
        return [len(request) for request in self.requests]


@asynccontextmanager
async def listening(collector: LocalCollector, ssl_context: Any = None) -> AsyncIterator[LocalCollector]:
    """On a free port of this machine."""
    app = web.Application()
    app.router.add_post("/v1/traces", collector.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context).start()
        scheme = "http" if ssl_context is None else "https"
        collector.url = f"{scheme}://localhost:{runner.addresses[0][1]}/v1/traces"
        yield collector
    finally:
        if collector.hangs is not None:
            collector.hangs.set()
        await runner.cleanup()


class MemoryLeaves:
    """Leaves in a list per partition, with the position that was committed: as Kafka, `restarted` goes on there."""

    def __init__(self, batches: Sequence[Sequence[Leaf]]) -> None:
        self.batches = list(batches)
        self.committed: dict[Place, int] = {}
        self.commits: list[dict[Place, int]] = []
        self.emptied = asyncio.Event()

    async def fetch(self) -> list[Leaf]:
        """See Leaves."""
        if self.batches:
            return list(self.batches.pop(0))
        self.emptied.set()
        await asyncio.sleep(0.01)
        return []

    async def commit(self, positions: Mapping[Place, int]) -> None:
        """See Leaves."""
        self.commits.append(dict(positions))
        self.committed |= positions

    def ends(self) -> Mapping[Place, int]:
        """See Leaves."""
        return dict.fromkeys((FIRST, SECOND), 100)


class FixedRegistry:
    """One registry; asked again, the next one if there is one."""

    def __init__(self, *registries: Registry) -> None:
        self.registries = list(registries)
        self.asked = 0

    async def current(self) -> Registry:
        """See Directory."""
        self.asked += 1
        return self.registries.pop(0) if len(self.registries) > 1 else self.registries[0]


def a_leaf(name: str, place: Place, offset: int, school: str | None = "99PA", activity: str | None = None) -> Leaf:
    """A leaf about a school of board Horizon, refused before a purpose was known, unless something else is said."""
    made = leaf(
        ids=Ids.of(place.topic, place.partition, offset, None, None), name=name,
        activity=activity or "https://eck-broker.nl/verwerkingen/controle", processor=None, token=None, start_ms=1,
        end_ms=2, evidence={"decision": "refused"} if school is None else {"decision": "refused", "school": school},
    )  # fmt: skip
    return Leaf(place, offset, made)


def some(count: int, place: Place = FIRST, begin: int = 0, **changes: Any) -> list[Leaf]:
    """So many of them, named after where they stand: 0@3."""
    return [a_leaf(f"{place.partition}@{n}", place, n, **changes) for n in range(begin, begin + count)]
