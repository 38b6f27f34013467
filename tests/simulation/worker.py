"""A simulated worker: the whole data plane, in a process that can be killed, frozen, cut off and slowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from broker.app.worker import output_topics
from broker.engine import DataPlane, EngineConfig, Observer, RegistryView, VaultView
from broker.exchange import exchange, set_aside
from broker.registry import Registry
from tests.simulation.clients import SimClients
from tests.simulation.cluster import MemoryCluster
from tests.simulation.loop import Party, SimLoop
from tests.simulation.network import Network
from tests.simulation.school import the_school

CONFIG = EngineConfig(
    batch_records=4, transaction_timeout_s=4.0, batch_timeout_s=3.0, request_timeout_s=1.5, takeover_timeout_s=8.0,
    settle_timeout_s=1.0, stop_timeout_s=4.0, backoff_s=(0.05, 1.0), fenced_backoff_s=0.7, tick_s=5.0,
    patience_s=40.0, session_timeout_s=6.0, heartbeat_s=0.5, rebalance_timeout_s=6.0, view_age_s=3.0,
)  # fmt: skip


class MemoryStore:
    """The vault's copy on disk (`broker.engine.store`): what was written outlives the process that wrote it."""

    disks: ClassVar[dict[str, MemoryStore]] = {}

    def __new__(cls, folder: Path, identity: str, **_: Any) -> MemoryStore:  # noqa: ARG004
        """The one that is there already."""
        return cls.disks.setdefault(str(folder), super().__new__(cls))

    def __init__(self, folder: Path, identity: str, *, max_absence_s: float) -> None:  # noqa: ARG002
        if not hasattr(self, "records"):
            self.records: dict[bytes, bytes] = {}
            self.offsets: Mapping[int, int] = {}

    def __len__(self) -> int:
        return len(self.records)

    @contextmanager
    def reading(self) -> Iterator[Mapping[bytes, bytes]]:
        """See Store."""
        yield self.records

    def apply(self, changes: Mapping[bytes, bytes | None], offsets: Mapping[int, int], confirmed: float) -> None:  # noqa: ARG002
        """See Store."""
        for key, value in changes.items():
            if value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = value
        self.offsets = dict(offsets)

    def clear(self) -> None:
        """See Store."""
        self.records, self.offsets = {}, {}

    def close(self) -> None:
        """See Store."""


class Failures(Observer):
    """Notes of which types the failures were."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    def failed(self, lane: str, kind: str) -> None:  # noqa: ARG002
        """See Observer."""
        self.kinds.add(kind)


class Worker:
    """One process; a new one takes its place on the same disk.

    Attributes:
        ended: what is called when the process ends by itself.
    """

    def __init__(self, loop: SimLoop, cluster: MemoryCluster, network: Network, name: str, disk: str) -> None:
        self.party = Party(name)
        self.disk = disk
        self.plane: DataPlane | None = None
        self.failures = Failures()
        self.ended: Callable[[], None] = lambda: None
        self._loop, self._clients = loop, SimClients(cluster, network)
        self._cluster = cluster

    def start(self) -> None:
        """Begin."""
        self._loop.spawn(self.party, self._run)

    def stop(self) -> None:
        """As SIGTERM does."""
        if self.party.alive:
            self._loop.spawn(self.party, self._stop)

    async def _run(self) -> None:
        school = the_school()
        registry = RegistryView(self._clients, _build)
        vault = VaultView(self._clients, lambda: "the vault", Path(self.disk))
        self.plane = DataPlane(
            self._clients,
            lambda state, inputs, views, now, end: exchange(state, inputs, views, school.keys, now, end),
            registry,
            vault,
            outputs=lambda topic: output_topics(topic, registry.current),
            set_aside=lambda state, guilty, views, now, end, *, brief: set_aside(
                state, guilty, views, school.keys, now, end, brief=brief
            ),
            config=CONFIG,
            observer=self.failures,
        )
        with suppress(Exception):  # the process ends, and is started anew
            await self.plane.run()
        self.party.alive = False
        self.ended()

    async def _stop(self) -> None:
        if self.plane is not None:
            await self.plane.stop()
        self.party.alive = False
        self.ended()


def _build(last: Registry | None, records: Mapping[str, bytes], changes: Mapping[str, bytes | None]) -> Registry:
    """As `build_registry`, but quick: the first one is at hand."""
    school = the_school()
    base = school.registry if last is None else last
    return base.with_changes(_differences(school.records, records) if last is None else changes)


def _differences(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> dict[str, bytes | None]:
    changed: dict[str, bytes | None] = {key: value for key, value in new.items() if old.get(key) != value}
    return changed | dict.fromkeys(old.keys() - new.keys())
