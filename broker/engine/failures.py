"""What a lane's log says of a batch that failed: which code, where, over which events; never their content."""

from __future__ import annotations

from typing import Final

import structlog
from aiokafka import TopicPartition

from broker.engine.blame import Trial
from broker.errors import BrokerError
from broker.exchange.model import InputRecord, Parked

log = structlog.get_logger()

BROKEN: Final = (
    "The exchange fails on one event after the other: it is the exchange that is broken. The lane stands still, and "
    "decides nothing, until this record passes; start a version of the broker that can read it."
)
SLOW: Final = (
    "One record alone takes longer than a batch may take. It is not set aside, since that may be the machine's fault: "
    "the lane tries on. Give the worker more CPU, or raise batch_timeout_s."
)


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
    slow: bool,
    away: bool,
) -> None:
    """Say that a batch failed, or a take-over (`trial` is None).

    Args:
        offset: where the lane stands.
        broken: whether it sets nothing aside any more. slow: whether the decision alone took the batch's time.
        away: whether Kafka does not answer: that is said once for all lanes (`contact`), so this for debugging only.
    """
    code, text = error.code if isinstance(error, BrokerError) else "lane.error", None
    alone = trial is not None and len(trial.records) == 1
    if broken:
        code, text = "lane.broken", BROKEN
    elif slow and alone:
        code, text = "lane.slow_record", SLOW
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
