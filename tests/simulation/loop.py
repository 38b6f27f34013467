"""An event loop whose time is a number and whose parties can be stopped, frozen and slowed between any two steps.

Everything that a simulated process does runs in a context that names its party. Before each step of it (a callback, or
a task from one `await` to the next) the loop looks what became of the party. Time goes on only when nothing is left to
do, so a schedule of a minute takes milliseconds, and the same seed gives the same schedule.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

PARTY: contextvars.ContextVar[Party | None] = contextvars.ContextVar("party", default=None)
NOBODY = contextvars.Context()  # of the cluster and the network: they always run
START_S = 1_000.0  # not zero: "never" must be long ago
ENDLESS = 2_000_000  # steps; a schedule that takes more goes round in circles


@dataclass(eq=False, slots=True)
class Party:
    """A simulated process.

    Attributes:
        alive: False: crashed; nothing of it runs any more.
        frozen: stopped as by SIGSTOP; what it had to do is kept in `held`.
        slow: most seconds that each of its steps is late.
        steps: how many it took. at: what happens to it before its n-th step.
        clock: seconds that its wall clock is wrong.
    """

    name: str
    alive: bool = True
    frozen: bool = False
    slow: float = 0.0
    steps: int = 0
    at: dict[int, Callable[[Party], None]] = field(default_factory=dict)
    clock: float = 0.0
    held: list[Handle] = field(default_factory=list)


class Handle:
    """As asyncio's, without what only a debugger wants: most of a schedule's time goes into these.

    Attributes:
        context: what it runs in. is_timer: whether it waited for its time.
    """

    __slots__ = ("_args", "_callback", "_cancelled", "context", "is_timer")

    def __init__(self, callback: Any, args: tuple[Any, ...], context: Any, *, is_timer: bool) -> None:
        self._callback, self._args, self._cancelled, self.is_timer = callback, args, False, is_timer
        self.context = contextvars.copy_context() if context is None else context

    def cancel(self) -> None:
        """See asyncio."""
        self._cancelled = True
        self._callback = self._args = None

    def cancelled(self) -> bool:
        """See asyncio."""
        return self._cancelled

    def run(self) -> None:
        """What fails is in the history, or in what was waited for."""
        try:
            self.context.run(self._callback, *self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # noqa: BLE001 - asyncio would only log it
            return


class Stuck(Exception):
    """Nothing is left to do, and what was waited for did not happen; or there is no end of it."""


class SimLoop(asyncio.BaseEventLoop):
    """See the module.

    Attributes:
        random: what decides everything. turns: how many steps were taken.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = Random(seed)
        self._now = START_S
        self.turns = self._timers_made = 0
        self._timers: list[tuple[float, int, Handle]] = []  # tuples: compared without a call
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        """Seconds."""
        return self._now

    def spawn(self, party: Party, work: Callable[[], Any]) -> asyncio.Task[Any]:
        """Begin a task of a party."""
        context = contextvars.Context()
        context.run(PARTY.set, party)
        return self.create_task(work(), context=context)

    def thaw(self, party: Party) -> None:
        """Let a frozen party go on."""
        party.frozen = False
        held, party.held = party.held, []
        self._ready.extend(held)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # noqa: ARG002
        """A thread takes some time, and its result comes like anything else."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                future.set_exception(error)

        self.call_later(0.001 * self.random.random(), work)
        return future

    # ---- asyncio's own hooks

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        while timers and (timers[0][0] <= self._now or timers[0][2]._cancelled):
            handle = heapq.heappop(timers)[2]
            if not handle._cancelled:
                ready.append(handle)
        if not ready:
            if not timers:
                raise Stuck("nothing is left to do")
            self._now = timers[0][0]
            return
        self.turns += len(ready)
        if self.turns > ENDLESS:
            raise Stuck("there is no end of it")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                self._step(handle)

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        """See asyncio."""
        handle = Handle(callback, args, context, is_timer=False)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        """See asyncio."""
        handle = Handle(callback, args, context, is_timer=True)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, handle))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        """See asyncio."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _step(self, handle: Handle) -> None:
        party = handle.context.get(PARTY)
        if party is not None:
            if not party.alive:
                return
            party.steps += 1
            if party.at and (happens := party.at.pop(party.steps, None)) is not None:
                happens(party)
                if not party.alive:
                    return
            if party.frozen:
                party.held.append(handle)
                return
            if party.slow and not handle.is_timer:
                self.call_later(party.slow * self.random.random(), self._again, handle, context=NOBODY)
                return
        handle.run()

    def _again(self, handle: Handle) -> None:
        party = handle.context.get(PARTY)
        if party is not None and party.frozen:
            party.held.append(handle)
        elif party is None or party.alive:
            handle.run()

    def _process_events(self, event_list: Any) -> None:
        """There is no selector."""

    def _write_to_self(self) -> None:
        """There is no selector."""


class SimTime:
    """Stands in for the module `time` in what is simulated."""

    def __init__(self, loop: SimLoop, epoch_s: float) -> None:
        self._loop, self._epoch = loop, epoch_s - START_S

    def monotonic(self) -> float:
        """Seconds."""
        return self._loop.time()

    def time(self) -> float:
        """Seconds since 1970, as the party's own clock has them."""
        party = PARTY.get()
        return self._epoch + self._loop.time() + (party.clock if party is not None else 0.0)

    def time_ns(self) -> int:
        """The same, in nanoseconds."""
        return int(self.time() * 1e9)
