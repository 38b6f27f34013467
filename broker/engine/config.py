"""All numbers of the engine in one place, with units in their names."""

from __future__ import annotations

from dataclasses import dataclass

from broker.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How lanes batch, wait and give up.

    Attributes:
        group: consumer group and first part of every lane's transactional id.
        pattern: regular expression of the input topics.
        batch_records, batch_bytes: most that one transaction takes in.
        send_bytes: where a produce batch ends; one larger record still goes alone. Below `max.message.bytes`.
        decision_s: how long a decision over a batch should take at most: meanwhile nothing else in the worker moves.
        transaction_timeout_s: after this the cluster aborts an open transaction; until then it may hold back readers.
        batch_timeout_s: when the lane itself gives a batch up.
        request_timeout_s: of one request; a frozen coordinator stalls a lane this long.
        takeover_timeout_s: of a take-over, which may have to wait for a neighbour's open transaction.
        settle_timeout_s: how long a rebalance or a stop waits for the batch under way.
        stop_timeout_s: of the whole data plane.
        backoff_s: first and longest pause after a failure.
        fenced_backoff_s: pause after being fenced: above the heartbeat interval, so that a zombie learns what it is.
        blame_tries: how often an event must fail alone, by what is in it, until it is set aside.
        blame_in_row: so many are set aside in a row at most; then the exchange itself is taken to be broken.
        tick_s: how often a lane with parked events looks at the clock, and at all that they wait for.
        proof_s: how long an acknowledged commit may stay unseen before the lane has it marked once more.
        view_age_s: how long ago a view must have been proven current at most (P7).
        patience_s: the process ends when there is work and nothing moves for so long.
        session_timeout_s, heartbeat_s, rebalance_timeout_s: of the consumer group.
        metadata_age_s: how soon a new topic is found.
        starting_lanes: take-overs at the same time.
    """

    group: str = "exchange"
    pattern: str = r"^in\..+"
    batch_records: int = 500
    batch_bytes: int = 512 << 10
    send_bytes: int = 900_000
    compression: str | None = "lz4"
    decision_s: float = 0.25
    transaction_timeout_s: float = 10.0
    batch_timeout_s: float = 6.0
    request_timeout_s: float = 5.0
    takeover_timeout_s: float = 25.0
    settle_timeout_s: float = 5.0
    stop_timeout_s: float = 15.0
    backoff_s: tuple[float, float] = (0.2, 5.0)
    fenced_backoff_s: float = 3.0
    blame_tries: int = 3
    blame_in_row: int = 20
    tick_s: float = 60.0
    proof_s: float = 2.0
    view_age_s: float = 2.0
    patience_s: float = 120.0
    session_timeout_s: float = 7.0
    heartbeat_s: float = 0.3
    rebalance_timeout_s: float = 20.0
    metadata_age_s: float = 10.0
    starting_lanes: int = 16

    def __post_init__(self) -> None:
        if not self.request_timeout_s < self.batch_timeout_s < self.transaction_timeout_s < self.takeover_timeout_s:
            raise ConfigError(
                "The time-outs must grow in this order: request_timeout_s, batch_timeout_s, transaction_timeout_s, "
                "takeover_timeout_s. Else the cluster ends a transaction that a lane still believes in.",
                code="engine.timeouts",
            )
        if self.batch_records < 1 or self.batch_bytes < 1:
            raise ConfigError("A batch must have room for at least one record.", code="engine.batch")
