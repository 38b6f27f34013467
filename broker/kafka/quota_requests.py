# mypy: disable-error-code="misc"
"""Asking Kafka for quotas and setting them (KIP-546; KIP-612 for connections per address).

No admin client for Python has this. aiokafka has the request that asks, and `AlterClientQuotas` is made here of its
parts: API 49, version 0, which every Kafka since 2.6 answers. (aiokafka has no types: hence the first line.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError, for_code
from aiokafka.protocol.admin import DescribeClientQuotasRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Float64, Int16, Int32, Schema, String

from broker.errors import ConfigError, TransientError
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import explain
from broker.kafka.quotas import Difference, Entity

_T = TypeVar("_T")
_TEXT: Final = String("utf-8")
_ENTITY: Final = Array(("entity_type", _TEXT), ("entity_name", _TEXT))


class _AlterResponse(Response):
    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("entries", Array(("error_code", Int16), ("error_message", _TEXT), ("entity", _ENTITY))),
    )


class _AlterStruct(RequestStruct):
    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = _AlterResponse
    SCHEMA = Schema(
        (
            "entries",
            Array(("entity", _ENTITY), ("ops", Array(("key", _TEXT), ("value", Float64), ("remove", Boolean)))),
        ),
        ("validate_only", Boolean),
    )


class AlterClientQuotas(Request[_AlterStruct]):
    """Sets and removes limits.

    Args:
        entries: by entity, the new value of each limit; None removes it.
        validate_only: only say whether it would be done.
    """

    API_KEY = 49

    def __init__(self, entries: Mapping[Entity, Mapping[str, float | None]], *, validate_only: bool = False) -> None:
        self._entries, self._validate_only = entries, validate_only

    def build(self, request_struct_class: type[_AlterStruct]) -> _AlterStruct:
        """In Kafka's order of fields."""
        entries = [
            (list(entity), [(name, float(value or 0), value is None) for name, value in limits.items()])
            for entity, limits in self._entries.items()
        ]
        return request_struct_class(entries, self._validate_only)


def describe_quotas(connection: KafkaConnection) -> dict[Entity, dict[str, float]]:
    """All quotas of the cluster, as the broker that is asked knows them; blocks.

    Raises:
        ConfigError: Kafka refuses. TransientError: it does not answer.
    """

    async def ask(client: AIOKafkaAdminClient) -> dict[Entity, dict[str, float]]:
        answer = await client._send_request(DescribeClientQuotasRequest([], strict=False), _named(client, connection))
        _require(answer.error_code, answer.error_message, "read the quotas", connection)
        return {tuple(sorted(map(tuple, entity))): dict(values) for entity, values in answer.entries or ()}

    return _run(connection, ask, "read the quotas")


def alter_quotas(connection: KafkaConnection, changes: Iterable[Difference]) -> None:
    """Closes these differences; blocks. What Kafka took is visible some milliseconds later.

    Raises:
        ConfigError: Kafka refuses; others of the differences may be closed. TransientError: it does not answer.
    """
    entries = {change.entity: {name: change.after.get(name) for name in change.names} for change in changes}

    async def ask(client: AIOKafkaAdminClient) -> None:
        answer = await client._send_request(AlterClientQuotas(entries))
        for code, message, _ in answer.entries:
            _require(code, message, "set quotas", connection)

    _run(connection, ask, "set quotas")


def _run(connection: KafkaConnection, ask: Callable[[AIOKafkaAdminClient], Awaitable[_T]], what: str) -> _T:
    async def work() -> _T:
        client = AIOKafkaAdminClient(**connection.aiokafka())
        try:
            await client.start()
        except KafkaError as error:
            await client.close()
            raise explain(error, connection) from error
        try:
            return await ask(client)
        except (KafkaError, TimeoutError) as error:
            raise TransientError(
                f"Kafka did not {what} ({type(error).__name__}). Try again.", code="kafka.timeout"
            ) from error
        finally:
            await client.close()

    # In a thread of its own: who calls may have a loop that runs.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work()).result()


def _named(client: AIOKafkaAdminClient, connection: KafkaConnection) -> int | None:
    """The broker that the connection names: each learns of a change by itself. Else any."""
    known = client._client.cluster.brokers()
    return next((broker.nodeId for broker in known if (broker.host, broker.port) in connection.hosts()), None)


def _require(code: int, message: str | None, what: str, connection: KafkaConnection) -> None:
    error: Any = for_code(code)
    if error is ClusterAuthorizationFailedError:
        raise not_allowed(connection, what)
    if code:
        raise ConfigError(f"Kafka refuses to {what}: {message} ({error.__name__}).", code="kafka.refused")


def not_allowed(connection: KafkaConnection, what: str) -> ConfigError:
    """The user has not the right to it."""
    who = f"User {connection.username!r}"
    return ConfigError(f"{who} may not {what}. Connect as the operator.", code="kafka.not_allowed")
