"""What a lane's log says of a batch that failed: which code, where, over which events; never their content."""

from __future__ import annotations

from typing import Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from broker.engine.blame import Trial
from broker.engine.config import EngineConfig
from broker.errors import BrokerError
from broker.exchange.model import InputRecord, Parked

log = structlog.get_logger()

BROKEN: Final = (
    "The exchange fails on one event after the other: it is the exchange that is broken. The lane stands still, and "
    "decides nothing, until this record passes; start a version of the broker that can read it."
)
SLOW: Final = (
    "To decide over one record alone took so long that everything else in this worker stood still, and longer than a "
    "batch should take. It was decided all the same. Give the worker more CPU or a faster disk, or look at that sender."
)


def pause_s(config: EngineConfig, times: int, error: BaseException) -> float:
    """Seconds until a lane tries again that failed so often before."""
    low, high = config.backoff_s
    delay: float = min(high, low * 2 ** min(times, 8))
    # Fenced is not final, perhaps only a lost race; but a zombie has to learn what it is, and not to fence others.
    return max(delay, config.fenced_backoff_s) if isinstance(error, ProducerFenced) else delay


def tell_failure(
    lane: str,
    partition: TopicPartition,
    error: BaseException,
    trial: Trial | None,
    *,
    offset: int | None,
    failures: int,
    retry_s: float,
    broken: bool,
    away: bool,
) -> None:
    """Say that a batch failed, or a take-over (`trial` is None).

    Args:
        offset: where the lane stands.
        broken: whether it sets nothing aside any more.
        away: whether Kafka does not answer: that is said once for all lanes (`contact`), so this for debugging only.
    """
    code, text = error.code if isinstance(error, BrokerError) else "lane.error", None
    if broken:
        code, text = "lane.broken", BROKEN
    # Never the text of a foreign exception: it may quote what it stumbled over.
    say = log.debug if away else log.warning
    say(
        "lane.failed",
        lane=lane,
        code=code,
        error=type(error).__name__,
        at=code_position(error),
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        records=None if trial is None else len(trial.records),
        failures=failures,
        retry_s=round(retry_s, 1),
        **({} if text is None else {"text": text}),
    )


def tell_if_slow(lane: str, trial: Trial, seconds: float, most_s: float) -> None:
    """Say which record it was, if deciding over it alone took longer than this."""
    if len(trial.records) != 1 or seconds <= most_s:
        return
    record = trial.records[0]
    log.warning(
        "lane.slow_record", code="lane.slow_record", lane=lane, topic=record.topic, partition=record.partition,
        offset=record.offset, seconds=round(seconds, 1), text=SLOW,
    )  # fmt: skip


def tell_set_aside(lane: str, guilty: InputRecord | Parked, fault: BaseException | None) -> None:
    """Say which event the exchange failed on, once it is quarantined."""
    record = guilty.record if isinstance(guilty, Parked) else guilty
    log.error(
        "lane.set_aside",
        code="internal.error",
        lane=lane,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        parked=isinstance(guilty, Parked),
        error=type(fault).__name__,
        at=None if fault is None else code_position(fault),
    )


def code_position(error: BaseException) -> str | None:
    """Where in the code an exception was raised: `file:line`, no data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
