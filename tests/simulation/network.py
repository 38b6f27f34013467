"""Between a party and the cluster: requests and answers take time, get lost, and whole parties are cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaConnectionError

from tests.simulation.loop import NOBODY, PARTY, Party, SimLoop

LATENCY_S = 0.004  # most, each way


class Network:
    """The way to the cluster.

    Attributes:
        cut: parties that reach nothing. down: nobody does.
        loss: chance that a request or an answer is lost, each.
        lost_answers: how many answers got lost; the request was carried out, and its sender does not know.
    """

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.cut: set[Party] = set()
        self.down = False
        self.loss = 0.0
        self.latency = LATENCY_S
        self.lost_answers = 0

    async def call(self, operation: Callable[[], Any], patience: float) -> Any:
        """Have the cluster do something.

        Args:
            operation: done in the cluster, at once; it may answer with a future.
            patience: seconds until no answer is taken for none.

        Raises:
            KafkaError: what the cluster answered, or KafkaConnectionError when no answer came: whether it was done
                is then not known.
        """
        loop, party = self._loop, PARTY.get()
        assert party is not None
        answer: asyncio.Future[Any] = loop.create_future()

        def arrive() -> None:
            if self._is_away(party) or loop.random.random() < self.loss:
                return
            try:
                result = operation()
            except Exception as error:  # noqa: BLE001 - the cluster's answer
                go_back(error)
                return
            if isinstance(result, asyncio.Future):
                result.add_done_callback(lambda done: go_back(done.result()), context=NOBODY)
            else:
                go_back(result)

        def go_back(result: Any) -> None:
            if loop.random.random() < self.loss:
                self.lost_answers += 1
                return
            loop.call_later(self.latency * loop.random.random(), come_back, result, context=NOBODY)

        def come_back(result: Any) -> None:
            if answer.done() or self._is_away(party):
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        def give_up() -> None:
            if not answer.done():
                answer.set_exception(KafkaConnectionError())

        loop.call_later(self.latency * loop.random.random(), arrive, context=NOBODY)
        timer = loop.call_later(patience, give_up)
        try:
            return await answer
        finally:
            timer.cancel()

    def _is_away(self, party: Party) -> bool:
        return self.down or party in self.cut or not party.alive
