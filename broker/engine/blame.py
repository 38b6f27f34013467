"""Who is to blame when a batch fails by what is in it, and not by what is around it.

A bug in the pure function, or an output that is too large for its topic, fails again however often it is tried. So the
batch is halved until one event is left, which then fails alone `blame_tries` times, with a take-over before each. Only
then it is set aside (`broker.exchange.setaside`), and the lane goes on.

A batch does three things: it tells the lane's party its duties, releases parked events, and decides over input. After
a failure these are tried apart, in this order, so that none is blamed for another:

    1. nothing but the duties     fails: no event is to blame, and the lane stands still
    2. one parked event           as long as any is due
    3. input, without releases    half as much as failed; twice as much after each success

What is not the batch's own (Kafka, views, time-outs, keys, memory, disk) never counts. A lane that has to set aside
one event after the other stands still as well: then it is the broker that is broken, and not its input.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError

from broker.engine.config import EngineConfig
from broker.errors import ConfigError, Fenced, TransientError
from broker.exchange.gap import Gap
from broker.exchange.model import InputRecord, Parked

TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError)
AROUND: Final = (KafkaError, OSError, MemoryError, TransientError, ConfigError, Fenced)  # OSError: time-outs as well


class Trial(NamedTuple):
    """What one batch is to do.

    Args:
        released: at most so many parked events; None: as many as the exchange likes.
        guilty: what is set aside in this batch, instead of being decided.
        gap: what the lane has to step over; it does nothing else in this batch.
    """

    records: list[InputRecord]
    released: int | None = None
    guilty: InputRecord | Parked | None = None
    gap: Gap | None = None

    @property
    def arrived_ms(self) -> list[int]:
        """When Kafka took each of the records; milliseconds since 1970."""
        return [record.timestamp for record in self.records]

    def ends_at(self, stands_at: int) -> int:
        """Where a lane stands afterwards that stands here."""
        stays = stands_at if self.gap is None else self.gap.next_offset
        return self.records[-1].offset + 1 if self.records else stays


class Suspect(NamedTuple):
    """One event: the offset of an input record, or the number of a parked event."""

    number: int
    parked: bool


class Blame:
    """See the module. One for each lane; it outlives the lane's take-overs, not its process.

    Args:
        can_set_aside: else the lane stands still in front of what is to blame.

    Attributes:
        careful: whether the three parts of a batch are tried apart.
        cleared: whether the duties alone have passed since the last failure.
        due: number of the parked event that the batch under way releases, if it releases just one.
    """

    def __init__(self, config: EngineConfig, *, can_set_aside: bool) -> None:
        self._config, self._can_set_aside = config, can_set_aside
        self.careful = self.cleared = False
        self.due: int | None = None
        self._size, self._end = config.batch_records, 0  # most records; what failed was before this offset
        self._suspect: Suspect | None = None
        self._seen = self._in_row = 0
        self._fault: Exception | None = None

    @contextmanager
    def watching(self, *only: type[Exception]) -> Iterator[None]:
        """What fails in here fails by the batch's own content, unless it is of the world around it.

        Args:
            only: nothing but these counts.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, only or TOO_LARGE) or (not only and not isinstance(error, AROUND)):
                self._fault = error
            raise

    @property
    def seen(self) -> int:
        """How often the suspect failed alone; 0 while it is still looked for."""
        return self._seen

    @property
    def fault(self) -> Exception | None:
        """The last one that was of the batch's own."""
        return self._fault

    @property
    def broken(self) -> bool:
        """Whether so much was set aside in a row that the exchange itself must be broken."""
        return self._in_row >= self._config.blame_in_row

    @property
    def brief(self) -> bool:
        """Whether setting it aside failed as well, perhaps since it is too large for that."""
        return self._seen > self._config.blame_tries

    def most(self, position: int) -> int:
        """How many records the next batch may have: of those that hold the guilty one, half."""
        left = self._end - position
        return self._size if left <= 0 else max(1, min(self._size, (left + 1) // 2))

    @property
    def guilty(self) -> Suspect | None:
        """What was found guilty and is to be set aside now."""
        if not self._can_set_aside or self.broken or self._seen < self._config.blame_tries:
            return None
        return self._suspect

    def failed(self, error: BaseException, trial: Trial | None) -> bool:
        """A batch failed; whether by what was in it."""
        self.cleared = False
        if error is not self._fault or trial is None:
            return False
        self.careful = True
        if trial.guilty is not None:
            self._seen += 1
            return True
        if trial.records:
            self._end, self._size = trial.records[-1].offset + 1, max(1, len(trial.records) // 2)
        suspect = self._single(trial)
        self._seen = 0 if suspect is None else self._seen + 1 if suspect == self._suspect else 1
        self._suspect = suspect
        return True

    def passed(self, trial: Trial, next_offset: int, *, more: bool) -> None:
        """A batch was committed.

        Args:
            next_offset: where the lane stands now. more: parked events are due.
        """
        if trial.gap is not None:  # the offsets behind it may be those of another topic
            self._end, self._suspect, self._seen = 0, None, 0
        if trial.guilty is not None:
            self._in_row += 1
        elif trial.records:
            self._in_row = 0
        if not self.careful:
            return
        self.cleared = self.cleared or (trial.released == 0 and not trial.records)
        suspect = self._suspect
        if trial.guilty is not None or trial.records or (trial.released and suspect is not None and suspect.parked):
            self._suspect, self._seen = None, 0
        if trial.records and trial.guilty is None:
            self._size = min(2 * self._size, self._config.batch_records)
        self.careful = more or not self.cleared or next_offset < self._end or self._size < self._config.batch_records
        if not self.careful:
            self._fault = None  # it keeps the frames of its traceback alive

    def _single(self, trial: Trial) -> Suspect | None:
        if trial.released == 0 and len(trial.records) == 1:
            return Suspect(trial.records[0].offset, parked=False)
        if trial.released == 1 and not trial.records and self.due is not None:
            return Suspect(self.due, parked=True)
        return None
