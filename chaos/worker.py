"""A worker as in production, but for what a hostile run does to it: its way to Kafka, its clock, its disk.

    python -m chaos.worker <file with orders> worker --connection ...

The orders can be changed while it runs: `ways`: ports to go by, for each broker's address; `clock_s`: how far its clock
is off; `vault_s`: how long its disk takes for each look into the vault's copy. The broker's own code is not changed.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import aiokafka.client

from broker.cli import main
from broker.engine import store

LOOK_S: Final = 0.2


class Orders:
    """What the run wants of this process; read again and again."""

    def __init__(self, file: Path) -> None:
        self._file, self._text = file, ""
        self.ways: dict[str, int] = {}
        self.clock_s = 0.0
        self.vault_s = 0.0
        self.read()

    def read(self) -> None:
        """Take what stands in the file; it is replaced as a whole."""
        text = self._file.read_text("utf-8")
        if text != self._text:
            said = json.loads(text)
            self._text, self.ways, self.clock_s, self.vault_s = text, said["ways"], said["clock_s"], said["vault_s"]

    def follow(self) -> None:
        """Read for ever."""
        while True:
            time.sleep(LOOK_S)
            self.read()


def obey(orders: Orders) -> None:
    """Put the orders between this process and the world."""
    connect, clock, clock_ns = aiokafka.client.create_conn, time.time, time.time_ns
    get, apply = store.StoreReader.get, store.Store.apply

    async def create_conn(host: str, port: int, **options: Any) -> Any:
        return await connect(host, orders.ways.get(f"{host}:{port}", port), **options)

    def slow_get(reader: store.StoreReader, key: bytes) -> bytes | None:
        if orders.vault_s:
            time.sleep(orders.vault_s)
        return get(reader, key)

    def slow_apply(*what: Any, **more: Any) -> None:
        if orders.vault_s:
            time.sleep(100 * orders.vault_s)
        apply(*what, **more)

    aiokafka.client.create_conn = create_conn
    time.time = lambda: clock() + orders.clock_s
    time.time_ns = lambda: clock_ns() + int(orders.clock_s * 1e9)
    store.StoreReader.get = slow_get  # type: ignore[method-assign, assignment]
    store.Store.apply = slow_apply  # type: ignore[method-assign]


if __name__ == "__main__":
    given = Orders(Path(sys.argv[1]))
    obey(given)
    threading.Thread(target=given.follow, daemon=True).start()
    sys.argv[1:] = sys.argv[2:]
    main()
